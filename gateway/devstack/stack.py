"""Postgres, NATS with JetStream and a Redis-compatible server on this machine, started and stopped as one value.

- Servers listen on loopback only, and a server whose URL is given is never started.
- One data directory belongs to one stack at a time.
- Whatever way the owner dies, the next start on the same directory ends what it left and finds the data whole.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from zentra.gateway.devstack.directory import (
    LOOPBACK,
    StackDirectory,
    free_port,
    sweep_temporary_directories,
    write_private,
)
from zentra.gateway.devstack.processes import DevStackError, ServerProcess, ServerSpec, end_leftovers
from zentra.gateway.devstack.servers import (
    NatsPorts,
    check_nats_config,
    nats_cluster,
    nats_loaded_at,
    nats_spec,
    plain_nats_config,
    postgres_password,
    postgres_spec,
    redis_spec,
)

__all__ = ["DevStack", "DevStackError", "NatsPorts", "ServerProcess"]

RELOAD_SECONDS_MAX = 5.0


class DevStack:
    """The three servers behind one switch; a context manager, or `start` and `stop`.

    `data_dir` keeps the data from run to run; None means a temporary directory that goes with the stack.
    `nats_config` returns the text of the NATS configuration and must listen on the ports it is given; without it
    there are no accounts. Secrets in the text are safe: the file is private. With several `nats_nodes` it is asked for
    each of them, and they are one cluster.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        nats_config: Callable[[NatsPorts], str] | None = None,
        nats_nodes: int = 1,
        postgres_url: str | None = None,
        nats_url: str | None = None,
        redis_url: str | None = None,
    ) -> None:
        self._wanted_dir = data_dir
        self._nats_config = nats_config or plain_nats_config
        self._nats_names = tuple("nats" if node == 1 else f"nats-{node}" for node in range(1, nats_nodes + 1))
        self._route_password = secrets.token_hex(16)
        self._urls = {"postgres": postgres_url, "nats": nats_url, "redis": redis_url}
        self._directory: StackDirectory | None = None
        self._servers: dict[str, ServerProcess] = {}
        self._ports: dict[str, int] = {}
        self._password = ""
        self._spawner: ThreadPoolExecutor | None = None
        self._owner = os.getpid()
        self._lock = threading.RLock()

    def start(self) -> None:
        """Start every server that has no URL, all at once, and return when each answers.

        Raises DevStackError when the stack runs already, the directory is in use, or a server does not come up.
        Then nothing is left running.
        """
        with self._lock:
            if self._directory is not None:
                raise DevStackError("stack is already started")
            if all(self._urls.values()):
                return
            sweep_temporary_directories()
            self._directory = StackDirectory(self._wanted_dir)
            self._owner = os.getpid()
            atexit.register(self._stop_at_exit)
            try:
                self._start_servers(self._directory)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop what was started, cleanly where a server obeys in time; a stack that does not run is left as it is."""
        with self._lock:
            if self._directory is None:
                return
            atexit.unregister(self._stop_at_exit)
            directory, self._directory = self._directory, None
            with contextlib.ExitStack() as steps:  # last in, first out; a step that fails keeps none from running
                steps.callback(directory.close)
                if self._spawner is not None:  # else the start failed early, and what an earlier owner wrote must stay
                    steps.callback(self._spawner.shutdown)
                    steps.callback(directory.save, self._ports, self._servers)
                for server in self._servers.values():
                    server.request_stop()
                    steps.callback(server.wait_stopped)
            self._servers = {}
            self._spawner = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def data_dir(self) -> Path:
        """The directory that holds data, configuration and logs; raises DevStackError when the stack does not run."""
        if self._directory is None:
            raise DevStackError("stack is not running", fix="call start first")
        return self._directory.path

    @property
    def postgres_url(self) -> str:
        """The superuser's URL, password included, over TCP; raises DevStackError when the server does not run."""
        return self._urls["postgres"] or f"postgresql://postgres:{self._password}@{self._address('postgres')}/postgres"

    @property
    def nats_url(self) -> str:
        """The URL of NATS, without a user, the first of a cluster's; raises DevStackError when it does not run."""
        return self._urls["nats"] or f"nats://{self._address('nats')}"

    @property
    def nats_addresses(self) -> list[str]:
        """Host and port of every server of NATS that was started; raises DevStackError when one does not run."""
        return [self._address(name) for name in self._nats_names]

    @property
    def nats_monitor_url(self) -> str:
        """The URL of the HTTP monitor; raises DevStackError when NATS was given by URL or does not run."""
        self._server("nats")
        return f"http://{LOOPBACK}:{self._ports['nats_monitor']}"

    @property
    def redis_url(self) -> str:
        """The URL of the Redis-compatible server; raises DevStackError when the server does not run."""
        return self._urls["redis"] or f"redis://{self._address('redis')}/0"

    @property
    def postgres(self) -> ServerProcess:
        """The Postgres process; raises DevStackError when this stack did not start one."""
        return self._server("postgres")

    @property
    def nats(self) -> ServerProcess:
        """The NATS process, the first of a cluster's; raises DevStackError when this stack did not start one."""
        return self._server("nats")

    @property
    def nats_servers(self) -> list[ServerProcess]:
        """Every NATS process; raises DevStackError when this stack did not start them."""
        return [self._server(name) for name in self._nats_names]

    @property
    def redis(self) -> ServerProcess:
        """The Redis-compatible process; raises DevStackError when this stack did not start one."""
        return self._server("redis")

    def reload_nats(self, config: str, name: str = "nats") -> None:
        """Put a new configuration in force without dropping connections; return when the server has loaded it. `name`
        is that of the server.

        Raises DevStackError when the server finds it faulty (the old one then stays) or does not take it over.
        """
        candidate = self.data_dir / f"{name}.candidate.conf"
        write_private(candidate, config + self._cluster_of(name))
        try:
            check_nats_config(candidate)
            candidate.replace(self.data_dir / f"{name}.conf")
        finally:
            candidate.unlink(missing_ok=True)
        # Of an account that is new, the server (2.15) leads service imports nowhere until it has loaded them once more.
        for _ in range(2):
            self._reload(name)

    def _reload(self, name: str) -> None:
        server, monitor = self._server(name), self._ports[f"{name}_monitor"]
        before = nats_loaded_at(monitor)
        server.signal(signal.SIGHUP)
        deadline = time.monotonic() + RELOAD_SECONDS_MAX
        while nats_loaded_at(monitor) == before:
            if time.monotonic() > deadline:
                raise DevStackError("configuration not taken over", server=name, log_tail=server.log_tail())
            time.sleep(0.01)

    def _start_servers(self, directory: StackDirectory) -> None:
        state = directory.load()
        end_leftovers(state.leftovers)
        self._ports = {}
        ports_of_nats = ("", "_monitor") if len(self._nats_names) == 1 else ("", "_monitor", "_route")
        for name in ("postgres", *(f"{each}{port}" for each in self._nats_names for port in ports_of_nats), "redis"):
            self._ports[name] = free_port(state.ports.get(name), self._ports.values())
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devstack")
        directory.rotate_logs()
        path, ports, spawner = directory.path, self._ports, self._spawner
        specs: dict[str, Callable[[], ServerSpec]] = {
            **{name: partial(self._nats_spec, path, name) for name in self._nats_names},
            "redis": lambda: redis_spec(path, ports["redis"]),
            # Last, because a cluster may have to be made; the others come up meanwhile.
            "postgres": lambda: postgres_spec(path, ports["postgres"], spawner),
        }
        for name, spec in specs.items():
            if self._urls.get(name.partition("-")[0]) is None:
                self._servers[name] = ServerProcess(spec(), spawner, self._save)
                self._servers[name].spawn()
        if "postgres" in self._servers:
            self._password = postgres_password(path)
        for server in self._servers.values():
            server.wait_ready()

    def _nats_spec(self, path: Path, name: str) -> ServerSpec:
        client, monitor = self._ports[name], self._ports[f"{name}_monitor"]
        return nats_spec(path, client, monitor, self._nats_config, name=name, cluster=self._cluster_of(name))

    def _cluster_of(self, name: str) -> str:
        """Return what a server's configuration has to say of its cluster: nothing where it is alone."""
        if len(self._nats_names) == 1:
            return ""
        routes = [self._ports[f"{each}_route"] for each in self._nats_names]
        return nats_cluster(self._ports[f"{name}_route"], routes, self._route_password)

    def _save(self) -> None:
        if self._directory is not None:
            self._directory.save(self._ports, self._servers)

    def _server(self, name: str) -> ServerProcess:
        if self._urls[name.partition("-")[0]] is not None:
            raise DevStackError("server was given by URL", server=name, fix="leave its URL out to have it started")
        if name not in self._servers:
            raise DevStackError("server is not running", server=name, fix="call start first")
        return self._servers[name]

    def _address(self, name: str) -> str:
        return f"{LOOPBACK}:{self._server(name).port}"

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a forked worker inherits the hook, but not the servers
            self.stop()
