"""The simulator alone, seed after seed, until one is violated: run in a copy of the tree that may hold a fault.

It prints one JSON object and ends with 0 whatever was found: an object is an answer, everything else is a failure."""

from __future__ import annotations

import argparse
import logging
import sys

import msgspec

from zentra.bench.simulation.runner import replay_command
from zentra.bench.simulation.simulation import run_seed

__all__ = ["Found", "main"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The first seed that was violated, and how; without a letter none was."""

    seeds: int
    seed: int = 0
    letter: str = ""
    detail: str = ""
    replay: str = ""


def search(seed: int, seeds: int, intents: int) -> Found:
    """Return what the first violated seed has found."""
    for number, this in enumerate(range(seed, seed + seeds), 1):
        outcome = run_seed(this, intents)
        if outcome.failed is not None:
            return Found(
                seeds=number, seed=this, letter=outcome.failed.letter, detail=outcome.failed.detail,
                replay=replay_command(outcome),
            )  # fmt: skip
    return Found(seeds=seeds)


def main(arguments: list[str]) -> None:
    """Search as the command line says and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.seeds")
    for name in ("seed", "seeds", "intents"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # what the engine logs of a fault that was meant is noise here
    sys.stdout.write(msgspec.json.encode(search(given.seed, given.seeds, given.intents)).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
