"""A load: what is asked, of whom and when, and how it is cut into requests.

- Whoever holds a load can say which intent goes through which door, and how many different ones there are.
- Where intents go through two doors, these take turns, so the slower holds up the other and they stay together: a
  repeat that comes over the other door than its first is not long behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from zentra.bench.measuring.schedule import Phase, arrivals, total_of
from zentra.bench.measuring.transports import BOTH, Target
from zentra.bench.measuring.workload import Drawn, Mix, Workload

__all__ = ["FULL_SPEED", "Load", "Request", "distinct_numbers", "requests_of"]

FULL_SPEED: Final = "full speed"


class Load(Struct, frozen=True, kw_only=True):
    """What to send: by `phases`; without them `intents` at `rate`, and `rate` 0 is full speed with at most
    `in_flight` intents unanswered."""

    transport: str  # nats, http, bulk, both
    url: str
    key: str = ""  # the API key over HTTP; over NATS the URL carries user and password
    nats_url: str = ""  # where both doors are used
    intents: int = 1_000
    rate: float = 0.0
    phases: tuple[Phase, ...] = ()
    poisson_seed: int | None = None
    in_flight: int = 1_024
    batch: int = 1  # intents per request, over NATS and in bulk
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    prefix: str = "bench"
    seed: int = 7
    minor_max: int = 100_000
    minor_fixed: int = 0  # the amount of every intent; 0: drawn
    each_destination: bool = False  # in turn, rather than drawn
    kind: str = "transfer"
    currency: str = "NGN"
    mix: Mix = Mix()
    second: Target | None = None  # the second tenant, where the mix has one
    tenants: tuple[str, ...] = ("acme",)
    wait_seconds: int = 0  # over HTTP: be answered when the intent has ended
    comes_back: bool = False  # whoever is turned away for now asks again with the same key, when it was told to
    watch_url: str = ""  # NATS as the runtime: see on the feed when an intent is SUCCESSFUL
    watch_seconds: float = 60.0  # from the start: what was not seen by then is given up
    share: int = 0
    shares: int = 1

    def scheduled(self) -> tuple[Phase, ...]:
        """Return the phases; none at full speed."""
        if self.phases or not self.rate:
            return self.phases
        return (Phase("steady", self.intents / self.rate, self.rate),)

    @property
    def doors(self) -> tuple[str, ...]:
        """The transports that its intents go through."""
        return BOTH if self.transport == "both" else (self.transport,)

    @property
    def sends(self) -> int:
        """How many intents are sent, over all shares."""
        phases = self.scheduled()
        return total_of(phases) if phases else self.intents

    def batch_of(self, door: str) -> int:
        """Return how many intents go in one request there."""
        return 1 if door == "http" else self.batch

    def door_of(self, number: int) -> int:
        """Return through which of the doors the `number`-th intent goes: as many through each, a batch in turn."""
        return number // self.shares // self.batch % len(self.doors)

    def workload(self) -> Workload:
        """Return what draws its intents."""
        return Workload(
            self.sources,
            self.destinations,
            mix=self.mix,
            seed=self.seed,
            prefix=self.prefix,
            minor_max=self.minor_max,
            minor_fixed=self.minor_fixed,
            each_destination=self.each_destination,
            kind=self.kind,
            currency=self.currency,
        )


class Request(Struct):
    """Intents that go in one request: when, in which phase, and through which of the doors."""

    phase: str
    second: float
    door: int
    drawn: list[Drawn]


def requests_of(load: Load) -> Iterator[Request]:
    """Yield the requests of the load's share, each at the time of its first intent.

    A request never crosses from one phase or door into the next."""
    workload = load.workload()
    waiting: Request | None = None
    for number, second, phase in _arrivals(load):
        door = load.door_of(number)
        if waiting is not None and (
            waiting.phase != phase or waiting.door != door or len(waiting.drawn) == load.batch_of(load.doors[door])
        ):
            yield waiting
            waiting = None
        if waiting is None:
            waiting = Request(phase, second, door, [])
        waiting.drawn.append(workload.draw(number))
    if waiting is not None:
        yield waiting


def distinct_numbers(load: Load) -> set[int]:
    """Return the numbers of the intents that a load asks for, over all shares: one per key."""
    workload = load.workload()
    return {workload.first(number) for number in range(load.sends)}


def _arrivals(load: Load) -> Iterator[tuple[int, float, str]]:
    phases = load.scheduled()
    if not phases:
        yield from ((number, 0.0, FULL_SPEED) for number in range(load.share, load.intents, load.shares))
        return
    for number, second, place in arrivals(phases, share=load.share, shares=load.shares, poisson_seed=load.poisson_seed):
        yield number, second, phases[place].name
