"""The check of a whole history: what clients asked and heard against what the store holds in the end.

Pure, and no slower than sorting: every commit and every call is looked at a fixed number of times. What it rests on:

- the order of the commits, which is the database's own where the ending says `exact`;
- the clock of the recording, which has to be one clock for all clients;
- that no other client wrote under the recorded keys. Intents of others count as commits that anybody may see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zentra.bench.histories.answers import Answers
from zentra.bench.histories.model import NOTHING, Ending
from zentra.bench.histories.prefixes import Lines
from zentra.bench.histories.reads import check_reads
from zentra.bench.histories.recording import Call
from zentra.bench.histories.violations import RULES, Violation, violation

__all__ = ["RULES", "Violation", "check"]

_ENDED = frozenset({"SUCCESSFUL", "FAILED", "RECONCILED", "REVERSED", "REVIEW"})


def check(history: Sequence[Call], final: Ending) -> list[Violation]:
    """Return everything in the history of one tenant that no correct runtime could have shown; nothing is good.

    `history` holds the calls of one tenant, `final` what its store held after the last of them had returned."""
    answers = Answers(history, final)
    lines = Lines(final, answers.born)
    found = list(answers.check())
    found += [violation("model", fault) for fault in lines.faults]
    found += _endings(answers, lines)
    found += check_reads(history, lines, answers)
    return found


def _endings(answers: Answers, lines: Lines) -> Iterator[Violation]:
    final = lines.ending
    for name in sorted(final.accounts.keys() | lines.counters.keys()):
        sums, held = lines.counters.get(name, NOTHING), final.balances.get(name, NOTHING)
        if sums != held:
            yield violation("balances", f"account {name} stands at {held}, its postings sum up to {sums}")
    for intent in final.intents:
        if intent.id not in answers.born:
            continue
        versions = lines.intents[intent.id]
        state = versions[-1].state if versions else "nothing"
        if state not in _ENDED and intent.id not in final.cases:
            yield violation("settled", f"intent {intent.intent_id} is left in {state}")
