"""The sandbox rail's adapter: its HTTP words and its callback signature, turned into the one outcome type.

The invariants kept here:

- `not_accepted` is said only when the rail wrote `"accepted": false`, or when no connection was ever made; every
  other failure is `unknown`, because the rail may have the payment.
- A callback is believed only when HMAC-SHA256(secret, timestamp + "." + raw body) matches and its time is near; each
  attempt of the rail signs anew.
- A signed callback with a word we do not know is `unknown`, not refused: the rail did say something.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import msgspec

from zentra.gateway.outward.http import AddressPolicy, AddressRefused, Answer, OutwardHttp
from zentra.runtime.rails.port import (
    UNKNOWN_CAUSE,
    CallbackCode,
    CallbackRejected,
    Cause,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    RailSettings,
    Submission,
    Trust,
    Verdict,
    minor_from_text,
    raw_digest,
    require_network,
)
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.tracing import traceparent

if TYPE_CHECKING:
    from zentra.gateway.spans import Span, Spans

__all__ = [
    "SANDBOX_DECLARATION",
    "SIGNATURE_HEADER",
    "STATUSES",
    "TIMESTAMP_HEADER",
    "CallbackBody",
    "PaymentBody",
    "SandboxRail",
    "sign_callback",
    "verify_sandbox_callback",
]

TIMESTAMP_HEADER = "x-sandbox-timestamp"
SIGNATURE_HEADER = "x-sandbox-signature"
TIMESTAMP = re.compile(r"[0-9]{1,12}")
SANDBOX_DECLARATION = Declaration(callback_trust="body_signed", idempotent_references=True)
TOLERANCE_SECONDS = 300  # what webhook libraries allow between two clocks

STATUSES = {
    "pending": OutcomeStatus.PENDING,
    "succeeded": OutcomeStatus.SUCCEEDED,
    "declined": OutcomeStatus.DECLINED,
    "rejected": OutcomeStatus.NOT_ACCEPTED,
}


class SubmitBody(msgspec.Struct, omit_defaults=True):
    """What the adapter sends."""

    reference: str
    amount: str
    currency: str
    destination: str
    callback_url: str
    scenario: str | None = None


class PaymentBody(msgspec.Struct, omit_defaults=True):
    """What the rail answers to a submit or a poll."""

    status: str
    accepted: bool | None = None
    reference: str | None = None
    amount: str | None = None
    currency: str | None = None
    provider_reference: str | None = None
    submits: int | None = None
    paid: int | None = None


class CallbackBody(msgspec.Struct):
    """What the rail calls back with."""

    event_id: str
    reference: str
    provider_reference: str
    status: str
    amount: str
    currency: str
    occurred_at: str


payment_decoder = msgspec.json.Decoder(PaymentBody)
callback_decoder = msgspec.json.Decoder(CallbackBody)


def sign_callback(secret: str, timestamp: str, body: bytes) -> str:
    """Return the hex signature of one callback attempt."""
    return hmac.digest(secret.encode(), timestamp.encode() + b"." + body, "sha256").hex()


def verify_sandbox_callback(rail: str, secret: str, raw: bytes, headers: Mapping[str, str], now: float) -> RailOutcome:
    """Return what an authentic callback says. Raises `CallbackRejected`, the first objection being the answer."""
    timestamp, signature = headers.get(TIMESTAMP_HEADER), headers.get(SIGNATURE_HEADER)
    if not timestamp or not signature:
        raise CallbackRejected(rail, CallbackCode.SIGNATURE_MISSING)
    if not secret or not TIMESTAMP.fullmatch(timestamp):
        raise CallbackRejected(rail, CallbackCode.SIGNATURE_INVALID)
    if not hmac.compare_digest(sign_callback(secret, timestamp, raw).encode(), signature.encode("utf-8", "replace")):
        raise CallbackRejected(rail, CallbackCode.SIGNATURE_INVALID)
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise CallbackRejected(rail, CallbackCode.TIMESTAMP_OUT_OF_TOLERANCE)
    try:
        body = callback_decoder.decode(raw)
    except ValueError:  # MsgspecError is one, and so is what bytes that are not UTF-8 raise
        raise CallbackRejected(rail, CallbackCode.BODY_MALFORMED) from None
    minor = minor_from_text(body.amount)
    if not body.event_id or not body.reference or minor is None:
        raise CallbackRejected(rail, CallbackCode.BODY_MALFORMED)
    status = STATUSES.get(body.status)
    return RailOutcome(
        rail=rail,
        reference=body.reference,
        status=status or OutcomeStatus.UNKNOWN,
        minor=minor,
        currency=body.currency,
        provider_reference=body.provider_reference,
        event_id=body.event_id,
        reason=None if status else "status_unrecognised",
        trust="body_signed",
        raw_digest=raw_digest(raw),
    )


class SandboxRail:
    """The sandbox rail over HTTP. Connections are opened with the first call, inside the caller's event loop."""

    def __init__(self, settings: RailSettings, http: OutwardHttp | None = None, spans: Spans | None = None) -> None:
        """`http` is shared and stays open when the rail closes; without one the rail makes and closes its own. `spans`
        makes one for every call that follows from a record."""
        self._settings, self._spans = settings, spans
        self._payments_url = f"{settings.base_url.rstrip('/')}/rails/{settings.name}/payments"
        self._shared = http is not None
        self._http = http
        # A submit that waits for its turn has not begun, so its time-out must not run: the turn is given here and not
        # by the pool of connections.
        self._turns = asyncio.Semaphore(settings.concurrency_max)

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        return self._settings

    @property
    def declaration(self) -> Declaration:
        """What this adapter knows of the rail's ways."""
        return SANDBOX_DECLARATION

    async def submit(self, submission: Submission) -> RailOutcome:
        """Ask the rail to pay; return what it answered. Ambiguity is `unknown`, never an exception."""
        body = SubmitBody(
            reference=submission.reference,
            amount=str(submission.minor),
            currency=submission.currency,
            destination=submission.destination,
            callback_url=self._settings.callback_url,
            scenario=submission.scenario,
        )
        encoded = msgspec.json.encode(body)
        cause = Cause(submission.trace, submission.tracestate, submission.sequence)
        return await self._follow("POST", self._payments_url, submission.reference, encoded, cause)

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Ask the rail what became of a reference. Ambiguity is `unknown`, never an exception."""
        return await self._follow("GET", f"{self._payments_url}/{quote(reference, safe='')}", reference, None, cause)

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Return what an authentic callback says. Raises `CallbackRejected`."""
        require_network(self._settings, peer)
        return verify_sandbox_callback(self._settings.name, self._settings.secret, raw, headers, now)

    def ack(self, verdict: Verdict) -> None:
        """Return None: the sandbox reads the status alone."""

    async def aclose(self) -> None:
        """Give back connections. Calling it twice does no harm."""
        if self._http is not None and not self._shared:
            await self._http.aclose()
            self._http = None

    async def _follow(self, method: str, url: str, reference: str, body: bytes | None, cause: Cause) -> RailOutcome:
        """Ask, in a span where spans are exported and a record is known that the call follows from."""
        headers, spans = _trace_headers(reference, cause), self._spans
        named = parse_reference(reference) if spans is not None and headers else None
        if spans is None or named is None:
            return await self._ask(method, url, reference, body, headers)
        template = "/payments" if method == "POST" else "/payments/{reference}"
        told: dict[str, str | int] = {
            "url.template": template, "zentra.rail": self._settings.name, "zentra.rail.attempt": named[1],
        }  # fmt: skip
        name = f"{method} {template}"
        with spans.client(name, cause.trace, cause.tracestate, named[0], cause.sequence, url, told) as span:
            headers["traceparent"] = span.traceparent
            outcome = await self._ask(method, url, reference, body, headers, span)
            span.tell({"zentra.rail.outcome": str(outcome.status)})
            return outcome

    async def _ask(
        self,
        method: str,
        url: str,
        reference: str,
        body: bytes | None,
        headers: dict[str, str],
        span: Span | None = None,
    ) -> RailOutcome:
        trust: Trust = "direct" if method == "POST" else "polled"
        refused = OutcomeStatus.NOT_ACCEPTED if method == "POST" else OutcomeStatus.UNKNOWN
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            async with self._turns:
                http = self._opened()
                timeout = http.timeout(self._settings.submit_timeout_seconds)
                answer = await http.request(method, url, body=body, headers=headers, timeout=timeout)
        except (aiohttp.ClientError, OSError, AddressRefused) as error:
            status, reason = _failure(error, refused)
            if span is not None:
                span.failed(reason)
            return self._outcome(reference, status, reason, trust)
        if span is not None:
            span.answered(answer.status)
        return self._read(answer, reference, trust)

    def _opened(self) -> OutwardHttp:
        if self._http is None:
            # A rail's address is the operator's own configuration, never a tenant's, so closed networks are fine.
            self._http = OutwardHttp(
                AddressPolicy(allow_private=True), connections_per_host_max=self._settings.concurrency_max
            )
        return self._http

    def _outcome(self, reference: str, status: OutcomeStatus, reason: str, trust: Trust) -> RailOutcome:
        return RailOutcome(rail=self._settings.name, reference=reference, status=status, reason=reason, trust=trust)

    def _read(self, answer: Answer, reference: str, trust: Trust) -> RailOutcome:
        """The checks stand in order: the first one that fits is the outcome."""
        digest = raw_digest(answer.body)
        try:
            body = payment_decoder.decode(answer.body)
        except ValueError:
            body = PaymentBody(status="")
        reason: str | None = None
        if trust == "direct" and body.accepted is False:
            status, reason = OutcomeStatus.NOT_ACCEPTED, body.status
        elif trust == "polled" and answer.status == 404 and body.status == "not_found":
            status = OutcomeStatus.NOT_FOUND
        elif answer.status not in (200, 202):
            status, reason = OutcomeStatus.UNKNOWN, f"http_{answer.status}"
        elif body.reference != reference:
            status, reason = OutcomeStatus.UNKNOWN, "answer_malformed"
        elif body.status not in STATUSES:
            status, reason = OutcomeStatus.UNKNOWN, "status_unrecognised"
        else:
            status = STATUSES[body.status]
        return RailOutcome(
            rail=self._settings.name,
            reference=reference,
            status=status,
            minor=minor_from_text(body.amount),
            currency=body.currency,
            provider_reference=body.provider_reference,
            reason=reason,
            trust=trust,
            raw_digest=digest,
        )


def _failure(
    error: aiohttp.ClientError | OSError | AddressRefused, refused: OutcomeStatus
) -> tuple[OutcomeStatus, str]:
    """Return what a call without an answer comes to, and why; `refused` is what no connection at all comes to.

    The order is from the narrow class to the wide one: several of these inherit from one another."""
    match error:
        case AddressRefused():
            return refused, "address_refused"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return refused, "connect_failed"
        case TimeoutError():
            return OutcomeStatus.UNKNOWN, "timeout"
        case _:
            return OutcomeStatus.UNKNOWN, "connection_dropped"


def _trace_headers(reference: str, cause: Cause) -> dict[str, str]:
    """Return the W3C headers of a call; none where it has no trace or a reference that is not an intent's."""
    named = parse_reference(reference)
    if not cause.trace or named is None:
        return {}
    headers = {"traceparent": traceparent(cause.trace, named[0], cause.sequence)}
    return headers | ({"tracestate": cause.tracestate} if cause.tracestate else {})
