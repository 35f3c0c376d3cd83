"""What `zentra listen` does: a developer's endpoint without an endpoint, fed from the tenant's stream of events.

- Every event that an endpoint with these filters would get is posted to a local URL, in order, with the bytes that
  endpoints get and a signature under a secret of its own. What is sent again to some endpoint comes here again too,
  under the id of the first time.
- Nothing is lost in silence. A stream that breaks off goes on behind its last event; an event that nobody takes,
  because nothing listens at the URL, is held until somebody does; what was answered with an error is told.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp
import msgspec
from msgspec import Struct

from zentra.client.api import APIConnectionError, AsyncZentra
from zentra.client.models import StreamEvent
from zentra.runtime.webhooks.delivery import is_told
from zentra.runtime.webhooks.standard import matches, parse_secret, signature_header

__all__ = ["Forwarded", "Listener", "secret_of"]

TOLD_AGAIN: Final = ("webhook.delivered", "webhook.retrying", "webhook.exhausted")
PAUSE_SECONDS_FIRST: Final = 0.25
PAUSE_SECONDS_MAX: Final = 5.0
ANSWER_SECONDS_MAX: Final = 30.0


class Forwarded(Struct, frozen=True, kw_only=True):
    """One line of what happened: an event and its answer, or a `note` about the way there."""

    event: str = ""
    intent_id: str = ""
    sequence: int = 0
    webhook_id: str = ""
    status: int | None = None
    milliseconds: int = 0
    resent: bool = False
    note: str = ""
    stream_id: str = ""  # where to go on behind it


def secret_of(api_key: str) -> str:
    """Return the secret that everything forwarded for this key is signed with: always the same, and no way back."""
    digest = hmac.digest(api_key.encode(), b"zentra listen", "sha256")
    return "whsec_" + base64.b64encode(digest).decode("ascii")


class Listener:
    """Follows a tenant's events and forwards them; `told` hears of each, in order."""

    def __init__(
        self,
        client: AsyncZentra,
        url: str,
        secret: str,
        *,
        events: Sequence[str] = ("*",),
        told: Callable[[Forwarded], None],
        last_id: str | None = None,
    ) -> None:
        """`secret` is `whsec_...`; raises ValueError for another text."""
        self._client, self._url, self._secret = client, url, parse_secret(secret)
        self._events, self._told, self.last_id = tuple(events), told, last_id

    async def run(self) -> None:
        """Forward until cancelled.

        Raises APIStatusError for a key that may not listen, and where the server no longer has what comes behind
        `last_id` (`events_gone`): then something was missed, and whoever goes on has to say so."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
            while True:
                try:
                    await self._follow(http)
                except APIConnectionError as error:
                    self._told(Forwarded(note=f"the stream broke off ({error}); going on behind the last event"))
                    await asyncio.sleep(PAUSE_SECONDS_MAX)

    async def _follow(self, http: aiohttp.ClientSession) -> None:
        async with self._client.runtime.events.stream(last_id=self.last_id) as stream:
            async for event in stream:
                await self._forward(http, event)
                self.last_id = event.id

    async def _forward(self, http: aiohttp.ClientSession, event: StreamEvent) -> None:
        record = event.record
        if event.event in TOLD_AGAIN:
            await self._forward_again(http, event)
        elif is_told(event.event) and matches(self._events, event.event):
            body = await self._client.webhooks.body(record.intent, record.sequence)
            await self._send(http, event, event.event, record.sequence, body, resent=False)

    async def _forward_again(self, http: aiohttp.ClientSession, event: StreamEvent) -> None:
        """Forward what somebody has asked to be sent again to an endpoint, once that attempt has ended."""
        facts = event.record.facts
        if not matches(self._events, str(facts.get("event", ""))):
            return
        delivery = await self._client.webhooks.deliveries.get(str(facts["delivery"]))
        attempt = next((one for one in delivery.attempts if one.number == facts.get("attempts")), None)
        if attempt is None or attempt.trigger == "automatic" or delivery.sequence is None:
            return
        body = await self._client.webhooks.body(delivery.intent, delivery.sequence)
        await self._send(http, event, delivery.event, delivery.sequence, body, resent=True)

    async def _send(
        self, http: aiohttp.ClientSession, event: StreamEvent, topic: str, sequence: int, body: bytes, *, resent: bool
    ) -> None:
        id, pause = _id(event.record.intent, sequence), PAUSE_SECONDS_FIRST
        line = Forwarded(
            event=topic, intent_id=event.record.intent_id, sequence=sequence, webhook_id=id, resent=resent,
            stream_id=event.id,
        )  # fmt: skip
        while True:
            started, now = time.perf_counter(), int(time.time())
            headers = {
                "content-type": "application/json", "webhook-id": id, "webhook-timestamp": str(now),
                "webhook-signature": signature_header((self._secret,), id, now, body),
            }  # fmt: skip
            try:
                async with http.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                    await answer.read()
                    spent = round((time.perf_counter() - started) * 1000)
                    self._told(msgspec.structs.replace(line, status=answer.status, milliseconds=spent))
                    return
            except (aiohttp.ClientError, OSError) as error:
                if pause == PAUSE_SECONDS_FIRST:
                    note = f"{self._url} does not answer ({type(error).__name__}); holding this event until it does"
                    self._told(msgspec.structs.replace(line, note=note))
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_SECONDS_MAX)


def _id(intent: str, sequence: int) -> str:
    return "msg_" + hashlib.sha256(f"listen/{intent}/{sequence}".encode()).hexdigest()[:32]
