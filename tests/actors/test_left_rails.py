"""A rail that was left and may have paid after all: asked until it answers, and nothing is released before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.actors.test_outcomes import HELD, KEPT, PAID, money, unheard
from tests.actors.world import MakeFleet, last_facts, outcome
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.rails.explaining import explain_route

CASE = ["provider_contradiction"]


def say(fleet: Fleet, intent: str, status: str, **said: Any) -> None:
    fleet.report(outcome(intent, status, **said))
    fleet.run_until_idle()


def left(make_fleet: MakeFleet) -> tuple[Fleet, str]:
    """Return a fleet whose first rail did not accept, and of which somebody says that it has paid."""
    fleet, intent = unheard(make_fleet)
    say(fleet, intent, "not_accepted", trust="direct", minor=None, currency=None)
    say(fleet, intent, "succeeded", event="after-all", trust="shared_secret")
    assert [a.rail for a in fleet.transaction(intent).attempts] == ["alpha", "beta"]
    return fleet, intent


def asked(fleet: Fleet, attempt: int) -> int:
    return sum(poll.reference.endswith(f"0{attempt}") for poll in fleet.performed.polls)


def test_it_is_asked_until_it_answers(make_fleet: MakeFleet) -> None:
    fleet, intent = left(make_fleet)
    assert asked(fleet, 1) == 1
    say(fleet, intent, "unknown", trust="polled")
    fleet.advance(250)
    before = asked(fleet, 1)
    assert before > 5
    say(fleet, intent, "not_accepted", trust="polled", minor=None, currency=None)
    told = last_facts(fleet, intent, "provider.callback")
    assert (told["attempt"], told["said"], told["trust"]) == (1, "not_accepted", "polled")
    fleet.advance(250)
    assert asked(fleet, 1) == before


@pytest.mark.parametrize("restarted", [False, True], ids=["the same worker", "another worker"])
@pytest.mark.parametrize("event", [None, "beta-1"])
@pytest.mark.parametrize("status", ["declined", "not_accepted"])
def test_what_the_next_rail_did_not_pay_is_released_when_the_first_has_answered(
    make_fleet: MakeFleet, status: str, event: str | None, restarted: bool
) -> None:
    fleet, intent = left(make_fleet)
    say(fleet, intent, status, event=event, attempt=2, rail="beta", raw_digest="b" * 64)
    assert (money(fleet), fleet.transaction(intent).state) == (HELD, State.SUBMITTED)
    if restarted:
        fleet.workers[0].engine.memory.distrust()
    say(fleet, intent, "not_accepted", trust="polled", minor=None, currency=None)
    assert (money(fleet), fleet.transaction(intent).state, fleet.cases()) == (KEPT, State.FAILED, CASE)
    told = last_facts(fleet, intent, "provider.callback")
    assert (told["rail"], told["said"], told["digest"]) == ("beta", status, "b" * 64)


def test_the_hold_stays_past_the_deadline_and_a_person_is_asked(make_fleet: MakeFleet) -> None:
    fleet, intent = left(make_fleet)
    say(fleet, intent, "declined", attempt=2, rail="beta")
    fleet.advance(3 * 86_400)
    assert (money(fleet), fleet.transaction(intent).state, fleet.cases()) == (HELD, State.SUBMITTED, CASE)
    assert not fleet.rails["beta"].submits


def test_a_success_of_the_next_rail_settles_the_payment(make_fleet: MakeFleet) -> None:
    fleet, intent = left(make_fleet)
    say(fleet, intent, "succeeded", attempt=2, rail="beta")
    assert (money(fleet), fleet.cases()) == (PAID, CASE)


def test_a_success_of_the_first_keeps_the_hold_for_good(make_fleet: MakeFleet) -> None:
    fleet, intent = left(make_fleet)
    say(fleet, intent, "declined", attempt=2, rail="beta")
    say(fleet, intent, "succeeded", trust="polled")
    assert (money(fleet), fleet.transaction(intent).state, fleet.cases()) == (HELD, State.SUBMITTED, CASE)


def test_what_the_next_rail_took_back_is_a_contradiction_and_its_first_word_counts(make_fleet: MakeFleet) -> None:
    fleet, intent = left(make_fleet)
    say(fleet, intent, "declined", attempt=2, rail="beta", event="no")
    say(fleet, intent, "succeeded", attempt=2, rail="beta", event="yes")
    assert (money(fleet), fleet.cases()) == (HELD, CASE)
    fleet.now += timedelta(seconds=1)
    say(fleet, intent, "not_found", trust="polled", minor=None, currency=None)
    assert (money(fleet), fleet.transaction(intent).state) == (KEPT, State.FAILED)


@pytest.mark.parametrize(("trust", "event"), [("direct", None), ("polled", None), ("body_signed", "evt-1")])
def test_what_a_rail_said_when_it_was_left_is_recorded_before_the_switch(
    make_fleet: MakeFleet, trust: str, event: str | None
) -> None:
    fleet, intent = unheard(make_fleet)
    why = {"reason": "insufficient_float", "raw_digest": "a" * 64, "minor": None, "currency": None}
    say(fleet, intent, "not_accepted", trust=trust, event=event, **why)
    assert fleet.events(intent)[-2:] == ["provider.callback", "provider.failover"]
    told = last_facts(fleet, intent, "provider.callback")
    assert {name: told[name] for name in ("attempt", "status", "said", "trust", "reason", "digest", "event_id")} == {
        "attempt": 1, "status": "not_accepted", "said": "not_accepted", "trust": trust, "reason": "insufficient_float",
        "digest": "a" * 64, "event_id": event,
    }  # fmt: skip
    shown = explain_route([row.record for row in fleet.store.rows.transitions[intent]], {}).attempts
    assert [(a.rail, a.outcome, a.trust, a.reason, a.digest, a.event_id) for a in shown] == [
        ("alpha", "not_accepted", trust, "insufficient_float", "a" * 64, event),
        ("beta", "started", None, None, None, None),
    ]
