"""`zentra bench`: measure the staged path on an embedded installation and prove the invariants afterwards."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from zentra.bench.measuring.measure import Measured, Plan, as_json, measure

__all__ = ["bench_app"]

bench_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@bench_app.command()
def bench(
    transport: Annotated[str, typer.Option(help="nats: requests of a tenant; http: POST /runtime/intents.")] = "nats",
    intents: Annotated[int, typer.Option(min=1, max=2_000_000, help="How many intents to send.")] = 30_000,
    rate: Annotated[float, typer.Option(min=0, help="Intents per second on a fixed schedule; 0: full speed.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Intents per NATS request at full speed.")] = 100,
    in_flight: Annotated[int, typer.Option(min=1, help="Unanswered intents at full speed.")] = 4_096,
    accounts: Annotated[int, typer.Option(min=2, help="Half are customers, half are merchants.")] = 2_000,
    hot: Annotated[bool, typer.Option("--hot", help="Every intent credits one merchant.")] = False,
    rail: Annotated[
        str, typer.Option(help="inline: the outcome comes back as an event; sandbox: over HTTP.")
    ] = "inline",
    workers: Annotated[int, typer.Option(min=1, max=8)] = 1,
    gateways: Annotated[int, typer.Option(min=1, max=8)] = 1,
    as_json_: Annotated[bool, typer.Option("--json", help="Print figures as one JSON document.")] = False,
) -> None:
    """Publish intents at full speed or at a fixed rate, wait until each reached its last stage, and audit the books.

    \b
    Examples:
      zentra bench --transport nats --intents 30000
      zentra bench --transport http --intents 5000 --rate 50 --json
    """
    if transport not in ("nats", "http") or rail not in ("inline", "sandbox"):
        raise typer.BadParameter("--transport is nats or http, --rail is inline or sandbox")
    plan = Plan(
        transport=transport,
        intents=intents,
        rate=rate,
        batch=batch,
        in_flight=in_flight,
        accounts=accounts,
        hot=hot,
        rail=rail,
        workers=workers,
        gateways=gateways,
    )
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done)

        measured = measure(plan, progress)
    typer.echo(as_json(measured) if as_json_ else _table(measured))
    raise typer.Exit(0 if measured.invariants == "ok" else 1)


def _table(measured: Measured) -> str:
    lines = [
        f"{measured.completed} of {measured.intents} intents completed in {measured.seconds} s:"
        f" {measured.completed_per_second}/s",
        f"accepted -> successful   p50 {measured.p50_ms} ms, p99 {measured.p99_ms} ms",
        f"request -> answer        p50 {measured.answer_p50_ms} ms, p99 {measured.answer_p99_ms} ms"
        + (f", {measured.sent_late} sent late" if measured.sent_late else ""),
    ]
    lines += [f"  {name:<24} p50 {s['p50_ms']:>9} ms   p99 {s['p99_ms']:>9} ms" for name, s in measured.stages.items()]
    lines += ["CPU seconds   " + ", ".join(f"{name} {cpu}" for name, cpu in measured.cpu_seconds.items())]
    lines += ["memory MiB    " + ", ".join(f"{name} {mib}" for name, mib in measured.memory_mib.items())]
    lines += [f"refused       {why}: {count}" for why, count in measured.refusals.items()]
    lines += [f"invariants    {measured.invariants}", *(f"  {breach}" for breach in measured.breaches)]
    return "\n".join(lines)
