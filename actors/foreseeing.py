"""What commands on transactions and their timers usually lock, foreseen so that a batch of them needs one round.

A guess that costs nothing but its locks: what it misses the tick asks for itself, and what it names in vain is only
locked in vain. It looks at the state that a transaction has before the batch."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from zentra.actors import journaling, ledgering
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import COMPOSED, IntentKind, State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.names import book_of, settlement_name, system_name
from zentra.runtime.messages import CommandGiven
from zentra.runtime.policy import VelocityKey

__all__ = ["NOTHING", "Find", "Foreseen", "by_command", "by_timer"]

Find = Callable[[str], AccountRef | None]
"""Look an account of the tenant up, and ask for it where it is not known."""


class Foreseen(NamedTuple):
    """Accounts, None for those that are not known, and counters."""

    accounts: Iterable[AccountRef | None] = ()
    counters: tuple[VelocityKey, ...] = ()


NOTHING: Final = Foreseen()
_UNDONE: Final = frozenset({State.ACCEPTED, State.JUDGING, State.REVIEW, State.RESERVING})


class _Destination(Struct):
    """What of the body of a capture says where it goes."""

    destination: str = ""


def by_command(event: CommandGiven, tx: Transaction, find: Find) -> Foreseen:
    """Return what a command on this transaction locks if it is carried out.

    Raises msgspec.MsgspecError where the body of a capture is none."""
    if event.kind == "reverse":
        return Foreseen(_way_back(tx, find)) if tx.posted > tx.given_back else NOTHING
    if event.kind == "cancel":
        if tx.state is State.ROUTING:
            return Foreseen(_held(tx, find), ledgering.counters(tx))
        return Foreseen((), ledgering.counters(tx)) if tx.state in _UNDONE else NOTHING
    if tx.state is not State.HELD:
        return NOTHING
    if event.kind == "capture_hold":
        name = msgspec.json.decode(event.body, type=_Destination).destination or tx.command.destination
        return Foreseen([*_held(tx, find), *([find(name)] if name else ())], ledgering.counters(tx))
    return Foreseen(_held(tx, find), ledgering.counters(tx)) if event.kind == "void_hold" else NOTHING


def by_timer(tx: Transaction, find: Find) -> Foreseen:
    """Return what the state timer of this transaction locks, if it is due."""
    if tx.state is State.HELD:
        return Foreseen(_held(tx, find), ledgering.counters(tx))
    return Foreseen(_way_back(tx, find)) if journaling.debt_waits(tx) else NOTHING


def _held(tx: Transaction, find: Find) -> list[AccountRef | None]:
    """Return where the amount is held, and the destination and the fees of what a rail was to carry."""
    source = find(tx.command.source)
    refs = [source, find(settlement_name(tx.command.currency, source))]
    if tx.command.kind is not IntentKind.HOLD:
        refs.append(find(tx.command.destination))
    if tx.fees:
        refs.append(find(system_name("fee", tx.command.currency, book_of(source))))
    return refs


def _way_back(tx: Transaction, find: Find) -> list[AccountRef | None]:
    """Return all accounts that what was posted has gone through."""
    if tx.command.kind in COMPOSED:
        names = dict.fromkeys([name for entry in tx.booked for name in (entry.debit, entry.credit)])
        return [find(name) for name in names]
    if tx.hold is not None:
        names = dict.fromkeys([one.destination for one in tx.hold.captures])
        return [*_held(tx, find), *[find(name) for name in names]]
    command = tx.command
    refs = [find(name) for name in (tx.went or (command.destination, command.source))]
    if command.kind is not IntentKind.BOOK_TRANSFER:
        refs.append(find(settlement_name(command.currency, find(command.source))))
    if tx.fees:
        refs.append(find(system_name("fee", command.currency, book_of(refs[-1] if tx.went is None else refs[1]))))
    return refs
