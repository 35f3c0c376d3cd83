"""The contract of the webhook transport, held by the twin and by the sender against a receiver on loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
from msgspec import structs

from zentra.bench.twins.transport import Received, ScriptedEndpoints, ScriptedReply
from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp
from zentra.gateway.outward.webhooks import WebhookSender
from zentra.runtime.webhooks.standard import AttemptError, AttemptResult, WebhookCall, WebhookTransport, verdict, verify

SECRETS = (b"n" * 32, b"o" * 32)
BODY = b'{"type":"ledger.posted","data":{"amount":"125000"}}'
E = AttemptError

REPLIES: dict[str, ScriptedReply] = {
    "ok": ScriptedReply(200, body='{"ok":true}'),
    "empty": ScriptedReply(204),
    "moved": ScriptedReply(302),
    "bad": ScriptedReply(400, body="no"),
    "gone": ScriptedReply(410),
    "busy": ScriptedReply(429, retry_after_seconds=120),
    "aborted": ScriptedReply(400, aborted=True),
    "broken": ScriptedReply(503, retry_after_seconds=0),
    "dropped": ScriptedReply(error=E.CONNECTION_DROPPED),
    "babbling": ScriptedReply(error=E.ANSWER_MALFORMED),
    "hanging": ScriptedReply(error=E.TIMEOUT),
    "closed": ScriptedReply(error=E.CONNECT_FAILED),
    "private": ScriptedReply(error=E.ADDRESS_REFUSED),
    "ftp": ScriptedReply(error=E.URL_REFUSED),
}


class Receiver:
    """Endpoints on loopback that do what `REPLIES` says of their name."""

    def __init__(self) -> None:
        self.received: list[Received] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        name = scope["path"].removeprefix("/")
        body = await read_body(receive, 65536)
        assert body is not None
        self.received.append(Received(name, headers, body))
        reply = REPLIES[name]
        if reply.error is E.TIMEOUT:
            await receive()  # until the caller hangs up
            return
        extra = [] if reply.retry_after_seconds is None else [(b"retry-after", b"%d" % reply.retry_after_seconds)]
        if reply.status == 302:
            extra.append((b"location", b"/ok"))
        if reply.aborted:
            extra.append((b"webhook-delivery", b"abort-message"))
        await answer(send, reply.status or 500, reply.body.encode(), tuple(extra))


class Stage(Protocol):
    @property
    def transport(self) -> WebhookTransport: ...

    @property
    def received(self) -> list[Received]: ...

    def url(self, name: str) -> str: ...


class TwinStage:
    def __init__(self) -> None:
        self.transport = ScriptedEndpoints(time.time, {name: [reply] for name, reply in REPLIES.items()})

    @property
    def received(self) -> list[Received]:
        return self.transport.received

    def url(self, name: str) -> str:
        return name


class RealStage:
    def __init__(self, transport: WebhookSender, receiver: Receiver, urls: Mapping[str, str], base: str) -> None:
        self.transport, self._receiver, self._urls, self._base = transport, receiver, urls, base

    @property
    def received(self) -> list[Received]:
        return self._receiver.received

    def url(self, name: str) -> str:
        return self._urls.get(name) or f"{self._base}/{name}"


async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads a request, then babbles or hangs up, as its path says."""
    line = await reader.readline()
    if b"/babbling" in line:
        writer.write(b"good day to you too\r\n\r\n")
        await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.fixture(params=["twin", "http"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "twin":
        yield TwinStage()
        return
    receiver = Receiver()
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(listening(receiver))
        rude_server = await stack.enter_async_context(await asyncio.start_server(rude, "127.0.0.1", 0))
        rude_port = rude_server.sockets[0].getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as unused:
            closed_port = unused.getsockname()[1]
        http = OutwardHttp(AddressPolicy(allow_private=True))
        stack.push_async_callback(http.aclose)
        urls = {
            "dropped": f"http://127.0.0.1:{rude_port}/dropped",
            "babbling": f"http://127.0.0.1:{rude_port}/babbling",
            "closed": f"http://127.0.0.1:{closed_port}/",
            "private": "http://169.254.169.254/latest/meta-data",
            "ftp": "ftp://127.0.0.1/",
        }
        yield RealStage(WebhookSender(http, total_timeout_seconds=2.0), receiver, urls, base)


def call(stage: Stage, name: str, attempt: int = 1) -> WebhookCall:
    return WebhookCall(stage.url(name), "msg_1", BODY, SECRETS, attempt, "delivery-1")


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("ok", "delivered"),
        ("empty", "delivered"),
        ("moved", "retry"),
        ("bad", "retry"),
        ("aborted", "abort"),
        ("gone", "disable"),
        ("busy", "retry"),
        ("broken", "retry"),
        ("dropped", "retry"),
        ("babbling", "retry"),
        ("hanging", "retry"),
        ("closed", "retry"),
        ("private", "retry"),
        ("ftp", "retry"),
    ],
)
async def test_whatever_an_endpoint_does_is_a_result(stage: Stage, name: str, follows: str) -> None:
    reply = REPLIES[name]
    result = await stage.transport.send(call(stage, name, attempt=3))
    assert result == AttemptResult(
        delivery="delivery-1",
        attempt=3,
        status=reply.status if reply.error is None else None,
        error=reply.error,
        latency_ms=result.latency_ms,
        retry_after_seconds=reply.retry_after_seconds,
        response_excerpt=reply.body,
        request_headers=result.request_headers,
        aborted=reply.aborted,
    )
    assert verdict(result) == follows


async def test_an_endpoint_is_told_its_version_and_the_place_of_the_event_and_signed_by_its_key(stage: Stage) -> None:
    plain = call(stage, "ok")
    await stage.transport.send(plain)
    await stage.transport.send(structs.replace(plain, keys=(b"s" * 32,), version="2026.04", sequence=7))
    first, second = (one.headers for one in stage.received)
    assert not {"zentra-version", "zentra-sequence"} & first.keys()
    assert (second["zentra-version"], second["zentra-sequence"]) == ("2026.04", "7")
    assert [one.partition(",")[0] for one in second["webhook-signature"].split()] == ["v1", "v1", "v1a"]


async def test_a_redirect_is_not_followed(stage: Stage) -> None:
    await stage.transport.send(call(stage, "moved"))
    assert len(stage.received) == 1


async def test_every_attempt_carries_the_same_id_and_bytes_and_signatures_of_all_secrets(stage: Stage) -> None:
    for attempt in (1, 2):
        await stage.transport.send(call(stage, "broken", attempt))
    first, second = stage.received
    assert first.body == second.body == BODY
    for one in (first, second):
        headers = one.headers
        assert (headers["webhook-id"], headers["content-type"]) == ("msg_1", "application/json")
        for secret in SECRETS:
            verify(
                [secret],
                headers["webhook-id"],
                headers["webhook-timestamp"],
                headers["webhook-signature"],
                one.body,
                time.time(),
            )


async def test_a_call_that_cannot_be_signed_is_the_callers_error(stage: Stage) -> None:
    unsigned = WebhookCall(stage.url("ok"), "msg_1", BODY, (), 1, "delivery-1")
    with pytest.raises(ValueError, match="at least one secret"):
        await stage.transport.send(unsigned)
    assert stage.received == []


async def test_the_twin_plays_its_script_from_the_left_and_its_last_reply_for_ever() -> None:
    twin = ScriptedEndpoints(time.time, {"u": [ScriptedReply(500), ScriptedReply(200)]})
    statuses = [(await twin.send(WebhookCall("u", "m", b"", SECRETS, n, "d"))).status for n in range(4)]
    assert statuses == [500, 200, 200, 200]
    assert (await twin.send(WebhookCall("unscripted", "m", b"", SECRETS, 1, "d"))).status == 200
    with pytest.raises(ValueError, match="at least one reply"):
        ScriptedEndpoints(time.time, {"u": []})
