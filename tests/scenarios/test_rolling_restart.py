"""Two gateways are restarted one after the other while clients work: with both URLs, no call of the SDK fails.

Clients have the defaults of the SDK. Threads, tasks and a connection to NATS make intents and look at them, and
somebody listens to all that happens; at the end every intent was made once, and heard of."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
from msgspec import Struct

from tests.scenarios.people import Books, until
from zentra.client.api import AsyncZentra, NatsZentra, Zentra
from zentra.client.models import Intent
from zentra.gateway.installation.installation import Installation

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(180)]

THREADS, TASKS, OVER_NATS = 3, 3, 2
CALLS_BETWEEN = 60  # that every kind of client makes between two restarts
HEARD_SECONDS_MAX = 30.0


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """Two gateways; the inline rail answers at once."""
    with Installation(gateways=2, sandbox=False) as running:
        yield running


class Work:
    """What clients do until it is over, and what became of it."""

    def __init__(self) -> None:
        self.prefix = uuid.uuid4().hex
        self.over = False
        self.made: dict[str, list[str]] = {"threads": [], "tasks": [], "nats": []}
        self.heard: set[str] = set()
        self.failures: list[BaseException] = []

    def money(self) -> dict[str, Any]:
        return {
            "amount": 1, "currency": "NGN", "source": "customer-2", "destination": "merchant-1",
            "kind": "book_transfer", "idempotency_key": f"{self.prefix}-{uuid.uuid4().hex}",
        }  # fmt: skip

    def keep(self, kind: str, intent: Intent) -> None:
        self.made[kind].append(intent.id)

    def in_a_thread(self, client: Zentra) -> None:
        while not self.over:
            try:
                made = client.runtime.intents.create(**self.money())
                assert client.runtime.intents.get(made.id).id == made.id
                self.keep("threads", made)
            except Exception as error:
                self.failures.append(error)

    async def in_a_task(self, client: AsyncZentra) -> None:
        while not self.over:
            try:
                made = await client.runtime.intents.create(**self.money(), wait=2)
                entries = [entry async for entry in client.accounts.entries("merchant-1", intent=made.id)]
                assert all(entry.intent == made.id for entry in entries)
                self.keep("tasks", made)
            except Exception as error:
                self.failures.append(error)

    async def over_nats(self, client: NatsZentra) -> None:
        while not self.over:
            try:
                self.keep("nats", await client.runtime.intents.create(**self.money()))
            except Exception as error:
                self.failures.append(error)

    async def listen(self, client: AsyncZentra, begun: asyncio.Event) -> None:
        async with client.runtime.events.stream() as stream:
            begun.set()
            async for event in stream:
                if event.event == "ingress.accepted":
                    self.heard.add(event.record.intent)

    def enough(self) -> Callable[[Any], bool]:
        """Return the test whether every kind of client has made some more calls than now."""
        wanted = {kind: len(made) + CALLS_BETWEEN for kind, made in self.made.items()}
        return lambda _: bool(self.failures) or all(len(self.made[kind]) >= count for kind, count in wanted.items())


class Place(Struct, frozen=True):
    """A gateway as it is restarted."""

    installation: Installation
    number: int

    @property
    def pid(self) -> int | None:
        return self.installation.processes.pid(f"gateway-{self.number}")

    async def ready(self) -> bool:
        url = self.installation.base_urls[self.number - 1]
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def restart(self, how: signal.Signals) -> None:
        """End the process; its supervisor starts it again. Return when it is ready."""
        before = self.pid
        assert before is not None
        os.kill(before, how)

        async def after() -> int | None:
            return self.pid

        await until(after, lambda pid: pid not in (None, before))
        await until(self.ready, bool)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_no_call_fails_while_gateways_are_restarted(installation: Installation, how: signal.Signals) -> None:
    key, urls, work = installation.keys["acme"]["dev"], installation.base_urls, Work()
    begun = asyncio.Event()

    async def look() -> None:
        return None

    with Zentra(key, urls) as blocking:
        async with AsyncZentra(key, urls) as client, NatsZentra(installation.nats_url("acme")) as nats:
            listener = asyncio.create_task(work.listen(client, begun))
            await begun.wait()
            jobs = [asyncio.to_thread(work.in_a_thread, blocking) for _ in range(THREADS)]
            jobs += [work.in_a_task(client) for _ in range(TASKS)]
            jobs += [work.over_nats(nats) for _ in range(OVER_NATS)]
            working = asyncio.gather(*jobs)
            try:
                for number in (1, 2, 1):
                    await until(look, work.enough())
                    await Place(installation, number).restart(how)
                await until(look, work.enough())
            finally:
                work.over = True
                await working
            assert work.failures == []
            made = {intent for some in work.made.values() for intent in some}
            async with asyncio.timeout(HEARD_SECONDS_MAX):
                await until(look, lambda _: made <= work.heard or listener.done())
            assert not listener.done(), "a stream goes on"
            listener.cancel()
            await asyncio.wait([listener])
    assert len(made) == sum(map(len, work.made.values())), "no intent is the answer to two calls"
    async with Books.opened(installation) as books:
        assert await books.count("select count(*) from intents where starts_with(key, $1)", work.prefix) == len(made)
        assert (await books.audit()).clean
