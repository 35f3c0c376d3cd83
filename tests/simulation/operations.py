"""Operations drawn by hypothesis, one after another, on a fleet whose every commit the simulator's auditor follows.

The simulator draws by weights and injects faults; here hypothesis looks for the shortest sequence of operations that
breaks an invariant, and shows it. As many operations as you like:

    .venv/bin/python -m tests.simulation.operations --operations 50000
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs

from tests.actors.world import LIMITS, audited, configuration, endpoint, transfer
from tests.simulation.auditor_tape import Call, listening, open_books
from zentra.bench.simulation import setting
from zentra.bench.simulation.auditor import Auditor
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.fees.quoting import FeeFacts, quote
from zentra.runtime.fees.schedule import FeeSchedule
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.terms import FeeTerms, HoldTerms
from zentra.runtime.intents.vocabulary import IntentKind

__all__ = ["DONE", "Operations", "run"]

DONE: Counter[str] = Counter()
"""How many operations of each kind were carried out, by all machines."""
STEPS: Final = 50
REBUILD_EVERY: Final = 10
_AMOUNTS: Final = st.one_of(st.sampled_from([1, 100, 999, 125_000, 1_500_000]), st.integers(1, 30_000_000))
_SOURCES: Final = st.sampled_from(["customer", "customer", "customer", "merchant", "poor", "frozen", "nobody"])
_DESTINATIONS: Final = st.sampled_from(["merchant", "merchant", "poor", "customer", "frozen", "nowhere"])
_SCENARIOS: Final = st.sampled_from(
    [None, None, "decline", "duplicate_callback", "late_success", "contradictory_status"]
)
_SECONDS: Final = st.sampled_from([1, 5, 60, 3_600])
_PLACES: Final = st.integers(0, 10**9)
_REASON: Final = {"reason": "drawn"}
_COUNTRIES: Final = st.sampled_from([None, "GH", "GH", "KE", "KE"])
_AGREED: Final = st.sampled_from([None] * 6 + ["most", "less", "quoted", "other"])


def _fees() -> FeeSchedule:
    """Return the fees of the simulator's tenants as those of one: by the country that money goes to."""
    rules = [
        structs.replace(
            rule, applies=structs.replace(
                rule.applies, countries=(country,), corridors=("ng",) if rule.applies.corridors else ()
            ),
        )
        for country, schedule in zip(("GH", "KE"), setting.fees().values(), strict=True)
        for rule in schedule.rules
    ]  # fmt: skip
    return FeeSchedule(tuple(rules), 1)


class _Told(list[Call]):
    """What a fleet tells, told on to an auditor at once."""

    auditor: Auditor | None = None
    objected = False  # after which an auditor is of no more use

    def append(self, call: Call) -> None:
        if self.auditor is not None and call.name != "put":
            self.objected = True
            getattr(self.auditor, call.name)(*call.args)
            self.objected = False


class Operations(RuleBasedStateMachine):
    """A tenant's people and clients, who ask for whatever comes to mind."""

    def __init__(self) -> None:
        super().__init__()
        limits = structs.replace(LIMITS, daily_minor_max=60_000_000)
        config = configuration(endpoints=(endpoint("hook", "*"),), limits=limits)
        self.fleet = Fleet(structs.replace(config, fees={"acme": _fees()}))
        open_books(self.fleet.store)
        self.told = told = _Told()
        listening(self.fleet, told)
        self.auditor = told.auditor = Auditor(self.fleet.store)
        self.intents: list[str] = []
        self.holds: list[str] = []
        self.given: list[tuple[str, str, str, dict[str, Any]]] = []
        self.steps = 0

    @initialize(events_max=st.sampled_from([1, 3, 1_000]), undrafted=st.sampled_from([0, 16]))
    def begin(self, events_max: int, undrafted: int) -> None:
        """Cut ticks small or large, with drafts or without."""
        self.fleet.events_max = events_max
        self.fleet.workers[0].committer._undrafted_max = undrafted

    # What clients ask for ---------------------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from([IntentKind.TRANSFER, IntentKind.BOOK_TRANSFER]), minor=_AMOUNTS, source=_SOURCES,
        destination=_DESTINATIONS, scenario=_SCENARIOS, country=_COUNTRIES, agreed=_AGREED,
    )  # fmt: skip
    def move(
        self, kind: IntentKind, minor: int, source: str, destination: str, scenario: str | None, country: str | None,
        agreed: str | None,
    ) -> None:  # fmt: skip
        """Ask for a transfer, out to a rail or between accounts; a few say what they agree to pay, or do not."""
        command = transfer(
            minor, kind=kind, source=source, destination=destination, scenario=scenario, country=country
        )  # fmt: skip
        if agreed is not None:
            command = structs.replace(command, fee=self._terms(command, agreed))
        self._submit("move" if country is None else "move for a fee", command)

    @rule(minor=_AMOUNTS, source=_SOURCES, destination=st.one_of(st.just(""), _DESTINATIONS), seconds=_SECONDS)
    def hold(self, minor: int, source: str, destination: str, seconds: int) -> None:
        """Ask for a hold."""
        terms = HoldTerms(seconds)
        command = transfer(minor, kind=IntentKind.HOLD, source=source, destination=destination, hold=terms)
        self.holds.append(self._submit("hold", command))

    @rule(place=_PLACES, amount=st.one_of(st.just("full"), _AMOUNTS), destination=_DESTINATIONS, final=st.booleans())
    def capture(self, place: int, amount: str | int, destination: str, final: bool) -> None:
        """Capture a hold, or something that is none."""
        body = {"amount": str(amount), "destination": destination, "final": final}
        self._command("capture_hold", place, self.holds or self.intents, body)

    @rule(place=_PLACES)
    def void(self, place: int) -> None:
        """Void a hold."""
        self._command("void_hold", place, self.holds, _REASON)

    @rule(place=_PLACES, amount=st.one_of(st.just("full"), _AMOUNTS))
    def reverse(self, place: int, amount: str | int) -> None:
        """Ask for money back."""
        self._command("reverse", place, self.intents, {"amount": str(amount), **_REASON})

    @rule(place=_PLACES)
    def cancel(self, place: int) -> None:
        """Change one's mind."""
        self._command("cancel", place, self.intents, _REASON)

    @rule(place=_PLACES)
    def again(self, place: int) -> None:
        """Let the frame of a command come once more."""
        if self.given:
            kind, intent, key, body = self.given[place % len(self.given)]
            self._count("again")
            self.fleet.command(kind, intent, body, id=key)
            self.fleet.run_until_idle()

    # What people decide, and time -------------------------------------------------------------------------------------

    @rule(place=_PLACES, verdict=st.sampled_from(["approved", "rejected"]))
    def decide(self, place: int, verdict: str) -> None:
        """Decide a review."""
        rows = self.fleet.store.rows.reviews
        waiting = [key for key, row in rows.items() if row["status"] == "open"]
        if waiting:
            review = waiting[place % len(waiting)]
            body = {"verdict": verdict, "round": rows[review]["round"], **_REASON}
            self._count("decide")
            self.fleet.command("decide_review", review, body)
            self.fleet.run_until_idle()

    @rule(place=_PLACES, resolution=st.sampled_from(["retry", "dismissed"]))
    def resolve(self, place: int, resolution: str) -> None:
        """Resolve a case."""
        files = [file for file in self.fleet.store.rows.cases.values() if file.status == "open" and file.row.intent]
        if files:
            row = files[place % len(files)].row
            body = {"case": row.id, "resolution": resolution, "intent": row.intent, "kind": row.kind, **_REASON}
            self._count("resolve")
            self.fleet.command("resolve_case", row.id, body, partition=self.fleet.partition_of(row.intent or ""))
            self.fleet.run_until_idle()

    @rule(place=_PLACES, what=st.sampled_from(["fee", "account"]))
    def change(self, place: int, what: str) -> None:
        """Put other fees in force, or freeze an account or let it go."""
        store = self.fleet.store
        if what == "fee":
            schedule = store.current.fees["acme"]
            first = structs.replace(schedule.rules[0], flat_minor=place % 50)
            fees = {"acme": FeeSchedule((first, *schedule.rules[1:]), schedule.version + 1)}
            store.configure(structs.replace(store.current, fees=fees))
        else:
            ref = store.refs["acme", ("merchant", "frozen", "poor")[place % 3]]
            status = "open" if ref.status == "frozen" else "frozen"
            store.refs["acme", ref.account_id] = structs.replace(ref, status=status)
            store.configure(store.current)
        self._count("change")
        self.auditor.configured()

    @precondition(lambda self: self.steps % 8 == 7)
    @rule()
    def forget(self) -> None:
        """Let the worker die and another one take its place, with nothing but what is stored."""
        self._count("forget")
        self.fleet.replace_worker(f"w{self.steps}")
        self.fleet.run_until_idle()

    @rule(seconds=st.sampled_from([0.01, 1.0, 5.0, 61.0, 3_700.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._count("wait")
        self.fleet.advance(seconds)

    # What must be true ------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_set_aside(self) -> None:
        """No event of ours is poison; and now and then everything is computed anew."""
        assert self.fleet.cases("poison_message") == []
        self.steps += 1
        if self.steps % REBUILD_EVERY == 0:
            self.auditor.rebuild(self.fleet.store)

    def teardown(self) -> None:
        """Let everything end that ends by itself."""
        if self.told.objected:
            return
        self.fleet.advance(4_000)
        self.auditor.rebuild(self.fleet.store)
        audited(self.fleet)  # and one who knows nothing but rows

    def _terms(self, command: IntentCommand, agreed: str) -> FeeTerms:
        store = self.fleet.store
        types = [
            ref.type if (ref := store.refs.get(("acme", name))) else ""
            for name in (command.source, command.destination)
        ]
        corridor = "ng" if command.kind is IntentKind.TRANSFER else ""
        facts = FeeFacts(str(command.kind), command.amount, "NGN", command.country, corridor, *types)
        quoted = quote(store.current.fees["acme"], facts)
        if agreed in ("most", "less"):
            return FeeTerms(max=str(quoted.total_payer // (1 if agreed == "most" else 2)))
        return FeeTerms(quote_digest=quoted.digest if agreed == "quoted" else "0" * 64)

    def _submit(self, name: str, command: Any) -> str:
        self._count(name)
        intent = self.fleet.submit(command)
        self.intents.append(intent)
        self.fleet.run_until_idle()
        return intent

    def _command(self, kind: str, place: int, intents: list[str], body: dict[str, Any]) -> None:
        if intents:
            self._count(kind)
            intent = intents[-1 - place % min(len(intents), 12)]
            self.given.append((kind, intent, self.fleet.command(kind, intent, body), body))
            self.fleet.run_until_idle()

    @staticmethod
    def _count(name: str) -> None:
        DONE[name] += 1


def run(operations: int, *, seed: int, shrink: bool = True) -> int:
    """Carry out at least so many operations; return how many it were.

    Raises what hypothesis found: the shortest sequence that it can make of it or, without `shrink`, the first."""
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    began = sum(DONE.values())
    for number in range(1, 10_000):
        left = operations - (sum(DONE.values()) - began)
        if left <= 0:
            break
        Operations.TestCase.settings = settings(
            max_examples=max(left // (STEPS // 2), 20), stateful_step_count=STEPS, deadline=None, print_blob=True,
            report_multiple_bugs=shrink,
            database=InMemoryExampleDatabase(), phases=phases, suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        machine = type(f"Operations{seed}x{number}", (Operations,), {})
        machine._hypothesis_internal_use_seed = seed * 1_000 + number  # type: ignore[attr-defined]
        run_state_machine_as_test(machine, settings=Operations.TestCase.settings)
    return sum(DONE.values()) - began


def main(arguments: Sequence[str]) -> int:
    """Run operations and print how many of each kind were carried out."""
    parser = argparse.ArgumentParser(description="Carry out operations that hypothesis draws, before the auditor.")
    parser.add_argument("--operations", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    began = time.perf_counter()
    done = run(asked.operations, seed=asked.seed)
    print(f"{done} operations in {time.perf_counter() - began:.0f} s, nothing violated: {dict(sorted(DONE.items()))}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
