"""A rail that does not answer: asked ever more rarely, by what it said last; a case in bounded time; settled when it
answers, however late. Nothing but time happens here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tests.actors.test_outcomes import HELD, KEPT, PAID, money
from tests.actors.world import MakeFleet, configuration, last_facts, outcome, transfer
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ports import Configuration
from zentra.runtime.rails.port import Backoff

DEADLINE = 300.0  # of the rails in the world of these tests
STEADY = {name: Backoff(factor=factor, jitter=0.0) for name, factor in (("silent", 3.0), ("unknown", 1.5))} | {
    "pending": Backoff(factor=2.0, jitter=0.0),
    "overdue": Backoff(factor=1.5, max_seconds=600, jitter=0.0),
}
UNKNOWN = ["provider_outcome_unknown"]


def setting(**changes: Any) -> Configuration:
    """Return what is set up, where rail alpha is asked without jitter."""
    current = configuration()
    alpha = structs.replace(current.rails["alpha"], **({"polling": STEADY} | changes))
    return structs.replace(current, rails={**current.rails, "alpha": alpha})


def polls(fleet: Fleet, intent: str, seconds: float) -> list[float]:
    """Return when its rail was asked within so many seconds from now, in seconds since it was submitted."""
    began = fleet.transaction(intent).attempts[-1].at
    until, times = fleet.now + timedelta(seconds=seconds), []
    while fleet.now < until:
        before = len(fleet.performed.polls)
        due = fleet._next_due()
        fleet.advance(min((due - fleet.now).total_seconds() if due else 1e9, (until - fleet.now).total_seconds()))
        times += [round((fleet.now - began).total_seconds(), 2)] * (len(fleet.performed.polls) - before)
    return times


def waiting(make_fleet: MakeFleet, heard: str, **changes: Any) -> tuple[Fleet, str]:
    """Return a fleet with a payment of which the rail says this, whenever it is asked."""
    fleet = make_fleet(setting(**changes))
    if heard == "silent":
        fleet.effects_lost = True
        intent = fleet.submit(transfer())
    else:
        intent = fleet.submit(transfer(scenario="never_answers" if heard == "unknown" else "silent"))
    if heard == "unknown":  # it can be reached, and cannot say

        async def poll(reference: str, *_: object) -> Any:
            return outcome(intent, "unknown", minor=None, currency=None, trust="polled")

        fleet.rails["alpha"].poll = poll  # type: ignore[method-assign, assignment]
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.SUBMITTED
    return fleet, intent


@pytest.mark.parametrize(
    ("heard", "times"),
    [
        ("pending", [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 124.0, 184.0, 244.0, 300.0]),
        ("silent", [2.0, 6.0, 18.0, 54.0, 114.0, 174.0, 234.0, 294.0, 300.0]),
        ("unknown", [2.0, 4.0, 6.0, 9.0, 13.5, 20.25, 30.38, 45.56, 68.34, 102.52, 153.77, 213.77, 273.77, 300.0]),
    ],
)
def test_a_rail_is_asked_by_what_it_said_last(make_fleet: MakeFleet, heard: str, times: list[float]) -> None:
    fleet, intent = waiting(make_fleet, heard)
    assert polls(fleet, intent, DEADLINE + 0.5) == times


@pytest.mark.parametrize("heard", ["pending", "unknown", "silent"])
def test_a_rail_that_never_answers_is_a_case_at_its_deadline_with_the_hold_still_there(
    make_fleet: MakeFleet, heard: str
) -> None:
    fleet, intent = waiting(make_fleet, heard)
    fleet.advance(DEADLINE - 1)
    assert (money(fleet), fleet.cases()) == (HELD, [])
    fleet.advance(1.01)
    assert (money(fleet), fleet.cases()) == (HELD, UNKNOWN)
    assert last_facts(fleet, intent, "case.opened")["detail"]["held"] == "125000"
    fleet.advance(30 * 86_400)  # and a month later still, once
    assert (money(fleet), fleet.cases(), fleet.events(intent).count("case.opened")) == (HELD, UNKNOWN, 1)


def test_asking_goes_on_slowly_after_the_case_and_never_stops(make_fleet: MakeFleet) -> None:
    fleet, intent = waiting(make_fleet, "pending")
    fleet.advance(DEADLINE + 0.01)
    assert polls(fleet, intent, 3_000) == [450.0, 675.0, 1012.5, 1518.75, 2118.75, 2718.75]
    fleet.advance(86_400)
    assert 5 <= len(polls(fleet, intent, 3_600)) <= 7


@pytest.mark.parametrize(("status", "expected"), [("succeeded", PAID), ("declined", KEPT)])
@pytest.mark.parametrize("how", ["polled", "body_signed"])
@pytest.mark.parametrize("days", [0, 3])
def test_a_late_answer_settles_the_payment_and_closes_the_case(
    make_fleet: MakeFleet, status: str, expected: dict[str, Any], how: str, days: int
) -> None:
    fleet, intent = waiting(make_fleet, "pending")
    fleet.advance(DEADLINE + 1 + 86_400 * days)
    event = "evt-1" if how == "body_signed" else None
    fleet.report(outcome(intent, status, event=event, trust=how))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases(), fleet.cases(status="resolved")) == (expected, [], UNKNOWN)
    resolved = last_facts(fleet, intent, "case.resolved")
    assert (resolved["resolution"], resolved["reason"]) == ("answered", UNKNOWN[0])
    fleet.advance(86_400)
    assert fleet.store.rows.timers == {}


def test_a_claim_after_the_case_does_not_close_it(make_fleet: MakeFleet) -> None:
    fleet, intent = waiting(make_fleet, "pending")
    fleet.advance(DEADLINE + 1)
    fleet.report(outcome(intent, "succeeded", event="evt-1", trust="none"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (HELD, UNKNOWN)


def test_a_contradiction_takes_the_place_of_the_case_that_nobody_answered(make_fleet: MakeFleet) -> None:
    fleet, intent = waiting(make_fleet, "pending")
    fleet.advance(DEADLINE + 1)
    fleet.report(outcome(intent, "succeeded", event="evt-1", minor=1))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases(), fleet.cases(status="resolved")) == (
        HELD, ["provider_contradiction"], UNKNOWN,
    )  # fmt: skip
    fleet.advance(86_400)
    assert fleet.cases() == ["provider_contradiction"], "one case about the rail is enough"


def test_a_rail_of_its_own_settings_is_asked_by_them(make_fleet: MakeFleet) -> None:
    polling = STEADY | {"pending": Backoff(10, 3.0, 100, 0.0)}
    fleet, intent = waiting(make_fleet, "pending", polling=polling, deadline_seconds=400)
    # the first question is that of a rail that has said nothing since the submission
    assert polls(fleet, intent, 390) == [2.0, 12.0, 36.0, 108.0, 208.0, 308.0]


def test_a_successor_asks_on_where_its_predecessor_stood(make_fleet: MakeFleet) -> None:
    fleet, intent = waiting(make_fleet, "pending")
    fleet.advance(70)
    fleet.replace_worker("w2")
    times = polls(fleet, intent, 300)
    assert times == sorted(times)
    assert DEADLINE in times
    assert len(times) <= 6
    assert fleet.cases() == UNKNOWN


def test_jitter_spreads_payments_that_were_submitted_together(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting(polling={}))
    intents = [fleet.submit(transfer(1_000, scenario="silent")) for _ in range(20)]
    fleet.run_until_idle()
    fleet.advance(40)
    dues = {fleet.workers[0].soon.get(intent) for intent in intents} - {None}
    rows = [fleet.store.rows.timers["intent", intent, "state"].due_at for intent in intents]
    assert len({due.due_at for due in dues if due} | set(rows)) > 10


def test_a_rail_that_is_taken_away_is_a_case_and_is_asked_when_it_is_back(make_fleet: MakeFleet) -> None:
    fleet, intent = waiting(make_fleet, "pending")
    current = fleet.store.current
    fleet.store.configure(structs.replace(current, rails={"beta": current.rails["beta"]}))
    fleet.advance(10)
    assert fleet.cases() == ["rail_unknown"]
    fleet.store.configure(current)
    fleet.advance(301)
    fleet.report(outcome(intent, "succeeded"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (PAID, [])
