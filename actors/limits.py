"""Limits on what a rail is asked: how many calls at once, and how many a second.

The number of calls at once is each worker's; a rate is the whole installation's, and each of the workers that are alive
spends an even share of it. A worker that comes or goes changes the shares within a few seconds; until then all
together may ask for more by the share of the newcomer. Whoever waits is served in order.

Nobody waits for longer than `wait_max` of a rail, and who would have to learns so at once: what was decided on long ago
may be nobody's wish any more. An operator is asked about a silent attempt at the rail's deadline, and only then.

A rate is kept by the time at which the next call is due (the generic cell rate algorithm): no task refills anything."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from zentra.runtime.rails.port import RailSettings

__all__ = ["Pace", "RailGate", "wait_max"]

WAIT_SECONDS_MAX: Final = 60.0
WAIT_SHARE: Final = 4  # of a rail's deadline: what begins at the last moment still has most of it to be answered


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

    def wait(self, now: float, rate: float, burst: int) -> float:
        """Return what `reserve` would."""
        return max(0.0, self._next(now, rate, burst) - now)

    def _next(self, now: float, rate: float, burst: int) -> float:
        return max(self._due, now - (max(burst, 1) - 1) / rate)


class RailGate:
    """The limits of a worker's rails, each made when it is first asked. `workers` is how many share a rate; `waits` is
    told by how many more calls of a rail wait for their turn."""

    def __init__(self, workers: Callable[[], int], waits: Callable[[str, int], None]) -> None:
        self._workers, self._waits = workers, waits
        self._places: dict[str, anyio.CapacityLimiter] = {}
        self._paces: dict[str, Pace] = {}

    @asynccontextmanager
    async def turn(self, settings: RailSettings, until: float = math.inf) -> AsyncIterator[bool]:
        """Wait for the rate and for a place, and keep the place meanwhile; False where there is none before `until`."""
        limit, borrower, given = self._limit(settings), object(), False
        self._waits(settings.name, 1)
        try:
            with anyio.CancelScope(deadline=until):
                if await self._paced(settings, until):
                    await limit.acquire_on_behalf_of(borrower)
                    given = True
        finally:
            self._waits(settings.name, -1)
        try:
            yield given
        finally:
            if given:
                limit.release_on_behalf_of(borrower)

    async def _paced(self, settings: RailSettings, until: float) -> bool:
        """Wait for the rate; return False at once, and take no place of it, where that would last beyond `until`."""
        if settings.rate_per_second <= 0:
            return True
        share = settings.rate_per_second / max(1, self._workers())
        pace, now = self._paces.setdefault(settings.name, Pace()), anyio.current_time()
        if now + pace.wait(now, share, settings.burst) > until:
            return False
        await anyio.sleep(pace.reserve(now, share, settings.burst))
        return True

    def _limit(self, settings: RailSettings) -> anyio.CapacityLimiter:
        limit = self._places.get(settings.name)
        if limit is None:
            limit = self._places[settings.name] = anyio.CapacityLimiter(settings.concurrency_max)
        elif limit.total_tokens != settings.concurrency_max:
            limit.total_tokens = settings.concurrency_max
        return limit
