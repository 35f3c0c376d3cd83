"""Small ASGI servers inside a running event loop: the sandbox rail in a development stack, receivers in tests.

- The server never touches signals: they belong to the process, and its owner decides when to stop.
- Port 0 takes a free port; the socket is bound before the server starts, so the address is known at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn

__all__ = ["AsgiApp", "Message", "Receive", "Scope", "Send", "answer", "hang", "listening", "quiet_config", "read_body"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SHUTDOWN_SECONDS = 2  # a request that hangs must not keep the server up
BACKLOG = 2048
TICK_SECONDS = 0.1  # uvicorn counts ten ticks as a second


def quiet_config(app: AsgiApp, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Config:
    """Return the configuration of a server that neither logs requests nor names itself."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks where a request came from
        timeout_keep_alive=30,  # longer than callers keep an idle connection, so they never meet a closing one
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
    )


@contextlib.asynccontextmanager
async def listening(app: AsgiApp, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `app` while the context is open; yields its base URL. Raises OSError when the address cannot be bound."""
    with socket.create_server((host, port), backlog=BACKLOG) as listener:
        server = _GuestServer(quiet_config(app))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        ready = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
            if not server.ready.is_set():
                raise OSError("the server ended before it was ready")
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            ready.cancel()
            server.stopping.set()
            await running


class _GuestServer(uvicorn.Server):
    """A server in somebody else's event loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # The tick keeps the date header; waiting for the event instead of sleeping ends the server without delay.
        tick = 0
        while not self.stopping.is_set() and not await self.on_tick(tick):
            tick = (tick + 1) % 864_000
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), TICK_SECONDS)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def read_body(receive: Receive, bytes_max: int) -> bytes | None:
    """Return the request's body; None for one that is longer than `bytes_max` or was broken off."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > bytes_max:
            return None
        if not message.get("more_body", False):
            return body


async def answer(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send one whole JSON answer."""
    fixed = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def hang(receive: Receive, seconds: float) -> None:
    """Wait until the caller has gone away, or `seconds` at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                continue
