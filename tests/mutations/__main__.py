"""`python -m tests.mutations`: plant faults one by one, and show which check catches each.

    python -m tests.mutations
    python -m tests.mutations --only fence-sql double-post
    python -m tests.mutations --jobs 2 --json

Ends with 1 where a fault survives, where a test that should have failed has not, or where the simulator alone is blind
to what it should see."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from tests.mutations.mutation import Mutation
from tests.mutations.planting import INTENTS, SEEDS, Verdict, baseline, prove
from tests.mutations.table import MUTATIONS

WIDTH: Final = 70


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit code. Raises Broken where checks cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.splitlines()[0])
    names = [mutation.name for mutation in MUTATIONS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {', '.join(names)}")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds that the simulator gets for each fault")
    parser.add_argument("--intents", type=int, default=INTENTS, help="intents of each seed")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args(arguments)
    chosen = [mutation for mutation in MUTATIONS if given.only is None or mutation.name in given.only]
    seconds = baseline(chosen, seeds=given.seeds, intents=given.intents)
    sys.stderr.write(f"without a fault every check passes ({seconds:.0f} s)\n")
    verdicts = _prove_all(chosen, given.jobs, given.seeds, given.intents, lambda one: sys.stderr.write(_row(one)))
    told = msgspec.json.encode({"baseline_seconds": round(seconds), "faults": verdicts}).decode()
    sys.stdout.write(told + "\n" if given.json else _summary(verdicts))
    return 0 if all(verdict.proven for verdict in verdicts) else 1


def _prove_all(
    chosen: Sequence[Mutation], jobs: int, seeds: int, intents: int, done: Callable[[Verdict], object]
) -> list[Verdict]:
    def one(mutation: Mutation) -> Verdict:
        verdict = prove(mutation, seeds=seeds, intents=intents)
        done(verdict)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, chosen))


def _row(verdict: Verdict) -> str:
    """Return what became of one fault, in a few lines."""
    found = verdict.found
    if found is None:
        seen = f"- ({verdict.unseen})"
    elif found.letter:
        seen = f"{found.letter}, seed {found.seed}: {found.detail.strip().splitlines()[-1][: WIDTH * 2]}"
    else:
        seen = f"nothing in {found.seeds} seeds"
    first = verdict.failures[0] if verdict.failures else ("-", "")
    word = "caught  " if verdict.caught else "SURVIVED"
    lines = [
        f"{word} {verdict.letter}  {verdict.name:<26} {verdict.seconds:>5.0f} s",
        f"    test       {first[0].rpartition('/')[2]}",
        *([f"               {textwrap.shorten(first[1], WIDTH * 2)}"] if first[1] else []),
        f"    simulator  {seen}",
        *(f"    caught nothing: {test}" for test in verdict.idle),
    ]
    return "\n".join(lines) + "\n"


def _summary(verdicts: Sequence[Verdict]) -> str:
    """Return the table that a person reads."""
    lines = ["| fault | breaks | caught by | simulator | s |", "|---|---|---|---|---|"]
    for verdict in verdicts:
        test = f"`{verdict.failures[0][0].rpartition('::')[2].partition('[')[0]}`" if verdict.failures else "-"
        seen = f"{verdict.found.letter}, seed {verdict.found.seed}" if verdict.found and verdict.found.letter else "-"
        lines.append(
            f"| {verdict.name}: {verdict.breaks} | {verdict.letter} | {test} | {seen} | {verdict.seconds:.0f} |"
        )
    count = sum(verdict.caught for verdict in verdicts)
    lines.append(f"\n{count} of {len(verdicts)} faults were caught")
    lines += [f"{v.name} survived" for v in verdicts if not v.caught]
    lines += [f"{v.name}: {test} has caught nothing" for v in verdicts for test in v.idle]
    lines += [
        f"{v.name}: the simulator has seen nothing" for v in verdicts if v.caught and v.found and not v.found.letter
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
