"""A rail in the manner of Flutterwave's v3: a static secret in `verif-hash`, amounts in major units, a bearer key."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from zentra.gateway.outward.http import Answer
from zentra.gateway.outward.rail_http import Call, HttpRail, json_body
from zentra.runtime.rails.major import major_from_minor, minor_from_major
from zentra.runtime.rails.port import (
    Ack,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    Submission,
    Trust,
    Verdict,
    require_network,
)

__all__ = ["FlutterRail"]

STATUSES = {
    "NEW": OutcomeStatus.PENDING,
    "PENDING": OutcomeStatus.PENDING,
    "SUCCESSFUL": OutcomeStatus.SUCCEEDED,
    "FAILED": OutcomeStatus.DECLINED,
}
REFUSALS = {"insufficient_balance", "invalid_account", "unauthorized", "validation_error"}  # before anything is taken
ACKS = {Verdict.TAKEN: 200, Verdict.DUPLICATE: 200, Verdict.REJECTED: 401, Verdict.TRY_AGAIN: 503}


class Transfer(msgspec.Struct):
    """What the partner tells of a transfer."""

    reference: str
    status: str
    amount: str | None = None
    currency: str | None = None
    id: int | None = None


class Envelope(msgspec.Struct):
    """Every answer: `data` where there is a transfer, `code` where there is none."""

    status: str
    code: str | None = None
    data: Transfer | None = None


class Event(msgspec.Struct):
    """A callback."""

    event_id: str
    data: Transfer


envelopes = msgspec.json.Decoder(Envelope)
events = msgspec.json.Decoder(Event)


class FlutterRail(HttpRail):
    """One merchant account. `secret` is the secret hash, `secrets.api_key` the key for requests."""

    declaration = Declaration(
        callback_trust="shared_secret",
        idempotent_references=True,
        not_found_lies_seconds=10.0,
        secrets=("callback", "api_key"),
    )

    def submit_call(self, submission: Submission) -> Call:
        body = {
            "reference": submission.reference,
            "amount": major_from_minor(submission.minor, submission.currency),
            "currency": submission.currency,
            "account_number": submission.destination,
            "callback_url": self.settings.callback_url,
        }
        return Call("POST", "/v3/transfers", "/v3/transfers", msgspec.json.encode(body), self._headers())

    def poll_call(self, reference: str) -> Call:
        path = f"/v3/transfers/{quote(reference, safe='')}"
        return Call("GET", path, "/v3/transfers/{reference}", headers=self._headers())

    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        said = json_body(envelopes, answer.body)
        if 400 <= answer.status < 500 and said is not None and said.status == "error" and said.code in REFUSALS:
            return self.outcome(
                submission.reference, OutcomeStatus.NOT_ACCEPTED, "direct", reason=said.code, raw=answer.body
            )
        return self._read(answer, said, submission.reference, "direct")

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        said = json_body(envelopes, answer.body)
        if answer.status == 404 and said is not None and said.code == "transfer_not_found":
            return self.outcome(reference, OutcomeStatus.NOT_FOUND, "polled", raw=answer.body)
        return self._read(answer, said, reference, "polled")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        require_network(self.settings, peer)
        self.require_secret(self.settings.secret, headers.get("verif-hash"))
        event = json_body(events, raw)
        if event is None or not event.event_id or not event.data.reference:
            raise self.malformed()
        return self._stated(event.data, "shared_secret", raw, event.event_id)

    def ack(self, verdict: Verdict) -> Ack:
        return Ack(ACKS[verdict], msgspec.json.encode({"status": str(verdict)}))

    def _headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "authorization": f"Bearer {self.settings.secrets.get('api_key', '')}"}

    def _read(self, answer: Answer, said: Envelope | None, reference: str, trust: Trust) -> RailOutcome:
        if answer.status not in (200, 201):
            return self.outcome(
                reference, OutcomeStatus.UNKNOWN, trust, reason=f"http_{answer.status}", raw=answer.body
            )
        if said is None or said.data is None or said.data.reference != reference:
            return self.outcome(reference, OutcomeStatus.UNKNOWN, trust, reason="answer_malformed", raw=answer.body)
        return self._stated(said.data, trust, answer.body, None)

    def _stated(self, said: Transfer, trust: Trust, raw: bytes, event_id: str | None) -> RailOutcome:
        return self.stated(
            said.reference,
            STATUSES.get(said.status),
            trust,
            raw,
            minor=minor_from_major(said.amount, said.currency),
            currency=said.currency,
            provider_reference=None if said.id is None else str(said.id),
            event_id=event_id,
            reason="failed" if said.status == "FAILED" else None,
        )
