"""`zentra simulate`: run the engine through seeded faults in virtual time, and check every step."""

import logging
import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from zentra.bench.simulation.runner import run_seeds, summary
from zentra.bench.simulation.simulation import Outcome

__all__ = ["simulate_app"]

simulate_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@simulate_app.command()
def simulate(
    seed: Annotated[int, typer.Option(help="The first seed; it decides everything.")] = 1,
    intents: Annotated[int, typer.Option(min=1, max=100_000, help="New intents per seed; repeats come on top.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many seeds, from the first one on.")] = 1,
    steps_max: Annotated[int | None, typer.Option(min=1, help="Stop the faults after so many steps.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default one per processor.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Drive several workers through crashes, zombies, lost frames and lying rails, and audit every commit.

    One seed replays exactly, on any machine. Ends with 1 where an invariant was violated.

    \b
    Examples:
      zentra simulate --seed 7 --intents 200
      zentra simulate --seed 1 --seeds 1000 --intents 200 --json
    """
    logging.disable(logging.CRITICAL)  # what the engine logs of a fault that was meant is noise here
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("seeds", total=seeds)
        violations = 0

        def done(outcome: Outcome) -> None:
            nonlocal violations
            violations += outcome.failed is not None
            bar.update(task, advance=1, description=f"{violations} violated" if violations else "seeds")

        outcomes = run_seeds(range(seed, seed + seeds), intents, steps_max=steps_max, jobs=jobs, done=done)
    told = summary(outcomes, steps_max)
    typer.echo(msgspec.json.encode(told).decode() if as_json else _table(told))
    raise typer.Exit(1 if told["violations"] else 0)


def _table(told: dict[str, Any]) -> str:
    count = len(told["seeds"]) if isinstance(told["seeds"], list) else told["seeds"]
    lines = [
        f"{count} seeds, {told['intents']} intents, {told['steps']} steps, {told['commits']} commits,"
        f" {told['virtual_seconds']} s of virtual time",
        "states        " + ", ".join(f"{name} {number}" for name, number in told["states"].items()),
        "steps         " + ", ".join(f"{name} {number}" for name, number in told["actions"].items()),
        "faults",
        *(f"  {name:<26} {number:>8}" for name, number in told["faults"].items()),
    ]
    lines += [f"digest        seed {seed}: {digest}" for seed, digest in told["digests"].items()]
    for found in told["violations"]:
        lines += [
            "",
            f"violated      {found['letter']} with seed {found['seed']} in step {found['step']}: {found['detail']}",
            f"  run again:  {found['replay']}",
        ]
    lines += [] if told["violations"] else ["invariants    ok"]
    return "\n".join(lines)
