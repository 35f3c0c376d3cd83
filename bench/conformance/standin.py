"""The server that stands in for a partner: it says what a rule wants, when it wants, and breaks as networks do.

- It speaks just enough HTTP/1.1 for one request per connection, so that it can also answer with half a sentence.
- A caller that it keeps waiting is let go when it leaves, and at the latest when the server closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Self

from zentra.bench.conformance.specimen import Asked, Reply, Request, Specimen

__all__ = ["Fault", "StandIn"]

HEAD_BYTES_MAX = 64 * 1024


class Fault(Enum):
    """How an answer fails to arrive."""

    SILENCE = auto()
    DROPPED = auto()  # the connection ends after the request was read
    CUT = auto()  # the answer ends in the middle
    NOT_HTTP = auto()


class StandIn:
    """The server; `reply` decides what is answered to what is asked of a payment."""

    def __init__(self, specimen: Specimen) -> None:
        self.reply: Callable[[Asked], Reply | Fault] = lambda asked: Reply(500, b"")
        self.asked: list[Asked] = []
        self.requests: list[Request] = []  # those about a payment
        self.together_max = 0
        self.fault: str | None = None  # what the specimen raised while it read a request
        self._specimen = specimen
        self._together = 0
        self._gate = asyncio.Event()
        self._gate.set()
        self._arrived = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """Where it listens, below a path of its own."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/bank"

    def hold(self) -> None:
        """Answer nobody until `release`."""
        self._gate.clear()

    def release(self) -> None:
        """Answer everybody."""
        self._gate.set()

    async def wait_asked(self, count: int) -> None:
        """Return when so many requests about payments have arrived, or the specimen could not read one."""
        while len(self.asked) < count and self.fault is None:
            self._arrived.clear()
            await self._arrived.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._served(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # whoever asked has gone, or the rule is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection is kept for another."""
        request = await _read(reader)
        try:
            asked = self._specimen.asked(request)
            beside = self._specimen.beside(request) if asked is None else None
        except Exception as error:
            told = f"the specimen cannot read {request.method} {request.path}: {type(error).__name__}: {error}"
            self.fault = self.fault or told  # the first is the one to mend
            self._arrived.set()
            return False
        if asked is None:
            if beside is not None:
                writer.write(_encoded(beside))
            await writer.drain()
            return beside is not None
        self.asked.append(asked)
        self.requests.append(request)
        self._arrived.set()
        self._together += 1
        self.together_max = max(self.together_max, self._together)
        try:
            await self._gate.wait()
        finally:
            self._together -= 1
        answer = self.reply(asked)
        match answer:
            case Fault.SILENCE:
                await reader.read()  # until the caller leaves
            case Fault.CUT:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
            case Fault.NOT_HTTP:
                writer.write(b"220 mail.example ESMTP\r\n\r\n")
            case Reply():
                writer.write(_encoded(answer))
        await writer.drain()
        return isinstance(answer, Reply)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path.removeprefix("/bank"), headers, body)


def _encoded(reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} Said", f"content-length: {len(reply.body)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body
