"""The gateway, worker and sandbox processes of an installation on one machine, kept alive until they are not wanted.

- A process that ends unasked is started again, at most `DEATHS_MAX` times in `DEATHS_SECONDS`; then it is given up and
  said so.
- A process dies with its owner where the kernel offers that, and else with the next start on the same directory.
- Settings reach a process through its environment, and secrets through files; neither is on its command line.
"""

from __future__ import annotations

import http.client
import logging
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from zentra.gateway.devstack.directory import LOOPBACK
from zentra.gateway.devstack.processes import DevStackError, Leftover, ServerProcess, ServerSpec

__all__ = ["Processes"]

logger = logging.getLogger(__name__)

DEATHS_MAX: Final = 5
DEATHS_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 0.2
PROBE_SECONDS_MAX: Final = 1.0


class _Member:
    """One process, and whether it is meant to run."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.wanted = False
        self.deaths: deque[float] = deque()


class Processes:
    """A group of `zentra` processes by name."""

    def __init__(self, log_dir: Path, on_change: Callable[[Mapping[str, Leftover]], None]) -> None:
        """`on_change` is given every process that runs, after each start."""
        self._log_dir = log_dir
        self._on_change = on_change
        self._members: dict[str, _Member] = {}
        # The kernel ties a child's life to the thread that forked it, so one thread that stays forks them all.
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="installation")
        self._watcher = threading.Thread(target=self._watch, name="installation-watch", daemon=True)
        self._over = threading.Event()
        self._lock = threading.RLock()
        self.given_up: str | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def add(self, name: str, variables: Mapping[str, str], arguments: tuple[str, ...], port: int, path: str) -> None:
        """Make a process known, without starting it; it is ready when `path` on its `port` answers 200."""
        log = self._log_dir / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        settings = (f"{variable}={value}" for variable, value in variables.items())
        spec = ServerSpec(
            name=name,
            command=("/usr/bin/env", *settings, sys.executable, "-m", "zentra.gateway", *arguments),
            log=log,
            port=port,
            answers=partial(_answers, port, path),
            stop_signal=signal.SIGTERM,
        )
        self._members[name] = _Member(ServerProcess(spec, self._spawner, self._changed))

    def start_all(self) -> None:
        """Start every process at once and return when each is ready; raises DevStackError where one is not."""
        for member in self._members.values():
            member.server.spawn()
        for member in self._members.values():
            member.server.wait_ready()
            member.wanted = True
        if not self._watcher.is_alive():
            self._watcher.start()

    def start(self, name: str) -> None:
        """Start one process and return when it is ready; one that runs is left alone. Raises DevStackError."""
        with self._lock:
            member = self._member(name)
            if member.server.pid is None:
                member.server.spawn()
            member.server.wait_ready()
            member.wanted = True

    def kill(self, name: str) -> None:
        """End one process at once, as a crash would, and do not start it again. Raises DevStackError."""
        with self._lock:
            member = self._member(name)
            member.wanted = False
            member.server.kill()

    def restart_all(self) -> None:
        """Stop every process cleanly and start it again; return when all are ready. Raises DevStackError."""
        with self._lock:
            self._stop_all()
            self.start_all()

    def pid(self, name: str) -> int | None:
        """Return the process id while the process runs, else None. Raises DevStackError for an unknown name."""
        return self._member(name).server.pid

    def log_path(self, name: str) -> Path:
        """Return where a process writes its log. Raises DevStackError for an unknown name."""
        return self._member(name).server.log_path

    def close(self) -> None:
        """Stop every process, cleanly where it obeys in time, and forget about them."""
        self._over.set()
        with ExitStack() as steps:  # last in, first out; a step that fails keeps none from running
            steps.callback(self._spawner.shutdown)
            steps.callback(self._changed)
            if self._watcher.is_alive():
                self._watcher.join()
            with self._lock:
                self._stop_all()

    def _stop_all(self) -> None:
        with ExitStack() as steps:
            for member in self._members.values():
                member.wanted = False
                member.server.request_stop()
                steps.callback(member.server.wait_stopped)

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            with self._lock:
                for name, member in self._members.items():
                    if member.wanted and member.server.pid is None:
                        self._revive(name, member)

    def _revive(self, name: str, member: _Member) -> None:
        now = time.monotonic()
        member.deaths.append(now)
        while member.deaths[0] < now - DEATHS_SECONDS:
            member.deaths.popleft()
        if len(member.deaths) > DEATHS_MAX:
            member.wanted = False
            self.given_up = name
            logger.critical("process ends again and again and is given up", extra={"server": name})
            return
        logger.error(
            "process ended unasked and is started again",
            extra={"server": name, "log": str(member.server.log_path), "tail": member.server.log_tail()[-1000:]},
        )
        member.server.spawn()

    def _changed(self) -> None:
        running = {name: member.server.leftover for name, member in self._members.items()}
        self._on_change({name: leftover for name, leftover in running.items() if leftover is not None})

    def _member(self, name: str) -> _Member:
        try:
            return self._members[name]
        except KeyError:
            raise DevStackError("no such process", server=name, fix=f"one of {', '.join(self._members)}") from None


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS_MAX)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except http.client.HTTPException as error:
        raise OSError("answer broke off") from error
    finally:
        connection.close()
