"""Many seeds: run them in processes of their own and add up what they met.

A seed knows nothing of the others, so how many processes there are changes nothing but the time it takes."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import msgspec

from zentra.bench.simulation.simulation import Outcome, run_seed

__all__ = ["replay_command", "run_seeds", "summary"]


def run_seeds(
    seeds: Sequence[int],
    intents: int,
    *,
    steps_max: int | None = None,
    jobs: int | None = None,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Return the outcome of every seed, in order; `done` hears of each as it comes."""
    run = partial(run_seed, intents=intents, steps_max=steps_max)
    processes = min(jobs or os.cpu_count() or 1, len(seeds))
    outcomes = []
    for outcome in map(run, seeds) if processes == 1 else _in_processes(run, seeds, processes):
        done(outcome)
        outcomes.append(outcome)
    return outcomes


def _in_processes(run: Callable[[int], Outcome], seeds: Sequence[int], processes: int) -> Iterator[Outcome]:
    with ProcessPoolExecutor(processes, initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        yield from pool.map(run, seeds)


def replay_command(outcome: Outcome, steps_max: int | None = None) -> str:
    """Return the command that runs a seed again, exactly."""
    steps = "" if steps_max is None else f" --steps-max {steps_max}"
    return f"zentra simulate --seed {outcome.seed} --intents {outcome.asked}{steps}"


def summary(outcomes: Sequence[Outcome], steps_max: int | None = None) -> dict[str, Any]:
    """Return what all seeds met together, and every violation with the command that shows it again."""
    faults: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
        actions.update(outcome.actions)
        states.update(outcome.states)
    return {
        "seeds": [outcome.seed for outcome in outcomes] if len(outcomes) <= 20 else len(outcomes),
        "intents": sum(outcome.intents for outcome in outcomes),
        "steps": sum(outcome.steps for outcome in outcomes),
        "commits": sum(outcome.committed for outcome in outcomes),
        "virtual_seconds": round(sum(outcome.seconds for outcome in outcomes)),
        "faults": dict(faults),
        "actions": dict(actions),
        "states": dict(sorted(states.items())),
        "digests": {str(outcome.seed): outcome.digest for outcome in outcomes} if len(outcomes) <= 20 else {},
        "violations": [
            {"seed": outcome.seed, **msgspec.to_builtins(outcome.failed), "replay": replay_command(outcome, steps_max)}
            for outcome in outcomes
            if outcome.failed is not None
        ],
    }
