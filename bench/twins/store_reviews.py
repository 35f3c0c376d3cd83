"""What the store's twin tells of its reviews: who has how many of them, and how they stand."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from zentra.bench.twins.store_rows import Rows
from zentra.runtime.reviews import Workload

__all__ = ["reviews_told", "workloads"]


def workloads(rows: Rows, tenants: Collection[str], now: datetime) -> dict[str, Workload]:
    """Return how many open reviews everybody of these tenants has."""
    found = {tenant: Workload(now, {}) for tenant in tenants}
    for review in rows.reviews.values():
        owner = review["assigned_to"]
        if review["status"] == "open" and owner is not None and review["tenant"] in found:
            counts = found[review["tenant"]].open
            counts[owner] = counts.get(owner, 0) + 1
    return found


def reviews_told(rows: Rows, now: datetime) -> dict[str, float]:
    """Return the gauges of the reviews and approvals."""
    waiting = [review for review in rows.reviews.values() if review["status"] == "open"]
    return {
        "reviews_open": float(len(waiting)),
        "reviews_overdue": float(sum(review["due_at"] < now for review in waiting)),
        "reviews_unassigned": float(sum(review["assigned_to"] is None for review in waiting)),
        "reviews_oldest_seconds": max(((now - review["opened_at"]).total_seconds() for review in waiting), default=0.0),
        "approvals_open": 0.0,  # they are the gateway's
    }
