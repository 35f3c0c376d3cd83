"""The auditor is quiet over what is right, and notices every fault that is planted, by its letter.

A check that no plant sets off is none: the last test walks the source of the auditor and finds it."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation import (
    auditor_plants_accounts,
    auditor_plants_callbacks,
    auditor_plants_desk,
    auditor_plants_endpoints,
    auditor_plants_fees,
    auditor_plants_holds,
    auditor_plants_journals,
    auditor_plants_messages,
    auditor_plants_outside,
    auditor_plants_people,
    auditor_plants_policy,
    auditor_plants_recoveries,
    auditor_plants_reviews,
    auditor_plants_routes,
)
from tests.simulation.auditor_plants import PLANTS, Plant
from tests.simulation.auditor_tape import Tape, record_story
from zentra.bench.simulation import auditor
from zentra.bench.simulation.auditor import Violation

FOLDER = Path(auditor.__file__).parent

# they have entered their plants into the table
assert auditor_plants_outside, auditor_plants_desk
assert auditor_plants_journals
assert auditor_plants_messages, auditor_plants_holds
assert auditor_plants_reviews, auditor_plants_people
assert auditor_plants_policy, auditor_plants_fees
assert auditor_plants_accounts, auditor_plants_recoveries
assert auditor_plants_accounts, auditor_plants_callbacks
assert auditor_plants_routes, auditor_plants_endpoints


@pytest.fixture(scope="module")
def story() -> Tape:
    return record_story()


@pytest.fixture(scope="module")
def noticed(story: Tape) -> dict[Plant, Exception | None]:
    """Return what every plant met."""
    found: dict[Plant, Exception | None] = {}
    for _, fault in PLANTS:
        tape = story.copy()
        found[fault] = None
        try:
            fault(tape)
            tape.play()
        except Exception as error:  # a plant that fails is no excuse for another one
            found[fault] = error
    return found


def test_nothing_is_said_against_a_story_in_which_all_is_right(story: Tape) -> None:
    states = {history.state for history in story.copy().play().histories.values()}
    assert states == {"SUCCESSFUL", "FAILED", "REVERSED", "REVIEW"}


def test_nothing_is_said_against_a_frame_that_is_consumed(story: Tape) -> None:
    tape = story.copy()
    auditor_plants_messages.consume(tape)
    tape.play()


@pytest.mark.parametrize(("letter", "fault"), PLANTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_noticed(noticed: dict[Plant, Exception | None], letter: str, fault: Plant) -> None:
    met = noticed[fault]
    assert met is not None
    if not isinstance(met, Violation):
        raise met
    assert met.letter == letter, met.detail


def raised_at(violation: Violation) -> tuple[str, int]:
    """Return the file and the line in which a violation was raised."""
    frame = traceback.extract_tb(violation.__traceback__)[-1]
    assert frame.lineno is not None
    return Path(frame.filename).name, frame.lineno


def checks() -> Iterator[tuple[str, int, int]]:
    """Yield file, first and last line of every check of the auditor."""
    for path in sorted(FOLDER.glob("auditor*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and "Violation" in ast.dump(node.exc.func)
            ):
                yield path.name, node.lineno, node.end_lineno or node.lineno


def test_every_check_has_a_plant(noticed: dict[Plant, Exception | None]) -> None:
    raised = {raised_at(met) for met in noticed.values() if isinstance(met, Violation)}
    idle = [
        f"{name}:{first}"
        for name, first, last in checks()
        if not any(where == name and first <= line <= last for where, line in raised)
    ]
    assert idle == []
