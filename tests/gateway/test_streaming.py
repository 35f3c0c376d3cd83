"""A stream is paced by its reader, tells where it is, and ends when it has to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from zentra.gateway.http import streaming
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.streaming import Source, StreamEvent, Streams
from zentra.gateway.listening import Message
from zentra.runtime.errors import Unavailable


class Fed:
    """A source that a test feeds; an exception is raised when its turn has come."""

    def __init__(self, *first: StreamEvent) -> None:
        self.first, self.closed = list(first), False
        self.coming: asyncio.Queue[list[StreamEvent] | Exception] = asyncio.Queue()
        self.refuses: Exception | None = None

    async def open(self) -> list[StreamEvent]:
        if self.refuses is not None:
            raise self.refuses
        return self.first

    async def next(self) -> list[StreamEvent]:
        come = await self.coming.get()
        if isinstance(come, Exception):
            raise come
        return come

    async def aclose(self) -> None:
        self.closed = True


class Client:
    """The other end of a stream; `stuck` takes nothing any more."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.arrived = asyncio.Condition()
        self.gone = asyncio.Event()
        self.stuck = False

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    async def send(self, message: Message) -> None:
        if self.stuck:
            await asyncio.get_running_loop().create_future()
        async with self.arrived:
            self.sent.append(message)
            self.arrived.notify_all()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def until(self, text: bytes) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: text in self.text)


async def fine() -> object:
    return None


async def begun(
    streams: Streams, source: Source, client: Client, check: Callable[[], Awaitable[object]] = fine
) -> asyncio.Task[None]:
    stream = await streams.opened("acme", source)
    return asyncio.create_task(stream.run(client.receive, client.send, [(b"x-request-id", b"r")], check))


async def test_events_are_written_with_their_ids() -> None:
    streams, source, client = Streams(), Fed(StreamEvent("s0")), Client()
    running = await begun(streams, source, client)
    source.coming.put_nowait([StreamEvent("1", "ledger.posted", b'{"a":1}'), StreamEvent("2", "x", b"{}")])
    await client.until(b"id: 2")
    assert client.text == (
        b'retry: 2000\n\nid: s0\n\nid: 1\nevent: ledger.posted\ndata: {"a":1}\n\nid: 2\nevent: x\ndata: {}\n\n'
    )
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream"
    assert (headers[b"x-accel-buffering"], headers[b"x-request-id"]) == (b"no", b"r")
    client.gone.set()
    await running
    assert (source.closed, streams.count) == (True, 0)


async def test_a_quiet_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.01)
    streams, source, client = Streams(), Fed(), Client()
    running = await begun(streams, source, client)
    await client.until(b": still here\n\n: still here\n\n")
    source.coming.put_nowait([StreamEvent("1", "x", b"{}")])
    await client.until(b"id: 1\n")
    client.gone.set()
    await running


async def test_a_reader_that_takes_nothing_is_dropped_and_little_is_kept_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "SEND_SECONDS_MAX", 0.05)
    streams, source, client = Streams(), Fed(), Client()
    running = await begun(streams, source, client)
    await client.until(b"retry")
    client.stuck = True
    for number in range(100):
        source.coming.put_nowait([StreamEvent(str(number), "x", b"{}")])
    await running
    assert source.coming.qsize() == 99, "what is not sent is not asked for"
    assert (source.closed, streams.count) == (True, 0)


async def test_draining_ends_every_stream_cleanly_and_opens_none() -> None:
    streams, clients = Streams(), [Client(), Client()]
    running = [await begun(streams, Fed(), client) for client in clients]
    for client in clients:
        await client.until(b"retry")
    streams.drain()
    await asyncio.gather(*running)
    for client in clients:
        assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    with pytest.raises(Problem, match="streams_too_many"):
        await streams.opened("acme", Fed())


async def test_a_key_that_is_worth_nothing_any_more_ends_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "RECHECK_SECONDS", 0.01)
    verdicts: list[Exception | None] = [None, Unavailable("store"), None, Problem("key_revoked")]

    async def check() -> object:
        verdict = verdicts.pop(0)
        if verdict is not None:
            raise verdict
        return None

    streams, client = Streams(), Client()
    await (await begun(streams, Fed(), client, check))
    assert verdicts == []
    assert client.sent[-1]["more_body"] is False


async def test_a_source_that_breaks_off_ends_its_stream() -> None:
    streams, source, client = Streams(), Fed(), Client()
    running = await begun(streams, source, client)
    source.coming.put_nowait(Unavailable("store"))
    await running
    assert (source.closed, streams.count) == (True, 0)


@pytest.mark.parametrize(("per_tenant", "in_all", "tenant"), [(2, 10, "acme"), (10, 2, "globex")])
async def test_streams_are_bounded_per_tenant_and_in_all(per_tenant: int, in_all: int, tenant: str) -> None:
    streams, client = Streams(per_tenant_max=per_tenant, streams_max=in_all), Client()
    running = [await begun(streams, Fed(), client) for _ in range(2)]
    with pytest.raises(Problem, match="streams_too_many"):
        await streams.opened(tenant, Fed())
    client.gone.set()
    await asyncio.gather(*running)
    assert await streams.opened(tenant, Fed())


@pytest.mark.parametrize("refusal", [Problem("events_gone"), Unavailable("nats")])
async def test_a_source_that_refuses_leaves_nothing_behind(refusal: Exception) -> None:
    streams, source = Streams(), Fed()
    source.refuses = refusal
    with pytest.raises(type(refusal)):
        await streams.opened("acme", source)
    assert (source.closed, streams.count) == (True, 0)


def test_every_stream_event_is_one_block() -> None:
    written: Any = streaming._written(StreamEvent("7", "case.opened", b"{}"))
    assert written.count(b"\n\n") == 1
