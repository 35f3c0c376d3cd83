"""Which events of a stream are told, and when: every record once, those of an intent in the order of their sequence.

Frames of the event stream come nearly in order. Gateways and workers publish side by side, a tick sends one frame per
topic, and what a stream did not take at first comes later. So a record may come before those it follows, or once more.

- A record that is ahead calls for those in between: they are committed, because records are chained.
- A record that was told already is dropped; so is one whose turn had come before it arrived.
- A record from before all that this stream knows of its intent is told: better late than never.
- The memory is bounded. Of an intent that was quiet for as long as tens of thousands of others were not, the next
  record is taken as it comes.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["Order", "Turn"]

INTENTS_MAX: Final = 20_000  # some three megabytes


class Turn(Enum):
    """What to do with a record."""

    TELL = "tell"
    DROP = "drop"
    FILL = "fill"  # tell what is missing before it, then it


class Order:
    """What is known of the intents of one stream."""

    def __init__(self, intents_max: int = INTENTS_MAX) -> None:
        self._known: dict[str, tuple[int, int]] = {}  # the first and the last sequence of those told without a gap
        self._intents_max = intents_max

    def note(self, intent: str, sequence: int) -> None:
        """Take in a record that was told before this stream began. What is behind a gap may not have been told."""
        low, high = self._known.pop(intent, (sequence, sequence - 1))
        if sequence > high:
            low, high = (low if sequence == high + 1 else sequence), sequence
        self._keep(intent, low, high)

    def turn(self, intent: str, sequence: int) -> tuple[Turn, int]:
        """Return what to do with a record that has come, and the last sequence told of its intent before it."""
        known = self._known.pop(intent, None)
        if known is None:
            self._keep(intent, sequence, sequence)
            return Turn.TELL, sequence - 1
        low, high = known
        if sequence > high:
            self._keep(intent, low, sequence)
            return (Turn.TELL if sequence == high + 1 else Turn.FILL), high
        self._keep(intent, min(low, sequence), high)
        return (Turn.TELL if sequence < low else Turn.DROP), high

    def _keep(self, intent: str, low: int, high: int) -> None:
        self._known[intent] = (low, high)
        if len(self._known) > self._intents_max:
            del self._known[next(iter(self._known))]
