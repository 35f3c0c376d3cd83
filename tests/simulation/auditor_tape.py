"""One story of a fleet on tape: everything that an auditor is told, to be played again with something changed."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct, structs

from tests.actors.world import ACCOUNTS, LIMITS, account, configuration, endpoint, transfer
from zentra.actors.reviewing import seen_of
from zentra.bench.simulation.auditor import Auditor
from zentra.bench.simulation.setting import LISTED
from zentra.bench.twins.fleet import START, Fleet
from zentra.bench.twins.store import StoreTwin
from zentra.bench.twins.store_rows import OutboxRow, Rows
from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.lists import ListInfo, NameList, digest_of_list
from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.evidence.chain import GENESIS
from zentra.runtime.fees.schedule import FeeMatch, FeeRule, FeeSchedule
from zentra.runtime.intents.command import IntentCommand, decode_command, parse_intent
from zentra.runtime.intents.terms import Counterparty, Deposit, FeeTerms, HoldTerms
from zentra.runtime.intents.transaction import Transition
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import AccountRef, Balance, Posting, posting_hash
from zentra.runtime.ledger.conversion import FxRate
from zentra.runtime.ledger.monitors import Monitor
from zentra.runtime.policy import Limits, PolicyRules
from zentra.runtime.policy.rules import Rule, Window
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.runtime.rails.operating import RailOperation
from zentra.runtime.rails.routing import Corridor, RailRoute
from zentra.runtime.reviews import Approvals, Member, ReviewRules
from zentra.runtime.stream_ports import Outgoing

HIGH = 1_500_000  # above the review threshold
TWO = 2_500_000  # takes two approvals
FUNDS = 50_000_000
PEOPLE = {
    "dev": Member("developer"), "ola": Member("operator"), "ops": Member("operator"), "boss": Member("admin"),
}  # fmt: skip
WINDOWED = PolicyRules(
    version=4,
    windows={
        "minute": Window(by="account", rolling_seconds=60, buckets=6),
        "week": Window(by="tenant", calendar="week"),
    },
    rules=(Rule("large", {"field": "amount", "op": ">=", "value": HIGH}, "deny", "too_large"),),
    limits={"*": Limits(daily_count_max=99)},
)
FOREIGN = tuple(structs.replace(ref, id=ref.id + 100, tenant="globex") for ref in ACCOUNTS[:4])
SCREENED = tuple(
    structs.replace(
        ref,
        id=ref.id + 200,
        tenant="initech",
        party=PartyRef("p-1", "approved", "clear") if ref.account_id == "customer" else None,
    )
    for ref in ACCOUNTS[:4]
)
DEMANDS = PolicyRules(version=6, compliance=Compliance(kyc_required=True, screen="counterparties"))
LISTS = {"listed": NameList(ListInfo("listed", 1, digest_of_list(LISTED), START, len(LISTED)), LISTED)}
DOLLARS = (("dollars", "customer"), ("liquidity-usd", "liquidity"), ("fee-usd", "fee"))
WATCHED = Monitor("m" * 32, "posted", "at_least", 1_000_000)  # which the reviewed intent alone brings about
BOOKS = (
    *(structs.replace(ref, monitors=(WATCHED,)) if ref.account_id == "merchant" else ref for ref in ACCOUNTS),
    *FOREIGN,
    *SCREENED,
    *(structs.replace(account(50 + n, *row), currency="USD", guarded=n == 0) for n, row in enumerate(DOLLARS)),
    account(54, "abroad", "customer", book="eu"),
    structs.replace(account(55, "suspense-ngn", "suspense"), guarded=False),
)
RATES = {"acme": (FxRate("acme", "NGN", "USD", "0.00065", 50, 1_000, START, 3600, "desk", 7),)}

LATER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("reverse", "spent", {"force": True, "approved_by": "boss"}),
    ("reverse", "sold", {}),
    ("reverse", "happy", {"amount": "25000"}),
    ("cancel", "happy", {}),
    ("reverse", "booked", {}),
    ("reverse", "twice", {}),
    ("reverse", "declined", {}),
    ("reverse", "charged", {"amount": "60000"}),
    ("reverse", "at once", {}),
    ("capture_hold", "happy", {"amount": "full"}),
    ("capture_hold", "lapsed", {"amount": "full"}),
    ("capture_hold", "held", {"amount": "10000", "destination": "merchant"}),
    ("capture_hold", "voided", {"amount": "125001"}),
    ("void_hold", "voided", {"reason": "not needed"}),
)

_FIRST, _SECOND = RailRoute("alpha", 1, 3, 10, 25), RailRoute("beta", 2, minor_max=50_000_000)
CORRIDORS = (
    Corridor("acme", "ng", "NGN", "transfer", ("alpha", "beta"), routes=(_FIRST, _SECOND), version=3),
    Corridor("acme", "yy", "NGN", "transfer", ("omega",), "YY", routes=(RailRoute("omega"),), version=3),
    Corridor(
        "acme", "zz", "NGN", "transfer", ("gamma",), "ZZ", routes=(RailRoute("gamma"),), version=3, wait_seconds=5
    ),
)

# Only what goes to two countries is charged, so that the rest of the story is not about fees.
_GHANA = FeeMatch(currencies=("NGN",), countries=("GH",))
FEES = FeeSchedule(
    (
        FeeRule(name="transfer", model="percentage", rate_bps="100", applies=_GHANA),
        FeeRule(name="desk", model="flat", flat_minor=70, charged="on_submission", on_reversal="full", applies=_GHANA),
        FeeRule(name="discount", model="flat", flat_minor=41, payer="payee", applies=_GHANA),
        FeeRule(name="kenya", model="flat", flat_minor=9, applies=FeeMatch(currencies=("NGN",), countries=("KE",))),
    ),
    version=1,
)

__all__ = [
    "BOOKS",
    "CORRIDORS",
    "FEES",
    "HIGH",
    "Call",
    "Tape",
    "changed_by",
    "listening",
    "open_books",
    "record_story",
    "rehashed",
]


class Call(Struct):
    """One thing that the auditor is told; `put` and `then` are what the one who plays the tape does itself."""

    name: str
    args: tuple[Any, ...]


def open_books(store: StoreTwin) -> None:
    """Open the accounts of both tenants and fund their customers."""
    refs = {(ref.tenant, ref.account_id): store.open_account(ref) for ref in BOOKS}
    for tenant in ("acme", "globex", "initech"):
        store.book(refs[tenant, "liquidity-ngn"], refs[tenant, "customer"], FUNDS)


class Tape:
    """What was told, in order, and what the store held in the end. Changing a copy leaves the original alone."""

    def __init__(self, calls: list[Call], fleet: Fleet, names: dict[str, str]) -> None:
        self.calls, self.fleet, self.names = calls, fleet, names
        self.now = fleet.now
        self._rows: Rows | None = None
        self.setting = fleet.store.current

    def copy(self) -> Tape:
        """Return a tape that may be changed."""
        twin = Tape([Call(call.name, call.args) for call in self.calls], self.fleet, self.names)
        twin.setting = self.setting
        return twin

    @property
    def rows(self) -> Rows:
        """The rows of the store, to be changed."""
        if self._rows is None:
            self._rows = copy.deepcopy(self.fleet.store.rows)
        return self._rows

    # Finding ------------------------------------------------------------------------------------------------------

    def place(self, name: str, test: Callable[..., bool]) -> int:
        """Return where the first call of a name that fits stands."""
        return next(at for at, call in enumerate(self.calls) if call.name == name and test(*call.args))

    def commit(self, test: Callable[[TickWrites], bool]) -> TickWrites:
        """Return the writes of the first commit that fits, to be changed."""
        at = self.place("committed", lambda worker, plan, writes, ground: test(writes))
        worker, plan, writes, ground = self.calls[at].args
        self.calls[at] = Call("committed", (worker, copy.deepcopy(plan), copy.deepcopy(writes), copy.deepcopy(ground)))
        self.plan: TickPlan = self.calls[at].args[1]
        self.ground: Ground = self.calls[at].args[3]
        writes = self.calls[at].args[2]
        assert isinstance(writes, TickWrites)
        return writes

    def at(self, who: str, event: str) -> TickWrites:
        """Return the writes of the commit that holds the first record of this event of an intent, to be changed."""
        return self.commit(lambda writes: any(self._is(t, who, event) for t in writes.transitions))

    def _is(self, transition: Transition, who: str, event: str) -> bool:
        """Return whether a record is of this event of an intent; of what its rail says, the one that settles it."""
        settles = event != "provider.callback" or transition.state is not transition.before
        return settles and (transition.intent, transition.event) == (self.names[who], event)

    def posting(self, who: str, kind: str) -> tuple[TickWrites, int]:
        """Return the commit and the index of the first posting of a kind of an intent."""
        intent = self.names[who]
        writes = self.commit(lambda writes: any((p.intent, p.kind) == (intent, kind) for p in writes.postings))
        return writes, next(i for i, p in enumerate(writes.postings) if (p.intent, p.kind) == (intent, kind))

    # Changing -----------------------------------------------------------------------------------------------------

    def rewrite(self, who: str, which: str, facts: dict[str, Any] | None = None, **envelope: Any) -> TickWrites:
        """Change a record and seal it anew; return the writes of its commit."""
        writes = self.at(who, which)
        at = next(i for i, t in enumerate(writes.transitions) if self._is(t, who, which))
        writes.transitions[at] = self._sealed(writes.transitions[at], facts or {}, envelope)
        return writes

    def forge(self, who: str, facts: dict[str, Any], **envelope: Any) -> TickWrites:
        """Append to an intent one more record like its last one, but changed; return the writes of its commit."""
        intent = self.names[who]
        last = self.fleet.store.rows.transitions[intent][-1]
        writes = self.commit(lambda writes: last in writes.transitions)
        at = writes.transitions.index(last) + 1
        envelope = {"sequence": last.sequence + 1, "from_": str(last.state.lifecycle), **envelope}
        envelope.setdefault("at", (last.at + timedelta(microseconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        writes.transitions.insert(at, self._sealed(last, facts, envelope, after=last.hash))
        return writes

    def _sealed(
        self, row: Transition, facts: dict[str, Any], envelope: dict[str, Any], after: bytes | None = None
    ) -> Transition:
        record = json.loads(row.record)
        if "from_" in envelope:
            record["from"] = envelope.pop("from_")
        record |= envelope
        record["facts"] |= facts
        data = msgspec.json.encode(record, order="sorted")
        before = self._link_before(row) if after is None else after
        return structs.replace(row, record=data, hash=hashlib.sha256(before + data).digest())

    def _link_before(self, row: Transition) -> bytes:
        rows = self.fleet.store.rows.transitions[row.intent]
        return rows[row.sequence - 2].hash if row.sequence > 1 else GENESIS

    def put_before(self, at: int, name: str, *args: Any) -> None:
        """Let something be told before the call at this place."""
        self.calls.insert(at, Call(name, args))

    def add(self, name: str, *args: Any) -> None:
        """Let something be told at the end."""
        self.calls.append(Call(name, args))

    # Playing ------------------------------------------------------------------------------------------------------

    def play(self) -> Auditor:
        """Tell a new auditor everything, then let it rebuild and finish; raise what it raises."""
        store = StoreTwin(lambda: START, self.setting, self.fleet.store.partitions)
        open_books(store)
        auditor = Auditor(store)
        for call in self.calls:
            if call.name == "put":
                partition, message = call.args
                store.rows.outbox[message.id] = OutboxRow(partition, message, START)
            elif call.name == "then":
                call.args[0](auditor)
            else:
                if call.name == "committed":
                    _keep_rows(store, *call.args[1:])
                getattr(auditor, call.name)(*call.args)
        final = copy.copy(self.fleet.store)
        final.rows = self.fleet.store.rows if self._rows is None else self._rows
        auditor.finish(final, self.now)
        return auditor


def _keep_rows(store: StoreTwin, plan: TickPlan, writes: TickWrites, ground: Ground) -> None:
    """Do to the outbox what a commit does to it."""
    for partition, message in writes.outbox:
        store.rows.outbox[message.id] = OutboxRow(partition, message, START)
    for partition, key in plan.consumed:
        if partition not in ground.lost:
            store.rows.outbox.pop(key, None)


def listening(fleet: Fleet, calls: list[Call] | None = None) -> list[Call]:
    """Return a list to which everything is appended from now on that an auditor of this fleet is told."""
    calls = [] if calls is None else calls
    store, stream = fleet.store, fleet.stream
    registers, puts, append, send = store.register, store.put, stream.append, fleet.endpoints.send

    def committed(plan: TickPlan, writes: TickWrites, ground: Ground) -> None:
        calls.append(Call("committed", ("w", copy.copy(plan), copy.deepcopy(writes), copy.deepcopy(ground))))

    def register(item: Any, *, feed: bool = True) -> Any:
        result = registers(item, feed=feed)
        calls.append(Call("registered", (item.transition, decode_command(item.command))))
        return result

    def put(partition: int, subject: str, body: bytes, key: str, kept: bytes = b"") -> Outgoing:
        message = puts(partition, subject, body, key, kept)
        calls.append(Call("put", (partition, message)))
        return message

    def published(message: Outgoing) -> Any:
        failure = append(message)
        if failure is None:
            calls.append(Call("published", (message,)))
        return failure

    async def called(call: Any) -> Any:
        made = store.rows.deliveries[call.delivery]
        calls.append(Call("called", (made.tenant, made.endpoint, call)))
        return await send(call)

    for name, hook in (("committed", committed), ("register", register), ("put", put)):
        setattr(store, name, hook)
    setattr(stream, "append", published)  # noqa: B010 - a method is replaced
    setattr(fleet.endpoints, "send", called)  # noqa: B010
    for rail in fleet.rails.values():
        setattr(rail, "submit", _asked(fleet, rail, calls))  # noqa: B010
    return calls


def _asked(fleet: Fleet, rail: Any, calls: list[Call]) -> Any:
    submit = rail.submit

    async def asked(submission: Any) -> Any:
        calls.append(Call("asked", (submission,)))
        outcome = await submit(submission)
        payment = rail.book.look_up(submission.reference, float("inf"))
        if payment is not None and payment.status(float("inf")) == "succeeded" and rail.submits.total():
            calls.append(Call("paid", (submission.rail, submission.reference, submission.minor)))
        return outcome

    return asked


def asked(**body: Any) -> IntentCommand:
    """Return the command that a body asks for."""
    command, _, violations = parse_intent(body)
    assert command is not None, violations
    return command


def composed(fleet: Fleet) -> dict[str, str]:
    """Submit what has several postings, and what is to be corrected or taken back by force."""
    return {
        "journal": fleet.submit(
            asked(
                kind="journal", currency="NGN", effective_at="2026-01-01T00:00:00Z",
                legs=[{"source": "customer", "destination": "merchant", "amount": 70},
                      {"source": "merchant", "destination": "poor", "amount": 5}],
                conditions=[{"account": "poor", "of": "posted", "min": 5}],
            )
        ),
        "sold": fleet.submit(
            asked(
                kind="conversion", amount=1_001_000, currency="NGN", source="customer", destination="dollars",
                buy_currency="USD",
            )
        ),
        "spent": fleet.submit(transfer(9_000_000, kind=IntentKind.BOOK_TRANSFER, destination="poor")),
        "right": fleet.submit(
            asked(
                kind="journal", currency="NGN", corrects="intent-2",
                legs=[{"source": "customer", "destination": "merchant", "amount": 1}],
            )
        ),
    }  # fmt: skip


def _asked_for(fleet: Fleet) -> dict[str, str]:
    """Ask for an intent of every sort; return their uuids by what becomes of them."""
    return {
        "happy": fleet.submit(transfer()),
        "booked": fleet.submit(transfer(kind=IntentKind.BOOK_TRANSFER)),
        "reviewed": fleet.submit(transfer(HIGH)),
        "rejected": fleet.submit(transfer(HIGH + 1)),
        "declined": fleet.submit(transfer(scenario="decline")),
        "left": fleet.submit(transfer(scenario="reject")),
        "clash": fleet.submit(transfer(scenario="contradictory_status")),
        "twice": fleet.submit(transfer(scenario="duplicate_callback")),
        "poor": fleet.submit(transfer(source="poor")),
        "stuck": fleet.submit(transfer(scenario="never_answers")),
        "lost": fleet.submit(transfer(scenario="unknown_reference")),
        "closed": fleet.submit(transfer(currency="EUR")),
        "two": fleet.submit(transfer(TWO)),
        "withdrawn": fleet.submit(transfer(HIGH + 3)),
        "windowed": fleet.submit(transfer(kind=IntentKind.PAYMENT), tenant="globex"),
        "refused": fleet.submit(transfer(HIGH), tenant="globex"),
        "charged": fleet.submit(transfer(country="GH")),
        "spared": fleet.submit(transfer(country="GH", scenario="decline")),
        "at once": fleet.submit(transfer(country="GH", kind=IntentKind.BOOK_TRANSFER)),
        "agreed": fleet.submit(transfer(country="KE", fee=FeeTerms(max="9"))),
        "dear": fleet.submit(transfer(country="KE", fee=FeeTerms(max="8"))),
        "held": fleet.submit(transfer(50_000, kind=IntentKind.HOLD, hold=HoldTerms(3_600), destination="")),
        "voided": fleet.submit(transfer(kind=IntentKind.HOLD, hold=HoldTerms(3_600))),
        "lapsed": fleet.submit(transfer(kind=IntentKind.HOLD, hold=HoldTerms(15))),
        **composed(fleet),
        "known": fleet.submit(transfer(counterparty=Counterparty("Ulrika Denholm")), tenant="initech"),
        "came": fleet.submit(
            transfer(kind=IntentKind.BOOK_TRANSFER, source="settlement-ngn", destination="virtual:9",
                     deposit=Deposit("ref", "virtual:9")), role="operator",
        ),
        "stranded": fleet.submit(transfer(country="ZZ")),
        "nowhere": fleet.submit(transfer(country="YY")),
        "astray": fleet.submit(transfer(kind=IntentKind.PAYMENT)),
    }  # fmt: skip


def record_story() -> Tape:
    """Return the tape of a fleet to which about everything happens once."""
    limits = structs.replace(LIMITS, daily_minor_max=40_000_000)
    setting = configuration(endpoints=(endpoint("hook", "*"),), limits=limits)
    setting = structs.replace(
        setting, members={"acme": PEOPLE}, fees={"acme": FEES}, lists=LISTS, rates=RATES,
        policies={**setting.policies, "globex": WINDOWED, "initech": DEMANDS},
        corridors={"acme": CORRIDORS},
        rails={**setting.rails, "gamma": structs.replace(setting.rails["beta"], name="gamma")},
        operations={"gamma": RailOperation(draining=True, reason="moved")},
        reviews={"acme": ReviewRules(approvals={"NGN": Approvals(minor_min=TWO)})},
    )  # fmt: skip
    fleet = Fleet(setting, events_max=3)
    open_books(fleet.store)
    calls = listening(fleet)
    names = _asked_for(fleet)
    fleet.advance(10)
    _work_off_the_queue(fleet, names)
    fleet.advance(10)
    for command, who, body in LATER:
        names[f"{command} {who}"] = fleet.command(command, names[who], body)
    fleet.run_until_idle()
    names["finish"] = fleet.command(
        "capture_hold", names["held"], {"amount": "20000", "destination": "frozen", "final": True}
    )
    names["late"] = fleet.command("void_hold", names["held"], {"reason": "too late"})
    fleet.run_until_idle()
    names["reverse held"] = fleet.command("reverse", names["held"], {"amount": "25000"})
    fleet.advance(600)
    case = next(k for k, f in fleet.store.rows.cases.items() if f.row.intent == names["stuck"])
    names["case"] = case
    body = {"case": case, "resolution": "declined", "reason": "asked them", "intent": names["stuck"]}
    fleet.command("resolve_case", case, body, partition=fleet.partition_of(names["stuck"]))
    names["expired"] = fleet.submit(transfer(HIGH + 2))
    fleet.advance(5 * 3600)
    names["escalate expired"] = fleet.command("escalate_review", names["expired"], {"round": 1, "reason": "unsure"})
    fleet.advance(68 * 3600)
    names["waiting"] = fleet.submit(transfer(HIGH + 4))
    fleet.advance(10)
    since = {"since": START.isoformat(), "events": ["ledger.posted"]}
    asks: tuple[dict[str, Any], ...] = ({"which": "undelivered"}, {"which": "any"}, {"which": "any", "dry_run": True})
    for number, body in enumerate(asks):
        names[f"recovery {number}"] = fleet.command(
            "recover_deliveries", "hook", {**body, **since}, partition=fleet.partition_of("acme/hook")
        )
        fleet.advance(60)
    return Tape(calls, fleet, names)


def _work_off_the_queue(fleet: Fleet, names: dict[str, str]) -> None:
    """Let people talk about reviews, pass them on and decide them, each in a way of its own."""

    def asks(kind: str, who: str, body: dict[str, Any], principal: str = "ops", role: str = "operator") -> None:
        key = fleet.command(kind, names[who], {"round": 1, **body}, principal=principal, role=role)
        names[f"{kind} {who} {principal}"] = key
        fleet.run_until_idle()

    for who, verdict in (("reviewed", "approved"), ("rejected", "rejected")):
        asks("decide_review", who, {"verdict": "approved", "reason": ""}, "dev")
        asks("comment_review", who, {"text": "who is that?"})
        asks("escalate_review", who, {"reason": "unsure", "to": "ola"})
        asks("assign_review", who, {"to": "ops"})
        seen = seen_of(fleet.transaction(names[who]))
        asks("decide_review", who, {"verdict": verdict, "reason": "seen", "request_hash": seen})
    seen = seen_of(fleet.transaction(names["two"]))
    asks("decide_review", "two", {"verdict": "approved", "reason": "seen", "request_hash": seen})
    asks("decide_review", "two", {"verdict": "approved", "reason": "too", "request_hash": seen}, "boss", "admin")
    asks("decide_review", "right", {"verdict": "approved", "reason": "seen"})
    asks("cancel", "withdrawn", {}, "dev", "developer")


# Helpers for what is planted ------------------------------------------------------------------------------------------


def rehashed(posting: Posting, **changes: Any) -> Posting:
    """Return a posting with other fields and the hash that goes with them."""
    p = structs.replace(posting, **changes)
    link = posting_hash(
        p.tenant, p.intent, p.ordinal, p.kind, p.debit, p.credit, p.pending, p.posted, p.effective_at
    )  # fmt: skip
    return structs.replace(p, hash=link)


def changed_by(postings: list[Posting]) -> dict[int, tuple[AccountRef, Balance]]:
    """Return the changes of balances that postings make."""
    found: dict[int, tuple[AccountRef, Balance]] = {}
    for p in postings:
        debit = found.setdefault(p.debit.id, (p.debit, Balance()))[1]
        credit = found.setdefault(p.credit.id, (p.credit, Balance()))[1]
        debit.debits_pending += p.pending
        debit.debits_posted += p.posted
        credit.credits_pending += p.pending
        credit.credits_posted += p.posted
    return found
