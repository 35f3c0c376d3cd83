"""When a rail is asked again: pauses that grow, by rail and by what it said last.

The invariants kept here:

- A pause never exceeds its bound, and never sleeps over the deadline of the attempt.
- Past the deadline a case is open and asking goes on, slowly: a late answer still settles the intent.
- Pauses follow from the age of what is waited for, so nothing is counted and a successor goes on where its predecessor
  stood. Jitter shortens a pause by a share that follows from the reference: the same attempt is always asked at the
  same times, and a thousand that failed together are not.
"""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import Final

from zentra.runtime.rails.port import Backoff, RailSettings

__all__ = ["DEFAULTS", "Standing", "backoff_of", "flaw_of", "pause", "standing_of"]

OVERDUE_SECONDS_MAX: Final = 600.0  # between two questions after the case: whoever mends the rail need not wait longer
CLAIMED_SECONDS_MIN: Final = 0.5
SHORTEST_SECONDS: Final = 0.01
SECONDS_MAX: Final = 7 * 86_400.0  # whoever asks more rarely does not ask


class Standing(StrEnum):
    """What is known of an attempt that has no outcome."""

    SILENT = "silent"  # the rail has never said anything of it
    UNKNOWN = "unknown"  # it could not say, or not be reached
    PENDING = "pending"  # it has the payment and is working on it
    CLAIMED = "claimed"  # somebody has named an outcome in its name
    OVERDUE = "overdue"  # its deadline is over, and a case is open


DEFAULTS: Final = {
    Standing.SILENT: Backoff(factor=3.0),  # it is down, or never got the payment
    Standing.UNKNOWN: Backoff(factor=1.5),  # money may have moved, and nobody knows: worth asking often
    Standing.PENDING: Backoff(factor=2.0),
    Standing.CLAIMED: Backoff(factor=1.5),
    Standing.OVERDUE: Backoff(factor=1.5, max_seconds=OVERDUE_SECONDS_MAX),
}
"""Where a rail's settings say nothing else. A zero means the rail's own `poll_after_seconds`, or its longest pause."""


def standing_of(heard: str, *, claimed: bool, overdue: bool) -> Standing:
    """Return how an attempt stands of which `heard` was said last, "" where nothing was."""
    if overdue:
        return Standing.OVERDUE
    if claimed:
        return Standing.CLAIMED
    if heard == "pending":
        return Standing.PENDING
    return Standing.UNKNOWN if heard else Standing.SILENT


def backoff_of(settings: RailSettings, standing: Standing) -> Backoff:
    """Return how a rail is asked in this standing: its own settings over the defaults, nothing left open."""
    chosen = settings.polling.get(standing, DEFAULTS[standing])
    after = chosen.after_seconds or settings.poll_after_seconds
    if standing is Standing.CLAIMED and not chosen.after_seconds:
        after = max(after / 2, CLAIMED_SECONDS_MIN)
    longest = chosen.max_seconds or settings.poll_interval_max_seconds
    return Backoff(after, chosen.factor, max(longest, after), chosen.jitter)


def pause(settings: RailSettings, standing: Standing, elapsed: float, left: float, reference: str) -> float:
    """Return the seconds until the rail is asked again.

    `elapsed` is how long the attempt has waited (after a claim: since it), `left` what is left until its deadline."""
    chosen = backoff_of(settings, standing)
    seconds = min(max(elapsed * (chosen.factor - 1.0), chosen.after_seconds), chosen.max_seconds)
    if chosen.jitter:
        drawn = zlib.crc32(f"{reference}/{elapsed:.0f}".encode()) / 2**32
        seconds *= 1.0 - chosen.jitter * drawn
    if left > 0:
        seconds = min(seconds, left)
    return max(seconds, SHORTEST_SECONDS)


def flaw_of(settings: RailSettings) -> str | None:
    """Return what is wrong with the polling of a rail, or None."""
    for name, chosen in settings.polling.items():
        if name not in DEFAULTS:
            return f"polling.{name}: one of {', '.join(DEFAULTS)}"
        if not (0 <= chosen.after_seconds <= SECONDS_MAX and 0 <= chosen.max_seconds <= SECONDS_MAX):
            return f"polling.{name}: 0 to {SECONDS_MAX:.0f} seconds"
        if not 1.0 < chosen.factor <= 100.0:
            return f"polling.{name}.factor: above 1, 100 at most"
        if not 0.0 <= chosen.jitter <= 0.5:
            return f"polling.{name}.jitter: 0 to 0.5"
    return None
