"""Faults to plant on a tape: what is charged, given back, agreed to and earned."""

from __future__ import annotations

import json
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import REFS, plant, replace_posting
from tests.simulation.auditor_tape import FEES, Tape, changed_by, rehashed
from zentra.runtime.fees.schedule import FeeSchedule

__all__: list[str] = []


def entries(tape: Tape, who: str, event: str) -> list[dict[str, Any]]:
    """Return the entries of the first record of this event, to be changed."""
    row = next(t for t in tape.fleet.store.rows.transitions[tape.names[who]] if t.event == event)
    found: list[dict[str, Any]] = json.loads(row.record)["facts"]["entries"]
    return found


def without(tape: Tape, who: str, event: str, posting: str) -> None:
    """Leave an entry out of a record."""
    kept = [entry for entry in entries(tape, who, event) if entry["posting"] != posting]
    assert len(kept) < len(entries(tape, who, event))
    tape.rewrite(who, event, {"entries": kept})


def schedule(tape: Tape, name: str, **changes: Any) -> None:
    """Let a rule of the schedule be another one than that which was charged."""
    rules = tuple(structs.replace(rule, **changes) if rule.name == name else rule for rule in FEES.rules)
    tape.setting = structs.replace(tape.setting, fees={"acme": FeeSchedule(rules, FEES.version)})


# Postings -------------------------------------------------------------------------------------------------------------


@plant("A")
def a_fee_that_a_merchant_takes(tape: Tape) -> None:
    replace_posting(tape, "charged", "fee_reserve", credit=REFS["acme", "merchant"])


@plant("A")
def a_refund_that_a_merchant_pays(tape: Tape) -> None:
    replace_posting(tape, "charged", "fee_refund", debit=REFS["acme", "liquidity-ngn"])


@plant("A")
def a_fee_that_is_held_backwards(tape: Tape) -> None:
    replace_posting(tape, "charged", "fee_reserve", pending=-1_250)


@plant("E")
def a_second_hold_for_a_fee(tape: Tape) -> None:
    writes, at = tape.posting("charged", "fee_reserve")
    writes.postings.insert(at + 1, rehashed(writes.postings[at], ordinal=writes.postings[at].ordinal + 1))
    writes.balance_changes = changed_by(writes.postings)


@plant("E")
def a_release_of_more_than_the_fee_that_is_held(tape: Tape) -> None:
    replace_posting(tape, "spared", "fee_release", pending=-1_251)


# Records --------------------------------------------------------------------------------------------------------------


@plant("D")
def a_reserve_without_its_fee(tape: Tape) -> None:
    without(tape, "charged", "ledger.reserved", "fee_reserve")


@plant("D")
def a_submission_without_its_fee(tape: Tape) -> None:
    without(tape, "charged", "ledger.reserved", "fee")


@plant("E")
def a_success_without_its_fees(tape: Tape) -> None:
    without(tape, "charged", "ledger.posted", "fee")


@plant("E")
def a_release_that_keeps_the_fee(tape: Tape) -> None:
    without(tape, "spared", "ledger.released", "fee_release")


@plant("E")
def a_failure_that_refunds_nothing(tape: Tape) -> None:
    without(tape, "spared", "ledger.released", "fee_refund")


@plant("A")
def a_book_transfer_without_its_fees(tape: Tape) -> None:
    without(tape, "at once", "ledger.posted", "fee")


@plant("L")
def a_reversal_that_gives_no_fee_back(tape: Tape) -> None:
    without(tape, "at once", "ledger.reversal", "fee_refund")


@plant("L")
def a_reversal_in_part_that_gives_too_much_back(tape: Tape) -> None:
    changed = entries(tape, "charged", "ledger.reversal")
    changed[0]["posted"] = str(int(changed[0]["posted"]) + 1)
    tape.rewrite("charged", "ledger.reversal", {"entries": changed})


# Schedules ------------------------------------------------------------------------------------------------------------


@plant("R")
def a_fee_that_is_not_the_schedules(tape: Tape) -> None:
    schedule(tape, "transfer", rate_bps="101")


@plant("R")
def a_fee_for_nothing(tape: Tape) -> None:
    tape.setting = structs.replace(tape.setting, fees={})


@plant("R")
def a_fee_by_another_version(tape: Tape) -> None:
    tape.setting = structs.replace(tape.setting, fees={"acme": FeeSchedule(FEES.rules, 2)})


@plant("R")
def a_fee_that_was_not_agreed_to(tape: Tape) -> None:
    schedule(tape, "kenya", flat_minor=10)


@plant("R")
def a_refusal_of_a_fee_that_was_agreed_to(tape: Tape) -> None:
    tape.rewrite("poor", "ledger.refused", {"code": "fee_changed"})


@plant("R")
def a_fee_that_is_charged_again_with_the_success(tape: Tape) -> None:
    tape.rewrite("charged", "ledger.posted", {"fees": {"version": 1, "lines": []}})


@plant("B")
def a_fee_account_that_has_earned_too_much(tape: Tape) -> None:
    stripe = next(key for key in tape.rows.balances if key[0] == REFS["acme", "fee-ngn"].id)
    tape.rows.balances[stripe].credits_posted += 1
