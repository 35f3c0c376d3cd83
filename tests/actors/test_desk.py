"""Reviews between their opening and their end: what people add to one, what time does to it, and its ways to end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.actors.desks import HOUR, MEMBERS, asked, decided, denials, referred, seen, staff, staffed, told
from tests.actors.world import MakeFleet, last_facts, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.reviews import NOTES_MAX, Member, ReviewRules

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
