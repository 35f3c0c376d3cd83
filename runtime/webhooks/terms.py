"""How an endpoint wants its events: schedule, mode, version, width, rate, order, signatures; when it is given up.

The invariants kept here:

- What an endpoint does not say is the default, and is not stored: terms that are made later change nothing of old ones.
- An endpoint can only narrow what the runtime does for it: its width and its rate are bounds, never grants.
- A streak of failures is counted from the first one behind the last success. One that is older than any pause of the
  schedule says nothing of today, so behind a gap the count begins anew.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from zentra.runtime.webhooks.standard import DELAYS_SECONDS

__all__ = [
    "DISABLE_AFTER_SECONDS",
    "FULL",
    "HEALTHY",
    "MODES",
    "OVERLAP_SECONDS",
    "PUBLIC_VERSIONS",
    "SECRETS_MAX",
    "TERMS",
    "THIN",
    "EndpointTerms",
    "Health",
    "failed_once_more",
    "is_given_up",
    "live",
    "rotated",
    "width_of",
]

FULL: Final = "full"
THIN: Final = "thin"
MODES: Final = (FULL, THIN)
PUBLIC_VERSIONS: Final = ("2026.04",)
SECRETS_MAX: Final = 3  # live at once: the new one, the one before, and one that somebody has not got to yet
OVERLAP_SECONDS: Final = 86_400  # how long a rotated secret goes on signing, where nobody says otherwise
DISABLE_AFTER_SECONDS: Final = 432_000  # five days
FAILURES_MIN: Final = 5  # fewer, however far apart, are no sustained failure
GAP_MAX: Final = timedelta(hours=36)  # above the longest pause of the schedule with its jitter, 28.8 h
# Attempts under way for each one that may begin in a second: an endpoint that takes two seconds to answer is still
# called as often as it allows, and no call waits longer than that for its turn.
SECONDS_UNDER_WAY: Final = 2


class EndpointTerms(Struct, frozen=True, omit_defaults=True):
    """What an endpoint has said of itself; zero and empty mean that it has not."""

    schedule: tuple[int, ...] = ()  # seconds before each attempt; the first is the pause before the first one
    mode: str = FULL
    version: str = PUBLIC_VERSIONS[0]
    concurrency: int = 0  # attempts under way at once, at the most
    per_second: int = 0  # attempts begun in a second, at the most
    fifo: bool = False
    asymmetric: bool = False  # signed with Ed25519 too
    disable_after_seconds: int = DISABLE_AFTER_SECONDS  # of nothing but failures; 0 for never

    @property
    def delays(self) -> tuple[int, ...]:
        """Return the pause before each attempt, in seconds."""
        return self.schedule or DELAYS_SECONDS


TERMS: Final = EndpointTerms()


class Health(Struct, frozen=True):
    """The failures of an endpoint since its last success."""

    failing_since: datetime | None = None
    failed_at: datetime | None = None
    failures: int = 0


HEALTHY: Final = Health()


def failed_once_more(health: Health, now: datetime) -> Health:
    """Return the health of an endpoint at which an attempt has failed `now`."""
    if health.failing_since is None or health.failed_at is None or now - health.failed_at > GAP_MAX:
        return Health(now, now, 1)
    return Health(health.failing_since, now, health.failures + 1)


def is_given_up(health: Health, after_seconds: int) -> bool:
    """Return whether an endpoint has failed for so long, and so often, that it is disabled; never where that is 0."""
    if not after_seconds or health.failing_since is None or health.failed_at is None:
        return False
    lasted = (health.failed_at - health.failing_since).total_seconds()
    return health.failures >= FAILURES_MIN and lasted >= after_seconds


def live(sealed: tuple[bytes, ...], until: tuple[datetime | None, ...], now: datetime) -> tuple[bytes, ...]:
    """Return those of some secrets, newest first, that sign `now`; what has no end in `until` has none."""
    if not until:
        return sealed
    return tuple(
        secret
        for place, secret in enumerate(sealed)
        if (end := until[place] if place < len(until) else None) is None or end > now
    )


def rotated(
    sealed: tuple[bytes, ...], until: tuple[datetime | None, ...], new: bytes, now: datetime, overlap: timedelta
) -> tuple[tuple[bytes, ...], tuple[datetime | None, ...]]:
    """Return secrets, and when each ends, once there is a `new` one: it stands first and has no end; those that sign
    `now` do so for the overlap still and no longer than they would have; the others are gone."""
    if not overlap:
        return (new,), (None,)
    kept, ends = [new], list[datetime | None]([None])
    for place, secret in enumerate(sealed):
        end = until[place] if place < len(until) else None
        if end is None or end > now:
            kept.append(secret)
            ends.append(now + overlap if end is None else min(end, now + overlap))
    return tuple(kept), tuple(ends)


def width_of(terms: EndpointTerms, width: int) -> int:
    """Return how many attempts may be under way where the lane has come to `width`: at least one."""
    if terms.fifo:
        return 1
    if terms.concurrency:
        width = min(width, terms.concurrency)
    if terms.per_second:
        width = min(width, terms.per_second * SECONDS_UNDER_WAY)
    return max(1, width)
