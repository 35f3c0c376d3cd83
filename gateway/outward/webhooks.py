"""The webhook sender: one signed POST per attempt, over guarded connections.

The invariants kept here:

- The bytes sent are the bytes that were committed and signed; only timestamp and signatures differ between attempts.
- Whatever an endpoint does becomes an `AttemptResult`: a status, or one of the closed list of errors.
- A redirect is a status like any other. What is kept of an answer is text that a database can store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from zentra.gateway.outward.http import AddressRefused, OutwardHttp
from zentra.gateway.outward.lookups import LookupsBusy, asker
from zentra.runtime.tracing import traceparent
from zentra.runtime.webhooks.standard import (
    RETRY_AFTER_SECONDS_MAX,
    AttemptError,
    AttemptResult,
    WebhookCall,
    signature_header,
)

if TYPE_CHECKING:
    from zentra.gateway.spans import Span, Spans

__all__ = ["WebhookSender", "retry_after_seconds"]

RETRY_AFTER_CHARACTERS_MAX = 64  # an HTTP date has 29
URL_REASONS = frozenset(
    {"url_malformed", "scheme", "userinfo", "port", "literal"}
)  # the address was not even looked at


class WebhookSender:
    """Delivers webhooks over a pool that it shares and does not close."""

    def __init__(
        self,
        http: OutwardHttp,
        *,
        total_timeout_seconds: float = 15.0,
        clock: Callable[[], float] = time.time,
        spans: Spans | None = None,
    ) -> None:
        """The time to connect is the pool's; `clock` gives unix time for timestamps and HTTP dates; `spans` makes one
        for every attempt."""
        self._http, self._spans = http, spans
        self._timeout = http.timeout(total_timeout_seconds)
        self._clock = clock

    async def send(self, call: WebhookCall) -> AttemptResult:
        """Make one attempt and return what it met. Raises ValueError only for a call that cannot be signed."""
        data = _told_of(call.body)
        if self._spans is None or data is None:
            return await self._send(call, _trace_headers(data))
        with self._begun(self._spans, call, data) as span:
            result = await self._send(call, _trace_headers(data) | {"traceparent": span.traceparent})
            if result.error is not None:
                span.failed(str(result.error))
            elif result.status is not None:
                span.answered(result.status)
            return result

    @staticmethod
    def _begun(spans: Spans, call: WebhookCall, data: _Data) -> Span:
        told: dict[str, str | int] = {
            "zentra.webhook.endpoint": call.endpoint,
            "zentra.webhook.delivery": call.delivery,
            "zentra.webhook.attempt": call.attempt,
        }
        return spans.client("POST", data.trace_id, data.tracestate, data.id, data.object_version, call.url, told)

    async def _send(self, call: WebhookCall, trace_headers: dict[str, str]) -> AttemptResult:
        now = self._clock()
        headers = {
            "content-type": "application/json",
            "webhook-id": call.id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": signature_header(call.secrets, call.id, int(now), call.body, call.keys),
        }
        if call.version:
            headers["zentra-version"] = call.version
        if call.sequence:
            headers["zentra-sequence"] = str(call.sequence)
        headers |= trace_headers
        started = time.perf_counter()
        asker.set(call.tenant)
        try:
            answer = await self._http.request("POST", call.url, body=call.body, headers=headers, timeout=self._timeout)
        except (AddressRefused, aiohttp.ClientError, OSError) as error:
            return AttemptResult(
                delivery=call.delivery,
                attempt=call.attempt,
                error=_classified(error),
                latency_ms=_milliseconds_since(started),
                request_headers=tuple(headers.items()),
            )
        return AttemptResult(
            delivery=call.delivery,
            attempt=call.attempt,
            status=answer.status,
            latency_ms=_milliseconds_since(started),
            retry_after_seconds=retry_after_seconds(answer.headers.get("retry-after"), now),
            # A zero character is valid UTF-8 and no valid text in Postgres.
            response_excerpt=answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
            request_headers=tuple(headers.items()),
            aborted=answer.headers.get("webhook-delivery", "").strip().lower() == "abort-message",
        )


class _Data(msgspec.Struct):
    id: str
    object_version: int
    trace_id: str
    tracestate: str = ""


class _Event(msgspec.Struct):
    data: _Data


_decode_event = msgspec.json.Decoder(_Event).decode


def _told_of(body: bytes) -> _Data | None:
    """Return the trace of an event; None for one committed before events had a trace, or for no event of an intent."""
    try:
        return _decode_event(body).data
    except msgspec.MsgspecError:
        return None


def _trace_headers(data: _Data | None) -> dict[str, str]:
    """Return the W3C headers of an event: the span it follows from is the record that it tells of."""
    if data is None:
        return {}
    headers = {"traceparent": traceparent(data.trace_id, data.id, data.object_version)}
    return headers | ({"tracestate": data.tracestate} if data.tracestate else {})


def retry_after_seconds(value: str | None, now: float) -> int | None:
    """Return what a `Retry-After` header asks for, in seconds from `now` and at most what the schedule would grant;
    None when it is absent or unreadable."""
    if value is None or len(value) > RETRY_AFTER_CHARACTERS_MAX:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(int(text), RETRY_AFTER_SECONDS_MAX)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a year or a zone with too many digits
        return None
    if when.tzinfo is None:  # "-0000" and some old formats: RFC 9110 says that the time is UTC
        when = when.replace(tzinfo=UTC)
    return min(max(0, round(when.timestamp() - now)), RETRY_AFTER_SECONDS_MAX)


def _classified(error: AddressRefused | aiohttp.ClientError | OSError) -> AttemptError:
    """The order is from the narrow class to the wide one: several of these inherit from one another."""
    match error:
        case AddressRefused():
            return AttemptError.URL_REFUSED if error.reason in URL_REASONS else AttemptError.ADDRESS_REFUSED
        case aiohttp.InvalidURL():
            return AttemptError.URL_REFUSED
        case aiohttp.ClientConnectorDNSError() if isinstance(error.os_error, LookupsBusy):
            return AttemptError.LOOKUPS_BUSY
        case aiohttp.ClientConnectorDNSError():
            return AttemptError.NAME_NOT_RESOLVED
        case aiohttp.ClientSSLError():
            return AttemptError.TLS_FAILED
        case aiohttp.ConnectionTimeoutError():
            return AttemptError.CONNECT_TIMEOUT
        case aiohttp.ClientHttpProxyError():
            return AttemptError.PROXY_REFUSED
        case aiohttp.ClientConnectorError():
            return AttemptError.CONNECT_FAILED
        case TimeoutError():
            return AttemptError.TIMEOUT
        case aiohttp.ClientResponseError():
            return AttemptError.ANSWER_MALFORMED
        case _:
            return AttemptError.CONNECTION_DROPPED


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
