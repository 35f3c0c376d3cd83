"""The commands that need nothing but this machine: `zentra dev`, `demo`, `bench`, `simulate` and `chaos`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, ExitCode, explained, say, say_json, settings

if TYPE_CHECKING:
    from zentra.gateway.installation.installation import Installation

__all__ = ["add_installation"]

PORT: Final = 8080
WATCH_SECONDS: Final = 0.5


def add_installation(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("dev")(dev)
    app.command("demo")(demo)
    # These bring options of their own, and are imported only when they are asked for.
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    for command in (bench, simulate, chaos):
        app.command(command.__name__, add_help_option=False, context_settings=passed_on)(command)


def dev(
    data_dir: Path | None = typer.Option(None, help="Keep everything here; a temporary directory by default."),
    port: int = typer.Option(PORT, min=1, max=65535, help="The gateway's port on 127.0.0.1."),
    workers: int = typer.Option(1, min=1, max=64, help="How many workers share the partitions."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Run a whole installation on this machine.

    \b
    Postgres, NATS, Redis, a gateway, workers and a sandbox rail, from nothing but this package.
    Two tenants with people, keys, accounts and money are there; a curl to paste is printed. NOT FOR PRODUCTION.
    Ctrl-C or SIGTERM ends it cleanly; SIGHUP gives tenants created since their NATS accounts.
    Examples:
      zentra dev
      zentra dev --data-dir ./zentra-data --port 9000 --workers 2
    """
    from zentra.gateway import logs

    told = threading.Event()
    reload = threading.Event()
    _end_on_sigterm()
    logs.configure(msgspec.structs.replace(settings(), log_format="text"))
    from zentra.gateway.installation.installation import Installation

    if not as_json:
        say("starting Postgres, NATS, Redis, a sandbox rail, the gateway and the worker …")
    with Installation(data_dir, workers=workers, port=port) as installation:
        _set_events_on_signals(told, reload)
        if as_json:
            say_json(_facts(installation))
        else:
            say(*_banner(installation, kept=data_dir is not None))
        failed = _stay(installation, told, reload)
        if not as_json:
            say("stopping …")
    if failed:
        typer.echo(f"zentra: process {failed} ended again and again; its log says why", err=True)
        raise typer.Exit(ExitCode.UNAVAILABLE)


def demo(as_json: bool = JSON_OPTION) -> None:
    """Play a transfer and five incidents, and verify them.

    Everything runs on this machine in a temporary directory. Exit code 0 means that every story ended as it has to.
    """
    _end_on_sigterm()
    from zentra.gateway.rehearsals.incidents import DEMO, INCIDENTS
    from zentra.gateway.rehearsals.rehearsal import rehearse_embedded

    raise typer.Exit(rehearse_embedded([INCIDENTS[name] for name in DEMO], title="Zentra demo", json_output=as_json))


def bench(context: typer.Context) -> None:
    """Measure the runtime on this machine."""
    _end_on_sigterm()
    from zentra.bench.measuring.cli import bench_app

    bench_app(args=context.args, prog_name="zentra bench")


def simulate(context: typer.Context) -> None:
    """Run the engine through seeded faults in virtual time, and check every step."""
    from zentra.bench.simulation.cli import simulate_app

    simulate_app(args=context.args, prog_name="zentra simulate")


def chaos(context: typer.Context) -> None:
    """Hit real processes under load, and check what is left."""
    _end_on_sigterm()
    from zentra.bench.chaos.cli import chaos_app

    chaos_app(args=context.args, prog_name="zentra chaos")


def _end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that what has been started by then is stopped."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def _set_events_on_signals(told: threading.Event, reload: threading.Event) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        told.set()

    def load(number: int, frame: FrameType | None) -> None:
        reload.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, load)


def _stay(installation: Installation, told: threading.Event, reload: threading.Event) -> str | None:
    """Return when the user has had enough, or with the name of a process that was given up."""
    while not told.wait(WATCH_SECONDS):
        if reload.is_set():
            reload.clear()
            _reload(installation)
        if installation.processes.given_up is not None:
            return installation.processes.given_up
    return None


def _reload(installation: Installation) -> None:
    """Give new tenants their accounts; what keeps that from happening must not end everything else."""
    try:
        say(f"NATS has accounts for {', '.join(installation.reload_nats())}")
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        typer.echo(f"NATS was not reloaded: {told[0]}", err=True)


def _facts(installation: Installation) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "base_url": installation.base_url,
        "sandbox_url": installation.sandbox_url,
        "metrics_urls": installation.metrics_urls,
        "postgres_admin_url": installation.postgres_admin_url,
        "redis_url": installation.redis_url,
        "nats_urls": {tenant: installation.nats_url(tenant) for tenant in installation.keys},
        "keys": installation.keys,
        "public_key": str(installation.public_key_path),
        "environment": str(installation.environment_path),
        "data_dir": str(installation.data_dir),
        "curl": _curl(installation),
    }


def _curl(installation: Installation) -> str:
    body = {"amount": 250_000, "currency": "NGN", "source": "customer-1", "destination": "merchant-1"}
    words = (
        ("curl", "-sS", f"{installation.base_url}/runtime/intents"),
        ("-H", f"authorization: Bearer {installation.keys['acme']['dev']}"),
        ("-H", "content-type: application/json"),
        ("-H", "x-idempotency-key: my-first-transfer"),
        ("-H", "prefer: wait=5"),
        ("-d", json.dumps(body)),
    )
    return " \\\n  ".join(shlex.join(line) for line in words)


def _banner(installation: Installation, *, kept: bool) -> list[str]:
    keys = [
        f"    {tenant:<8} {principal:<5} {key}"
        for tenant, people in installation.keys.items()
        for principal, key in people.items()
    ]
    nats = [f"    {tenant:<8} {installation.nats_url(tenant)}" for tenant in installation.keys]
    directory = f"{installation.data_dir}" + ("" if kept else "   (temporary: it goes with this process)")
    return [
        "",
        "  Zentra runs on this machine.   *** NOT FOR PRODUCTION: no TLS, keys on the screen ***",
        "",
        f"  API        {installation.base_url}",
        f"  sandbox    {installation.sandbox_url}/rails/sandbox_a and sandbox_b",
        f'  banks      {installation.sandbox_url}/partners/providus and gtbank, for transfers that say "country": "NG"',
        f"  metrics    {installation.base_url}/metrics {' '.join(installation.metrics_urls)}",
        f"  Postgres   {installation.postgres_admin_url}",
        f"  Redis      {installation.redis_url}",
        f"  data       {directory}",
        f"  evidence   {installation.public_key_path}",
        "",
        "  API keys (dev is a developer, ops an operator):",
        *keys,
        "",
        "  NATS (request zentra.intents.create):",
        *nats,
        "",
        "  Move 2,500.00 NGN from customer-1 to merchant-1; paste it twice and it still moves once:",
        "",
        _curl(installation),
        "",
        "  Other zentra commands on this installation, in another shell:",
        f"    . {shlex.quote(str(installation.environment_path))}",
        "    zentra tenants list",
        "",
        "  Ctrl-C ends it.",
        "",
    ]
