"""What a transaction asks of the ledger: to hold, to book, to post what is held, to release it.

Each is a plain function over the tick: it locks the accounts of the transaction, gives the book one command, and moves
the transaction by what came of it, entries or an objection. What is charged for it goes into the same command
(`charging.py`)."""

from collections.abc import Callable

from msgspec import UNSET, UnsetType

from zentra.actors import charging, deposits
from zentra.actors.bounding import bounds_of, dated_of
from zentra.actors.expiring import put_off
from zentra.actors.tick import Input, Tick
from zentra.runtime.fees.quoting import FeeQuote
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import Fact, IntentKind
from zentra.runtime.ledger.book import AccountRef, Objection, Posting
from zentra.runtime.ledger.journal import Move, transact
from zentra.runtime.ledger.names import settlement_name
from zentra.runtime.policy import VelocityKey

__all__ = ["begun", "book", "counters", "path_of", "post", "refuse", "release", "reserve"]


def reserve(tick: Tick, at: Input, tx: Transaction) -> None:
    """Hold the amount of a transaction that a rail shall carry, or refuse it."""
    command = tx.command
    source = tick.account(tx.tenant, command.source)
    destination = tick.account(tx.tenant, command.destination)
    settlement = tick.account(tx.tenant, settlement_name(command.currency, source))
    quoted, charges = charging.at_reserve(tick, tx, source, destination)
    tick.lock(source, settlement)
    done: tuple[Posting, ...] | Objection
    if command.conditions is UNSET:
        done = tick.book.reserve(
            source, settlement, destination, command.amount, tick.now, intent=tx.id, ordinal=tx.ordinal, charges=charges
        )
    else:
        hold = Move("reserve", (source, destination, settlement), command.amount, 0, command.currency)
        bounds = bounds_of(tick, tx)
        done = transact(tick.book, (hold,), tick.now, intent=tx.id, ordinal=tx.ordinal, bounds=bounds, charges=charges)
    begun(tick, at, tx, Fact.RESERVED, done, quoted)


def book(tick: Tick, at: Input, tx: Transaction) -> None:
    """Move the amount of a transaction that needs no rail at once, or refuse it."""
    command = tx.command
    source = tick.account(tx.tenant, command.source)
    destination = tick.account(tx.tenant, command.destination)
    if command.deposit is not UNSET:
        source = deposits.origin(tick, tx, destination) or source
    quoted, charges = charging.at_reserve(tick, tx, source, destination)
    tick.lock(source, destination)
    done: tuple[Posting, ...] | Objection
    if command.conditions is UNSET is command.effective_at:
        done = tick.book.book(
            source, destination, command.amount, tick.now, currency=command.currency, intent=tx.id, ordinal=tx.ordinal,
            charges=charges,
        )  # fmt: skip
    else:
        move = Move("book", (source, destination), 0, command.amount, command.currency)
        bounds, dated = bounds_of(tick, tx), dated_of(tick, tx, source, destination)
        done = transact(
            tick.book, (move,), tick.now, intent=tx.id, ordinal=tx.ordinal, bounds=bounds, dated=dated, charges=charges
        )
    if command.deposit is not UNSET and isinstance(done, Objection):
        deposits.divert(tick, at, tx, source, done)
    else:
        begun(tick, at, tx, Fact.BOOKED, done, quoted)


def begun(
    tick: Tick,
    at: Input,
    tx: Transaction,
    fact: Fact,
    done: tuple[Posting, ...] | Objection,
    quoted: FeeQuote = charging.NO_QUOTE,
    *,
    priced: f.Priced | UnsetType = UNSET,
    needs: Callable[[str], int] | None = None,
) -> None:
    """Move a transaction by what the ledger made of its first command: entries, or an objection that ends it.

    `needs` says what it takes from an account, where that is not its amount and its fee."""
    if isinstance(done, Objection):
        minor = tx.command.amount + quoted.total_payer if needs is None else needs(done.detail)
        refuse(tick, at, tx, done, minor)
    else:
        entries = tuple([posting.entry() for posting in done])
        fees = charging.charged(quoted)
        tick.move(tx, fact, f.Booked(entries, fees=fees, priced=priced), at, actor="svc_ledger")


def refuse(tick: Tick, at: Input, tx: Transaction, objection: Objection, minor: int | None = None) -> None:
    """End a transaction that the ledger does not let begin, unless what it lacks is kept by holds that have expired;
    `minor` is what it takes from the account that lacks it, its amount by default."""
    if put_off(tick, at, tx, objection, tx.command.amount if minor is None else minor):
        return
    tick.counted(counters(tx))  # it gives back under the counter's lock
    if objection.code == "account_not_found":
        tick.deny(tx, "ledger.reserve", "not_found")
    _refuse(tick, at, tx, objection)


def post(tick: Tick, at: Input, tx: Transaction) -> None:
    """Turn the hold of a transaction that its rail has confirmed into money at its destination."""
    destination, settlement, source = _rail_path(tick, tx)
    done = tick.book.post(
        source, settlement, destination, tx.held, tx.held, tick.now, intent=tx.id, ordinal=tx.ordinal,
        fees=charging.at_post(tick, tx, source, destination),
    )  # fmt: skip
    if isinstance(done, Objection):
        if "posting_refused" not in tx.cases_open.values():
            _refuse(tick, at, tx, done)
        return
    entries = tuple([posting.entry() for posting in done])
    tick.move(tx, Fact.POSTED, f.Booked(entries), at, actor="svc_ledger")


def release(
    tick: Tick,
    at: Input,
    tx: Transaction,
    fact: Fact,
    reason: str,
    *,
    actor: str,
    cause: str | None = None,
    unchosen: f.Unchosen | UnsetType = UNSET,
) -> None:
    """End the hold of a transaction without moving money, as part of `fact`."""
    _, settlement, source = _rail_path(tick, tx)
    tick.counted(counters(tx))
    done = tick.book.release(
        source, settlement, tx.held, tick.now, intent=tx.id, ordinal=tx.ordinal,
        fees=charging.at_release(tick, tx, source),
    )  # fmt: skip
    if isinstance(done, Objection):
        raise AssertionError(f"a hold in state {tx.state} cannot be released: {done.code}")
    entries = tuple(posting.entry() for posting in done)
    tick.move(tx, fact, f.Booked(entries, reason, unchosen=unchosen), at, actor=actor, cause=cause)


def _refuse(tick: Tick, at: Input, tx: Transaction, objection: Objection) -> None:
    facts = f.Refused(objection.code, objection.detail)
    tick.move(tx, Fact.LEDGER_REFUSED, facts, at, actor="svc_ledger")


def path_of(tick: Tick, tx: Transaction) -> tuple[AccountRef, ...]:
    """Return the accounts that the money of a transaction went through, destination first, locked."""
    command = tx.command
    names = [command.destination, command.source] if tx.went is None else [*tx.went]
    if command.kind is not IntentKind.BOOK_TRANSFER:
        names.insert(1, settlement_name(command.currency, tick.account(tx.tenant, command.source)))
    path = []
    for name in names:
        ref = tick.account(tx.tenant, name)
        if ref is None:
            raise LookupError("an account that a reserve found is gone")
        path.append(ref)
    tick.lock(*path)
    return tuple(path)


def _rail_path(tick: Tick, tx: Transaction) -> tuple[AccountRef, AccountRef, AccountRef]:
    destination, settlement, source = path_of(tick, tx)
    return destination, settlement, source


def counters(tx: Transaction) -> tuple[VelocityKey, ...]:
    """Return the counters that a transaction was counted in, to be locked before it gives back."""
    return tuple([VelocityKey(tx.tenant, use.counter, use.day, tx.command.currency) for use in tx.velocity])
