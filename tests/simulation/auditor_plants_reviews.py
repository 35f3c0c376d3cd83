"""Faults to plant on a tape: reviews that are opened, given away, talked about, escalated, decided as they must not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ports import TickWrites

__all__: list[str] = []


def said(tape: Tape, command: str, **changes: Any) -> None:
    """Let a command have been another one."""

    def given(auditor: Auditor) -> None:
        commands = auditor.messages.commands
        commands[tape.names[command]] = structs.replace(commands[tape.names[command]], **changes)

    at = tape.place(
        "committed", lambda w, p, writes, g: any(r[0] == tape.names[command] for r in writes.command_outcomes)
    )
    tape.put_before(at, "then", given)


def columns(tape: Tape, who: str, event: str, **changes: Any) -> TickWrites:
    """Change the columns beside a record that was rewritten."""
    writes = tape.at(who, event)
    intent = tape.names[who]
    at = next(i for i, t in enumerate(writes.transitions) if (t.intent, t.event) == (intent, event))
    writes.transitions[at] = structs.replace(writes.transitions[at], **changes)
    return writes


# Opening --------------------------------------------------------------------------------------------------------------


@plant("T")
def a_review_that_somebody_opens(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.assigned", actor="ops")


def terms(tape: Tape, change: Callable[[dict[str, Any]], None]) -> None:
    writes = tape.at("reviewed", "review.assigned")
    facts = next(json.loads(t.record)["facts"] for t in writes.transitions if t.event == "review.assigned")
    change(facts["terms"])
    tape.rewrite("reviewed", "review.assigned", facts)


@plant("K")
def a_review_that_may_wait_longer_than_the_rules_say(tape: Tape) -> None:
    terms(tape, lambda terms: terms.update(expires_at="2026-02-05T12:00:00.000000Z"))


@plant("K")
def a_review_that_takes_fewer_approvals_than_the_rules_say(tape: Tape) -> None:
    terms(tape, lambda terms: terms.update(approvals=0))


@plant("Q")
def a_review_that_is_given_to_its_creator(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.assigned", {"to": "dev"})


# What people add ------------------------------------------------------------------------------------------------------


@plant("Q")
def a_comment_that_somebody_else_has_made(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.commented", actor="ola")


@plant("Q")
def a_comment_by_whoever_only_looks(tape: Tape) -> None:
    said(tape, "comment_review reviewed ops", role="auditor")


@plant("S")
def a_comment_of_another_digest(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.commented", {"digest": "0" * 64})


@plant("Q")
def a_review_that_is_passed_on_to_its_creator(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.escalated", {"to": "dev"})


@plant("J")
def an_escalation_that_is_left_out(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.escalated", {"level": 2})


@plant("K")
def a_claim_of_what_is_somebodys(tape: Tape) -> None:
    said(tape, "assign_review reviewed ops", body=b'{"round":1,"to":"ops","unassigned":true}')


# Time -----------------------------------------------------------------------------------------------------------------


@plant("K")
def a_review_that_is_overdue_before_it_is_due(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.escalated", {"overdue": True}, actor="svc_policy")


@plant("Q")
def a_review_that_is_overdue_because_somebody_says_so(tape: Tape) -> None:
    tape.rewrite("expired", "review.escalated", actor="ops")


@plant("T")
def a_review_that_is_found_overdue_twice(tape: Tape) -> None:
    key = tape.names["escalate expired"]
    writes = tape.commit(lambda writes: any(row[0] == key for row in writes.command_outcomes))
    at = next(i for i, t in enumerate(writes.transitions) if t.event == "review.escalated")
    writes.transitions[at] = tape._sealed(writes.transitions[at], {"overdue": True}, {"actor": "svc_policy"})


@plant("K")
def a_decision_on_what_has_run_out(tape: Tape) -> None:
    late = datetime.fromisoformat("2027-01-01T00:00:00.000000Z")
    tape.rewrite("rejected", "review.rejected", at="2027-01-01T00:00:00.000000Z")
    columns(tape, "rejected", "review.rejected", at=late)
    tape.ground.now = late


@plant("T")
def a_review_that_is_left_open_past_its_end(tape: Tape) -> None:
    tape.now += timedelta(hours=100)


@plant("T")
def a_review_that_is_left_overdue_without_a_word(tape: Tape) -> None:
    tape.now += timedelta(hours=5)


@plant("T")
def a_stored_review_that_is_another_persons(tape: Tape) -> None:
    tape.rows.reviews[tape.names["waiting"]]["assigned_to"] = "boss"


# Decisions ------------------------------------------------------------------------------------------------------------


@plant("Q")
def a_rejection_in_another_name(tape: Tape) -> None:
    tape.rewrite("rejected", "review.rejected", {"decided_by": "boss"})


@plant("Q")
def a_rejection_of_another_round(tape: Tape) -> None:
    tape.rewrite("rejected", "review.rejected", {"round": 2})


@plant("Q")
def an_approval_of_what_was_not_seen(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.approved", {"request_hash": "0" * 64})


@plant("Q")
def two_approvals_of_one_person(tape: Tape) -> None:
    tape.rewrite("two", "review.approved", {"decided_by": "ops"}, actor="ops")
    said(tape, "decide_review two boss", principal="ops", role="operator")


@plant("Q")
def an_approval_that_names_other_approvers(tape: Tape) -> None:
    tape.rewrite("two", "review.approved", {"approved_by": ["boss"]})


@plant("Q")
def one_approval_that_is_not_enough_where_it_is(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.approved", {"waives": []}, event="review.endorsed", to="REVIEW", step=None)
    writes = tape.commit(lambda writes: any(b'"review.endorsed"' in t.record for t in writes.transitions))
    at = next(i for i, t in enumerate(writes.transitions) if b'"review.endorsed"' in t.record)
    writes.transitions[at] = structs.replace(writes.transitions[at], event="review.endorsed", state=State.REVIEW)


@plant("Q")
def a_cancellation_by_whoever_has_no_part_in_it(tape: Tape) -> None:
    said(tape, "cancel withdrawn dev", principal="eve", role="developer")


@plant("Q")
def a_referral_that_says_another_reason(tape: Tape) -> None:
    tape.rewrite("reviewed", "policy.review", {"asks": {"review_threshold": "because"}})
