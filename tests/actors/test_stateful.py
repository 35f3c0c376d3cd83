"""Any operations in any order upset no auditor; `python -m tests.actors.stateful` runs many more of them.

Faults that are planted in the engine are found: else the silence would mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.actors.stateful import EngineMachine
from zentra.actors import charging
from zentra.bench.simulation.auditor import Violation
from zentra.runtime.ledger.book import Book

FEW = settings(
    max_examples=12, stateful_step_count=30, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
MANY = settings(
    max_examples=400, stateful_step_count=40, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate], report_multiple_bugs=False,
)  # fmt: skip


def test_no_operations_in_any_order_upset_an_auditor() -> None:
    run_state_machine_as_test(EngineMachine, settings=FEW)


def without_fees_in_funds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Funds are judged on the amount alone."""
    short: Callable[..., Any] = Book._short
    monkeypatch.setattr(Book, "_short", lambda self, debit, credit, minor, more=0: short(self, debit, credit, minor))


def without_fees_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was held for a fee stays held."""
    monkeypatch.setattr(charging, "at_post", lambda *given: ())


FAULTS = [(without_fees_in_funds, "C"), (without_fees_in_the_end, "E")]


@pytest.mark.parametrize(("fault", "letter"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None], letter: str
) -> None:
    fault(monkeypatch)
    with pytest.raises(Violation) as met:
        run_state_machine_as_test(EngineMachine, settings=MANY)
    assert met.value.letter == letter
