"""`python -m tests.properties`: so many random operations against the engine and the ledger, each followed by auditors.

Exits 1 where one of them complains, after shrinking the run that led there; `--seed` makes runs repeatable."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.properties.machine import EngineMachine
from tests.runtime.test_ledger_properties import LedgerMachine

__all__ = ["run"]

STEPS = 50
RUNS = 20


class CountedLedger(LedgerMachine):
    """The machine of the bare ledger, counting its commands."""

    done: ClassVar[Counter[str]] = Counter()

    def run(self, intent: Any, command: Any) -> None:
        self.done["ledger"] += 1
        super().run(intent, command)


def run(machine: type[RuleBasedStateMachine], done: Counter[str], operations: int, first_seed: int) -> None:
    """Run a machine until it has `done` that many operations; raises what an auditor complains of."""
    chosen = settings(
        max_examples=RUNS, stateful_step_count=STEPS, deadline=None, database=None, print_blob=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    number = first_seed
    while done.total() < operations:
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
        number += 1


def main() -> int:
    """Run both machines and tell how much was done."""
    parser = argparse.ArgumentParser(prog="python -m tests.properties", description=__doc__)
    parser.add_argument("--operations", type=int, default=50_000, help="of each machine; 50,000 by default")
    parser.add_argument("--seed", type=int, default=1, help="of the first runs; 1 by default")
    given = parser.parse_args()
    logging.disable(logging.ERROR)  # operators' refusals and dying workers are what this is about
    for name, machine, done in (
        ("engine", EngineMachine, EngineMachine.done),
        ("ledger", CountedLedger, CountedLedger.done),
    ):
        begun = time.monotonic()
        run(machine, done, given.operations, given.seed)
        seconds = time.monotonic() - begun
        sys.stdout.write(f"{name}: {done.total():,} operations in {seconds:.0f} s, no complaint\n")
        sys.stdout.write("  " + ", ".join(f"{count:,} {what}" for what, count in done.most_common()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
