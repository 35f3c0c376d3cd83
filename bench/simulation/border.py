"""The border of the simulation: what a gateway does with intents, commands and callbacks, and what clients send it.

A gateway commits a fact and publishes it afterwards; between the two it may die. Answers to repeats are judged here:
the same key gives the first answer for ever (G), and another content under a known key or id is refused (H)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from zentra.actors.stages import REGISTERED_TIMER
from zentra.bench.simulation import orders
from zentra.bench.simulation.auditor import Violation
from zentra.bench.simulation.faults import Fault
from zentra.bench.simulation.outside import Callback, signed
from zentra.bench.simulation.setting import COLD_ACCOUNTS, CURRENCY, LISTED, TENANTS, UNLISTED, UNTRUSTED
from zentra.bench.twins.fleet import at_once
from zentra.gateway.sandbox.scenarios import SCENARIOS
from zentra.runtime.evidence import canonical
from zentra.runtime.fees.quoting import NO_FEES, FeeFacts, quote
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import IntentCommand, digest_of
from zentra.runtime.intents.facts import Judged
from zentra.runtime.intents.terms import Counterparty, Deposit, FeeTerms, HoldTerms
from zentra.runtime.intents.transaction import Record, register
from zentra.runtime.intents.vocabulary import COMPOSED, IntentKind
from zentra.runtime.messages import CommandGiven, Event, RailReported, callback_cause, encode_frame
from zentra.runtime.partitions import callback_key, lane_key
from zentra.runtime.ports import CaseRow, Timer
from zentra.runtime.rails.port import CallbackRejected
from zentra.runtime.rails.routing import find_corridor, parse_reference
from zentra.runtime.reviews import known_digest, request_hash
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.subjects import command_subject
from zentra.storage.intake.registration import IntentIdTaken, Registered, Registration

if TYPE_CHECKING:
    from zentra.bench.simulation.simulation import Simulation

__all__ = ["Border"]

PEOPLE: Final = ("ops", "amara", "bisi", "dele", "eze", "idp:7")  # the last is nobody that is stored
ROUTED: Final = ("provider.routed", "provider.failover")
_KINDS: Final = {
    IntentKind.TRANSFER: 6, IntentKind.PAYMENT: 2, IntentKind.BOOK_TRANSFER: 2, IntentKind.JOURNAL: 3,
    IntentKind.CONVERSION: 1, IntentKind.HOLD: 3,
}  # fmt: skip
_COMMANDS: Final = (
    "cancel", "reverse", "decide", "decide", "decide", "note", "note", "resolve", "replay", "capture", "capture",
    "void", "recover",
)  # fmt: skip
_HOLD_SECONDS: Final = (1, 3, 20, 90, 600, 86_400)
_SCENARIOS: Final = (*sorted(SCENARIOS), *("success",) * 14)


class Request(Struct, frozen=True):
    """A request that a client has made and may make again."""

    tenant: str
    key: str
    intent_id: str
    command: IntentCommand
    intent: str
    answer: bytes


class Border:
    """One gateway with many clients."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._random = simulation, simulation.random
        self.requests: list[Request] = []
        self._serial = 0
        self._asking = ""
        self._seats: dict[tuple[str, int], list[tuple[str, str, str]]] = {}  # command, principal, verdict
        self.foreign: list[str] = []  # commands by the wrong tenant: none may be accepted

    # Intents ------------------------------------------------------------------------------------------------------

    def new_intent(self) -> None:
        """Let a client ask for something new."""
        random = self._random
        tenant = random.choices(TENANTS, (5, 3, 1))[0]
        if random.random() < 0.06:
            self._deposit(tenant)
            return
        kind = random.choices(list(_KINDS), list(_KINDS.values()))[0]
        if kind in COMPOSED:
            number = self._next()
            self._register(tenant, f"key-{number}", f"intent-{number}", self._composed(kind, tenant, number), None)
            return
        source = random.choices(("hot", "cold", "poor", "closed", "nobody", "liquidity-ngn", "credit", "eu-hot",
                                 "virtual:100"), (10, 8, 4, 0.3, 0.3, 0.3, 1, 1.5, 1))[0]  # fmt: skip
        destination = random.choices(("shop", "out", "spare", "hot", "nowhere", "virtual:200", "idle"),
                                     (8, 3, 2, 1, 0.3, 1, 0.5))[0]  # fmt: skip
        if source == "eu-hot" and random.random() < 0.8:
            destination = random.choice(("eu-shop", "virtual:400"))
        if source == "cold":
            source = f"cold-{random.randrange(COLD_ACCOUNTS)}"
        if source == "poor":  # what it has is easily spoken for
            amounts = (1, 100, 700, 700, 1_000, 1_000, 5_000)
        else:
            amounts = (1, 100, 2_500, 40_000, 120_000, 180_000, random.randrange(1, 500_000))
        minor = random.choice(amounts)
        scenario = random.choice(_SCENARIOS)
        counterparty: Counterparty | UnsetType = UNSET
        if tenant == "initech" and random.random() < 0.9:
            listed = random.choice([name for entry in LISTED for name in entry.names])
            counterparty = Counterparty(random.choice((*UNLISTED, *UNLISTED, listed, listed.upper())))
        command = IntentCommand(
            kind=kind, minor=str(minor), currency=CURRENCY if random.random() < 0.98 else "USD", source=source,
            destination=destination, scope="default" if random.random() < 0.97 else "treasury",
            metadata={} if scenario == "success" else {"sandbox_scenario": scenario}, counterparty=counterparty,
        )  # fmt: skip
        if kind is IntentKind.HOLD:
            destination = command.destination if random.random() < 0.7 else ""
            command = structs.replace(command, destination=destination, hold=HoldTerms(random.choice(_HOLD_SECONDS)))
        else:
            command = orders.with_conditions(random, command)
            if random.random() < 0.15:
                command = structs.replace(command, fee=self._fee_terms(tenant, command))
        number = self._next()
        self._register(tenant, f"key-{number}", f"intent-{number}", command, None)

    def _deposit(self, tenant: str) -> None:
        """Let money come in, now and then for an account that cannot take it."""
        random, number = self._random, self._next()
        sent_to = random.choice(
            ("virtual:100", "virtual:200", "virtual:300", "virtual:400", "virtual:999", "idle", "out")
        )
        command = IntentCommand(
            kind=IntentKind.BOOK_TRANSFER, minor=str(random.choice((5, 90_000))), currency=CURRENCY,
            source="settlement-ngn", destination=sent_to, deposit=Deposit(f"ref-{number}", sent_to),
        )  # fmt: skip
        self._register(tenant, f"key-{number}", f"intent-{number}", command, None, role="operator")

    def _composed(self, kind: IntentKind, tenant: str, number: int) -> IntentCommand:
        simulation = self._simulation
        now, rates = simulation.store_time(), simulation.store.current.rates.get(tenant, ())
        if kind is IntentKind.CONVERSION:
            return orders.conversion(self._random, tenant, f"intent-{number}", rates, now)
        known = [request.intent_id for request in self.requests if request.tenant == tenant]
        return orders.journal(self._random, [*known, f"intent-{number}"], now)

    def _fee_terms(self, tenant: str, command: IntentCommand) -> FeeTerms:
        """Return what a client agrees to pay: what it is quoted now, that or less at most, or another quote."""
        store = self._simulation.store
        types = [
            ref.type if (ref := store.refs.get((tenant, name))) else ""
            for name in (command.source, command.destination)
        ]
        corridor = find_corridor(store.current.corridors.get(tenant, ()), command)
        facts = FeeFacts(
            str(command.kind), command.amount, command.currency, None, corridor.name if corridor else "", *types
        )
        quoted = quote(store.current.fees.get(tenant, NO_FEES), facts)
        match self._random.randrange(4):
            case 0:
                return FeeTerms(max=str(quoted.total_payer))
            case 1:
                return FeeTerms(max=str(quoted.total_payer // 2))
            case 2:
                return FeeTerms(quote_digest="0" * 64)
        return FeeTerms(quote_digest=quoted.digest)

    def repeat(self) -> None:
        """Let a client ask again: in the same words, or in others under an old key or an old id,
        or under an old key for an id that is new or belongs to another intent."""
        if not self.requests:
            return
        random = self._random
        first = random.choice(self.requests)
        changed = structs.replace(first.command, minor=str(first.command.amount + 1))
        match random.randrange(6):
            case 0:
                self._register(first.tenant, first.key, first.intent_id, first.command, first)
            case 1:
                self._register(first.tenant, first.key, first.intent_id, changed, first)
            case 2:
                self._register(first.tenant, f"key-{self._next()}", first.intent_id, first.command, first)
            case 3:
                self._register(first.tenant, f"key-{self._next()}", first.intent_id, changed, first)
            case 4:
                command = random.choice((first.command, changed))
                self._register(first.tenant, first.key, f"intent-{self._next()}", command, first)
            case _:
                other = random.choice([request for request in self.requests if request.tenant == first.tenant])
                command = random.choice((first.command, changed, other.command))
                self._register(first.tenant, first.key, other.intent_id, command, first)

    def _register(
        self, tenant: str, key: str, intent_id: str, command: IntentCommand, first: Request | None,
        role: str = "developer",
    ) -> None:  # fmt: skip
        simulation, number = self._simulation, self._next()
        intent, digest = _id("intent", number), digest_of("intent", command)
        principal = self._random.choice(PEOPLE)
        trace, request_id = f"{number:032x}", f"request-{number}"
        transition = register(
            intent=intent, tenant=tenant, intent_id=intent_id, command=command, digest=digest, key=key,
            principal=principal, role=role, trace=trace, at=simulation.gateway_time(), cause=request_id,
        )  # fmt: skip
        partition, due = simulation.partition_of(intent), transition.at + REGISTERED_TIMER
        answer = b'{"intent":"%s"}' % intent.encode()
        item = Registration(
            tenant=tenant, key=key, digest=digest, intent=intent, intent_id=intent_id,
            command=canonical.encode(command), principal=principal, role=role, trace=trace, request_id=request_id,
            status=202, answer=answer, transition=transition,
            timer=Timer("intent", intent, "state", partition, tenant, due),
        )  # fmt: skip
        outcome, frames = simulation.store.register(item)
        if first is not None:
            self._judge(first, key, command, outcome)
            return
        if not isinstance(outcome, Registered):
            raise Violation("G", f"a new key and id were answered with {outcome}")
        self.requests.append(Request(tenant, key, intent_id, command, intent, answer))
        simulation.auditor.registered(transition, command)
        if simulation.swarm.strikes(Fault.REGISTRATION_IN_DOUBT):
            return  # the client hears that it was registered; the frames are left to the sweep
        self._publish(frames)

    def _judge(self, first: Request, key: str, command: IntentCommand, outcome: object) -> None:
        """Check the answer to a repeat against the first one."""
        same = command == first.command
        if isinstance(outcome, StoredKey):
            if (outcome.digest == digest_of("intent", command)) != same:
                raise Violation("H", f"{command} under key {key} passes for {first.command}")
            if outcome.answer != first.answer:
                raise Violation("G", f"key {key} was answered {outcome.answer!r}, at first {first.answer!r}")
        elif key == first.key or not isinstance(outcome, IntentIdTaken) or same or outcome.intent != first.intent:
            raise Violation("G", f"a repeat of {first.intent} under {key} was answered with {outcome}")

    # Commands -----------------------------------------------------------------------------------------------------

    def command(self) -> None:
        """Let somebody ask something of what exists, now and then of what belongs to another tenant."""
        self._asking = self._random.choice(PEOPLE)
        given = getattr(self, f"_{self._random.choice(_COMMANDS)}")()
        if given is None:
            return
        tenant, kind, subject, owner, body = given
        foreign = self._random.random() < 0.1
        if foreign:
            tenant = self._random.choice([name for name in TENANTS if name != tenant])
        key = _id("command", self._next())
        if foreign:
            self.foreign.append(key)
        elif kind == "decide_review":
            self._seats.setdefault((subject, body["round"]), []).append((key, self._asking, body["verdict"]))
        role = "operator" if self._random.random() < 0.95 else "auditor"
        event = CommandGiven(key, tenant, kind, subject, self._asking, role, msgspec.json.encode(body))
        self.emit(self._simulation.partition_of(owner), "command", event)

    def give(self, tenant: str, kind: str, intent: str, body: object) -> None:
        """Let an operator ask something of an intent, beside what is asked at random."""
        event = CommandGiven(
            _id("command", self._next()), tenant, kind, intent, PEOPLE[0], "operator", msgspec.json.encode(body)
        )  # fmt: skip
        self.emit(self._simulation.partition_of(intent), "command", event)

    def _cancel(self) -> Any:
        request = self._recent()
        return request and (request.tenant, "cancel", request.intent, request.intent, {})

    def _reverse(self) -> Any:
        request = self._recent()
        amount = self._random.choice(("full", "full", "1", "50", str(request.command.amount + 1))) if request else ""
        body = {"amount": amount, **orders.forced(self._random, PEOPLE)}
        return request and (request.tenant, "reverse", request.intent, request.intent, body)

    def _capture(self) -> Any:
        request, random = self._held(), self._random
        if request is None:
            return None
        whole = request.command.amount
        body = {"amount": random.choice(("full", "1", str(whole // 2 + 1), str(whole // 3 + 1), str(whole + 1)))}
        if random.random() < 0.6:
            body["destination"] = random.choice(("shop", "shop", "out", "spare", "closed", "nowhere", "hot"))
        extra = {"final": True, "reason": "the last one"} if random.random() < 0.2 else {}
        return request.tenant, "capture_hold", request.intent, request.intent, {**body, **extra}

    def _void(self) -> Any:
        request = self._held()
        return request and (request.tenant, "void_hold", request.intent, request.intent, {"reason": "not needed"})

    def _held(self) -> Request | None:
        """Return a hold, one that stands where there is one, or now and then something else."""
        standing = [key for key, row in self._simulation.store.rows.holds.items() if row.status == "open"]
        if standing and self._random.random() < 0.7:
            intent = self._random.choice(standing)
            return next((request for request in self.requests if request.intent == intent), None)
        recent = self.requests[-60:]
        holds = [one for one in recent if one.command.kind is IntentKind.HOLD]
        return self._random.choice(holds if holds and self._random.random() < 0.95 else recent) if recent else None

    def _decide(self) -> Any:
        review = self._open_review()
        if review is None:
            return None
        row, random = self._simulation.store.rows.reviews[review], self._random
        verdict = random.choice(("approved", "approved", "approved", "rejected"))
        if not self._has_seat(review, row, verdict) and random.random() < 0.9:
            return None  # the gateway keeps so many seats a round; now and then a late one gets through to the worker
        body = {"verdict": verdict, "round": row["round"], "reason": "looked at"}
        if random.random() < 0.95:  # a gateway of the version before says nothing of what was seen
            body["request_hash"] = self._seen(review, row) if random.random() < 0.9 else "0" * 64
        return row["tenant"], "decide_review", review, review, body

    def _has_seat(self, review: str, row: dict[str, Any], verdict: str) -> bool:
        refused = self._simulation.store.rows.decisions_refused
        taken = [seat for seat in self._seats.get((review, row["round"]), ()) if seat[0] not in refused]
        over = any(word == "rejected" or who == self._asking for _, who, word in taken)
        return len(taken) < row["approvals"] and not over and self._asking != row["created_by"]

    def _seen(self, review: str, row: dict[str, Any]) -> str:
        request = next(request for request in self.requests if request.intent == review)
        records = self._simulation.store.rows.transitions[review]
        referral = next(one.record for one in reversed(records) if one.event == "policy.review")
        judged = msgspec.json.decode(referral, type=Record).facts
        assert isinstance(judged, Judged)
        return request_hash(
            tenant=row["tenant"], intent=review, command=digest_of("intent", request.command).hex(),
            round=row["round"], rules=row["rules"], version=row["version"], asks=judged.asks or None,
            known=known_digest(judged),
        )  # fmt: skip

    def _open_review(self) -> str | None:
        rows = self._simulation.store.rows.reviews
        waiting = [key for key, row in rows.items() if row["status"] == "open"]
        return self._random.choice(waiting) if waiting else None

    def _note(self) -> Any:
        """Say something about a review, make it somebody's, claim it, or pass it on; now and then in a wrong round."""
        review = self._open_review()
        if review is None:
            return None
        row, random = self._simulation.store.rows.reviews[review], self._random
        number = row["round"] if random.random() < 0.95 else row["round"] + 1
        to = random.choice((*PEOPLE, None))
        kind, body = random.choice(
            (
                ("comment_review", {"text": f"seen by {self._asking}"}),
                ("assign_review", {"to": to}),
                ("assign_review", {"to": self._asking, "unassigned": True}),
                ("escalate_review", {"reason": "unsure", "to": to}),
            )
        )
        return row["tenant"], kind, review, review, {"round": number, **body}

    def _resolve(self) -> Any:
        files = [f for f in self._simulation.store.rows.cases.values() if f.status == "open" and f.row.intent]
        if not files:
            return None
        row = self._random.choice(files).row
        resolution = self._random.choice(("retry", "dismissed", self._proof(row)))
        body = {"case": row.id, "resolution": resolution, "reason": "seen", "intent": row.intent, "kind": row.kind}
        return row.tenant, "resolve_case", row.id, row.intent, body

    def _proof(self, row: CaseRow) -> str:
        """Return what an operator learns at the partner about the attempt that a case is about. A partner that was left
        as it had not accepted, and says that it has paid, may have a statement of that, or take it back."""
        simulation = self._simulation
        found = [t for t in simulation.store.rows.transitions.get(row.intent or "", ()) if t.event in ROUTED]
        if not found:
            return "dismissed"
        number = int(row.detail.get("attempt", len(found)))
        if number < len(found):
            return self._random.choice(("succeeded", "declined"))
        facts = msgspec.json.decode(found[number - 1].record)["facts"]
        return simulation.rails[facts["rail"]].truth(facts["reference"]) or "dismissed"

    def _replay(self) -> Any:
        rows = self._simulation.store.rows.delivery_states
        if not rows:
            return None
        delivery = self._simulation.store.rows.deliveries[self._random.choice(list(rows))]
        return delivery.tenant, "replay_delivery", delivery.id, lane_key(delivery.tenant, delivery.endpoint), {}

    def _recover(self) -> Any:
        """Have what an endpoint has not had sent to it, or counted; now and then of one that is disabled."""
        simulation, random = self._simulation, self._random
        tenant = random.choice(sorted(simulation.store.current.endpoints))
        members = [*simulation.store.current.endpoints[tenant], *simulation.spare_endpoints.get(tenant, ())]
        if not members:
            return None  # all that the tenant had were deleted
        endpoint = random.choice(members).id
        since = simulation.store_time() - timedelta(seconds=random.choice((0, 1, 30, 400, 90_000)))
        body = {
            "which": random.choice(("failed", "missing", "undelivered", "undelivered", "any")),
            "since": since.isoformat(), "dry_run": random.random() < 0.2,
            "events": random.choice(([], [], ["ledger.*", "policy.accepted"])),
        }  # fmt: skip
        return tenant, "recover_deliveries", endpoint, lane_key(tenant, endpoint), body

    def _recent(self) -> Request | None:
        return self._random.choice(self.requests[-40:]) if self.requests else None

    # Callbacks ----------------------------------------------------------------------------------------------------

    def take_callback(self, callback: Callback) -> bool:
        """Take a callback from its rail; return whether the rail heard that it was taken."""
        simulation = self._simulation
        rail = simulation.rails[callback.rail]
        headers = signed(callback.raw, simulation.rail_time())
        try:
            outcome = rail.inner.verify_callback(callback.raw, headers, simulation.gateway_time().timestamp())
        except CallbackRejected:
            return False  # the clocks are too far apart; a rail tries again
        if outcome.rail in UNTRUSTED:
            outcome = structs.replace(outcome, trust=UNTRUSTED[outcome.rail])
        named = parse_reference(outcome.reference)
        key = named[0] if named else callback_key(outcome.rail, outcome.reference)
        assert outcome.event_id is not None
        simulation.store.take_callback(outcome)
        simulation.auditor.heard(outcome)
        self.emit(simulation.partition_of(key), "callback", RailReported(outcome, callback_cause(outcome.event_id)))
        return True

    def emit_bytes(self, partition: int, stage: str, body: bytes) -> None:
        """Commit a frame and publish it."""
        key = f"a{self._next():031x}"
        self._publish([self._simulation.store.put(partition, command_subject(partition, stage), body, key)])

    def emit(self, partition: int, stage: str, event: Event) -> None:
        """Commit a fact and publish its frame."""
        self.emit_bytes(partition, stage, encode_frame([event]))

    def _publish(self, frames: list[Outgoing]) -> None:
        """Publish what was committed, unless this gateway dies before."""
        simulation = self._simulation
        if simulation.swarm.strikes(Fault.REGISTRATION_UNPUBLISHED):
            return
        results = at_once(simulation.publisher.publish(frames))
        sent = [frame.id for frame, failure in zip(frames, results, strict=True) if failure is None]
        at_once(simulation.store.mark_sent(sent))

    def _next(self) -> int:
        self._serial += 1
        return self._serial


def _id(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind}/{number}".encode()).hexdigest()[:32]
