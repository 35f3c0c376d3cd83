"""`zentra simulate`: its report, its exit codes, and the command that shows a violation again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from zentra.actors import monitoring
from zentra.actors.tick import Input, Tick
from zentra.bench.simulation.cli import simulate_app
from zentra.bench.simulation.faults import Fault
from zentra.runtime.intents.transaction import Transaction


@pytest.fixture(autouse=True)
def logs_come_back() -> Iterator[None]:
    """The command silences what the engine logs, for its own process."""
    yield
    logging.disable(logging.NOTSET)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(simulate_app, arguments)
    return result.exit_code, result.stdout


def test_the_report_counts_every_fault_and_says_that_all_is_well() -> None:
    code, text = run("--seed", "3", "--intents", "20", "--jobs", "1")
    assert code == 0
    assert all(fault in text for fault in Fault)
    assert "invariants    ok" in text


def test_processes_change_nothing() -> None:
    alone = run("--seed", "5", "--seeds", "3", "--intents", "20", "--jobs", "1", "--json")
    together = run("--seed", "5", "--seeds", "3", "--intents", "20", "--jobs", "2", "--json")
    assert alone == together
    assert json.loads(alone[1])["seeds"] == [5, 6, 7]


def untold(tick: Tick, tx: Transaction, at: Input) -> None:
    """A crossing that nobody hears of."""
    tick.book.crossed = []


def test_a_violation_ends_with_one_and_the_command_that_shows_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "tell", untold)
    code, text = run("--seed", "1", "--seeds", "2", "--intents", "60", "--jobs", "1", "--json")
    found = json.loads(text)["violations"]
    assert code == 1
    assert found[0].keys() == {"seed", "letter", "detail", "step", "replay"}
    code, text = run(*found[0]["replay"].split()[2:], "--jobs", "1")
    assert code == 1
    assert f"violated      {found[0]['letter']} with seed {found[0]['seed']} in step {found[0]['step']}" in text
