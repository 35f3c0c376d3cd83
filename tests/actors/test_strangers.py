"""Callbacks of references that nobody knows: they wait for their intent a bounded time, then they are a case."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tests.actors.test_outcomes import HELD, PAID, awaiting, money
from tests.actors.world import MakeFleet, configuration, facts_of, last_facts, outcome, transfer
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.messages import RailReported
from zentra.runtime.partitions import callback_key
from zentra.runtime.ports import STRANGERS_MORE, WAITING_MAX
from zentra.runtime.rails.routing import Corridor, parse_reference

WAITS = 30.0  # RailSettings.stranger_wait_seconds
UNKNOWN = ["unknown_reference"]
WRONG = ["provider_wrong_rail"]
CLASH = ["provider_contradiction"]


def strangers(fleet: Fleet) -> list[str]:
    return [name for kind, _, name in fleet.store.rows.timers if kind == "stranger"]


# fmt: off
NAMES: list[tuple[str, dict[str, Any]]] = [
    ("a reference of somebody else's",         {"reference": "stranger-1"}),
    ("an intent that there is not",            {"reference": "f" * 32 + "01"}),
    ("an attempt that there is not yet",       {"attempt": 2}),
    ("a slash in a reference",                 {"reference": "a/b/c"}),
]
# fmt: on


@pytest.mark.parametrize("changes", [row[1] for row in NAMES], ids=[row[0] for row in NAMES])
@pytest.mark.parametrize("status", ["succeeded", "pending"])
def test_a_stranger_waits_a_bounded_time_and_is_one_case(
    make_fleet: MakeFleet, changes: dict[str, Any], status: str
) -> None:
    fleet, intent = awaiting(make_fleet)
    for number in range(3):  # however often it comes
        fleet.report(outcome(intent, status, event=f"evt-{number}", **changes))
        fleet.run_until_idle()
    fleet.advance(WAITS - 1)
    assert fleet.cases() == []
    fleet.advance(2)
    assert (money(fleet), fleet.cases(), strangers(fleet)) == (HELD, UNKNOWN, [])
    fleet.report(outcome(intent, status, event="evt-late", **changes))
    fleet.advance(2 * WAITS)
    assert (fleet.cases(), strangers(fleet)) == (UNKNOWN, [])


# fmt: off
ASTRAY: list[tuple[str, str, str, list[str], str]] = [
    # who speaks of an attempt of alpha     and says          with           opens     of
    ("another rail of the corridor",        "succeeded",      "body_signed",   WRONG,   "acme"),
    ("another rail of the corridor",        "declined",       "body_signed",   WRONG,   "acme"),
    ("another rail of the corridor",        "not_accepted",   "body_signed",   WRONG,   "acme"),
    ("another rail of the corridor",        "pending",        "body_signed",   WRONG,   "acme"),
    ("whoever knows the secret of one",     "succeeded",      "shared_secret", WRONG,   "acme"),
    ("a rail of other tenants",             "succeeded",      "body_signed",   UNKNOWN, "-"),
    ("a rail that is not set up any more",  "succeeded",      "body_signed",   UNKNOWN, "-"),
]
# fmt: on
SPEAKS = {"a rail of other tenants": "theirs", "a rail that is not set up any more": "nobody"}


def shared(make_fleet: MakeFleet) -> tuple[Fleet, str]:
    """Return a payment of acme over alpha, beside a rail that only another tenant has."""
    current = configuration()
    theirs = structs.replace(current.rails["beta"], name="theirs")
    corridors = {**current.corridors, "globex": (Corridor("globex", "ng", "NGN", "transfer", ("theirs",)),)}
    return awaiting(
        make_fleet,
        config=structs.replace(current, rails={**current.rails, "theirs": theirs}, corridors=corridors),
    )


@pytest.mark.parametrize(("who", "status", "trust", "kinds", "tenant"), ASTRAY)
def test_what_a_rail_says_of_another_rails_attempt_is_a_case_at_once_and_nothing_else(
    make_fleet: MakeFleet, who: str, status: str, trust: str, kinds: list[str], tenant: str
) -> None:
    fleet, intent = shared(make_fleet)
    before = structs.replace(fleet.transaction(intent))
    for number in range(3):
        said = outcome(intent, status, event=f"evt-{number}", trust=trust, rail=SPEAKS.get(who, "beta"), minor=1)
        fleet.report(said)
        fleet.run_until_idle()
    assert (money(fleet), fleet.cases(), strangers(fleet)) == (HELD, kinds, [])
    [file] = fleet.store.rows.cases.values()
    after = fleet.transaction(intent)
    assert (file.row.tenant, file.row.intent) == (tenant, intent if tenant == "acme" else None)
    assert (after.state, after.attempts) == (before.state, before.attempts)
    assert not fleet.rails["alpha"].polls
    fleet.report(outcome(intent, "succeeded", event="evt-own"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (PAID, kinds)


def test_the_case_of_a_wrong_rail_says_who_spoke_and_who_was_asked(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.report(outcome(intent, "declined", event="evt-1", rail="beta"))
    fleet.run_until_idle()
    [file] = fleet.store.rows.cases.values()
    assert file.row.detail == {
        "rail": "beta", "sent_to": "alpha", "reference": f"{intent}01", "attempt": "1", "status": "declined",
        "trust": "body_signed", "event_id": "evt-1",
    }  # fmt: skip
    assert fleet.store.rows.callbacks_claimed == {("beta", "evt-1"): ("acme", intent)}


def test_a_wrong_rail_whose_words_come_again_opens_no_second_case(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    said = [outcome(intent, "succeeded", event=f"evt-{number}", rail="beta") for number in range(2)]
    for one in said:
        fleet.report(one)
    fleet.run_until_idle()
    [case] = fleet.store.rows.cases
    body = {"case": case, "resolution": "dismissed", "reason": "mixed up", "intent": intent, "kind": WRONG[0]}
    fleet.command("resolve_case", intent, body)
    fleet.run_until_idle()
    before = facts_of(fleet)
    for one in said:
        fleet.emit(fleet.partition_of(intent), "callback", [RailReported(one, one.event_id or "")])
    fleet.run_until_idle()
    fleet.replay()
    assert (facts_of(fleet), fleet.cases()) == (before, [])
    fleet.report(outcome(intent, "succeeded", event="evt-2", rail="beta"))
    fleet.run_until_idle()
    assert fleet.cases() == WRONG


def test_a_wrong_rail_that_outran_the_intent_is_a_case_beside_it(make_fleet: MakeFleet) -> None:
    fleet, _ = outrun(make_fleet, ("succeeded", {"rail": "beta"}), ("declined", {"rail": "beta"}))
    fleet.advance(16)
    assert (money(fleet), fleet.cases(), strangers(fleet)) == (HELD, WRONG, [])
    assert fleet.store.rows.callbacks_claimed.keys() == fleet.store.rows.callbacks.keys()


def outrun(make_fleet: MakeFleet, *said: tuple[str, dict[str, Any]], after: float = 0.0) -> tuple[Fleet, str]:
    """Return a fleet whose rail has told of an intent before there was one, and then it came."""
    fleet = make_fleet()
    intent = "1" * 32
    for number, (status, changes) in enumerate(said):
        fleet.report(outcome(intent, status, event=f"evt-{number}", **changes))
        fleet.run_until_idle()
    fleet.advance(after)
    fleet.submit(transfer(scenario="silent"), id=intent)
    fleet.run_until_idle()
    return fleet, intent


# fmt: off
EARLY: list[tuple[str, list[tuple[str, dict[str, Any]]], dict[str, Any], State, list[str]]] = [
    ("success",             [("succeeded", {})],                          PAID, State.SUCCESSFUL, []),
    ("success twice",       [("succeeded", {}), ("succeeded", {})],       PAID, State.SUCCESSFUL, []),
    ("pending and success", [("pending", {}), ("succeeded", {})],         PAID, State.SUCCESSFUL, []),
    ("a claim",             [("succeeded", {"trust": "none"})],           HELD, State.SUBMITTED,  []),
    ("another amount",      [("succeeded", {"minor": 1})],                HELD, State.SUBMITTED,  CLASH),
    ("a clash, in order",   [("succeeded", {}), ("declined", {})],        PAID, State.SUCCESSFUL, CLASH),
]
# fmt: on


@pytest.mark.parametrize("after", [0.0, 10.0])
@pytest.mark.parametrize(
    ("said", "expected", "state", "cases"), [row[1:] for row in EARLY], ids=[row[0] for row in EARLY]
)
def test_a_callback_that_outruns_the_intent_is_applied_when_it_is_there(
    make_fleet: MakeFleet, said: list[tuple[str, dict[str, Any]]], expected: dict[str, Any], state: State,
    cases: list[str], after: float,
) -> None:  # fmt: skip
    fleet, intent = outrun(make_fleet, *said, after=after)
    fleet.advance(16)
    assert (money(fleet), fleet.transaction(intent).state, fleet.cases()) == (expected, state, cases)
    assert strangers(fleet) == []
    assert fleet.store.rows.callbacks_claimed.keys() == fleet.store.rows.callbacks.keys()
    before = facts_of(fleet)
    fleet.replay()
    assert facts_of(fleet) == before


def test_one_that_outran_the_attempt_of_a_second_rail_is_applied_to_it(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    fleet.report(outcome(intent, "succeeded", event="evt-1", attempt=2, rail="beta"))
    fleet.run_until_idle()
    assert strangers(fleet) == [f"beta/{intent}02"]
    fleet.report(outcome(intent, "not_accepted", minor=None))
    fleet.advance(16)
    assert (money(fleet), fleet.cases()) == (PAID, [])
    assert last_facts(fleet, intent, "provider.callback")["attempt"] == 2


def test_the_first_look_is_after_half_a_second_and_then_ever_later(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.report(outcome(intent, "succeeded", event="evt-1", reference="stranger-1"))
    fleet.run_until_idle()
    looks = []
    for _ in range(8):
        due = [t.due_at for (kind, _, _), t in fleet.store.rows.timers.items() if kind == "stranger"]
        if not due:
            break
        looks.append((due[0] - fleet.now).total_seconds())
        fleet.advance(looks[-1])
    assert looks == [0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 14.0]


def test_how_long_a_stranger_waits_is_the_rails_setting(make_fleet: MakeFleet) -> None:
    current = configuration()
    alpha = structs.replace(current.rails["alpha"], stranger_wait_seconds=5.0)
    fleet = make_fleet(structs.replace(current, rails={**current.rails, "alpha": alpha}))
    fleet.report(outcome("a" * 32, "succeeded", event="evt-1"))
    fleet.report(outcome("b" * 32, "succeeded", event="evt-2", rail="nobody"))
    fleet.advance(5.01)
    assert fleet.cases() == UNKNOWN
    fleet.advance(WAITS)
    assert fleet.cases() == UNKNOWN * 2


def test_a_stranger_is_looked_after_by_whoever_takes_over(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.report(outcome(intent, "succeeded", event="evt-1", reference="stranger-1"))
    fleet.run_until_idle()
    fleet.replace_worker("w2")
    fleet.advance(2 * WAITS)
    assert (fleet.cases(), strangers(fleet)) == (UNKNOWN, [])


def test_a_stranger_belongs_to_the_partition_of_its_intent_or_its_own(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    for number, reference in enumerate(("stranger-1", "f" * 32 + "01", f"{intent}02")):
        fleet.report(outcome(intent, "succeeded", event=f"evt-{number}", reference=reference))
    fleet.run_until_idle()
    for (kind, _, name), timer in fleet.store.rows.timers.items():
        if kind == "stranger":
            named = parse_reference(name.partition("/")[2])
            assert timer.partition == fleet.partition_of(named[0] if named else callback_key("alpha", "stranger-1"))


def test_a_day_later_the_same_callback_changes_nothing(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.report(outcome(intent, "succeeded", event="evt-1"))
    fleet.run_until_idle()
    before = facts_of(fleet)
    fleet.advance(86_400)
    fleet.replace_worker("w2")
    fleet.report(outcome(intent, "succeeded", event="evt-1"))
    fleet.emit(fleet.partition_of(intent), "callback", [_reported(intent)])  # also where the door let it through
    fleet.run_until_idle()
    assert facts_of(fleet) == before


def _reported(intent: str) -> Any:
    return RailReported(outcome(intent, "succeeded", event="evt-1"), "callback/evt-1")


def test_a_stranger_that_keeps_coming_is_looked_at_and_a_case_in_time(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    for number in range(80):  # more often than the first pause lasts, for longer than the rail's patience
        fleet.report(outcome(intent, "succeeded", event=f"evt-{number:02}", reference="stranger-1"))
        fleet.advance(0.4)
    assert fleet.cases() == UNKNOWN


def test_a_callback_moves_no_look_that_is_due_to_a_later_time(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    due = []
    for number in range(3):
        fleet.report(outcome(intent, "succeeded", event=f"evt-{number}", reference="stranger-1"))
        fleet.run_until_idle()
        due += [timer.due_at for (kind, _, _), timer in fleet.store.rows.timers.items() if kind == "stranger"]
        fleet.now += timedelta(seconds=0.2)
    assert len(due) == 3
    assert len(set(due)) == 1


def test_more_callbacks_than_one_look_holds_are_all_applied(make_fleet: MakeFleet) -> None:
    fleet, intent = make_fleet(), "1" * 32
    for number in range(2 * WAITING_MAX + 20):
        last = number == 2 * WAITING_MAX + 19
        fleet.report(outcome(intent, "succeeded" if last else "pending", event=f"evt-{number:04}"))
        fleet.now += timedelta(microseconds=10)
    for worker in fleet.workers:
        worker.take()
        worker.tick()
    fleet.submit(transfer(scenario="silent"), id=intent)
    fleet.run_until_idle()
    fleet.advance(1)
    assert (money(fleet), fleet.transaction(intent).state, strangers(fleet)) == (PAID, State.SUCCESSFUL, [])
    assert fleet.store.rows.callbacks_claimed.keys() == fleet.store.rows.callbacks.keys()


def test_the_strangers_of_a_batch_are_asked_for_at_once(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = make_fleet()
    asked: list[int] = []
    read = fleet.store.waiting_callbacks

    async def counted(names: Collection[tuple[str, str]]) -> Any:
        asked.append(len(names))
        return await read(names)

    monkeypatch.setattr(fleet.store, "waiting_callbacks", counted)
    for number in range(50):
        fleet.report(outcome(f"{number:032x}", "succeeded", event=f"evt-{number:02}"))
    fleet.run_until_idle()
    assert len(strangers(fleet)) == 50
    assert sum(asked) == 50, "each once"
    assert len(asked) <= len(fleet.store.lease_rows), "and all of a batch together"


def test_a_callback_that_a_worker_meets_late_is_looked_at_before_it_is_a_case(make_fleet: MakeFleet) -> None:
    fleet, intent = make_fleet(), "1" * 32
    fleet.report(outcome(intent, "succeeded", event="evt-1"))
    fleet.now += timedelta(seconds=2 * WAITS)  # nobody was there to take it
    for worker in fleet.workers:
        worker.take()
        worker.tick()
    assert fleet.cases() == []
    fleet.submit(transfer(scenario="silent"), id=intent)
    fleet.run_until_idle()
    fleet.advance(1)
    assert (money(fleet), fleet.cases(), strangers(fleet)) == (PAID, [], [])


def resolve(fleet: Fleet) -> None:
    for file in fleet.store.rows.cases.values():
        file.status = "resolved"


def test_a_stranger_that_comes_after_its_case_was_resolved_opens_a_fresh_one(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    for number in range(3):
        for again in range(2):
            fleet.report(outcome(intent, "succeeded", event=f"evt-{number}-{again}", reference="stranger-1"))
            fleet.advance(WAITS + 1)
            assert (fleet.cases(), strangers(fleet)) == (UNKNOWN, [])
        resolve(fleet)
        fleet.advance(WAITS + 1)
        assert fleet.cases() == [], "nothing but another callback opens it again"
    assert len(fleet.store.rows.cases) == 3


def test_of_the_same_attempt_of_another_rail_a_fresh_case_is_opened_as_well(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    for number in range(3):
        for again in range(2):
            fleet.report(outcome(intent, "succeeded", event=f"evt-{number}-{again}", rail="theirs"))
            fleet.run_until_idle()
        assert fleet.cases() == UNKNOWN
        resolve(fleet)


def test_past_so_many_open_cases_of_a_rail_one_stands_for_the_rest(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("zentra.actors.strangers", "zentra.bench.twins.store_rows"):
        monkeypatch.setattr(f"{module}.STRANGERS_OPEN_MAX", 5)
    fleet = make_fleet()
    for wave in range(2):
        for number in range(20):
            reference = f"stranger-{wave}-{number}"
            fleet.report(outcome("a" * 32, "succeeded", event=reference, reference=reference))
        fleet.advance(WAITS + 1)
        more = [f.row.detail for f in fleet.store.rows.cases.values() if f.row.detail["reference"] == STRANGERS_MORE]
        assert [one["rail"] for one in more] == ["alpha"]
        assert len(fleet.cases()) == 6
    fleet.report(outcome("a" * 32, "succeeded", event="evt-b", reference="stranger-b", rail="beta"))
    fleet.advance(WAITS + 1)
    assert len(fleet.cases()) == 7, "each rail for itself"
