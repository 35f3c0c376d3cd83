"""Backpressure: the doors for new intents close while more was accepted than the workers get done.

- What counts is the backlog in the store, so every gateway sees it, a restarted one too, whoever has stopped.
- It is read beside the requests, a few times a second and only while there is traffic or a backlog; a request costs one
  comparison. What this gateway accepts between two readings is added, so a slow reading lets nothing slip through.
- A reading that is dear is rare: it takes a fiftieth of the time, unless so much was accepted since the last one that
  the sum says little, or the doors are closed and clients wait to hear that they are open.
- Doors that closed at the limit open at half of it, so they don't flap. How long to stay away follows from how fast the
  workers get it done.
- Callbacks, commands and reads stay open: they end what was begun.
- A store that cannot be asked leaves the doors as they are: that is another trouble, and has another answer. Whatever a
  reading fails of is told and counted, and the next one comes: a watcher that ended would leave the doors for ever.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import ClassVar, Final

from msgspec import Struct

from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import SILENCE, Instruments
from zentra.storage.reads.backlog import Backlog

__all__ = ["Cause", "Overloaded", "Pressure", "PressureLimits"]

_log = logging.getLogger(__name__)

READ_SECONDS: Final = 0.25
COST_SHARE_MAX: Final = 0.02  # of the time: a reading that takes long is followed by a long pause
CLOSED_COST_SHARE_MAX: Final = 0.05
PAUSE_SECONDS_MAX: Final = 4.0  # however long it took
UNREAD_SHARE_MAX: Final = 4  # of what may wait, a quarter may have come since the last reading
IDLE_SECONDS: Final = 30.0  # between readings without traffic: the clock drifts, and others may have left work behind
LATE_MIN: Final = 100  # a few that are stuck are told by their timers, and close nothing
RETRY_SECONDS_MIN: Final = 1
RETRY_SECONDS_MAX: Final = 30


class Cause(StrEnum):
    """What there is too much of."""

    REQUESTS = "requests"  # in this gateway
    BACKLOG = "backlog"  # in the store, waiting for workers


_SENTENCES: Final = {
    Cause.REQUESTS: "too many requests wait in this gateway",
    Cause.BACKLOG: "too many accepted intents wait for a worker",
}


class Overloaded(Unavailable):
    """Raised when too much waits already; `retry_after_seconds` is when to come back, `cause` says what waits."""

    code: ClassVar[str] = "overloaded"

    def __init__(self, cause: Cause, retry_after_seconds: int) -> None:
        super().__init__(f"{_SENTENCES[cause]}; come back in {retry_after_seconds} s")
        self.cause, self.retry_after_seconds = cause, retry_after_seconds


class PressureLimits(Struct, frozen=True):
    """When the doors close: that many intents wait, or some hundred of them for that long."""

    intents_max: int
    seconds_max: float


class Pressure:
    """Whether new intents are taken; `read` returns the backlog, at least to the limit."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Backlog]],
        limits: PressureLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        instruments: Instruments = SILENCE,
    ) -> None:
        self._read, self._limits, self._clock, self._instruments = read, limits, clock, instruments
        self._closed = False
        self._accepted = 0  # ever
        self._counted = 0  # of them, those that the last reading may have seen
        self._last = Backlog(0, 0, 0.0)
        self._read_at = -math.inf
        self._done_per_second = 0.0
        self._watching: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether new intents are sent away."""
        return self._closed

    @property
    def waiting(self) -> int:
        """How many accepted intents wait for a worker, as far as is known."""
        return self._last.waiting + self._accepted - self._counted

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest of them had waited at the last reading."""
        return self._last.oldest_seconds

    def check(self, pending: int) -> None:
        """Return where one more intent is welcome beside the `pending` ones of this gateway; raises Overloaded."""
        if not self._closed and self.waiting + pending >= self._limits.intents_max:
            self._close()
        if self._closed:
            raise Overloaded(Cause.BACKLOG, self.retry_after_seconds())

    def accepted(self, intents: int) -> None:
        """Count what was committed."""
        self._accepted += intents

    def retry_after_seconds(self) -> int:
        """Return when the doors should be open again, at the rate at which the backlog shrinks."""
        surplus = self.waiting - self._limits.intents_max // 2
        if surplus > self._done_per_second * RETRY_SECONDS_MAX:
            return RETRY_SECONDS_MAX
        return max(math.ceil(surplus / self._done_per_second), RETRY_SECONDS_MIN) if surplus > 0 else RETRY_SECONDS_MIN

    async def start(self) -> None:
        """Read once, and go on reading until `aclose`; raises Unavailable where the first reading fails."""
        await self.refresh()
        self._watching = asyncio.create_task(self._watch(), name="backpressure")

    async def aclose(self) -> None:
        """Read no more."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])

    async def refresh(self) -> None:
        """Read the backlog and open or close the doors; raises Unavailable."""
        counted, asked = self._accepted, self._clock()
        seen = await self._read()
        seconds = asked - self._read_at
        if 0 < seconds < math.inf:  # what came in since the last reading and is not there any more was done
            rate = max(0.0, (self.waiting - (self._accepted - counted) - seen.waiting) / seconds)
            self._done_per_second = (self._done_per_second + rate) / 2
        self._last, self._counted, self._read_at = seen, counted, asked
        if not self._closed:
            if self.waiting >= self._limits.intents_max or seen.late >= LATE_MIN:
                self._close()
        elif self.waiting <= self._limits.intents_max // 2 and seen.late < LATE_MIN // 2:
            self._closed = False
            _log.warning("new intents are taken again", extra={"waiting": seen.waiting})

    def _close(self) -> None:
        self._closed = True
        _log.warning(
            "new intents are sent away: the workers do not keep up",
            extra={"waiting": self.waiting, "late": self._last.late, "oldest_seconds": self._last.oldest_seconds},
        )

    async def _watch(self) -> None:
        looked, seconds = self._read_at, 0.0  # when the last reading began, also one that failed, and what it took
        while True:
            await asyncio.sleep(READ_SECONDS)
            began = self._clock()
            if began - looked < self._pause(seconds):
                continue
            looked = began
            try:
                await self.refresh()
            except Unavailable as error:
                self._instruments.count("backlog_readings_failed")
                _log.warning("the backlog cannot be read", extra={"error": str(error)})
            except Exception:  # nobody awaits this task: what ended it would be heard of by nobody
                self._instruments.count("backlog_readings_failed")
                _log.exception("the reading of the backlog failed in a way that nobody foresaw")
            seconds = self._clock() - began

    def _pause(self, seconds: float) -> float:
        """Return how long a reading that took `seconds` is good for."""
        unread = self._accepted - self._counted
        if not (unread or self._last.waiting or self._closed):
            return IDLE_SECONDS
        if unread * UNREAD_SHARE_MAX >= self._limits.intents_max:
            return 0.0
        share = CLOSED_COST_SHARE_MAX if self._closed else COST_SHARE_MAX
        return min(seconds / share, PAUSE_SECONDS_MAX)
