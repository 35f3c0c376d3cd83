"""The webhook consumer of a chaos run: one application for every tenant, which can be told to misbehave.

- What arrived is kept by webhook id: how often, whether a signature was ever wrong, whether the bytes ever differed.
- While it hangs it never answers the calls it has taken; while it is slow it accepts them after their sender gave up;
  while it fails it answers 500."""

import asyncio
import hashlib
import time
from enum import StrEnum
from typing import Final

from msgspec import Struct

from zentra.gateway.listening import Receive, Scope, Send, answer, read_body
from zentra.runtime.errors import Refusal
from zentra.runtime.webhooks.standard import verify

__all__ = ["Arrived", "Consumer", "Mood"]

BODY_BYTES_MAX: Final = 1024 * 1024
TOO_LATE_SECONDS: Final = 15.5  # half a second after a sender gives up
HANG_SECONDS_MAX: Final = 60.0  # whoever has not gone away by then never will


class Mood(StrEnum):
    """How the consumer treats a call."""

    WELL = "well"
    HANGS = "hangs"
    SLOW = "slow"
    FAILS = "fails"


class Arrived(Struct):
    """What the consumer knows of one webhook id. `accepted` counts answers that said so."""

    calls: int = 0
    accepted: int = 0
    digest: bytes = b""
    unsigned: int = 0
    differing: int = 0


class Consumer:
    """An ASGI application; `mood` may be changed at any time."""

    def __init__(self) -> None:
        self.mood = Mood.WELL
        self.secrets: list[bytes] = []
        self.arrived: dict[str, Arrived] = {}
        self.accepted_at: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one call."""
        if scope["type"] != "http":
            return
        body = await read_body(receive, BODY_BYTES_MAX)
        if body is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        known = self._note(headers, body)
        match self.mood:
            case Mood.HANGS:
                await _gone(receive, HANG_SECONDS_MAX)
            case Mood.SLOW:
                await asyncio.sleep(TOO_LATE_SECONDS)
            case Mood.FAILS:
                await answer(send, 500, b'{"status":"broken"}')
                return
            case Mood.WELL:
                known.accepted += 1
                self.accepted_at.append(time.time())
        await answer(send, 200, b'{"status":"taken"}')

    def _note(self, headers: dict[str, str], body: bytes) -> Arrived:
        identifier, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        known = self.arrived.setdefault(identifier, Arrived())
        known.calls += 1
        try:
            verify(self.secrets, identifier, stamp, headers.get("webhook-signature", ""), body, time.time())
        except Refusal:
            known.unsigned += 1
        digest = hashlib.sha256(body).digest()
        known.differing += bool(known.digest and known.digest != digest)
        known.digest = digest
        return known


async def _gone(receive: Receive, seconds: float) -> None:
    """Return when the caller has gone away, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                continue
    except TimeoutError:
        return
