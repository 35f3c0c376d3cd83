"""What workers have said of rails: the half of the store's twin that keeps it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from zentra.runtime.ports import RailCounts

__all__ = ["HealthTwin"]


class HealthTwin:
    """The latest word of each worker on each rail, and when it was said; and who is alive."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.members: dict[str, datetime] = {}
        self._health: dict[tuple[str, str], tuple[RailCounts, datetime]] = {}

    async def exchange_health(
        self, worker: str, counts: Sequence[RailCounts], lease_seconds: float
    ) -> tuple[int, list[RailCounts]]:
        """See Store.exchange_health."""
        self._meet("exchange_health")
        now = self._clock()
        others = {one for one, at in self.members.items() if one != worker and self._fresh(at, now, lease_seconds)}
        kept = {key: row for key, row in self._health.items() if key[0] != worker}
        self._health = {**kept, **{(worker, row.rail): (row, now) for row in counts}}
        fresh = [row for _, (row, at) in sorted(kept.items()) if self._fresh(at, now, lease_seconds)]
        return len(others) + 1, [row for row in fresh if row.worker in others]

    def _meet(self, method: str) -> object:
        """Raise what a call of this method was to meet."""
        raise NotImplementedError

    @staticmethod
    def _fresh(at: datetime, now: datetime, seconds: float) -> bool:
        return (now - at).total_seconds() < seconds
