"""What workers have said of rails: the rows of the store's twin."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from zentra.runtime.ports import RailCounts

__all__ = ["HealthRows"]


class HealthRows:
    """The latest word of each worker on each rail, and when it was said."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], tuple[RailCounts, datetime]] = {}

    def exchange(
        self, worker: str, counts: Sequence[RailCounts], others: Collection[str], now: datetime, lease_seconds: float
    ) -> tuple[int, list[RailCounts]]:
        """See Store.exchange_health; `others` are the workers that are alive beside this one."""
        kept = {key: row for key, row in self._rows.items() if key[0] != worker}
        self._rows = {**kept, **{(worker, row.rail): (row, now) for row in counts}}
        fresh = [row for key, (row, at) in sorted(kept.items()) if (now - at).total_seconds() < lease_seconds]
        return len(others) + 1, [row for row in fresh if row.worker in others]
