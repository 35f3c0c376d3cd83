"""The double-entry rules: commands over loaded balances give postings or the first objection.

A posting moves one amount between two accounts of one tenant, book and currency, so it balances by construction; its
`pending` and `posted` are signed effects on each layer of both sides:

    reserve  (+a,  0)   source -> settlement     the amount is spoken for
    release  (-a,  0)   source -> settlement     it no longer is
    post     (-a, +a)   source -> settlement     the hold becomes money
    settle   ( 0, +a)   settlement -> destination
    book     ( 0, +a)   source -> destination    no rail in between
    reversal ( 0, +a)   the way back, linked to the original by its intent
    forced_reversal     the same, where the payee may go below its limit: the one exemption from that rule
    conversion_fee      source -> fee          ( 0, +a) what a conversion costs
    spread   ( 0, +a)   liquidity -> fee       what it is dearer than the mid rate

What is charged for it stands in postings of its own, which a command writes with the others or not at all:

    fee_reserve (+f,  0)  source -> fee     with the reserve
    fee_release (-f,  0)  source -> fee     with its release
    fee         (-f, +f)  source -> fee     what was reserved, with the post; (0, +f) where nothing was
    fee_refund  ( 0, +f)  the way back

Journals and conversions are several postings in one transaction: see `journal.py`. A refused command changes nothing.
The order of the checks is part of the contract. Counters are summed as Python integers and refused beyond 64 bits. An
account without a floor is never read: only its change is kept, and what that adds up to is bounded by its column."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from msgspec import UNSET, Struct
from msgspec.structs import astuple, replace

from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.intents.facts import Entry
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.ledger.monitors import Crossing, Monitor, crossings
from zentra.runtime.moments import timestamp

__all__ = [
    "NO_CHARGES",
    "AccountRef",
    "Balance",
    "Book",
    "Charges",
    "Leg",
    "Objection",
    "Posting",
    "amount_objection",
    "available",
    "posting_hash",
    "reversal_objection",
]


class AccountRef(Struct, frozen=True, gc=False):
    """What a decision has to know about an account besides its counters: all but status and limit never changes."""

    id: int
    tenant: str
    account_id: str
    type: str
    currency: str
    normal_side: str
    guarded: bool
    overdraft_limit: int = 0
    status: str = "open"
    book: str = "default"
    monitors: tuple[Monitor, ...] = ()
    party: PartyRef | None = None


class Balance(Struct, gc=False):
    """The four counters of an account; of an account without a floor, only the change."""

    debits_pending: int = 0
    credits_pending: int = 0
    debits_posted: int = 0
    credits_posted: int = 0


class Posting(Struct, frozen=True, gc=False):
    """One immutable row of the ledger; `effective_at` says when it counts where that is not when it was recorded."""

    intent: str
    ordinal: int
    tenant: str
    kind: str
    debit: AccountRef
    credit: AccountRef
    pending: int
    posted: int
    at: datetime
    hash: bytes
    effective_at: datetime | None = None

    def entry(self) -> Entry:
        """Return this posting as it stands in a record."""
        return Entry(
            self.ordinal, self.kind, self.debit.account_id, self.credit.account_id, self.debit.currency,
            str(self.pending), str(self.posted), self.hash.hex(),
            UNSET if self.effective_at is None else timestamp(self.effective_at),
        )  # fmt: skip


class Objection(Struct, frozen=True):
    """Why a ledger command was refused; of a condition that holds could keep from being met, what its account lacks."""

    code: str
    detail: str = ""
    account: str = ""
    missing: int = 0


Leg = tuple[str, AccountRef, AccountRef, int, int]
"""A posting to be: its kind, debit, credit, and its effects on the pending and on the posted layer."""


class Charges(NamedTuple):
    """What a movement costs: its own legs, what of that its source needs besides the amount, and what speaks against
    it, which is said where all accounts are in order and before anybody asks for funds."""

    legs: tuple[Leg, ...] = ()
    taken: int = 0
    objection: Objection | None = None


NO_CHARGES: Final = Charges()


def available(ref: AccountRef, balance: Balance) -> int:
    """Return what can be taken out: incoming pending amounts never count, outgoing ones always do."""
    if ref.normal_side == "credit":
        return balance.credits_posted - balance.debits_posted - balance.debits_pending
    return balance.debits_posted - balance.credits_posted - balance.credits_pending


_UNWATCHED: Final[list[tuple[AccountRef, Balance]]] = []
_ROLES: Final = ("source", "destination", "settlement")


class Book:
    """The balances that one tick has locked, and what its commands did to them.

    `loaded` maps account ids with a floor to their balances. Everything a command refuses leaves no trace here. A
    posting that no rule could allow (one account, two currencies or tenants, more than is held) raises ValueError."""

    def __init__(self, loaded: dict[int, Balance]) -> None:
        self.balances = loaded
        self.changes: dict[int, Balance] = defaultdict(Balance)
        self.postings: list[Posting] = []
        self.weighed: dict[int, AccountRef] = {}  # accounts whose balance a decision has rested on
        self.short: set[int] = set()  # those that had too little
        self.exact: set[int] = set()  # those of which more could be as bad as less
        self.crossed: list[Crossing] = []  # monitors that commands have tripped, until somebody tells of them

    def reserve(
        self, source: AccountRef | None, settlement: AccountRef | None, destination: AccountRef | None, minor: int,
        at: datetime, *, intent: str, ordinal: int, charges: Charges = NO_CHARGES,
    ) -> tuple[Posting, ...] | Objection:  # fmt: skip
        """Return the postings that hold `minor` on `source`, and what is charged for it, or the first objection.

        All three accounts have to agree on the currency, and `settlement` is the one of the intent's currency."""
        objection = self._objection(minor, None, source, destination, settlement, charges=charges)
        if objection is not None or source is None or settlement is None:
            return objection or Objection("account_not_found")
        return self._write(intent, ordinal, at, ("reserve", source, settlement, minor, 0), *charges.legs)

    def book(
        self, source: AccountRef | None, destination: AccountRef | None, minor: int, at: datetime,
        *, currency: str, intent: str, ordinal: int, charges: Charges = NO_CHARGES,
    ) -> tuple[Posting, ...] | Objection:  # fmt: skip
        """Return the postings that move `minor` of `currency` at once, and what is charged for it, or the first
        objection."""
        objection = self._objection(minor, currency, source, destination, charges=charges)
        if objection is not None or source is None or destination is None:
            return objection or Objection("account_not_found")
        return self._write(intent, ordinal, at, ("book", source, destination, 0, minor), *charges.legs)

    def post(
        self, source: AccountRef, settlement: AccountRef, destination: AccountRef, minor: int, held: int, at: datetime,
        *, intent: str, ordinal: int, fees: tuple[Leg, ...] = (),
    ) -> tuple[Posting, ...] | Objection:  # fmt: skip
        """Return the postings that turn a hold into money at its destination, two and those of `fees`, or the first
        objection."""
        objection = amount_objection(minor)
        if objection is not None:
            return objection
        if held == 0:
            return Objection("hold_not_found")
        for ref in (source, destination):
            if ref.status == "closed":
                return Objection("account_closed", ref.account_id)
        if minor > held:
            return Objection("exceeds_hold", f"{minor} of {held}")
        short = self._short(settlement, destination, minor)
        if short is not None:
            return short
        return self._write(
            intent,
            ordinal,
            at,
            ("post", source, settlement, -minor, minor),
            ("settle", settlement, destination, 0, minor),
            *fees,
        )

    def release(
        self, source: AccountRef, settlement: AccountRef, held: int, at: datetime, *, intent: str, ordinal: int,
        fees: tuple[Leg, ...] = (),
    ) -> tuple[Posting, ...] | Objection:  # fmt: skip
        """Return the posting that ends a hold without moving money, and those of `fees`, or the first objection."""
        if held == 0:
            return Objection("hold_not_found")
        return self._write(intent, ordinal, at, ("release", source, settlement, -held, 0), *fees)

    def reverse(
        self, path: tuple[AccountRef, ...], minor: int, posted: int, given_back: int, at: datetime,
        *, intent: str, ordinal: int, fees: tuple[Leg, ...] = (), relief: int = 0, forced: bool = False,
    ) -> tuple[Posting, ...] | Objection:  # fmt: skip
        """Return the postings that give `minor` back along `path` (destination first), or the first objection.

        `fees` are given back before; `relief` is what of them the destination gets, so that it needs the less. One that
        is `forced` is not refused for want of funds, and says so by its kind."""
        objection = reversal_objection(minor, posted, given_back)
        if objection is not None:
            return objection
        short = None if forced else self._short(path[0], path[-1], minor, -min(relief, minor))
        if short is not None:
            return short
        kind = "forced_reversal" if forced else "reversal"
        legs = [*fees, *[(kind, debit, credit, 0, minor) for debit, credit in pairwise(path)]]
        return self._write(intent, ordinal, at, *legs)

    def _objection(
        self, minor: int, currency: str | None, *named: AccountRef | None, charges: Charges = NO_CHARGES
    ) -> Objection | None:
        """Return the first objection to moving `minor` between these accounts, in the documented order.

        They are named in the order of `_ROLES`. The first gives to the last; one between them is where the money goes
        in the end."""
        objection = amount_objection(minor)
        if objection is not None:
            return objection
        source, given_to, met = named[0], named[-1], []
        for ref in named:  # nearly always all is well: it is looked for in one go, and what is not in order
            if ref is None or source is None or ref.status != "open" or ref.id in met:
                return _accounts_objection(named, currency)
            if ref.currency != (currency or source.currency) or ref.book != source.book:
                return _accounts_objection(named, currency)
            met.append(ref.id)
        assert source is not None
        assert given_to is not None
        return charges.objection or self._short(source, given_to, minor, charges.taken)

    def _short(self, debit: AccountRef, credit: AccountRef, minor: int, more: int = 0) -> Objection | None:
        """Return an objection where the move takes an account below its floor; the debit needs so much `more`.

        A debit takes from a credit-normal account, and a credit takes from a debit-normal one."""
        for ref, losing_side in ((debit, "credit"), (credit, "debit")):
            if ref.guarded and ref.normal_side == losing_side:
                self.weighed[ref.id] = ref
                needed = minor + more if ref is debit else minor
                if available(ref, self.balances[ref.id]) + ref.overdraft_limit < needed:
                    self.short.add(ref.id)
                    return Objection("insufficient_funds", ref.account_id)
        return None

    def _write(self, intent: str, ordinal: int, at: datetime, *legs: Leg) -> tuple[Posting, ...] | Objection:
        balances = self.balances
        # where several legs meet on one side of an account, each may fit and all together not
        if len(legs) > 1 and (len(legs) > 2 or legs[0][1].id == legs[1][1].id or legs[0][2].id == legs[1][2].id):
            objection = self._together(legs)
            if objection is not None:
                return objection
        for _, debit, credit, pending, posted in legs:
            if debit.id == credit.id or debit.tenant != credit.tenant or debit.currency != credit.currency:
                raise ValueError(f"no posting can join {debit.account_id} and {credit.account_id}")
            balance = balances.get(debit.id)
            if balance is not None:
                objection = _beyond(debit, balance.debits_pending + pending, balance.debits_posted + posted)
                if objection is not None:
                    return objection
            balance = balances.get(credit.id)
            if balance is not None:
                objection = _beyond(credit, balance.credits_pending + pending, balance.credits_posted + posted)
                if objection is not None:
                    return objection
        return self.put(intent, ordinal, at, legs)

    def put(
        self, intent: str, ordinal: int, at: datetime, legs: Sequence[Leg],
        effective_at: datetime | None = None,
    ) -> tuple[Posting, ...]:  # fmt: skip
        """Write postings (kind, debit, credit, pending, posted) that were checked, and return them."""
        balances, changes, watched = self.balances, self.changes, False
        for _, debit, credit, _, _ in legs:
            if debit.book != credit.book:
                raise ValueError(f"no posting can join {debit.account_id} and {credit.account_id}: two books")
            if debit.monitors or credit.monitors:
                watched = True
        before = self._watch(legs) if watched else _UNWATCHED
        written = []
        for kind, debit, credit, pending, posted in legs:
            for counters in (changes[debit.id], balances.get(debit.id)):
                if counters is not None:
                    counters.debits_pending += pending
                    counters.debits_posted += posted
            for counters in (changes[credit.id], balances.get(credit.id)):
                if counters is not None:
                    counters.credits_pending += pending
                    counters.credits_posted += posted
            tenant = debit.tenant
            link = posting_hash(tenant, intent, ordinal, kind, debit, credit, pending, posted, effective_at)
            written.append(
                Posting(intent, ordinal, tenant, kind, debit, credit, pending, posted, at, link, effective_at)
            )
            ordinal += 1
        self.postings += written
        for ref, balance in before:
            self.crossed += crossings(ref, balance, balances[ref.id])
        return tuple(written)

    def _watch(self, legs: Sequence[Leg]) -> list[tuple[AccountRef, Balance]]:
        """Return the accounts with a floor and monitors that these legs touch, as they stand; they have to be exact."""
        refs = {ref.id: ref for leg in legs for ref in leg[1:3] if ref.monitors and ref.id in self.balances}
        self.exact.update(refs)
        return [(ref, replace(self.balances[key])) for key, ref in refs.items()]

    def _together(self, legs: tuple[Leg, ...]) -> Objection | None:
        """Return an objection where all legs together take a counter out of its bounds."""
        sums: dict[tuple[int, str], list[int]] = {}
        for _, debit, credit, pending, posted in legs:
            for ref, side in ((debit, "debits"), (credit, "credits")):
                total = sums.setdefault((ref.id, side), [0, 0])
                total[0] += pending
                total[1] += posted
        refs = {ref.id: ref for leg in legs for ref in leg[1:3]}
        for (key, side), (pending, posted) in sums.items():
            balance = self.balances.get(key)
            if balance is not None:
                objection = _beyond(
                    refs[key],
                    getattr(balance, f"{side}_pending") + pending,
                    getattr(balance, f"{side}_posted") + posted,
                )
                if objection is not None:
                    return objection
        return None

    def stands(self, believed: Mapping[int, Balance], actual: Mapping[int, Balance]) -> bool:
        """Return whether every decision would have been the same on the `actual` balances as on those `believed`.

        Whoever had enough has enough with more, and what is only added to an account does not depend on what is there,
        as long as it fits into 64 bits; of the accounts in `exact` nothing else will do than what was believed."""
        for key, before in believed.items():
            found = actual[key]
            if found == before:
                continue
            ref, change = self.weighed.get(key), self.changes.get(key, Balance())
            if (
                key in self.exact
                or key in self.short
                or (ref is not None and available(ref, found) < available(ref, before))
            ):
                return False
            for was, stands, added in zip(astuple(before), astuple(found), astuple(change), strict=True):
                if (added < 0 and stands < was) or stands + abs(added) > MINOR_MAX // 2:
                    return False
        return True


def _beyond(ref: AccountRef, pending: int, posted: int) -> Objection | None:
    """Return an objection where a counter would leave 64 bits; raises ValueError where more is ended than is held."""
    if pending < 0:
        raise ValueError(f"{ref.account_id} does not hold what is to be ended: {pending}")
    return Objection("amount_overflow", ref.account_id) if pending > MINOR_MAX or posted > MINOR_MAX else None


def _accounts_objection(named: tuple[AccountRef | None, ...], currency: str | None) -> Objection:
    """Return the first objection to accounts of which something is wrong."""
    refs = [ref for ref in named if ref is not None]
    ids = [ref.id for ref in refs]
    for number, ref in enumerate(refs):
        if ref.id in ids[:number]:
            return Objection("accounts_must_be_different", ref.account_id)
    if len(refs) < len(named):
        return Objection("account_not_found", _ROLES[named.index(None)])
    for status in ("closed", "frozen"):
        for ref in refs:
            if ref.status == status:
                return Objection(f"account_{status}", ref.account_id)
    expected = refs[0].currency if currency is None else currency
    for ref in refs:
        if ref.currency != expected:
            return Objection("currency_mismatch", f"{ref.account_id} is in {ref.currency}, not {expected}")
    ref = next(ref for ref in refs if ref.book != refs[0].book)
    return Objection("book_mismatch", f"{ref.account_id} is in the book {ref.book}, not {refs[0].book}")


def amount_objection(minor: int) -> Objection | None:
    """Return what is wrong with an amount before anything else is looked at."""
    if minor == 0:
        return Objection("amount_zero")
    if minor < 0:
        return Objection("amount_negative")
    if minor > MINOR_MAX:
        return Objection("amount_overflow")
    return None


def reversal_objection(minor: int, posted: int, given_back: int) -> Objection | None:
    """Return the first thing wrong with giving `minor` back of what was posted, before anybody asks for funds.

    In the documented order: the amount, `transaction_not_found`, `already_reversed`, `exceeds_original`. That what puts
    another intent right is not reversed (`reversal_of_reversal`) is said of the intent, not of amounts, and before."""
    objection = amount_objection(minor)
    if objection is not None:
        return objection
    if posted == 0:
        return Objection("transaction_not_found")
    if given_back == posted:
        return Objection("already_reversed")
    if minor > posted - given_back:
        return Objection("exceeds_original", f"{posted - given_back} is left")
    return None


def posting_hash(
    tenant: str, intent: str, ordinal: int, kind: str, debit: AccountRef, credit: AccountRef, pending: int, posted: int,
    effective_at: datetime | None = None,
) -> bytes:  # fmt: skip
    """Return the SHA-256 of a posting's fields, joined by a sign that none of them can hold.

    The fields of one with an effective date are of the second version: its number stands before them, where no tenant
    can stand, and the date behind them."""
    fields = (
        f"{tenant}|{intent}|{ordinal}|{kind}|{debit.account_id}|{credit.account_id}|{debit.currency}|{pending}|{posted}"
    )
    if effective_at is not None:
        fields = f"2|{fields}|{timestamp(effective_at)}"
    return hashlib.sha256(fields.encode()).digest()
