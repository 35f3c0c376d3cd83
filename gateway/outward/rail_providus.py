"""A rail in the manner of Providus: NIP response codes, and callbacks that show a shared secret but do not bind a body.

Whoever has once seen a callback could write another one, so what it says is `shared_secret`: it makes us ask, and the
answer to the poll is what counts. The invariants kept here:

- `not_accepted` is said only for a response code that the bank gives before it takes anything, in its own JSON.
- A poll finds nothing only with a 200; a client error of a poll is about us and not about the payment.
- A code that is not in the table is `unknown`, and so is every HTTP status by which the bank says nothing.
- Requests and callbacks carry X-Auth-Signature, the SHA-512 in hex of "ClientId:ClientSecret" (`options.client_id` and
  `secret`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

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

__all__ = ["CODES", "ProvidusRail"]

_S = OutcomeStatus

# fmt: off
CODES: Final[Mapping[str, tuple[OutcomeStatus, OutcomeStatus]]] = {
    # code     answering a submit  told of a payment    the bank's words
    "00": (_S.SUCCEEDED,    _S.SUCCEEDED),  # approved or completed successfully
    "01": (_S.UNKNOWN,      _S.UNKNOWN),    # status unknown, wait for the settlement report
    "03": (_S.NOT_ACCEPTED, _S.DECLINED),   # invalid sender
    "05": (_S.DECLINED,     _S.DECLINED),   # do not honour
    "06": (_S.DECLINED,     _S.DECLINED),   # dormant account
    "07": (_S.DECLINED,     _S.DECLINED),   # invalid account
    "08": (_S.DECLINED,     _S.DECLINED),   # account name mismatch
    "09": (_S.PENDING,      _S.PENDING),    # request processing in progress
    "12": (_S.NOT_ACCEPTED, _S.DECLINED),   # invalid transaction
    "13": (_S.NOT_ACCEPTED, _S.DECLINED),   # invalid amount
    "16": (_S.NOT_ACCEPTED, _S.DECLINED),   # unknown bank code
    "17": (_S.NOT_ACCEPTED, _S.DECLINED),   # invalid channel
    "21": (_S.NOT_ACCEPTED, _S.DECLINED),   # no action taken
    "25": (_S.UNKNOWN,      _S.NOT_FOUND),  # unable to locate record
    "26": (_S.UNKNOWN,      _S.UNKNOWN),    # duplicate record: of what became of the first, nothing is said
    "30": (_S.NOT_ACCEPTED, _S.UNKNOWN),    # format error
    "34": (_S.DECLINED,     _S.DECLINED),   # suspected fraud
    "51": (_S.NOT_ACCEPTED, _S.DECLINED),   # no sufficient funds: of ours, at this bank
    "57": (_S.DECLINED,     _S.DECLINED),   # not permitted to the sender
    "58": (_S.NOT_ACCEPTED, _S.DECLINED),   # not permitted on the channel
    "61": (_S.DECLINED,     _S.DECLINED),   # transfer limit exceeded
    "63": (_S.NOT_ACCEPTED, _S.UNKNOWN),    # security violation: our credentials
    "65": (_S.DECLINED,     _S.DECLINED),   # withdrawal frequency exceeded
    "68": (_S.UNKNOWN,      _S.UNKNOWN),    # response received too late
    "69": (_S.DECLINED,     _S.DECLINED),   # unsuccessful account block
    "91": (_S.UNKNOWN,      _S.UNKNOWN),    # beneficiary bank not available: perhaps after it had heard
    "92": (_S.UNKNOWN,      _S.UNKNOWN),    # routing error
    "94": (_S.UNKNOWN,      _S.UNKNOWN),    # duplicate transaction
    "96": (_S.UNKNOWN,      _S.UNKNOWN),    # system malfunction
    "97": (_S.UNKNOWN,      _S.UNKNOWN),    # timeout waiting for the destination
}
# fmt: on
CODED: Final = frozenset({200, 400, 401, 404, 422})  # HTTP statuses with which the bank still says a code of its own
REFUSABLE: Final = {"direct": CODED, "polled": frozenset({200})}  # with which nothing was taken, or nothing is found
ACKS: Final = {
    Verdict.TAKEN: ("00", "success"),
    Verdict.DUPLICATE: ("01", "duplicate transaction"),
    Verdict.REJECTED: ("02", "rejected transaction"),
    Verdict.TRY_AGAIN: ("03", "system failure, retry"),
}


class Transfer(msgspec.Struct, rename="camel"):
    """What a submit asks for."""

    transaction_reference: str
    transaction_amount: str
    currency_code: str
    beneficiary_account_number: str
    callback_url: str


class Statement(msgspec.Struct, rename="camel"):
    """What the bank says of a payment; callbacks name the settlement too."""

    response_code: str
    transaction_reference: str | None = None
    transaction_amount: str | None = None
    currency_code: str | None = None
    session_id: str | None = None
    settlement_id: str | None = None


class About(msgspec.Struct, rename="camel"):
    """A callback of which nothing but its transfer can be read."""

    transaction_reference: str


statement_decoder = msgspec.json.Decoder(Statement)
about_decoder = msgspec.json.Decoder(About)


class ProvidusRail(HttpRail):
    """One account with the bank."""

    declaration = Declaration(
        callback_trust="shared_secret",
        idempotent_references=False,  # the bank promises no more than to answer 26 or 94 most of the time
        not_found_lies_seconds=30.0,  # the switch hands its records on in batches
        secrets=("callback",),
        options=("client_id",),
    )

    @property
    def signature(self) -> str:
        """The word by which either side knows the other; empty where no credentials are configured."""
        client, secret = self.settings.options.get("client_id", ""), self.settings.secret
        return hashlib.sha512(f"{client}:{secret}".encode()).hexdigest() if client and secret else ""

    def submit_call(self, submission: Submission) -> Call:
        """Return the request that asks the bank to pay."""
        body = Transfer(
            transaction_reference=submission.reference,
            transaction_amount=major_from_minor(submission.minor, submission.currency),
            currency_code=submission.currency,
            beneficiary_account_number=submission.destination,
            callback_url=self.settings.callback_url,
        )
        return self._call("/NIPFundTransfer", msgspec.json.encode(body))

    def poll_call(self, reference: str) -> Call:
        """Return the request that asks what became of a reference."""
        return self._call("/GetNIPTransactionStatus", msgspec.json.encode({"transactionReference": reference}))

    def read_submit(self, answer: Answer, submission: Submission) -> RailOutcome:
        """Return what the bank's answer to a submit says."""
        return self._read(answer, submission.reference, "direct")

    def read_poll(self, answer: Answer, reference: str) -> RailOutcome:
        """Return what the bank's answer to a poll says."""
        return self._read(answer, reference, "polled")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Return what a callback says that shows the secret. Raises `CallbackRejected`."""
        require_network(self.settings, peer)
        self.require_secret(self.signature, headers.get("x-auth-signature", "").lower())
        said = json_body(statement_decoder, raw)
        if said is None or not said.settlement_id or not said.transaction_reference:
            about = json_body(about_decoder, raw)
            raise self.malformed(about.transaction_reference if about else None)
        _, status = CODES.get(said.response_code, (None, None))
        if status is _S.NOT_FOUND:
            status = _S.UNKNOWN  # only an answer can say that there is nothing
        return self._stated(said, said.transaction_reference, status, "shared_secret", raw)

    def ack(self, verdict: Verdict) -> Ack:
        """Return 200 with the response code that the bank reads."""
        code, message = ACKS[verdict]
        told = {"requestSuccessful": code in ("00", "01"), "responseCode": code, "responseMessage": message}
        return Ack(200, msgspec.json.encode(told))

    def _call(self, path: str, body: bytes) -> Call:
        identity = {"client-id": self.settings.options.get("client_id", ""), "x-auth-signature": self.signature}
        return Call("POST", path, path, body, {"content-type": "application/json", **identity})

    def _read(self, answer: Answer, reference: str, trust: Trust) -> RailOutcome:
        """The checks stand in order: the first one that fits is the outcome."""
        said = json_body(statement_decoder, answer.body)
        if answer.status not in CODED:
            return self.outcome(reference, _S.UNKNOWN, trust, reason=f"http_{answer.status}", raw=answer.body)
        if said is None or said.transaction_reference not in (reference, None):
            return self.outcome(reference, _S.UNKNOWN, trust, reason="answer_malformed", raw=answer.body)
        status = CODES.get(said.response_code, (None, None))[trust == "polled"]
        nothing_taken = status in (_S.NOT_ACCEPTED, _S.NOT_FOUND) and answer.status in REFUSABLE[trust]
        if status is not None and not nothing_taken and (answer.status, said.transaction_reference) != (200, reference):
            return self.outcome(reference, _S.UNKNOWN, trust, reason="answer_malformed", raw=answer.body)
        return self._stated(said, reference, status, trust, answer.body)

    def _stated(
        self, said: Statement, reference: str, status: OutcomeStatus | None, trust: Trust, raw: bytes
    ) -> RailOutcome:
        told = status in (_S.SUCCEEDED, _S.PENDING)
        return self.stated(
            reference,
            status,
            trust,
            raw,
            minor=minor_from_major(said.transaction_amount, said.currency_code),
            currency=said.currency_code,
            provider_reference=said.session_id,
            event_id=said.settlement_id if trust == "shared_secret" else None,
            reason=None if told else f"response_{said.response_code}",
        )
