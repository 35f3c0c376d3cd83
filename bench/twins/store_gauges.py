"""What the store's twin says of itself: how the ledger balances, what is not sent, what waits for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from zentra.bench.twins.store_reviews import reviews_told
from zentra.bench.twins.store_rows import Rows, balance_of
from zentra.runtime.ledger.book import AccountRef

__all__ = ["gauges"]


def gauges(rows: Rows, refs: Iterable[AccountRef], now: datetime) -> dict[str, float]:
    """Return what the store says of itself."""
    sums: dict[tuple[str, str, str, str], int] = {}
    for ref in refs:
        total = balance_of(rows, ref.id)
        for layer in ("posted", "pending"):
            key = (ref.tenant, ref.book, ref.currency, layer)
            excess = getattr(total, f"debits_{layer}") - getattr(total, f"credits_{layer}")
            sums[key] = sums.get(key, 0) + excess
    unsent = [(now - row.created_at).total_seconds() for row in rows.outbox.values() if row.sent_at is None]
    return {
        "ledger_imbalance_minor_units": float(sum(abs(v) for k, v in sums.items() if k[3] == "posted")),
        "ledger_imbalance_pending_minor_units": float(sum(abs(v) for k, v in sums.items() if k[3] == "pending")),
        "outbox_lag_seconds": max(unsent, default=0.0),
        **reviews_told(rows, now),
        "cases_open": float(sum(case.status == "open" for case in rows.cases.values())),
        "cases_overdue": float(sum(case.status == "open" and case.row.deadline < now for case in rows.cases.values())),
    }
