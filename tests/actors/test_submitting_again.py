"""A submission that is repeated: not where a person may decide about it, and its refusal says nothing of the first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec import structs

from tests.actors.test_outcomes import HELD, KEPT, ONE_RAIL, money
from tests.actors.world import MakeFleet, configuration, last_facts, outcome, transfer, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.rails.operating import RailOperation

DEADLINE = 300.0  # of the rails in the world of these tests; a call waits for 60 of them at most, and lasts for 5


def lost(make_fleet: MakeFleet) -> tuple[Fleet, str]:
    """Return a fleet with a payment whose submission never reached its rail, and which nobody asks by itself."""
    fleet = make_fleet(structs.replace(configuration(), corridors={"acme": ONE_RAIL}))
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="late_success"))
    fleet.run_until_idle()
    return fleet, intent


def not_found(fleet: Fleet, intent: str) -> None:
    """Let the rail answer a poll: it does not know the payment."""
    said = outcome(intent, "not_found", trust="polled", minor=None, currency=None)
    fleet.report(said, f"poll/{intent}01/1")
    fleet.run_until_idle()


@pytest.mark.parametrize(
    ("seconds", "times"), [(3, 1), (234, 1), (DEADLINE - 65, 0), (DEADLINE - 1, 0), (DEADLINE + 1, 0), (3 * 86_400, 0)]
)
def test_nothing_is_submitted_again_so_late_that_its_deadline_could_pass_meanwhile(
    make_fleet: MakeFleet, seconds: float, times: int
) -> None:
    fleet, intent = lost(make_fleet)
    began = fleet.transaction(intent).attempts[0].at
    fleet.advance(seconds - 1)
    fleet.now = began + timedelta(seconds=seconds)
    fleet.effects_lost = False
    not_found(fleet, intent)
    assert sum(fleet.rails["alpha"].submits.values()) == times


def test_nothing_is_submitted_again_beside_an_open_case(make_fleet: MakeFleet) -> None:
    fleet, intent = lost(make_fleet)
    fleet.report(outcome(intent, "succeeded", event="evt-1", minor=1))
    fleet.now += timedelta(seconds=3)
    fleet.run_until_idle()
    assert fleet.cases() == ["provider_contradiction"]
    fleet.effects_lost = False
    not_found(fleet, intent)
    assert not fleet.rails["alpha"].submits


def test_what_a_person_declined_after_the_deadline_is_not_paid_afterwards(make_fleet: MakeFleet) -> None:
    fleet, intent = lost(make_fleet)
    fleet.advance(3 * 86_400)
    assert fleet.cases() == ["provider_outcome_unknown"]
    case = next(iter(fleet.store.rows.cases))
    fleet.effects_lost = False
    not_found(fleet, intent)
    body = {"case": case, "resolution": "declined", "reason": "the bank does not know it", "intent": intent}
    command = fleet.command("resolve_case", intent, body)
    fleet.run_until_idle()
    fleet.advance(3_600)
    assert (verdict(fleet, command), fleet.transaction(intent).state) == ("done", State.FAILED)
    assert (money(fleet), fleet.rails["alpha"].paid) == (KEPT, {})


def test_a_rail_that_comes_back_after_days_is_sent_no_old_payments(make_fleet: MakeFleet) -> None:
    fleet, _ = lost(make_fleet)
    fleet.effects_lost = False
    current = fleet.store.current
    fleet.store.configure(structs.replace(current, operations={"alpha": RailOperation(draining=True, reason="x")}))
    fleet.advance(2 * 86_400)
    fleet.store.configure(current)
    fleet.advance(86_400)
    assert (money(fleet), fleet.cases(), dict(fleet.rails["alpha"].submits)) == (
        HELD, ["provider_outcome_unknown"], {},
    )  # fmt: skip


@pytest.mark.parametrize("restarted", [False, True], ids=["the same worker", "another worker"])
@pytest.mark.parametrize("event", ["refused", "submit/refused", "poll/refused"])
@pytest.mark.parametrize(
    ("polled", "rails", "cases"),
    [
        (None, ["alpha"], []),
        ("not_accepted", ["alpha", "beta"], []),
        ("declined", ["alpha"], []),
        ("succeeded", ["alpha"], ["provider_contradiction"]),
    ],
)
def test_a_callback_that_may_refuse_a_second_submission_is_a_claim_and_the_rail_is_asked(
    make_fleet: MakeFleet, polled: str | None, rails: list[str], cases: list[str], event: str, restarted: bool
) -> None:
    fleet = make_fleet()
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="silent"))
    fleet.run_until_idle()
    fleet.now += timedelta(seconds=3)
    not_found(fleet, intent)
    assert [one.reference for one in fleet.performed.submissions] == [f"{intent}01"] * 2
    if restarted:
        fleet.workers[0].engine.memory.distrust()
    asked = len(fleet.performed.polls)
    fleet.report(outcome(intent, "not_accepted", event=event, minor=None, currency=None))
    fleet.run_until_idle()
    assert len(fleet.performed.polls) == asked + 1
    told = last_facts(fleet, intent, "provider.callback")
    assert (told["said"], told["status"], told["trust"], told["event_id"]) == (
        "not_accepted", "started", "body_signed", event,
    )  # fmt: skip
    if polled is not None:
        fleet.report(outcome(intent, polled, trust="polled"), f"poll/{intent}01/2")
        fleet.run_until_idle()
    assert ([a.rail for a in fleet.transaction(intent).attempts], fleet.cases()) == (rails, cases)


@pytest.mark.parametrize("trust", ["body_signed", "direct"])
def test_a_refusal_is_of_the_first_submission_where_there_was_no_other(make_fleet: MakeFleet, trust: str) -> None:
    fleet = make_fleet()
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="silent"))
    fleet.run_until_idle()
    event = "submit/1" if trust == "body_signed" else None
    fleet.report(outcome(intent, "not_accepted", event=event, trust=trust, minor=None, currency=None))
    fleet.run_until_idle()
    assert [a.rail for a in fleet.transaction(intent).attempts] == ["alpha", "beta"]
