"""The clock of the database, told without asking it each time: one reading, and what has passed since by our own count.

- What is registered carries the database's time, so a gateway whose wall clock is an hour off delays nothing and
  forestalls nothing: its wall clock is never read.
- A reading arrives later than it was taken, so the time told lags by a part of a round trip and never runs ahead.
- A clock that was never set raises instead of guessing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from zentra.runtime.errors import Unavailable
from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["DatabaseClock"]

# The count that goes on while the machine sleeps, where there is one.
_elapsed: Final = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class DatabaseClock:
    """Tells the database's time; `elapsed` counts seconds and never steps."""

    def __init__(self, elapsed: Callable[[], float] = _elapsed) -> None:
        self._elapsed = elapsed
        self._at: datetime | None = None
        self._since = self._at_seconds = 0.0

    def now(self) -> datetime:
        """Return the database's time; raises Unavailable before the clock was set."""
        if self._at is None:
            raise Unavailable("the clock of the database is not known yet")
        return self._at + timedelta(seconds=self._elapsed() - self._since)

    def milliseconds(self) -> int:
        """Return `now` as milliseconds since 1970; raises as it does."""
        if self._at is None:
            raise Unavailable("the clock of the database is not known yet")
        return int((self._at_seconds + self._elapsed() - self._since) * 1000)

    async def read(self, pool: Pool) -> None:
        """Ask the database for its time; raises Unavailable."""
        asked = self._elapsed()
        with translated():
            told: datetime = await pool.fetchval("select clock_timestamp()")
        self.learn(told, asked, self._elapsed())

    def learn(self, told: datetime, asked: float, answered: float) -> None:
        """Take over what the database told between two readings of `elapsed`.

        Its time now is between `told` and `told` plus the round trip. What we believe is kept where it lies in between,
        because it is the better one of two times that are both too early; elsewhere it is wrong, and given up."""
        if self._at is not None:
            believed = self._at + timedelta(seconds=answered - self._since)
            if told <= believed <= told + timedelta(seconds=answered - asked):
                told = believed
        self._at, self._at_seconds, self._since = told, told.timestamp(), answered
