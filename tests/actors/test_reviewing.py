"""Reviews in the engine, as tables: how one opens, who may decide, and what a decision is bound to."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.actors.desks import DUE, HIGH, MEMBERS, asked, decided, denials, referred, seen, staff, staffed
from tests.actors.world import MakeFleet, balances, last_facts, verdict
from zentra.actors.reviewing import seen_of
from zentra.bench.twins.fleet import START, at_once
from zentra.runtime import reviews
from zentra.runtime.intents.transaction import restore
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.reviews import Approvals, Member, ReviewRules, Workload

# Opening --------------------------------------------------------------------------------------------------------------


def test_a_review_opens_with_its_terms_and_somebody_who_is_not_its_creator(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet, principal="ola")
    facts = last_facts(fleet, intent, "review.assigned")
    assert (facts["to"], facts["how"], facts["round"]) == ("ops", "opened", 1)
    assert fleet.events(intent)[-2:] == DUE
    row, desk = fleet.store.rows.reviews[intent], fleet.transaction(intent).review
    assert (row["assigned_to"], row["due_at"], row["expires_at"]) == ("ops", desk.due_at, desk.expires_at)
    assert (row["kind"], row["currency"], row["minor"], row["approvals"]) == ("transfer", "NGN", HIGH, 1)
    assert desk.expires_at - row["opened_at"] == timedelta(hours=72)
    assert desk.due_at == row["opened_at"] + timedelta(hours=4)


def test_reviews_are_shared_out_by_who_has_the_fewest(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    given = [fleet.store.rows.reviews[referred(fleet)]["assigned_to"] for _ in range(4)]
    assert sorted(given) == ["ola", "ola", "ops", "ops"]
    waiting = [intent for intent, row in fleet.store.rows.reviews.items() if row["assigned_to"] == "ola"]
    assert [decided(fleet, intent, "ops", "rejected") for intent in waiting] == ["done", "done"]
    fleet.advance(11)  # by then what everybody has is counted anew
    assert fleet.store.rows.reviews[referred(fleet)]["assigned_to"] == "ola"


# fmt: off
CHOICES = [
    ("the idlest",          {"a": 2, "b": 1, "c": 3}, set(),      "operator", "b"),
    ("the first of equals", {},                       set(),      "operator", "a"),
    ("not those without",   {"a": 0, "b": 9},         {"a", "c"}, "operator", "b"),
    ("not the disabled",    {},                       {"a", "b"}, "operator", "c"),
    ("nobody of the role",  {},                       set(),      "admin",    None),
    ("nobody is left",      {},                       {"a", "b", "c"}, "operator", None),
]
# fmt: on


@pytest.mark.parametrize(("work", "without", "role", "chosen"), [r[1:] for r in CHOICES], ids=[r[0] for r in CHOICES])
def test_the_least_loaded_is_chosen(work: dict[str, int], without: set[str], role: str, chosen: str | None) -> None:
    members = {name: Member("operator", name == "d") for name in "abcd"}
    assert reviews.least_loaded(members, work, role, without) == chosen


def test_terms_are_those_of_when_it_opened(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet, ReviewRules(expires_seconds=600, due_seconds=60, due_seconds_by_kind={"transfer": 30}))
    intent = referred(fleet)
    staff(fleet, MEMBERS, ReviewRules(expires_seconds=10, approvals={"*": Approvals(1, 2)}))
    desk = fleet.transaction(intent).review
    assert desk.due_at is not None
    assert ((desk.due_at - START).seconds, (desk.expires_at - START).seconds, desk.approvals) == (30, 600, 1)
    fleet.advance(590)
    assert fleet.transaction(intent).state is State.REVIEW
    fleet.advance(20)
    assert (fleet.transaction(intent).state, fleet.events(intent)[-2]) == (State.FAILED, "review.expired")


@pytest.mark.parametrize(("rules", "approvals"), [(None, 2), (ReviewRules(nats_approvals=1), 1)])
def test_what_came_over_nats_takes_two_people_unless_the_tenant_says_otherwise(
    make_fleet: MakeFleet, rules: ReviewRules | None, approvals: int
) -> None:
    fleet = staffed(make_fleet, rules)
    intent = referred(fleet, principal="nats")
    assert fleet.transaction(intent).review.approvals == approvals
    assert decided(fleet, intent, "ops") == "done"
    assert (fleet.transaction(intent).state is State.REVIEW) == (approvals == 2)
    if approvals == 2:
        assert [decided(fleet, intent, "ops"), decided(fleet, intent, "ola")] == ["approval_repeated", "done"]
    assert fleet.transaction(intent).state is State.SUBMITTED


def test_where_nobody_is_to_be_given_reviews_they_are_nobodys(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet, ReviewRules(assigns=False))
    intent = referred(fleet)
    assert last_facts(fleet, intent, "review.assigned")["to"] is None
    assert fleet.store.rows.reviews[intent]["assigned_to"] is None


def test_a_review_from_before_there_were_terms_runs_as_it_did(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    rows = [(t.record, t.hash) for t in fleet.store.rows.transitions[intent]]
    old = restore(rows[:-1])
    assert old.desk is None
    assert old.referred_at is not None
    assert (old.review.expires_at - old.referred_at, old.review.due_at) == (timedelta(hours=72), None)
    assert seen_of(old) == seen_of(restore(rows))


def test_workloads_count_what_is_open(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    referred(fleet)
    done = referred(fleet)
    decided(fleet, done, "boss", "rejected", role="admin")
    found = at_once(fleet.store.workloads(["acme", "globex"]))
    assert found["acme"].open == {"ola": 1}
    assert found["globex"] == Workload(fleet.now, {})


def test_a_tenant_without_people_has_reviews_all_the_same(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = referred(fleet)
    assert fleet.events(intent)[-2:] == DUE
    assert msgspec.json.decode(fleet.store.rows.transitions[intent][-1].record)["facts"]["to"] is None


# Deciding -------------------------------------------------------------------------------------------------------------

# Who, in which role, what is changed of a sound approval of round 1, and the first objection.
# fmt: off
OBJECTIONS: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("another round",              "dev",  "developer", {"round": 2, "request_hash": "x"}, "review_not_open"),
    ("demoted since",              "ada",  "operator",  {"request_hash": "x"},             "permission_denied"),
    ("disabled since",             "gone", "operator",  {"request_hash": "x"},             "permission_denied"),
    ("a role that may not",        "ops",  "auditor",   {},                                "permission_denied"),
    ("the creator, promoted",      "dev",  "operator",  {"request_hash": "x"},             "permission_denied"),
    ("another thing was seen",     "ops",  "operator",  {"request_hash": "0" * 64},        "review_changed"),
    ("seen by whoever rejects",    "ops",  "operator",  {"request_hash": "", "verdict": "rejected"}, "review_changed"),
    ("a person of an issuer",      "idp:7", "operator", {},                                "done"),
    ("sound",                      "ops",  "operator",  {},                                "done"),
]
# fmt: on


@pytest.mark.parametrize(
    ("who", "role", "changes", "code"), [row[1:] for row in OBJECTIONS], ids=[row[0] for row in OBJECTIONS]
)
def test_the_first_objection_to_a_decision_is_its_answer(
    make_fleet: MakeFleet, who: str, role: str, changes: dict[str, Any], code: str
) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    assert decided(fleet, intent, who, role=role, **changes) == code
    assert (fleet.transaction(intent).state is State.REVIEW) == (code != "done")
    assert list(fleet.store.rows.decisions_refused.values()) == ([] if code == "done" else [code])
    assert [reason for _, _, reason in denials(fleet)] == (
        [] if code != "permission_denied" else ["principal_disabled" if who == "gone" else "permission_denied"]
    )
    if code != "done":
        assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)


def test_nobody_decides_on_their_own_by_whatever_key_and_the_try_is_kept(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet, principal="ops")
    assert [decided(fleet, intent, "ops", role=role) for role in ("operator", "admin")] == ["self_approval"] * 2
    assert decided(fleet, intent, "ops", request_hash="0" * 64) == "self_approval"
    assert denials(fleet)[0] == ("ops", "review.decide", "self_approval")
    assert fleet.transaction(intent).state is State.REVIEW


def test_whoever_is_demoted_between_a_decision_and_its_tick_decides_nothing(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    body = {"verdict": "approved", "round": 1, "reason": "", "request_hash": seen(fleet, intent)}
    command = fleet.command("decide_review", intent, body, principal="ops")
    staff(fleet, {**MEMBERS, "ops": Member("support")})  # the command is committed, and nobody has looked at it
    fleet.run_until_idle()
    assert (verdict(fleet, command), fleet.transaction(intent).state) == ("permission_denied", State.REVIEW)
    assert decided(fleet, intent, "ola") == "done"


def test_the_record_of_a_decision_has_what_was_seen(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    bound = seen(fleet, intent)
    assert decided(fleet, intent, "ops") == "done"
    facts = last_facts(fleet, intent, "review.approved")
    assert (facts["request_hash"], facts["waives"], facts.get("approved_by")) == (bound, ["review_threshold"], None)
    records = [json.loads(t.record) for t in fleet.store.rows.transitions[intent]]
    referral = next(record for record in records if record["event"] == "policy.review")
    assert bound == reviews.request_hash(  # from the packet alone
        tenant="acme", intent=intent, command=records[0]["facts"]["digest"], round=1,
        rules=[rule for rule, result in referral["facts"]["results"].items() if result == "review"],
        version=referral["facts"]["version"], asks=referral["facts"]["asks"],
    )  # fmt: skip


# fmt: off
SEEN: dict[str, Any] = {
    "tenant": "acme", "intent": "0" * 32, "command": "1" * 64, "round": 1, "rules": ("a", "b"), "version": 3,
}
CHANGED: list[dict[str, Any]] = [
    {"tenant": "globex"}, {"intent": "1" * 32}, {"command": "2" * 64}, {"round": 2}, {"rules": ("a",)}, {"version": 4},
    {"asks": {"a": "r", "b": "s"}},
]
# fmt: on


@pytest.mark.parametrize("change", CHANGED, ids=[next(iter(change)) for change in CHANGED])
def test_a_decision_is_bound_to_all_of_it(change: dict[str, Any]) -> None:
    assert reviews.request_hash(**SEEN) != reviews.request_hash(**{**SEEN, **change})
    assert reviews.request_hash(**SEEN) == reviews.request_hash(**{**SEEN, "rules": ("b", "a")})


@pytest.mark.parametrize("change", [{"asks": {"a": "r", "b": "t"}}, {"known": "2" * 64}], ids=["a reason", "people"])
def test_a_decision_is_bound_to_reasons_and_to_what_was_known(change: dict[str, Any]) -> None:
    reasoned = {**SEEN, "asks": {"a": "r", "b": "s"}, "known": "1" * 64}
    assert reviews.request_hash(**reasoned) != reviews.request_hash(**{**reasoned, **change})


def test_a_gateway_of_the_version_before_binds_to_nothing_and_the_record_says_so(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    body = {"verdict": "approved", "round": 1, "reason": ""}
    assert asked(fleet, "decide_review", intent, body) == "done"
    assert "request_hash" not in last_facts(fleet, intent, "review.approved")


TWO = ReviewRules(approvals={"NGN": Approvals(minor_min=HIGH, count=2)})


def test_above_an_amount_two_people_approve(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet, TWO)
    intent = referred(fleet)
    assert decided(fleet, intent, "ops") == "done"
    assert (fleet.transaction(intent).state, fleet.events(intent)[-1]) == (State.REVIEW, "review.endorsed")
    assert fleet.store.rows.reviews[intent]["approved_by"] == ["ops"]
    assert (balances(fleet)["customer"], fleet.rails["alpha"].submits.total()) == ((0, 0, 0, 5_000_000), 0)
    assert decided(fleet, intent, "ops") == "approval_repeated"
    assert decided(fleet, intent, "ops", role="admin") == "approval_repeated"
    assert decided(fleet, intent, "boss", role="admin") == "done"
    facts = last_facts(fleet, intent, "review.approved")
    assert (facts["approved_by"], facts["decided_by"], facts["waives"]) == (
        ["ops", "boss"], "boss", ["review_threshold"],
    )  # fmt: skip
    assert fleet.events(intent).count("review.approved") == 1
    row = fleet.store.rows.reviews[intent]
    assert (row["approved_by"], row["status"], row["decided_by"]) == (["ops", "boss"], "approved", "boss")


# fmt: off
ENDS = [
    ("one of the two objects",    "ola", "rejected", State.FAILED),
    ("the first changes their mind", "ops", "rejected", State.FAILED),
    ("an amount below",           None,  "approved", State.JUDGING),
]
# fmt: on


@pytest.mark.parametrize(("second", "word", "ends"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_one_rejection_ends_what_two_would_have_to_approve(
    make_fleet: MakeFleet, second: str | None, word: str, ends: State
) -> None:
    fleet = staffed(make_fleet, TWO)
    intent = referred(fleet, minor=HIGH if second else HIGH - 1)
    assert decided(fleet, intent, "ops") == "done"
    if second is not None:
        assert decided(fleet, intent, second, word) == "done"
        assert fleet.transaction(intent).state is ends
    else:
        assert "review.approved" in fleet.events(intent)
