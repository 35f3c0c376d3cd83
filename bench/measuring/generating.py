"""Running the generator: as many processes as asked for, started together, and one report of them all.

The ceiling is the same generator against the null server: a rate close to it was limited by the generator. It is a
property of how requests are cut and sent, so one measurement of it serves all loads that are sent alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from zentra.bench.measuring.load import Load
from zentra.bench.measuring.sidecar import Sidecar, sidecar
from zentra.bench.measuring.tally import LoadReport, merge_reports
from zentra.bench.measuring.workload import Mix

__all__ = ["Ceiling", "Ceilings", "GeneratorFault", "generate", "measure_ceiling"]

START_AFTER_SECONDS: Final = 0.1  # so that every process has heard of the start before it
CEILING_INTENTS: Final = 20_000
CEILING_IN_FLIGHT_MIN: Final = 64


class GeneratorFault(Exception):
    """Raised where a load could not be sent at all; the sentence says why."""


class Ceiling(msgspec.Struct, frozen=True):
    """What the generator does against the null server: intents per second, and CPU microseconds per intent."""

    per_second: float
    cpu_us_per_intent: float


class Ceilings:
    """The ceilings of this machine's generator, each measured when it is first asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int], Ceiling] = {}

    async def of(self, load: Load, processes: int = 1) -> Ceiling:
        """Return the ceiling of loads that are sent like this one. Raises as `generate`."""
        alike = (load.transport, load.batch, _in_flight(load), processes)
        if alike not in self._known:
            self._known[alike] = await measure_ceiling(load, processes)
        return self._known[alike]


async def generate(
    load: Load,
    processes: int = 1,
    progress: Callable[[int], None] = lambda answered: None,
    started: Callable[[float, list[int]], Any] = lambda starts_at, pids: None,
) -> LoadReport:
    """Send the load from that many processes; return the report of all of them together.

    `started` is told the unix time of the start and the process ids. Raises GeneratorFault and SidecarFailed."""
    async with AsyncExitStack() as stack:
        helpers = [await stack.enter_async_context(sidecar("generator")) for _ in range(processes)]
        for share, helper in enumerate(helpers):
            helper.say(replace(load, share=share, shares=processes))
        for helper in helpers:
            _checked(await helper.hear())
        starts_at = time.time() + START_AFTER_SECONDS
        for helper in helpers:
            helper.say(starts_at)
        started(starts_at, [helper.pid for helper in helpers])
        answered = [0] * processes

        async def follow(number: int, helper: Sidecar) -> LoadReport:
            while True:
                told = _checked(await helper.hear())
                if "report" in told:
                    return msgspec.convert(told["report"], LoadReport, strict=False)
                answered[number] = told["answered"]
                progress(sum(answered))

        return merge_reports(await asyncio.gather(*(follow(*numbered) for numbered in enumerate(helpers))))


async def measure_ceiling(load: Load, processes: int = 1) -> Ceiling:
    """Return what this generator could do with this load if the server cost nothing. Raises as `generate`."""
    async with sidecar("null") as server:
        ports = await server.hear()
        scheme = "nats" if load.transport == "nats" else "http"
        plain = replace(
            load, url=f"{scheme}://127.0.0.1:{ports[scheme]}", nats_url=f"nats://127.0.0.1:{ports['nats']}",
            intents=CEILING_INTENTS, rate=0.0, phases=(), second=None, mix=Mix(), wait_seconds=0, watch_url="",
            in_flight=_in_flight(load),
        )  # fmt: skip
        report = await generate(plain, processes)
    if report.refused:
        raise GeneratorFault(f"the null server was misunderstood: {report.refusals}")
    return Ceiling(round(report.accepted / report.seconds), round(report.cpu_seconds / report.accepted * 1e6, 1))


def _in_flight(load: Load) -> int:
    """Return how many are unanswered where the ceiling is looked for: one at a time would measure the round trip."""
    return max(load.in_flight, CEILING_IN_FLIGHT_MIN)


def _checked(told: dict[str, Any]) -> dict[str, Any]:
    if "fault" in told:
        raise GeneratorFault(told["fault"])
    return told
