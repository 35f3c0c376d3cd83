"""Operations that hypothesis draws break no invariant, and what breaks one is found."""

from __future__ import annotations

import pytest

from tests.simulation.operations import DONE, run
from zentra.bench.simulation.auditor import Violation
from zentra.runtime.ledger.book import Book


def test_no_sequence_of_operations_breaks_an_invariant() -> None:
    """A few hundred; fifty thousand by `python -m tests.simulation.operations --operations 50000`."""
    assert run(600, seed=1) >= 600
    assert {"move", "hold", "capture_hold", "void_hold", "reverse", "cancel", "again", "wait"} <= DONE.keys()


def test_a_ledger_that_lets_a_hold_go_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Book.release

    def twice(self: Book, source: object, settlement: object, held: int, *rest: object, **named: object) -> object:
        return release(self, source, settlement, held + 1, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Book, "release", twice)
    with pytest.raises((Violation, AssertionError, ExceptionGroup)):
        run(600, seed=2, shrink=False)
