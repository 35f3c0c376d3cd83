"""When each intent is to be sent: phases of constant or changing rate, and whether the sender kept to them.

- The schedule knows nothing of answers. That is what makes the load open: a slow server does not slow it down, and the
  wait that it causes is part of every latency, because latency counts from the intended time.
- All processes of a generator compute the same schedule and take every n-th intent of it: together they send it once.
- A run whose sender could not keep up has measured the sender; it is called invalid and never quoted.
"""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from zentra.bench.measuring.histogram import Histogram

__all__ = ["LATE_SECONDS", "LATE_SHARE_MAX", "Arrival", "Phase", "arrivals", "lag_fault", "seconds_of", "total_of"]

LATE_SECONDS: Final = 0.01  # several turns of an event loop that has the machine half to itself
LATE_SHARE_MAX: Final = 0.01


class Phase(Struct, frozen=True):
    """A stretch of load. The rate goes straight from `rate` to `rate_end`; None is constant. `counted` phases are the
    measurement, the others warm up or recover."""

    name: str
    seconds: float
    rate: float
    rate_end: float | None = None
    counted: bool = True

    @property
    def intents(self) -> int:
        """How many intents are sent in it."""
        return round(self.seconds * (self.rate + self._end) / 2)

    @property
    def _end(self) -> float:
        return self.rate if self.rate_end is None else self.rate_end

    def second_of(self, place: float) -> float:
        """Return when, from the start of the phase, `place` intents are due: the integral of the rate, inverted.

        The last one may be a fraction of an intent more than the integral, and is due at the end."""
        slope = (self._end - self.rate) / self.seconds
        if abs(slope) < 1e-9:
            due = place / self.rate
        else:
            due = (math.sqrt(max(0.0, self.rate**2 + 2 * slope * place)) - self.rate) / slope
        return min(due, self.seconds)


class Arrival(NamedTuple):
    """One intent of the schedule: its number, its second from the start, and the index of its phase."""

    number: int
    second: float
    phase: int


def total_of(phases: Sequence[Phase]) -> int:
    """Return how many intents the phases send."""
    return sum(phase.intents for phase in phases)


def seconds_of(phases: Sequence[Phase]) -> float:
    """Return how long the phases last."""
    return sum(phase.seconds for phase in phases)


def arrivals(
    phases: Sequence[Phase], *, share: int = 0, shares: int = 1, poisson_seed: int | None = None
) -> Iterator[Arrival]:
    """Yield every intent of one of the `shares`, in order of time.

    With a seed the distances are exponential, as of many independent clients, at the same rates; without one they are
    even. Raises ValueError for a share that is none."""
    if not 0 <= share < shares:
        raise ValueError(f"share {share} of {shares}")
    draw = None if poisson_seed is None else random.Random(poisson_seed)  # noqa: S311  # a load, not a secret
    number, begins = 0, 0.0
    for index, phase in enumerate(phases):
        places = range(phase.intents) if draw is None else _poisson(phase.intents, draw)
        for place in places:
            if number % shares == share:
                yield Arrival(number, begins + phase.second_of(place), index)
            number += 1
        begins += phase.seconds


def lag_fault(lag: Histogram, planned: int) -> str | None:
    """Return why a phase whose sends lagged behind their schedule like this says nothing about the server, or None."""
    if lag.total < planned:
        return f"{planned - lag.total} of {planned} intents were never sent"
    late = lag.count_over(LATE_SECONDS)
    if late > LATE_SHARE_MAX * planned:
        return f"the generator lagged: {late} of {planned} sends were late, p99 by {lag.quantile_ms(0.99):.1f} ms"
    return None


def _poisson(count: int, draw: random.Random) -> list[float]:
    """Return `count` places in [0, count): a Poisson process, given how many fall into the phase."""
    return sorted(draw.random() * count for _ in range(count))
