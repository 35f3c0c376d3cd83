"""The transaction actor as a value: an intent, where it stands, and the chain of records that says why.

Invariants. The value is the fold of its records: `advance` writes the record first and then absorbs it, `restore`
absorbs stored records, and both use the same code, so an actor loaded from the store equals the one that wrote it.
Sequence numbers start at 1 and have no gaps; timestamps are strictly increasing; each record's hash covers the one
before it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.machine import INITIAL, Move, step
from zentra.runtime.intents.terms import HoldTerms
from zentra.runtime.intents.vocabulary import COMPOSED, PARTS, SETTLED, Fact, State
from zentra.runtime.ledger.holds import Hold, folded, given_back
from zentra.runtime.moments import timestamp
from zentra.runtime.rails.ruling import DECIDES, ENDS, Ruling
from zentra.runtime.reviews import EXPIRES_AFTER, Desk, known_digest

__all__ = [
    "REVERSALS",
    "Attempt",
    "Record",
    "Transaction",
    "Transition",
    "advance",
    "register",
    "restore",
    "timestamp",
    "told_as",
    "word_of",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
REVERSALS: Final = frozenset({"reversal", "forced_reversal"})
"""The kinds of entries that give back."""


class Record(Struct, frozen=True, kw_only=True, gc=False, rename={"from_": "from"}):
    """One transition as it is sealed. Fields are declared in canonical order, so encoding needs no sorting of them."""

    actor: str
    at: str
    cause: str
    event: str
    facts: f.Facts
    from_: str | None
    intent: str
    intent_id: str
    scope: str
    sequence: int
    step: str | None
    tenant: str
    to: str
    trace: str


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Record).decode


class Attempt(Struct, frozen=True, gc=False):
    """One submission to a rail. `status` is the last thing known of it; "started" means nothing is."""

    number: int
    rail: str
    reference: str
    at: datetime
    status: str = "started"
    event_ids: tuple[str, ...] = ()  # of the callbacks that were recorded: none is recorded twice
    repeats: int = 0
    said: tuple[str, ...] = ()  # every distinct word of the rail that was recorded: see `word_of`
    claims: tuple[str, ...] = ()  # words that were said in its name, and do not decide
    claimed_at: datetime | None = None  # when the last of them was recorded
    doubted: bool = False  # it had not accepted; then it was said to have the payment, and has not answered that
    waits: f.Reported | None = None  # that it was not paid, to be done when rails that were left have answered
    unsent: bool = False  # nothing was sent under its reference, and nothing ever will be


class Transition(Struct, frozen=True, gc=False):
    """What one step wrote: a row for the store and the event that tells of it."""

    intent: str
    sequence: int
    tenant: str
    at: datetime
    state: State
    event: str
    record: bytes
    hash: bytes
    move: Move
    before: State | None


class Transaction(Struct, kw_only=True, gc=False):
    """An intent in flight. A tick works on a copy (`copy.copy`) and the copy replaces the original after the commit."""

    id: str
    tenant: str
    intent_id: str
    command: IntentCommand
    principal: str
    role: str
    trace: str
    tracestate: str = ""
    state: State = State.ACCEPTED
    sequence: int = 0
    at: datetime = _EPOCH
    hash: bytes = GENESIS
    held: int = 0
    posted: int = 0
    given_back: int = 0
    went: tuple[str, str] | None = None  # where a book transfer went, and came from, if not as the command says
    fees: tuple[f.FeeLine, ...] = ()  # what is charged, as the schedule said when it was
    fee_held: int = 0
    fee_posted: int = 0
    fee_given_back: int = 0
    ordinal: int = 0
    booked: tuple[f.Entry, ...] = ()  # of a kind of several postings: what goes back together
    attempts: tuple[Attempt, ...] = ()
    velocity: tuple[f.VelocityUse, ...] = ()
    waives: tuple[str, ...] = ()
    round: int = 0
    flagged: tuple[str, ...] = ()
    asks: dict[str, str] | None = None  # why each flagged rule asked; None where the record does not say
    known: str = ""  # the digest of what the last decision knew of the people
    bound: dict[str, tuple[str, str]] = {}  # rule -> why it asked, and what was known, when its waiver was given
    judged_by: int = 0  # the version of the policy that judged last
    desk: Desk | None = None  # of the open review, from its assignment on
    commands: frozenset[str] = frozenset()
    deliveries_open: frozenset[str] = frozenset()
    deliveries_told: dict[str, int] = {}
    cases_open: dict[str, str] = {}
    cases_about: dict[str, int] = {}  # of the open cases that name one: the number of the attempt
    sealed: int = 0
    seals: tuple[tuple[int, bytes], ...] = ()  # of the packet and each addendum: how many records, and their hash
    settled_at: datetime | None = None
    referred_at: datetime | None = None
    timer_due: datetime | None = None  # when the stored state timer fires, as far as the owner knows; not folded
    hold: Hold | None = None
    retry_at: datetime | None = None  # when what was put off is to be tried again; not folded
    heard: str = ""  # what the rail of the latest attempt said last without deciding anything; not folded
    resubmitted: bool | None = None  # whether the latest attempt was; None: not known, by whoever read it; not folded
    routing_at: datetime | None = None  # since when a rail is looked for
    awaits_rail: bool = False  # whether a record says that there is none for now
    unchosen: str = ""  # why no other rail was asked after one that did not accept

    @property
    def review(self) -> Desk:
        """Return the open review; one that was opened without terms has those of then."""
        return self.desk or Desk((self.referred_at or self.at) + EXPIRES_AFTER)

    @property
    def unanswered(self) -> tuple[Attempt, ...]:
        """Return the attempts that were left and may have been paid after all, as far as their rails have said."""
        if len(self.attempts) < 2:
            return ()
        return tuple([one for one in self.attempts[:-1] if one.doubted])

    @property
    def attempt(self) -> Attempt | None:
        """Return the latest attempt."""
        return self.attempts[-1] if self.attempts else None


def word_of(status: str, minor: str | None, currency: str | None) -> str:
    """Return what a rail said of an attempt as one word: two reports with the same word say the same."""
    return f"{status}/{minor}/{currency}"


def register(
    *,
    intent: str,
    tenant: str,
    intent_id: str,
    command: IntentCommand,
    digest: bytes,
    key: str,
    principal: str,
    role: str,
    trace: str,
    at: datetime,
    cause: str,
    tracestate: str = "",
) -> Transition:
    """Return the first transition of a new intent."""
    facts = f.Registered(
        command=command, digest=digest.hex(), idempotency_key=key, role=role, tracestate=tracestate or UNSET
    )  # fmt: skip
    seed = Transaction(
        id=intent, tenant=tenant, intent_id=intent_id, command=command, principal=principal, role=role, trace=trace
    )
    return _write(seed, INITIAL, None, facts, principal, at, cause)


def advance(tx: Transaction, fact: Fact, facts: f.Facts, *, actor: str, now: datetime, cause: str) -> Transition:
    """Return the transition that `fact` makes, after changing `tx` by it.

    Raises IllegalFact, with `tx` untouched, where the machine has no such move."""
    state = tx.state
    return _write(tx, step(state, fact), state, facts, actor, now, cause)


def restore(rows: Sequence[tuple[bytes, bytes]], deliveries: frozenset[str] = frozenset()) -> Transaction:
    """Return the actor that stored (record, hash) rows, in order of sequence, fold to.

    `deliveries` are all that were ever made for it: a record tells of a delivery only when it ends or is retried.

    Raises ValueError where there are none or the first does not register an intent."""
    first = _decode(rows[0][0]) if rows else None
    if first is None or not isinstance(first.facts, f.Registered):
        raise ValueError("an intent's records start with its registration")
    tx = Transaction(
        id=first.intent, tenant=first.tenant, intent_id=first.intent_id, command=first.facts.command,
        principal=first.actor, role=first.facts.role, trace=first.trace, tracestate=first.facts.tracestate or "",
        deliveries_open=deliveries,
    )  # fmt: skip
    for number, (data, link) in enumerate(rows):
        record = first if number == 0 else _decode(data)
        before = tx.state if number else None
        tx.state = _STATES[record.to, record.step]
        tx.sequence, tx.hash = record.sequence, link
        tx.at = datetime.fromisoformat(record.at)
        _absorb(tx, before, record.event, record.facts)
    return tx


_STATES: Final = {(str(lifecycle), step_): state for state, (lifecycle, step_) in PARTS.items()}
_last_now: tuple[datetime, str] = (_EPOCH, timestamp(_EPOCH))


def _write(
    tx: Transaction, move: Move, before: State | None, facts: f.Facts, actor: str, now: datetime, cause: str
) -> Transition:
    global _last_now
    if now <= tx.at:
        now = tx.at + timedelta(microseconds=1)
        text = timestamp(now)
    elif now is _last_now[0]:  # a tick has one time for thousands of records
        text = _last_now[1]
    else:
        text = timestamp(now)
        _last_now = (now, text)
    to, topic = move.to, move.topic
    lifecycle, step_ = PARTS[to]
    tx.sequence = sequence = tx.sequence + 1
    record = _encode(
        Record(
            actor=actor, at=text, cause=cause, event=topic, facts=facts,
            from_=None if before is None else PARTS[before][0], intent=tx.id, intent_id=tx.intent_id,
            scope=tx.command.scope, sequence=sequence, step=step_, tenant=tx.tenant, to=lifecycle, trace=tx.trace,
        )
    )  # fmt: skip
    tx.hash = link = chain(tx.hash, record)
    tx.state, tx.at = to, now
    _absorb(tx, before, topic, facts)
    return Transition(tx.id, sequence, tx.tenant, now, to, topic, record, link, move, before)


def _absorb(tx: Transaction, before: State | None, topic: str, facts: f.Facts) -> None:
    """Change the data of `tx` by what the facts say; the state has been set."""
    absorb = _ABSORBERS.get(type(facts))
    if absorb is not None:
        absorb(tx, facts, topic)
    if tx.state is State.ROUTING and before is not State.ROUTING:
        tx.routing_at = tx.at
    if tx.state in SETTLED and before not in SETTLED:
        tx.settled_at = tx.at


def _absorb_judged(tx: Transaction, facts: f.Judged, topic: str) -> None:
    if facts.outcome == "accepted":
        tx.velocity = facts.velocity
    if topic == "policy.review":
        tx.referred_at, tx.desk = tx.at, None
    tx.judged_by = facts.version
    # sorted, as a stored record has them
    tx.flagged = tuple(sorted([rule for rule, outcome in facts.results.items() if outcome == "review"]))
    if facts.outcome == "review":
        tx.asks, tx.known = facts.asks or None, known_digest(facts)


def _absorb_booked(tx: Transaction, facts: f.Booked, topic: str) -> None:
    if tx.command.kind in COMPOSED:
        _absorb_composed(tx, facts)
        return
    reversal = 0
    if facts.fees is not UNSET:
        tx.fees = facts.fees.lines
    charged = tx.fees
    for entry in facts.entries:
        if charged and entry.posting in _FEE_POSTINGS:
            _absorb_fee(tx, entry)
            continue
        tx.held += int(entry.pending)
        if entry.posting in ("post", "book"):
            tx.posted += int(entry.posted)
            if entry.posting == "book" and (entry.credit, entry.debit) != (tx.command.destination, tx.command.source):
                tx.went = entry.credit, entry.debit
        elif entry.posting in REVERSALS:
            reversal = int(entry.posted)  # both legs of one reversal carry the same amount
    tx.given_back += reversal
    tx.ordinal += len(facts.entries)
    if facts.command:
        tx.commands = tx.commands | {facts.command}


def _absorb_composed(tx: Transaction, facts: f.Booked) -> None:
    """Follow entries that are booked together and go by one amount, whatever each of them moves: only a lone one can be
    given back in parts."""
    entries = facts.entries
    if entries and entries[0].posting in REVERSALS:
        tx.given_back += int(entries[0].posted) if len(tx.booked) == 1 else tx.posted
    elif entries:
        tx.booked, tx.posted = entries, tx.command.amount
    tx.ordinal += len(entries)
    if facts.command:
        tx.commands = tx.commands | {facts.command}


_FEE_POSTINGS: Final = frozenset({"fee", "fee_reserve", "fee_release", "fee_refund"})


def _absorb_fee(tx: Transaction, entry: f.Entry) -> None:
    """Keep what is charged for an intent apart from what it moves."""
    tx.fee_held += int(entry.pending)
    if entry.posting == "fee_refund":
        tx.fee_given_back += int(entry.posted)
    else:
        tx.fee_posted += int(entry.posted)


def _absorb_hold(tx: Transaction, facts: f.HoldMoved, topic: str) -> None:
    terms = tx.command.hold
    seconds = terms.expires_in_seconds if isinstance(terms, HoldTerms) else 0
    tx.hold = folded(tx.hold, facts, tx.at, seconds, settled=tx.state in SETTLED)
    for entry in facts.entries:
        tx.held += int(entry.pending)
        if entry.posting == "post":
            tx.posted += int(entry.posted)
    tx.given_back += given_back(facts)
    tx.ordinal += len(facts.entries)
    if facts.command:
        tx.commands = tx.commands | {facts.command}


def _absorb_routed(tx: Transaction, facts: f.Routed, topic: str) -> None:
    words, known = facts.considered, list[Attempt]()
    for attempt in tx.attempts:
        # only a rail that did not accept is left, whether or not its corridor names it by now
        word = "not_accepted" if attempt.status == "started" else attempt.status
        unsent = attempt.unsent or (attempt.number == facts.attempt - 1 and facts.unsent is True)
        word = word if unsent else words.get(attempt.rail, word)
        known.append(msgspec.structs.replace(attempt, status=word, unsent=unsent))
    tx.attempts = (*known, Attempt(facts.attempt, facts.rail, facts.reference, tx.at))
    tx.heard, tx.resubmitted = "", None


def _absorb_unrouted(tx: Transaction, facts: f.Unrouted, topic: str) -> None:
    tx.awaits_rail = True


_UNPAID: Final = frozenset({"declined", "not_accepted", "not_found"})


def _absorb_reported(tx: Transaction, facts: f.Reported, topic: str) -> None:
    changed = []
    for attempt in tx.attempts:
        if attempt.number == facts.attempt:
            # A rail that takes back itself that it had not accepted may have paid: nothing is released after that. The
            # status is what a person has made of it, where one has.
            said, decides = facts.said or facts.status, facts.trust in DECIDES and facts.ruled != Ruling.CLAIMS
            broken = facts.status == "not_accepted" and said == "succeeded" and decides
            status = "contradicted" if broken else facts.status
            events = attempt.event_ids if facts.event_id is None else (*attempt.event_ids, facts.event_id)
            word = word_of(said, facts.minor, facts.currency)
            words, claims, claimed_at = attempt.said, attempt.claims, attempt.claimed_at
            if decides:
                words = words if word in words else (*words, word)
            else:
                claims = claims if word in claims else (*claims, word)
                claimed_at = tx.at if said in ENDS else claimed_at
            doubted = attempt.doubted and facts.status != "succeeded"
            if facts.status == "not_accepted":
                if said not in _UNPAID:
                    doubted, claimed_at = not broken, tx.at
                elif decides:
                    doubted = False
            attempt = Attempt(
                attempt.number, attempt.rail, attempt.reference, attempt.at, status, events, facts.repeats, words,
                claims, claimed_at, doubted, facts if facts.ruled == Ruling.WAITS else attempt.waits,
                attempt.unsent,
            )  # fmt: skip
        changed.append(attempt)
    tx.attempts = tuple(changed)
    if facts.unchosen is not UNSET:
        tx.unchosen = facts.unchosen.reason


def _absorb_decided(tx: Transaction, facts: f.Decided, topic: str) -> None:
    if topic == "review.endorsed":
        tx.desk = msgspec.structs.replace(tx.review, approved_by=(*tx.review.approved_by, facts.decided_by))
        return
    tx.round = facts.round
    tx.waives += tuple(rule for rule in facts.waives if rule not in tx.waives)  # a later round keeps the earlier ones
    if tx.asks is not None:
        tx.bound = {**tx.bound, **{rule: (tx.asks.get(rule, ""), tx.known) for rule in facts.waives}}


def _absorb_assigned(tx: Transaction, facts: f.Assigned, topic: str) -> None:
    if facts.terms is UNSET:
        tx.desk = msgspec.structs.replace(tx.review, assigned_to=facts.to, notes=tx.review.notes + 1)
        return
    due, expires = map(datetime.fromisoformat, (facts.terms.due_at, facts.terms.expires_at))
    tx.desk = Desk(expires, due, facts.terms.approvals, facts.to)


def _absorb_commented(tx: Transaction, facts: f.Commented, topic: str) -> None:
    desk = tx.review
    tx.desk = msgspec.structs.replace(desk, comments=desk.comments + 1, notes=desk.notes + 1)


def _absorb_escalated(tx: Transaction, facts: f.Escalated, topic: str) -> None:
    desk = tx.review
    tx.desk = msgspec.structs.replace(
        desk, assigned_to=facts.to or desk.assigned_to, level=facts.level, breached=desk.breached or facts.overdue,
        notes=desk.notes + 1,
    )  # fmt: skip


def _absorb_case(tx: Transaction, facts: f.CaseNoted, topic: str) -> None:
    others = {case: kind for case, kind in tx.cases_open.items() if case != facts.case}
    tx.cases_open = others if facts.resolution is not None else {**others, facts.case: facts.reason}
    if facts.attempt is not UNSET:
        tx.cases_about = {**tx.cases_about, facts.case: facts.attempt}
    elif facts.case in tx.cases_about:
        tx.cases_about = {case: number for case, number in tx.cases_about.items() if case != facts.case}


def told_as(topic: str, facts: f.Delivered) -> str:
    """Return what a fact about a delivery is remembered by: how it stands, and apart from that what it has led to."""
    return facts.delivery if topic != "webhook.endpoint_disabled" else f"{facts.delivery}/{facts.endpoint}"


def _absorb_delivery(tx: Transaction, facts: f.Delivered, topic: str) -> None:
    if facts.by is not UNSET:
        return  # it tells of the endpoint: the delivery stands as it stood
    if topic in ("webhook.delivered", "webhook.exhausted"):
        tx.deliveries_open = tx.deliveries_open - {facts.delivery}
    tx.deliveries_told = {**tx.deliveries_told, told_as(topic, facts): facts.attempts}


def _absorb_closed(tx: Transaction, facts: f.Closed, topic: str) -> None:
    tx.sealed = tx.sequence
    tx.seals += ((tx.sequence, tx.hash),)


_ABSORBERS: Final[dict[type, Any]] = {
    f.Judged: _absorb_judged,
    f.Booked: _absorb_booked,
    f.HoldMoved: _absorb_hold,
    f.Routed: _absorb_routed,
    f.Unrouted: _absorb_unrouted,
    f.Reported: _absorb_reported,
    f.Decided: _absorb_decided,
    f.Assigned: _absorb_assigned,
    f.Commented: _absorb_commented,
    f.Escalated: _absorb_escalated,
    f.CaseNoted: _absorb_case,
    f.Delivered: _absorb_delivery,
    f.Closed: _absorb_closed,
}
