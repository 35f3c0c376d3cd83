"""What a transaction of several postings asks of the ledger: to book a journal, to convert, and to give back.

A journal is booked as it says. A conversion is priced first, by the quote that it names or by the rate in force at the
time of the tick, and becomes two linked pairs through the tenant's liquidity accounts, with the fee and the spread as
entries of their own. What fails after a part of it was posted is given back in the tick that fails it; where the ledger
refuses that, a case is opened and a person goes on from there."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from msgspec import UNSET, UnsetType

from zentra.actors import charging
from zentra.actors.bounding import bounds_of, dated_of
from zentra.actors.expiring import put_off
from zentra.actors.ledgering import begun, path_of
from zentra.actors.tick import Input, Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import COMPOSED, SYSTEM_ACCOUNT_TYPES, Fact, IntentKind, State
from zentra.runtime.ledger.book import AccountRef, Objection, Posting
from zentra.runtime.ledger.conversion import Price, price_now, price_of_quote
from zentra.runtime.ledger.journal import Move, give_back, transact
from zentra.runtime.ledger.names import book_of, system_name

__all__ = ["book", "convert", "debt_waits", "names_of", "parties", "payer", "reverse", "settle_debt"]

REFUSED_CASE: Final = "reversal_refused"
_HOUSE: Final = ("liquidity", "fee")
_WAYS: Final[Mapping[bool, str]] = {False: "reversal", True: "forced_reversal"}


def book(tick: Tick, at: Input, tx: Transaction) -> None:
    """Book the legs of a journal, all of them or none."""
    command = tx.command
    assert command.legs is not UNSET
    moves = []
    for place, leg in enumerate(command.legs):
        named = tick.account(tx.tenant, leg.source), tick.account(tx.tenant, leg.destination)
        moves.append(Move("book", named, 0, int(leg.minor), leg.currency, f"legs/{place}"))
    refs = [ref for move in moves for ref in move.named]
    bounds, dated = bounds_of(tick, tx), dated_of(tick, tx, *refs)
    tick.lock(*refs)
    original = None if command.corrects is UNSET else tick.named(tx.tenant, command.corrects)
    done: tuple[Posting, ...] | Objection
    if command.corrects is not UNSET and original in (None, tx.id):
        done = Objection("corrected_not_found", command.corrects)
    else:
        done = transact(tick.book, moves, tick.now, intent=tx.id, ordinal=tx.ordinal, bounds=bounds, dated=dated)
    if original is not None and not isinstance(done, Objection):
        tick.writes.corrections.append((tx.tenant, original, tx.id, tick.now))
    begun(tick, at, tx, Fact.BOOKED, done, needs=partial(_taken, moves))


def _taken(moves: Sequence[Move], account_id: str) -> int:
    """Return what moves together take from an account."""
    taken = 0
    for move in moves:
        out, into = [ref is not None and ref.account_id == account_id for ref in (move.named[0], move.named[-1])]
        taken += move.posted * (out - into)
    return taken


def convert(tick: Tick, at: Input, tx: Transaction) -> None:
    """Sell what a conversion sells, at its price, or refuse it."""
    command = tx.command
    terms = command.conversion
    assert terms is not UNSET
    sell, buy, account = command.currency, terms.buy, tick.account
    source, destination = account(tx.tenant, command.source), account(tx.tenant, command.destination)
    book = book_of(source)
    taken, given, fees, spreads = [
        account(tx.tenant, system_name(kind, currency, book)) for kind in _HOUSE for currency in (sell, buy)
    ]
    bounds = bounds_of(tick, tx)
    tick.lock(source, destination, taken, given, fees, spreads)
    price = _price(tick, tx)
    if isinstance(price, Objection):
        begun(tick, at, tx, Fact.BOOKED, price)
        return
    moves = [
        Move("book", (source, taken), 0, price.sold - price.fee, sell, "sold"),
        Move("conversion_fee", (source, fees), 0, price.fee, sell, "fee"),
        Move("book", (given, destination), 0, price.bought, buy, "bought"),
        Move("spread", (given, spreads), 0, price.spread, buy, "spread"),
    ]
    moves = [move for move in moves if move.posted]
    done = transact(tick.book, moves, tick.now, intent=tx.id, ordinal=tx.ordinal, bounds=bounds)
    begun(tick, at, tx, Fact.BOOKED, done, priced=_priced(price))


def _price(tick: Tick, tx: Transaction) -> Price | Objection:
    command, terms = tx.command, tx.command.conversion
    assert terms is not UNSET
    if terms.quote is not UNSET:
        return price_of_quote(
            tick.rules.open_quote(terms.quote), tenant=tx.tenant, intent_id=tx.intent_id, sell=command.currency,
            buy=terms.buy, minor=command.amount, now=tick.now,
        )  # fmt: skip
    rates = tick.configuration.rates.get(tx.tenant, ())
    rate = next((rate for rate in rates if (rate.sell, rate.buy) == (command.currency, terms.buy)), None)
    return price_now(rate, command.amount, tick.now)


def _priced(price: Price) -> f.Priced:
    quote: str | UnsetType = UNSET if price.quote is None else price.quote
    return f.Priced(
        str(price.sold), str(price.bought), str(price.fee), str(price.spread), price.mid, price.spread_bps,
        price.version, quote,
    )  # fmt: skip


def reverse(tick: Tick, tx: Transaction, minor: int, *, forced: bool = False) -> tuple[Posting, ...] | Objection:
    """Return the postings that give `minor` of a transaction back, or the first objection."""
    if tx.command.kind not in COMPOSED:
        path = path_of(tick, tx)
        fees, relief = charging.at_reversal(tick, tx, path, minor)
        return tick.book.reverse(
            path, minor, tx.posted, tx.given_back, tick.now, intent=tx.id, ordinal=tx.ordinal, fees=fees,
            relief=relief, forced=forced,
        )  # fmt: skip
    moves = []
    refs = tick.booked_on(tx.tenant, [name for entry in tx.booked for name in (entry.debit, entry.credit)])
    for entry in reversed(tx.booked):
        way = refs[entry.credit], refs[entry.debit]
        moves.append(Move(_WAYS[forced], way, 0, int(entry.posted), entry.currency, entry.posting))
    tick.lock(*[ref for move in moves for ref in move.named])
    if len(moves) == 1:
        lone = refs[tx.booked[0].credit], refs[tx.booked[0].debit]
        return tick.book.reverse(
            lone, minor, tx.posted, tx.given_back, tick.now, intent=tx.id, ordinal=tx.ordinal, forced=forced
        )
    return give_back(
        tick.book, moves, minor, tx.posted, tx.given_back, tick.now, intent=tx.id, ordinal=tx.ordinal, forced=forced
    )


def settle_debt(tick: Tick, at: Input, tx: Transaction) -> None:
    """Give back what was posted of a transaction that has failed; a person is asked where the ledger refuses that, and
    nobody yet where holds that have expired keep what is missing."""
    done = reverse(tick, tx, tx.posted - tx.given_back)
    if isinstance(done, Objection):
        if put_off(tick, at, tx, done, _owed_by(tx, done.detail)):
            return
        tick.open_case(tx, REFUSED_CASE, {"code": done.code, "detail": done.detail, "posted": str(tx.posted)}, at)
        return
    facts = f.Booked(tuple([posting.entry() for posting in done]), "failed after a part of it was posted")
    tick.move(tx, Fact.REVERSED_IN_FULL, facts, at, actor="svc_ledger")


def _owed_by(tx: Transaction, account_id: str) -> int:
    """Return what giving back takes from an account that was paid."""
    if tx.command.kind not in COMPOSED:
        return tx.posted - tx.given_back
    got = sum([int(entry.posted) for entry in tx.booked if entry.credit == account_id])
    return got - sum([int(entry.posted) for entry in tx.booked if entry.debit == account_id])


def debt_waits(tx: Transaction) -> bool:
    """Return whether what a transaction has posted before it failed is still to be given back, by nobody's hand."""
    owes = tx.state is State.FAILED and tx.posted > tx.given_back
    return owes and REFUSED_CASE not in tx.cases_open.values()


def payer(tick: Tick, tx: Transaction) -> AccountRef | None:
    """Return the account that the policy judges a transaction by: of many, one without a floor before any other, so
    that no leg hides behind the first."""
    command = tx.command
    first = tick.account(tx.tenant, command.source)
    if command.legs is UNSET:
        return first
    sources = [tick.account(tx.tenant, leg.source) for leg in command.legs]
    return next((ref for ref in sources if ref is not None and ref.type in SYSTEM_ACCOUNT_TYPES), first)


def parties(tick: Tick, tx: Transaction) -> dict[str, AccountRef | None] | None:
    """Return the accounts that the legs of a journal name, by that name; None of anything else."""
    legs = tx.command.legs
    if legs is UNSET:
        return None
    return {name: tick.account(tx.tenant, name) for leg in legs for name in (leg.source, leg.destination)}


def names_of(command: IntentCommand, book: str) -> list[str]:
    """Return the names of all accounts that an intent of this book touches or looks at, each once."""
    names = [command.source, command.destination]
    if command.legs is not UNSET:
        names += [name for leg in command.legs for name in (leg.source, leg.destination)]
    elif command.conversion is not UNSET:
        pair = command.currency, command.conversion.buy
        names += [system_name(kind, currency, book) for kind in _HOUSE for currency in pair]
    elif command.kind is not IntentKind.BOOK_TRANSFER:
        names.append(system_name("settlement", command.currency, book))
    if command.conditions is not UNSET:
        names += [condition.account for condition in command.conditions]
    return list(dict.fromkeys(names))
