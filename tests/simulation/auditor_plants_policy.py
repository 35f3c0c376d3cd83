"""Faults to plant in decisions under conditions and windows, each with the letter of the invariant that it breaks."""

from __future__ import annotations

import json
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import WINDOWED, Tape
from zentra.runtime.policy import PolicyRules, Usage, VelocityKey

__all__: list[str] = []

ROLLING = VelocityKey("globex", "rolling-60-6/account/customer", "1970-01-01", "NGN")


def _judged(tape: Tape, who: str, event: str) -> dict[str, Any]:
    """Return the facts of a decision as they are recorded."""
    rows = tape.fleet.store.rows.transitions[tape.names[who]]
    facts: dict[str, Any] = next(json.loads(row.record)["facts"] for row in rows if row.event == event)
    return facts


def _under(tape: Tape, rules: PolicyRules) -> None:
    tape.setting = structs.replace(tape.setting, policies={**tape.setting.policies, "globex": rules})


@plant("R")
def an_acceptance_against_a_condition(tape: Tape) -> None:
    _under(tape, structs.replace(WINDOWED, rules=(structs.replace(WINDOWED.rules[0], when=_AMOUNT),)))


_AMOUNT = {"field": "amount", "op": ">=", "value": 1}


@plant("R")
def a_decision_under_a_version_that_was_not_in_force(tape: Tape) -> None:
    _under(tape, structs.replace(WINDOWED, version=5))


@plant("R")
def a_denial_for_another_reason(tape: Tape) -> None:
    tape.rewrite("refused", "policy.denied", {"reasons": ["too_late"]})


@plant("R")
def a_window_that_held_less_than_a_decision_says(tape: Tape) -> None:
    seen = _judged(tape, "windowed", "policy.accepted")["seen"]
    changed = {**seen, "usage": {**seen["usage"], "minute": ["1", "1"]}}
    tape.rewrite("windowed", "policy.accepted", {"seen": changed})


@plant("R")
def a_daily_counter_that_held_less_than_a_decision_says(tape: Tape) -> None:
    seen = _judged(tape, "happy", "policy.accepted")["seen"]
    tape.rewrite("happy", "policy.accepted", {"seen": {**seen, "usage": {"limits.daily": ["7", "7"]}}})


@plant("R")
def a_decision_that_says_nothing_of_what_it_saw(tape: Tape) -> None:
    tape.rewrite("refused", "policy.denied", {"seen": {"at": "", "usage": {}, "fields": {}}})


@plant("R")
def an_acceptance_that_counts_in_no_window(tape: Tape) -> None:
    tape.rewrite("windowed", "policy.accepted", {"velocity": []})


@plant("R")
def an_acceptance_in_another_bucket(tape: Tape) -> None:
    uses = _judged(tape, "windowed", "policy.accepted")["velocity"]
    moved = [{**use, "bucket": use["bucket"] - 1} if "bucket" in use else use for use in uses]
    tape.rewrite("windowed", "policy.accepted", {"velocity": moved})


@plant("R")
def a_window_that_was_not_counted(tape: Tape) -> None:
    tape.at("windowed", "policy.accepted").velocity_windows.clear()


@plant("R")
def a_window_that_was_counted_twice(tape: Tape) -> None:
    windows = tape.at("windowed", "policy.accepted").velocity_windows
    ((key, used),) = windows.items()
    number, count, minor = used.buckets[-1]
    windows[key] = Usage(2, minor, ((number, count + 1, minor),))


@plant("R")
def a_window_that_was_read_as_fuller_than_it_is(tape: Tape) -> None:
    tape.at("windowed", "policy.accepted")
    tape.ground.usage = {
        key: Usage(1, 1, ((1, 1, 1),)) if key == ROLLING else used for key, used in tape.ground.usage.items()
    }


@plant("R")
def a_window_that_was_not_given_back(tape: Tape) -> None:
    tape.at("windowed", "ledger.released").velocity_windows.clear()


@plant("R")
def a_stored_window_that_has_lost_its_time(tape: Tape) -> None:
    tape.rows.velocity[ROLLING].buckets = ()


@plant("R")
def a_stored_window_that_nobody_counted_in(tape: Tape) -> None:
    used = tape.rows.velocity[ROLLING]
    used.buckets = (*used.buckets, (used.buckets[-1][0] + 1, 1, 1))
