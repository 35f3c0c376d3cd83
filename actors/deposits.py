"""Incoming money and the names it comes under: numbers that stand for accounts, and where unmatched money goes.

- Money that has come in is a fact. Where the account that it was sent to cannot take it, it goes to the suspense
  account of the book, and a case tells a person why.
- Rules are asked about accounts, not about names for them: whoever names an account by a number is counted and limited
  as everybody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from zentra.actors import monitoring
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.terms import Deposit
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import Fact
from zentra.runtime.ledger.book import AccountRef, Objection
from zentra.runtime.ledger.names import book_of, is_number, settlement_name, system_name

if TYPE_CHECKING:
    from zentra.actors.tick import Input, Tick

__all__ = ["UNMATCHED", "divert", "origin", "spelled"]

UNMATCHED: Final = "deposit_unmatched"
_DIVERTED: Final = frozenset(
    {"account_not_found", "account_closed", "account_frozen", "currency_mismatch", "book_mismatch"}
)


def spelled(tick: Tick, tx: Transaction) -> IntentCommand:
    """Return the command with the ids of the accounts that it names by numbers; numbers that mean none are left."""
    command = tx.command
    for field in ("source", "destination"):
        name = getattr(command, field)
        if is_number(name):
            ref = tick.account(tx.tenant, name)
            if ref is not None:
                command = replace(command, **{field: ref.account_id})
    return command


def origin(tick: Tick, tx: Transaction, destination: AccountRef | None) -> AccountRef | None:
    """Return the account that a deposit comes out of: the settlement account of the book that it goes into."""
    return tick.account(tx.tenant, settlement_name(tx.command.currency, destination))


def divert(tick: Tick, at: Input, tx: Transaction, source: AccountRef | None, objection: Objection) -> None:
    """Book a deposit that its account cannot take to the suspense account, and open a case that says why; refuse it
    where that is no matter of the account, or there is no suspense account."""
    command, deposit = tx.command, tx.command.deposit
    assert isinstance(deposit, Deposit)
    suspense = tick.account(tx.tenant, system_name("suspense", command.currency, book_of(source)))
    if source is not None and suspense is not None and objection.code in _DIVERTED:
        tick.lock(source, suspense)
        done = tick.book.book(
            source, suspense, command.amount, tick.now, currency=command.currency, intent=tx.id, ordinal=tx.ordinal
        )
        if not isinstance(done, Objection):
            tick.move(tx, Fact.BOOKED, f.Booked(tuple(posting.entry() for posting in done), objection.code), at,
                      actor="svc_ledger")  # fmt: skip
            detail = {"reference": deposit.reference, "sent_to": deposit.number or command.destination,
                      "reason": objection.code, "account": suspense.account_id}  # fmt: skip
            tick.open_case(tx, UNMATCHED, detail, at)
            monitoring.seal_later(tick, tx, at)
            return
        objection = done
    tick.move(tx, Fact.LEDGER_REFUSED, f.Refused(objection.code, objection.detail), at, actor="svc_ledger")
