"""A small slice of the random operations in every run of the tests, and faults that this slice has to find.

The whole is `python -m tests.properties`, which `make properties` runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec import structs

from tests.properties.machine import EngineMachine
from zentra.actors import commands
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.evidence.chain import chain
from zentra.runtime.ledger.book import Book

SLICE = settings(
    max_examples=12, stateful_step_count=25, deadline=None, database=None, phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
)  # fmt: skip


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """A planted fault fills the log with what the engine thinks of it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def slice_of(number: int) -> None:
    """Run some operations; the same ones every time."""
    run_state_machine_as_test(seed(number)(EngineMachine), settings=SLICE)


def slices(numbers: Iterable[int]) -> None:
    for number in numbers:
        slice_of(number)


@pytest.mark.parametrize("number", [1, 2])
def test_any_operations_in_any_order_leave_books_that_nobody_can_fault(number: int) -> None:
    before = EngineMachine.done.total()
    slice_of(number)
    assert EngineMachine.done.total() - before > 100


def _release_less(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Book.release

    def release(self: Book, source: Any, settlement: Any, held: int, *args: Any, **kwargs: Any) -> Any:
        return real(self, source, settlement, max(1, held - 1), *args, **kwargs)

    monkeypatch.setattr(Book, "release", release)


def _no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "_short", lambda self, debit, credit, minor: None)


def _reverse_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Book.reverse

    def reverse(self: Book, path: Any, minor: int, posted: int, given_back: int, *args: Any, **kwargs: Any) -> Any:
        return real(self, path, minor, posted, 0, *args, **kwargs)

    monkeypatch.setattr(Book, "reverse", reverse)


def _lose_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StoreTwin.balance

    def balance(self: StoreTwin, account: int) -> Any:
        found = real(self, account)
        return structs.replace(found, credits_posted=found.credits_posted - (found.credits_posted == 100_000))

    monkeypatch.setattr(StoreTwin, "balance", balance)


def _break_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    target = "zentra.runtime.intents.transaction.chain"
    monkeypatch.setattr(target, lambda previous, record: chain(bytes(32), record))


def _answer_what_was_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commands.ON_TRANSACTION, "reverse", lambda tick, at, event, tx: "done")


# fmt: off
PLANTS: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("a release that leaves a unit held",       _release_less),
    ("accounts without a floor",                _no_floor),
    ("a reversal that forgets the one before",  _reverse_twice),
    ("a unit that is lost",                     _lose_a_unit),
    ("a chain without links",                   _break_the_chain),
    ("an answer to what was not done",          _answer_what_was_not_done),
]
# fmt: on


@pytest.mark.parametrize(("name", "plant"), PLANTS)
def test_the_slice_finds_a_planted_fault(
    monkeypatch: pytest.MonkeyPatch, name: str, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    with pytest.raises(Exception, match=r"."):  # an auditor's complaint, or the engine's own
        slices(range(1, 9))
