"""`python -m zentra.bench.histories`: concurrent clients on hot accounts, and the check of everything they saw."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import anyio
import msgspec
import typer

from zentra.bench.histories.clients import Clients, Target
from zentra.bench.histories.ending import keep_commit_times
from zentra.bench.histories.recording import Recorder
from zentra.bench.histories.verifying import HistoryReport, verify
from zentra.bench.histories.workload import Workload, run_workload
from zentra.gateway.installation.installation import Installation
from zentra.storage.pool import open_pool

__all__ = ["histories_app", "run"]

SHOWN_MAX: Final = 20
# A silent rail is given up within the run; the rest is as in production.
QUICK: Final = {"submit_timeout_seconds": 1.0, "poll_after_seconds": 0.5, "deadline_seconds": 3.0}

histories_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@histories_app.command()
def histories(
    seed: Annotated[int, typer.Option(help="What is asked for.")] = 1,
    operations: Annotated[int, typer.Option(min=1, max=1_000_000, help="Requests and reads.")] = 5_000,
    clients: Annotated[int, typer.Option(min=1, max=500, help="Who ask at the same time.")] = 32,
    workers: Annotated[int, typer.Option(min=1, max=8)] = 2,
    gateways: Annotated[int, typer.Option(min=1, max=8)] = 1,
    keep: Annotated[Path | None, typer.Option(help="A file for the recording; it must not exist.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Ask an installation of its own, and check that everything heard is what one ledger explains.

    Ends with 1 where something is wrong."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    if keep is not None and keep.exists():
        raise typer.BadParameter(f"{keep} exists", param_hint="--keep")
    workload = Workload(seed=seed, operations=operations, clients=clients)
    with tempfile.TemporaryDirectory() as directory, Recorder(keep or Path(directory) / "history") as recorder:
        report = run(workload, recorder, workers=workers, gateways=gateways)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n" if as_json else _shown(report))
    raise typer.Exit(0 if report.clean else 1)


def run(workload: Workload, recorder: Recorder, *, workers: int = 1, gateways: int = 1) -> HistoryReport:
    """Start an installation, run the workload on it, and return the verdict on what was recorded.

    Raises DevStackError, SetupFailed, HistoryBroken, and Unavailable where the store does not answer."""
    with Installation(workers=workers, gateways=gateways, rail_timing=QUICK) as installation:
        target = Target.of(installation)
        anyio.run(_prepare, target)
        installation.servers.postgres.restart()
        return anyio.run(_asked, workload, target, recorder)


async def _prepare(target: Target) -> None:
    async with await open_pool(target.postgres_url, name="zentra histories", connections_max=1) as pool:
        await keep_commit_times(pool)


async def _asked(workload: Workload, target: Target, recorder: Recorder) -> HistoryReport:
    async with Clients(target, recorder, doors=workload.doors) as clients:
        await run_workload(workload, clients)
    return await verify(target, recorder)


def _shown(report: HistoryReport) -> str:
    lines = [f"{count:>8}  {outcome}" for outcome, count in sorted(report.outcomes.items())]
    lines.append(f"{report.calls} calls against {report.commits} commits of {report.intents} intents")
    if report.not_checked:
        lines.append(f"not checked, for want of commit times: {', '.join(report.not_checked)}")
    lines += [str(violation) for violation in report.violations[:SHOWN_MAX]]
    lines.append(f"{len(report.violations)} violations" if report.violations else "no violations")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    histories_app()
