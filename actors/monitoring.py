"""Telling of balances: a monitor that a command of the ledger has tripped becomes a record of the intent behind it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import SETTLED, Fact

if TYPE_CHECKING:
    from zentra.actors.tick import Input, Tick

__all__ = ["SEAL_AFTER", "seal_later", "tell"]

SEAL_AFTER: Final = timedelta(seconds=60)


def tell(tick: Tick, tx: Transaction, at: Input) -> None:
    """Record every monitor that the last command of the ledger has tripped: one fact each, behind the fact that booked
    it."""
    crossed, tick.book.crossed = tick.book.crossed, []
    for crossing in crossed:
        monitor = crossing.monitor
        facts = f.Crossed(
            monitor.id, crossing.account, crossing.currency, monitor.of, monitor.when, str(monitor.minor),
            str(crossing.figure),
        )  # fmt: skip
        tick.move(tx, Fact.MONITOR_TRIPPED, facts, at, actor="svc_ledger")
    seal_later(tick, tx, at)


def seal_later(tick: Tick, tx: Transaction, at: Input) -> None:
    """Have the packet sealed in a minute at the latest, where a record behind the one that settled an intent has made
    deliveries: the event that was to seal it leaves it alone while there are any."""
    if tx.state in SETTLED and not tx.sealed and tx.deliveries_open:
        tick.timer("intent", tx.id, "seal", at.partition, tx.tenant, tick.now + SEAL_AFTER)
