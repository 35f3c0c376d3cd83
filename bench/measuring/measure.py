"""One measured load: an installation, accounts, a generator in its own process, and the wait for the last stage.

An intent counts as completed when its leaf stands in the tenant's log. Stage latencies are read from the records, so
they are what the runtime saw; the latency of answers comes from the generator."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import anyio
import msgspec
from msgspec import Struct

from zentra.bench.measuring.generator import Load, LoadReport
from zentra.gateway.installation.installation import Installation
from zentra.storage.audit import audit_installation
from zentra.storage.pool import Pool, open_pool
from zentra.storage.reads.bench import leaves_logged, stage_latencies

__all__ = ["Measured", "Plan", "as_json", "measure"]

TENANT: Final = "acme"
FUNDS_MINOR: Final = 10_000_000_000
SETUP_IN_FLIGHT: Final = 64
POLL_SECONDS: Final = 0.05

Progress = Callable[[str, int, int], None]


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure. `rail` "inline" answers as an event without HTTP, "sandbox" over HTTP with signed callbacks."""

    transport: str = "nats"
    intents: int = 30_000
    rate: float = 0.0
    batch: int = 100
    in_flight: int = 4_096
    accounts: int = 2_000
    hot: bool = False
    rail: str = "inline"
    workers: int = 1
    gateways: int = 1
    seconds_max: float = 300.0


class Measured(Struct, frozen=True, kw_only=True):
    """The figures of one run. Latencies are milliseconds from the accepted record to SUCCESSFUL."""

    intents: int
    accepted: int
    completed: int
    completed_per_second: float
    accepted_per_second: float
    seconds: float
    p50_ms: float
    p99_ms: float
    answer_p50_ms: float
    answer_p99_ms: float
    sent_late: int
    stages: dict[str, dict[str, float]]
    cpu_seconds: dict[str, float]
    memory_mib: dict[str, float]
    refusals: dict[str, int]
    invariants: str
    breaches: list[str]


def measure(plan: Plan, progress: Progress = lambda label, done, total: None) -> Measured:
    """Run the plan on an embedded installation of its own and return its figures."""
    with Installation(workers=plan.workers, gateways=plan.gateways, sandbox=plan.rail == "sandbox") as installation:
        return anyio.run(_measure, plan, installation, progress, backend_options={"use_uvloop": True})


async def _measure(plan: Plan, installation: Installation, progress: Progress) -> Measured:
    half = max(1, plan.accounts // 2)
    sources = tuple(f"bench-customer-{n}" for n in range(half))
    destinations = tuple(f"bench-merchant-{n}" for n in range(1 if plan.hot else half))
    await _open_accounts(installation, sources, destinations, progress)
    async with await open_pool(installation.postgres_admin_url, name="zentra bench", connections_max=2) as pool:
        before = await _funded(pool, installation, sources, progress)
        usage = _usage(installation)
        report, completed, seconds = await _drive(plan, installation, pool, before, sources, destinations, progress)
        used = _usage(installation)
        overall, stages = await stage_latencies(pool, TENANT, report.started_at)
        audit = await audit_installation(pool)
    accounted = completed == report.accepted
    breaches = [f"{b.letter} {b.where}: {b.detail}" for b in audit.breaches]
    if not accounted:
        breaches.append(f"T {report.accepted} intents accepted, {completed} reached their last stage")
    return Measured(
        intents=plan.intents,
        accepted=report.accepted,
        completed=completed,
        completed_per_second=round(completed / seconds, 1),
        accepted_per_second=round(report.accepted / report.seconds, 1),
        seconds=round(seconds, 3),
        p50_ms=overall[0],
        p99_ms=overall[1],
        answer_p50_ms=report.p50_ms,
        answer_p99_ms=report.p99_ms,
        sent_late=report.sent_late,
        stages=stages,
        cpu_seconds={name: round(cpu - usage[name][0], 2) for name, (cpu, _) in used.items() if name in usage},
        memory_mib={name: round(memory, 1) for name, (_, memory) in used.items()},
        refusals=report.refusals,
        invariants="ok" if not breaches else "broken",
        breaches=breaches,
    )


async def _open_accounts(
    installation: Installation, sources: tuple[str, ...], destinations: tuple[str, ...], progress: Progress
) -> None:
    """Open the accounts over HTTP, as a client would."""
    bodies = [{"account_id": name, "owner": "bench", "type": "customer", "currency": "NGN"} for name in sources]
    bodies += [{"account_id": name, "owner": "bench", "type": "merchant", "currency": "NGN"} for name in destinations]
    headers = {"authorization": f"Bearer {installation.keys[TENANT]['dev']}"}
    limit = anyio.CapacityLimiter(SETUP_IN_FLIGHT)
    done = 0

    async def open_one(session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        nonlocal done
        async with limit:
            key = {"x-idempotency-key": f"open-{body['account_id']}"}
            async with session.post(f"{installation.base_url}/accounts", json=body, headers=headers | key) as response:
                if response.status != 201:
                    raise RuntimeError(f"an account was refused: {response.status} {await response.text()}")
        done += 1
        progress("accounts", done, len(bodies))

    async with aiohttp.ClientSession() as session, anyio.create_task_group() as group:
        for body in bodies:
            group.start_soon(open_one, session, body)


async def _funded(pool: Pool, installation: Installation, sources: tuple[str, ...], progress: Progress) -> int:
    """Fund every customer by a book transfer of its own; return how many leaves the log then has."""
    start = await leaves_logged(pool, TENANT)
    load = Load(
        transport="http",
        url=installation.base_url,
        key=installation.keys[TENANT]["ops"],
        intents=len(sources),
        in_flight=SETUP_IN_FLIGHT,
        sources=("liquidity-ngn",),
        destinations=sources,
        each_destination=True,
        minor_fixed=FUNDS_MINOR,
        kind="book_transfer",
        prefix="fund",
    )
    report = await _generate(load)
    if report.accepted != len(sources):
        raise RuntimeError(f"funding was refused: {report.refusals}")
    while (now := await leaves_logged(pool, TENANT)) < start + len(sources):
        progress("funding", now - start, len(sources))
        await anyio.sleep(POLL_SECONDS)
    return now


async def _drive(
    plan: Plan,
    installation: Installation,
    pool: Pool,
    before: int,
    sources: tuple[str, ...],
    destinations: tuple[str, ...],
    progress: Progress,
) -> tuple[LoadReport, int, float]:
    """Run the generator and wait for the last leaf; return its report, the completed intents and the seconds."""
    over_nats = plan.transport == "nats"
    load = Load(
        transport=plan.transport,
        url=installation.nats_url(TENANT) if over_nats else installation.base_url,
        key="" if over_nats else installation.keys[TENANT]["dev"],
        intents=plan.intents,
        rate=plan.rate,
        in_flight=plan.in_flight if over_nats else min(plan.in_flight, 256),
        batch=plan.batch if over_nats and not plan.rate else 1,
        sources=sources,
        destinations=destinations,
    )
    reports: list[LoadReport] = []
    completed = 0
    begun = 0.0

    async def generate() -> None:
        reports.append(await _generate(load))

    with anyio.fail_after(plan.seconds_max):
        async with anyio.create_task_group() as group:
            group.start_soon(generate)
            while not reports or completed < reports[0].accepted:
                await anyio.sleep(POLL_SECONDS)
                completed = await leaves_logged(pool, TENANT) - before
                progress("intents", completed, plan.intents)
            begun = reports[0].started_at
    return reports[0], completed, time.time() - begun


async def _generate(load: Load) -> LoadReport:
    """Run the generator in a process of its own, so that it does not take time from anything measured here."""
    command = [sys.executable, "-m", "zentra.bench.measuring.generator"]
    done = await anyio.run_process(command, input=msgspec.json.encode(load), stderr=sys.stderr)
    return msgspec.json.decode(done.stdout, type=LoadReport)


def _usage(installation: Installation) -> dict[str, tuple[float, float]]:
    """Return CPU seconds and resident MiB by process, children of Postgres summed up."""
    pids = {name: [pid] for name in installation.processes if (pid := installation.processes.pid(name)) is not None}
    servers = installation.servers
    for name, server in (("postgres", servers.postgres), ("nats", servers.nats), ("redis", servers.redis)):
        pids[name] = [] if server.pid is None else [server.pid, *_children(server.pid)]
    return {name: _of_processes(members) for name, members in pids.items()}


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return [int(line) for line in listed.stdout.split()]


def _of_processes(pids: list[int]) -> tuple[float, float]:
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu = memory = 0.0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/statm") as statm:
                fields = stat.read().rpartition(")")[2].split()
                cpu += (int(fields[11]) + int(fields[12])) / ticks
                memory += (int(statm.read().split()[1])) * page / 2**20
        except FileNotFoundError:
            continue
    return cpu, memory


def as_json(measured: Measured) -> str:
    """Return the figures as a JSON document."""
    return json.dumps(msgspec.to_builtins(measured), indent=2)
