"""Judging under conditions and windows: what is counted, what is given back, and that a version is one at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from msgspec import structs

from tests.actors.world import audited, configuration, last_facts, transfer
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.facts import Seen
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.policy import PolicyRules
from zentra.runtime.policy.document import parse_policy
from zentra.runtime.policy.replay import decisions_in, explain
from zentra.runtime.ports import Configuration

MakeFleet = Callable[..., Fleet]
MINUTE: Final = {"by": "account", "rolling_seconds": 60, "buckets": 6}
ROLLING: Final = "rolling-60-6/account/customer"


def rules(version: int = 3, **document: Any) -> PolicyRules:
    """Return a document as rules."""
    made, violations = parse_policy(document)
    assert made is not None, violations
    return structs.replace(made, version=version)


def under(made: PolicyRules) -> Configuration:
    return structs.replace(configuration(), policies={"acme": made})


def held(fleet: Fleet) -> dict[str, tuple[int, int]]:
    return {key.counter: (used.count, used.minor) for key, used in fleet.store.rows.velocity.items()}


def limited(count: int, **more: Any) -> PolicyRules:
    return rules(windows={"minute": {**MINUTE, "limits": {"NGN": {"count_max": count}}}}, **more)


def test_a_rolling_window_refuses_what_is_too_fast_and_forgets(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(under(limited(2)))
    first, second, third = (fleet.submit(transfer(1_000 + n)) for n in range(3))
    fleet.advance(5)
    states = [fleet.transaction(intent).state for intent in (first, second, third)]
    assert states == [State.SUCCESSFUL, State.SUCCESSFUL, State.FAILED]
    assert last_facts(fleet, third, "policy.denied")["reasons"] == ["window_count_exceeded"]
    assert held(fleet) == {ROLLING: (2, 2_001)}
    fleet.now += timedelta(seconds=70)
    fourth = fleet.submit(transfer(5))
    fleet.advance(5)
    assert fleet.transaction(fourth).state is State.SUCCESSFUL
    assert held(fleet) == {ROLLING: (1, 5)}
    audited(fleet)


def test_a_failed_intent_gives_back_to_the_bucket_that_counted_it(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(under(limited(9)))
    declined = fleet.submit(transfer(700, scenario="decline"))
    fleet.run_until_idle()
    bucket = last_facts(fleet, declined, "policy.accepted")["velocity"][0]["bucket"]
    fleet.now += timedelta(seconds=25)
    paid = fleet.submit(transfer(30))
    fleet.advance(5)
    assert [fleet.transaction(intent).state for intent in (declined, paid)] == [State.FAILED, State.SUCCESSFUL]
    (usage,) = fleet.store.rows.velocity.values()
    assert (usage.count, usage.minor) == (1, 30)
    assert bucket not in [number for number, count, _ in usage.buckets if count]


@pytest.mark.parametrize("events_max", [1, 4, 1_000])
def test_however_events_are_cut_into_ticks_the_same_is_counted(make_fleet: MakeFleet, events_max: int) -> None:
    windows = {"minute": {**MINUTE, "limits": {"NGN": {"count_max": 7}}}, "all": {"by": "tenant", "calendar": "ever"}}
    fleet = make_fleet(under(rules(windows=windows)), events_max=events_max)
    for number in range(12):
        fleet.submit(transfer(1_000, scenario=("success", "success", "decline")[number % 3]))
    fleet.run_until_idle()
    accepted = [tx for tx in fleet.store.rows.transitions.values() if any(t.event == "policy.accepted" for t in tx)]
    fleet.advance(5)
    assert len(accepted) == 7
    assert held(fleet)[ROLLING] == held(fleet)["ever/tenant"]
    audited(fleet)


def test_a_new_version_goes_on_counting_where_the_old_one_stopped(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(under(limited(9)))
    fleet.submit(transfer(10))
    fleet.advance(5)
    stricter = structs.replace(limited(1), version=4)
    fleet.store.configure(structs.replace(fleet.store.current, policies={"acme": stricter}))
    refused = fleet.submit(transfer(10))
    fleet.advance(5)
    facts = last_facts(fleet, refused, "policy.denied")
    assert (facts["version"], facts["seen"]["usage"]["minute"]) == (4, ["1", "10"])


def test_an_approved_review_is_judged_again_with_its_rule_waived(make_fleet: MakeFleet) -> None:
    look = {"name": "look", "when": {"field": "amount", "op": ">", "value": 500}, "outcome": "review", "reason": "big"}
    fleet = make_fleet(under(limited(9, rules=[look])))
    intent = fleet.submit(transfer(600))
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.REVIEW
    assert held(fleet) == {ROLLING: (0, 0)}


@pytest.mark.parametrize(
    "document",
    [
        {
            "rules": [
                {"name": "no", "when": {"field": "amount", "op": ">", "value": 5}, "outcome": "deny", "reason": "x"}
            ]
        },
        {"windows": {"minute": MINUTE}, "risk": {"review_min": 10}},
        {"risk": {"review_min": None}, "time_zone": "Africa/Lagos"},
        {"limits": {"NGN": {"daily_count_max": 2}}},
        {"limits": {"NGN": {"review_minor_min": 2}}},
        {},
    ],
)
def test_every_recorded_decision_is_the_same_when_it_is_made_again(
    make_fleet: MakeFleet, document: dict[str, Any]
) -> None:
    made = rules(**document)
    fleet = make_fleet(under(made))
    intents = [fleet.submit(transfer(1_000, scenario=("success", "decline")[n % 2])) for n in range(4)]
    fleet.advance(5)
    for intent in intents:
        past = decisions_in([row.record for row in fleet.store.rows.transitions[intent]])
        assert past
        for one in past:
            told = explain(one, made, source_type="customer")
            assert told.same, told
            assert [answer.rule for answer in told.answers] == list(one.judged.results)


def test_a_decision_that_was_changed_afterwards_is_not_the_same(make_fleet: MakeFleet) -> None:
    made = rules(windows={"minute": MINUTE}, risk={"review_min": 10})
    fleet = make_fleet(under(made))
    intent = fleet.submit(transfer(1_000))
    fleet.advance(5)
    (past,) = decisions_in([row.record for row in fleet.store.rows.transitions[intent]])
    judged = past.judged
    assert isinstance(judged.seen, Seen)
    for changed in (
        structs.replace(judged, outcome="accepted"),
        structs.replace(judged, seen=structs.replace(judged.seen, at="2026-01-05T10:00:00.000000Z")),
        structs.replace(judged, seen=structs.replace(judged.seen, usage={**judged.seen.usage, "minute": ("9", "9")})),
        structs.replace(judged, seen=structs.replace(judged.seen, fields={**judged.seen.fields, "risk.score": 0})),
    ):
        planted = structs.replace(past, judged=changed)
        assert explain(past, made, source_type="customer").same
        assert not explain(planted, made, source_type="customer").same
