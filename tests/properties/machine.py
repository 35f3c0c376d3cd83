"""Any operations in any order, on the engine over its twins: after each, auditors that share nothing with it agree.

- The auditor of `tests/auditor.py` rebuilds every balance from the postings, in arithmetic of its own.
- The books are known a second way: from where each intent stands and what was answered, without looking at a posting.
- Every record is verified as `zentra ledger check` verifies it: chain, moves, entries against postings.
- What was refused has left no trace, and no repeat of a frame or a restart has done anything twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Struct, field, structs

from tests.actors.world import ACCOUNTS, configuration, transfer
from tests.auditor import AccountFile, Claim, Row, audit
from zentra.actors.resolving import CaseResolution
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.fees.schedule import FeeMatch, FeeRule, FeeSchedule
from zentra.runtime.intents.terms import HoldTerms, Leg
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.verification.accounts import AccountsVerifier
from zentra.runtime.verification.intents import SUMS, HoldRow, IntentRow, RecordRow, Verifier
from zentra.runtime.verification.postings import AccountFacts, PostingRow

__all__ = ["EngineMachine"]

FUNDS: Final = 400_000
FEE: Final = 50
CHARGED: Final = FeeMatch(kinds=("transfer",), currencies=("NGN",))
KEPT: Final[dict[str, Any]] = {"on_failure": "refund", "on_reversal": "keep"}
NAMES: Final = [ref.account_id for ref in ACCOUNTS if ref.guarded] + ["nobody"]
SCENARIOS: Final = (
    "success", "success", "success", "decline", "reject", "timeout_then_success", "late_success", "never_answers",
    "silent", "duplicate_callback", "out_of_order", "contradictory_amount", "contradictory_status", "unknown_reference",
)  # fmt: skip
HOLDING: Final = frozenset({State.ROUTING, State.SUBMITTED, State.CONFIRMED, State.REFUSED})
MOVED: Final = frozenset({State.SUCCESSFUL, State.RECONCILED, State.REVERSED})

names: Final = st.sampled_from(["customer"] * 6 + ["merchant"] * 3 + NAMES)
small: Final = st.integers(1, 200_000)
minors: Final = st.one_of(small, small, small, st.sampled_from([1, 999_999, 1_000_000, 2_000_001, 10_000_000, 2**62]))
picks: Final = st.integers(0, 10_000)
pauses: Final = st.sampled_from([0.01, 0.5, 2, 10, 65, 400, 73 * 3600])


class Known(Struct):
    """What whoever asked for an intent knows of it."""

    kind: str
    source: str
    destination: str
    minor: int
    principal: str
    given_back: int = 0
    captures: list[tuple[str, int]] = field(default_factory=list)  # of a hold: to whom, and how much
    legs: tuple[tuple[str, str, int], ...] = ()  # of a journal; several go back as a whole

    @property
    def moved(self) -> int:
        """How much went over before anything was given back."""
        return sum(minor for _, minor in self.captures) if self.kind == IntentKind.HOLD else self.minor

    def shares(self) -> list[tuple[str, str, int]]:
        """Return who has how much of whom; what is given back comes from the newest first."""
        if len(self.legs) > 1:
            return [] if self.given_back else list(self.legs)
        if self.kind != IntentKind.HOLD:
            return [(self.source, self.destination, self.minor - self.given_back)]
        back, kept = self.given_back, []
        for destination, minor in reversed(self.captures):
            taken = min(back, minor)
            back -= taken
            kept.append((self.source, destination, minor - taken))
        return kept


class EngineMachine(RuleBasedStateMachine):
    """Random operations on a fleet of workers; `done` counts them, over all runs, by name."""

    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        charging = FeeSchedule((FeeRule(name="flat", model="flat", flat_minor=FEE, applies=CHARGED, **KEPT),), 1)
        self.fleet = Fleet(structs.replace(configuration(), fees={"acme": charging}))
        refs = {ref.account_id: self.fleet.store.open_account(ref) for ref in ACCOUNTS}
        self.known: dict[str, Known] = {}
        self.asked: dict[str, tuple[str, str, dict[str, Any]]] = {}  # commands without an answer: kind, intent, body
        self.files = [
            AccountFile(r.id, r.tenant, r.currency, r.normal_side, -r.overdraft_limit if r.guarded else None)
            for r in refs.values()
        ]
        self.facts = {
            r.id: AccountFacts(
                r.id, r.tenant, r.account_id, r.type, r.currency, r.normal_side, r.guarded, r.overdraft_limit
            )
            for r in refs.values()
        }

    @initialize()
    def fund(self) -> None:
        """Money comes from an account without a floor, by an intent like any other."""
        for destination, minor in (("customer", FUNDS), ("merchant", FUNDS // 4)):
            self.submit(IntentKind.BOOK_TRANSFER, "liquidity-ngn", destination, minor, "success", True, "seed", "admin")

    # Operations -----------------------------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from([IntentKind.TRANSFER] * 3 + [IntentKind.BOOK_TRANSFER]),
        source=names, destination=names, minor=minors, scenario=st.sampled_from(SCENARIOS), at_once=st.booleans(),
    )  # fmt: skip
    def submit(
        self, kind: IntentKind, source: str, destination: str, minor: int, scenario: str, at_once: bool,
        principal: str = "dev", role: str = "developer",
    ) -> None:  # fmt: skip
        """Ask for a transfer, over a rail that behaves as it likes or without one."""
        terms = {"hold": HoldTerms(600)} if kind is IntentKind.HOLD else {}
        command = transfer(minor, scenario=scenario, kind=kind, source=source, destination=destination, **terms)
        intent = self.fleet.submit(command, principal=principal, role=role)
        self.known[intent] = Known(str(kind), source, destination, minor, principal)
        self._count(str(kind), at_once)

    @rule(minor=small, back=st.booleans())
    def pay(self, minor: int, back: bool) -> None:
        """Pay somebody who has an account, and wait until it is there: what most of the others are about."""
        ends = ("merchant", "customer") if back else ("customer", "merchant")
        self._share_out()
        self.submit(IntentKind.TRANSFER, *ends, minor, "success", True)
        self.fleet.advance(3)

    @precondition(lambda self: self.known)
    @rule(pick=picks, at_once=st.booleans())
    def cancel(self, pick: int, at_once: bool) -> None:
        """Ask to cancel some intent, wherever it stands."""
        self._ask("cancel", self._pick(pick), {})
        self._count("cancel", at_once)

    @precondition(lambda self: self.known)
    @rule(
        pick=picks, share=st.sampled_from([None, 60, 60, 60, 10, 100, 101, 0, -1, 2**70]), times=st.integers(1, 2),
        at_once=st.booleans(),
    )  # fmt: skip
    def reverse(self, pick: int, share: int | None, times: int, at_once: bool) -> None:
        """Ask for a share of an intent's money back, in per cent, or for all that is left; whoever is impatient asks
        twice."""
        intent = self._pick(pick, MOVED)
        amount = "full" if share is None else str(self.known[intent].moved * share // 100)
        for _ in range(times):
            self._ask("reverse", intent, {"amount": amount})
            self._count("reverse", at_once)

    @precondition(lambda self: self.known)
    @rule(pick=picks, verdict=st.sampled_from(["approved", "rejected"]), round_=st.integers(1, 2), own=st.booleans())
    def decide(self, pick: int, verdict: str, round_: int, own: bool) -> None:
        """Decide on a review, of a round that may be over, by somebody who may not."""
        intent = self._pick(pick, frozenset({State.REVIEW}))
        body = {"verdict": verdict, "round": round_, "reason": "because"}
        self._ask("decide_review", intent, body, principal=self.known[intent].principal if own else "ops")
        self._count(verdict, True)

    @rule(
        minor=small, onward=st.integers(0, 100), minutes=st.sampled_from([None, None, 0, 1, 60]), back=st.booleans()
    )  # fmt: skip
    def journal(self, minor: int, onward: int, minutes: int | None, back: bool) -> None:
        """Book several movements as one, of which one needs what another brings; some count from earlier on."""
        ends = ("merchant", "customer") if back else ("customer", "merchant")
        legs: tuple[tuple[str, str, int], ...] = ((*ends, minor),)
        if onward:
            legs = ((ends[1], "poor", max(1, minor * onward // 100)), *legs)
        total = sum(leg[2] for leg in legs)
        given = tuple(Leg(source=a, destination=b, minor=str(n), currency="NGN") for a, b, n in legs)
        dated = {}
        if minutes is not None:
            dated["effective_at"] = timestamp(self.fleet.now - timedelta(minutes=minutes))
        command = transfer(
            total, kind=IntentKind.JOURNAL, legs=given, source=legs[0][0], destination=legs[0][1], **dated
        )
        intent = self.fleet.submit(command, principal="dev", role="operator")
        self.known[intent] = Known("journal", legs[0][0], legs[0][1], total, "dev", legs=legs)
        self._count("journal", True)

    @rule(minor=small, destination=st.sampled_from(["merchant", "merchant", "poor", "frozen", ""]))
    def hold(self, minor: int, destination: str) -> None:
        """Hold some money for somebody, or for whoever is named later."""
        self.submit(IntentKind.HOLD, "customer", destination, minor, "success", True)

    @precondition(lambda self: any(known.kind == IntentKind.HOLD for known in self.known.values()))
    @rule(
        pick=picks, minor=st.one_of(st.none(), small, st.integers(1, 5_000)), final=st.booleans(),
        destination=st.sampled_from(["", "", "merchant", "poor", "nobody"]), at_once=st.booleans(),
    )  # fmt: skip
    def capture(self, pick: int, minor: int | None, final: bool, destination: str, at_once: bool) -> None:
        """Capture a part of a hold, or what is left of it, which may be over."""
        amount = "full" if minor is None else str(minor)
        body = {"amount": amount, "destination": destination, "final": final}
        self._ask("capture_hold", self._pick(pick, frozenset({State.HELD})), body)
        self._count("capture", at_once)

    @precondition(lambda self: any(known.kind == IntentKind.HOLD for known in self.known.values()))
    @rule(pick=picks, at_once=st.booleans())
    def void(self, pick: int, at_once: bool) -> None:
        """Give up a hold, which may be over."""
        self._ask("void_hold", self._pick(pick, frozenset({State.HELD})), {"reason": "because"})
        self._count("void", at_once)

    @precondition(lambda self: self._cases())
    @rule(pick=picks, resolution=st.sampled_from(["succeeded", "declined", "retry", "dismissed"]))
    def resolve(self, pick: int, resolution: str) -> None:
        """Resolve an open case, with a proof that may be against what is known."""
        cases = self._cases()
        case = cases[pick % len(cases)]
        row = self.fleet.store.rows.cases[case].row
        body = CaseResolution(case, resolution, "because", row.intent, row.kind)
        self.fleet.command("resolve_case", row.intent or case, body)
        self._count("resolve", True)

    @rule(seconds=pauses)
    def wait(self, seconds: float) -> None:
        """Let time pass: rails call back, timers fire, reviews run out; days only where no rail is asked all along."""
        self._share_out()
        asking = any(self._state(intent) is State.SUBMITTED for intent in self.known)
        self.fleet.advance(min(seconds, 400) if asking else seconds)
        self._count("wait", True)

    @rule(which=st.sampled_from(["join", "repeat", "forget", "replace", "replay"]))
    def disturb(self, which: str) -> None:
        """Let workers die, join and forget, and frames come again."""
        fleet = self.fleet
        if which == "replace":
            fleet.replace_worker(f"w{len(self.done)}-{self.done.total()}")
        elif which == "join" and len(fleet.workers) < 3:
            fleet.add_worker(f"w{self.done.total()}")
            self._share_out()
        elif which == "repeat":
            fleet.repeats = 3 - fleet.repeats
        elif which == "forget":
            fleet.forgetful = not fleet.forgetful
        elif which == "replay":
            fleet.replay()
        self._count(which, True)

    # What holds after each of them ----------------------------------------------------------------------------------

    @invariant()
    def every_event_could_be_decided(self) -> None:
        assert [c.row.detail for c in self.fleet.store.rows.cases.values() if c.row.kind == "poison_message"] == []

    @invariant()
    def the_auditor_has_no_complaint(self) -> None:
        store = self.fleet.store
        rows = [
            Row(
                p.intent, p.tenant, p.debit.currency, p.debit.id, p.credit.id, p.pending, p.posted,
                "/fee" if p.kind.startswith("fee") else "",
            )
            for p in store.rows.postings.values()
        ]  # fmt: skip
        claims = {file.id: Claim(*structs.astuple(store.balance(file.id))) for file in self.files}
        for file in self.files:
            if file.floor is None:  # sees holds from the other side; only who gives can hold
                assert claims[file.id].debits_pending == 0
        assert audit(self.files, rows, claims, self._holds()) == []

    @invariant()
    def the_books_are_where_the_intents_stand(self) -> None:
        self._hear()
        expected: Counter[str] = Counter()
        for intent, known in self.known.items():
            state = self._state(intent)
            if state in MOVED or known.captures:
                for source, destination, minor in known.shares():
                    expected[source] -= minor
                    expected[destination] += minor
                assert (state is State.REVERSED) == (known.given_back == known.moved)
            else:
                assert known.given_back == 0
            if known.kind == IntentKind.TRANSFER and state in MOVED:
                expected[known.source] -= FEE
                expected["fee-ngn"] += FEE
        for ref in self.fleet.store.refs.values():
            if ref.type != "settlement":
                balance = self.fleet.store.balance(ref.id)
                assert balance.credits_posted - balance.debits_posted == expected[ref.account_id], ref.account_id

    @invariant()
    def every_record_and_posting_is_what_the_others_say(self) -> None:
        store, verifier = self.fleet.store, Verifier()
        postings: dict[str, list[PostingRow]] = {}
        for p in store.rows.postings.values():
            row = PostingRow(
                p.intent, p.ordinal, p.tenant, p.kind, p.debit.id, p.credit.id, p.debit.currency, p.pending, p.posted,
                p.at, p.hash, getattr(p, "effective_at", None),
            )  # fmt: skip
            postings.setdefault(p.intent, []).append(row)
        for (tenant, intent_id), intent in store.intake.intents.items():
            records = [
                RecordRow(t.intent, t.sequence, t.tenant, t.at, str(t.state), t.event, t.record, t.hash)
                for t in store.rows.transitions[intent.intent]
            ]
            row_ = IntentRow(intent.intent, tenant, intent_id, intent.digest)
            kept = store.rows.holds.get(intent.intent)
            hold = None if kept is None else HoldRow(
                kept.intent, tenant, kept.account, kept.minor, kept.remaining, kept.captured, kept.status
            )  # fmt: skip
            verifier.intent(row_, records, postings.get(intent.intent, []), self.facts, hold)
        accounts = AccountsVerifier(verifier.findings.differ)
        for facts in self.facts.values():
            own = verifier.fold.get(facts.id, [0] * SUMS)
            stored = structs.astuple(store.balance(facts.id))
            accounts.account(facts, stored, (own[0], own[1], own[2], own[3]), own[4], forced=own[5])
        accounts.finish()
        assert verifier.findings.shown == []

    def teardown(self) -> None:
        """Whatever is under way comes to its end: terminal, in review, or a case."""
        self.fleet.repeats = 1
        self._share_out()
        self.fleet.advance(700)
        self.the_books_are_where_the_intents_stand()
        with_case = {file.row.intent for file in self.fleet.store.rows.cases.values() if file.status == "open"}
        for intent in self.known:
            state = self._state(intent)
            assert state in MOVED or state in (State.FAILED, State.REVIEW) or intent in with_case, (intent, state)

    # Helpers --------------------------------------------------------------------------------------------------------

    def _count(self, name: str, at_once: bool) -> None:
        self.done[name] += 1
        if at_once:
            self.fleet.run_until_idle()

    def _share_out(self) -> None:
        """Let workers renew what they have, as they do every second, and give up what others should have."""
        for _ in range(3):
            for worker in self.fleet.workers:
                worker.claim()

    def _ask(self, kind: str, intent: str, body: dict[str, Any], principal: str = "ops") -> None:
        command = self.fleet.command(kind, intent, body, principal=principal)
        self.asked[command] = kind, intent, body

    def _hear(self) -> None:
        """Take note of what was answered since, in the order of the answers."""
        for command, outcome in self.fleet.store.rows.command_outcomes.items():
            asked = self.asked.pop(command, None)
            if asked is None or outcome[2] != "done":
                continue
            kind, intent, body = asked
            known = self.known[intent]
            if kind == "reverse":
                known.given_back = known.moved if body["amount"] == "full" else known.given_back + int(body["amount"])
            elif kind == "capture_hold":
                left = known.minor - known.moved
                minor = left if body["amount"] == "full" else int(body["amount"])
                known.captures.append((body["destination"] or known.destination, minor))

    def _pick(self, pick: int, states: frozenset[State] | None = None) -> str:
        """Return some intent: nearly always one in these states where there is any, and often one of the last."""
        fitting = [intent for intent in self.known if states is None or self._state(intent) in states]
        some = fitting if fitting and pick % 10 else list(self.known)
        return some[-2:][pick % min(2, len(some))] if pick % 3 else some[pick % len(some)]

    def _state(self, intent: str) -> State:
        return self.fleet.store.rows.transitions[intent][-1].state

    def _cases(self) -> list[str]:
        return [key for key, case in self.fleet.store.rows.cases.items() if case.status == "open"]

    def _holds(self) -> dict[tuple[str, int], int]:
        """Return what intents hold, from where they stand."""
        self._hear()
        found, refs = {}, self.fleet.store.refs
        for intent, known in self.known.items():
            state = self._state(intent)
            if known.kind == IntentKind.TRANSFER and state in HOLDING:
                found[intent, refs["acme", known.source].id] = known.minor
                found[f"{intent}/fee", refs["acme", known.source].id] = FEE
            elif state is State.HELD:
                found[intent, refs["acme", known.source].id] = known.minor - known.moved
        return found
