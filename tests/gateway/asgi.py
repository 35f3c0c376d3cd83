"""Calling an ASGI application without a socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from zentra.gateway.listening import AsgiApp, Message

__all__ = ["Answer", "call"]


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["code"])


async def call(
    app: AsgiApp,
    method: str,
    target: str,
    body: object = None,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    parts: int = 1,
    peer: str | None = None,
) -> Answer:
    """Send one request, from the address `peer`; a body that is no bytes goes as JSON, in as many `parts` as asked
    for."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    if body is not None and not any(name == "content-type" for name, _ in pairs):
        pairs.append(("content-type", "application/json"))
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "client": (peer, 40_000) if peer else None,
    }
    step = -(-len(raw) // parts) or 1
    chunks = [raw[place : place + step] for place in range(0, len(raw), step)] or [b""]
    inbound = [
        {"type": "http.request", "body": chunk, "more_body": place < len(chunks) - 1}
        for place, chunk in enumerate(chunks)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return inbound.pop(0) if inbound else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], answered, b"".join(message["body"] for message in rest))
