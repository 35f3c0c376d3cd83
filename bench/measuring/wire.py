"""HTTP/1.1 with as little as possible around it: a client pool for load and a server that costs next to nothing.

A generator shares its cores with what it measures, so every microsecond of its own is one that the server is denied.
Both sides speak to this machine only. A connection has one request at a time; there is no pipelining to hide a wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

__all__ = ["ConnectionLost", "HttpPool", "Response", "serve"]

CONNECT_SECONDS_MAX: Final = 5.0
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
    """One kept-alive connection with at most one request on its way."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._replayed = False
        self._retry_after = ""
        self._closing = False
        self.answer: asyncio.Future[Response] | None = None
        self.transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing() and not self._closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(f"connection closed: {exc or 'by the server'}")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"no HTTP: {error}")
            if self.transport is not None:
                self.transport.abort()

    def on_message_begin(self) -> None:
        self._body, self._replayed, self._retry_after = [], False, ""

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"idempotent-replayed":
                self._replayed = value == b"true"
            case b"retry-after":
                self._retry_after = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._closing = not self._parser.should_keep_alive()
        answer, self.answer = self.answer, None
        if answer is not None and not answer.done():
            answer.set_result(
                Response(self._parser.get_status_code(), b"".join(self._body), self._replayed, self._retry_after)
            )

    def _fail(self, why: str) -> None:
        answer, self.answer = self.answer, None
        if answer is not None and not answer.done():
            answer.set_exception(ConnectionLost(why))


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
        self._slots = asyncio.Semaphore(connections_max)

    async def request(self, method: str, path: str, body: bytes, headers: bytes, seconds_max: float) -> Response:
        """Return the answer; `headers` are lines that end with CR LF.

        Raises ConnectionLost, TimeoutError where it took longer than `seconds_max`, and OSError without a server."""
        async with self._slots, asyncio.timeout(seconds_max):
            connection = await self._connection()
            try:
                answer = connection.answer = asyncio.get_running_loop().create_future()
                assert connection.transport is not None
                connection.transport.write(
                    b"%b %b %bcontent-length: %d\r\n%b\r\n%b"
                    % (method.encode(), path.encode(), self._head, len(body), headers, body)
                )
                response: Response = await answer
            except BaseException:
                if connection.transport is not None:
                    connection.transport.abort()  # an answer that comes late must not meet the next request
                raise
            if connection.usable:
                self._free.append(connection)
            return response

    async def close(self) -> None:
        """Close what is open."""
        for connection in self._free:
            if connection.transport is not None:
                connection.transport.close()
        self._free.clear()

    async def _connection(self) -> _ClientProtocol:
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
