"""Reviews in the engine, as tables: who may do what, what a decision is bound to, what time does to one, and races."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, balances, last_facts, transfer, verdict
from zentra.actors.reviewing import seen_of
from zentra.bench.twins.fleet import START, Fleet, at_once
from zentra.runtime import reviews
from zentra.runtime.intents.transaction import restore
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.reviews import NOTES_MAX, Approvals, Member, ReviewRules, Workload

HIGH = 1_500_000  # above the review threshold
HOUR = 3600
MEMBERS = {
    "dev": Member("developer"), "ada": Member("developer"), "ola": Member("operator"), "ops": Member("operator"),
    "boss": Member("admin"), "gone": Member("operator", disabled=True),
}  # fmt: skip
DUE = ["policy.review", "review.assigned"]


def staffed(make_fleet: MakeFleet, rules: ReviewRules | None = None, **changes: Any) -> Fleet:
    """Return a fleet whose tenant has people, and these rules for its reviews."""
    fleet = make_fleet(**changes)
    staff(fleet, MEMBERS, rules)
    return fleet


def staff(fleet: Fleet, members: dict[str, Member], rules: ReviewRules | None = None) -> None:
    given = {"acme": rules} if rules else {}
    fleet.store.configure(structs.replace(fleet.store.current, members={"acme": members}, reviews=given))


def referred(fleet: Fleet, *, principal: str = "dev", minor: int = HIGH) -> str:
    """Return an intent that waits for a person."""
    intent = fleet.submit(transfer(minor, scenario="silent"), principal=principal)
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.REVIEW
    return intent


def seen(fleet: Fleet, intent: str) -> str:
    return seen_of(fleet.transaction(intent))


def decided(fleet: Fleet, intent: str, who: str, word: str = "approved", role: str = "operator", **changes: Any) -> str:
    body = {"verdict": word, "round": 1, "reason": "seen", "request_hash": seen(fleet, intent), **changes}
    return asked(fleet, "decide_review", intent, body, who, role)


def asked(fleet: Fleet, kind: str, intent: str, body: object, who: str = "ops", role: str = "operator") -> str:
    """Return the code that a command is answered with."""
    command = fleet.command(kind, intent, body, principal=who, role=role)
    fleet.run_until_idle()
    return verdict(fleet, command)


def told(fleet: Fleet, intent: str, *topics: str) -> list[str]:
    return [event for event in fleet.events(intent) if event in topics or event.startswith("review.")]


def denials(fleet: Fleet) -> list[tuple[str, str, str]]:
    return [(row.actor, row.action, row.reason) for row in fleet.store.rows.denials]


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


# Assignment, comments, escalation -------------------------------------------------------------------------------------

# Kind, body, who, role, code; on a review of dev that is ola's.
# fmt: off
NOTES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("assign_review",   {"round": 1, "to": "ops"},                       "ops",  "operator",  "done"),
    ("assign_review",   {"round": 1, "to": "boss"},                      "ola",  "operator",  "done"),
    ("assign_review",   {"round": 1, "to": None},                        "ops",  "operator",  "done"),
    ("assign_review",   {"round": 1, "to": "idp:7"},                     "idp:7", "operator", "done"),
    ("assign_review",   {"round": 2, "to": "dev"},                       "ada",  "developer", "review_not_open"),
    ("assign_review",   {"round": 1, "to": "dev"},                       "ada",  "operator",  "permission_denied"),
    ("assign_review",   {"round": 1, "to": "dev", "unassigned": True},   "ops",  "operator",  "review_taken"),
    ("assign_review",   {"round": 1, "to": "dev"},                       "ops",  "operator",  "assignee_not_permitted"),
    ("assign_review",   {"round": 1, "to": "ada"},                       "ops",  "operator",  "assignee_not_permitted"),
    ("assign_review",   {"round": 1, "to": "gone"},                      "ops",  "operator",  "assignee_not_permitted"),
    ("assign_review",   {"round": 1, "to": "idp:7"},                     "ops",  "operator",  "assignee_not_permitted"),
    ("comment_review",  {"round": 1, "text": "why?"},                    "ops",  "operator",  "done"),
    ("comment_review",  {"round": 1, "text": "my invoice"},              "dev",  "developer", "done"),
    ("comment_review",  {"round": 2, "text": "late"},                    "gone", "operator",  "review_not_open"),
    ("comment_review",  {"round": 1, "text": "x"},                       "gone", "operator",  "permission_denied"),
    ("comment_review",  {"round": 1, "text": "x"},                       "ops",  "auditor",   "permission_denied"),
    ("escalate_review", {"round": 1, "reason": "unsure"},                "ops",  "operator",  "done"),
    ("escalate_review", {"round": 1, "reason": "x", "to": "ops"},        "ola",  "operator",  "done"),
    ("escalate_review", {"round": 0, "reason": "x"},                     "ops",  "operator",  "review_not_open"),
    ("escalate_review", {"round": 1, "reason": "x"},                     "dev",  "developer", "permission_denied"),
    ("escalate_review", {"round": 1, "reason": "x", "to": "dev"},        "ops",  "operator",  "assignee_not_permitted"),
]
# fmt: on


@pytest.mark.parametrize(("kind", "body", "who", "role", "code"), NOTES)
def test_what_people_add_to_a_review_is_a_record_or_refused(
    make_fleet: MakeFleet, kind: str, body: dict[str, Any], who: str, role: str, code: str
) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    assert fleet.store.rows.reviews[intent]["assigned_to"] == "ola"
    before = fleet.events(intent)
    assert asked(fleet, kind, intent, body, who, role) == code
    topic = {"assign": "review.assigned", "comment": "review.commented", "escalate": "review.escalated"}[
        kind.partition("_")[0]
    ]
    assert fleet.events(intent) == ([*before, topic] if code == "done" else before)
    assert fleet.transaction(intent).state is State.REVIEW
    row, desk = fleet.store.rows.reviews[intent], fleet.transaction(intent).review
    assert (row["assigned_to"], row["comments"], row["level"]) == (desk.assigned_to, desk.comments, desk.level)


def test_a_comment_stands_in_the_chain_by_its_digest(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    asked(fleet, "comment_review", intent, {"round": 1, "text": "Rechnung prüfen"})
    facts = last_facts(fleet, intent, "review.commented")
    assert facts["digest"] == hashlib.sha256("Rechnung prüfen".encode()).hexdigest()
    assert b"Rechnung" not in fleet.store.rows.transitions[intent][-1].record


def test_who_has_a_review_already_is_not_given_it_again(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    before = fleet.events(intent)
    assert asked(fleet, "assign_review", intent, {"round": 1, "to": "ola"}) == "done"
    assert fleet.events(intent) == before


def test_of_two_claims_one_takes(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet, ReviewRules(assigns=False))
    intent = referred(fleet)
    claims = [
        fleet.command("assign_review", intent, {"round": 1, "to": who, "unassigned": True}, principal=who)
        for who in ("ops", "ola")
    ]
    fleet.run_until_idle()
    assert sorted(verdict(fleet, claim) for claim in claims) == ["done", "review_taken"]
    assert last_facts(fleet, intent, "review.assigned")["how"] == "claimed"


def test_a_round_holds_so_many_notes_and_no_more(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    for number in range(NOTES_MAX):
        fleet.command("comment_review", intent, {"round": 1, "text": f"{number}"})
    fleet.run_until_idle()
    for kind, body in (
        ("comment_review", {"round": 1, "text": "x"}), ("assign_review", {"round": 1, "to": "ops"}),
        ("escalate_review", {"round": 1, "reason": "x"}),
    ):  # fmt: skip
        assert asked(fleet, kind, intent, body) == "review_notes_full"
    fleet.advance(5 * HOUR)
    assert fleet.events(intent)[-1] == "review.escalated", "what time does is not refused"
    assert decided(fleet, intent, "ops") == "done"


# Time -----------------------------------------------------------------------------------------------------------------


def test_what_is_overdue_is_escalated_once_and_expires_in_its_time(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    fleet.advance(4 * HOUR - 1)
    assert told(fleet, intent) == ["review.assigned"]
    fleet.advance(2)
    facts = last_facts(fleet, intent, "review.escalated")
    assert (facts["to"], facts["overdue"], facts["level"]) == ("boss", True, 1)
    assert (fleet.store.rows.reviews[intent]["assigned_to"], fleet.store.rows.reviews[intent]["breached"]) == (
        "boss", True,
    )  # fmt: skip
    fleet.advance(60 * HOUR)
    fleet.replace_worker("w2")
    fleet.advance(9 * HOUR)
    assert told(fleet, intent) == ["review.assigned", "review.escalated", "review.expired", "review.closed"]
    assert fleet.store.rows.reviews[intent]["status"] == "expired"


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_replayed_stream_escalates_nothing_again(make_fleet: MakeFleet, repeats: int) -> None:
    fleet = staffed(make_fleet)
    fleet.repeats = repeats
    intent = referred(fleet)
    asked(fleet, "comment_review", intent, {"round": 1, "text": "x"})
    fleet.advance(5 * HOUR)
    before = fleet.events(intent)
    fleet.replay()
    assert fleet.events(intent) == before
    assert before.count("review.escalated") == before.count("review.commented") == 1


# fmt: off
ESCALATED = [
    ("to the higher role",       ReviewRules(due_seconds=60), MEMBERS,                                      "boss"),
    ("to nobody, by the rules",  ReviewRules(due_seconds=60, escalates_to=""), MEMBERS,                     None),
    ("to nobody: there is none", ReviewRules(due_seconds=60), {k: v for k, v in MEMBERS.items() if k != "boss"}, None),
    ("to another role",          ReviewRules(due_seconds=60, escalates_to="operator"), MEMBERS,             "ops"),
]
# fmt: on


@pytest.mark.parametrize(("rules", "members", "to"), [row[1:] for row in ESCALATED], ids=[row[0] for row in ESCALATED])
def test_an_escalation_is_told_of_whoever_there_is(
    make_fleet: MakeFleet, rules: ReviewRules, members: dict[str, Member], to: str | None
) -> None:
    fleet = make_fleet()
    staff(fleet, members, rules)
    intent = referred(fleet)
    fleet.advance(61)
    assert last_facts(fleet, intent, "review.escalated")["to"] == to
    assert fleet.store.rows.reviews[intent]["assigned_to"] == (to or "ola")
    fleet.advance(600)
    assert fleet.events(intent).count("review.escalated") == 1


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_decision_and_an_escalation_at_one_moment_leave_one_story(make_fleet: MakeFleet, late: int) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    due = fleet.transaction(intent).review.due_at
    assert due is not None
    fleet.now = due + timedelta(microseconds=late)
    body = {"verdict": "rejected", "round": 1, "reason": "", "request_hash": seen(fleet, intent)}
    command = fleet.command("decide_review", intent, body)
    fleet.advance(1)
    fleet.advance(100 * HOUR)
    assert verdict(fleet, command) == "done"
    events = told(fleet, intent)
    assert events.count("review.rejected") == 1
    assert events.count("review.escalated") <= 1
    assert events[-2:] == ["review.rejected", "review.closed"]


# fmt: off
CANCELLERS = [
    ("the creator",          "dev", "developer", "done"),
    ("whoever may decide",   "ops", "operator",  "done"),
    ("another developer",    "ada", "developer", "permission_denied"),
    ("demoted since",        "ada", "operator",  "permission_denied"),
]
# fmt: on


@pytest.mark.parametrize(("who", "role", "code"), [row[1:] for row in CANCELLERS], ids=[row[0] for row in CANCELLERS])
def test_what_is_in_review_is_cancelled_by_its_creator_or_who_may_decide(
    make_fleet: MakeFleet, who: str, role: str, code: str
) -> None:
    fleet = staffed(make_fleet)
    intent = referred(fleet)
    assert asked(fleet, "cancel", intent, {}, who, role) == code
    assert (fleet.store.rows.reviews[intent]["status"] == "cancelled") is (code == "done")
    assert denials(fleet) == ([] if code == "done" else [(who, "intent.cancel", "permission_denied")])


def endings(fleet: Fleet, intent: str) -> Sequence[str]:
    return [e for e in fleet.events(intent) if e in ("review.rejected", "review.expired", "intent.cancelled")]


def test_reject_cancel_and_expiry_are_ends_of_their_own(make_fleet: MakeFleet) -> None:
    fleet = staffed(make_fleet)
    rejected, cancelled, expired = (referred(fleet) for _ in range(3))
    decided(fleet, rejected, "ops", "rejected")
    asked(fleet, "cancel", cancelled, {}, "dev", "developer")
    fleet.advance(73 * HOUR)
    assert [endings(fleet, one) for one in (rejected, cancelled, expired)] == [
        ["review.rejected"], ["intent.cancelled"], ["review.expired"],
    ]  # fmt: skip
    statuses = [fleet.store.rows.reviews[one]["status"] for one in (rejected, cancelled, expired)]
    assert statuses == ["rejected", "cancelled", "expired"]


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
