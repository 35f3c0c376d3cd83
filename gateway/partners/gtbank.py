"""A simulated bank in the manner of GTBank: bearer tokens that run out, and callbacks whose bytes are signed.

    POST /oauth/token                 client credentials; {"access_token", "expires_in"}
    POST /v1/transfers                202 with the transfer; 4xx with a code where nothing was taken
    GET  /v1/transfers/{reference}    the transfer, or 404 TRANSFER_NOT_FOUND

A reference is one transfer for ever. All tokens die at once where a scenario says so, as after the bank's restart."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from zentra.gateway.partners.partner import Asked, Partner, PartnerProfile, Told, major, minor
from zentra.gateway.sandbox.crew import Errand
from zentra.gateway.sandbox.scenarios import Order, Payment, ReplyKind

__all__ = ["GtbankBank"]

TOKENS_MAX: Final = 64
WORDS: Final = {"pending": "PROCESSING", "succeeded": "COMPLETED", "declined": "FAILED", "rejected": "REJECTED"}
REFUSALS: Final = {
    ReplyKind.CONFLICT: (409, "REFERENCE_CONFLICT"),
    ReplyKind.UNAVAILABLE: (422, "SERVICE_CLOSED"),
    ReplyKind.MALFORMED: (400, "VALIDATION_FAILED"),
    ReplyKind.REFUSED: (422, "INSUFFICIENT_FLOAT"),
}


class GtbankBank(Partner):
    """One such bank."""

    def __init__(self, name: str, profile: PartnerProfile) -> None:
        super().__init__(name, profile)
        self.tokens: dict[str, float] = {}  # until when each is good
        self.tokens_granted = 0
        self._expired_for: set[str] = set()

    def answer(self, asked: Asked) -> Told | None:
        """Return the answer to a request; None where the bank has no such door."""
        match asked.method, asked.path.split("/"):
            case "POST", ["oauth", "token"]:
                return self._grant(asked)
            case "POST", ["v1", "transfers"]:
                return self._let_in(asked) or self._transfer(asked)
            case "GET", ["v1", "transfers", *parts] if parts:
                return self._let_in(asked) or self._look_up("/".join(parts), asked.now)
        return None

    def callback(self, errand: Errand) -> tuple[bytes, Mapping[str, str]]:
        """Return body and headers of a callback, the same on every try."""
        notice, payment = errand.notice, errand.payment
        body = json.dumps(
            {
                "eventId": notice.event_id,
                "eventType": f"transfer.{WORDS[notice.status].lower()}",
                "data": {
                    "reference": notice.reference,
                    "amount": major(notice.amount, payment.order.currency),
                    "currency": payment.order.currency,
                    "status": WORDS[notice.status],
                    "transactionId": payment.provider_reference,
                },
            }
        ).encode()
        signature = hmac.new(self.profile.callback_secret.encode(), body, hashlib.sha512).hexdigest()
        return body, {"content-type": "application/json", "x-gtbank-signature": signature}

    def expire_tokens(self) -> None:
        """Let no token in any more that was granted before."""
        self.tokens.clear()

    def _grant(self, asked: Asked) -> Told:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode("latin-1")).items()}
        given = form.get("grant_type"), form.get("client_id"), form.get("client_secret")
        if given != ("client_credentials", self.profile.client_id, self.profile.client_secret):
            return Told(401, {"code": "INVALID_CLIENT"})
        while len(self.tokens) >= TOKENS_MAX:
            del self.tokens[next(iter(self.tokens))]
        token = secrets.token_urlsafe(24)
        self.tokens[token] = asked.now + self.profile.token_seconds
        self.tokens_granted += 1
        return Told(200, {"access_token": token, "token_type": "Bearer", "expires_in": self.profile.token_seconds})

    def _let_in(self, asked: Asked) -> Told | None:
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and self.tokens.get(token, 0.0) > asked.now:
            return None
        return Told(401, {"code": "INVALID_TOKEN"})

    def _transfer(self, asked: Asked) -> Told:
        try:
            body = json.loads(asked.body)
            currency = body["currency"]
            amount = minor(body["amount"], currency)
            order = Order(body["reference"], amount, currency, body["creditAccount"], body["callbackUrl"])
        except (ValueError, KeyError, TypeError):
            return Told(400, {"code": "VALIDATION_FAILED"})
        if self._expires_for(asked, order.reference):
            self.expire_tokens()
            return Told(401, {"code": "INVALID_TOKEN"})
        word, reply = self.take(asked, order)
        planned = self.planned(reply)
        if word == "error_after_taking":
            return Told(500, {"message": "internal server error"}, planned=planned)
        if reply.kind in REFUSALS or reply.payment is None:
            status, code = REFUSALS[reply.kind]
            return Told(status, {"code": code, "reference": order.reference})
        return Told(202, self._stated(reply.payment, asked.now), reply.hangs, planned)

    def _expires_for(self, asked: Asked, reference: str) -> bool:
        """Return whether the scenario has this reference meet a dead token, which it does once."""
        word = asked.headers.get("x-simulator-scenario") or self.scenario
        if word != "token_expired" or reference in self._expired_for:
            return False
        if len(self._expired_for) >= TOKENS_MAX:
            self._expired_for.clear()
        self._expired_for.add(reference)
        return True

    def _look_up(self, reference: str, now: float) -> Told:
        payment = self.book.look_up(reference, now)
        if payment is None:
            return Told(404, {"code": "TRANSFER_NOT_FOUND"})
        return Told(200, self._stated(payment, now))

    def _stated(self, payment: Payment, now: float) -> dict[str, str]:
        order = payment.order
        return {
            "reference": order.reference,
            "amount": major(order.amount, order.currency),
            "currency": order.currency,
            "status": WORDS[payment.status(now)],
            "transactionId": payment.provider_reference,
        }
