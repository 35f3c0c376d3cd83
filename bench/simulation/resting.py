"""What is left of a simulation at its end: what nobody is told of, and what only a person can bring to an end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from zentra.actors.asking import BESIDE
from zentra.bench.twins.store_rows import Rows
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.webhooks.delivery import OPEN

__all__ = ["found_by_looking", "waits_for_people"]


def found_by_looking(rows: Rows) -> bool:
    """Return whether there is something that nobody is told of: a lost attempt, a frame that a stream lost."""
    frames = any(row.message.subject.startswith("zc.") for row in rows.outbox.values())
    return frames or any(row.state in OPEN and row.next_at is None for row in rows.delivery_states.values())


def waits_for_people(rows: Rows, calmed: Mapping[str, datetime]) -> set[str]:
    """Return the intents that only a person can bring to an end; a rail is asked once more before that is so.

    `calmed` says when timers were due when the faults stopped."""
    people = set()
    cases = {file.row.intent for file in rows.cases.values() if file.status == "open"}
    for (kind, key, name), timer in rows.timers.items():
        if kind != "intent":
            continue
        state = rows.transitions[key][-1].state
        asked = name != "state" or calmed.get(key) != timer.due_at
        if (
            state is State.REVIEW
            or (name == BESIDE and key in cases)
            or (key in cases and (state is State.CONFIRMED or (asked and state is State.SUBMITTED)))
        ):
            people.add(key)
    return people
