"""Where a rehearsal takes place: the doors of an installation, the people who knock, and what may be broken of it.

- A live installation is refused by its keys, before anything is asked of it.
- What a site cannot do (end a worker, empty Redis, take a rail away) is None; incidents that need it are left out and
  say so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
from msgspec import Struct

from zentra.gateway.devstack.directory import LOOPBACK
from zentra.gateway.devstack.processes import Leftover, process_identity
from zentra.gateway.installation.files import InstallationFiles
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.key_files import key_ring_of_file
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.keys import parse_key
from zentra.storage.caching import empty_redis

__all__ = ["Cast", "Machinery", "Site", "SiteRefused", "embedded_site", "refuse_live", "running_site"]

HOME, ABROAD = "acme", "globex"  # of a development installation: who acts, and who has no business there
PAUSE_SECONDS: Final = 0.1


class SiteRefused(Exception):
    """Raised for a site where nothing can be rehearsed; the sentence names the fix."""


class Cast(Struct, frozen=True):
    """The API keys of those who take part."""

    creator: str  # asks for money to move
    operator: str  # of the same tenant: decides, resolves, replays, and funds what is opened
    stranger: str = ""  # an operator of another tenant


class Machinery(Protocol):
    """What may be broken of an installation on this machine."""

    async def crash_worker(self) -> str:
        """End a worker with SIGKILL and return its name once it is gone."""
        ...

    async def await_worker(self, name: str) -> None:
        """Return when a worker that crashed has been started again."""
        ...

    async def empty_redis(self) -> None:
        """Forget every key of Redis. Raises OSError where it is away."""
        ...


class Site(Struct, frozen=True):
    """An installation as a rehearsal sees it."""

    base_url: str
    cast: Cast
    keys: KeyRing | None = None  # that check evidence; without them evidence is fetched and not verified
    sandbox_url: str = ""
    machinery: Machinery | None = None
    currency: str = "NGN"
    review_minor: int = 15_000_000  # an amount that a limit of the tenant refers to a person


def refuse_live(cast: Cast) -> None:
    """Raise SiteRefused where one of the keys opens a live installation."""
    told = [parse_key(key) for key in (cast.creator, cast.operator, cast.stranger) if key]
    if any(key is not None and key.live for key in told):
        raise SiteRefused("these keys are live: money would move; rehearse with test keys on another installation")


def embedded_site(installation: Installation) -> Site:
    """Return the site of an installation that this process owns."""
    home, abroad = installation.keys[HOME], installation.keys[ABROAD]
    return Site(
        base_url=installation.base_url,
        cast=Cast(home["dev"], home["ops"], abroad["ops"]),
        keys=key_ring_of_file(installation.public_key_path.read_bytes()),
        sandbox_url=installation.sandbox_url,
        machinery=_Owned(installation),
    )


def running_site(data_dir: Path) -> Site:
    """Return the site of the `zentra dev --data-dir` that runs on this directory; raise SiteRefused where none does."""
    directory = data_dir / "installation"
    if not directory.is_dir():
        raise SiteRefused(
            f"{data_dir} is no data directory of `zentra dev`; start one: zentra dev --data-dir {data_dir}"
        )
    files = InstallationFiles(directory)
    running, ports, keys = files.read("processes"), files.read("ports"), files.read("keys")
    if not any(process_identity(one["pid"]) == one["started"] for one in running.values()):
        raise SiteRefused(f"nothing runs on {data_dir}; start it: zentra dev --data-dir {data_dir}")
    return Site(
        base_url=f"http://{LOOPBACK}:{ports['gateway-1']}",
        cast=Cast(keys[HOME]["dev"], keys[HOME]["ops"], keys[ABROAD]["ops"]),
        keys=key_ring_of_file(files.public_key.read_bytes()),
        sandbox_url=f"http://{LOOPBACK}:{ports['sandbox-1']}" if "sandbox-1" in running else "",
        machinery=_Neighbour(files),
    )


class _Owned:
    """An installation of this process."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    async def crash_worker(self) -> str:
        await anyio.to_thread.run_sync(self._installation.kill_worker)
        return "worker-1"

    async def await_worker(self, name: str) -> None:
        await anyio.to_thread.run_sync(self._installation.processes.start, name)

    async def empty_redis(self) -> None:
        await empty_redis(self._installation.redis_url)


class _Neighbour:
    """A `zentra dev` beside this process; it starts again what ends unasked."""

    def __init__(self, files: InstallationFiles) -> None:
        self._files = files
        self._ended: dict[str, Leftover] = {}

    async def crash_worker(self) -> str:
        name = "worker-1"
        worker = self._read(name)
        if worker is None:
            raise SiteRefused("worker-1 does not run; see its log in the data directory")
        os.kill(worker.pid, signal.SIGKILL)
        self._ended[name] = worker
        await _until(lambda: process_identity(worker.pid) != worker.started)
        return name

    async def await_worker(self, name: str) -> None:
        before = self._ended[name]
        await _until(lambda: self._read(name) not in (None, before))

    async def empty_redis(self) -> None:
        url = (self._files.directory / "setting.redis_url").read_text(encoding="utf-8")
        await empty_redis(url)

    def _read(self, name: str) -> Leftover | None:
        """Return a process that is written down and runs."""
        known: Any = self._files.read("processes").get(name)
        if known is None:
            return None
        found = Leftover(**known)
        return found if process_identity(found.pid) == found.started else None


async def _until(condition: Callable[[], bool]) -> None:
    """Return once a condition holds that nobody announces: it is another process's."""
    holds = condition()
    while not holds:
        await anyio.sleep(PAUSE_SECONDS)
        holds = condition()
