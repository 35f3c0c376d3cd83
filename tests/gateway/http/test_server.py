"""The gateway as a server: over a socket, ready, degraded, waiting for events, drained."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.gateway.http.conftest import Api, Keys, intent_body
from zentra.gateway.devstack.stack import DevStack
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.runtime.intents.facts import Noted
from zentra.runtime.intents.transaction import advance, restore
from zentra.runtime.intents.vocabulary import Fact
from zentra.storage.errors import Misconfigured
from zentra.storage.pool import Pool
from zentra.streams.connection import Connection, connect


class Served:
    """A gateway behind a socket and a client of it."""

    def __init__(self, base: str, gateway: GatewayApp, key: str) -> None:
        self.base, self.gateway, self.key = base, gateway, key

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        given = {"authorization": f"Bearer {self.key}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.base + path, json=body, headers=given) as answer,
        ):
            data = await answer.read()
            return answer.status, msgspec.json.decode(data) if "json" in answer.content_type else data


@pytest.fixture
async def served(gateway: GatewayApp, keys: Keys) -> AsyncIterator[Served]:
    ready: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(gateway.serve("127.0.0.1", 0, on_ready=ready.put))
    yield Served(await ready.get(), gateway, keys.of("acme", "developer"))
    running.cancel()
    await asyncio.wait([running])


@pytest.fixture
async def nats(stack: DevStack) -> AsyncIterator[Connection]:
    client = await connect(stack.nats_url, name="test")
    yield client
    await client.close()


async def test_health_is_told_with_latencies(served: Served) -> None:
    assert await served.ask("GET", "/livez") == (200, {"status": "live"})
    status, ready = await served.ask("GET", "/readyz")
    assert (status, ready["status"]) == (200, "ready")
    assert {name: check["ok"] for name, check in ready["checks"].items()} == {
        "postgres": True, "redis": True, "nats": True, "sealing": True,
    }  # fmt: skip
    assert all(check["latency_ms"] >= 0 for check in ready["checks"].values())
    status, version = await served.ask("GET", "/version")
    assert (status, version["schema"]) == (200, "2026.04")


async def test_requests_and_replays_are_counted(served: Served) -> None:
    key, body = uuid.uuid4().hex, intent_body()
    for _ in range(3):
        await served.ask("POST", "/runtime/intents", body, x_idempotency_key=key)
    _, text = await served.ask("GET", "/metrics")
    assert b'zentra_intents_total{outcome="accepted"} 1.0' in text
    assert b'zentra_idempotency_replays_total{source="http"} 2.0' in text
    label = b'method="POST",route="/runtime/intents",status="202"'
    assert b"zentra_http_request_duration_seconds_count{" + label + b"} 3.0" in text


async def test_without_redis_it_is_slower_and_ready(settings: Settings, keys: Keys) -> None:
    settings = msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1/0")
    async with GatewayApp.opened(settings) as gateway:
        api = Api(gateway, keys)
        answer = await api.get("/readyz")
        assert (answer.status, answer.json["status"]) == (200, "degraded")
        key, body = uuid.uuid4().hex, intent_body()
        first = await api.post("/runtime/intents", body, key=key)
        assert (first.status, (await api.post("/runtime/intents", body, key=key)).body) == (202, first.body)


async def test_a_tenant_role_that_sees_everything_is_refused(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, postgres_tenant_url=settings.postgres_writer_url)
    with pytest.raises(Misconfigured, match="tenant_role_unsafe"):
        async with GatewayApp.opened(settings):
            pass


async def write_transition(pool: Pool, intent: str) -> bytes:
    """Cancel an intent as a worker would; return the record."""
    rows = await pool.fetch("select record, hash from zentra.transitions where intent = $1 order by sequence", intent)
    tx = restore([(row[0], row[1]) for row in rows])
    written = advance(tx, Fact.CANCELLED, Noted("x"), actor="developer", now=tx.at, cause="test")
    await pool.execute(
        "insert into zentra.transitions (intent, sequence, tenant, at, state, event, record, hash)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8)",
        intent, written.sequence, written.tenant, written.at, written.state, written.event, written.record,
        written.hash,
    )  # fmt: skip
    return written.record


async def test_an_event_ends_the_wait(served: Served, nats: Connection, admin_pool: Pool) -> None:
    status, made = await served.ask("POST", "/runtime/intents", intent_body(), x_idempotency_key=uuid.uuid4().hex)
    assert status == 202
    waiting = asyncio.create_task(served.ask("GET", f"/runtime/intents/{made['id']}", prefer="wait=20"))
    while not served.gateway.statistics()["waiting_intents"]:
        await asyncio.sleep(0)
    record = await write_transition(admin_pool, made["id"])
    await nats.publish("ze.1.acme.intent-cancelled", b"[" + record + b"]")
    status, seen = await waiting
    assert (status, seen["status"], seen["version"]) == (200, "FAILED", 2)
    assert seen["reason"] == {"event": "intent.cancelled", "code": "x", "detail": ""}


async def test_a_drain_answers_who_waits_and_stops(settings: Settings, keys: Keys) -> None:
    ready: asyncio.Queue[str] = asyncio.Queue()
    async with GatewayApp.opened(settings) as gateway:
        running = asyncio.create_task(gateway.serve("127.0.0.1", 0, on_ready=ready.put))
        served = Served(await ready.get(), gateway, keys.of("acme", "developer"))
        _, made = await served.ask("POST", "/runtime/intents", intent_body(), x_idempotency_key=uuid.uuid4().hex)
        waiting = asyncio.create_task(served.ask("GET", f"/runtime/intents/{made['id']}", prefer="wait=30"))
        while not gateway.statistics()["waiting_intents"]:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        status, seen = await waiting
        assert (status, seen["status"]) == (200, "ACCEPTED")
        await running
        api = Api(gateway, keys)
        assert (await api.get("/readyz")).json["status"] == "draining"
    with pytest.raises(aiohttp.ClientConnectorError):
        await served.ask("GET", "/livez")
