"""Words of rails that are no outcomes: what they took goes to no other rail, and each new word leaves a record."""

from __future__ import annotations

from typing import Any

import pytest

from tests.actors.test_outcomes import HELD, KEPT, PAID, awaiting, money
from tests.actors.world import MakeFleet, configuration, last_facts, outcome
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State

CASE = ["provider_contradiction"]
STRANGE = {"reason": "status_unrecognised", "minor": None, "currency": None}


def say(fleet: Fleet, intent: str, status: str, **said: Any) -> None:
    fleet.report(outcome(intent, status, **said))
    fleet.run_until_idle()


def callbacks(fleet: Fleet, intent: str) -> int:
    return fleet.events(intent).count("provider.callback")


@pytest.mark.parametrize("restarted", [False, True], ids=["the same worker", "another worker"])
@pytest.mark.parametrize("refused", ["direct", "polled", "body_signed"])
@pytest.mark.parametrize("taken", ["direct", "polled", "body_signed", "shared_secret"])
def test_what_a_rail_took_and_then_refuses_goes_to_no_other_rail(
    make_fleet: MakeFleet, taken: str, refused: str, restarted: bool
) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    fleet.effects_lost = True
    say(fleet, intent, "pending", event="p-1" if taken in ("body_signed", "shared_secret") else None, trust=taken)
    if restarted:
        fleet.workers[0].engine.memory.distrust()
    event = "n-1" if refused == "body_signed" else None
    say(fleet, intent, "not_accepted", event=event, trust=refused, minor=None, currency=None)
    assert [a.rail for a in fleet.transaction(intent).attempts] == ["alpha"]
    assert (money(fleet), fleet.transaction(intent).state, fleet.cases()) == (KEPT, State.FAILED, [])


def test_that_a_rail_took_the_payment_is_recorded_once(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)  # its answer to the submission is "pending"
    told = last_facts(fleet, intent, "provider.callback")
    assert (told["said"], told["status"], told["trust"]) == ("pending", "started", "direct")
    fleet.advance(200)
    for number in range(5):
        say(fleet, intent, "pending", event=f"p-{number}")
    assert (callbacks(fleet, intent), money(fleet)) == (1, HELD)


@pytest.mark.parametrize("trust", ["body_signed", "polled", "shared_secret"])
@pytest.mark.parametrize("changes", [{"minor": 1}, {"currency": "USD"}])
def test_a_pending_of_another_amount_is_one_case(make_fleet: MakeFleet, changes: dict[str, Any], trust: str) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.effects_lost = True
    before = callbacks(fleet, intent)
    for number in range(3):
        say(fleet, intent, "pending", event=None if trust == "polled" else f"p-{number}", trust=trust, **changes)
    assert (callbacks(fleet, intent), fleet.cases(), money(fleet)) == (before + 1, CASE, HELD)
    say(fleet, intent, "succeeded", trust="polled")
    assert (money(fleet), fleet.cases()) == (PAID, CASE)


@pytest.mark.parametrize("trust", ["body_signed", "shared_secret"])
@pytest.mark.parametrize("end", ["succeeded", "declined"])
def test_a_word_that_nobody_knows_after_the_end_is_a_case_and_a_stale_one_a_record(
    make_fleet: MakeFleet, end: str, trust: str
) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    say(fleet, intent, end, event="end")
    before = callbacks(fleet, intent)
    for number in range(3):
        say(fleet, intent, "pending", event=f"stale-{number}", trust=trust)
    assert (callbacks(fleet, intent), fleet.cases()) == (before + 1, [])
    told = last_facts(fleet, intent, "provider.callback")
    assert (told["said"], told["status"], told["event_id"]) == ("pending", end, "stale-0")
    say(fleet, intent, "unknown", event="returned", trust=trust, **STRANGE)
    assert (callbacks(fleet, intent), fleet.cases()) == (before + 2, CASE)
    told = last_facts(fleet, intent, "provider.callback")
    assert (told["said"], told["reason"]) == ("unknown", "status_unrecognised")
    for number in range(50):
        say(fleet, intent, "unknown", event=f"more-{number}", trust=trust, **STRANGE)
    assert callbacks(fleet, intent) < before + 10
    assert money(fleet) == (PAID if end == "succeeded" else KEPT)


def test_a_word_that_nobody_knows_before_the_end_is_a_record_and_asks_nobody(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.effects_lost = True
    polls, before = len(fleet.performed.polls), callbacks(fleet, intent)
    say(fleet, intent, "unknown", event="in-the-queue", **STRANGE)
    say(fleet, intent, "unknown", event="in-the-queue", **STRANGE)
    assert (callbacks(fleet, intent), fleet.cases(), len(fleet.performed.polls)) == (before + 1, [], polls)
    say(fleet, intent, "succeeded", event="end")
    say(fleet, intent, "unknown", event="in-the-queue", **STRANGE)
    assert (fleet.cases(), money(fleet)) == ([], PAID)


def test_a_callback_that_says_not_found_leads_to_no_second_submission(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet, config=configuration())
    submitted = len(fleet.performed.submissions)
    fleet.advance(10)
    say(fleet, intent, "not_found", event="evt-1", trust="none", minor=None, currency=None)
    assert len(fleet.performed.submissions) == submitted
