"""What becomes of a hold: it is placed, captured, voided or it expires, and what was captured can be given back.

Each way of ending is one record with all of its entries, so a hold that has ended has nothing pending. Whether it has
expired is asked of the time of the tick, never of its timer: the timer only books it."""

from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import UNSET, Struct

from zentra.actors import ledgering, permitting
from zentra.actors.bounding import bounds_of
from zentra.actors.tick import Input, Tick
from zentra.runtime.errors import Refusal
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.terms import HoldTerms
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.ledger import holds
from zentra.runtime.ledger.book import AccountRef, Objection, Posting
from zentra.runtime.ledger.journal import Move, transact
from zentra.runtime.ledger.money import parse_minor
from zentra.runtime.ledger.names import settlement_name
from zentra.runtime.messages import CommandGiven
from zentra.runtime.ports import HoldRow

__all__ = ["CAPTURE_CODES", "VOID_CODES", "CaptureOrder", "VoidOrder", "capture", "place", "reverse", "run_out", "void"]


class CaptureOrder(Struct, frozen=True):
    """The body of a capture: digits, or "full" for all that is left; without a destination, that of the hold."""

    amount: str = "full"
    destination: str = ""
    final: bool = False
    reason: str = ""


class VoidOrder(Struct, frozen=True):
    """The body of a void."""

    reason: str = ""


_ENDED: Final = ("hold_not_found", "hold_already_posted", "hold_already_voided", "hold_expired")
CAPTURE_CODES: Final = (
    "amount_zero", "amount_negative", "amount_overflow", *_ENDED, "captures_exhausted", "destination_missing",
    "account_not_found", "accounts_must_be_different", "account_closed", "currency_mismatch", "book_mismatch",
    permitting.NOT_PERMITTED, "exceeds_hold", "insufficient_funds",
)  # fmt: skip
VOID_CODES: Final = _ENDED


def place(tick: Tick, at: Input, tx: Transaction) -> None:
    """Hold the amount on the source, or refuse it; from the record on it counts until it expires."""
    command = tx.command
    source = tick.account(tx.tenant, command.source)
    settlement = tick.account(tx.tenant, settlement_name(command.currency, source))
    destination = tick.account(tx.tenant, command.destination) if command.destination else None
    tick.lock(source, settlement)
    done: tuple[Posting, ...] | Objection
    if command.conditions is UNSET:
        done = holds.place(
            tick.book, source, settlement, destination, command.amount, tick.now, intent=tx.id, ordinal=tx.ordinal,
            named=bool(command.destination),
        )  # fmt: skip
    else:
        named = (source, destination, settlement) if command.destination else (source, settlement)
        hold, bounds = Move("reserve", named, command.amount, 0, command.currency), bounds_of(tick, tx)
        done = transact(tick.book, (hold,), tick.now, intent=tx.id, ordinal=tx.ordinal, bounds=bounds)
    if isinstance(done, Objection):
        ledgering.refuse(tick, at, tx, done)
        return
    assert source is not None
    tick.move(tx, Fact.HELD, f.HoldMoved(_entries(done), "hold_placed"), at, actor="svc_ledger")
    assert tx.hold is not None
    tick.writes.holds[tx.id] = _row(tx, source)
    tx.timer_due = tx.hold.expires_at
    tick.timers_soon.pop(tx.id, None)
    tick.timer("intent", tx.id, "state", at.partition, tx.tenant, tx.hold.expires_at)


def capture(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    """Post a part of what is held, or all of it; return the code of the outcome."""
    if event.command in tx.commands:
        return "done"
    body = msgspec.json.decode(event.body, type=CaptureOrder)
    try:
        minor = tx.held if body.amount == "full" else parse_minor(body.amount)
    except Refusal as refusal:
        return refusal.reason
    objection = holds.ended(tx.hold, _moment(tick, tx))
    if objection is not None:
        return objection.code
    last = body.final or minor == tx.held
    if tx.hold is not None and len(tx.hold.captures) >= holds.CAPTURES_MAX - 1 and not last:
        return "captures_exhausted"
    source, settlement = _where_held(tick, tx)
    name = body.destination or tx.command.destination
    destination = tick.account(tx.tenant, name) if name else None
    tick.lock(source, settlement, destination)
    permit = permitting.permitted(tick, tx, destination)
    done = holds.capture(
        tick.book, (source, settlement, destination), minor, tx.held, tick.now, last=last, named=bool(name),
        permitted=permit is UNSET or permit.outcome == "accepted", intent=tx.id, ordinal=tx.ordinal,
    )  # fmt: skip
    if isinstance(done, Objection):
        if done.code == "account_not_found":
            tick.deny_command(event, "ledger.capture", "not_found")
        elif done.code == permitting.NOT_PERMITTED:
            tick.deny_command(event, permitting.ACTION, done.code)
        return done.code
    facts = f.HoldMoved(_entries(done), "hold_captured", body.reason, event.command, permitted=permit)
    tick.move(tx, Fact.CAPTURED_LAST if last else Fact.CAPTURED, facts, at, actor=event.principal, cause=event.command)
    tick.writes.holds[tx.id] = _row(tx, source)
    return "done"


def void(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    """Give back what is still held, because somebody asks for it; return the code of the outcome."""
    if event.command in tx.commands:
        return "done"
    objection = holds.ended(tx.hold, _moment(tick, tx))
    if objection is not None:
        return objection.code
    reason = msgspec.json.decode(event.body, type=VoidOrder).reason
    fact = Fact.VOIDED_REST if tx.posted else Fact.VOIDED
    _give_up(tick, at, tx, fact, "hold_voided", reason, actor=event.principal, command=event.command)
    return "done"


def run_out(tick: Tick, at: Input, tx: Transaction) -> None:
    """Book that a hold has expired; one whose time has not come is looked at again when it has."""
    assert tx.hold is not None
    if _moment(tick, tx) < tx.hold.expires_at:
        tick.rearm(tx, at.partition, tx.hold.expires_at)
        return
    fact = Fact.LAPSED_REST if tx.posted else Fact.LAPSED
    _give_up(tick, at, tx, fact, "hold_expired", "", actor="svc_ledger")


def reverse(
    tick: Tick, at: Input, event: CommandGiven, tx: Transaction, minor: int, reason: str, *, forced_by: str = ""
) -> str:
    """Give back a part of what was captured, or all of it, the newest capture first; return the code of the outcome.

    One that is `forced_by` somebody may take payees below their limits."""
    if tx.hold is None:
        return "transaction_not_found"
    source, settlement = _where_held(tick, tx)
    destinations = tick.booked_on(tx.tenant, [one.destination for one in tx.hold.captures])
    tick.lock(source, settlement, *destinations.values())
    done = holds.reverse(
        tick.book, source, settlement, destinations, tx.hold.captures, minor, tick.now, intent=tx.id,
        ordinal=tx.ordinal, forced=bool(forced_by),
    )  # fmt: skip
    if isinstance(done, Objection):
        return done.code
    fact = Fact.REVERSED_IN_FULL if tx.given_back + minor == tx.posted else Fact.REVERSED_IN_PART
    facts = f.HoldMoved(_entries(done), "hold_reversed", reason, event.command, forced_by or UNSET)
    tick.move(tx, fact, facts, at, actor=event.principal, cause=event.command)
    return "done"


def _give_up(
    tick: Tick, at: Input, tx: Transaction, fact: Fact, code: str, reason: str, *, actor: str, command: str = ""
) -> None:
    """Release what is left, as part of `fact`."""
    source, settlement = _where_held(tick, tx)
    tick.lock(source, settlement)
    tick.counted(ledgering.counters(tx))
    done = tick.book.release(source, settlement, tx.held, tick.now, intent=tx.id, ordinal=tx.ordinal)
    if isinstance(done, Objection):
        raise AssertionError(f"a hold that stands cannot be released: {done.code}")
    facts = f.HoldMoved(_entries(done), code, reason, command)
    tick.move(tx, fact, facts, at, actor=actor, cause=command or None)
    tick.writes.holds[tx.id] = _row(tx, source)


def _moment(tick: Tick, tx: Transaction) -> datetime:
    """Return the time that the next record of a transaction will have: what it says is decided as of then."""
    return max(tick.now, tx.at + timedelta(microseconds=1))


def _where_held(tick: Tick, tx: Transaction) -> tuple[AccountRef, AccountRef]:
    source = tick.account(tx.tenant, tx.command.source)
    settlement = tick.account(tx.tenant, settlement_name(tx.command.currency, source))
    if source is None or settlement is None:
        raise LookupError("an account that a reserve found is gone")
    return source, settlement


def _row(tx: Transaction, source: AccountRef) -> HoldRow:
    """Return a hold as its projection has it."""
    hold = tx.hold
    assert hold is not None
    status = "open" if tx.state is State.HELD else hold.end.removeprefix("hold_")
    terms = tx.command.hold
    assert isinstance(terms, HoldTerms)
    return HoldRow(
        intent=tx.id, tenant=tx.tenant, intent_id=tx.intent_id, account=source.id, account_id=source.account_id,
        currency=tx.command.currency, minor=tx.command.amount, remaining=tx.held, captured=tx.posted, status=status,
        placed_at=hold.expires_at - timedelta(seconds=terms.expires_in_seconds), expires_at=hold.expires_at,
        ended_at=hold.ended_at,
    )  # fmt: skip


def _entries(postings: tuple[Posting, ...]) -> tuple[f.Entry, ...]:
    return tuple([posting.entry() for posting in postings])
