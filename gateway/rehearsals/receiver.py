"""A webhook consumer for demonstrations: keeps what it was sent, checks the signatures, and can be out of order.

It answers 204 while it is up and 503 while it is down. What it was sent is a list, in order of arrival."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import msgspec
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.webhooks.standard import verify

__all__ = ["Received", "Receiver"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Received(Struct, frozen=True):
    """One call: its id, its body, whether the signature was ours, and whether it was accepted."""

    id: str
    type: str
    intent_id: str
    body: bytes
    signed: bool
    accepted: bool


class Receiver:
    """An ASGI application that plays a tenant's webhook consumer."""

    def __init__(self) -> None:
        self.secrets: list[bytes] = []
        self.down = False
        self.calls: list[Received] = []
        self._arrived = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one call."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.calls.append(self._read(headers, body))
        self._arrived.set()
        self._arrived = anyio.Event()
        await send({"type": "http.response.start", "status": 503 if self.down else 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def wait(self, condition: Callable[[Received], bool]) -> Received:
        """Return the first call, past or future, that fits."""
        while True:
            for call in self.calls:
                if condition(call):
                    return call
            await self._arrived.wait()

    def _read(self, headers: dict[str, str], body: bytes) -> Received:
        event = msgspec.json.decode(body)
        identifier, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        try:
            verify(self.secrets, identifier, stamp, headers.get("webhook-signature", ""), body, time.time())
            signed = True
        except Refusal:
            signed = False
        return Received(identifier, event["type"], event["data"]["intent_id"], body, signed, not self.down)
