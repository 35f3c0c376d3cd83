"""What every adapter over HTTP shares: one call and its failures, spans, turns, and statements that can be believed.

An adapter says which call asks for what (`submit_call`, `poll_call`), how an answer reads (`read_submit`, `read_poll`),
and how a callback proves itself. `docs/adapters.md` walks through one. The invariants kept here:

- One question is one request: nothing is sent again behind the caller's back.
- A submit without an answer is `not_accepted` only where no connection was ever made; every other failure is `unknown`,
  because the rail may have the payment. A poll without an answer is `unknown`.
- A success whose amount or currency cannot be read is `unknown`: nobody has said what was paid.
- Whatever an adapter reads, an answer is believed with a 2xx only, but for a refused submit and a "not found", which
  may be 4xx; an answer about another reference, and half an answer, is `unknown`.
- An adapter that raises has its outcome too: `not_accepted` while nothing was sent, `unknown` from then on.
- No secret of the rail, and no credential that was sent, is in what an outcome tells people.
- A submit that waits for its turn has not begun, so its time-out does not run.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, TypeVar

import aiohttp
import msgspec

from zentra.gateway.outward.http import AddressPolicy, AddressRefused, Answer, OutwardHttp
from zentra.runtime.ledger.money import is_currency
from zentra.runtime.rails.port import (
    UNKNOWN_CAUSE,
    Ack,
    CallbackCode,
    CallbackRejected,
    CallbackUnreadable,
    Cause,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    RailSettings,
    Submission,
    Trust,
    Verdict,
    plain_text,
    raw_digest,
)
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.tracing import traceparent

if TYPE_CHECKING:
    from zentra.gateway.spans import Span, Spans

__all__ = [
    "ADAPTER_FAILED",
    "SCENARIO_HEADER",
    "Call",
    "HttpRail",
    "NotSent",
    "Unanswered",
    "json_body",
    "same_text",
    "without_secrets",
]

logger = logging.getLogger(__name__)

SCENARIO_HEADER: Final = "x-simulator-scenario"
ADAPTER_FAILED: Final = "adapter_failed"
"""The reason of an outcome that was made because the adapter raised."""
HIDDEN: Final = "[redacted]"
WHOLE_BELOW: Final = 8  # a secret shorter than this is looked for as a word: "s" is in half of all reasons
CREDENTIALS_MAX: Final = 256  # of those that were sent; what was sent longer ago is forgotten first
CREDENTIAL: Final = re.compile(r"auth|token|secret|signature|api-?key|cookie|password", re.IGNORECASE)
ABOUT_US: Final = frozenset({401, 403, 407, 408, 429})  # of our key or our pace, never of the reference
_JSON: Final = {"content-type": "application/json"}
_T = TypeVar("_T")

Asking = Literal["direct", "polled"]


class Call(NamedTuple):
    """One request to the rail; `path` is below its base URL, quoted, and `template` is it without its parameters."""

    method: str
    path: str
    template: str
    body: bytes | None = None
    headers: Mapping[str, str] = _JSON


class NotSent(Exception):
    """Raised by `submit_call` for a payment that this partner cannot be asked for; `reason` is the adapter's word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unanswered(NamedTuple):
    """A call that has no answer; `sent` is whether anything of it can have reached the rail."""

    reason: str
    sent: bool


class HttpRail(ABC):
    """An adapter over HTTP. Connections are opened with the first call, inside the caller's event loop."""

    declaration: ClassVar[Declaration]
    """What the adapter knows of the rail's ways; every adapter has its own."""
    refuses_with: ClassVar[range] = range(400, 500)
    """The HTTP statuses beside 2xx with which the rail's own word may be a refused submit or a "not found"."""

    def __init__(self, settings: RailSettings, http: OutwardHttp | None = None, spans: Spans | None = None) -> None:
        """`http` is shared and stays open when the rail closes; without one the rail makes and closes its own. `spans`
        makes one for every call that follows from a record."""
        self._settings, self._spans = settings, spans
        self._base_url = settings.base_url.rstrip("/")
        self._shared = http is not None
        self._http = http
        self._turns = asyncio.Semaphore(settings.concurrency_max)
        self._credentials: dict[str, None] = {}

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        return self._settings

    # What an adapter says.

    @abstractmethod
    def submit_call(self, submission: Submission) -> Call:
        """Return the request that asks the rail to pay. Raises `NotSent` for what the rail cannot be asked."""

    @abstractmethod
    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        """Return what the rail's answer to a submit says. It never raises."""

    @abstractmethod
    def poll_call(self, reference: str) -> Call:
        """Return the request that asks what became of a reference."""

    @abstractmethod
    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        """Return what the rail's answer to a poll says. It never raises."""

    @abstractmethod
    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """See `Rail.verify_callback`."""

    def ack(self, verdict: Verdict) -> Ack | None:
        """Return None: the partner reads the status alone. An adapter whose partner reads more says it here."""
        return None

    # What it gets.

    async def submit(self, submission: Submission) -> RailOutcome:
        """Ask the rail to pay; return what it answered. Ambiguity is `unknown`, never an exception."""
        cause = Cause(submission.trace, submission.tracestate, submission.sequence)
        reference = submission.reference
        try:
            call = self.submit_call(submission)
        except NotSent as refused:
            return self.outcome(reference, OutcomeStatus.NOT_ACCEPTED, "direct", reason=refused.reason)
        except Exception as error:  # whatever it was, not one byte has left
            self._tell_failed("submit_call", reference, error)
            return self.outcome(reference, OutcomeStatus.NOT_ACCEPTED, "direct", reason=ADAPTER_FAILED)
        if submission.scenario is not None and self._settings.options.get("simulator") == "true":
            call = call._replace(headers={**call.headers, SCENARIO_HEADER: submission.scenario})
        return await self._ask(call, reference, cause, "direct", lambda answer: self.read_submit(answer, submission))

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Ask the rail what became of a reference. Ambiguity is `unknown`, never an exception."""
        try:
            call = self.poll_call(reference)
        except Exception as error:  # a question that cannot be put has no answer
            self._tell_failed("poll_call", reference, error)
            return self.outcome(reference, OutcomeStatus.UNKNOWN, "polled", reason=ADAPTER_FAILED)
        return await self._ask(call, reference, cause, "polled", lambda answer: self.read_poll(answer, reference))

    async def _ask(
        self, call: Call, reference: str, cause: Cause, trust: Asking, read: Callable[[Answer], RailOutcome]
    ) -> RailOutcome:
        async with _Following(self._spans, call, self._base_url, self._settings.name, reference, cause) as following:
            try:
                answer = await self.exchange(call, following.headers)
            except Exception as error:  # an adapter's own exchange: how far it came nobody can tell
                self._tell_failed("exchange", reference, error)
                answer = Unanswered(ADAPTER_FAILED, sent=True)
            if isinstance(answer, Unanswered):
                lost = trust == "polled" or answer.sent
                status = OutcomeStatus.UNKNOWN if lost else OutcomeStatus.NOT_ACCEPTED
                outcome = self.outcome(reference, status, trust, reason=answer.reason)
            else:
                try:
                    outcome = self.believed(read(answer), answer, reference, trust)
                except Exception as error:  # the rail has said something, and nobody knows what
                    self._tell_failed("read", reference, error)
                    outcome = self.outcome(
                        reference, OutcomeStatus.UNKNOWN, trust, reason=ADAPTER_FAILED, raw=answer.body
                    )
            return following.ended(answer, outcome)

    def _tell_failed(self, where: str, reference: str, error: Exception) -> None:
        told = self._hidden("".join(traceback.format_exception(error)))
        logger.error(
            "rail adapter failed",
            extra={"rail": self._settings.name, "reference": reference, "where": where, "error": told},
        )

    async def exchange(self, call: Call, headers: Mapping[str, str]) -> Answer | Unanswered:
        """Make one request with these headers on top of the call's own; an adapter that has to log in does it here."""
        sent = {**(call.headers if call.body is not None else _without_type(call.headers)), **headers}
        self.note_credentials(sent)
        try:
            async with self._turns:
                http = self._opened()
                return await http.request(
                    call.method,
                    self._base_url + call.path,
                    body=call.body,
                    headers=sent,
                    timeout=http.timeout(self._settings.submit_timeout_seconds),
                )
        except (aiohttp.ClientError, OSError, AddressRefused) as error:
            return _failure(error)

    async def aclose(self) -> None:
        """Give back connections. Calling it twice does no harm."""
        if self._http is not None and not self._shared:
            await self._http.aclose()
            self._http = None

    def _opened(self) -> OutwardHttp:
        if self._http is None:
            # A rail's address is the operator's own configuration, never a tenant's, so closed networks are fine.
            self._http = OutwardHttp(
                AddressPolicy(allow_private=True), connections_per_host_max=self._settings.concurrency_max
            )
        return self._http

    # How far a statement is believed, and what of it is told.

    def believed(self, outcome: RailOutcome, answer: Answer, reference: str, trust: Asking) -> RailOutcome:
        """Return what an adapter read in an answer, as far as any adapter may believe one, without our secrets."""
        status, code, reason = outcome.status, answer.status, None
        nothing = OutcomeStatus.NOT_ACCEPTED if trust == "direct" else OutcomeStatus.NOT_FOUND
        if outcome.reference != reference:
            reason = "answer_malformed"
        elif status is not OutcomeStatus.UNKNOWN:
            refused = code in self.refuses_with and status is nothing and (trust == "direct" or code not in ABOUT_US)
            if answer.cut or (trust == "direct" and status is OutcomeStatus.NOT_FOUND):
                reason = "answer_malformed"
            elif not 200 <= code < 300 and not refused:
                reason = f"http_{code}"
        if reason is not None:
            return self.outcome(reference, OutcomeStatus.UNKNOWN, trust, reason=reason, raw=answer.body)
        told = self._told(outcome.reason), self._told(outcome.provider_reference)
        if told == (outcome.reason, outcome.provider_reference):
            return outcome
        return msgspec.structs.replace(outcome, reason=told[0], provider_reference=told[1])

    def note_credentials(self, headers: Mapping[str, str]) -> None:
        """Keep what these headers of a request show of us out of outcomes; `exchange` does it for what it sends."""
        for name, value in headers.items():
            if CREDENTIAL.search(name):
                for text in (value, value.partition(" ")[2]):
                    if text and text not in self._credentials:
                        self._credentials[text] = None
        while len(self._credentials) > CREDENTIALS_MAX:
            del self._credentials[next(iter(self._credentials))]

    def _hidden(self, text: str) -> str:
        known = (self._settings.secret, *self._settings.secrets.values(), *self._credentials)
        return without_secrets(text, known) or ""

    def _told(self, text: str | None) -> str | None:
        """Return a partner's text as it may be told: short, printable, without our secrets."""
        plain = plain_text(text)
        return None if plain is None else plain_text(self._hidden(plain))

    # How a statement is made.

    def outcome(
        self,
        reference: str,
        status: OutcomeStatus,
        trust: Trust,
        *,
        reason: str | None = None,
        raw: bytes | None = None,
    ) -> RailOutcome:
        """Return a statement that names no amount; `raw` are the bytes it was read from."""
        return RailOutcome(
            rail=self._settings.name,
            reference=reference,
            status=status,
            reason=self._told(reason),
            trust=trust,
            raw_digest=None if raw is None else raw_digest(raw),
        )

    def stated(
        self,
        reference: str,
        status: OutcomeStatus | None,
        trust: Trust,
        raw: bytes,
        *,
        minor: int | None,
        currency: str | None,
        provider_reference: str | None = None,
        event_id: str | None = None,
        reason: str | None = None,
    ) -> RailOutcome:
        """Return what the rail said of a reference; `status` is None where the adapter's table lacks its word.

        What cannot be believed as it stands is `unknown`, with the reason. Raises `CallbackUnreadable` for a callback
        whose reference or event id is no text that can be kept (`plain_text`), and `CallbackRejected` for a reference
        with a secret in it; an event id with one is left out, so that the digest of the body stands for it."""
        if trust not in ("direct", "polled"):
            if not plain_text(reference) or not (event_id is None or plain_text(event_id)):
                raise self.malformed()
            if self._hidden(reference) != reference:
                raise CallbackRejected(self._settings.name, CallbackCode.BODY_MALFORMED)
            if event_id is not None and self._hidden(event_id) != event_id:
                event_id = None
        currency = currency if currency is not None and is_currency(currency) else None
        if status is None:
            status, reason = OutcomeStatus.UNKNOWN, "status_unrecognised"
        elif status is OutcomeStatus.SUCCEEDED and (minor is None or currency is None):
            status, reason = OutcomeStatus.UNKNOWN, "amount_unreadable"
        return RailOutcome(
            rail=self._settings.name,
            reference=reference,
            status=status,
            minor=minor,
            currency=currency,
            provider_reference=self._told(provider_reference),
            event_id=event_id,
            reason=self._told(reason),
            trust=trust,
            raw_digest=raw_digest(raw),
        )

    # How a callback proves itself.

    def require_secret(self, expected: str, shown: str | None) -> None:
        """Return where the callback shows the secret that was agreed on. Raises `CallbackRejected`."""
        if not shown:
            raise CallbackRejected(self._settings.name, CallbackCode.SIGNATURE_MISSING)
        if not expected or not same_text(expected, shown):
            raise CallbackRejected(self._settings.name, CallbackCode.SIGNATURE_INVALID)

    def require_hmac(self, secret: str, signed: bytes, shown: str | None, digest: str = "sha256") -> None:
        """Return where `shown` is the hex HMAC of `signed`. Raises `CallbackRejected`."""
        if not shown:
            raise CallbackRejected(self._settings.name, CallbackCode.SIGNATURE_MISSING)
        if not secret or not same_text(hmac.digest(secret.encode(), signed, digest).hex(), shown.lower()):
            raise CallbackRejected(self._settings.name, CallbackCode.SIGNATURE_INVALID)

    def malformed(self, reference: str | None = None) -> CallbackUnreadable:
        """Return what is raised for an authentic callback that cannot be read; `reference` is what it is about."""
        known = plain_text(reference)
        return CallbackUnreadable(self._settings.name, known if known and self._hidden(known) == known else None)


def json_body(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T | None:
    """Return the decoded body, or None for one that cannot be read as what is expected."""
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError):  # MsgspecError is a ValueError, and so is what bytes outside UTF-8 raise
        return None


def without_secrets(text: str | None, secrets: Iterable[str]) -> str | None:
    """Return a text with "[redacted]" wherever one of the secrets stands, in upper or lower case; None for None."""
    if text is None:
        return None
    for secret in sorted(secrets, key=len, reverse=True):
        if not secret or secret.lower() not in text.lower():
            continue
        pattern = re.escape(secret)
        if len(secret) < WHOLE_BELOW:
            pattern = f"(?<![0-9A-Za-z]){pattern}(?![0-9A-Za-z])"
        text = re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)
    return text


def same_text(expected: str, shown: str) -> bool:
    """Return whether two texts are the same, in a time that does not tell where they differ or how long one is."""
    sums = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (expected, shown))
    return hmac.compare_digest(*sums)


class _Following:
    """A call that follows from a record: its trace headers, and its span where spans are exported."""

    def __init__(self, spans: Spans | None, call: Call, base_url: str, rail: str, reference: str, cause: Cause) -> None:
        named = parse_reference(reference) if cause.trace else None
        self.headers: dict[str, str] = {}
        self._span: Span | None = None
        if named is None:
            return
        self.headers["traceparent"] = traceparent(cause.trace, named[0], cause.sequence)
        if cause.tracestate:
            self.headers["tracestate"] = cause.tracestate
        if spans is not None:
            told: dict[str, str | int] = {
                "url.template": call.template, "zentra.rail": rail, "zentra.rail.attempt": named[1],
            }  # fmt: skip
            name = f"{call.method} {call.template}"
            url = base_url + call.path
            self._span = spans.client(name, cause.trace, cause.tracestate, named[0], cause.sequence, url, told)

    async def __aenter__(self) -> _Following:
        if self._span is not None:
            self._span.__enter__()
            self.headers["traceparent"] = self._span.traceparent
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._span is not None:
            self._span.__exit__(*error)

    def ended(self, answer: Answer | Unanswered, outcome: RailOutcome) -> RailOutcome:
        """Tell the span how it ended; return the outcome."""
        if self._span is not None:
            if isinstance(answer, Unanswered):
                self._span.failed(answer.reason)
            else:
                self._span.answered(answer.status)
            self._span.tell({"zentra.rail.outcome": str(outcome.status)})
        return outcome


def _without_type(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "content-type"}


def _failure(error: aiohttp.ClientError | OSError | AddressRefused) -> Unanswered:
    """The order is from the narrow class to the wide one: several of these inherit from one another."""
    match error:
        case AddressRefused():
            return Unanswered("address_refused", sent=False)
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return Unanswered("connect_failed", sent=False)
        case TimeoutError():
            return Unanswered("timeout", sent=True)
        case _:
            return Unanswered("connection_dropped", sent=True)
