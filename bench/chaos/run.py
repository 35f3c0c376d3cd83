"""A chaos run from its first process to its verdict: set up, load, faults one after another, settle, judge.

- Everything that was started ends with the run, however that ends.
- The next fault waits for recovery from the one before, so each recovery is measured by itself."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import anyio
from msgspec import Struct

from zentra.bench.chaos.bank import Bank
from zentra.bench.chaos.consumer import Consumer
from zentra.bench.chaos.doors import Creates, NatsDoor, RecordedDoor
from zentra.bench.chaos.faults import Hit, inject
from zentra.bench.chaos.ground import (
    Ground,
    logs_flaws,
    read_commands,
    read_deliveries,
    read_feed,
    read_intents,
    read_routing,
)
from zentra.bench.chaos.keeping import EvidenceKept
from zentra.bench.chaos.load import Load
from zentra.bench.chaos.operators import Operators
from zentra.bench.chaos.plan import KINDS, VICTIMS, Fault, Planned, make_plan
from zentra.bench.chaos.rail import RAILS
from zentra.bench.chaos.report import Injected, Report, make_report
from zentra.bench.chaos.settling import packets_flaws, resolve, wait_recovered, wait_settled
from zentra.bench.chaos.site import Rails, Site, set_up
from zentra.bench.chaos.stewards import Stewards
from zentra.bench.histories.recording import Recorder
from zentra.bench.histories.verifying import verify
from zentra.gateway.installation.installation import Installation
from zentra.gateway.installation.seed import TENANTS
from zentra.gateway.listening import listening
from zentra.runtime.partitions import partition_of
from zentra.storage.audit import audit_installation
from zentra.storage.migrate import PARTITIONS
from zentra.streams.connection import connect

__all__ = ["Options", "run_chaos"]

RECOVERY_SECONDS_MAX: Final = 60.0  # how long a run waits for what should take ten or twenty

Say = Callable[[str], None]


class Options(Struct, frozen=True, kw_only=True):
    """What to run. `history` is where requests and answers are written down, `logs` a directory for the logs of the
    processes; None is nowhere that stays."""

    seed: int
    seconds: float
    faults: tuple[Fault, ...] = tuple(Fault)
    rate: float = 40.0
    history: Path | None = None
    logs: Path | None = None


def run_chaos(options: Options, say: Say) -> Report:
    """Run everything and return the report; raises ValueError for a plan without faults, and what starting raises."""
    plan = make_plan(options.seed, options.seconds, options.faults)
    say(f"starting an installation with {VICTIMS} workers; {len(plan)} faults are planned")
    with (
        tempfile.TemporaryDirectory(prefix="zentra-chaos-") as made,
        Rails(scratch := Path(made)) as rails,
        Installation(
            workers=VICTIMS, sandbox=False, log_dir=options.logs,
            overrides={"evidence_key": (kept := EvidenceKept(scratch)).setting},
        ) as installation,
    ):  # fmt: skip
        run = partial(_run, options, plan, installation, rails, kept, scratch, say)
        return anyio.run(run, backend_options={"use_uvloop": True})


async def _run(
    options: Options,
    plan: Sequence[Planned],
    installation: Installation,
    rails: Rails,
    kept: EvidenceKept,
    scratch: Path,
    say: Say,
) -> Report:
    consumer = Consumer()
    async with AsyncExitStack() as opened:
        hook = await opened.enter_async_context(listening(consumer))
        site = await opened.enter_async_context(Site.opened(installation, rails, consumer))
        nats_urls = {tenant: installation.nats_url(tenant) for tenant in TENANTS}
        nats = await opened.enter_async_context(NatsDoor(nats_urls))
        await set_up(site, hook)
        await kept.anchor(site.pool)
        recorder = opened.enter_context(Recorder(options.history or scratch / "history.jsonl"))
        doors: dict[str, Creates] = {
            name: RecordedDoor(name, door, recorder) for name, door in (("http", site.http), ("nats", nats))
        }
        load = Load(options.seed, options.rate, doors)
        bank = Bank(site.pool, site.http, lambda: load.asked, options.seed)
        operators = Operators(site.http, lambda: load.asked, options.seed)
        stewards = Stewards(site, kept, options.seed)
        say(f"load runs at {options.rate:g} intents per second")
        injected = await _under_fire(site, (load, bank, operators, stewards), options, plan, say)
        say("faults are over; what was not acknowledged is looked up")
        read_back = await resolve(load, site.http, options.seed)
        settled = await wait_settled(site, _telling(say))
        say("reading the books, the rails' records and the feed")
        ground = await _ground(site, kept, load, read_back, settled, options.seed)
        ground.readings, ground.operators = bank.readings, dict(sorted((operators.heard + stewards.heard).items()))
        say("checking the history of both doors against the store")
        history = await verify(installation, recorder)
        ground.history_calls = history.calls
        ground.history_wrongs = [f"{wrong.rule}: {wrong.detail}" for wrong in history.violations]
    return make_report(options.seed, options.seconds, injected, ground)


class Runs(Protocol):
    """Something that goes on beside the faults."""

    async def run(self) -> None:
        """Go on until stopped."""
        ...

    def stop(self) -> None:
        """Come to an end soon."""
        ...


async def _under_fire(
    site: Site, beside: Sequence[Runs], options: Options, plan: Sequence[Planned], say: Say
) -> list[Injected]:
    """Run what goes on beside the faults, and one fault after another; return what was done."""
    begun = time.time()
    injected: list[Injected] = []
    async with asyncio.TaskGroup() as group:
        for one in beside:
            group.create_task(one.run())
        try:
            for planned in plan:
                await asyncio.sleep(max(0.0, begun + planned.at - time.time()))
                injected.append(await _one(site, planned, begun, say))
            await asyncio.sleep(max(0.0, begun + options.seconds - time.time()))
        finally:
            for one in beside:
                one.stop()
    return injected


async def _one(site: Site, planned: Planned, begun: float, say: Say) -> Injected:
    hit = await inject(site, planned)
    recovery = await wait_recovered(
        site, hit.ended_at, rail=hit.rail, wanted=_concerned(hit), seconds_max=RECOVERY_SECONDS_MAX
    )
    done = Injected(
        hit_at=hit.hit_at,
        ended_at=hit.ended_at,
        fault=hit.fault,
        at=round(hit.hit_at - begun, 2),
        lasted=round(hit.ended_at - hit.hit_at, 2),
        recovery_seconds=recovery,
        recovery_seconds_max=KINDS[hit.fault].recovery_seconds_max,
        victim=hit.worker or hit.rail,
        note=hit.note,
        wrong=hit.wrong,
    )
    recovered = "no recovery" if recovery is None else f"recovered in {recovery:.2f} s"
    say(f"{done.at:7.1f} s  {done.fault:<20} {done.victim:<14} lasted {done.lasted:5.1f} s  {recovered}  {done.note}")
    return done


def _concerned(hit: Hit) -> Callable[[str], bool]:
    """Return which intents show recovery: for a worker, those of the partitions that it had owned."""
    partitions = frozenset(hit.partitions)
    return lambda uuid: not partitions or partition_of(uuid, PARTITIONS) in partitions


def _telling(say: Say) -> Callable[[tuple[int, ...]], None]:
    """Return what tells about what is left, whenever that changes, but not more often than each two seconds."""
    said: list[float] = [0.0]

    def told(left: tuple[int, ...]) -> None:
        if any(left) and time.monotonic() - said[0] >= 2:
            said[0] = time.monotonic()
            names = ("intents", "messages", "deliveries", "leaves", "contradictions and recoveries")
            say("not settled: " + ", ".join(f"{count} {name}" for name, count in zip(names, left, strict=True)))

    return told


async def _ground(
    site: Site, kept: EvidenceKept, load: Load, read_back: dict[str, bool], settled: float | None, seed: int
) -> Ground:
    ring = await kept.ring(site.pool)
    packets, flaws = await packets_flaws(site, ring, load.asked, seed)
    flaws += await logs_flaws(site.pool, ring) + await kept.rotated(site.pool)
    flaws += await kept.flaws(site.installation.environment_path)
    client = await connect(site.installation.settings.nats_url, name="chaos reader")
    try:
        feed = await read_feed(client)
    finally:
        await client.close()
    return Ground(
        asked=load.asked,
        intents=await read_intents(site.pool),
        payments=await asyncio.to_thread(site.rails.payments),
        commands=await read_commands(site.pool),
        deliveries=await read_deliveries(site.pool),
        arrived=site.consumer.arrived,
        feed=feed,
        audit=await audit_installation(site.pool),
        read_back=read_back,
        plain_rails=frozenset(name for name, kind in RAILS.items() if not kind.idempotent),
        evidence_flaws=flaws,
        packets=packets,
        exports=len(kept.exports),
        routing=await read_routing(site.pool),
        unsettled_seconds=settled,
        given_up=site.installation.processes.given_up or "",
    )
