"""How much a tenant and a key may ask for within a time: quotas, their arithmetic, and the port that keeps count.

A quota is a bucket of `quota` tokens that fills evenly in `window_seconds`, so all of it may be asked for at once. What
is kept per bucket is one number, the time at which it will be full again: the generic cell rate algorithm (ITU-T I.371,
appendix). The invariants kept here:

- Within any window no more than twice the quota is granted, and over time exactly the quota.
- The arithmetic of one process (`LocalBuckets`) and of the shared store is the same, line by line.
- A bucket whose quota was lowered refuses until it has made up for it; nothing is ever negative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

__all__ = [
    "QUOTA_MAX",
    "WINDOW_SECONDS_MAX",
    "Ask",
    "Grant",
    "LocalBuckets",
    "Per",
    "Quota",
    "RateLimitStore",
    "RouteClass",
    "grant_of",
    "parse_quota",
]

QUOTA_MAX: Final = 10_000_000
WINDOW_SECONDS_MAX: Final = 86_400
BUCKETS_MAX: Final = 100_000  # of one process; each is a name and a number
_ROUNDING: Final = 1e-6  # of a token: what is full but for the last bits of a float is full
_QUOTA: Final = re.compile(r"([0-9]{1,8})/([0-9]{1,5})\Z", re.ASCII)


class RouteClass(StrEnum):
    """What a request is for; each class has quotas of its own."""

    MONEY = "money"  # what makes, cancels or reverses intents; of many at once, each
    WRITE = "write"  # other changes
    READ = "read"


class Per(StrEnum):
    """Whose bucket it is."""

    TENANT = "tenant"
    KEY = "key"


class Quota(NamedTuple):
    """So many requests within so many seconds."""

    quota: int
    window_seconds: int


class Ask(NamedTuple):
    """Up to `wanted` tokens of the bucket `name`, or none where it has not even `least`."""

    name: str
    quota: Quota
    wanted: int
    least: int = 1


class Grant(NamedTuple):
    """What a bucket gave: tokens, what is left in it, the seconds until asking again may help, and until it is full."""

    tokens: int
    left: int
    next_seconds: float
    full_seconds: float


class RateLimitStore(Protocol):
    """Whoever keeps count for all gateways."""

    async def take(self, asks: Sequence[Ask]) -> list[Grant] | None:
        """Return a grant per ask, in order, or None where nobody can tell now; never raises for the weather."""
        ...


def parse_quota(text: str) -> Quota | None:
    """Return the quota that `text` says, as in `600/60` (600 within 60 seconds), or None where it says none."""
    match = _QUOTA.match(text)
    if match is None:
        return None
    quota = Quota(int(match[1]), int(match[2]))
    sound = 1 <= quota.quota <= QUOTA_MAX and 1 <= quota.window_seconds <= WINDOW_SECONDS_MAX
    return quota if sound else None


def grant_of(full_at: float, now: float, ask: Ask) -> tuple[float, Grant]:
    """Return when the bucket is full again, and what it grants; both times in seconds of one clock."""
    window = float(ask.quota.window_seconds)
    each = window / ask.quota.quota
    full_at = max(full_at, now)
    free = max(0, math.floor((window - (full_at - now)) / each + _ROUNDING))
    tokens = min(ask.wanted, free) if free >= ask.least else 0
    full_at += tokens * each
    left = free - tokens
    missing = ask.least if tokens == 0 else 1
    next_seconds = 0.0 if left >= missing else max(0.0, full_at + missing * each - window - now)
    return full_at, Grant(tokens, left, next_seconds, full_at - now)


class LocalBuckets:
    """The buckets of one process: what holds while the shared store is away, and the twin of it in tests."""

    def __init__(self, now: Callable[[], float], *, buckets_max: int = BUCKETS_MAX) -> None:
        """`now` counts seconds and never steps back."""
        self._now, self._buckets_max = now, buckets_max
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    async def take(self, asks: Sequence[Ask]) -> list[Grant]:
        """Return a grant per ask, in order."""
        return [self.take_nowait(ask) for ask in asks]

    def take_nowait(self, ask: Ask) -> Grant:
        """Return what one bucket grants."""
        now = self._now()
        full_at, grant = grant_of(self._full_at.get(ask.name, now), now, ask)
        if ask.name not in self._full_at and len(self._full_at) >= self._buckets_max:
            self._forget(now)
        self._full_at[ask.name] = full_at
        return grant

    def _forget(self, now: float) -> None:
        """Forget the buckets that are full, which is to know them; where none is, forget the one known for longest."""
        full = [name for name, full_at in self._full_at.items() if full_at <= now]
        for name in full or [next(iter(self._full_at))]:
            del self._full_at[name]
