"""Faults to plant on a tape: decisions that knew of other people than there were."""

from __future__ import annotations

import json
from typing import Any

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import Tape

__all__: list[str] = []


def known(tape: Tape, **changes: Any) -> None:
    """Change what the decision on the screened tenant's intent says that it knew."""
    intent = tape.names["known"]
    rows = tape.fleet.store.rows.transitions[intent]
    record = next(json.loads(row.record) for row in rows if row.event == "policy.accepted")
    tape.rewrite("known", "policy.accepted", {"diligence": {**record["facts"]["diligence"], **changes}})


@plant("R")
def a_party_in_another_state(tape: Tape) -> None:
    known(tape, source={"party": "p-1", "kyc": "expired", "screening": "clear"})


@plant("R")
def a_party_that_is_not_told(tape: Tape) -> None:
    known(tape, source="system")


@plant("R")
def a_party_where_there_is_none(tape: Tape) -> None:
    known(tape, destination={"party": "p-2", "kyc": "approved", "screening": "clear"})


@plant("R")
def a_list_that_was_not_in_force(tape: Tape) -> None:
    known(tape, lists=[])


@plant("R")
def a_decision_that_asked_nobody(tape: Tape) -> None:
    tape.rewrite("known", "policy.accepted", {"diligence": None})


@plant("R")
def a_decision_that_asked_unbidden(tape: Tape) -> None:
    tape.rewrite("happy", "policy.accepted", {"diligence": {"source": "unknown"}})


@plant("R")
def a_hit_that_is_no_part_of_the_digest(tape: Tape) -> None:
    known(tape, score=1)


@plant("R")
def a_party_of_a_leg_that_there_is_not(tape: Tape) -> None:
    known(tape, others=["unknown"])
