"""The health of a rail: what its calls have come to lately, and whether it is asked at all.

A circuit is closed while the rail does well. When too many of the calls in the window were bad it opens: no new
submission goes to the rail. After a rest it is half open: a few submissions may go, as probes. When so many of them
have been answered well it closes, and the first bad one opens it again. A turn of probes that nobody tells of any more
(their worker has died, their intents were cancelled) is over after the time of a rest, and another begins.

    state      fact        next         probes
    closed     tripped     open         -
    open       rested      half_open    a new turn
    half_open  failed      open         -
    half_open  proved      closed       -, and the window is forgotten
    half_open  rested      half_open    a new turn
    any other pair         as it was

A call is bad where it got no answer that says anything (`unknown`), where the rail could not be reached, or where it
took longer than `slow_seconds`. What a rail declines is its answer, however often: else one tenant's mistakes would
close a rail to others.

Pure: time comes in, as seconds of any clock that goes forward. Counts of other workers come in as sums."""

from collections import deque
from enum import StrEnum
from typing import Final

from msgspec import Struct

from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, RailSettings

__all__ = ["MOVES", "UNREACHED", "Circuit", "CircuitState", "Counts", "Shift", "Window", "is_bad", "trips"]

BUCKETS: Final = 10  # that a window is counted in: its edge is as sharp as a tenth of it
UNREACHED: Final = frozenset(
    {
        "connect_failed",
        "address_refused",
        "unavailable",
        "adapter_missing",
        "adapter_unusable",
        "rail_secret_unreadable",
    }
)
"""Reasons of `not_accepted` that say nothing of the payment: the rail was not there to take it."""
LET_NOBODY_IN: Final = "token_"  # what such reasons begin with where the rail let nobody in


class CircuitState(StrEnum):
    """Whether a rail is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Shift(StrEnum):
    """What can happen to a circuit."""

    TRIPPED = "tripped"  # too many calls of the window were bad
    RESTED = "rested"  # the time of a rest has passed since it last moved
    FAILED = "failed"  # a probe was answered badly
    PROVED = "proved"  # as many probes as there are were answered well


MOVES: Final = {
    (CircuitState.CLOSED, Shift.TRIPPED): CircuitState.OPEN,
    (CircuitState.OPEN, Shift.RESTED): CircuitState.HALF_OPEN,
    (CircuitState.HALF_OPEN, Shift.FAILED): CircuitState.OPEN,
    (CircuitState.HALF_OPEN, Shift.PROVED): CircuitState.CLOSED,
    (CircuitState.HALF_OPEN, Shift.RESTED): CircuitState.HALF_OPEN,
}


class Counts(Struct, frozen=True, gc=False):
    """Calls of a window: how many, how many of them failed or were slow, and the seconds of all together."""

    calls: int = 0
    failed: int = 0
    slow: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the counts of both."""
        return Counts(
            self.calls + other.calls, self.failed + other.failed, self.slow + other.slow, self.seconds + other.seconds
        )

    @property
    def bad(self) -> int:
        """Return how many calls speak against the rail."""
        return self.failed + self.slow


class Circuit(Struct, frozen=True, gc=False):
    """A circuit as it stands: since when, how many probes of this turn were given, and how many answered well."""

    state: CircuitState = CircuitState.CLOSED
    since: float = 0.0
    given: int = 0
    good: int = 0

    def move(self, shift: Shift, now: float) -> "Circuit":
        """Return the circuit after `shift`: this very one where the table has no such move."""
        after = MOVES.get((self.state, shift))
        return self if after is None else Circuit(after, now)

    def wait(self, now: float, rest_seconds: float) -> "Circuit":
        """Return the circuit as time has made it by `now`."""
        return self.move(Shift.RESTED, now) if now - self.since >= rest_seconds else self

    def hear(self, bad: bool, probes: int, now: float) -> "Circuit":
        """Return the circuit after the answer to a submission, of which `probes` have to be good in a turn."""
        if self.state is not CircuitState.HALF_OPEN:
            return self
        if bad:
            return self.move(Shift.FAILED, now)
        told = Circuit(self.state, self.since, self.given, self.good + 1)
        return told.move(Shift.PROVED, now) if told.good >= probes else told

    def lend(self, count: int) -> "Circuit":
        """Return the circuit after so many more probes were sent out."""
        return Circuit(self.state, self.since, self.given + count, self.good)

    def probes_left(self, probes: int) -> int:
        """Return how many submissions may go now where a turn has `probes`."""
        return max(0, probes - self.given) if self.state is CircuitState.HALF_OPEN else 0


class Window:
    """The calls of one rail by one worker within the last so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._width = max(seconds, 0.001) / BUCKETS
        self._number = -1
        self._buckets: deque[tuple[int, list[float]]] = deque(maxlen=BUCKETS)
        self._last: list[float] = []

    def add(self, now: float, seconds: float, *, failed: bool, slow: bool) -> None:
        """Count a call that ended now."""
        number = int(now / self._width)
        if number != self._number:
            self._number, self._last = number, [0, 0, 0, 0.0]
            self._buckets.append((number, self._last))
        last = self._last
        last[0] += 1
        last[1] += failed
        last[2] += slow
        last[3] += seconds

    def counts(self, now: float) -> Counts:
        """Return the calls that are within the window by `now`."""
        oldest = int(now / self._width) - BUCKETS
        sums = [0.0, 0.0, 0.0, 0.0]
        for number, bucket in self._buckets:
            if number > oldest:
                for place, value in enumerate(bucket):
                    sums[place] += value
        return Counts(int(sums[0]), int(sums[1]), int(sums[2]), sums[3])

    def forget(self) -> None:
        """Begin anew."""
        self._buckets.clear()
        self._number = -1


def is_bad(outcome: RailOutcome) -> bool:
    """Return whether an answer speaks against the rail itself and not against what it was asked."""
    if outcome.status is OutcomeStatus.NOT_ACCEPTED:
        return outcome.reason in UNREACHED or (outcome.reason or "").startswith(LET_NOBODY_IN)
    return outcome.status is OutcomeStatus.UNKNOWN


def trips(counts: Counts, settings: RailSettings) -> bool:
    """Return whether the calls of a window open a circuit; a share of 0 percent never does."""
    share = settings.bad_percent_max
    return share > 0 and counts.calls >= settings.health_calls_min and counts.bad * 100 >= counts.calls * share
