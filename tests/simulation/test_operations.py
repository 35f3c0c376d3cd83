"""Operations that hypothesis draws break no invariant, and what breaks one is found."""

from __future__ import annotations

import pytest

from tests.simulation.operations import DONE, run
from zentra.actors import charging
from zentra.bench.simulation.auditor import Violation
from zentra.runtime.ledger.book import Book


def test_no_sequence_of_operations_breaks_an_invariant() -> None:
    """A few hundred; fifty thousand by `python -m tests.simulation.operations --operations 50000`."""
    assert run(600, seed=1) >= 600
    kinds = {"move", "move for a fee", "hold", "capture_hold", "void_hold", "reverse", "cancel", "again", "wait"}
    assert {*kinds, "change", "forget"} <= DONE.keys()


def test_a_ledger_that_lets_a_hold_go_in_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Book.release

    def most(self: Book, source: object, settlement: object, held: int, *rest: object, **named: object) -> object:
        return release(self, source, settlement, max(held - 1, 1), *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Book, "release", most)
    with pytest.raises((Violation, AssertionError, ExceptionGroup)):
        run(600, seed=2, shrink=False)


def test_a_fee_that_stays_held_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charging, "at_post", lambda *given: ())
    with pytest.raises((Violation, AssertionError, ExceptionGroup)):
        run(600, seed=3, shrink=False)
