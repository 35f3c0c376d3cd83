"""Judging under conditions and windows: what is counted, what is given back, and that a version is one at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from msgspec import structs

from tests.actors.test_journals import journal
from tests.actors.world import account, audited, configuration, last_facts, transfer, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.facts import Seen
from zentra.runtime.intents.terms import HoldTerms
from zentra.runtime.intents.vocabulary import IntentKind, State
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


# Journals and captures: no movement hides behind another --------------------------------------------------------------

BLOCKED: Final[dict[str, Any]] = {"lists": {"blocked": ["poor"]}}


def rule(name: str, field: str, op: str, outcome: str = "deny", **more: Any) -> dict[str, Any]:
    told = {} if outcome == "allow" else {"reason": name}
    given = {key: more.pop(key) for key in ("waives",) if key in more}
    return {"name": name, "when": {"field": field, "op": op, **more}, "outcome": outcome, **told, **given}


TO_BLOCKED: Final = rule("payee_blocked", "destination.id", "in", list="blocked")
FROM_BLOCKED: Final = rule("payer_blocked", "source.id", "in", list="blocked")
LARGE: Final = rule("large", "amount", ">", "review", value=50_000)
SMALL: Final = rule("dust", "amount", "<", value=10)
ANYWHERE: Final = rule("payee_blocked", "destination.id", "in", list="blocked", default="")
OF_SHOPS: Final = rule("of_shops", "destination.type", "==", "review", value="merchant")
KNOWN: Final = rule("known", "source.id", "==", "allow", value="customer", waives=["large"])
PAY: Final = ("customer", "merchant", 1_000)
BACK: Final = ("customer", "poor", 1_000)
LENT: Final = ("poor", "merchant", 1)
USD: Final = ("dollars", "more-dollars", 100, "USD")


@pytest.mark.parametrize(
    ("asked", "legs", "currency", "outcome", "reasons"),
    [
        ([TO_BLOCKED], [PAY, BACK], "NGN", "denied", ["payee_blocked"]),
        ([TO_BLOCKED], [PAY, PAY], "NGN", "accepted", []),
        ([TO_BLOCKED], [PAY, BACK, BACK, ("merchant", "poor", 5)], "NGN", "denied", ["payee_blocked"]),
        ([FROM_BLOCKED], [("merchant", "poor", 5), LENT], "NGN", "denied", ["payer_blocked"]),
        ([FROM_BLOCKED, LARGE], [PAY, ("customer", "poor", 60_000), LENT], "NGN", "denied", ["payer_blocked", "large"]),
        ([LARGE], [USD, ("customer", "merchant", 400_000)], "USD", "review", ["large"]),
        ([LARGE], [("customer", "merchant", 30_000), ("customer", "poor", 30_000)], "NGN", "review", ["large"]),
        ([LARGE], [("customer", "merchant", 30_000), (*USD[:2], 30_000, "USD")], "NGN", "accepted", []),
        ([SMALL], [PAY, LENT], "NGN", "denied", ["dust"]),
        ([OF_SHOPS], [BACK, PAY], "NGN", "review", ["of_shops"]),
        ([LARGE, KNOWN], [("customer", "poor", 60_000), PAY], "NGN", "accepted", []),
        ([LARGE, KNOWN], [("customer", "poor", 60_000), LENT], "NGN", "review", ["large"]),
    ],
)  # fmt: skip
def test_every_movement_of_a_journal_is_judged_and_the_worst_answer_wins(
    make_fleet: MakeFleet, asked: list[dict[str, Any]], legs: list[tuple[Any, ...]], currency: str, outcome: str,
    reasons: list[str],
) -> None:  # fmt: skip
    made = rules(rules=asked, **BLOCKED)
    fleet = make_fleet(under(made))
    for number, name in ((21, "dollars"), (22, "more-dollars")):
        fleet.store.open_account(
            structs.replace(account(number, name, "customer", overdraft_limit=100_000), currency="USD")
        )
    intent = fleet.submit(journal(*legs, currency=currency))
    fleet.run_until_idle()
    (past,) = decisions_in([row.record for row in fleet.store.rows.transitions[intent]])
    assert (past.judged.outcome, list(past.judged.reasons)) == (outcome, reasons)
    assert explain(past, made, source_type="customer").same
    audited(fleet)


def test_a_journal_of_one_movement_keeps_no_more_of_it_than_ever(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(under(rules(rules=[OF_SHOPS])))
    intent = fleet.submit(journal(PAY, PAY))
    fleet.run_until_idle()
    assert "accounts" not in last_facts(fleet, intent, "policy.review")["seen"]


@pytest.mark.parametrize(
    ("document", "named", "destination", "code"),
    [
        ({"rules": [TO_BLOCKED], **BLOCKED}, "merchant", "poor", "destination_not_permitted"),
        ({"rules": [ANYWHERE], **BLOCKED}, "", "poor", "destination_not_permitted"),
        ({"rules": [TO_BLOCKED], **BLOCKED}, "merchant", "merchant", "done"),
        ({"rules": [ANYWHERE], **BLOCKED}, "", "merchant", "done"),
        ({"rules": [TO_BLOCKED], **BLOCKED}, "merchant", "nobody", "account_not_found"),
        ({"rules": [OF_SHOPS]}, "poor", "merchant", "destination_not_permitted"),
        ({"scopes": ["default"]}, "merchant", "poor", "done"),
        ({"windows": {"a": {**MINUTE, "limits": {"NGN": {"count_max": 1}}}}}, "merchant", "poor", "done"),
        (
            {"windows": {"p": {"by": "counterparty", "calendar": "day", "limits": {"NGN": {"minor_max": 9_999}}}}},
            "", "poor", "destination_not_permitted",
        ),
        (
            {"rules": [LARGE, rule("paid", "destination.id", "==", "allow", value="merchant", waives=["large"])]},
            "merchant", "poor", "destination_not_permitted",
        ),
    ],
)  # fmt: skip
def test_a_capture_goes_only_where_the_policy_lets_the_hold_go(
    make_fleet: MakeFleet, document: dict[str, Any], named: str, destination: str, code: str
) -> None:
    fleet = make_fleet(under(rules(**document)))
    minor = 60_000 if "paid" in str(document) else 10_000
    intent = fleet.submit(transfer(minor, kind=IntentKind.HOLD, hold=HoldTerms(600), destination=named))
    fleet.run_until_idle()
    before = fleet.transaction(intent)
    assert before.state is State.HELD
    command = fleet.command("capture_hold", intent, {"amount": "4000", "destination": destination})
    fleet.run_until_idle()
    assert verdict(fleet, command) == code
    if code == "done":
        permit = last_facts(fleet, intent, "hold.captured").get("permitted")
        asked = named != destination and "rules" in document  # else nothing looks at the destination
        assert (permit is not None) is asked
        assert permit is None or (permit["outcome"], permit["version"]) == ("accepted", 3)
    else:
        assert fleet.transaction(intent) == before
        kept = [row.action for row in fleet.store.rows.denials if row.reason == "destination_not_permitted"]
        assert kept == (["policy.capture"] if code == "destination_not_permitted" else [])
    audited(fleet)
