"""Transactions of many postings: all of them are booked or none, and what is asked of balances is asked of the result.

Objections stand in the order of the ledger for the whole transaction: what is wrong with any amount comes before what
is wrong with any account, whichever posting is the first. Funds are judged by what all postings together leave on an
account, so their order does not matter: money that comes in by one may go out by another. An account that they leave
with no less than it had is not asked. Conditions (`Bound`) are judged on the balances as the transaction would leave
them, in the write; what they rest on is exact: more can be as bad as less.

The order, with what this adds to the ledger's own: amounts, accounts_must_be_different, account_not_found,
account_closed, account_frozen, currency_mismatch, book_mismatch, effective_at_in_future, period_closed,
balance_condition_unreadable, insufficient_funds, balance_condition_failed, amount_overflow (of a counter)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from zentra.runtime.ledger.book import (
    NO_CHARGES,
    AccountRef,
    Balance,
    Book,
    Charges,
    Objection,
    Posting,
    amount_objection,
    available,
    reversal_objection,
)
from zentra.runtime.ledger.money import MINOR_MAX

__all__ = ["FUTURE_TOLERANCE", "Bound", "Dated", "Move", "give_back", "measure", "transact", "unmet"]

FUTURE_TOLERANCE: Final = timedelta(seconds=60)  # that a client's clock may be ahead of the store's
_COUNTERS: Final = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")


class Move(Struct, frozen=True, gc=False):
    """One posting to be made. `named` are its accounts: the first gives to the last, and one between them is where the
    money goes in the end. `where` names it in objections."""

    kind: str
    named: tuple[AccountRef | None, ...]
    pending: int
    posted: int
    currency: str
    where: str = ""


class Bound(Struct, frozen=True, gc=False):
    """What an account has to be left with; `ref` is None where there is no such account."""

    ref: AccountRef | None
    of: str
    least: int | None
    most: int | None
    where: str = ""


class Dated(Struct, frozen=True, gc=False):
    """From when a transaction counts, and until when the books are closed."""

    effective_at: datetime
    now: datetime
    closed_until: datetime | None = None


def transact(
    book: Book,
    moves: Sequence[Move],
    at: datetime,
    *,
    intent: str,
    ordinal: int,
    bounds: Sequence[Bound] = (),
    dated: Dated | None = None,
    charges: Charges = NO_CHARGES,
) -> tuple[Posting, ...] | Objection:
    """Return the postings that the moves make, in their order, and those that are charged for them, or the first
    objection; then nothing is changed."""
    objection = _of_amounts(moves) or _of_accounts(moves, bounds) or _of_date(dated) or charges.objection
    moves = (*moves, *[Move(leg[0], leg[1:3], leg[3], leg[4], leg[1].currency, "fee") for leg in charges.legs])
    if objection is None:
        changes = _changes(moves)
        objection = _readable(bounds) or _short(book, moves, changes) or unmet(book, bounds, changes)
        objection = objection or _beyond(book, moves, changes)
    if objection is not None:
        return objection
    return book.put(intent, ordinal, at, _legs(moves), None if dated is None else dated.effective_at)


def give_back(
    book: Book,
    moves: Sequence[Move],
    minor: int,
    posted: int,
    given_back: int,
    at: datetime,
    *,
    intent: str,
    ordinal: int,
    forced: bool = False,
) -> tuple[Posting, ...] | Objection:
    """Return the postings that take a transaction of many back as a whole: `moves`, which lead the way back.

    `minor`, `posted` and `given_back` are of the amount that the transaction goes by. One that is `forced` is not
    refused for want of funds; the kind of its moves says so. A closed or frozen account lets money go the way it
    came."""
    objection = reversal_objection(minor, posted, given_back)
    if objection is not None:
        return objection
    if minor < posted:
        return Objection("reversal_indivisible", f"{len(moves)} postings go back together")
    changes = _changes(moves)
    objection = (None if forced else _short(book, moves, changes)) or _beyond(book, moves, changes)
    return objection or book.put(intent, ordinal, at, _legs(moves))


def measure(ref: AccountRef, balance: Balance, of: str) -> int:
    """Return a balance as people see it: available, posted or pending."""
    if of == "available":
        return available(ref, balance)
    sign = 1 if ref.normal_side == "credit" else -1
    if of == "posted":
        return sign * (balance.credits_posted - balance.debits_posted)
    return sign * (balance.credits_pending - balance.debits_pending)


def unmet(book: Book, bounds: Iterable[Bound], changes: Mapping[int, Balance]) -> Objection | None:
    """Return an objection where a balance, once it has changed, would be out of its bounds.

    The accounts have floors and are in the book: others are never read."""
    for bound in bounds:
        if bound.ref is not None:
            book.exact.add(bound.ref.id)
    for bound in bounds:
        ref = bound.ref
        if ref is None or not ref.guarded:
            raise ValueError("a condition on what cannot be read was to be refused before")
        left = measure(ref, _plus(book.balances[ref.id], changes.get(ref.id)), bound.of)
        if bound.least is not None and left < bound.least:
            said = _said(bound, ref, left, f"at least {bound.least}")
            kept = ("", 0) if bound.of == "posted" else (ref.account_id, bound.least - left)
            return Objection("balance_condition_failed", said, *kept)
        if bound.most is not None and left > bound.most:
            return Objection("balance_condition_failed", _said(bound, ref, left, f"at most {bound.most}"))
    return None


def _said(bound: Bound, ref: AccountRef, left: int, wanted: str) -> str:
    return f"{bound.where}: {ref.account_id} would have {left} {bound.of}, not {wanted}"


def _of_amounts(moves: Sequence[Move]) -> Objection | None:
    for move in moves:
        objection = amount_objection(move.pending or move.posted)
        if objection is not None:
            return Objection(objection.code, move.where)
    return None


def _of_accounts(moves: Sequence[Move], bounds: Sequence[Bound]) -> Objection | None:
    for move in moves:
        ids = [ref.id for ref in move.named if ref is not None]
        if len(set(ids)) < len(ids):
            return Objection("accounts_must_be_different", _at(move, "both accounts are one"))
    for move in moves:
        if None in move.named:
            role = ("source", "destination", "settlement")[move.named.index(None)] if len(move.named) == 3 else (
                ("source", "destination")[move.named.index(None)])  # fmt: skip
            return Objection("account_not_found", _at(move, role))
    for bound in bounds:
        if bound.ref is None:
            return Objection("account_not_found", bound.where)
    for status in ("closed", "frozen"):
        for move in moves:
            for ref in move.named:
                if ref is not None and ref.status == status:
                    return Objection(f"account_{status}", _at(move, ref.account_id))
    for move in moves:
        for ref in move.named:
            if ref is not None and ref.currency != move.currency:
                detail = f"{ref.account_id} is in {ref.currency}, not {move.currency}"
                return Objection("currency_mismatch", _at(move, detail))
    for move in moves:
        refs = [ref for ref in move.named if ref is not None]
        for ref in refs:
            if ref.book != refs[0].book:
                detail = f"{ref.account_id} is in the book {ref.book}, not {refs[0].book}"
                return Objection("book_mismatch", _at(move, detail))
    return None


def _at(move: Move, detail: str) -> str:
    return f"{move.where}: {detail}" if move.where else detail


def _of_date(dated: Dated | None) -> Objection | None:
    if dated is None:
        return None
    if dated.effective_at > dated.now + FUTURE_TOLERANCE:
        return Objection("effective_at_in_future", dated.effective_at.isoformat())
    if dated.closed_until is not None and dated.effective_at < dated.closed_until:
        return Objection("period_closed", f"the books are closed until {dated.closed_until.isoformat()}")
    return None


def _readable(bounds: Iterable[Bound]) -> Objection | None:
    for bound in bounds:
        if bound.ref is not None and not bound.ref.guarded:
            return Objection("balance_condition_unreadable", f"{bound.where}: {bound.ref.account_id} has no limit")
    return None


def _legs(moves: Iterable[Move]) -> list[tuple[str, AccountRef, AccountRef, int, int]]:
    legs = []
    for move in moves:
        debit, credit = move.named[0], move.named[-1]
        if debit is None or credit is None or (debit.tenant, debit.currency) != (credit.tenant, credit.currency):
            raise ValueError(f"no posting can be {move.where or move.kind}")
        legs.append((move.kind, debit, credit, move.pending, move.posted))
    return legs


def _changes(moves: Iterable[Move]) -> dict[int, Balance]:
    """Return what the moves do to each account together."""
    changes: dict[int, Balance] = {}
    for _, debit, credit, pending, posted in _legs(moves):
        giving, taking = changes.setdefault(debit.id, Balance()), changes.setdefault(credit.id, Balance())
        giving.debits_pending += pending
        giving.debits_posted += posted
        taking.credits_pending += pending
        taking.credits_posted += posted
    return changes


def _guarded(moves: Iterable[Move]) -> dict[int, AccountRef]:
    refs = [ref for move in moves for ref in (move.named[0], move.named[-1])]
    return {ref.id: ref for ref in refs if ref is not None and ref.guarded}


def _short(book: Book, moves: Sequence[Move], changes: Mapping[int, Balance]) -> Objection | None:
    """Return an objection where the moves together take an account below its floor."""
    for key, ref in _guarded(moves).items():
        before = book.balances[key]
        left = available(ref, _plus(before, changes[key]))
        if left < available(ref, before):
            book.weighed[key] = ref
            if left < -ref.overdraft_limit:
                book.short.add(key)
                return Objection("insufficient_funds", ref.account_id)
    return None


def _beyond(book: Book, moves: Sequence[Move], changes: Mapping[int, Balance]) -> Objection | None:
    for key, ref in _guarded(moves).items():
        after = _plus(book.balances[key], changes[key])
        if max(getattr(after, name) for name in _COUNTERS) > MINOR_MAX:
            return Objection("amount_overflow", ref.account_id)
    return None


def _plus(balance: Balance, change: Balance | None) -> Balance:
    if change is None:
        return balance
    return Balance(*[getattr(balance, name) + getattr(change, name) for name in _COUNTERS])
