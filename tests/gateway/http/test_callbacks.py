"""Provider callbacks: verified first, committed before the "ok", however often they come."""

from __future__ import annotations

import asyncio
import time
import uuid

import msgspec
import pytest

from tests.gateway.asgi import Answer, call
from tests.gateway.http.conftest import RAIL_SECRET
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.outward.rail_sandbox import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_callback
from zentra.storage.pool import Pool


def callback_body(event_id: str) -> bytes:
    return msgspec.json.encode(
        {"event_id": event_id, "reference": f"{uuid.uuid4().hex}01", "provider_reference": "p", "status": "succeeded",
         "amount": "125000", "currency": "NGN", "occurred_at": "2026-05-01T00:00:00Z"}
    )  # fmt: skip


async def deliver(
    gateway: GatewayApp, body: bytes, *, secret: str = RAIL_SECRET, at: float | None = None, rail: str = "sandbox_a"
) -> Answer:
    timestamp = str(int(time.time() if at is None else at))
    headers = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign_callback(secret, timestamp, body), "cookie": "c"}
    return await call(gateway.application, "POST", f"/providers/{rail}/callbacks", body, headers)


async def test_a_callback_is_committed_with_its_bytes_and_a_frame(gateway: GatewayApp, admin_pool: Pool) -> None:
    event_id = uuid.uuid4().hex
    body = callback_body(event_id)
    answer = await deliver(gateway, body)
    assert (answer.status, answer.json) == (200, {"received": True, "new": True})
    row = await admin_pool.fetchrow("select * from zentra.callbacks where event_id = $1", event_id)
    assert row is not None
    assert row["body"] == body
    assert SIGNATURE_HEADER in row["headers"]
    assert "cookie" not in row["headers"]


async def test_repeats_are_answered_counted_and_stored_once(gateway: GatewayApp, admin_pool: Pool) -> None:
    event_id = uuid.uuid4().hex
    body = callback_body(event_id)
    answers = await asyncio.gather(*(deliver(gateway, body) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.json["new"] for answer in answers) == 1
    count = await admin_pool.fetchval("select count from zentra.callback_repeats where event_id = $1", event_id)
    assert count == 19


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"secret": "another"}, 401, "signature_invalid"),
        ({"at": time.time() - 3600}, 401, "timestamp_out_of_tolerance"),
        ({"rail": "nobody"}, 404, "not_found"),
    ],
)
async def test_what_is_not_authentic_changes_nothing(
    gateway: GatewayApp, admin_pool: Pool, change: dict[str, str | float], status: int, code: str
) -> None:
    event_id = uuid.uuid4().hex
    answer = await deliver(gateway, callback_body(event_id), **change)  # type: ignore[arg-type]  # a row of the table
    assert (answer.status, answer.code) == (status, code)
    assert await admin_pool.fetchval("select count(*) from zentra.callbacks where event_id = $1", event_id) == 0


async def test_an_unsigned_and_an_unreadable_callback_are_told_apart(gateway: GatewayApp) -> None:
    unsigned = await call(gateway.application, "POST", "/providers/sandbox_a/callbacks", b"{}")
    assert (unsigned.status, unsigned.code) == (401, "signature_missing")
    unreadable = await deliver(gateway, b'{"event_id":5}')
    assert (unreadable.status, unreadable.code) == (400, "body_malformed")
