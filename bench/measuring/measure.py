"""One measured load on a test stand: the generator in processes of its own, the wait for the last stage, the figures.

An intent counts as completed when its packet stands in the tenant's log. Stage latencies are read from the records, so
they are what the runtime saw. The latency of answers comes from the generator; that of SUCCESSFUL from a client that
watches the event stream, where the plan has one, else from the records."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Final

import msgspec
import uvloop

from zentra.bench.measuring.correctness import check_load
from zentra.bench.measuring.footprint import bytes_each, read_footprint
from zentra.bench.measuring.generating import Ceilings, generate
from zentra.bench.measuring.load import Load
from zentra.bench.measuring.measured import Measured, Seen, machine, summed_up
from zentra.bench.measuring.plans import Plan
from zentra.bench.measuring.resources import Sampler
from zentra.bench.measuring.spans import intents_of, read_spans
from zentra.bench.measuring.stand import POLL_SECONDS, TENANTS, Progress, Stand, open_stand
from zentra.bench.measuring.tally import LoadReport
from zentra.bench.measuring.transports import HTTP_CONNECTIONS_MAX, Target
from zentra.storage.reads.bench import intents_sealed, stage_latencies

__all__ = ["Measured", "Plan", "as_json", "measure", "measure_on"]

REPORT_SECONDS: Final = 10.0  # before the end of the time for a run: the generator gives up and reports
WAIT_SECONDS: Final = 20  # one at a time: how long an intent may take until it is SUCCESSFUL


def measure(plan: Plan, progress: Progress = lambda label, done, total: None) -> Measured:
    """Run the plan on an installation of its own and return its figures, with the generator's own ceiling.

    Raises DevStackError, GeneratorFault, SidecarFailed, RuntimeError and, where the load does not come to its end in
    time, TimeoutError."""

    async def run() -> Measured:
        async with open_stand(plan, progress) as stand:
            return await measure_on(stand, plan, Ceilings(), progress)

    return uvloop.run(run())


async def measure_on(
    stand: Stand,
    plan: Plan,
    ceilings: Ceilings,
    progress: Progress = lambda label, done, total: None,
    *,
    whole: bool = True,
) -> Measured:
    """Run the plan on a stand that has what it needs, and return its figures, which count where they are far enough
    below the generator's ceiling: of `ceilings`, which remembers it. With `whole` everything in the store is
    checked, not only what the run has added, which takes minutes where millions were there before. Raises as
    `measure`."""
    stand.loads += 1
    load = _load(stand, plan)
    progress("generator's ceiling", 0, 1)
    above = await ceilings.of(load, plan.generators)
    sampler = Sampler(stand.groups)
    before, kept_before = sampler.totals(), await read_footprint(stand)
    async with sampler.running():
        run = await _Run(stand, plan, load, progress).finished()
    used = sampler.totals()
    kept = bytes_each(kept_before, await read_footprint(stand), run.completed)
    spans = await read_spans(stand.pool, load.prefix, run.report.started_at)
    _, stages = await stage_latencies(stand.pool, TENANTS[0], run.report.started_at)
    progress("checks", 0, 1)
    checks = await check_load(
        stand.pool, stand.installation, load=load, report=run.report, tenants=TENANTS, taken=await stand.taken(),
        whole=whole,
    )  # fmt: skip
    seen = Seen(
        report=run.report, spans=spans, checks=checks, completed=run.completed, seconds=run.seconds, stages=stages,
        before=before, used=used, bytes_each=kept, samples=sampler.samples, ceiling=above,
        machine=await asyncio.to_thread(machine),
    )  # fmt: skip
    return summed_up(plan, seen)


class _Run:
    """One load on its way."""

    def __init__(self, stand: Stand, plan: Plan, load: Load, progress: Progress) -> None:
        self._stand, self._plan, self._load, self._progress = stand, plan, load, progress
        self.report: LoadReport
        self.completed = 0
        self.seconds = 0.0

    async def finished(self) -> _Run:
        """Generate, and wait for the last leaf; raises TimeoutError, which says how far it came."""
        try:
            return await self._finish()
        except TimeoutError:
            sent = f"{self.completed:,} of {self._plan.sends:,} intents had reached their last stage"
            raise TimeoutError(f"{sent} after {self._plan.seconds_max:g} s") from None

    async def _finish(self) -> _Run:
        stand, plan = self._stand, self._plan
        before = await stand.leaves()
        operator = asyncio.create_task(stand.operate()) if plan.mix.reviews else None
        generating = asyncio.create_task(generate(self._load, plan.generators, started=self._started))
        try:
            async with asyncio.timeout(plan.seconds_max):
                made: int | None = None
                ended_at = math.inf
                while made is None or self.completed < made:
                    await asyncio.sleep(POLL_SECONDS)
                    if made is None and generating.done():
                        self.report = generating.result()
                        made = await intents_of(stand.pool, self._load.prefix)
                    if operator is not None and operator.done():
                        operator.result()
                    ended_at, self.completed = time.time(), await stand.leaves() - before
                    if made is not None and self.completed >= made:  # leaves of addenda may be among them
                        self.completed = await intents_sealed(stand.pool, self._load.prefix)
                    self._progress("intents", self.completed, plan.sends)
                self.seconds = ended_at - self.report.started_at
        finally:
            stand.generators = []
            for task in (generating, operator):
                if task is not None and not task.done():
                    task.cancel()
                    await asyncio.wait([task])
        return self

    def _started(self, starts_at: float, pids: list[int]) -> None:
        self._stand.generators = pids
        outage, endpoint = self._plan.outage, self._stand.endpoint
        if outage is not None and endpoint is not None:
            endpoint.say({"down_from": starts_at + outage[0], "down_to": starts_at + outage[1]})


def _load(stand: Stand, plan: Plan) -> Load:
    """Return the plan's load, addressed to the stand."""
    installation = stand.installation
    queues = plan.transport in ("nats", "both")  # and not one request per connection

    def target(tenant: str) -> Target:
        if plan.transport == "nats":
            return Target(installation.nats_url(tenant))
        return Target(installation.base_url, installation.keys[tenant]["dev"], installation.nats_url(tenant))

    first = target(TENANTS[0])
    return Load(
        transport=plan.transport,
        url=first.url,
        key=first.key,
        nats_url=first.nats_url,
        second=target(TENANTS[1]) if plan.mix.second_tenant else None,
        tenants=TENANTS if plan.mix.second_tenant else TENANTS[:1],
        intents=plan.intents,
        phases=plan.phases,
        poisson_seed=7 + stand.loads if plan.poisson else None,
        in_flight=plan.in_flight if queues or plan.phases else min(plan.in_flight, HTTP_CONNECTIONS_MAX),
        batch=1 if plan.transport == "http" else plan.batch,
        sources=stand.sources,
        destinations=stand.destinations[:1] if plan.hot else stand.destinations,
        prefix=f"load{stand.loads:04d}",
        seed=7 + stand.loads,
        mix=plan.mix,
        comes_back=plan.comes_back,
        wait_seconds=WAIT_SECONDS if plan.one_at_a_time else 0,
        watch_url=installation.settings.nats_url if plan.watch else "",
        watch_seconds=plan.seconds_max - REPORT_SECONDS,
    )


def as_json(measured: Measured) -> str:
    """Return the figures as a JSON document."""
    return json.dumps(msgspec.to_builtins(measured, str_keys=True), indent=2)
