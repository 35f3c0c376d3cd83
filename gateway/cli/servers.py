"""The commands that a real installation is made of: single processes, migrations and the NATS configuration.

- A process reads its settings from the environment and logs to stderr; what it cannot start with, it names and leaves.
- A database is only ever brought forward, and only by `zentra migrate`; no process migrates by itself.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, ExitCode, administered, explained, need, say, say_json, settings
from zentra.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from zentra.actors.worker import Worker

__all__ = ["add_servers"]

logger = logging.getLogger(__name__)

# A tick makes thousands of objects that live until its commit, and hardly a cycle: looking for cycles after every 700
# of them, which is the default, is work without a yield.
GC_THRESHOLDS: Final = (50_000, 20, 50)


def add_servers(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command, name in (
        (gateway, "gateway"),
        (worker, "worker"),
        (sandbox, "sandbox"),
        (migrate, "migrate"),
        (nats_config, "nats-config"),
    ):
        app.command(name)(command)


def gateway() -> None:
    """Run a gateway: HTTP API and intake over NATS.

    \b
    Serves on ZENTRA_HOST:ZENTRA_PORT, metrics on /metrics, readiness on /readyz.
    Stateless; run as many as wanted. SIGTERM drains: no new work, open answers are given, then it ends.
    Example:
      export ZENTRA_POSTGRES_WRITER_URL=… ZENTRA_POSTGRES_TENANT_URL=… ZENTRA_NATS_URL=…
      export ZENTRA_REDIS_URL=… ZENTRA_SECRET_FILE=…
      zentra gateway
    """
    known = _prepared("postgres_writer_url", "postgres_tenant_url", "nats_url", "redis_url", "secret")

    def run() -> None:
        from functools import partial

        import anyio

        from zentra.gateway.http.server import run_gateway
        from zentra.gateway.tracing import open_tracing

        async def ready(_: str) -> None:
            _settle_memory()

        spans = open_tracing(known, "zentra-gateway")
        try:
            anyio.run(partial(run_gateway, known, on_ready=ready, spans=spans), backend_options={"use_uvloop": True})
        finally:
            if spans is not None:
                spans.close()

    _run_for_ever(run)


def worker() -> None:
    """Run a worker: the engine behind the gateways.

    \b
    It decides and commits, calls rails and webhooks, and seals evidence.
    Run as many as wanted, each with its own ZENTRA_WORKER_NAME; they share the partitions among them. Metrics are on
    ZENTRA_METRICS_PORT. SIGTERM drains: the commit on its way ends, the partitions are given back.
    Example:
      export ZENTRA_POSTGRES_WRITER_URL=… ZENTRA_NATS_URL=… ZENTRA_SECRET_FILE=… ZENTRA_EVIDENCE_KEY_FILE=…
      ZENTRA_WORKER_NAME=worker-2 ZENTRA_METRICS_PORT=9102 zentra worker
    """
    known = _prepared("postgres_writer_url", "nats_url", "secret", "evidence_key")
    _run_for_ever(lambda: _work(known))


def sandbox(
    rails: Path = typer.Option(metavar="FILE", help='JSON of rails and their secrets: {"sandbox_a": "secret"}.'),
    host: str = typer.Option("127.0.0.1", help="The address to listen on."),
    port: int = typer.Option(8090, help="The port to listen on."),
    scenario: str = typer.Option("success", help="What payments do where an intent does not say."),
) -> None:
    """Run sandbox rails and simulated banks over HTTP.

    \b
    Payment rails that behave well or badly, as asked: sandbox rails under /rails/NAME, banks under /partners/NAME.
    An intent chooses with metadata: {"sandbox_scenario": "decline"}. Everything is in memory.
    Where a bank stands, the file says how it knows us instead of a secret:
      {"sandbox_a": "secret",
       "providus": {"kind": "providus", "client_id": "zentra", "client_secret": "…"},
       "gtbank": {"kind": "gtbank", "client_id": "zentra", "client_secret": "…", "callback_secret": "…"}}
    Example:
      zentra sandbox --rails rails.json --port 8090
    """
    _prepared()
    from zentra.gateway.partners.partner import PartnerProfile

    try:
        known = msgspec.json.decode(rails.read_bytes(), type=dict[str, str | PartnerProfile])
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"{rails}: {error}; it has to be a JSON object of rail names and secrets") from error

    def run() -> None:
        from zentra.gateway.partners.server import serve

        try:
            serve(host, port, known, scenario=scenario)
        except ValueError as error:
            raise SettingsError(f"--scenario or {rails}: {error}") from error

    _run_for_ever(run)


def migrate(
    partitions: int = typer.Option(8, help="Fixed by the first run; more allow more workers.", min=1, max=1024),
    as_json: bool = JSON_OPTION,
) -> None:
    """Bring the database up to date.

    \b
    Connects as the owner (ZENTRA_POSTGRES_ADMIN_URL); the passwords are those in ZENTRA_POSTGRES_WRITER_URL and
    ZENTRA_POSTGRES_TENANT_URL. Running it again changes nothing.
    """
    known = settings()
    need(known, "postgres_admin_url", "postgres_writer_url", "postgres_tenant_url")
    import asyncio

    from zentra.storage.migrate import migrate as bring_up_to_date

    applied = asyncio.run(
        bring_up_to_date(
            known.postgres_admin_url,
            writer_password=_password_of(known, "postgres_writer_url"),
            tenant_password=_password_of(known, "postgres_tenant_url"),
            partitions=partitions,
        )
    )
    if as_json:
        say_json({"applied": applied, "partitions": partitions})
    else:
        say(*(f"applied {name}" for name in applied), *([] if applied else ["the database is up to date"]))


def nats_config(
    listen: str = typer.Option("0.0.0.0:4222", help="Where clients connect."),  # servers in a cluster
    http: str = typer.Option("", help="Where the server's own monitor listens, as host:port; none by default."),
    store_dir: str = typer.Option("/data/jetstream", help="Where JetStream keeps its data."),
    server_name: str = typer.Option("zentra", help="The server's name, unique in a cluster."),
    sync_always: bool = typer.Option(False, help="Make every message durable before it is acknowledged."),
    tls_certificate: str = typer.Option("", help="The server's certificate, a path on its machine."),
    tls_key: str = typer.Option("", help="The key of the certificate, a path on its machine."),
    tls_client_authority: str = typer.Option("", help="Demand client certificates signed by this authority."),
    output: Path | None = typer.Option(None, metavar="FILE", help="Write to a private file instead of stdout."),
) -> None:
    """Print the NATS configuration with all tenants.

    \b
    An account for the runtime and one for each tenant of the database.
    It holds passwords (derived from ZENTRA_SECRET). After `zentra tenants create`, write it again and reload, twice:
    a server leads the requests of a new account nowhere until it has loaded the file once more.
      zentra nats-config --output /etc/nats/nats.conf
      nats-server --signal reload && sleep 1 && nats-server --signal reload
    """
    known = settings()
    need(known, "secret")
    if bool(tls_certificate) != bool(tls_key):
        raise SettingsError("--tls-certificate and --tls-key go together; give both or none")
    from zentra.streams.accounts import TlsFiles, render_config

    tenants = administered(lambda administration: administration.tenants())
    tls = TlsFiles(tls_certificate, tls_key, tls_client_authority or None) if tls_certificate else None
    text = render_config(
        listen=listen,
        http=http or None,
        store_dir=store_dir,
        server_name=server_name,
        sync_always=sync_always,
        tenants=[tenant.id for tenant in tenants],
        secret=known.secret_bytes(),
        tls=tls,
    )
    if output is None:
        typer.echo(text, nl=False)
        return
    from zentra.gateway.devstack.directory import write_private

    write_private(output, text)
    typer.echo(
        f"wrote {output} with the accounts of {len(tenants)} tenants; reload the server twice to have it in force"
    )


def _work(known: Settings) -> None:
    from functools import partial

    import anyio

    from zentra.gateway.metrics import Metrics, serve_metrics
    from zentra.gateway.tracing import open_tracing
    from zentra.gateway.worker_process import run_worker

    metrics, spans = Metrics(), open_tracing(known, "zentra-worker", known.worker_name)
    server = None

    async def ready(worker: Worker) -> None:
        nonlocal server
        if known.metrics_port:
            server = serve_metrics(metrics, known.metrics_port, known.host)
        _settle_memory()
        logger.info("worker is ready", extra={"worker": known.worker_name, "metrics_port": known.metrics_port})

    try:
        run = partial(run_worker, known, metrics, on_ready=ready, spans=spans)
        anyio.run(run, backend_options={"use_uvloop": True})
    finally:
        if spans is not None:
            spans.close()
        if server is not None:
            server.close()


def _settle_memory() -> None:
    """Tell the garbage collector that what is loaded by now stays, and to look for cycles less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _prepared(*names: str) -> Settings:
    """Return the settings with logging in force; raise SettingsError unless all of these settings have a value."""
    from zentra.gateway import logs

    known = settings()
    logs.configure(known)
    need(known, *names)
    return known


def _run_for_ever(run: Callable[[], None]) -> None:
    """Run a process until it is told to stop; why it ended otherwise is the last line of its log."""
    try:
        run()
    except Exception as error:
        told = explained(error)
        if told is None:
            logger.critical("process failed", exc_info=True)
            raise typer.Exit(ExitCode.INTERNAL) from None
        logger.critical("process cannot go on", extra={"error": told[0]})
        raise typer.Exit(told[1]) from None


def _password_of(known: Settings, name: str) -> str:
    password = urlsplit(getattr(known, name)).password
    if not password:
        raise SettingsError(f"ZENTRA_{name.upper()} has no password; write it as postgresql://role:password@host/…")
    return unquote(password)
