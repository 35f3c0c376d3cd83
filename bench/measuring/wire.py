"""HTTP/1.1 with as little as possible around it: a client pool for load and a server that costs next to nothing.

A generator shares its cores with what it measures, so every microsecond of its own is one that the server is denied.
Both sides speak to this machine only. A connection has one request at a time; there is no pipelining to hide a wait.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

__all__ = ["ConnectionLost", "HttpPool", "Response", "serve"]

CONNECT_SECONDS_MAX: Final = 5.0
SWEEP_SECONDS: Final = 1.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
_REPLAYED: Final = re.compile(rb"\r\nidempotent-replayed: *true *\r\n", re.IGNORECASE)
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after: *([^\r]*?) *\r\n", re.IGNORECASE)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class ConnectionLost(Exception):
    """Raised when the server closed the connection, or sent what is no HTTP, before it had answered."""


class Response(NamedTuple):
    """An answer: status and body, whether the server said that it had given it before, and when to come back."""

    status: int
    body: bytes
    replayed: bool
    retry_after: str = ""


class _ClientProtocol(asyncio.Protocol):
    """One kept-alive connection with at most one request on its way.

    An answer is taken apart by what is needed of it: its status, its length, and two headers where they can matter."""

    def __init__(self) -> None:
        self._received = b""
        self._closing = False
        self.answer: asyncio.Future[Response] | None = None
        self.transport: asyncio.Transport | None = None
        self.deadline = math.inf

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing() and not self._closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.fail(ConnectionLost(f"connection closed: {exc or 'by the server'}"))

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self._received = data
            return
        try:
            status, length = int(data[9:12]), _LENGTH.search(data, 0, head + 2)
            end = head + 4 + (int(length[1]) if length else _length_unsaid(data, status))
        except ValueError as error:
            self.fail(ConnectionLost(f"no HTTP that is understood: {error}"))
            return
        if len(data) < end:
            self._received = data
            return
        self._received = b""
        self._closing = _CLOSE.search(data, 0, head + 2) is not None
        later = _RETRY_AFTER.search(data, 0, head + 2) if status >= HTTPStatus.BAD_REQUEST else None
        again = _REPLAYED.search(data, 0, head + 2) is not None
        answer, self.answer = self.answer, None
        if answer is not None and not answer.done():
            answer.set_result(
                Response(status, data[head + 4 : end], again, later[1].decode("latin-1") if later else "")
            )

    def fail(self, error: Exception) -> None:
        """Give up on the request, and on the connection: an answer that comes late must not meet the next one."""
        answer, self.answer = self.answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


def _length_unsaid(data: bytes, status: int) -> int:
    if not data.startswith(b"HTTP/1.") or status != HTTPStatus.NO_CONTENT:
        raise ValueError("an answer has to say how long it is")
    return 0


class HttpPool:
    """Kept-alive connections to one server on this machine."""

    def __init__(self, url: str, headers: Mapping[str, str], *, connections_max: int) -> None:
        """`headers` go with every request. Raises ValueError for a server that is not on this machine."""
        parts = urlsplit(url)
        if parts.hostname not in _LOOPBACK or parts.scheme != "http":
            raise ValueError(f"load goes to this machine only, not to {url}")
        self._host, self._port = parts.hostname, parts.port or 80
        fixed = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"HTTP/1.1\r\nhost: {parts.netloc}\r\n{fixed}".encode()
        self._free: list[_ClientProtocol] = []
        self._busy: set[_ClientProtocol] = set()
        self._slots = asyncio.Semaphore(connections_max)
        self._sweep: asyncio.TimerHandle | None = None

    async def request(self, method: str, path: str, body: bytes, headers: bytes, seconds_max: float) -> Response:
        """Return the answer; `headers` are lines that end with CR LF.

        Raises ConnectionLost, TimeoutError where it took about a second longer than `seconds_max`, and OSError without
        a server."""
        async with self._slots:
            connection = self._free.pop() if self._free else None
            if connection is None or not connection.usable:
                connection = await self._connected()
            loop = asyncio.get_running_loop()
            answer = connection.answer = loop.create_future()
            connection.deadline = loop.time() + seconds_max
            self._busy.add(connection)
            if self._sweep is None:
                self._sweep = loop.call_later(SWEEP_SECONDS, self._give_up)
            assert connection.transport is not None
            connection.transport.write(
                b"%b %b %bcontent-length: %d\r\n%b\r\n%b"
                % (method.encode(), path.encode(), self._head, len(body), headers, body)
            )
            try:
                response: Response = await answer
            except BaseException:
                connection.fail(ConnectionLost("nobody waits for the answer"))
                raise
            finally:
                self._busy.discard(connection)
            if connection.usable:
                self._free.append(connection)
            return response

    async def close(self) -> None:
        """Close what is open."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._free:
            if connection.transport is not None:
                connection.transport.close()
        self._free.clear()

    def _give_up(self) -> None:
        """End the requests that have waited for too long: one timer for all of them, since next to none does."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [each for each in self._busy if each.deadline < now]:
            connection.fail(TimeoutError())
        self._sweep = loop.call_later(SWEEP_SECONDS, self._give_up)

    async def _connected(self) -> _ClientProtocol:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            _, made = await asyncio.get_running_loop().create_connection(_ClientProtocol, self._host, self._port)
        return made


# (method, path, headers in lower case, body) -> (status, body)
Handler = Callable[[bytes, bytes, dict[bytes, bytes], bytes], tuple[int, bytes]]
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class _ServerProtocol(asyncio.Protocol):
    """One connection of the server; its handler answers without waiting."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._begin()

    def _begin(self) -> None:
        self._path = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, body = self._handler(self._parser.get_method(), self._path, self._headers, b"".join(self._body))
        if self._transport is not None:
            self._transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (status, _REASONS[status], len(body), body)
            )


@asynccontextmanager
async def serve(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """Answer on this machine with `handler` while the context is open; yields the port. Raises OSError."""
    server = await asyncio.get_running_loop().create_server(lambda: _ServerProtocol(handler), "127.0.0.1", port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
