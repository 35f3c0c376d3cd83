"""How long a small group waits for company: a commit costs as much for one request as for dozens.

- Where little arrives nothing waits: a request that finds the door idle leaves at once.
- Where requests arrive fast, a group that is small waits for those who are about to come, a few milliseconds at most.
- How fast is an estimate that fades within a tenth of a second, so a burst that is over holds up nobody after it.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Company"]

LINGER_SECONDS_MAX: Final = 0.005  # a client sees it as part of a commit that takes as long
ENOUGH: Final = 64  # beyond, a commit is hardly cheaper per request
OTHERS_MIN: Final = 2  # to be expected meanwhile: for fewer the wait costs more than it saves
MEMORY_SECONDS: Final = 0.1


class Company:
    """The estimate and the rule; one per door."""

    def __init__(self) -> None:
        self._recent = 0.0  # arrivals, each worth less the longer ago it was
        self._at = 0.0

    def pause(self, waiting: int, arrived: int, now: float) -> float:
        """Return for how many seconds a group of `waiting` stays open; `arrived` is how many came since the last
        call. `now` counts seconds and never steps."""
        self._recent = self._recent * math.exp(min(0.0, self._at - now) / MEMORY_SECONDS) + arrived
        self._at = now
        per_second = self._recent / MEMORY_SECONDS
        if waiting >= ENOUGH or per_second * LINGER_SECONDS_MAX < OTHERS_MIN:
            return 0.0
        return min(LINGER_SECONDS_MAX, (ENOUGH - waiting) / per_second)
