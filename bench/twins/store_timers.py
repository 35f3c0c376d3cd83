"""Which timers of the store's twin are due, and which of them wait for a rail."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from zentra.bench.twins.store_rows import Rows
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ports import Timer

__all__ = ["due", "started"]

_Found = list[tuple[Timer, float]]


def due(rows: Rows, partitions: Collection[int], until_seconds: float, limit: int, now: datetime) -> _Found:
    """Return timers due within `until_seconds`, soonest first, each with the seconds left."""
    left = [
        (timer, (timer.due_at - now).total_seconds()) for timer in rows.timers.values() if timer.partition in partitions
    ]
    return sorted((row for row in left if row[1] < until_seconds), key=lambda row: row[1])[:limit]


def started(rows: Rows, partitions: Collection[int], until_seconds: float, limit: int, now: datetime) -> _Found:
    """Return the state timers of intents that wait for a rail, each with the seconds since the last record."""
    found = [
        (timer, (now - rows.transitions[timer.key][-1].at).total_seconds())
        for timer in rows.timers.values()
        if (timer.kind, timer.name) == ("intent", "state")
        and timer.partition in partitions
        and timer.due_at < now + timedelta(seconds=until_seconds)
        and timer.key in rows.transitions
        and rows.transitions[timer.key][-1].state is State.SUBMITTED
    ]
    return sorted(found, key=lambda row: row[0].due_at)[:limit]
