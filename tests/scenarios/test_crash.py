"""What `kill -9` leaves behind in the middle of a load: nothing lost, nothing twice, all back in bounded time.

Every test drives a load, kills one process while it runs, brings it back, asks for whatever was not acknowledged once
more with the same keys, and then holds the books to the invariants. The figures of the recovery are printed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from msgspec.structs import replace

from tests.scenarios.conftest import QUICK
from tests.scenarios.people import Books, until
from zentra.bench.measuring.generator import Load, LoadReport, run_load
from zentra.gateway.installation.installation import Installation

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(120)]

DEADLINE_SECONDS = 60.0  # of a rail: nothing is submitted again past it, and what was lost here has to be
RECOVERY_SECONDS_MAX = 20.0  # a lease of a dead worker runs out in a few; the rest is work that has waited
SECOND_TRY_SECONDS_MAX = 30.0
RETRY_AFTER_SECONDS = 1.0  # what those refusals ask for

COMPLETE = """
select count(*) from intents i where starts_with(i.key, $1) and exists (
    select from log_leaves l where l.intent = i.id
        and convert_from(l.data, 'UTF8')::json ->> 'kind' = 'packet')
"""
LEAVES_NOT_ONE = """
select count(*) from (
    select i.id from intents i left join log_leaves l
        on l.intent = i.id and convert_from(l.data, 'UTF8')::json ->> 'kind' = 'packet'
    where starts_with(i.key, $1) group by i.id having count(l.index) <> 1
) as wrong
"""
POSTINGS_NOT_ONCE = """
select count(*) from (
    select i.id from intents i left join postings p on p.intent = i.id
    where starts_with(i.key, $1) group by i.id
    having array_agg(p.kind order by p.ordinal) <> array['reserve', 'post', 'settle']
) as wrong
"""


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation of its own: what these tests break, no other test has to live with."""
    with Installation(rail_timing=QUICK | {"deadline_seconds": DEADLINE_SECONDS}) as running:
        yield running


def load_of(installation: Installation, prefix: str, intents: int, transport: str, rate: float = 0.0) -> Load:
    over_nats = transport == "nats"
    return Load(
        transport=transport,
        url=installation.nats_url("acme") if over_nats else installation.base_url,
        key="" if over_nats else installation.keys["acme"]["dev"],
        intents=intents,
        rate=rate,
        batch=50 if over_nats else 1,
        sources=("customer-1", "customer-2"),
        destinations=("merchant-1", "payout-1"),
        minor_max=1_000,
        prefix=f"{prefix}-",
    )


async def hurt(
    books: Books, load: Load, after: int, kill: Callable[[], None], revive: Callable[[], None]
) -> tuple[LoadReport, float, float]:
    """Run a load, `kill` once `after` intents exist, `revive`; return the report, the time of revival, its seconds."""
    running = asyncio.create_task(run_load(load))

    async def made() -> int:
        return await books.count("select count(*) from intents where starts_with(key, $1)", load.prefix)

    await until(made, lambda count: count >= after)
    await asyncio.to_thread(kill)
    killed = time.monotonic()
    await asyncio.to_thread(revive)
    revived = time.monotonic()
    return await running, revived, revived - killed


async def everything_is_there_once(installation: Installation, load: Load, revived: float) -> float:
    """Assert that every intent of the load ended once and the books are clean; return the seconds since the revival."""
    async with asyncio.timeout(RECOVERY_SECONDS_MAX), Books.opened(installation) as books:

        async def complete() -> int:
            return await books.count(COMPLETE, load.prefix)

        await until(complete, lambda count: count >= load.intents)
        seconds = time.monotonic() - revived
        assert await books.count("select count(*) from intents where starts_with(key, $1)", load.prefix) == load.intents
        assert await books.count(LEAVES_NOT_ONE, load.prefix) == 0
        assert await books.count(POSTINGS_NOT_ONCE, load.prefix) == 0
        audit = await books.audit()
        assert audit.clean, audit.breaches
        assert audit.unsettled == 0
    return seconds


async def asked_again(load: Load) -> None:
    """Send the whole load once more with the same keys, as a client does that is not sure of its answers.

    A key whose first request is still held by a dead gateway is answered 409 for a while, and a store that is coming
    back 503; both say that the same request may be sent again."""
    async with asyncio.timeout(SECOND_TRY_SECONDS_MAX):
        while (report := await run_load(replace(load, rate=0.0, in_flight=64))).refused:
            assert all(why.startswith(("409 idempotency_in_flight", "503")) for why in report.refusals), report.refusals
            await asyncio.sleep(RETRY_AFTER_SECONDS)


@asynccontextmanager
async def rails_agree(installation: Installation, intents: int) -> AsyncIterator[None]:
    """Assert that the rail was asked to pay exactly that many payments and paid none of them twice."""

    async def statistics() -> dict[str, int]:
        total = {"payments": 0, "paid": 0}
        async with aiohttp.ClientSession() as session:
            for rail in ("sandbox_a", "sandbox_b"):
                async with session.get(f"{installation.sandbox_url}/rails/{rail}/control") as answer:
                    shown = await answer.json()
                total = {name: count + shown[name] for name, count in total.items()}
        return total

    before = await statistics()
    yield
    after = await statistics()
    assert {name: after[name] - before[name] for name in after} == {"payments": intents, "paid": intents}


async def test_a_killed_worker_leaves_nothing_undone_and_nothing_twice(installation: Installation) -> None:
    load = load_of(installation, "worker", 5_000, "nats")
    async with rails_agree(installation, load.intents), Books.opened(installation) as books:
        sending = asyncio.create_task(run_load(load))

        async def complete() -> int:
            return await books.count(COMPLETE, load.prefix)

        at = await until(complete, lambda count: count >= 500)
        await asyncio.to_thread(installation.kill_worker)
        assert at < load.intents, "the worker was killed in the middle"
        await asyncio.to_thread(installation.start_worker)
        revived = time.monotonic()
        report = await sending
        assert (report.accepted, report.refused) == (load.intents, 0), "a dead worker keeps no door shut"
        seconds = await everything_is_there_once(installation, load, revived)
    tell(f"worker: killed at {at} of {load.intents}, all complete {seconds:.2f} s after it was ready again")


async def test_a_killed_gateway_has_kept_every_intent_that_it_acknowledged(installation: Installation) -> None:
    load = load_of(installation, "gateway", 1_500, "http", rate=500)
    processes = installation.processes
    async with rails_agree(installation, load.intents), Books.opened(installation) as books:
        report, revived, down = await hurt(
            books, load, 400, lambda: processes.kill("gateway-1"), lambda: processes.start("gateway-1")
        )
        assert report.refused > 0, "some requests met a closed door"
        kept = await books.count("select count(*) from intents where starts_with(key, $1)", load.prefix)
        assert kept >= report.accepted, "what was acknowledged was committed"
        await asked_again(load)
        seconds = await everything_is_there_once(installation, load, revived)
    tell(f"gateway: ready {down:.2f} s after the kill, {report.refused} refused, complete {seconds:.2f} s later")


SERVERS = ["nats", "postgres", "redis"]


@pytest.mark.parametrize("name", SERVERS)
async def test_a_killed_server_costs_time_and_nothing_else(installation: Installation, name: str) -> None:
    load = load_of(installation, name, 1_500, "http", rate=500)
    server = getattr(installation.servers, name)
    async with rails_agree(installation, load.intents), Books.opened(installation) as books:
        report, revived, down = await hurt(books, load, 400, server.kill, server.restart)
        if name != "postgres":
            assert report.refused == 0, f"intents are accepted without {name}: {report.refusals}"
        await asked_again(load)
        seconds = await everything_is_there_once(installation, load, revived)
    tell(f"{name}: ready {down:.2f} s after the kill, {report.refused} refused, complete {seconds:.2f} s later")


async def test_everything_killed_at_once_comes_back(installation: Installation) -> None:
    load = load_of(installation, "all", 1_000, "http", rate=500)
    servers, processes = installation.servers, installation.processes
    condemned: list[Callable[[], None]] = [
        lambda: processes.kill("worker-1"),
        lambda: processes.kill("gateway-1"),
        servers.nats.kill,
        servers.postgres.kill,
        servers.redis.kill,
    ]
    returning: list[Callable[[], None]] = [
        servers.postgres.restart,
        servers.nats.restart,
        servers.redis.restart,
        lambda: processes.start("gateway-1"),
        lambda: processes.start("worker-1"),
    ]
    async with rails_agree(installation, load.intents), Books.opened(installation) as books:
        report, revived, down = await hurt(books, load, 300, lambda: _each(condemned), lambda: _each(returning))
        await asked_again(load)
        seconds = await everything_is_there_once(installation, load, revived)
    tell(f"everything: ready {down:.2f} s after the kill, {report.refused} refused, complete {seconds:.2f} s later")


def tell(figures: str) -> None:
    """Put figures where a failing test, or pytest -rP, shows them."""
    sys.stdout.write(f"{figures}\n")


def _each(steps: list[Callable[[], None]]) -> None:
    for step in steps:
        step()
