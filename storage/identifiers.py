"""Uuids of version 7: time-ordered, so rows made together lie together in every index.

Within one generator they grow strictly, also when the clock stands still or steps back. Random bits come from the
system, hundreds of ids in one call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

__all__ = ["RandomHex", "Uuid7"]

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BYTES = 4096


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


class RandomHex:
    """A generator of 128 random bits as 32 hex digits; not for secrets, because it knows the next ones."""

    def __init__(self) -> None:
        self._random, self._place = "", 0

    def __call__(self) -> str:
        """Return the next ones."""
        place = self._place
        if place == len(self._random):
            self._random, place = os.urandom(_RANDOM_BYTES).hex(), 0
        self._place = place + 32
        return self._random[place : place + 32]


class Uuid7:
    """A generator of uuids as 32 hex digits; the 12 bits behind the milliseconds count, the rest is random.

    `milliseconds` is the clock, since 1970; ids of several processes are in order as far as their clocks agree."""

    def __init__(self, milliseconds: Callable[[], int] = _wall_clock) -> None:
        self._milliseconds = milliseconds
        self._last = 0
        self._random = b""
        self._place = 0

    def __call__(self) -> str:
        """Return the next uuid."""
        # Milliseconds and a counter of 12 bits are one number: overflowing it borrows from the next millisecond.
        tick = max(self._milliseconds() << 12, self._last + 1)
        self._last = tick
        place = self._place
        if place + 8 > len(self._random):
            self._random, place = os.urandom(_RANDOM_BYTES), 0  # one system call for hundreds
        self._place = place + 8
        low = int.from_bytes(self._random[place : place + 8]) >> 2
        return f"{(tick >> 12) << 80 | _VERSION | (tick & 0xFFF) << 64 | _VARIANT | low:032x}"
