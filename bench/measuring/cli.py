"""`zentra bench`: load on an embedded installation, the figures, and proof that nothing was lost on the way."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from zentra.bench.measuring import tables
from zentra.bench.measuring.compare import FIGURE, Side, SideFailed, compare
from zentra.bench.measuring.copies import CannotCopy
from zentra.bench.measuring.generating import Ceilings, GeneratorFault
from zentra.bench.measuring.grown import NotQuotable, compare_grown
from zentra.bench.measuring.limit import LimitFailed, LimitPlan, measure_limit
from zentra.bench.measuring.measure import Measured, as_json, measure
from zentra.bench.measuring.pace import Pace
from zentra.bench.measuring.plans import NATS_NODES, RAILS, TRANSPORTS, Plan, UnknownProfile, plan_of
from zentra.bench.measuring.report import write_html
from zentra.bench.measuring.sidecar import SidecarFailed
from zentra.bench.measuring.suite import parts_of, run_suite
from zentra.bench.measuring.verdict import DEFAULTS_PATH, ThresholdsFaulty, judged, read_thresholds

__all__ = ["bench_app"]

RUN = "run"
LINE_SECONDS = 30.0
MINUTES_FROM_SECONDS = 90.0
FAULTS = (
    CannotCopy,
    GeneratorFault,
    LimitFailed,
    NotQuotable,
    SideFailed,
    SidecarFailed,
    ThresholdsFaulty,
    TimeoutError,
)


class _Bench(TyperGroup):
    """`zentra bench` and `zentra bench PROFILE` are `zentra bench run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args[:1] and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named else [RUN, *args])


bench_app = typer.Typer(cls=_Bench, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@bench_app.callback()
def _bench() -> None:
    """Measure the runtime on this machine: `zentra bench [PROFILE] [OPTIONS]`, or one of the commands below."""


@bench_app.command(RUN)
def run(
    profile: Annotated[str, typer.Argument(help="What is asked; see: zentra bench profiles.")] = "",
    transport: Annotated[str, typer.Option(help="nats, http (one in a request), bulk, or both: http and nats.")] = "",
    intents: Annotated[int, typer.Option(min=1, max=2_000_000, help="How many to send at full speed.")] = 30_000,
    rate: Annotated[float, typer.Option(min=0, help="Intents per second on a fixed schedule; 0: full speed.")] = 0.0,
    seconds: Annotated[float, typer.Option(min=0, help="How long, for a profile; 0: its own length.")] = 0.0,
    poisson: Annotated[bool, typer.Option("--poisson", help="As of independent clients, not evenly spaced.")] = False,
    batch: Annotated[int, typer.Option(min=0, max=1_000, help="Intents per request; 0: what suits.")] = 0,
    in_flight: Annotated[int, typer.Option(min=1, help="Unanswered intents at full speed.")] = 4_096,
    accounts: Annotated[int, typer.Option(min=2, help="Half are customers, half are merchants.")] = 2_000,
    hot: Annotated[bool, typer.Option("--hot", help="Every intent credits one merchant.")] = False,
    repeats: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share of sends that repeat one of before, key and content.")
    ] = None,
    rail: Annotated[str, typer.Option(help="inline: the outcome is an event; sandbox: over HTTP.")] = "inline",
    endpoint: Annotated[bool, typer.Option("--endpoint", help="Send webhooks to an endpoint of ours.")] = False,
    endpoint_event: Annotated[str, typer.Option(help="The one event that the endpoint wants; else all.")] = "",
    workers: Annotated[int, typer.Option(min=1, max=8)] = 1,
    gateways: Annotated[int, typer.Option(min=1, max=8)] = 1,
    generators: Annotated[int, typer.Option(min=1, max=8, help="Processes that send.")] = 1,
    history: Annotated[int, typer.Option(min=0, help="Finished intents in the database before the load.")] = 0,
    nats_nodes: Annotated[int, typer.Option(help="Servers of NATS: 1, or a cluster of 3 with three replicas.")] = 1,
    of_knee: Annotated[float, typer.Option(min=0, max=1, help="Find the knee; the rate is this share of it.")] = 0.0,
    commits_max: Annotated[int, typer.Option(min=0, max=8, help="Commits in flight per worker; 0: default.")] = 0,
    thresholds: Annotated[
        Path, typer.Option(help="What the figures have to keep, in TOML.", show_default="its own")
    ] = DEFAULTS_PATH,
    html: Annotated[Path | None, typer.Option(help="Write a report to look at here.")] = None,
    as_json_: Annotated[bool, typer.Option("--json", help="Print figures as one JSON document.")] = False,
) -> None:
    """Send a load, wait until each intent reached its last stage, check the books, and hold the figures to thresholds.

    \b
    Exit codes: 0 valid, correct and within its thresholds; 1 not.
    Examples:
      zentra bench --transport nats --intents 30000
      zentra bench steady --rate 500 --html report.html
      zentra bench --transport http --intents 5000 --rate 50 --json
      zentra bench --transport both --repeats 0.05 --intents 200000
    """
    name = profile or ("steady" if rate else "full")
    changes: dict[str, Any] = {
        "accounts": accounts, "workers": workers, "gateways": gateways, "generators": generators, "poisson": poisson,
        "rail": rail, "hot": hot, "commits_max": commits_max, "repeats": repeats,
        "comes_back": bool(repeats) or transport == "both", "history": history, "nats_nodes": nats_nodes,
    }  # fmt: skip
    changes |= {field: value for field, value in (("transport", transport), ("batch", batch)) if value}
    changes |= {"endpoint": True, "endpoint_event": endpoint_event} if endpoint or endpoint_event else {}
    changes |= {"intents": intents, "in_flight": in_flight} if name == "full" else {}
    if not profile and rate and not seconds:
        seconds = intents / rate
    plan = _plan(name, rate, seconds, of_knee, changes)
    limits = _or_exit(lambda: read_thresholds(thresholds, name))
    with _progress() as progress:
        measured: Measured = _or_exit(lambda: measure(plan, progress))
    against = judged(measured, limits)
    if html is not None:
        write_html(measured, limits, against, html)
    typer.echo(as_json(measured) if as_json_ else tables.run_table(measured, against))
    raise typer.Exit(1 if against else 0)


@bench_app.command("profiles")
def profiles() -> None:
    """List the profiles: what each asks, its rate and how long it runs."""
    typer.echo(tables.profiles_table())


@bench_app.command("limit")
def limit(
    intents: Annotated[int, typer.Option(min=1, max=2_000_000)] = 30_000,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Intents per transaction.")] = 500,
    accounts: Annotated[int, typer.Option(min=4)] = 2_000,
    hot: Annotated[bool, typer.Option("--hot", help="Every intent credits one account.")] = False,
    as_json_: Annotated[bool, typer.Option("--json", help="Print the figure as JSON.")] = False,
) -> None:
    """Measure the limit: the least durable work that an intent needs on this machine, in one loop."""
    plan = LimitPlan(intents=intents, batch=batch, accounts=accounts, hot=hot)
    result = _or_exit(lambda: asyncio.run(measure_limit(plan)))
    typer.echo(
        json.dumps(msgspec.to_builtins(result))
        if as_json_
        else f"the limit is {result.limit_per_second:,.0f} intents/s ({result.intents:,} in {result.seconds} s)"
    )


# A side is words that begin with dashes; they are not for this command.
@bench_app.command("compare", context_settings={"ignore_unknown_options": True})
def compare_(
    a: Annotated[str, typer.Argument(metavar="A", help="`limit`, or options of `zentra bench` in quotes.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What A is divided by.")],
    rounds: Annotated[int, typer.Option(min=1, max=50)] = 3,
    figure: Annotated[str, typer.Option(help="Which figure of a run is compared.")] = FIGURE,
    python_a: Annotated[
        str, typer.Option(help="The Python of A's checkout.", show_default="this one")
    ] = sys.executable,
    python_b: Annotated[
        str, typer.Option(help="The Python of B's checkout.", show_default="this one")
    ] = sys.executable,
    as_json_: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Run A and B in turns and print the ratio of each round, its median and spread.

    \b
    Examples:
      zentra bench compare "--intents 30000" limit
      zentra bench compare "--intents 20000 --workers 2" "--intents 20000" --rounds 5
      zentra bench compare "steady --rate 500" "steady --rate 500" --python-b ../other/.venv/bin/python
    """
    sides = (Side("A", a, python_a), Side("B", b, python_b))
    with _progress() as progress:
        found = _or_exit(lambda: asyncio.run(compare(*sides, rounds, figure, progress)))
    typer.echo(json.dumps(msgspec.to_builtins(found), indent=2) if as_json_ else tables.comparison_table(found, a, b))


@bench_app.command("history")
def history(
    intents: Annotated[int, typer.Argument(min=2, help="Finished intents in the database.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=20)] = 3,
    scale: Annotated[float, typer.Option(min=0.01, max=10, help="Multiplies the intents of each run.")] = 1.0,
    bar: Annotated[float, typer.Option(min=0, help="The least ratio of the rates.")] = 0.8,
    as_json_: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare a database with finished intents and an empty one, in turns; exit code 1 where the rate falls too far."""
    with _progress() as progress:
        found = _or_exit(lambda: uvloop.run(compare_grown(intents, rounds, scale, progress, Ceilings())))
    typer.echo(json.dumps(msgspec.to_builtins(found), indent=2) if as_json_ else tables.grown_table(found))
    raise typer.Exit(0 if found.rate.median >= bar else 1)


@bench_app.command("suite")
def suite(
    rounds: Annotated[int, typer.Option(min=1, max=20)] = 3,
    scale: Annotated[float, typer.Option(min=0.01, max=10, help="Multiplies the number of intents.")] = 1.0,
    memory_intents: Annotated[int, typer.Option(min=0, help="For the rows about memory; 0: without them.")] = 200_000,
    history: Annotated[int, typer.Option(min=0, help="Finished intents, for the row about them; 0: without it.")] = 0,
    as_json_: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Measure every row that the runtime is held to, in turns with the limit; exit code 1 where a bar is not met."""
    expected = sum(seconds for _, seconds in parts_of(rounds, scale, memory_intents, history))
    typer.echo(f"rounds: {rounds}; about {expected / 60:.0f} minutes on two cores", err=True)
    with _progress() as progress:
        work = run_suite(rounds, scale, memory_intents, progress, history=history, tell=progress.tell)
        found = _or_exit(lambda: uvloop.run(work))
    typer.echo(json.dumps(msgspec.to_builtins(found), indent=2) if as_json_ else tables.suite_table(found))
    raise typer.Exit(0 if found.met else 1)


def _plan(name: str, rate: float, seconds: float, of_knee: float, changes: dict[str, Any]) -> Plan:
    """Return what was asked for, or exit with 2 for words that ask for nothing there is."""
    for option, known in (("transport", TRANSPORTS), ("rail", RAILS), ("nats_nodes", NATS_NODES)):
        if changes.get(option, known[0]) not in known:
            named = ", ".join(str(each) for each in known)
            raise typer.BadParameter(f"--{option.replace('_', '-')} is one of {named}")
    if of_knee:
        if name == "full":
            raise typer.BadParameter("--of-knee needs a profile that has a rate")
        rate = of_knee * _knee(changes)
    plan: Plan = _or_exit(lambda: plan_of(name, rate=rate or None, seconds=seconds or None, **changes))
    return plan


def _knee(changes: dict[str, Any]) -> float:
    """Return the highest rate that an installation like this keeps up with, found by a ramp on one of its own."""
    plan = _or_exit(lambda: plan_of("ramp", **changes))
    with _progress() as progress:
        measured: Measured = _or_exit(lambda: measure(plan, progress))
    if measured.knee_per_second is None or measured.faults or measured.breaches:
        typer.echo(f"zentra bench: no knee was found: {measured.faults} {measured.breaches}", err=True)
        raise typer.Exit(1)
    typer.echo(f"the knee is at {measured.knee_per_second:,.0f}/s", err=True)
    return measured.knee_per_second


def _or_exit(work: Callable[[], Any]) -> Any:
    """Return what `work` returns; an expected failure is one line and exit code 1, a wrong word exit code 2."""
    try:
        return work()
    except (UnknownProfile, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    except FAULTS as error:
        typer.echo(f"zentra bench: {error or type(error).__name__}", err=True)
        raise typer.Exit(1) from None


class _Bars:
    """Bars on standard error, one at a time, under a line that says what part is on and how long the rest takes."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._head: TaskID | None = None
        self._told, self._told_at = "", 0.0

    def __call__(self, label: str, done: int, total: int) -> None:
        if label not in self._tasks:
            for task in self._tasks.values():
                self._bars.update(task, visible=False)
            self._tasks[label] = self._bars.add_task(label)
        self._bars.update(self._tasks[label], completed=done, total=total, visible=True)

    def tell(self, pace: Pace) -> None:
        """Show how far a work of several parts has come; where it is no terminal that is a line when a part begins, and
        now and then."""
        seconds = pace.seconds_left
        left = f"{seconds / 60:.0f} min" if seconds > MINUTES_FROM_SECONDS else f"{seconds:.0f} s"
        line = f"{pace.part}: about {left} left"
        if self._bars.console.is_terminal:
            if self._head is None:
                self._head = self._bars.add_task(line)
            self._bars.update(self._head, description=line, completed=pace.done, total=pace.total)
        elif pace.part != self._told or time.monotonic() - self._told_at > LINE_SECONDS:
            self._told, self._told_at = pace.part, time.monotonic()
            typer.echo(line, err=True)


@contextmanager
def _progress() -> Iterator[_Bars]:
    """Yield what moves bars on standard error; they are gone when the context ends."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        yield _Bars(bars)
