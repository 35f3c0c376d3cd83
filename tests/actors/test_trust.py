"""Callbacks that anybody could have made: recorded, asked about at once, and money moves on the rail's answer alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from tests.actors.test_outcomes import HELD, KEPT, PAID, awaiting, money, unheard
from tests.actors.world import MakeFleet, configuration, facts_of, last_facts, outcome, transfer
from zentra.actors.outcomes import CLAIMS_MAX
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome

CASE = ["provider_contradiction"]
POLLED = {"trust": "polled"}
Script = Sequence[tuple[str, dict[str, Any]]]


def claim(intent: str, status: str, number: int, **changes: Any) -> RailOutcome:
    """Return what somebody who knows the secret says in the rail's name."""
    said = outcome(intent, status, event=f"claim-{number}", raw_digest="d" * 64)
    return structs.replace(said, **({"trust": "shared_secret"} | changes))


def asked(fleet: Fleet) -> int:
    return fleet.rails["alpha"].polls.total()


# fmt: off
STORIES: list[tuple[str, Script, dict[str, Any], list[str]]] = [
    ("a claim alone",                      [("succeeded", {})],                                        HELD, []),
    ("a claim of a decline alone",         [("declined", {})],                                         HELD, []),
    ("a claim that nobody took it",        [("not_accepted", {"minor": None})],                        HELD, []),
    ("a claim that proves nothing at all", [("succeeded", {"trust": "none"})],                         HELD, []),
    ("two claims that clash",              [("succeeded", {}), ("declined", {})],                      HELD, []),
    ("a claim of another amount",          [("succeeded", {"minor": 1})],                              HELD, CASE),
    ("a claim of another currency",        [("succeeded", {"currency": "USD"})],                       HELD, CASE),
    ("a claim, and the rail says so",      [("succeeded", {}), ("succeeded", POLLED)],                 PAID, []),
    ("the rail, and a claim that says so", [("succeeded", POLLED), ("succeeded", {})],                 PAID, []),
    ("a claim, and the rail says no",      [("succeeded", {}), ("declined", POLLED)],                  KEPT, CASE),
    ("a claim of a decline, it is paid",   [("declined", {}), ("succeeded", POLLED)],                  PAID, CASE),
    ("the rail says no, then a claim",     [("declined", POLLED), ("succeeded", {})],                  KEPT, CASE),
    ("it is paid, then a claim of not",    [("succeeded", POLLED), ("declined", {})],                  PAID, CASE),
    ("another amount, then the right one", [("succeeded", {"minor": 1}), ("succeeded", POLLED)],       PAID, CASE),
    ("a signed callback after a claim",    [("succeeded", {}), ("succeeded", {"trust": "body_signed"})], PAID, []),
    ("a claim of paid, then not accepted", [("succeeded", {}), ("not_accepted", POLLED)],              KEPT, CASE),
]
# fmt: on


@pytest.mark.parametrize("together", [True, False], ids=["in one tick", "in a tick each"])
@pytest.mark.parametrize(("script", "expected", "cases"), [row[1:] for row in STORIES], ids=[row[0] for row in STORIES])
def test_only_the_rails_own_answer_moves_money(
    make_fleet: MakeFleet, script: Script, expected: dict[str, Any], cases: list[str], together: bool
) -> None:
    fleet, intent = awaiting(make_fleet)  # a rail that is still working on it, whenever it is asked
    for number, (status, changes) in enumerate(script):
        said = claim(intent, status, number, **changes)
        if said.trust == "polled":
            said = structs.replace(said, event_id=None)
        fleet.report(said)
        if not together:
            fleet.run_until_idle()
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (expected, cases)
    assert {attempt.rail for attempt in fleet.transaction(intent).attempts} == {"alpha"}, "no other rail is asked"


@pytest.mark.parametrize("trust", ["shared_secret", "none"])
@pytest.mark.parametrize("status", ["succeeded", "declined", "not_accepted"])
def test_a_claim_is_recorded_with_its_digest_and_the_rail_is_asked_at_once(
    make_fleet: MakeFleet, status: str, trust: str
) -> None:
    fleet, intent = awaiting(make_fleet)
    before = asked(fleet)
    fleet.report(claim(intent, status, 1, trust=trust))
    fleet.run_until_idle()
    facts = last_facts(fleet, intent, "provider.callback")
    told = {name: facts[name] for name in ("status", "said", "trust", "digest", "event_id")}
    assert told == {"status": "started", "said": status, "trust": trust, "digest": "d" * 64, "event_id": "claim-1"}
    assert asked(fleet) == before + 1
    assert fleet.transaction(intent).state is State.SUBMITTED


def test_the_answer_to_the_question_settles_it_without_waiting_for_the_timer(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(scenario="late_success"))
    fleet.run_until_idle()
    fleet.now += timedelta(seconds=1)  # the rail has paid, and its callback is on its way
    fleet.report(claim(intent, "succeeded", 1))
    fleet.run_until_idle()
    assert (money(fleet), fleet.transaction(intent).state) == (PAID, State.SUCCESSFUL)


def test_a_claim_whose_question_is_lost_is_asked_about_again_soon(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.advance(200)  # polled every minute by now
    fleet.effects_lost = True
    fleet.report(claim(intent, "succeeded", 1))
    fleet.run_until_idle()
    fleet.effects_lost = False
    before = asked(fleet)
    fleet.advance(1.5)
    assert asked(fleet) == before + 1


def test_a_forger_who_repeats_himself_is_recorded_no_more_than_so_often(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zentra.actors.outcomes.WORDS_AGAIN_MAX", 5)
    fleet, intent = unheard(make_fleet)
    for number in range(20):
        fleet.report(claim(intent, "succeeded", number))
        fleet.run_until_idle()
    assert fleet.events(intent).count("provider.callback") == 5
    fleet.report(claim(intent, "declined", 99))  # what is new is recorded
    fleet.run_until_idle()
    assert fleet.events(intent).count("provider.callback") == 6


@pytest.mark.parametrize("settled", [True, False])
def test_claims_of_ever_other_amounts_are_recorded_no_more_than_so_often(make_fleet: MakeFleet, settled: bool) -> None:
    fleet, intent = awaiting(make_fleet)
    if settled:
        fleet.report(outcome(intent, "succeeded", event="evt-1", trust="polled"))
        fleet.run_until_idle()
    said = partial(_recorded, fleet, intent)
    records, before = said(), asked(fleet)
    for number in range(100):
        fleet.report(claim(intent, "succeeded", number, minor=number + 1))
        fleet.run_until_idle()
    assert (said() - records, fleet.cases()) == (CLAIMS_MAX, CASE)
    assert asked(fleet) == before + 1
    fleet.report(claim(intent, "declined", 100, minor=1))  # an outcome that nobody has named yet is recorded
    fleet.report(outcome(intent, "succeeded", event="evt-2", trust="body_signed", minor=77))  # and whoever decides
    fleet.run_until_idle()
    assert said() - records == CLAIMS_MAX + 2


def _recorded(fleet: Fleet, intent: str) -> int:
    return fleet.events(intent).count("provider.callback")


@pytest.mark.parametrize("settled", [True, False])
def test_claims_that_follow_one_another_are_asked_about_once_in_a_pause(make_fleet: MakeFleet, settled: bool) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.advance(200)
    if settled:
        fleet.report(outcome(intent, "succeeded", event="evt-1", trust="polled"))
        fleet.run_until_idle()
    before = asked(fleet)
    for number in range(10):
        fleet.report(claim(intent, "declined", number))
        fleet.advance(0.3)
    burst = asked(fleet) - before
    assert 1 <= burst <= (1 if settled else 5), "of what is open the timer asks on"
    assert settled or burst > 1, "and no claim puts it off"
    fleet.now += timedelta(seconds=10)
    fleet.report(claim(intent, "declined", 11))
    fleet.run_until_idle()
    assert asked(fleet) - before == burst + 1


def test_a_claim_that_repeats_what_is_known_keeps_no_other_from_being_asked_about(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.report(outcome(intent, "succeeded", event="evt-1", trust="polled"))
    fleet.run_until_idle()
    before = asked(fleet)
    for number, status in enumerate(("succeeded", "declined")):
        fleet.report(claim(intent, status, number))
        fleet.run_until_idle()
    assert (asked(fleet), fleet.cases()) == (before + 1, CASE)


def test_a_claim_of_what_was_left_leads_nowhere_else(make_fleet: MakeFleet) -> None:
    fleet, intent = unheard(make_fleet)
    fleet.report(outcome(intent, "not_accepted", event="evt-1", minor=None))
    fleet.run_until_idle()
    assert [a.rail for a in fleet.transaction(intent).attempts] == ["alpha", "beta"]
    fleet.report(claim(intent, "succeeded", 1))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (HELD, CASE)
    assert fleet.transaction(intent).state is State.SUBMITTED


def test_a_claim_survives_a_takeover_and_a_replay(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.report(claim(intent, "succeeded", 1))
    fleet.run_until_idle()
    fleet.replace_worker("w2")
    fleet.report(structs.replace(outcome(intent, "declined"), trust="polled"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (KEPT, CASE)
    before = facts_of(fleet)
    fleet.replay()
    assert facts_of(fleet) == before


@pytest.mark.parametrize("status", ["pending", "unknown"])
def test_what_says_nothing_of_the_money_is_no_claim(make_fleet: MakeFleet, status: str) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    before = asked(fleet)
    for number in range(3):
        fleet.report(claim(intent, status, number))
        fleet.run_until_idle()
    assert (asked(fleet), fleet.events(intent).count("provider.callback")) == (before, 1)


def test_a_claim_of_a_rail_that_is_not_set_up_any_more_is_kept(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    current = configuration()
    fleet.store.configure(structs.replace(current, rails={"beta": current.rails["beta"]}))
    fleet.report(claim(intent, OutcomeStatus.SUCCEEDED, 1))
    fleet.run_until_idle()
    assert (money(fleet), fleet.events(intent).count("provider.callback")) == (HELD, 1)
