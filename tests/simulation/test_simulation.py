"""The simulator: a slice of seeds, what one seed decides, and that no fault and no step of it is dead code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from zentra.bench.simulation.faults import FAULTS, Fault
from zentra.bench.simulation.mischief import STRIKES
from zentra.bench.simulation.runner import replay_command, summary
from zentra.bench.simulation.simulation import Outcome, run_seed
from zentra.runtime.ledger import book
from zentra.runtime.ledger.money import MINOR_MAX

SLICE = range(1, 21)
INTENTS = 60
# One seed under two orders of every set and dictionary of strings.
SCRIPT = "from zentra.bench.simulation.simulation import run_seed; print(run_seed({seed}, 60).digest)"


@cache
def ran(seed: int) -> Outcome:
    """Return the outcome of a seed of the slice; each is run once."""
    return run_seed(seed, INTENTS)


@pytest.mark.parametrize("seed", SLICE)
def test_no_seed_violates_an_invariant(seed: int) -> None:
    outcome = ran(seed)
    assert outcome.failed is None, f"{outcome.failed}\nrun again: {replay_command(outcome)}"
    assert outcome.intents == INTENTS


def test_every_kind_of_step_and_every_state_happens_in_the_slice() -> None:
    told = summary([ran(seed) for seed in SLICE])
    assert [name for name, count in told["actions"].items() if not count] == []
    assert {"AWAITING_PROVIDER/submitted", "FAILED", "REVERSED", "REVIEW", "SUCCESSFUL"} <= told["states"].keys()
    assert sum(told["states"].values()) == INTENTS * len(SLICE)


def test_every_fault_strikes_somewhere_in_the_slice() -> None:
    struck: Counter[str] = Counter()
    for seed in SLICE:
        struck.update(ran(seed).faults)
    assert [fault for fault in Fault if not struck[fault]] == []


def test_every_fault_of_a_step_has_a_strike() -> None:
    assert {fault for fault, kind in FAULTS.items() if kind.step} == STRIKES.keys()
    assert FAULTS.keys() == set(Fault)


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_alone_strikes_and_violates_nothing(fault: Fault) -> None:
    struck: set[str] = set()
    for seed in range(3, 9):  # a rare one may miss a short run
        outcome = run_seed(seed, 40, only=frozenset({fault}))
        assert outcome.failed is None, outcome.failed
        struck |= {name for name, count in outcome.faults.items() if count}
        if fault in struck:
            break
    assert struck | {Fault.STREAM_PURGED} == {fault, Fault.STREAM_PURGED}  # every worker purges now and then


def test_one_seed_gives_one_run_and_another_seed_another() -> None:
    again = run_seed(7, INTENTS)
    assert again == ran(7)
    assert again.digest != ran(8).digest


def test_hashes_of_strings_decide_nothing() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(seed=11)],
            env={**os.environ, "PYTHONHASHSEED": str(order)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for order in (1, 2)
    }
    assert digests == {ran(11).digest}


def test_a_violation_is_found_again_in_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everybody has enough, somebody soon goes below their floor: in more than half of the seeds."""
    monkeypatch.setattr(book, "available", lambda ref, balance: MINOR_MAX)
    found = next(outcome for seed in range(1, 30) if (outcome := run_seed(seed, INTENTS)).failed is not None)
    again = run_seed(found.seed, INTENTS)
    assert again.failed == found.failed
    assert replay_command(found) == f"zentra simulate --seed {found.seed} --intents {INTENTS}"
    assert summary([found])["violations"][0]["replay"] == replay_command(found)
