"""The null server: says 202 to every intent and does nothing, over HTTP, in bulk and over NATS.

What a generator reaches against it is the generator's own ceiling. A figure near the ceiling says something about the
generator, so the ceiling is printed beside every result. Over NATS it speaks as much of the protocol as one client with
one inbox needs.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final, cast

import msgspec
import uvloop

from zentra.bench.measuring.transports import BULK_ROUTE
from zentra.bench.measuring.wire import serve

__all__ = ["main"]

# About as long as a real answer, so that reading it costs the generator what a real one does.
ANSWER: Final = msgspec.json.encode({
    "amount": "100000", "currency": "NGN", "destination": "merchant-1", "id": "0" * 32, "intent_id": "i" * 16,
    "kind": "transfer", "links": {"evidence": "e" * 60, "self": "s" * 50}, "source": "customer-1",
    "status": "ACCEPTED", "created_at": "2026-01-01T00:00:00.000000Z",
})  # fmt: skip
ITEM: Final = b'{"status":202,"replayed":false,"body":%b}' % ANSWER
INFO: Final = b'INFO {"server_id":"null","version":"2.11.0","proto":1,"headers":true,"max_payload":1048576}\r\n'


def answer_http(method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
    """Return what a request is answered: one answer, or one for each intent of a bulk."""
    if path == BULK_ROUTE.encode():
        return 200, b'{"results":%b}' % answer_of(body)
    return 202, ANSWER


def answer_of(body: bytes) -> bytes:
    """Return the answer to one intent or to an array of them."""
    if not body.startswith(b"["):
        return ITEM
    return b"[" + b",".join([ITEM] * len(msgspec.json.decode(body, type=list[msgspec.Raw]))) + b"]"


class NullNats(asyncio.Protocol):
    """One client connection: every request is answered to its reply subject at once."""

    def __init__(self) -> None:
        self._buffer = b""
        self._inbox_sid = b"1"
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self._transport.write(INFO)

    def data_received(self, data: bytes) -> None:
        buffer, at, out = self._buffer + data, 0, []
        while (end := buffer.find(b"\r\n", at)) >= 0:
            words = buffer[at:end].split()
            after = end + 2
            match words[0].upper() if words else b"":
                case b"PUB":
                    size = int(words[-1])
                    if len(buffer) < after + size + 2:
                        break
                    if len(words) == 4:
                        body = answer_of(buffer[after : after + size])
                        out.append(b"MSG %b %b %d\r\n%b\r\n" % (words[2], self._inbox_sid, len(body), body))
                    after += size + 2
                case b"PING":
                    out.append(b"PONG\r\n")
                case b"SUB":
                    self._inbox_sid = words[-1]
            at = after
        self._buffer = buffer[at:]
        if out and self._transport is not None:
            self._transport.write(b"".join(out))


async def _run() -> None:
    nats = await asyncio.get_running_loop().create_server(NullNats, "127.0.0.1", 0)
    async with nats, serve(answer_http) as http_port:
        ports = {"http": http_port, "nats": nats.sockets[0].getsockname()[1]}
        sys.stdout.write(msgspec.json.encode(ports).decode() + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Print the ports as JSON and serve until standard input ends."""
    uvloop.run(_run())


if __name__ == "__main__":
    main()
