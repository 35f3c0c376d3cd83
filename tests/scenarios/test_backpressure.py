"""What a gateway does when workers stand still: it sends new work away in time, and loses nothing of what it took."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenarios.people import Books, NatsDoor, Person, intent_body, nats_door, until
from zentra.gateway.installation.installation import Installation
from zentra.runtime.subjects import COMMANDS
from zentra.streams.connection import Connection, connect
from zentra.streams.topology import stream_state

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(120)]

BACKLOG_MAX = 1_000
PEOPLE = 32  # who ask at once over HTTP; each comes again as soon as it was answered
BATCH = 50
SHED_MIN = 3_000  # refusals to see before anything is believed
RSS_GROWTH_MAX = 24 * 1024**2
RECOVERY_SECONDS_MAX = 30.0

SETTLED = """
select count(*) from intents i where starts_with(i.key, $1) and exists (
    select from transitions t where t.intent = i.id and t.state = 'SUCCESSFUL')
"""
MADE = "select count(*) from intents where starts_with(key, $1)"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation of its own, with a backlog that a test can fill."""
    with Installation(sandbox=False, overrides={"backlog_intents_max": BACKLOG_MAX}) as running:
        yield running


@pytest.fixture
async def dev(installation: Installation) -> AsyncIterator[Person]:
    async with aiohttp.ClientSession() as session:
        yield Person(installation, session, "acme", "dev")


@pytest.fixture
async def books(installation: Installation) -> AsyncIterator[Books]:
    async with Books.opened(installation) as opened:
        yield opened


def body(key: str) -> dict[str, Any]:
    return intent_body(amount=5, idempotency_key=key)


def resident_bytes(installation: Installation) -> int:
    status = Path(f"/proc/{installation.processes.pid('gateway-1')}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@asynccontextmanager
async def worker_stopped(installation: Installation) -> AsyncIterator[None]:
    """The worker stands still inside the block: it holds its leases and does nothing."""
    pid = installation.processes.pid("worker-1")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Crowd:
    """Clients of both doors who never wait, and what they were told."""

    def __init__(self, dev: Person, door: NatsDoor, prefix: str) -> None:
        self.dev, self.door, self.prefix = dev, door, prefix
        self.told: Counter[str] = Counter()
        self.accepted: set[str] = set()

    async def ask_until(self, shed: int) -> None:
        """Ask until each door has refused that often."""
        people = [self._over_http(shed) for _ in range(PEOPLE)]
        await asyncio.gather(*people, *(self._over_nats(shed) for _ in range(4)))

    async def _over_http(self, shed: int) -> None:
        while self.told["http 503"] < shed:
            key = f"{self.prefix}-{uuid.uuid4().hex}"
            answer = await self.dev.post("/payments", body(key), key=None)
            self.told[f"http {answer.status}"] += 1
            if answer.status == 202:
                self.accepted.add(key)
                continue
            assert (answer.status, answer.code) == (503, "overloaded"), answer.body
            assert answer.headers["content-type"] == "application/problem+json"
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert answer.json["cause"] == "backlog"
            assert answer.json["retryable"] is True

    async def _over_nats(self, shed: int) -> None:
        while self.told["nats 503"] < shed:
            keys = [f"{self.prefix}-{uuid.uuid4().hex}" for _ in range(BATCH)]
            answer = await self.door.asked([body(key) for key in keys])
            for key, one in zip(keys, answer if isinstance(answer, list) else [answer] * BATCH, strict=True):
                self.told[f"nats {one['status']}"] += 1
                if one["status"] == 202:
                    self.accepted.add(key)
                    continue
                assert (one["status"], one["code"], one["cause"]) == (503, "overloaded", "backlog"), one
                assert 1 <= one["retry_after_seconds"] <= 30


async def test_a_stopped_worker_closes_the_doors_before_memory_grows_and_nothing_taken_is_lost(
    installation: Installation, dev: Person, books: Books
) -> None:
    prefix = f"stopped-{uuid.uuid4().hex}"
    async with nats_door(installation) as door:
        crowd = Crowd(dev, door, prefix)
        async with worker_stopped(installation):
            await crowd.ask_until(1)
            before = resident_bytes(installation)
            await crowd.ask_until(SHED_MIN)
            grown = resident_bytes(installation) - before
            made = await books.count(MADE, prefix)
            assert made == len(crowd.accepted)
            # A group whose commit a reading meets may be counted twice until the next one: early, never late.
            in_flight = PEOPLE + 4 * BATCH
            assert BACKLOG_MAX - in_flight <= made <= BACKLOG_MAX + in_flight, "the doors close at the limit"
            assert grown < RSS_GROWTH_MAX
            assert (await dev.get("/accounts/customer-1")).status == 200, "reads go on"
            await asyncio.to_thread(installation.processes.kill, "gateway-1")
            await asyncio.to_thread(installation.processes.start, "gateway-1")
            left = max(0, BACKLOG_MAX - made)  # by how many the doors were closed early
            first = [await dev.post("/payments", body(f"{prefix}-{n}"), key=None) for n in range(left + 1)]
            assert [answer.status for answer in first] == [202] * left + [503], (
                "a new gateway knows the backlog at once"
            )
            assert first[-1].code == "overloaded"
            made += left
        resumed = time.monotonic()
        async with asyncio.timeout(RECOVERY_SECONDS_MAX):
            again = await until(
                lambda: dev.post("/payments", body(f"{prefix}-again"), key=None), lambda answer: answer.status == 202
            )
            opened = time.monotonic() - resumed
            assert again.code == ""
            await until(lambda: books.count(SETTLED, prefix), lambda count: count == made + 1)
        settled = time.monotonic() - resumed
    audit = await books.audit()
    assert audit.clean, audit.breaches
    sys.stdout.write(
        f"{dict(crowd.told)}: {made} taken, memory grew by {grown // 1024} KiB; "
        f"open again after {opened:.2f} s, all settled after {settled:.2f} s\n"
    )


@asynccontextmanager
async def stream_full(installation: Installation) -> AsyncIterator[Connection]:
    """The command stream takes nothing inside the block."""
    client = await connect(installation.settings.nats_url, name="test")
    told = await client.call(f"STREAM.INFO.{COMMANDS}", None, dict[str, Any])
    configuration = told["config"]
    try:
        await client.call(f"STREAM.UPDATE.{COMMANDS}", configuration | {"max_bytes": 1}, dict[str, Any])
        yield client
    finally:
        await client.call(f"STREAM.UPDATE.{COMMANDS}", configuration, dict[str, Any])
        await client.close()


async def test_a_full_stream_keeps_nobody_waiting_and_what_was_taken_is_done_later(
    installation: Installation, dev: Person, books: Books
) -> None:
    prefix = f"full-{uuid.uuid4().hex}"
    async with stream_full(installation) as client, nats_door(installation) as door:
        last = (await stream_state(client, COMMANDS)).last
        before = resident_bytes(installation)
        for _ in range(8):
            keys = [f"{prefix}-{uuid.uuid4().hex}" for _ in range(BATCH)]
            answers = await door.asked([body(key) for key in keys])
            assert [answer["status"] for answer in answers] == [202] * BATCH
        made = await books.count(MADE, prefix)
        assert made == 8 * BATCH
        assert (await stream_state(client, COMMANDS)).last == last, "the stream took none of it"
        assert await books.count(SETTLED, prefix) == 0
        assert resident_bytes(installation) - before < RSS_GROWTH_MAX
    async with asyncio.timeout(RECOVERY_SECONDS_MAX):
        await until(lambda: books.count(SETTLED, prefix), lambda count: count == made)
