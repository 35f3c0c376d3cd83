"""The sandbox rail's adapter: its HTTP words and its callback signature, turned into the one outcome type.

The invariants kept here:

- `not_accepted` is said only when the rail wrote `"accepted": false`, or when no connection was ever made; every
  other failure is `unknown`, because the rail may have the payment.
- A callback is believed only when HMAC-SHA256(secret, timestamp + "." + raw body) matches and its time is near; each
  attempt of the rail signs anew.
- A signed callback with a word we do not know is `unknown`, not refused: the rail did say something.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from zentra.gateway.outward.http import Answer
from zentra.gateway.outward.rail_http import Call, HttpRail, json_body, without_secrets
from zentra.runtime.rails.port import (
    CallbackCode,
    CallbackRejected,
    CallbackUnreadable,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    Submission,
    Trust,
    minor_from_text,
    plain_text,
    raw_digest,
    require_network,
)

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
        raise CallbackUnreadable(rail) from None
    minor = minor_from_text(body.amount)
    names = (body.event_id, body.reference)
    if not all(without_secrets(name, (secret,)) == name for name in names):
        raise CallbackRejected(rail, CallbackCode.BODY_MALFORMED)
    if not all(plain_text(name) for name in names) or minor is None:
        raise CallbackUnreadable(rail, plain_text(body.reference))
    status = STATUSES.get(body.status)
    return RailOutcome(
        rail=rail,
        reference=body.reference,
        status=status or OutcomeStatus.UNKNOWN,
        minor=minor,
        currency=without_secrets(body.currency, (secret,)),
        provider_reference=without_secrets(plain_text(body.provider_reference), (secret,)),
        event_id=body.event_id,
        reason=None if status else "status_unrecognised",
        trust="body_signed",
        raw_digest=raw_digest(raw),
    )


class SandboxRail(HttpRail):
    """The sandbox rail over HTTP."""

    declaration = SANDBOX_DECLARATION
    refuses_with = range(400, 504)  # it plays a rail that is out of service and says itself that it took nothing

    def submit_call(self, submission: Submission) -> Call:
        """Return the request that asks the rail to pay."""
        body = SubmitBody(
            reference=submission.reference,
            amount=str(submission.minor),
            currency=submission.currency,
            destination=submission.destination,
            callback_url=self._settings.callback_url,
            scenario=submission.scenario,
        )
        return Call("POST", f"/rails/{self._settings.name}/payments", "/payments", msgspec.json.encode(body))

    def poll_call(self, reference: str) -> Call:
        """Return the request that asks what became of a reference."""
        path = f"/rails/{self._settings.name}/payments/{quote(reference, safe='')}"
        return Call("GET", path, "/payments/{reference}")

    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        """Return what the rail's answer to a submit says."""
        return self._read(answer, submission.reference, "direct")

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        """Return what the rail's answer to a poll says."""
        return self._read(answer, reference, "polled")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Return what an authentic callback says. Raises `CallbackRejected`."""
        require_network(self._settings, peer)
        return verify_sandbox_callback(self._settings.name, self._settings.secret, raw, headers, now)

    def _read(self, answer: Answer, reference: str, trust: Trust) -> RailOutcome:
        """The checks stand in order: the first one that fits is the outcome."""
        body = json_body(payment_decoder, answer.body) or PaymentBody(status="")
        raw, reason = answer.body, None
        status: OutcomeStatus | None
        if trust == "direct" and body.accepted is False and body.reference in (reference, None):
            status, reason = OutcomeStatus.NOT_ACCEPTED, body.status
        elif trust == "polled" and answer.status == 404 and (body.status, body.reference) == ("not_found", None):
            status = OutcomeStatus.NOT_FOUND
        elif answer.status not in (200, 202):
            return self.outcome(reference, OutcomeStatus.UNKNOWN, trust, reason=f"http_{answer.status}", raw=raw)
        elif body.reference != reference:
            return self.outcome(reference, OutcomeStatus.UNKNOWN, trust, reason="answer_malformed", raw=raw)
        else:
            status = STATUSES.get(body.status)
        return self.stated(
            reference,
            status,
            trust,
            raw,
            minor=minor_from_text(body.amount),
            currency=body.currency,
            provider_reference=body.provider_reference,
            reason=reason,
        )
