"""The NATS door: requests of tenants, as the server's service imports bring them.

The tenant is a token of the subject the server wrote, so it cannot be forged; the reply subject is the server's too,
and a message with any other reply subject did not come through an import and is refused. Of the headers only the
trace, the idempotency key and the version survive. Requests are handed over in batches of what arrived together. What
is unanswered is bounded; above the bound the answer is immediate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from zentra.streams.connection import Connection
from zentra.streams.errors import StreamUnavailable, failure_of_exception

__all__ = ["IntentService", "ServiceRequest", "ServiceStatistics"]

_log = logging.getLogger(__name__)

_SUBJECT = "zentra.api.*.>"
_QUEUE = "gateway"
# The reply subjects the server makes for a service import.
_IMPORTED_REPLY = "_R_."
_KEPT_HEADERS = {
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "idempotency-key": "idempotency-key",
    "x-idempotency-key": "idempotency-key",
    "zentra-version": "zentra-version",
}
_UNANSWERED_MAX = 8192


class ServiceRequest(msgspec.Struct, frozen=True, gc=False):
    """One request of a tenant; `headers` has at most those of `_KEPT_HEADERS`; `reply` may be empty."""

    tenant: str
    verb: str
    body: bytes
    headers: dict[str, str]
    reply: str
    number: int


class ServiceStatistics(msgspec.Struct, frozen=True):
    """Counts since the service was made, and what is unanswered now."""

    received: int
    refused: int
    overloaded: int
    unanswered: int


Handler = Callable[[list[ServiceRequest]], None]


async def _told(client: Connection) -> None:
    """Return when the server has read everything that was written to it before.

    The client writes a ping past what it has pending, so the first answer may come before the rest was sent; the second
    ping follows it. Raises what `flush` raises."""
    await client.flush()
    await client.flush()


class IntentService:
    """Takes the requests of all tenants and sends the answers; one of a queue group with every other gateway."""

    def __init__(self, client: Connection, *, overloaded_answer: bytes, unanswered_max: int = _UNANSWERED_MAX) -> None:
        self._client = client
        self._overloaded_answer = overloaded_answer
        self._unanswered_max = unanswered_max
        self._unanswered: set[int] = set()
        self._arrived: list[ServiceRequest] = []
        self._handler: Handler | None = None
        self._subscription: Subscription | None = None
        self._received = self._refused = self._overloaded = 0

    async def start(self, handler: Handler) -> None:
        """Hands every request to the handler, which must call `respond` once for each, also without a reply subject.

        The handler is called from the event loop and does not wait. Raises StreamUnavailable without a connection.
        """
        self._handler = handler
        try:
            self._subscription = await self._client.subscribe(_SUBJECT, queue=_QUEUE, cb=self._on_message)
            await _told(self._client)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise failure_of_exception(error) from error

    async def respond(self, request: ServiceRequest, body: bytes) -> None:
        """Answers a request the handler was given; a second answer, and one to a fire-and-forget, goes nowhere.

        Raises StreamUnavailable when the answer cannot be sent; the tenant asks again with the same key then.
        """
        if request.number not in self._unanswered:
            return
        self._unanswered.discard(request.number)
        if request.reply:
            await self._send(request.reply, body)

    async def stop(self) -> None:
        """Takes no more requests; those already handed over can still be answered.

        Returns when the server knows it, so that no request goes to a door about to disappear. Raises
        StreamUnavailable when the server does not confirm it.
        """
        subscription, self._subscription = self._subscription, None
        if subscription is None or self._client.is_closed:
            return
        try:
            await subscription.unsubscribe()
            if self._client.is_connected:
                await _told(self._client)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise failure_of_exception(error) from error

    def statistics(self) -> ServiceStatistics:
        """What was received, refused for its reply subject, answered as overloaded, and is unanswered."""
        return ServiceStatistics(self._received, self._refused, self._overloaded, len(self._unanswered))

    async def _on_message(self, message: Msg) -> None:
        self._received += 1
        if message.reply and not message.reply.startswith(_IMPORTED_REPLY):
            self._refused += 1
            _log.warning("request refused: foreign reply subject", extra={"subject": message.subject})
            return
        if len(self._unanswered) >= self._unanswered_max:
            self._overloaded += 1
            if message.reply:
                await self._send(message.reply, self._overloaded_answer)
            return
        # zentra.api.<tenant>.<verb>, and the verb may have dots.
        _, _, tenant, verb = message.subject.split(".", 3)
        headers = {
            kept: value
            for name, value in (message.headers or {}).items()
            if (kept := _KEPT_HEADERS.get(name.lower())) is not None
        }
        request = ServiceRequest(tenant, verb, message.data, headers, message.reply, self._received)
        self._unanswered.add(request.number)
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._arrived.append(request)

    def _hand_over(self) -> None:
        requests, self._arrived = self._arrived, []
        assert self._handler is not None, "only a started service receives"
        try:
            self._handler(requests)
        except Exception:
            # Their tenants hear nothing and ask again; the door stays open for the others.
            _log.exception("request handler failed", extra={"tenants": _tenants(requests)})
            self._unanswered.difference_update(request.number for request in requests)

    async def _send(self, reply: str, body: bytes) -> None:
        if not self._client.is_connected:
            raise StreamUnavailable("disconnected")
        try:
            await self._client.publish(reply, body)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise failure_of_exception(error) from error


def _tenants(requests: Sequence[ServiceRequest]) -> list[str]:
    return sorted({request.tenant for request in requests})
