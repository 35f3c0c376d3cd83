"""The processes of the embedded stack: how a server is started, watched and ended.

- A process is signalled only while its pid and start time agree with what we wrote down; a reused pid is never touched.
- A server ends with the process that started it where the kernel offers that (Linux). Elsewhere, and when even that
  fails, `end_leftovers` ends it at the next start.
- Every wait has a bound, and behind each polite signal stands SIGKILL.
- Nothing secret reaches a command line or an environment; what a server writes is for its own user's eyes.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Account",
    "DevStackError",
    "Leftover",
    "ServerProcess",
    "ServerSpec",
    "end_leftovers",
    "process_identity",
    "run_to_end",
]

_log = logging.getLogger(__name__)

READY_SECONDS_MAX = 60.0  # Postgres may have gigabytes of log to replay after a crash
STOP_SECONDS_MAX = 20.0  # a fast shutdown of Postgres writes a checkpoint
KILL_SECONDS_MAX = 5.0  # the kernel needs microseconds; a process stuck in the disk needs more
POLL_SECONDS = 0.01
LOG_TAIL_BYTES_MAX = 4096
DIE_WITH_PARENT = sys.platform == "linux"

# Runs between fork and exec in a fresh interpreter, because a hook inside a forked copy of a threaded process is unsafe
# (and a warning from Python 3.12 on). The death signal must be set after the user, since changing the user clears it.
_LAUNCHER = """
import ctypes, os, sys
death_signal, parent, uid, gid = map(int, sys.argv[1:5])
os.umask(0o077)
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if death_signal:
    ctypes.CDLL(None).prctl(1, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that wanted this server is gone")
os.execv(sys.argv[5], sys.argv[5:])
"""


class DevStackError(Exception):
    """The embedded stack cannot do what was asked; `problem` is a fixed sentence, the rest are its facts."""

    def __init__(self, problem: str, *, server: str = "", fix: str = "", log_tail: str = "") -> None:
        self.problem = problem
        self.server = server
        self.fix = fix
        self.log_tail = log_tail
        lines = [": ".join(part for part in (server, problem) if part), fix, log_tail]
        super().__init__("\n".join(line for line in lines if line))


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system that a server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process written down by a stack that may have died; `started` tells it from a later one with the same pid."""

    pid: int
    started: str
    stop_signal: int


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """How one server is started, recognised as ready, and asked to stop."""

    name: str
    command: Sequence[str]
    log: Path
    port: int
    answers: Callable[[], bool]  # one exchange in the server's own protocol; an OSError counts as no
    stop_signal: signal.Signals
    account: Account | None = None
    passing_failure: str = "\0"  # a line in the log that says: the same start will work in a moment


class ServerProcess:
    """One running server of the stack, always on the same port."""

    def __init__(self, spec: ServerSpec, spawner: Executor, on_spawn: Callable[[], None]) -> None:
        self._spec = spec
        self._spawner = spawner
        self._on_spawn = on_spawn
        self._process: subprocess.Popen[bytes] | None = None
        self._started = ""
        self._log_start = 0
        self._lock = threading.RLock()

    @property
    def port(self) -> int:
        """The loopback TCP port the server listens on."""
        return self._spec.port

    @property
    def log_path(self) -> Path:
        """The file that holds what the server wrote."""
        return self._spec.log

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, else None."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def leftover(self) -> Leftover | None:
        """What a later start must know to end this process; None when it does not run."""
        pid = self.pid
        return None if pid is None else Leftover(pid, self._started, int(self._spec.stop_signal))

    def spawn(self) -> None:
        """Start the process without waiting for it to answer."""
        with self._lock:
            self._log_start = self._spec.log.stat().st_size if self._spec.log.exists() else 0
            # The kernel sends the death signal when the *thread* that forked ends, so the spawner's thread, which
            # lives as long as the stack, starts every process.
            self._process = self._spawner.submit(
                _launch, self._spec.command, self._spec.log, self._spec.stop_signal, self._spec.account
            ).result()
            self._started = process_identity(self._process.pid) or ""
            self._on_spawn()

    def wait_ready(self) -> None:
        """Return once the server answers in its own protocol.

        Raises DevStackError, with the end of the server's log, when it exits or stays silent too long.
        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.pid is None:
                if self._spec.passing_failure not in self.log_tail():
                    raise DevStackError("server ended while starting", server=self._spec.name, log_tail=self.log_tail())
                self.spawn()
            elif _tries(self._spec.answers):
                return
            time.sleep(POLL_SECONDS)
        raise DevStackError("server did not answer in time", server=self._spec.name, log_tail=self.log_tail())

    def request_stop(self) -> None:
        """Ask the server to stop cleanly, without waiting."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._spec.stop_signal)

    def wait_stopped(self) -> None:
        """Return once the process is gone; one that ignores its signal too long is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            _log.warning("server ignored its stop signal and is killed", extra={"server": self._spec.name})
            self.kill()

    def kill(self) -> None:
        """End the server and its child processes at once (SIGKILL), as a crash would; return when they are gone.

        Raises DevStackError when the kernel does not end them in time.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                _kill_family(self._process.pid)
                self._process.wait(KILL_SECONDS_MAX)

    def restart(self) -> None:
        """Stop the server if it runs, start it on the same port and data, and return when it answers.

        Raises DevStackError when it does not come back.
        """
        with self._lock:
            self.request_stop()
            self.wait_stopped()
            self.spawn()
            self.wait_ready()

    def signal(self, number: signal.Signals) -> None:
        """Send `number` to the server; raises DevStackError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise DevStackError("server is not running", server=self._spec.name)
        self._process.send_signal(number)

    def log_tail(self) -> str:
        """The last lines of what the server wrote since it was last started."""
        if not self._spec.log.exists():
            return ""
        with self._spec.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - LOG_TAIL_BYTES_MAX))
            return log.read().decode(errors="replace").strip()


def run_to_end(command: Sequence[str], log: Path, spawner: Executor, account: Account | None) -> None:
    """Run a program that ends by itself; raises DevStackError with the end of its log when it fails."""
    process = spawner.submit(_launch, command, log, signal.SIGKILL, account).result()
    try:
        code: int | None = process.wait(READY_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            _kill_family(process.pid)
            process.wait(KILL_SECONDS_MAX)
    if code != 0:
        tail = log.read_bytes()[-LOG_TAIL_BYTES_MAX:].decode(errors="replace").strip()
        raise DevStackError("program failed", server=Path(command[0]).name, log_tail=tail)


def end_leftovers(leftovers: Iterable[Leftover]) -> None:
    """End the processes of a dead stack that still run, and return when they are gone.

    Raises DevStackError when one of them belongs to another user or cannot be ended.
    """
    running = [one for one in leftovers if _is_same(one)]
    for one in running:
        _log.warning("ending a server left behind by an earlier run", extra={"pid": one.pid})
        _send(one.pid, one.stop_signal)
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while any(_is_same(one) for one in running) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for one in running:
        if _is_same(one):
            _kill_family(one.pid)


def process_identity(pid: int) -> str | None:
    """A text that no other process ever shares with this one, or None when no such process runs (a zombie does not)."""
    if Path("/proc/self/stat").exists():
        fields = _proc_stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{fields[19]}"
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    state, _, started = shown.stdout.strip().partition(" ")
    return started.strip() if state and not state.startswith("Z") else None


def _launch(
    command: Sequence[str], log: Path, death_signal: signal.Signals, account: Account | None
) -> subprocess.Popen[bytes]:
    death = int(death_signal) if DIE_WITH_PARENT else 0
    uid, gid = (account.uid, account.gid) if account is not None else (-1, -1)
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(death), str(os.getpid()), str(uid), str(gid)]
    passed_on = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    # Where spans go is said to the commands that start processes as it is to processes.
    environment = {name: text for name, text in os.environ.items() if name in passed_on or name.startswith("OTEL_")}
    environment["LANG"] = "C.UTF-8"
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
        return subprocess.Popen(  # noqa: S603
            [*launcher, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            # Ctrl-C reaches the whole foreground group, but the servers must outlive the drain of their users.
            start_new_session=True,
        )


def _kill_family(pid: int) -> None:
    # Children of Postgres leave its process group, so they are looked up. Without /proc they end by themselves, later.
    stats = {int(entry.name): _proc_stat(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}
    family = [pid, *(child for child, fields in stats.items() if fields is not None and int(fields[1]) == pid)]
    condemned = [Leftover(one, process_identity(one) or "", signal.SIGKILL) for one in family]
    deadline = time.monotonic() + KILL_SECONDS_MAX
    for one in condemned:
        if _is_same(one):
            _send(one.pid, signal.SIGKILL)
    while any(_is_same(one) for one in condemned):
        if time.monotonic() > deadline:
            raise DevStackError("process cannot be ended", fix=f"look why process {pid} does not die")
        time.sleep(POLL_SECONDS)


def _is_same(one: Leftover) -> bool:
    return bool(one.started) and process_identity(one.pid) == one.started


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself, which is what we wanted
    except PermissionError as error:
        raise DevStackError("process of another user is in the way", fix=f"end process {pid} as its user") from error


def _proc_stat(pid: int) -> list[str] | None:
    try:
        # The second field is the program's name in brackets and may hold blanks; the rest is regular.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _tries(attempt: Callable[[], bool]) -> bool:
    try:
        return attempt()
    except OSError:
        return False
