"""Holds: what can be done with money that was spoken for, as plain functions over a fold and a book.

    place     reserve  (+a,  0)          source -> settlement
    capture   post     (-a, +a), settle  source -> settlement -> destination, and of the last one
              release  (-r,  0)          source -> settlement, for the rest
    void      release  (-r,  0)          and so does expiry
    reverse   reversal ( 0, +a)          along the way of each capture, the newest first

A hold ends exactly once, and what ended it is told to whoever comes later. Expiry is a comparison: from its instant on
a hold has expired, whether or not that was booked. The order of the checks is part of the contract. A freeze stops what
begins: a capture of a hold that stands goes through. What is closed takes nothing any more.

These are commands of the book like its own, in a module of their own, so they use what it keeps to itself."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from zentra.runtime.intents.facts import HoldMoved
from zentra.runtime.ledger.book import AccountRef, Book, Objection, Posting, reversal_objection

__all__ = [
    "CAPTURES_MAX",
    "HOLD_ENDS",
    "Capture",
    "Hold",
    "capture",
    "ended",
    "folded",
    "given_back",
    "place",
    "reverse",
]

CAPTURES_MAX: Final = 100
"""Of one hold: the last of them has to end it. What gives them back is one record, with two entries for each."""

HOLD_ENDS: Final = {
    "hold_captured": "hold_already_posted",
    "hold_voided": "hold_already_voided",
    "hold_expired": "hold_expired",
}
"""What is said to whoever comes after each way of ending."""


class Capture(Struct, frozen=True, gc=False):
    """What went to one destination at once, and how much of it came back."""

    destination: str
    minor: int
    given_back: int = 0


class Hold(Struct, frozen=True, gc=False):
    """A hold as its records say: until when it stands, what was captured, and how it ended, if it did."""

    expires_at: datetime
    captures: tuple[Capture, ...] = ()
    end: str = ""
    ended_at: datetime | None = None


def folded(hold: Hold | None, facts: HoldMoved, at: datetime, seconds: int, *, settled: bool) -> Hold:
    """Return the hold after one of its records, which is of `at`; `seconds` is how long it lasts, `settled` whether the
    intent has settled by then."""
    if hold is None:
        hold = Hold(at + timedelta(seconds=seconds))
    captures = list(hold.captures)
    if facts.code == "hold_captured":
        captures += [Capture(entry.credit, int(entry.posted)) for entry in facts.entries if entry.posting == "settle"]
    elif facts.code == "hold_reversed":
        for place, (_, minor) in _shared_out(hold.captures, given_back(facts)):
            captures[place] = replace(captures[place], given_back=captures[place].given_back + minor)
    ends = settled and not hold.end
    return Hold(hold.expires_at, tuple(captures), facts.code if ends else hold.end, at if ends else hold.ended_at)


def given_back(facts: HoldMoved) -> int:
    """Return what a record gives back to where the money was held: the last legs of its reversals."""
    legs = [entry for entry in facts.entries if entry.posting in ("reversal", "forced_reversal")]
    return sum(int(entry.posted) for entry in legs[1::2])  # each way back has two legs, settlement in between


def ended(hold: Hold | None, now: datetime) -> Objection | None:
    """Return why a hold can neither be captured nor voided any more, or None where it can."""
    if hold is None:
        return Objection("hold_not_found")
    if hold.end:
        return Objection(HOLD_ENDS[hold.end])
    return Objection("hold_expired") if now >= hold.expires_at else None


def place(
    book: Book, source: AccountRef | None, settlement: AccountRef | None, destination: AccountRef | None, minor: int,
    at: datetime, *, intent: str, ordinal: int, named: bool,
) -> tuple[Posting, ...] | Objection:  # fmt: skip
    """Return the posting that holds `minor` on `source`, or the first objection; where a destination is `named` it has
    to be one that money can go to."""
    if named:
        return book.reserve(source, settlement, destination, minor, at, intent=intent, ordinal=ordinal)
    objection = book._objection(minor, None, source, settlement)
    if objection is not None or source is None or settlement is None:
        return objection or Objection("account_not_found")
    return book._write(intent, ordinal, at, ("reserve", source, settlement, minor, 0))


def capture(
    book: Book, path: tuple[AccountRef, AccountRef, AccountRef | None], minor: int, held: int, at: datetime,
    *, last: bool, named: bool, intent: str, ordinal: int, permitted: bool = True,
) -> tuple[Posting, ...] | Objection:  # fmt: skip
    """Return the postings that capture `minor` of what is held, and where it is the `last` capture give back the rest;
    or the first objection. `path` is source, settlement, destination; `named` says that a destination was given at all,
    `permitted` that the policy lets money go there.

    That the hold stands was asked before, by `ended`."""
    source, settlement, destination = path
    if not named:
        return Objection("destination_missing")
    if destination is None:
        return Objection("account_not_found", "destination")
    if destination.id in (source.id, settlement.id):
        return Objection("accounts_must_be_different", destination.account_id)
    for ref in (source, destination):
        if ref.status == "closed":
            return Objection("account_closed", ref.account_id)
    if destination.currency != source.currency:
        detail = f"{destination.account_id} is in {destination.currency}, not {source.currency}"
        return Objection("currency_mismatch", detail)
    if destination.book != source.book:
        return Objection("book_mismatch", f"{destination.account_id} is in {destination.book}, not {source.book}")
    if not permitted:
        return Objection("destination_not_permitted", destination.account_id)
    if minor > held:
        return Objection("exceeds_hold", f"{held} is held")
    short = book._short(settlement, destination, minor)
    if short is not None:
        return short
    legs = [("post", source, settlement, -minor, minor), ("settle", settlement, destination, 0, minor)]
    if last and held > minor:
        legs.append(("release", source, settlement, minor - held, 0))
    return book._write(intent, ordinal, at, *legs)


def reverse(
    book: Book, source: AccountRef, settlement: AccountRef, destinations: dict[str, AccountRef],
    captures: tuple[Capture, ...], minor: int, at: datetime, *, intent: str, ordinal: int, forced: bool = False,
) -> tuple[Posting, ...] | Objection:  # fmt: skip
    """Return the postings that give `minor` of what was captured back, the newest capture first and all or nothing; or
    the first objection. `destinations` are those of the captures, by name. One that is `forced` is not refused for want
    of funds, and says so by its kind."""
    posted, back = sum(one.minor for one in captures), sum(one.given_back for one in captures)
    objection = reversal_objection(minor, posted, back)
    if objection is not None:
        return objection
    legs: list[tuple[str, AccountRef, AccountRef, int, int]] = []
    owed: dict[str, int] = {}
    kind = "forced_reversal" if forced else "reversal"
    for _, (name, part) in _shared_out(captures, minor):
        owed[name] = owed.get(name, 0) + part
        legs += [(kind, debit, credit, 0, part) for debit, credit in pairwise((destinations[name], settlement, source))]
    for name, total in () if forced else owed.items():
        short = book._short(destinations[name], source, total)
        if short is not None:
            return short
    return book._write(intent, ordinal, at, *legs)


def _shared_out(captures: tuple[Capture, ...], minor: int) -> list[tuple[int, tuple[str, int]]]:
    """Return by which captures an amount is given back: their places, destinations and parts, the newest first."""
    shares = []
    for place_, one in reversed(list(enumerate(captures))):
        part = min(minor, one.minor - one.given_back)
        if part > 0:
            shares.append((place_, (one.destination, part)))
            minor -= part
    return shares
