"""What a tick knows of the people in an intent, for a tenant whose rules ask for it."""

from msgspec.structs import replace

from zentra.actors.tick import Tick
from zentra.runtime.compliance.diligence import Compliance, Diligence
from zentra.runtime.compliance.rules import known_of
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import AccountRef

__all__ = ["ON_RAILS", "diligence_of"]

ON_RAILS = frozenset({IntentKind.TRANSFER, IntentKind.PAYMENT})
"""The kinds whose money leaves over a rail."""


def diligence_of(tick: Tick, tx: Transaction, rules: Compliance, destination: AccountRef | None = None) -> Diligence:
    """Return what is known of the people in an intent; raise MissingGround where an account was not looked up.

    `destination` is where the money goes instead of where the intent says."""
    command, configuration = tx.command, tick.configuration
    counterparty, legs = command.counterparty or None, command.legs or ()
    known = known_of(
        rules,
        source=tick.account(tx.tenant, command.source),
        destination=destination or (tick.account(tx.tenant, command.destination) if command.destination else None),
        leaves=command.kind in ON_RAILS,
        counterparty=None if counterparty is None else counterparty.name,
        lists=configuration.lists,
        cleared=configuration.cleared.get(tx.tenant, frozenset()),
        now=tick.now,
        others=[tick.account(tx.tenant, name) for leg in legs for name in (leg.source, leg.destination)],
    )
    return known if command.destination or destination is not None else replace(known, destination="none")
