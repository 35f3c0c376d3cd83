"""Server-sent events: how a stream of events is held open, paced and ended (WHATWG HTML, 9.2).

- Every event has an id; whoever comes back with `Last-Event-ID` goes on behind it.
- A comment every 15 seconds keeps proxies and clients from giving up, and is how a client that is gone is noticed.
- What is sent waits for the reader, and what is read from the source waits for what is sent: a stream holds one batch
  and what the transport buffers. A reader that takes nothing for ten seconds is dropped; it comes back where it was.
- Who may read is asked again every few seconds: a revoked key ends its streams as it ends everything else.
- Streams are bounded per tenant and in all. When the gateway drains they end; clients go on at another one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

from zentra.gateway.http.problems import Problem
from zentra.gateway.listening import Receive, Send
from zentra.runtime.errors import ZentraError
from zentra.streams.ending import ended

__all__ = ["EventStream", "Source", "StreamEvent", "Streamed", "Streams"]

HEARTBEAT_SECONDS: Final = 15.0
RECHECK_SECONDS: Final = 5.0  # as long as the worth of a key is remembered
SEND_SECONDS_MAX: Final = 10.0
RETRY_MILLISECONDS: Final = 2_000  # after which a client that lost its stream comes back
PER_TENANT_MAX: Final = 50
STREAMS_MAX: Final = 1_000  # each costs a socket, a task or two and some hundred kilobytes
RETRY_AFTER_SECONDS: Final = 5
HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back until a buffer is full
    (b"connection", b"close"),  # what is left in the socket of a dropped reader is no next answer
)
_HEARTBEAT: Final = b": still here\n\n"

Headers = Sequence[tuple[bytes, bytes]]


class StreamEvent(NamedTuple):
    """One event. `data` holds no line break; without a name and data only the id is told."""

    id: str
    name: str = ""
    data: bytes = b""


class Source(Protocol):
    """Where the events of one stream come from."""

    async def open(self) -> list[StreamEvent]:
        """Begin, and return what is told at once. Raises Problem or Unavailable where there is no stream to be had."""
        ...

    async def next(self) -> list[StreamEvent]:
        """Wait for more and return it, a bounded batch, at least one event. Raises Unavailable where it breaks off."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...


class Streamed(Protocol):
    """An answer that is sent piece by piece."""

    async def run(self, receive: Receive, send: Send, headers: Headers, check: Callable[[], Awaitable[object]]) -> None:
        """Send all of it, with these headers beside its own; `check` raises Problem where a client may read no more."""
        ...


class Streams:
    """The streams of a gateway: how many there are, and when they end."""

    def __init__(self, *, per_tenant_max: int = PER_TENANT_MAX, streams_max: int = STREAMS_MAX) -> None:
        self._per_tenant_max, self._streams_max = per_tenant_max, streams_max
        self._open: Counter[str] = Counter()
        self.ending = asyncio.Event()

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._open.total()

    def drain(self) -> None:
        """End all streams, and open no more."""
        self.ending.set()

    async def opened(self, tenant: str, source: Source) -> EventStream:
        """Return a stream of the tenant, begun. Raises Problem `streams_too_many`, and what the source raises."""
        if self.ending.is_set() or self.count >= self._streams_max or self._open[tenant] >= self._per_tenant_max:
            raise Problem("streams_too_many", retry_after=RETRY_AFTER_SECONDS)
        self._open[tenant] += 1
        try:
            first = await source.open()
        except BaseException:
            self._left(tenant)
            await source.aclose()
            raise
        return EventStream(source, first, self.ending, lambda: self._left(tenant))

    def _left(self, tenant: str) -> None:
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]


class EventStream:
    """A stream that was begun; `run` answers with it and returns when it is over."""

    def __init__(
        self, source: Source, first: list[StreamEvent], ending: asyncio.Event, left: Callable[[], None]
    ) -> None:
        self._source, self._first, self._ending, self._left = source, first, ending, left

    async def run(self, receive: Receive, send: Send, headers: Headers, check: Callable[[], Awaitable[object]]) -> None:
        """Send events until the client is gone or too slow, `check` refuses, the source breaks off or streams end."""
        over = asyncio.create_task(self._over(receive, check), name="stream watch")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*headers, *HEADERS]})
            await self._send_all(send, over)
        except (ZentraError, TimeoutError):
            pass  # the client comes back with the last id that it has: nothing has to be told
        finally:
            self._left()
            await ended(over)
            await self._source.aclose()

    async def _send_all(self, send: Send, over: asyncio.Task[None]) -> None:
        events, lead = self._first, b"retry: %d\n\n" % RETRY_MILLISECONDS
        coming: asyncio.Task[list[StreamEvent]] | None = None
        try:
            while not over.done():
                if events or lead:
                    await _sent(send, lead + b"".join(map(_written, events)))
                    events, lead = [], b""
                coming = coming or asyncio.create_task(self._source.next(), name="stream source")
                await asyncio.wait((coming, over), timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    events, coming = coming.result(), None
                else:
                    lead = _HEARTBEAT
        finally:
            if coming is not None:
                await ended(coming)
        await _sent(send, b"", more=False)

    async def _over(self, receive: Receive, check: Callable[[], Awaitable[object]]) -> None:
        """Return when the stream is over: the client has gone, all streams end, or the client may read no more."""
        gone = asyncio.create_task(_disconnected(receive))
        ending = asyncio.create_task(self._ending.wait())
        try:
            while not gone.done() and not ending.done():
                await asyncio.wait((gone, ending), timeout=RECHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                try:
                    await check()
                except Problem:
                    return
                except ZentraError:
                    continue  # a store that does not answer says nothing about the key
        finally:
            gone.cancel()
            ending.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _sent(send: Send, data: bytes, *, more: bool = True) -> None:
    """Send; raises TimeoutError where the reader does not take it."""
    async with asyncio.timeout(SEND_SECONDS_MAX):
        await send({"type": "http.response.body", "body": data, "more_body": more})


def _written(event: StreamEvent) -> bytes:
    if not event.name:
        return b"id: %b\n\n" % event.id.encode()
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.name.encode(), event.data)
