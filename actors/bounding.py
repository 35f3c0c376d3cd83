"""What an intent asks of balances and dates, as the ledger judges it: accounts looked up and locked, texts read."""

from datetime import datetime

from msgspec import UNSET

from zentra.actors.tick import Tick
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.journal import Bound, Dated

__all__ = ["bounds_of", "dated_of"]


def bounds_of(tick: Tick, tx: Transaction) -> tuple[Bound, ...]:
    """Return the conditions of a transaction; the balances that they look at are locked then."""
    if tx.command.conditions is UNSET:
        return ()
    bounds = []
    for place, condition in enumerate(tx.command.conditions):
        least = None if condition.min is UNSET else int(condition.min)
        most = None if condition.max is UNSET else int(condition.max)
        ref = tick.account(tx.tenant, condition.account)
        bounds.append(Bound(ref, condition.of, least, most, f"conditions/{place}"))
    tick.lock(*[bound.ref for bound in bounds if bound.ref is not None and bound.ref.guarded])
    return tuple(bounds)


def dated_of(tick: Tick, tx: Transaction, *refs: AccountRef | None) -> Dated | None:
    """Return from when a transaction on these accounts counts, or None where that is when it is recorded."""
    if tx.command.effective_at is UNSET:
        return None
    closed = tick.configuration.closed_until
    books = {ref.book for ref in refs if ref is not None}
    until = max((closed[tx.tenant, book] for book in books if (tx.tenant, book) in closed), default=None)
    return Dated(datetime.fromisoformat(tx.command.effective_at), tick.now, until)
