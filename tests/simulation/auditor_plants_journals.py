"""Faults to plant on a tape around journals, conversions, corrections and forced reversals."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import plant, replace_posting
from tests.simulation.auditor_tape import Tape
from zentra.bench.simulation.auditor import Auditor

__all__: list[str] = []


def entries_of(tape: Tape, who: str, event: str, **changes: Any) -> list[dict[str, Any]]:
    """Return the entries of the first record of this event, each changed."""
    row = next(row for row in tape.fleet.store.rows.transitions[tape.names[who]] if row.event == event)
    return [{**entry, **changes} for entry in json.loads(row.record)["facts"]["entries"]]


def before_posted(tape: Tape, who: str, change: Callable[[Any], None]) -> None:
    """Change what the auditor believes of an intent, just before it hears that the intent is in the books."""
    intent = tape.names[who]
    at = tape.place(
        "committed",
        lambda worker, plan, writes, ground: any(
            (t.intent, t.event) == (intent, "ledger.posted") for t in writes.transitions
        ),
    )

    def then(auditor: Auditor) -> None:
        change(auditor.histories[intent])

    tape.put_before(at, "then", then)


@plant("A")
def a_journal_with_a_leg_too_few(tape: Tape) -> None:
    tape.rewrite("journal", "ledger.posted", {"entries": entries_of(tape, "journal", "ledger.posted")[:1]})


@plant("B")
def a_journal_that_counts_from_another_day(tape: Tape) -> None:
    counts = "2026-01-02T00:00:00.000000Z"
    entries = entries_of(tape, "journal", "ledger.posted", effective_at=counts)
    tape.rewrite("journal", "ledger.posted", {"entries": entries})


@plant("B")
def a_journal_that_counts_from_tomorrow(tape: Tape) -> None:
    counts = "2026-02-01T00:00:00.000000Z"
    entries = entries_of(tape, "journal", "ledger.posted", effective_at=counts)
    tape.rewrite("journal", "ledger.posted", {"entries": entries})
    before_posted(tape, "journal", lambda history: history.command.update(effective_at=counts))


@plant("S")
def a_date_that_the_hash_does_not_cover(tape: Tape) -> None:
    writes, at = tape.posting("journal", "book")
    writes.postings[at] = structs.replace(writes.postings[at], effective_at=None)


@plant("C")
def a_journal_against_its_condition(tape: Tape) -> None:
    bound = {"account": "merchant", "of": "posted", "min": "1", "max": "2"}
    before_posted(tape, "journal", lambda history: history.command.update(conditions=[bound]))


@plant("R")
def a_price_that_nobody_offered(tape: Tape) -> None:
    tape.setting = structs.replace(tape.setting, rates={})


@plant("A")
def a_conversion_that_gives_a_cent_too_much(tape: Tape) -> None:
    writes, at = tape.posting("sold", "spread")
    due = writes.postings[at].posted
    replace_posting(tape, "sold", "spread", posted=due + 1)
    entries = entries_of(tape, "sold", "ledger.posted")
    spread = writes.postings[at].entry()
    entries[-1] |= {"posted": str(due + 1), "hash": tape.posting("sold", "spread")[0].postings[at].hash.hex()}
    assert spread.posting == "spread"
    tape.rewrite("sold", "ledger.posted", {"entries": entries})


@plant("M")
def a_correction_that_is_not_linked(tape: Tape) -> None:
    tape.at("right", "ledger.posted").corrections.clear()


@plant("Q")
def a_correction_that_nobody_looked_at(tape: Tape) -> None:
    before_posted(tape, "right", lambda history: history.waived.clear())


@plant("Q")
def a_forced_reversal_that_whoever_asked_has_approved(tape: Tape) -> None:
    tape.rewrite("spent", "ledger.reversal", {"approved_by": "ops"})


@plant("L")
def a_forced_reversal_that_does_not_say_so(tape: Tape) -> None:
    entries = entries_of(tape, "spent", "ledger.reversal", posting="reversal")
    tape.rewrite("spent", "ledger.reversal", {"entries": entries})
