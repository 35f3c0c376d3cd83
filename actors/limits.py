"""Limits on what a rail is asked: how many calls at once, and how many a second.

The number of calls at once is each worker's; a rate is the whole installation's, and each of the workers that are alive
spends an even share of it. A worker that comes or goes changes the shares within a few seconds; until then all
together may ask for more by the share of the newcomer.

While submissions and polls of a rail wait, turns are shared out by SHARES, whoever came first: after an outage there
are many to poll, just when the rail could pay again. What one kind does not need the other one gets. Among submissions
the tenants take turns, each with its own in order.

Nobody waits for longer than `wait_max` of a rail, and who would have to in any case learns so at once: what was decided
on long ago may be nobody's wish any more. An operator is asked about a silent attempt at the rail's deadline, and only
then.

A rate is kept by the time at which the next call is due (the generic cell rate algorithm): no task refills anything,
and whoever is next waits for that time itself."""

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal

import anyio

from zentra.runtime.rails.port import RailSettings

__all__ = ["SHARES", "How", "Pace", "RailGate", "room_of", "wait_max"]

How = Literal["submit", "poll"]

SHARES: Final[Mapping[How, int]] = {"submit": 3, "poll": 1}
"""How the turns of a rail are shared out while calls of both kinds wait."""

WAIT_SECONDS_MAX: Final = 60.0
DUE_SECONDS: Final = 1e-6  # before its time a call is due: sums of times are not exact
WAIT_SHARE: Final = 4  # of a rail's deadline: what begins at the last moment still has most of it to be answered


def room_of(settings: RailSettings, waiting: int = 0, idle: int | None = None, share: float = 1.0) -> int | None:
    """Return how many more submissions a rail may be given where so many wait, and so many calls could go at once; None
    where there is no limit. More than `waiting_max` are not let wait, nor more than can have their turn in time by the
    `share` of the rate that is theirs."""
    limits = [settings.waiting_max] if settings.waiting_max else []
    if settings.rate_per_second > 0:
        limits.append(math.floor(wait_max(settings) * settings.rate_per_second * share))
    if not limits:
        return None
    at_once = settings.burst if settings.rate_per_second > 0 else settings.concurrency_max
    return max(0, min(limits) - waiting) + (min(at_once, settings.concurrency_max) if idle is None else idle)


def wait_max(settings: RailSettings) -> float:
    """Return the seconds that a call may wait for its turn at a rail."""
    return min(WAIT_SECONDS_MAX, settings.deadline_seconds / WAIT_SHARE)


class Pace:
    """When calls at a rate are due. `reserve` takes the next place and says how long to wait; `wait` only says so."""

    def __init__(self) -> None:
        self._due = 0.0

    def reserve(self, now: float, rate: float, burst: int) -> float:
        """Return the seconds until a call that is asked for now may go; `burst` of them may go at once after a rest."""
        due = self._next(now, rate, burst)
        self._due = due + 1.0 / rate
        return max(0.0, due - now)

    def wait(self, now: float, rate: float, burst: int, before: int = 0) -> float:
        """Return what `reserve` would, once it has been asked for so many calls `before`."""
        return max(0.0, self._next(now, rate, burst) + before / rate - now)

    def free(self, now: float, rate: float, burst: int) -> int:
        """Return how many calls may go now."""
        return max(0, math.floor((now - self._next(now, rate, burst)) * rate + 1 + DUE_SECONDS))

    def _next(self, now: float, rate: float, burst: int) -> float:
        return max(self._due, now - (max(burst, 1) - 1) / rate)


class _Waiter:
    """A call that waits for its turn; it is woken where it may be the next."""

    def __init__(self, how: How, tenant: str) -> None:
        self.how, self.tenant = how, tenant
        self.woken = anyio.Event()


class _Line:
    """Who waits for a turn at one rail, and who is next; `inside` counts those who have theirs."""

    def __init__(self, settings: RailSettings) -> None:
        self.settings, self.pace, self.inside = settings, Pace(), 0
        self._queues: dict[How, dict[str, deque[_Waiter]]] = {how: {} for how in SHARES}
        self._spent: dict[How, float] = dict.fromkeys(SHARES, 0.0)  # turns by their share, while anybody waits

    @property
    def empty(self) -> bool:
        """Return whether nobody waits."""
        return not any(self._queues.values())

    def waiting(self, how: How) -> int:
        """Return how many calls of a kind wait."""
        return sum(map(len, self._queues[how].values()))

    def next(self) -> _Waiter | None:
        """Return who has the next turn: of the kind that had the least for its share, of the tenant whose it is."""
        kinds = [how for how in SHARES if self._queues[how]]
        if not kinds:
            return None
        return next(iter(self._queues[min(kinds, key=self._spent.__getitem__)].values()))[0]

    def before(self, waiter: _Waiter) -> int:
        """Return how many have their turns before one who comes now, whatever calls of the other kind do."""
        tenants = self._queues[waiter.how]
        own = len(tenants.get(waiter.tenant, ()))
        return own + sum(min(len(queue), own + 1) for tenant, queue in tenants.items() if tenant != waiter.tenant)

    def join(self, waiter: _Waiter) -> None:
        """Let a call wait. A kind of which nobody has waited has saved nothing."""
        if self.empty:
            self._spent = dict.fromkeys(SHARES, 0.0)
        tenants = self._queues[waiter.how]
        if not tenants:
            others = [self._spent[how] for how in SHARES if self._queues[how]]
            self._spent[waiter.how] = max(self._spent[waiter.how], *others, 0.0)
        tenants.setdefault(waiter.tenant, deque()).append(waiter)

    def leave(self, waiter: _Waiter, *, served: bool) -> None:
        """Let a call wait no more; where it is `served` the turn is its kind's, and the next one another tenant's."""
        tenants = self._queues[waiter.how]
        queue = tenants[waiter.tenant]
        queue.remove(waiter)
        if served:
            self._spent[waiter.how] += 1 / SHARES[waiter.how]
            del tenants[waiter.tenant]
            if queue:
                tenants[waiter.tenant] = queue
        elif not queue:
            del tenants[waiter.tenant]

    def wake(self) -> None:
        """Let whoever is next look again."""
        first = self.next()
        if first is not None:
            first.woken.set()


class RailGate:
    """The limits of a worker's rails, each made when it is first asked. `workers` is how many share a rate; `waits` is
    told by how many more calls of a rail, of which kind, wait for their turn."""

    def __init__(self, workers: Callable[[], int], waits: Callable[[str, How, int], None]) -> None:
        self._workers, self._waits = workers, waits
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(
        self, settings: RailSettings, until: float = math.inf, how: How = "submit", tenant: str = ""
    ) -> AsyncIterator[bool]:
        """Wait for the rate and for a place, and keep the place meanwhile; False where there is none before `until`."""
        line = self._line(settings)
        self._waits(settings.name, how, 1)
        try:
            given = await self._given(line, _Waiter(how, tenant), until)
        finally:
            self._waits(settings.name, how, -1)
        try:
            yield given
        finally:
            if given:
                line.inside -= 1
                line.wake()

    def room(self, settings: RailSettings) -> int | None:
        """Return how many more submissions a rail may be given now, as `room_of` does."""
        if not settings.waiting_max and settings.rate_per_second <= 0:
            return None
        line, share = self._line(settings), 1.0 / max(1, self._workers())
        if line.waiting("poll"):
            share *= SHARES["submit"] / sum(SHARES.values())
        idle = 0
        if line.empty:
            idle = max(0, settings.concurrency_max - line.inside)
            if settings.rate_per_second > 0:
                idle = min(idle, line.pace.free(anyio.current_time(), self._rate(settings), settings.burst))
        return room_of(settings, line.waiting("submit"), idle, share)

    async def _given(self, line: _Line, waiter: _Waiter, until: float) -> bool:
        """Wait for a turn, and take it; return False at once where it cannot come before `until`, or then."""
        now, settings, served = anyio.current_time(), line.settings, False
        if settings.rate_per_second > 0:
            rate = self._rate(settings)
            if now + line.pace.wait(now, rate, settings.burst, line.before(waiter)) > until:
                return False
        line.join(waiter)
        line.wake()  # what is in force may be other than what whoever is next has seen
        try:
            with anyio.CancelScope(deadline=until):
                while (seconds := self._left(line, waiter)) > DUE_SECONDS:
                    waiter.woken = anyio.Event()
                    with anyio.move_on_after(seconds):
                        await waiter.woken.wait()
                served = True
                line.inside += 1
                if line.settings.rate_per_second > 0:
                    line.pace.reserve(anyio.current_time(), self._rate(line.settings), line.settings.burst)
        finally:
            line.leave(waiter, served=served)
            line.wake()
        return served

    def _left(self, line: _Line, waiter: _Waiter) -> float:
        """Return the seconds until a call may go; infinity where that depends on others."""
        settings = line.settings
        if line.next() is not waiter or line.inside >= settings.concurrency_max:
            return math.inf
        if settings.rate_per_second <= 0:
            return 0.0
        return line.pace.wait(anyio.current_time(), self._rate(settings), settings.burst)

    def _rate(self, settings: RailSettings) -> float:
        return settings.rate_per_second / max(1, self._workers())

    def _line(self, settings: RailSettings) -> _Line:
        """Return the line of a rail, by the settings that are in force now."""
        line = self._lines.setdefault(settings.name, _Line(settings))
        line.settings = settings
        return line
