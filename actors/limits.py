"""Limits on what a rail is asked: how many calls at once, and how many a second.

The number of calls at once is each worker's; a rate is the whole installation's, and each of the workers that are alive
spends an even share of it. A worker that comes or goes changes the shares within a few seconds; until then all
together may ask for more by the share of the newcomer. Whoever waits is served in order.

A rate is kept by the time at which the next call is due (the generic cell rate algorithm): no task refills anything."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from zentra.runtime.rails.port import RailSettings

__all__ = ["Pace", "RailGate"]


class Pace:
    """When calls at a rate are due. `reserve` takes the next place and says how long to wait for it."""

    def __init__(self) -> None:
        self._due = 0.0

    def reserve(self, now: float, rate: float, burst: int) -> float:
        """Return the seconds until a call that is asked for now may go; `burst` of them may go at once after a rest."""
        step = 1.0 / rate
        due = max(self._due, now - (max(burst, 1) - 1) * step)
        self._due = due + step
        return max(0.0, due - now)


class RailGate:
    """The limits of a worker's rails, each made when it is first asked. `workers` is how many share a rate; `waits` is
    told by how many more calls of a rail wait for their turn."""

    def __init__(self, workers: Callable[[], int], waits: Callable[[str, int], None]) -> None:
        self._workers, self._waits = workers, waits
        self._places: dict[str, anyio.CapacityLimiter] = {}
        self._paces: dict[str, Pace] = {}

    @asynccontextmanager
    async def turn(self, settings: RailSettings) -> AsyncIterator[None]:
        """Wait for the rate and for a place, and keep the place meanwhile."""
        limit = self._limit(settings)
        self._waits(settings.name, 1)
        try:
            if settings.rate_per_second > 0:
                share = settings.rate_per_second / max(1, self._workers())
                pace = self._paces.setdefault(settings.name, Pace())
                await anyio.sleep(pace.reserve(anyio.current_time(), share, settings.burst))
            await limit.acquire_on_behalf_of(borrower := object())
        finally:
            self._waits(settings.name, -1)
        try:
            yield
        finally:
            limit.release_on_behalf_of(borrower)

    def _limit(self, settings: RailSettings) -> anyio.CapacityLimiter:
        limit = self._places.get(settings.name)
        if limit is None:
            limit = self._places[settings.name] = anyio.CapacityLimiter(settings.concurrency_max)
        elif limit.total_tokens != settings.concurrency_max:
            limit.total_tokens = settings.concurrency_max
        return limit
