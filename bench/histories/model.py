"""What the runtime has to do, as a small program that knows nothing of how it does it: one thread, dictionaries, sums.

It is fed the store's immutable rows in the order in which they were committed and says what in them it would not have
done. It keeps accounts (four counters), holds and the state of every intent. It shares no code with the runtime.

- Nobody can look into a commit, so inside of one any order counts: a refusal is right where some moment of its commit
  explains it, and what was taken must have been there at some moment and leave no account under its floor.
- People's decisions and the words of rails are input. What follows from them is not.
- What is charged is input too, since schedules are not read: fees have to come with the event that they belong to, go
  to a fee account, be held and ended once, and never come back beyond what they were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

__all__ = [
    "MINOR_MAX",
    "NOTHING",
    "Account",
    "Commit",
    "Counters",
    "Ending",
    "Event",
    "Intent",
    "Limits",
    "Model",
    "Posting",
    "StoredKey",
    "Version",
    "available",
]

MINOR_MAX: Final = 2**63 - 1
Counters = tuple[int, int, int, int]
"""Debits pending, credits pending, debits posted, credits posted."""
NOTHING: Final[Counters] = (0, 0, 0, 0)


class Account(Struct, frozen=True, kw_only=True):
    """An account of the tenant. `opened` is the position of the first commit that could know it."""

    account_id: str
    currency: str
    type: str = "customer"
    side: str = "credit"
    guarded: bool = True
    limit: int = 0
    status: str = "open"
    opened: int = 0


class Posting(Struct, frozen=True, kw_only=True, gc=False):
    """A row of the ledger."""

    intent: str
    ordinal: int
    kind: str
    debit: str
    credit: str
    currency: str
    pending: int
    posted: int
    at: str = ""


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """A transition as far as the model goes: `codes` are the reasons that it gives."""

    intent: str
    sequence: int
    event: str
    state: str
    codes: tuple[str, ...] = ()


class Commit(Struct, frozen=True):
    """What one transaction of the database added; events of one intent in their order."""

    events: tuple[Event, ...] = ()
    postings: tuple[Posting, ...] = ()


class Intent(Struct, frozen=True, kw_only=True):
    """An intent that was registered: its command as stored, and the first key it came with."""

    id: str
    intent_id: str
    key: str
    command: dict[str, Any]
    role: str = "developer"


class StoredKey(Struct, frozen=True):
    """What a key is bound to: the intent's uuid (empty for other things) and the answer that every replay gets."""

    intent: str
    answer: str


class Limits(Struct, frozen=True):
    """The policy's limits of one currency."""

    transaction_max: int | None = None
    review_min: int | None = None


class Ending(Struct, frozen=True, kw_only=True):
    """What a tenant's store holds at the end. `commits` are in the order in which they became true.

    `exact` says that this order is the database's own; otherwise it is that of the times in the rows, which is the same
    for one worker and a guess for several."""

    accounts: Mapping[str, Account]
    intents: Sequence[Intent]
    keys: Mapping[str, StoredKey]
    commits: Sequence[Commit]
    balances: Mapping[str, Counters]
    limits: Mapping[str, Limits] = {}
    cases: frozenset[str] = frozenset()  # intents with an open case
    exact: bool = True


class Version(Struct, frozen=True, gc=False):
    """What a reader of an intent sees after one of its events, and which commit made it so."""

    commit: int
    event: str
    state: str
    held: int
    posted: int
    reversed: int


class _Standing(Struct):
    intent: Intent
    state: str = ""
    sequence: int = 0
    ordinal: int = 0
    held: int = 0
    posted: int = 0
    reversed: int = 0
    fee_held: int = 0
    fee_posted: int = 0
    approved: bool = False


_NEW, _REVIEW, _FAILED, _DONE = "ACCEPTED", "REVIEW", "FAILED", "SUCCESSFUL"
_JUDGING, _RESERVING, _ROUTING = "PROCESSING/judging", "PROCESSING/reserving", "PROCESSING/routing"
_SENT, _PAID, _REFUSED = ("AWAITING_PROVIDER/submitted", "AWAITING_PROVIDER/confirmed", "AWAITING_PROVIDER/refused")
_RECONCILED, _REVERSED = "RECONCILED", "REVERSED"
_LATER: Final = (_PAID, _REFUSED, _DONE, _FAILED, _RECONCILED, _REVERSED)
# Which state may follow which by what event. An event that is not here moves nothing.
_MOVES: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    "ingress.accepted": frozenset({("", _NEW)}),
    "policy.started": frozenset({(_NEW, _JUDGING)}),
    "policy.accepted": frozenset({(_NEW, _RESERVING), (_JUDGING, _RESERVING)}),
    "policy.review": frozenset({(_JUDGING, _REVIEW)}),
    "policy.denied": frozenset({(_JUDGING, _FAILED)}),
    "review.approved": frozenset({(_REVIEW, _JUDGING)}),
    "review.rejected": frozenset({(_REVIEW, _FAILED)}),
    "review.expired": frozenset({(_REVIEW, _FAILED)}),
    "intent.cancelled": frozenset((state, _FAILED) for state in (_NEW, _JUDGING, _REVIEW, _RESERVING)),
    "ledger.reserved": frozenset({(_RESERVING, _ROUTING)}),
    "ledger.refused": frozenset({(_RESERVING, _FAILED), (_PAID, _PAID)}),
    "ledger.released": frozenset({(_ROUTING, _FAILED), (_REFUSED, _FAILED)}),
    "ledger.posted": frozenset({(_RESERVING, _DONE), (_PAID, _DONE)}),
    "ledger.reversal": frozenset(
        {(_DONE, _DONE), (_DONE, _REVERSED), (_RECONCILED, _RECONCILED), (_RECONCILED, _REVERSED), (_FAILED, _REVERSED)}
    ),
    "provider.routed": frozenset({(_ROUTING, _SENT)}),
    "provider.awaited": frozenset({(_ROUTING, _ROUTING)}),
    "provider.failover": frozenset({(_SENT, _SENT)}),
    "provider.callback": frozenset(
        {(_SENT, _SENT), (_SENT, _PAID), (_SENT, _REFUSED), *((state, state) for state in _LATER)}
    ),
    "reconciliation.matched": frozenset({(_DONE, _RECONCILED)}),
}
# Which fee postings an event may have: behind those of its money, but for a reversal, where they come first.
_FEES: Final[Mapping[str, tuple[str, ...]]] = {
    "ledger.reserved": ("fee_reserve", "fee"),
    "ledger.posted": ("fee",),
    "ledger.released": ("fee_release", "fee_refund"),
    "ledger.reversal": ("fee_refund",),
}
_SYSTEM: Final = frozenset({"settlement", "fee", "suspense", "liquidity"})
_MAY_TAKE_FROM_SYSTEM: Final = frozenset({"operator", "admin"})
_STATUS_CODES: Final = frozenset({"account_closed", "account_frozen"})

Leg = tuple[str, str, str, int, int]


class Model:
    """Steps through commits in order; `counters` and `versions` are what a reader may see after each."""

    def __init__(self, ending: Ending) -> None:
        self._accounts, self._limits = ending.accounts, ending.limits
        self._charges = any(row.kind.startswith("fee") for commit in ending.commits for row in commit.postings)
        self._settlements: dict[str, str] = {}
        for account in ending.accounts.values():
            if account.type == "settlement":
                self._settlements.setdefault(account.currency, account.account_id)  # the first that was opened
        self._standing = {intent.id: _Standing(intent) for intent in ending.intents}
        self.counters: dict[str, Counters] = {}
        self.versions: dict[str, list[Version]] = {intent.id: [] for intent in ending.intents}

    def state_of(self, intent: str) -> str:
        """Return the state of a registered intent."""
        return self._standing[intent].state

    def apply(self, position: int, commit: Commit) -> Iterator[str]:
        """Take in a commit and yield a sentence for everything in it that should not have been."""
        bad: list[str] = []
        low, high = self._move_money(commit, bad)
        yield from bad
        left: dict[str, list[Posting]] = defaultdict(list)
        for posting in sorted(commit.postings, key=lambda row: row.ordinal):
            left[posting.intent].append(posting)
        for event in commit.events:
            standing = self._standing.get(event.intent)
            if standing is None:
                yield f"{event.event} of {event.intent}, which nobody registered"
                continue
            for fault in self._step(standing, event, left[event.intent], (position, low, high)):
                yield f"intent {standing.intent.intent_id}, version {event.sequence} ({event.event}): {fault}"
            self.versions[event.intent].append(
                Version(position, event.event, event.state, standing.held, standing.posted, standing.reversed)
            )
        for intent, postings in left.items():
            for posting in postings:
                yield f"posting {intent}/{posting.ordinal} ({posting.kind}): no event tells of it"

    def _move_money(self, commit: Commit, bad: list[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Add the postings up; return the least and the most that was available at any moment of the commit."""
        low: dict[str, int] = {}
        high: dict[str, int] = {}
        for posting in commit.postings:
            for name, debit in ((posting.debit, True), (posting.credit, False)):
                account = self._accounts.get(name)
                if account is None or account.currency != posting.currency:
                    bad.append(
                        f"posting {posting.intent}/{posting.ordinal} is on {name}, not one in {posting.currency}"
                    )
                    continue
                before = self.counters.get(name, NOTHING)
                pending, posted = posting.pending, posting.posted
                change = (pending, 0, posted, 0) if debit else (0, pending, 0, posted)
                after = self.counters[name] = _sum(before, change)
                was, moved = available(account, before), available(account, after) - available(account, before)
                low[name] = low.get(name, was) + min(moved, 0)
                high[name] = high.get(name, was) + max(moved, 0)
        for name in low:
            account, counters = self._accounts[name], self.counters[name]
            if account.guarded and available(account, counters) < -account.limit:
                bad.append(f"account {name} stands at {available(account, counters)}, under its floor {-account.limit}")
            if account.guarded and min(counters) < 0:
                bad.append(f"account {name} has a counter below zero: {counters}")
        return low, high

    def _step(
        self, standing: _Standing, event: Event, left: list[Posting], ground: tuple[int, dict[str, int], dict[str, int]]
    ) -> Iterator[str]:
        if event.sequence != standing.sequence + 1:
            yield f"follows version {standing.sequence}"
        moves = _MOVES.get(event.event)
        if (moves is None and event.state != standing.state) or (
            moves is not None and (standing.state, event.state) not in moves
        ):
            yield f"leads from {standing.state or 'nothing'} to {event.state}"
        if event.event in ("policy.accepted", "policy.review", "policy.denied"):
            yield from self._judged(standing, event)
        elif event.event == "review.approved":
            standing.approved = True
        elif event.event in ("ledger.reserved", "ledger.refused", "ledger.posted") and standing.state == _RESERVING:
            expected = self._objections(standing.intent, ground, left)
            given = event.codes[0] if event.event == "ledger.refused" and event.codes else ""
            if given not in expected:
                yield f"ended with {given or 'no objection'}, expected {' or '.join(sorted(expected)) or 'none'}"
        yield from self._booked(standing, event, left)
        standing.state, standing.sequence = event.state, event.sequence

    def _judged(self, standing: _Standing, event: Event) -> Iterator[str]:
        intent = standing.intent
        minor, booked = int(intent.command["minor"]), intent.command["kind"] == "book_transfer"
        limits = self._limits.get(intent.command["currency"], Limits())
        source = self._accounts.get(intent.command["source"])
        spoken = {
            "source_not_permitted": source is not None and source.type in _SYSTEM
            and intent.role not in _MAY_TAKE_FROM_SYSTEM,
            "transaction_limit_exceeded": _exceeds(minor, limits.transaction_max) and not booked,
            "review_threshold_reached": limits.review_min is not None and minor >= limits.review_min and not booked
            and not standing.approved,
        }  # fmt: skip
        for code, holds in spoken.items():
            if holds and event.event == "policy.accepted":
                yield f"passed in spite of {code}"
            if not holds and code in event.codes and self._limits:
                yield f"was kept back by {code}, which does not hold"

    def _objections(
        self, intent: Intent, ground: tuple[int, dict[str, int], dict[str, int]], left: Sequence[Posting]
    ) -> frozenset[str]:
        """Return the answers that the ledger may give to the first movement of an intent; "" is none.

        Where fees are charged, what a refused one would have been is not known."""
        position, low, high = ground
        command = intent.command
        booked = command["kind"] == "book_transfer"
        names = [command["source"], command["destination"]]
        if not booked:
            names.append(self._settlements.get(command["currency"], ""))
        known = [account for name in names if (account := self._known(name, position)) is not None]
        if len({account.account_id for account in known}) < len(known):
            return frozenset({"accounts_must_be_different"})
        if len(known) < len(names):
            return frozenset({"account_not_found"})
        allowed = {"account_" + account.status for account in known if account.status != "open"}
        # All accounts of a rail agree with the source; those of a book transfer with the command.
        expected = command["currency"] if booked else known[0].currency
        if any(account.currency != expected for account in known):
            return frozenset({"currency_mismatch", *allowed})
        minor = int(command["minor"])
        allowed |= {"fee_changed"} if "fee" in command else set()
        allowed |= {"insufficient_funds"} if self._charges else set()
        fee = sum(row.pending + row.posted for row in left if row.kind in _FEES["ledger.reserved"]
                  and row.pending >= 0 and row.debit == command["source"])  # fmt: skip
        for account, loses, needed in ((known[0], "credit", minor + fee), (known[-1], "debit", minor)):
            if not account.guarded or account.side != loses:
                continue
            now = available(account, self.counters.get(account.account_id, NOTHING))
            room = account.limit
            if high.get(account.account_id, now) + room < needed:
                return frozenset({"insufficient_funds", *allowed})
            if low.get(account.account_id, now) + room < needed:
                allowed.add("insufficient_funds")
        if any(max(self.counters.get(account.account_id, NOTHING)) + minor > MINOR_MAX for account in known):
            allowed.add("amount_overflow")
        return frozenset({"", *allowed})

    def _known(self, name: str, position: int) -> Account | None:
        account = self._accounts.get(name)
        return account if account is not None and account.opened <= position else None

    def _booked(self, standing: _Standing, event: Event, left: list[Posting]) -> Iterator[str]:
        """Take from `left` the postings that the event has to have, and no others."""
        first = self._fees_of(event, left) if event.event == "ledger.reversal" else []
        yield from self._charged(standing, first)
        legs = self._legs(standing, event, left)
        mine, left[:] = left[: len(legs)], left[len(legs) :]
        given = [(row.kind, row.debit, row.credit, row.pending, row.posted) for row in mine]
        if given != legs:
            yield f"has the postings {given}, expected {legs}"
        for row in mine:
            if row.ordinal != standing.ordinal:
                yield f"posting {row.ordinal} follows {standing.ordinal - 1}"
            standing.ordinal = row.ordinal + 1
            standing.held += row.pending
            standing.posted += row.posted if row.kind in ("post", "book") else 0
        yield from self._charged(standing, [] if first else self._fees_of(event, left))
        if event.event == "ledger.reversal":
            minor = legs[0][4] if legs else 0
            standing.reversed += minor
            if minor <= 0 or standing.reversed > standing.posted:
                yield f"gives back {standing.reversed} in all, of {standing.posted}"
            if (standing.reversed == standing.posted) is not (event.state == _REVERSED):
                yield f"leads to {event.state} with {standing.reversed} of {standing.posted} given back"
        if event.state in (_FAILED, _DONE, _RECONCILED, _REVERSED) and (standing.held or standing.fee_held):
            yield f"ends with {standing.held} and a fee of {standing.fee_held} still held"

    def _fees_of(self, event: Event, left: list[Posting]) -> list[Posting]:
        """Take from `left` the fees that come next and may belong to the event."""
        count = 0
        while count < len(left) and left[count].kind in _FEES.get(event.event, ()):
            count += 1
        mine, left[:] = left[:count], left[count:]
        return mine

    def _charged(self, standing: _Standing, fees: Sequence[Posting]) -> Iterator[str]:
        """Follow what an intent is charged and gets back."""
        for row in fees:
            if row.ordinal != standing.ordinal:
                yield f"posting {row.ordinal} follows {standing.ordinal - 1}"
            standing.ordinal = row.ordinal + 1
            back = row.kind == "fee_refund"
            house = self._accounts.get(row.debit if back else row.credit)
            if house is None or house.type != "fee":
                yield f"has a {row.kind} from {row.debit} to {row.credit}, neither of which takes fees"
            standing.fee_held += row.pending
            standing.fee_posted += -row.posted if back else row.posted
            if min(standing.fee_held, standing.fee_posted) < 0:
                yield f"gives back a fee of {-min(standing.fee_held, standing.fee_posted)} that was not charged"

    def _legs(self, standing: _Standing, event: Event, left: Sequence[Posting]) -> list[Leg]:
        """Return the postings that an event has to have: what kind, from where to where, pending, posted."""
        command = standing.intent.command
        source, destination = command["source"], command["destination"]
        settlement = self._settlements.get(command["currency"], "")
        minor, held = int(command["minor"]), standing.held
        booked = command["kind"] == "book_transfer"
        match event.event:
            case "ledger.reserved":
                return [("reserve", source, settlement, minor, 0)]
            case "ledger.released":
                return [("release", source, settlement, -held, 0)]
            case "ledger.posted" if booked:
                return [("book", source, destination, 0, minor)]
            case "ledger.posted":
                return [("post", source, settlement, -held, held), ("settle", settlement, destination, 0, held)]
            case "ledger.reversal":
                back = left[0].posted if left else 0
                way = [destination, source] if booked else [destination, settlement, source]
                return [("reversal", way[place], way[place + 1], 0, back) for place in range(len(way) - 1)]
        return []


def available(account: Account, counters: Counters) -> int:
    """Return what can be taken out: what is spoken for counts as gone, what is promised does not count."""
    debits_pending, credits_pending, debits, credits = counters
    return credits - debits - debits_pending if account.side == "credit" else debits - credits - credits_pending


def _sum(counters: Counters, change: Counters) -> Counters:
    return (
        counters[0] + change[0], counters[1] + change[1], counters[2] + change[2], counters[3] + change[3]
    )  # fmt: skip


def _exceeds(minor: int, limit: int | None) -> bool:
    return limit is not None and minor > limit
