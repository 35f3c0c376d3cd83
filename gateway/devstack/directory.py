"""The directory of an embedded stack: who owns it, what an earlier owner left in it, and which ports it used.

- One owner at a time, by a file lock that the kernel releases with the process, however that ends.
- The state file is replaced as a whole after every start of a process, so it never names fewer servers than run.
- A temporary directory is removed with its stack; one whose owner died is removed by the next stack of the same user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from zentra.gateway.devstack.processes import (
    Account,
    DevStackError,
    Leftover,
    ServerProcess,
    end_leftovers,
    process_identity,
)

__all__ = ["LOOPBACK", "StackDirectory", "free_port", "sweep_temporary_directories", "write_private"]

_log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
TEMPORARY_PREFIX = "zentra-dev-"
# Below Linux's range for outgoing connections, so that nobody takes the port of a killed server before its restart.
PORT_FIRST, PORT_LAST = 20_000, 29_999


@dataclass(frozen=True, slots=True)
class _State:
    ports: Mapping[str, int]
    leftovers: tuple[Leftover, ...]


class StackDirectory:
    """A data directory held for this stack alone until `close`."""

    def __init__(self, wanted: Path | None) -> None:
        """Take hold of `wanted`, made if missing, or of a fresh temporary directory.

        Raises DevStackError when another stack holds it or it cannot be written.
        """
        self._temporary = wanted is None
        try:
            if wanted is None:
                self.path = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{os.getpid()}-")).resolve()
            else:
                self.path = wanted.resolve()
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = _take_lock(self.path)
        except PermissionError as error:
            raise DevStackError("data directory cannot be written", fix=f"give this user {error.filename}") from error

    def close(self) -> None:
        """Let go of the directory, and remove it if it is temporary."""
        with self._held:
            if self._temporary:
                shutil.rmtree(self.path)

    def load(self) -> _State:
        """The ports used last and the processes written down; both empty in a new directory.

        Raises DevStackError when the state file makes no sense.
        """
        file = self.path / "state.json"
        if not file.exists():
            return _State({}, ())
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            return _State(dict(stored["ports"]), tuple(Leftover(**one) for one in stored["servers"].values()))
        except (ValueError, KeyError, TypeError) as error:
            fix = f"end the servers of this directory by hand, then remove {file}"
            raise DevStackError("state file is damaged", fix=fix) from error

    def save(self, ports: Mapping[str, int], servers: Mapping[str, ServerProcess]) -> None:
        """Write down the ports and every process that runs."""
        leftovers = {name: server.leftover for name, server in servers.items()}
        running = {name: asdict(leftover) for name, leftover in leftovers.items() if leftover is not None}
        write_private(self.path / "state.json", json.dumps({"ports": dict(ports), "servers": running}, indent=2))

    def rotate_logs(self) -> None:
        """Begin new logs, and keep those of the run before, so that their number is bounded."""
        for log in self.path.glob("*.log"):
            log.replace(log.with_suffix(".log.1"))


def sweep_temporary_directories() -> None:
    """Remove the temporary directories, and end the servers, of this user's stacks whose process is gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*"):
        try:
            _sweep(path)
        except (OSError, DevStackError) as error:
            # Another stack may be sweeping the same directory; what is left is for the next start.
            _log.warning("stale directory was not removed", extra={"path": str(path), "reason": str(error)})


def free_port(preferred: int | None, taken: Iterable[int]) -> int:
    """A loopback TCP port nobody listens on, the preferred one if it is free.

    Raises DevStackError when none is found.
    """
    avoid = set(taken)
    attempts_max = 200  # one in ten thousand is busy on an ordinary machine
    drawn = (PORT_FIRST + secrets.randbelow(PORT_LAST - PORT_FIRST + 1) for _ in range(attempts_max))
    for port in [*([preferred] if preferred else []), *drawn]:
        if port not in avoid and _can_bind(port):
            return port
    raise DevStackError("no free loopback port", fix=f"free a port between {PORT_FIRST} and {PORT_LAST}")


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Replace a file as a whole by one that only its owner (`account`, or the caller) can read."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)
        file.write(text)
    fresh.replace(path)


def _take_lock(directory: Path) -> IO[str]:
    held = (directory / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.seek(0)
        owner = held.read().strip() or "unknown"
        held.close()
        fix = f"stop process {owner}, or give another directory than {directory}"
        raise DevStackError("data directory is in use by another stack", fix=fix) from error
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held


def _sweep(path: Path) -> None:
    owner = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    facts = path.lstat()
    # A living owner keeps its directory even in the instant before it has taken the lock.
    if not owner.isdigit() or process_identity(int(owner)) is not None:
        return
    if facts.st_uid != os.geteuid() or not stat.S_ISDIR(facts.st_mode):
        return
    with contextlib.closing(StackDirectory(path)) as stale:
        end_leftovers(stale.load().leftovers)
        _log.info("removing a stale directory", extra={"path": str(path)})
        shutil.rmtree(path)


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers bind like this too: connections that linger from an earlier run do not make the port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
