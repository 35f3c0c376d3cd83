"""Faults to plant on a tape: holds that are captured, end, or are told of otherwise than they should."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_plants_desk import answered
from tests.simulation.auditor_tape import Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.bench.twins.fleet import START
from zentra.runtime.policy import PolicyRules
from zentra.runtime.policy.rules import Rule

__all__: list[str] = []


def before(tape: Tape, who: str, event: str) -> int:
    """Return where the commit stands that holds the first record of this event of an intent."""
    intent = tape.names[who]
    return tape.place(
        "committed", lambda w, p, writes, g: any((t.intent, t.event) == (intent, event) for t in writes.transitions)
    )


@plant("D")
def a_hold_that_no_list_shows(tape: Tape) -> None:
    tape.at("held", "ledger.reserved").holds.clear()


@plant("D")
def a_row_of_a_hold_that_says_more_than_is_left(tape: Tape) -> None:
    writes = tape.at("held", "hold.captured")
    row = writes.holds[tape.names["held"]]
    writes.holds[row.intent] = structs.replace(row, remaining=row.remaining + 1)


@plant("D")
def a_stored_hold_that_is_lost(tape: Tape) -> None:
    del tape.rows.holds[tape.names["voided"]]


@plant("D")
def a_stored_hold_that_stands_again(tape: Tape) -> None:
    row = tape.rows.holds[tape.names["voided"]]
    tape.rows.holds[row.intent] = structs.replace(row, status="open", ended_at=None)


@plant("J")
def a_hold_that_goes_to_a_rail(tape: Tape) -> None:
    tape.rewrite("held", "ledger.reserved", step="routing")


@plant("E")
def a_capture_that_books_something_else(tape: Tape) -> None:
    tape.rewrite("held", "hold.captured", {"entries": []})


@plant("E")
def a_capture_that_nobody_asked_for(tape: Tape) -> None:
    tape.rewrite("held", "hold.captured", cause=tape.names["void_hold voided"])


@plant("E")
def a_capture_of_more_than_was_asked_for(tape: Tape) -> None:
    def asked(auditor: Auditor) -> None:
        key = tape.names["capture_hold held"]
        given = auditor.messages.commands[key]
        auditor.messages.commands[key] = structs.replace(given, body=b'{"amount":"9999","destination":"merchant"}')

    tape.put_before(before(tape, "held", "hold.captured"), "then", asked)


@plant("E")
def a_void_that_is_answered_as_if_it_had_come_late(tape: Tape) -> None:
    answered(tape, "late", code="hold_expired")


@plant("E")
def a_hold_that_is_not_found_although_it_stands(tape: Tape) -> None:
    answered(tape, "late", code="hold_not_found")


@plant("E")
def a_capture_that_is_not_too_much(tape: Tape) -> None:
    answered(tape, "capture_hold lapsed", code="exceeds_hold")


@plant("G")
def a_capture_that_is_answered_and_not_made(tape: Tape) -> None:
    answered(tape, "capture_hold voided", accepted=True, code="done")


@plant("K")
def a_hold_that_expires_before_its_time(tape: Tape) -> None:
    def lasting(auditor: Auditor) -> None:
        auditor.holds._holds[tape.names["lapsed"]].expires += timedelta(days=1)

    tape.put_before(before(tape, "lapsed", "hold.expired"), "then", lasting)


@plant("K")
def a_capture_after_the_time_of_its_hold(tape: Tape) -> None:
    def over(auditor: Auditor) -> None:
        auditor.holds._holds[tape.names["held"]].expires = START

    tape.put_before(before(tape, "held", "hold.captured"), "then", over)


@plant("K")
def a_refusal_for_what_an_expired_hold_keeps(tape: Tape) -> None:
    def kept(auditor: Auditor) -> None:
        history = SimpleNamespace(tenant="acme", names=SimpleNamespace(source="poor"), held=125_000)
        auditor.holds._holds["x"] = SimpleNamespace(history=history, end="", expires=START)  # type: ignore[assignment]

    tape.put_before(before(tape, "poor", "ledger.refused"), "then", kept)


@plant("L")
def a_reversal_that_takes_from_the_oldest_capture_first(tape: Tape) -> None:
    def turned(auditor: Auditor) -> None:
        auditor.histories[tape.names["held"]].captures.reverse()

    tape.put_before(before(tape, "held", "ledger.reversal"), "then", turned)


@plant("R")
def a_hold_that_goes_on_counting_what_it_gave_back(tape: Tape) -> None:
    intent = tape.names["held"]
    writes = tape.commit(
        lambda writes: any((t.intent, str(t.state)) == (intent, "SUCCESSFUL") for t in writes.transitions)
    )
    writes.velocity_changes.clear()


PERMITTED = {"outcome": "accepted", "version": 9, "input_digest": "0" * 64, "results": {}}
NOT_THERE = PolicyRules(
    version=9, rules=(Rule("no", {"field": "destination.id", "op": "==", "value": "merchant"}, "deny", "never"),)
)


def _under(tape: Tape, rules: PolicyRules) -> None:
    """Let the auditor know of other rules from the first capture on."""

    def known(auditor: Auditor) -> None:
        for version, setting in auditor._configurations.items():
            auditor._configurations[version] = structs.replace(setting, policies={**setting.policies, "acme": rules})

    tape.put_before(before(tape, "held", "hold.captured"), "then", known)


@plant("R")
def a_capture_to_where_nobody_has_asked_the_policy(tape: Tape) -> None:
    _under(tape, NOT_THERE)


@plant("R")
def a_capture_that_a_rule_denies(tape: Tape) -> None:
    tape.rewrite("held", "hold.captured", {"permitted": PERMITTED})
    _under(tape, NOT_THERE)


@plant("R")
def a_capture_by_a_decision_that_denies_it(tape: Tape) -> None:
    tape.rewrite("held", "hold.captured", {"permitted": {**PERMITTED, "outcome": "denied"}})


@plant("R")
def a_capture_to_where_its_hold_said_that_was_decided_on_again(tape: Tape) -> None:
    def named(auditor: Auditor) -> None:
        history = auditor.histories[tape.names["held"]]
        history.names = structs.replace(history.names, destination="merchant")

    tape.rewrite("held", "hold.captured", {"permitted": PERMITTED})
    tape.put_before(before(tape, "held", "hold.captured"), "then", named)
