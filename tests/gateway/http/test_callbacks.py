"""Provider callbacks: verified first, committed before the "ok", however often they come."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from types import SimpleNamespace

import msgspec
import pytest

from tests.gateway.asgi import Answer, call
from tests.gateway.http.conftest import RAIL_SECRET
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.outward.rail_sandbox import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_callback
from zentra.gateway.routes.callbacks import CALLBACK_BYTES_MAX, FRESH_SECONDS, CallbackRoutes
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import SILENCE
from zentra.runtime.rails.port import RailSettings
from zentra.storage.intake.callbacks import Callback, Taken
from zentra.storage.pool import Pool


def callback_body(event_id: str, **changes: str) -> bytes:
    return msgspec.json.encode(
        {"event_id": event_id, "reference": f"{uuid.uuid4().hex}01", "provider_reference": "p", "status": "succeeded",
         "amount": "125000", "currency": "NGN", "occurred_at": "2026-05-01T00:00:00Z"} | changes
    )  # fmt: skip


async def deliver(
    gateway: GatewayApp, body: bytes, *, secret: str = RAIL_SECRET, at: float | None = None, rail: str = "sandbox_a",
    peer: str | None = None,
) -> Answer:  # fmt: skip
    timestamp = str(int(time.time() if at is None else at))
    headers = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign_callback(secret, timestamp, body), "cookie": "c"}
    return await call(gateway.application, "POST", f"/providers/{rail}/callbacks", body, headers, peer=peer)


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


async def test_what_is_not_signed_is_no_callback(gateway: GatewayApp) -> None:
    unsigned = await call(gateway.application, "POST", "/providers/sandbox_a/callbacks", b"{}")
    assert (unsigned.status, unsigned.code) == (401, "signature_missing")


KNOWN = [f"{uuid.uuid4().hex}01" for _ in range(4)]


@pytest.mark.parametrize(
    ("body", "reference"),
    [
        (b'{"event_id":5}', None),
        (b"\xff not JSON", None),
        (callback_body("evt", reference="x" * 256), None),
        (callback_body("evt", reference="a\x00b"), None),
        (callback_body("x" * 256, reference=KNOWN[0]), KNOWN[0]),
        (callback_body("evt", reference=KNOWN[1], amount="12,50"), KNOWN[1]),
        (callback_body("evt", reference=KNOWN[2], currency="x" * 256), KNOWN[2]),
        (callback_body("evt", reference=KNOWN[3], currency="a\x00b"), KNOWN[3]),
    ],
)
async def test_what_is_signed_is_kept_though_nobody_can_read_it(
    gateway: GatewayApp, admin_pool: Pool, body: bytes, reference: str | None
) -> None:
    answers = [await deliver(gateway, body) for _ in range(2)]
    assert [(answer.status, answer.json) for answer in answers] == [
        (200, {"received": True, "new": True}), (200, {"received": True, "new": False}),
    ]  # fmt: skip
    digest = hashlib.sha256(body).digest()
    row = await admin_pool.fetchrow("select * from zentra.callbacks where digest = $1", digest)
    assert row is not None
    assert row["body"] == body
    said = {name: row[name] for name in ("status", "minor", "reason", "trust", "reference")}
    assert said == {
        "status": "unknown", "minor": None, "reason": "callback_unreadable", "trust": "body_signed",
        "reference": reference or f"unreadable-{digest.hex()[:32]}",
    }  # fmt: skip


async def test_where_a_callback_came_from_and_what_it_says_is_kept(gateway: GatewayApp, admin_pool: Pool) -> None:
    event_id = uuid.uuid4().hex
    await deliver(gateway, callback_body(event_id), peer="192.0.2.7")
    row = await admin_pool.fetchrow("select * from zentra.callbacks where event_id = $1", event_id)
    assert row is not None
    said = {name: row[name] for name in ("status", "minor", "currency", "provider_reference", "trust", "same_as")}
    assert said == {
        "status": "succeeded", "minor": 125_000, "currency": "NGN", "provider_reference": "p", "trust": "body_signed",
        "same_as": None,
    }  # fmt: skip
    assert row["peer"] == "192.0.2.7"


async def test_what_says_the_same_under_another_event_id_is_kept_and_no_news(
    gateway: GatewayApp, admin_pool: Pool
) -> None:
    reference = f"{uuid.uuid4().hex}01"
    first, second, third = (uuid.uuid4().hex for _ in range(3))
    new = [
        (await deliver(gateway, callback_body(event_id, reference=reference, **changes))).json["new"]
        for event_id, changes in ((first, {}), (second, {}), (third, {"status": "declined"}))
    ]
    assert new == [True, False, True]
    rows = await admin_pool.fetch(
        "select event_id, same_as from zentra.callbacks where reference = $1 order by received_at", reference
    )
    assert [tuple(row) for row in rows] == [(first, None), (second, first), (third, None)]


async def test_a_known_event_id_over_other_bytes_is_no_repeat(gateway: GatewayApp, admin_pool: Pool) -> None:
    event_id, reference = uuid.uuid4().hex, f"{uuid.uuid4().hex}01"
    bodies = [callback_body(event_id, reference=reference, amount=amount) for amount in ("125000", "1", "1")]
    new = [(await deliver(gateway, body)).json["new"] for body in bodies]
    rows = await admin_pool.fetch(
        "select event_id, body from zentra.callbacks where reference = $1 order by received_at", reference
    )
    assert [row["body"] for row in rows] == bodies[:2]
    assert rows[1]["event_id"].startswith(f"{event_id}~")
    assert new == [True, False, False], "by reference and status it says what was said; the actor judges the amount"


async def test_a_body_beyond_the_cap_is_refused_by_name_and_not_kept(gateway: GatewayApp, admin_pool: Pool) -> None:
    event_id = uuid.uuid4().hex
    answer = await deliver(gateway, callback_body(event_id, occurred_at="x" * CALLBACK_BYTES_MAX))
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert await admin_pool.fetchval("select count(*) from zentra.callbacks where event_id = $1", event_id) == 0


async def test_a_store_that_takes_too_long_has_the_provider_send_it_again(
    gateway: GatewayApp, monkeypatch: pytest.MonkeyPatch, admin_pool: Pool
) -> None:
    monkeypatch.setattr("zentra.gateway.routes.callbacks.ANSWER_SECONDS_MAX", 0.05)
    event_id = uuid.uuid4().hex
    connection = await admin_pool.acquire()
    async with connection.transaction():
        await connection.execute("lock table zentra.callbacks")
        began = time.monotonic()
        answer = await deliver(gateway, callback_body(event_id))
        assert time.monotonic() - began < 2
        assert (answer.status, answer.code) == (503, "unavailable")
        assert "retry-after" in answer.headers
    await admin_pool.release(connection)
    again = await deliver(gateway, callback_body(event_id))
    assert again.status in (200, 503)


class Reading:
    """Rails that are read as the test says, and callbacks that are taken at once."""

    def __init__(self) -> None:
        self.how = "at once"
        self.reads = 0
        self.routes = CallbackRoutes(self.read, None, self, SILENCE, lambda rail: rail)  # type: ignore[arg-type]  # it stands for all

    async def read(self) -> dict[str, RailSettings]:
        self.reads += 1
        if self.how == "fails":
            raise Unavailable("away")
        if self.how == "hangs":
            await asyncio.Event().wait()
        return {"a": RailSettings("a", "sandbox", secret=RAIL_SECRET)}

    async def submit(self, callback: Callback) -> Taken:
        return Taken.NEW

    async def take(self, rail: str = "a") -> str:
        """Return what a callback is answered; it must not take longer than the provider waits."""
        body, timestamp = callback_body(uuid.uuid4().hex), str(int(time.time()))
        signed = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign_callback(RAIL_SECRET, timestamp, body)}
        headers = [(name.encode(), value.encode()) for name, value in signed.items()]
        request = SimpleNamespace(params={"rail": rail}, scope={"headers": headers}, body=body)
        try:
            async with asyncio.timeout(2.0):
                return str((await self.routes.take(request)).status)  # type: ignore[arg-type]
        except Problem as refused:
            return refused.row.code
        except Unavailable as refused:
            return refused.code


@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_while_the_rails_cannot_be_read_those_known_before_are_served(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zentra.gateway.routes.callbacks.PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("zentra.gateway.routes.callbacks.ANSWER_SECONDS_MAX", 0.5)
    door = Reading()
    assert [await door.take(), await door.take("b")] == ["200", "not_found"]
    door.how = how
    door.routes._read_at -= FRESH_SECONDS
    answers = await asyncio.gather(*(door.take() for _ in range(20)), door.take("b"))
    assert answers == ["200"] * 20 + ["unavailable"], "b may have been set up a moment ago"
    assert door.reads == 2, "nobody asks again at once"
    await door.routes.aclose()


@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_before_the_rails_were_ever_read_a_provider_comes_back(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zentra.gateway.routes.callbacks.ANSWER_SECONDS_MAX", 0.05)
    monkeypatch.setattr("zentra.gateway.routes.callbacks.READING_SECONDS_MAX", 0.1)
    door = Reading()
    door.how = how
    assert set(await asyncio.gather(door.take(), door.take())) == {"unavailable"}
    assert door.reads == 1
    door.how = "at once"
    while door.routes._reading is not None and not door.routes._reading.done():
        await asyncio.wait([door.routes._reading])
    door.routes._read_at -= FRESH_SECONDS
    assert await door.take() == "200"
    await door.routes.aclose()
