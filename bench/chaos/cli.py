"""`zentra chaos`: hit real processes under load, and check what is left."""

import logging
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zentra.bench.chaos.plan import KINDS, Fault, parse_kinds
from zentra.bench.chaos.report import as_text
from zentra.bench.chaos.run import Options, run_chaos

__all__ = ["chaos_app"]

chaos_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_FAULTS = "\n".join(f"  {kind.fault:<20} {kind.says}" for kind in KINDS.values())
_HELP = f"""
Hit the processes of a whole installation under load, one fault after another, and check what is left.

\b
An installation with two workers, two sandbox rails, two simulated banks and a webhook consumer is started for the
run and ends with it. Every corridor leads over all four rails, which keep records of their own. Clients ask for
intents over HTTP and NATS at a fixed rate; balances are read all the while, and must sum to zero in every reading.
Operators reverse, decide reviews, promote routes, rotate webhook secrets and the evidence key, recover webhooks and
take exports meanwhile. Afterwards every intent that was acknowledged has to be accounted for, all rails together must
have paid each once, contradictions must be cases, no delivery may be missing, exports must verify offline, and the
report says for each fault how long it took until an intent completed again.
Faults, moments and load are drawn from the seed; 300 seconds hold every kind, 60 seconds a drawn part of them.

\b
Faults:
{_FAULTS}

\b
Exit code 0: every invariant held, and recovery took at most 10 s (20 s after Postgres). Else 1.
Examples:
  zentra chaos --seed 1 --seconds 60
  zentra chaos --seed 1 --seconds 300 --json
  zentra chaos --seed 7 --seconds 30 --faults worker-killed,postgres-killed
"""


@chaos_app.command(help=_HELP)
def chaos(
    seed: Annotated[int, typer.Option(help="What faults, moments and load are drawn from.")] = 1,
    seconds: Annotated[float, typer.Option(min=5, max=3_600, help="How long load and faults last.")] = 60.0,
    faults: Annotated[str, typer.Option(help="Only these faults, with commas between them.")] = "",
    intents_per_second: Annotated[float, typer.Option(min=1, max=500, help="The rate of both doors together.")] = 40.0,
    history: Annotated[
        Path | None, typer.Option(help="Write every request and answer into this new file.", dir_okay=False)
    ] = None,
    logs: Annotated[
        Path | None, typer.Option(help="Keep the logs of gateway and workers in this directory.", file_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Hit real processes under load, and check what is left."""
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # it tells of every server that a fault takes away
    logging.getLogger("zentra.streams").setLevel(logging.CRITICAL)
    try:
        kinds = parse_kinds(faults) if faults else tuple(Fault)
        options = Options(seed=seed, seconds=seconds, faults=kinds, rate=intents_per_second, history=history, logs=logs)
        report = run_chaos(options, lambda line: typer.echo(line, err=True))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() if as_json else as_text(report))
    raise typer.Exit(0 if report.ok else 1)
