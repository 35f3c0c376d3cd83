"""Pacing: when a tick starts, so that it is worth its price and nobody waits for nothing.

A tick costs some milliseconds of computing however little it holds: the round trips of its transaction, a frame per
partition and stage. Where few events come nobody gains by waiting, and each starts a tick at once. Where they come
fast, ticks that start with every arrival hold a handful each, and the machine is busy with ticks instead of events;
then each leaves the next one some time to fill, and a second one beside it has to be worth it.

Nothing here waits or reads a clock."""

import math
from typing import Final

__all__ = ["ENOUGH_EVENTS", "FEW_EVENTS", "PATIENCE_SECONDS", "PERIOD_SECONDS", "Arrivals", "pause"]

# Chosen, not tuned: an intent passes half a dozen ticks and each may wait this long. Over NATS, with 2,300 single
# intents a second on two cores, 10, 20 and 30 ms cost the same within the noise of one run each.
PERIOD_SECONDS: Final = 0.010
FEW_EVENTS: Final = 8  # where fewer are expected in a period, waiting for them saves too little
ENOUGH_EVENTS: Final = 256  # what a tick costs by itself is small beside what these cost
PATIENCE_SECONDS: Final = 0.050  # a commit that takes longer waits for something: nobody waits for it
_MEMORY_SECONDS: Final = 0.1
_MEMORY_FRAMES: Final = 256
_LOOK_SECONDS: Final = 0.02


class Arrivals:
    """Moving estimates of what arrives. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.events_per_frame = 1.0
        self._since, self._counted, self._rate = -math.inf, 0, 0.0

    def count(self, frames: int, events: int) -> None:
        """Note frames that have arrived, and how many events they held."""
        if frames:
            self._counted += events
            self.events_per_frame += min(1.0, frames / _MEMORY_FRAMES) * (events / frames - self.events_per_frame)

    def rate(self, now: float) -> float:
        """Return how many events arrive a second; what arrived long ago hardly counts."""
        passed = now - self._since
        if passed >= _LOOK_SECONDS:
            kept = math.exp(-passed / _MEMORY_SECONDS)
            self._rate = self._rate * kept + self._counted / passed * (1 - kept)
            self._since, self._counted = now, 0
        return self._rate


def pause(waiting: int, rate: float, since_last_tick: float, under_way: int) -> float:
    """Return how many seconds the next tick should wait for more events, 0 where it should start now.

    `waiting` events are there, `rate` more are expected each second; the last tick started `since_last_tick` seconds
    ago, and `under_way` ticks have not committed yet."""
    if not 0 < waiting < ENOUGH_EVENTS:
        return 0.0
    if rate * PERIOD_SECONDS < FEW_EVENTS:
        return 0.0
    if under_way:  # its end is near, and the next tick can then take what will have come as well
        return max(0.0, PATIENCE_SECONDS - since_last_tick)
    return max(0.0, PERIOD_SECONDS - since_last_tick)
