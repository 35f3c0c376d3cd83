"""A whole installation on one machine: embedded servers, gateways, workers and a sandbox rail behind one switch.

- Starting again on the same directory finds the same money, keys and ports; starting in a temporary one leaves nothing.
- Secrets are made once per installation and live in private files; no process has one on its command line.
- Whatever way the owner dies, its processes end with it, or at the latest with the next start on the same directory.
- Not for production: one machine, no TLS, a superuser of Postgres, and webhooks that may call private addresses.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from zentra.gateway.devstack.directory import LOOPBACK, free_port
from zentra.gateway.devstack.processes import end_leftovers
from zentra.gateway.devstack.stack import DevStack, DevStackError, NatsPorts
from zentra.gateway.installation.files import InstallationFiles
from zentra.gateway.installation.processes import Processes
from zentra.gateway.installation.seed import TENANTS, Keys, SeedPlan, seed_books, seed_configuration
from zentra.gateway.outward.rail_kinds import rail_kind
from zentra.gateway.outward.rail_secrets import RailSecrets
from zentra.gateway.settings import Settings
from zentra.runtime.rails.port import RailSettings
from zentra.storage.administration import Administration
from zentra.storage.migrate import PARTITIONS, migrate
from zentra.storage.pool import Pool, open_pool
from zentra.streams.accounts import RUNTIME_USER, render_config, runtime_password, tenant_password

__all__ = ["BANKS", "SANDBOX_RAILS", "Installation"]

SANDBOX_RAILS: Final = ("sandbox_a", "sandbox_b")
BANKS: Final = ("providus", "gtbank")  # each is the name of a rail, its kind, and a bank that the sandbox plays
CLIENT_ID: Final = "zentra"
# Every process asks for the streams when it starts, and for as long as it takes to answer, the server sets their limits
# aside once more: several processes at once need that many times the room, though no byte of it is used.
STORE_BYTES_MAX: Final = 128 * 1024**3
T = TypeVar("T")


class Installation:
    """One machine's installation; a context manager, or `start` and `stop`. What it exposes is there once it runs."""

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        workers: int = 1,
        gateways: int = 1,
        sandbox: bool = True,
        nats_nodes: int = 1,
        partitions: int = PARTITIONS,
        port: int | None = None,
        log_dir: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        rail_timing: Mapping[str, float] | None = None,
    ) -> None:
        """`data_dir` keeps everything from run to run; None means a temporary directory that is gone after `stop`.

        `port` is that of the first gateway; None takes the last one or a free one. Without a `sandbox` the corridors
        use the inline rail. Several `nats_nodes` are a cluster, with a replica of every stream on each, synced before
        they answer. `overrides` are settings by name for every process, such as `commits_max`; `rail_timing` are fields
        of the sandbox rails, such as `poll_after_seconds`. Raises ValueError for no gateway or worker."""
        if gateways < 1 or workers < 1:
            raise ValueError("an installation needs a gateway and a worker")
        self._wanted_dir, self._log_dir = data_dir, log_dir
        self._counts = {"gateway": gateways, "worker": workers, "sandbox": int(sandbox)}
        self._partitions, self._port, self._nats_nodes = partitions, port, nats_nodes
        self._overrides, self._rail_timing = dict(overrides or {}), dict(rail_timing or {})
        self._stack: DevStack | None = None
        self._files: InstallationFiles | None = None
        self._processes: Processes | None = None
        self._nats_ports: list[NatsPorts] = []
        self._ports: dict[str, int] = {}
        self._owner = 0
        self._lock = threading.RLock()
        self.settings = Settings()
        self.keys: Keys = {}

    def start(self) -> None:
        """Start everything, set up and seed what is missing, and return when a request would be answered.

        Raises DevStackError, the store's errors and SeedFailed; then nothing is left running."""
        with self._lock:
            if self._stack is not None:
                raise DevStackError("installation is already started")
            self._owner = os.getpid()
            self._nats_ports = []
            self._stack = DevStack(self._wanted_dir, nats_config=self._first_nats_config, nats_nodes=self._nats_nodes)
            try:
                self._start(self._stack)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Drain and stop every process, then the servers; an installation that does not run is left as it is."""
        with self._lock:
            atexit.unregister(self._stop_at_exit)
            with ExitStack() as steps:  # last in, first out; a step that fails keeps none from running
                if self._stack is not None:
                    steps.callback(self._stack.stop)
                if self._processes is not None:
                    steps.callback(self._processes.close)
                self._stack = self._processes = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What it exposes.

    @property
    def data_dir(self) -> Path:
        """Where data, secrets and logs are; raises DevStackError where the installation does not run."""
        return self._running.data_dir

    @property
    def base_urls(self) -> list[str]:
        """The URL of every gateway."""
        return [f"http://{LOOPBACK}:{port}" for name, port in self._ports.items() if name.startswith("gateway-")]

    @property
    def base_url(self) -> str:
        """The URL of the first gateway."""
        return self.base_urls[0]

    @property
    def sandbox_url(self) -> str:
        """The URL of the sandbox; its rails are below `/rails/`. Raises DevStackError where there is none."""
        if "sandbox-1" not in self._ports:
            raise DevStackError("installation has no sandbox", fix="start it with sandbox=True")
        return f"http://{LOOPBACK}:{self._ports['sandbox-1']}"

    @property
    def metrics_urls(self) -> list[str]:
        """Where every worker shows its metrics."""
        workers = (port for name, port in self._ports.items() if name.startswith("worker-"))
        return [f"http://{LOOPBACK}:{port}/metrics" for port in workers]

    @property
    def postgres_admin_url(self) -> str:
        """The superuser's URL of Postgres, password included."""
        return self._running.postgres_url

    @property
    def redis_url(self) -> str:
        """The URL of the Redis-compatible server."""
        return self._running.redis_url

    @property
    def public_key_path(self) -> Path:
        """The PEM of the public key that checks evidence."""
        return self._private.public_key

    @property
    def environment_path(self) -> Path:
        """A file of shell variables for `zentra` commands on this installation; it names files and holds no secret."""
        return self._private.environment

    @property
    def servers(self) -> DevStack:
        """The embedded servers, for whoever wants to break one."""
        return self._running

    @property
    def processes(self) -> Processes:
        """The processes by name: `gateway-1`, `worker-1`, `sandbox-1` and so on."""
        if self._processes is None:
            raise DevStackError("installation is not running", fix="call start first")
        return self._processes

    def nats_url(self, tenant: str) -> str:
        """Return the URL of NATS with a tenant's user and password. Raises ValueError for what is no tenant name."""
        password = tenant_password(self.settings.secret_bytes(), tenant)
        return _nats_url(self._running, f"{tenant}:{password}")

    # What can be done to it.

    def kill_worker(self, number: int = 1) -> None:
        """End a worker as a crash would; it stays away until `start_worker`. Raises DevStackError."""
        self.processes.kill(f"worker-{number}")

    def start_worker(self, number: int = 1) -> None:
        """Start a worker that was killed and return when it is ready. Raises DevStackError."""
        self.processes.start(f"worker-{number}")

    def restart_all(self) -> None:
        """Stop gateways, workers and sandbox cleanly and start them again; the servers stay. Raises DevStackError."""
        self.processes.restart_all()

    def reload_nats(self) -> list[str]:
        """Give every tenant of the database its NATS account and return the tenants. Raises DevStackError."""

        async def read(administration: Administration) -> list[str]:
            return [tenant.id for tenant in await administration.tenants()]

        tenants = _apart(lambda: self._administer(read))
        if tenants != self._private.read("tenants"):
            for ports in self._nats_ports:
                self._running.reload_nats(self._nats_config(ports, tenants), ports.server_name)
            self._private.write("tenants", tenants)
        return tenants

    # How it comes up.

    def _start(self, stack: DevStack) -> None:
        stack.start()
        atexit.register(self._stop_at_exit)
        files = self._private
        end_leftovers(files.leftovers())
        self._choose_ports(files)
        self.settings = self._make_settings(stack, files)
        files.write_settings(self.settings)
        rails = self._rails(files)
        plan = SeedPlan(rails, SANDBOX_RAILS, BANKS) if self._counts["sandbox"] else SeedPlan(rails, ("inline",))
        self.keys = _apart(lambda: self._prepare(plan, files.read("keys")))
        files.write("keys", self.keys)
        self.reload_nats()
        self._processes = self._make_processes(files, rails)
        self._processes.start_all()
        seed_books(self.base_url, self.keys)

    async def _prepare(self, plan: SeedPlan, known: Mapping[str, Any]) -> Keys:
        writer, tenant = (
            urlsplit(url).password or ""
            for url in (self.settings.postgres_writer_url, self.settings.postgres_tenant_url)
        )
        await migrate(
            self.postgres_admin_url, writer_password=writer, tenant_password=tenant, partitions=self._partitions
        )
        secrets = RailSecrets(self.settings.secret_bytes())
        return await self._administer(lambda administration: seed_configuration(administration, plan, known, secrets))

    async def _administer(self, work: Callable[[Administration], Coroutine[Any, Any, T]]) -> T:
        pool: Pool = await open_pool(self.postgres_admin_url, name="zentra installation", connections_max=1)
        try:
            return await work(Administration(pool))
        finally:
            await pool.close()

    def _choose_ports(self, files: InstallationFiles) -> None:
        known = files.read("ports")
        wanted = [f"{kind}-{number}" for kind, count in self._counts.items() for number in range(1, count + 1)]
        self._ports = {}
        for name in wanted:
            if name == "gateway-1" and self._port is not None:
                port = free_port(self._port, self._ports.values())
                if port != self._port:
                    raise DevStackError("port is taken", server=name, fix=f"free port {self._port}, or choose another")
            else:
                port = free_port(known.get(name), self._ports.values())
            self._ports[name] = port
        files.write("ports", known | self._ports)

    def _make_settings(self, stack: DevStack, files: InstallationFiles) -> Settings:
        secret = files.secret("installation.secret")
        address = urlsplit(stack.postgres_url)
        database = f"{address.hostname}:{address.port}{address.path}"
        runtime = f"{RUNTIME_USER}:{runtime_password(bytes.fromhex(secret))}"
        settings = Settings(
            postgres_writer_url=f"postgresql://zentra_writer:{files.secret('writer.password')}@{database}",
            postgres_tenant_url=f"postgresql://zentra_tenant:{files.secret('tenant.password')}@{database}",
            postgres_admin_url=stack.postgres_url,
            nats_url=_nats_url(stack, runtime),
            stream_replicas=self._nats_nodes,
            redis_url=stack.redis_url,
            secret=secret,
            evidence_key=files.evidence_key(),
            host=LOOPBACK,
            port=self._ports["gateway-1"],
            private_addresses=True,
        )
        return msgspec.structs.replace(settings, **self._overrides)

    def _rails(self, files: InstallationFiles) -> list[RailSettings]:
        inline = RailSettings(name="inline", kind="inline")
        sandboxes = [
            RailSettings(
                name=name,
                kind="sandbox",
                base_url=self.sandbox_url,
                secret=files.secret(f"rail.{name}"),
                callback_url=f"{self.base_url}/providers/{name}/callbacks",
            )
            for name in (SANDBOX_RAILS if self._counts["sandbox"] else ())
        ]
        banks = [self._bank(files, name) for name in (BANKS if self._counts["sandbox"] else ())]
        return [inline, *(msgspec.structs.replace(rail, **self._rail_timing) for rail in (*sandboxes, *banks))]

    def _bank(self, files: InstallationFiles, name: str) -> RailSettings:
        declaration = rail_kind(name).declaration
        return RailSettings(
            name=name,
            kind=name,
            base_url=f"{self.sandbox_url}/partners/{name}",
            secret=files.secret(f"rail.{name}"),
            callback_url=f"{self.base_url}/providers/{name}/callbacks",
            idempotent_references=declaration.idempotent_references,
            not_found_lies_seconds=declaration.not_found_lies_seconds,
            options={"client_id": CLIENT_ID, "simulator": "true"},
            secrets={"client_secret": files.secret(f"rail.{name}.client")} if name == "gtbank" else {},
        )

    def _make_processes(self, files: InstallationFiles, rails: list[RailSettings]) -> Processes:
        logs = self._log_dir or self.data_dir / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        processes = Processes(logs, files.write_processes)
        if self._counts["sandbox"]:
            secrets = files.write("rails", {rail.name: _played(rail) for rail in rails if rail.kind != "inline"})
            port = self._ports["sandbox-1"]
            arguments = ("sandbox", "--rails", str(secrets), "--host", LOOPBACK, "--port", str(port))
            processes.add("sandbox-1", {}, arguments, port, f"/rails/{SANDBOX_RAILS[0]}/control")
        for name, port in self._ports.items():
            if name.startswith("worker-"):
                settings = msgspec.structs.replace(self.settings, worker_name=name, metrics_port=port)
                variables = files.variables(settings, leave_out=("postgres_admin_url", "postgres_tenant_url"))
                processes.add(name, variables, ("worker",), port, "/metrics")
            elif name.startswith("gateway-"):
                settings = msgspec.structs.replace(self.settings, port=port)
                variables = files.variables(settings, leave_out=("postgres_admin_url",))
                processes.add(name, variables, ("gateway",), port, "/readyz")
        return processes

    def _first_nats_config(self, ports: NatsPorts) -> str:
        """NATS starts before Postgres can be asked: the tenants are those of the last run until it can."""
        self._nats_ports.append(ports)
        self._files = InstallationFiles(ports.store_dir.parent / "installation")
        tenants = self._files.read("tenants") or list(TENANTS)
        self._files.write("tenants", tenants)
        return self._nats_config(ports, tenants)

    def _nats_config(self, ports: NatsPorts, tenants: list[str]) -> str:
        return render_config(
            listen=f"{LOOPBACK}:{ports.client}",
            http=f"{LOOPBACK}:{ports.monitor}",
            store_dir=str(ports.store_dir),
            tenants=tenants,
            server_name=ports.server_name,
            sync_always=self._nats_nodes > 1,
            store_bytes_max=STORE_BYTES_MAX,
            secret=bytes.fromhex(self._private.secret("installation.secret")),
        )

    @property
    def _running(self) -> DevStack:
        if self._stack is None:
            raise DevStackError("installation is not running", fix="call start first")
        return self._stack

    @property
    def _private(self) -> InstallationFiles:
        if self._files is None:
            raise DevStackError("installation is not running", fix="call start first")
        return self._files

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a forked child inherits the hook, but not the processes
            self.stop()


def _played(rail: RailSettings) -> object:
    """Return how the sandbox's process is told to play the other side of a rail."""
    if rail.kind == "sandbox":
        return rail.secret
    client_secret = rail.secrets.get("client_secret", rail.secret)
    return {"kind": rail.kind, "client_id": CLIENT_ID, "client_secret": client_secret, "callback_secret": rail.secret}


def _nats_url(stack: DevStack, user: str) -> str:
    return ",".join(f"nats://{user}@{address}" for address in stack.nats_addresses)


def _apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread of its own, so that a caller's event loop is no hindrance."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
