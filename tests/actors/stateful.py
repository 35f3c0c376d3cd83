"""Any operations in any order, against the auditors: the engine on its twins, driven by hypothesis.

    python -m tests.actors.stateful --operations 50000

An operation is an intent of any kind, with fee terms or without, a command on one that exists (cancel, reverse,
capture, void, decide, resolve), a change of what is set up, time that passes, or a worker that is replaced by one that
remembers nothing. Every commit, message and call goes to the simulator's auditor, whose arithmetic is its own:
postings, fees, holds, policy, chains and logs. At the end of each life the stored rows are rebuilt, and a third auditor
that knows nothing but rows (`tests/auditor.py`) adds them up once more. Hypothesis shrinks what fails to the fewest
operations.

Prints how many operations there were and how fast; ends with 1 where one of the auditors objects."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec import UNSET, UnsetType, structs

from tests.actors.world import audited
from zentra.bench.simulation import setting
from zentra.bench.simulation.auditor import Auditor
from zentra.bench.twins.fleet import Fleet
from zentra.gateway.sandbox.scenarios import SCENARIOS
from zentra.runtime.fees.quoting import NO_FEES, FeeFacts, quote
from zentra.runtime.fees.schedule import FeeSchedule
from zentra.runtime.intents.command import IntentCommand, decode_command
from zentra.runtime.intents.terms import FeeTerms, HoldTerms
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.rails.routing import find_corridor

__all__ = ["STEPS", "EngineMachine", "main"]

STEPS: Final = 50  # operations of one life
REBUILD_EVERY: Final = 10
RAILED: Final = st.sampled_from((IntentKind.TRANSFER, IntentKind.TRANSFER, IntentKind.PAYMENT))
SOURCES: Final = ("hot", "hot", "poor", "poor", "credit", "cold-0", "closed", "nobody", "liquidity-ngn", "fee-ngn")
DESTINATIONS: Final = ("shop", "shop", "out", "spare", "hot", "nowhere", "fee-ngn")
AMOUNTS: Final = st.sampled_from((1, 9, 99, 500, 700, 999, 1_000, 1_001, 2_500, 40_000, 160_000, 401_000))
PICK: Final = st.integers(0, 1 << 16)
PART: Final = st.sampled_from(("full", "full", "1", "33", "400", "1000", "2500", "0", "-1", "500000"))
TENANT: Final = st.sampled_from(setting.TENANTS)
BETWEEN: Final = st.tuples(st.sampled_from(SOURCES), st.sampled_from(DESTINATIONS))
SCENARIO: Final = st.sampled_from(("success",) * 6 + tuple(sorted(SCENARIOS)))
# States in which a command has something to do; most are given there.
_APT: Final = {
    "reverse": (State.SUCCESSFUL, State.RECONCILED), "cancel": (State.REVIEW, State.ROUTING),
    "capture_hold": (State.HELD,), "void_hold": (State.HELD,),
}  # fmt: skip
PAUSES: Final = st.sampled_from((0.0, 0.5, 3.0, 9.0, 61.0, 400.0))


class EngineMachine(RuleBasedStateMachine):
    """One life of a fleet of one worker."""

    told: ClassVar[Counter[str]] = Counter()

    @initialize(events_max=st.sampled_from((1, 2, 7, 1_000)), undrafted_max=st.sampled_from((0, 16)))
    def open(self, events_max: int, undrafted_max: int) -> None:
        """Open the books of the simulator's three tenants, with their fees, limits, rails and endpoints."""
        self.fleet = fleet = Fleet(
            setting.configuration(), profiles=setting.profiles(), events_max=events_max, undrafted_max=undrafted_max
        )
        setting.open_books(fleet.store)
        self.auditor = Auditor(fleet.store)
        _listen(fleet, self.auditor)
        self.intents: list[tuple[str, str]] = []  # tenant and uuid
        self.operations = 0

    # Operations ---------------------------------------------------------------------------------------------------

    @rule(tenant=TENANT, kind=RAILED, between=BETWEEN, minor=AMOUNTS, agreed=st.integers(0, 9), scenario=SCENARIO)
    def send(
        self, tenant: str, kind: IntentKind, between: tuple[str, str], minor: int, agreed: int, scenario: str
    ) -> None:
        """Ask for a transfer or a payment; a few say what they agree to pay, rightly or wrongly."""
        self._ask(tenant, kind, between, minor, agreed, scenario)

    @rule(tenant=TENANT, between=BETWEEN, minor=AMOUNTS, agreed=st.integers(0, 9), operator=st.booleans())
    def book(self, tenant: str, between: tuple[str, str], minor: int, agreed: int, operator: bool) -> None:
        """Ask for a book transfer, as somebody who may take from the house's accounts or as somebody who may not."""
        self._ask(
            tenant, IntentKind.BOOK_TRANSFER, between, minor, agreed, role="operator" if operator else "developer"
        )

    @rule(tenant=TENANT, between=BETWEEN, minor=AMOUNTS, seconds=st.sampled_from((1, 5, 60, 3_600)))
    def hold(self, tenant: str, between: tuple[str, str], minor: int, seconds: int) -> None:
        """Ask for a hold."""
        self._ask(tenant, IntentKind.HOLD, between, minor, hold=HoldTerms(seconds))

    @rule(pick=PICK, part=PART)
    def reverse(self, pick: int, part: str) -> None:
        """Give back all, or a part, of something, now and then of what belongs to another tenant."""
        self._order("reverse", pick, {"amount": part})

    @rule(pick=PICK, part=PART, destination=st.sampled_from(("", "shop", "spare", "nowhere")), final=st.booleans())
    def capture(self, pick: int, part: str, destination: str, final: bool) -> None:
        """Capture from a hold."""
        self._order("capture_hold", pick, {"amount": part, "destination": destination, "final": final})

    @rule(pick=PICK)
    def void(self, pick: int) -> None:
        """Void a hold."""
        self._order("void_hold", pick, {"reason": "not needed"})

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        """Cancel something."""
        self._order("cancel", pick, {})

    @rule(pick=PICK, verdict=st.sampled_from(("approved", "approved", "rejected")))
    def decide(self, pick: int, verdict: str) -> None:
        """Decide a review that waits."""
        rows = {key: row for key, row in self.fleet.store.rows.reviews.items() if row["status"] == "open"}
        if rows:
            key = list(rows)[pick % len(rows)]
            body = {"verdict": verdict, "round": rows[key]["round"], "reason": "seen"}
            self.fleet.command("decide_review", key, body, tenant=rows[key]["tenant"])
        self._settle("decide")

    @rule(pick=PICK, resolution=st.sampled_from(("retry", "dismissed", "declined")))
    def resolve(self, pick: int, resolution: str) -> None:
        """Resolve a case; that a rail declined is only said where it has said so itself, or never heard of it."""
        files = [file for file in self.fleet.store.rows.cases.values() if file.status == "open" and file.row.intent]
        if files:
            row = files[pick % len(files)].row
            body = {"case": row.id, "resolution": resolution if resolution != "declined" else "retry",
                    "reason": "seen", "intent": row.intent, "kind": row.kind}  # fmt: skip
            partition = self.fleet.partition_of(row.intent or "")
            self.fleet.command("resolve_case", row.id, body, partition=partition, tenant=row.tenant)
        self._settle("resolve")

    @rule(seconds=PAUSES)
    def wait(self, seconds: float) -> None:
        """Let time pass: callbacks come, polls go out, holds expire."""
        self.sound = False
        self.fleet.advance(seconds)
        self._settle("wait")

    @rule(pick=PICK, what=st.sampled_from(("fee", "account", "account", "policy")))
    def change(self, pick: int, what: str) -> None:
        """Change a fee, the standing of an account, or a policy."""
        store = self.fleet.store
        current = store.current
        if what == "fee":
            tenant = sorted(current.fees)[pick % len(current.fees)]
            schedule = current.fees[tenant]
            first = structs.replace(schedule.rules[0], flat_minor=pick % 50)
            fees = {**current.fees, tenant: FeeSchedule((first, *schedule.rules[1:]), schedule.version + 1)}
            store.configure(structs.replace(current, fees=fees))
        elif what == "policy":
            tenant = sorted(current.policies)[pick % len(current.policies)]
            rules = structs.replace(current.policies[tenant], version=current.policies[tenant].version + 1)
            store.configure(structs.replace(current, policies={**current.policies, tenant: rules}))
        else:
            names = [key for key, ref in sorted(store.refs.items()) if ref.type in ("customer", "payout")]
            ref = store.refs[names[pick % len(names)]]
            if ref.status != "closed":
                status = "open" if ref.status == "frozen" else "frozen"
                store.refs[ref.tenant, ref.account_id] = structs.replace(ref, status=status)
                store.configure(current)
        self.auditor.configured()
        self._settle("change")

    @precondition(lambda self: self.operations % 8 == 7)
    @rule()
    def forget(self) -> None:
        """Let a worker die and another one take its place, with nothing but what is stored."""
        self.fleet.replace_worker(f"w{self.operations}")
        self._settle("forget")

    # What follows -------------------------------------------------------------------------------------------------

    def _ask(
        self, tenant: str, kind: IntentKind, between: tuple[str, str], minor: int, agreed: int = 9,
        scenario: str = "success", role: str = "developer", hold: HoldTerms | UnsetType = UNSET,
    ) -> None:  # fmt: skip
        command = IntentCommand(
            kind=kind, minor=str(minor), currency=setting.CURRENCY, source=between[0], destination=between[1],
            metadata={} if scenario == "success" else {"sandbox_scenario": scenario}, hold=hold,
        )  # fmt: skip
        if agreed < 4:
            command = structs.replace(command, fee=self._terms(tenant, command, agreed))
        self.intents.append((tenant, self.fleet.submit(command, tenant=tenant, principal="amara", role=role)))
        self._settle(str(kind))

    def _order(self, kind: str, pick: int, body: dict[str, Any]) -> None:
        if self.intents:
            rows = self.fleet.store.rows.transitions
            apt = [one for one in self.intents if rows[one[1]][-1].state in _APT[kind]]
            pool = apt if apt and pick % 8 else self.intents
            tenant, intent = pool[pick % len(pool)]
            foreign = pick % 31 == 0
            asker = setting.TENANTS[(setting.TENANTS.index(tenant) + 1) % len(setting.TENANTS)] if foreign else tenant
            self.fleet.command(kind, intent, body, tenant=asker)
        self._settle(kind)

    def _terms(self, tenant: str, command: IntentCommand, agreed: int) -> FeeTerms:
        store = self.fleet.store
        types = [
            ref.type if (ref := store.refs.get((tenant, name))) else ""
            for name in (command.source, command.destination)
        ]
        corridor = find_corridor(store.current.corridors.get(tenant, ()), command)
        name = corridor.name if corridor else ""
        facts = FeeFacts(str(command.kind), command.amount, command.currency, None, name, *types)
        quoted = quote(store.current.fees.get(tenant, NO_FEES), facts)
        return (
            FeeTerms(max=str(quoted.total_payer)), FeeTerms(max=str(max(quoted.total_payer - 1, 0))),
            FeeTerms(quote_digest=quoted.digest), FeeTerms(quote_digest="0" * 64),
        )[agreed]  # fmt: skip

    def _settle(self, what: str) -> None:
        """Let the worker finish what it has; the auditor follows each commit."""
        EngineMachine.told[what] += 1
        self.operations += 1
        self.sound = False  # whoever has objected once is of no more use
        self.fleet.run_until_idle()
        if self.operations % REBUILD_EVERY == 0:
            self.auditor.rebuild(self.fleet.store)
        self.sound = True

    def teardown(self) -> None:
        """Add everything up once more."""
        if getattr(self, "sound", False):
            self.auditor.rebuild(self.fleet.store)
            audited(self.fleet)


def _listen(fleet: Fleet, auditor: Auditor) -> None:
    """Tell the auditor of everything that happens in a fleet from now on."""
    store, stream = fleet.store, fleet.stream
    registers, append, send = store.register, stream.append, fleet.endpoints.send

    def register(item: Any, *, feed: bool = True) -> Any:
        result = registers(item, feed=feed)
        auditor.registered(item.transition, decode_command(item.command))
        return result

    def published(message: Any) -> Any:
        failure = append(message)
        if failure is None:
            auditor.published(message)
        return failure

    async def called(call: Any) -> Any:
        made = store.rows.deliveries[call.delivery]
        auditor.called(made.tenant, made.endpoint, call)
        return await send(call)

    hooks: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (store, "committed", lambda plan, writes, ground: auditor.committed("w", plan, writes, ground)),
        (store, "register", register), (stream, "append", published), (fleet.endpoints, "send", called),
        *((rail, "submit", _submits(rail, auditor)) for rail in fleet.rails.values()),
    )  # fmt: skip
    for owner, name, hook in hooks:
        setattr(owner, name, hook)


def _submits(rail: Any, auditor: Auditor) -> Callable[..., Any]:
    submit, paid = rail.submit, set[str]()

    async def asked(submission: Any) -> Any:
        auditor.asked(submission)
        outcome = await submit(submission)
        payment = rail.book.look_up(submission.reference, float("inf"))
        succeeds = payment is not None and payment.status(float("inf")) == "succeeded"
        if succeeds and submission.reference not in paid:
            paid.add(submission.reference)
            auditor.paid(submission.rail, submission.reference, submission.minor)
        return outcome

    return asked


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.actors.stateful", description="any operations, any order")
    parser.add_argument("--operations", type=int, default=50_000, help="at least so many")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    chosen = settings(
        max_examples=500, stateful_step_count=STEPS, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    EngineMachine.told.clear()
    while sum(EngineMachine.told.values()) < given.operations:
        run_state_machine_as_test(EngineMachine, settings=chosen)
    count, seconds = sum(EngineMachine.told.values()), time.monotonic() - began
    sys.stdout.write(f"{count} operations in {seconds:.0f} s, {count / seconds:.0f}/s; no objection\n")
    for name, times in EngineMachine.told.most_common():
        sys.stdout.write(f"  {name:<16} {times}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
