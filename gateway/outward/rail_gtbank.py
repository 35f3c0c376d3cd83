"""A rail in the manner of GTBank: a bearer token that is fetched and runs out, and callbacks whose bytes are signed.

The invariants kept here:

- A token is fetched once for all who wait for it, and again when it runs out or was refused: after a 401 exactly once
  per call. While there is no token nothing of a payment was sent, so a submit is `not_accepted`. Where none is to be
  had, all who wait hear so at once, and for NO_TOKEN_SECONDS nobody asks again.
- A callback is believed when `x-gtbank-signature` is HMAC-SHA512(secret, raw body) in hex.
- Amounts are decimal strings in major units; what does not turn into minor units exactly is no amount.
- `not_accepted` is said only for an error code of the bank's own with a 4xx; a 5xx says nothing, whatever its body.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from zentra.gateway.outward.http import Answer, OutwardHttp
from zentra.gateway.outward.rail_http import Call, HttpRail, Unanswered, json_body
from zentra.runtime.rails.major import major_from_minor, minor_from_major
from zentra.runtime.rails.port import (
    Ack,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    RailSettings,
    Submission,
    Trust,
    Verdict,
    require_network,
)

if TYPE_CHECKING:
    from zentra.gateway.spans import Spans

__all__ = ["ERRORS", "SIGNATURE_HEADER", "WORDS", "GtbankRail"]

_S = OutcomeStatus
SIGNATURE_HEADER: Final = "x-gtbank-signature"
TOKEN_MARGIN: Final = 0.9  # a token is renewed in the last tenth of its life, so that none runs out on its way
TOKEN_SECONDS_MAX: Final = 3600.0
NO_TOKEN_SECONDS: Final = 1.0

# fmt: off
WORDS: Final[Mapping[str, OutcomeStatus]] = {
    "QUEUED":     _S.PENDING,
    "PROCESSING": _S.PENDING,
    "COMPLETED":  _S.SUCCEEDED,
    "FAILED":     _S.DECLINED,
    "REVERSED":   _S.DECLINED,      # given back in the same session: it was never paid out
    "REJECTED":   _S.NOT_ACCEPTED,  # refused at the door, nothing was debited
}
ERRORS: Final[Mapping[str, tuple[OutcomeStatus, OutcomeStatus]]] = {
    # code                answering a submit  a poll
    "INVALID_TOKEN":      (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "FORBIDDEN":          (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "VALIDATION_FAILED":  (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "INVALID_ACCOUNT":    (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "INSUFFICIENT_FLOAT": (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "LIMIT_EXCEEDED":     (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "SERVICE_CLOSED":     (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "TOO_MANY_REQUESTS":  (_S.NOT_ACCEPTED, _S.UNKNOWN),
    "REFERENCE_CONFLICT": (_S.UNKNOWN,      _S.UNKNOWN),    # another body has it: ask what became of that
    "TRANSFER_NOT_FOUND": (_S.UNKNOWN,      _S.NOT_FOUND),
}
# fmt: on
ACKS: Final = {
    Verdict.TAKEN: (200, "ACKNOWLEDGED"),
    Verdict.DUPLICATE: (200, "DUPLICATE"),
    Verdict.REJECTED: (400, "REJECTED"),
    Verdict.TRY_AGAIN: (503, "RETRY"),
}


class Transfer(msgspec.Struct, rename="camel", omit_defaults=True):
    """A transfer as it is asked for and told of."""

    reference: str
    amount: str | None = None
    currency: str | None = None
    credit_account: str | None = None
    callback_url: str | None = None
    status: str = ""
    transaction_id: str | None = None


class Refused(msgspec.Struct):
    """What the bank says where it has no transfer to show."""

    code: str


class Event(msgspec.Struct, rename="camel"):
    """The body of a callback."""

    event_id: str
    data: Transfer


class Named(msgspec.Struct):
    """What a transfer has to say at the least, for the bank to be asked about it."""

    reference: str


class About(msgspec.Struct):
    """A callback of which nothing but its transfer can be read."""

    data: Named


class Granted(msgspec.Struct):
    """The answer of the token's door."""

    access_token: str
    expires_in: int


class Token(NamedTuple):
    """A bearer token, and when it has to be renewed by our own clock."""

    text: str
    renew_at: float


transfer_decoder = msgspec.json.Decoder(Transfer)
refused_decoder = msgspec.json.Decoder(Refused)
event_decoder = msgspec.json.Decoder(Event)
about_decoder = msgspec.json.Decoder(About)
granted_decoder = msgspec.json.Decoder(Granted)


class GtbankRail(HttpRail):
    """One client of the bank's. `secret` signs callbacks; `secrets.client_secret` gets tokens."""

    declaration = Declaration(
        callback_trust="body_signed",
        idempotent_references=True,
        not_found_lies_seconds=5.0,  # what its replicas may lag behind
        secrets=("callback", "client_secret"),
        options=("client_id",),
    )
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, settings: RailSettings, http: OutwardHttp | None = None, spans: Spans | None = None) -> None:
        super().__init__(settings, http, spans)
        self._token: Token | None = None
        self._no_token: tuple[Unanswered, float] | None = None  # why there is none, and until when that holds
        self._fetching = asyncio.Lock()

    def submit_call(self, submission: Submission) -> Call:
        """Return the request that asks the bank to pay."""
        body = Transfer(
            reference=submission.reference,
            amount=major_from_minor(submission.minor, submission.currency),
            currency=submission.currency,
            credit_account=submission.destination,
            callback_url=self.settings.callback_url,
        )
        return Call("POST", "/v1/transfers", "/v1/transfers", msgspec.json.encode(body))

    def poll_call(self, reference: str) -> Call:
        """Return the request that asks what became of a reference."""
        return Call("GET", f"/v1/transfers/{quote(reference, safe='')}", "/v1/transfers/{reference}")

    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        """Return what the bank's answer to a submit says."""
        return self._read(answer, submission.reference, "direct")

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        """Return what the bank's answer to a poll says."""
        return self._read(answer, reference, "polled")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Return what a signed callback says. Raises `CallbackRejected`."""
        require_network(self.settings, peer)
        self.require_hmac(self.settings.secret, raw, headers.get(SIGNATURE_HEADER), "sha512")
        event = json_body(event_decoder, raw)
        if event is None or not event.event_id or not event.data.reference:
            about = json_body(about_decoder, raw)
            raise self.malformed(about.data.reference if about else None)
        return self._stated(event.data, "body_signed", raw, event.event_id)

    def ack(self, verdict: Verdict) -> Ack:
        """Return the status that the bank reads, and its word for it."""
        status, word = ACKS[verdict]
        return Ack(status, msgspec.json.encode({"status": word}))

    async def exchange(self, call: Call, headers: Mapping[str, str]) -> Answer | Unanswered:
        """Make one request with a token; a token that is refused is renewed once, and the request made once more.

        Who is refused with 401 was not let in, so nothing was taken; and a reference is one payment in any case."""
        token = await self._current(None)
        if isinstance(token, Unanswered):
            return token
        answer = await super().exchange(call, {**headers, "authorization": f"Bearer {token.text}"})
        if not isinstance(answer, Answer) or answer.status != 401:
            return answer
        again = await self._current(token)
        if isinstance(again, Unanswered):
            return answer
        return await super().exchange(call, {**headers, "authorization": f"Bearer {again.text}"})

    async def _current(self, refused: Token | None) -> Token | Unanswered:
        """Return a token that is good by our clock and not the one that was refused, fetching it where needed."""
        async with self._fetching:
            known = self._token
            if known is None or known is refused or self.clock() >= known.renew_at:
                self._token = None
                if self._no_token is not None and self.clock() < self._no_token[1]:
                    return self._no_token[0]
                fetched = await self._fetch()
                if isinstance(fetched, Unanswered):
                    self._no_token = fetched, self.clock() + NO_TOKEN_SECONDS
                    return fetched
                self._no_token = None
                self._token = known = fetched
            return known

    async def _fetch(self) -> Token | Unanswered:
        asked_at = self.clock()
        form = {
            "grant_type": "client_credentials",
            "client_id": self.settings.options.get("client_id", ""),
            "client_secret": self.settings.secrets.get("client_secret", ""),
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        call = Call("POST", "/oauth/token", "/oauth/token", urlencode(form).encode(), headers)
        answer = await super().exchange(call, {})
        if isinstance(answer, Unanswered):
            return Unanswered(f"token_{answer.reason}", sent=False)
        granted = json_body(granted_decoder, answer.body)
        if answer.status != 200 or granted is None or not _fits_header(granted.access_token) or granted.expires_in < 1:
            return Unanswered("token_refused", sent=False)
        lives = min(float(granted.expires_in), TOKEN_SECONDS_MAX)
        return Token(granted.access_token, asked_at + lives * TOKEN_MARGIN)

    def _read(self, answer: Answer, reference: str, trust: Trust) -> RailOutcome:
        """The checks stand in order: the first one that fits is the outcome."""
        if 400 <= answer.status < 500:
            refused = json_body(refused_decoder, answer.body)
            status = ERRORS[refused.code][trust == "polled"] if refused and refused.code in ERRORS else _S.UNKNOWN
            if status is _S.NOT_FOUND and answer.status != 404:
                status = _S.UNKNOWN
            reason = refused.code.lower() if refused else f"http_{answer.status}"
            return self.outcome(reference, status, trust, reason=reason, raw=answer.body)
        said = json_body(transfer_decoder, answer.body)
        if answer.status not in (200, 201, 202):
            return self.outcome(reference, _S.UNKNOWN, trust, reason=f"http_{answer.status}", raw=answer.body)
        if said is None or said.reference != reference:
            return self.outcome(reference, _S.UNKNOWN, trust, reason="answer_malformed", raw=answer.body)
        return self._stated(said, trust, answer.body, None)

    def _stated(self, said: Transfer, trust: Trust, raw: bytes, event_id: str | None) -> RailOutcome:
        status = WORDS.get(said.status)
        refused = status in (_S.DECLINED, _S.NOT_ACCEPTED)
        return self.stated(
            said.reference,
            status,
            trust,
            raw,
            minor=minor_from_major(said.amount, said.currency),
            currency=said.currency,
            provider_reference=said.transaction_id,
            event_id=event_id,
            reason=said.status.lower() if refused else None,
        )


def _fits_header(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
