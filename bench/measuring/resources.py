"""What the processes of a measurement use, sampled from /proc: CPU share and memory over time.

Memory of a group such as Postgres is what its processes have for themselves plus the largest shared part, because every
process counts the shared buffers as its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

__all__ = ["OTHERS", "ResourceSample", "Sampler", "Usage", "busy_seconds", "children_of", "usage_of"]

OTHERS: Final = "everything else"  # on this machine: what the measured processes had to share it with
SAMPLE_SECONDS: Final = 0.5
SAMPLES_MAX: Final = 4_000  # half an hour; a longer run keeps every second sample from there on
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE_MIB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20

Groups = Callable[[], Mapping[str, Iterable[int]]]


class Usage(Struct, frozen=True):
    """CPU seconds since the processes began, and MiB of memory now."""

    cpu_seconds: float
    memory_mib: float


class ResourceSample(Struct, frozen=True):
    """One look: seconds since the start, and by process group the cores it kept busy since the last look, and MiB."""

    second: float
    cores: dict[str, float]
    memory_mib: dict[str, float]


def children_of(pid: int) -> list[int]:
    """Return the children of a process; none where it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def usage_of(pids: Iterable[int]) -> Usage:
    """Return what the processes use together; those that are gone count for nothing."""
    cpu = private = shared = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            resident, common = (int(pages) for pages in Path(f"/proc/{pid}/statm").read_text().split()[1:3])
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICK
        private += (resident - common) * _PAGE_MIB
        shared = max(shared, common * _PAGE_MIB)
    return Usage(cpu, private + shared)


def busy_seconds() -> float:
    """Return for how many core seconds this machine was busy since it started, whoever it was."""
    user, nice, system, _, _, irq, softirq = (int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICK


class Sampler:
    """Looks at groups of processes again and again; `groups` is asked each time, because processes come and go."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._step = 1
        self.samples: list[ResourceSample] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample while the context is open."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def totals(self) -> dict[str, Usage]:
        """Return the use of each group as of now."""
        return {name: usage_of(pids) for name, pids in self._groups().items()}

    async def _run(self) -> None:
        started = last = time.monotonic()
        before, was_busy = self.totals(), busy_seconds()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS * self._step)
            now, totals, busy = time.monotonic(), self.totals(), busy_seconds()
            cores = {
                name: round(max(0.0, usage.cpu_seconds - before[name].cpu_seconds) / (now - last), 3)
                for name, usage in totals.items()
                if name in before
            }
            cores[OTHERS] = round(max(0.0, (busy - was_busy) / (now - last) - sum(cores.values())), 3)
            memory = {name: round(usage.memory_mib, 1) for name, usage in totals.items()}
            self.samples.append(ResourceSample(round(now - started, 2), cores, memory))
            if len(self.samples) > SAMPLES_MAX:
                self.samples, self._step = self.samples[::2], self._step * 2
            before, last, was_busy = totals, now, busy
