"""The partners of our own adapters in their own words, for the conformance suite."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec

from zentra.bench.conformance.suite import Asked, Reply, Request, Said, Specimen
from zentra.bench.twins.rails import ScriptedRail
from zentra.gateway.outward.rail_gtbank import GtbankRail
from zentra.gateway.outward.rail_http import Call, NotSent
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.gateway.outward.rail_providus import ProvidusRail, Statement
from zentra.gateway.outward.rail_sandbox import SandboxRail
from zentra.runtime.rails.port import Ack, Declaration, Rail, RailOutcome, RailSettings, Submission

__all__ = ["SPECIMENS"]

DIGITS = {"NGN": 2, "JPY": 0, "KWD": 3}


def major(minor: int, currency: str) -> str:
    return format(Decimal(minor).scaleb(-DIGITS[currency]), "f")


def minor(text: str, currency: str) -> int:
    scaled = Decimal(text).scaleb(DIGITS[currency])
    assert scaled == int(scaled)
    return int(scaled)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


class Sandbox(Specimen):
    plays_scenarios = True
    proof_headers = ("x-sandbox-signature", "x-sandbox-timestamp")
    words = {"pending": "pending", "succeeded": "succeeded", "declined": "declined", "refused": "rejected"}

    def settings(self, base_url: str) -> RailSettings:
        return RailSettings("sandbox", "sandbox", base_url, "sandbox-secret", "http://127.0.0.1:9/hook")

    def make(self, settings: RailSettings) -> Rail:
        return SandboxRail(settings)

    def asked(self, request: Request) -> Asked | None:
        if request.method == "GET":
            return Asked("poll", unquote(request.path.rpartition("/")[2]))
        body = json.loads(request.body)
        return Asked("submit", body["reference"], int(body["amount"]), body["currency"])

    def submitted(self, said: Said) -> Reply | None:
        if said.word == "not_found":
            return None
        body = self._payment(said) | {"accepted": said.word != "refused"}
        return Reply(202 if said.word == "pending" else 200, encoded(body))

    def polled(self, said: Said) -> Reply | None:
        if said.word == "not_found":
            return Reply(404, encoded({"status": "not_found"}))
        return Reply(200, encoded(self._payment(said)))

    def callback(self, said: Said) -> bytes | None:
        return encoded(self._payment(said) | {"event_id": said.event_id, "occurred_at": "2026-05-01T00:00:00Z"})

    def prove(self, settings: RailSettings, raw: bytes, now: float) -> Mapping[str, str]:
        stamp = str(int(now))
        signature = hmac.new(settings.secret.encode(), f"{stamp}.".encode() + raw, hashlib.sha256).hexdigest()
        return {"x-sandbox-timestamp": stamp, "x-sandbox-signature": signature}

    def _payment(self, said: Said) -> dict[str, Any]:
        return {
            "status": self.words.get(said.word, "odd"),
            "reference": said.reference,
            "amount": said.amount(lambda minor, currency: str(minor)),
            "currency": said.currency,
            "provider_reference": "p-1",
        }


class Providus(Specimen):
    proof_headers = ("x-auth-signature",)
    codes = {"pending": "09", "succeeded": "00", "declined": "05", "refused": "51", "not_found": "25"}

    def settings(self, base_url: str) -> RailSettings:
        return RailSettings(
            "providus", "providus", base_url, "shared-secret", "http://127.0.0.1:9/hook",
            idempotent_references=False, not_found_lies_seconds=60.0, options={"client_id": "zentra"},
        )  # fmt: skip

    def make(self, settings: RailSettings) -> Rail:
        return ProvidusRail(settings)

    def asked(self, request: Request) -> Asked | None:
        body = json.loads(request.body)
        if request.path == "/GetNIPTransactionStatus":
            return Asked("poll", body["transactionReference"])
        assert request.path == "/NIPFundTransfer"
        currency = body["currencyCode"]
        amount = minor(body["transactionAmount"], currency)
        return Asked("submit", body["transactionReference"], amount, currency)

    def submitted(self, said: Said) -> Reply | None:
        return None if said.word == "not_found" else Reply(200, encoded(self._statement(said)))

    def polled(self, said: Said) -> Reply | None:
        return Reply(200, encoded(self._statement(said)))

    def callback(self, said: Said) -> bytes | None:
        return None if said.word == "not_found" else encoded(self._statement(said) | {"settlementId": said.event_id})

    def prove(self, settings: RailSettings, raw: bytes, now: float) -> Mapping[str, str]:
        known = f"{settings.options['client_id']}:{settings.secret}"
        return {"x-auth-signature": hashlib.sha512(known.encode()).hexdigest()}

    def rests(self, ack: Ack) -> bool:
        return json.loads(ack.body)["responseCode"] in ("00", "01")

    def _statement(self, said: Said) -> dict[str, Any]:
        return {
            "responseCode": self.codes.get(said.word, "ZZ"),
            "transactionReference": said.reference,
            "transactionAmount": said.amount(major),
            "currencyCode": said.currency,
            "sessionId": "s-1",
        }


class SingleRail(ProvidusRail):
    """An account in the currency that the operator says, of a bank that names none."""

    declaration = Declaration(
        "shared_secret", not_found_lies_seconds=30.0, secrets=("callback",), options=("client_id", "currency")
    )

    def submit_call(self, submission: Submission) -> Call:
        if submission.currency != self.settings.options["currency"]:
            raise NotSent("currency_unsupported")
        return super().submit_call(submission)

    def _stated(self, said: Statement, *rest: Any) -> RailOutcome:
        said.currency_code = self.settings.options["currency"]
        return super()._stated(said, *rest)


class Single(Providus):
    names_currency = False

    def settings(self, base_url: str) -> RailSettings:
        usual = super().settings(base_url)
        return msgspec.structs.replace(usual, options=usual.options | {"currency": "NGN"})

    def make(self, settings: RailSettings) -> Rail:
        return SingleRail(settings)

    def _statement(self, said: Said) -> dict[str, Any]:
        return {name: value for name, value in super()._statement(said).items() if name != "currencyCode"}


class Gtbank(Specimen):
    proof_headers = ("x-gtbank-signature",)
    words = {"pending": "PROCESSING", "succeeded": "COMPLETED", "declined": "FAILED", "refused": "REJECTED"}

    def settings(self, base_url: str) -> RailSettings:
        return RailSettings(
            "gtbank", "gtbank", base_url, "hook-secret", "http://127.0.0.1:9/hook", not_found_lies_seconds=5.0,
            options={"client_id": "zentra"}, secrets={"client_secret": "client-secret"},
        )  # fmt: skip

    def make(self, settings: RailSettings) -> Rail:
        return GtbankRail(settings)

    def asked(self, request: Request) -> Asked | None:
        if request.path == "/oauth/token":
            return None
        if request.method == "GET":
            return Asked("poll", unquote(request.path.removeprefix("/v1/transfers/")))
        body = json.loads(request.body)
        return Asked("submit", body["reference"], minor(body["amount"], body["currency"]), body["currency"])

    def beside(self, request: Request) -> Reply:
        return Reply(200, encoded({"access_token": "token-1", "token_type": "Bearer", "expires_in": 300}))

    def submitted(self, said: Said) -> Reply | None:
        match said.word:
            case "not_found":
                return None
            case "refused":
                return Reply(422, encoded({"code": "INSUFFICIENT_FLOAT"}))
        return Reply(202, encoded(self._transfer(said)))

    def polled(self, said: Said) -> Reply | None:
        if said.word == "not_found":
            return Reply(404, encoded({"code": "TRANSFER_NOT_FOUND"}))
        return Reply(200, encoded(self._transfer(said)))

    def callback(self, said: Said) -> bytes | None:
        return encoded({"eventId": said.event_id, "eventType": "transfer", "data": self._transfer(said)})

    def prove(self, settings: RailSettings, raw: bytes, now: float) -> Mapping[str, str]:
        return {"x-gtbank-signature": hmac.new(settings.secret.encode(), raw, hashlib.sha512).hexdigest()}

    def _transfer(self, said: Said) -> dict[str, Any]:
        return {
            "reference": said.reference,
            "amount": said.amount(major),
            "currency": said.currency,
            "status": self.words.get(said.word, "ODD"),
            "transactionId": "t-1",
        }


class Twin(Sandbox):
    """The simulator's rail asks nobody; its callbacks are the sandbox's."""

    calls_out = False

    def make(self, settings: RailSettings) -> Rail:
        return ScriptedRail(settings, lambda: 1_800_000_000.0)


class Inline(Specimen):
    """It asks nobody, and nobody calls back."""

    calls_out = calls_back = False

    def settings(self, base_url: str) -> RailSettings:
        return RailSettings("inline", "inline")

    def make(self, settings: RailSettings) -> Rail:
        return InlineRail(settings)


SPECIMENS: tuple[Specimen, ...] = (Sandbox(), Providus(), Single(), Gtbank(), Twin(), Inline())
