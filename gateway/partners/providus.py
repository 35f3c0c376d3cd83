"""A simulated bank in the manner of Providus: response codes, and callbacks that show a shared secret.

It pays a reference as often as it is submitted, which the adapter must know. Of the answer to a callback it reads the
`responseCode`: 00 and 01 are heard, 02 is given up, anything else (03, or no code at all) is sent again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from zentra.gateway.outward.http import Answer
from zentra.gateway.partners.partner import Asked, Partner, Told, major, minor
from zentra.gateway.sandbox.crew import Errand, Heard
from zentra.gateway.sandbox.scenarios import Order, Payment, ReplyKind

__all__ = ["ProvidusBank"]

BY_STATUS: Final = {"pending": "09", "succeeded": "00", "declined": "05", "rejected": "51"}
BY_KIND: Final = {ReplyKind.CONFLICT: "94", ReplyKind.UNAVAILABLE: "21", ReplyKind.MALFORMED: "30"}


class ProvidusBank(Partner):
    """One such bank."""

    idempotent = False

    def answer(self, asked: Asked) -> Told | None:
        """Return the answer to a request; None where the bank has no such door."""
        if asked.method != "POST" or asked.path not in ("NIPFundTransfer", "GetNIPTransactionStatus"):
            return None
        shown = asked.headers.get("client-id"), asked.headers.get("x-auth-signature", "").lower()
        if shown != (self.profile.client_id, self._signature()):
            return Told(401, {"responseCode": "63", "responseMessage": "security violation"})
        try:
            body = json.loads(asked.body)
        except ValueError:
            return Told(400, {"responseCode": "30", "responseMessage": "format error"})
        return self._transfer(asked, body) if asked.path == "NIPFundTransfer" else self._look_up(asked, body)

    def callback(self, errand: Errand) -> tuple[bytes, Mapping[str, str]]:
        """Return body and headers of a callback, the same on every try."""
        notice, currency = errand.notice, errand.payment.order.currency
        body = {
            "settlementId": notice.event_id,
            "transactionReference": notice.reference,
            "transactionAmount": major(notice.amount, currency),
            "currencyCode": currency,
            "responseCode": BY_STATUS[notice.status],
            "sessionId": errand.payment.provider_reference,
        }
        return json.dumps(body).encode(), {
            "content-type": "application/json",
            "x-auth-signature": self._signature().upper(),
        }

    def heard(self, errand: Errand, answer: Answer) -> Heard:
        """Return what the bank makes of the answer: it reads the code, not the status."""
        try:
            code = json.loads(answer.body)["responseCode"]
        except (ValueError, KeyError, TypeError):
            return Heard.AGAIN
        return {"00": Heard.RESTS, "01": Heard.RESTS, "02": Heard.GIVES_UP}.get(code, Heard.AGAIN)

    def _transfer(self, asked: Asked, body: Any) -> Told:
        try:
            currency = body["currencyCode"]
            order = Order(
                body["transactionReference"],
                minor(body["transactionAmount"], currency),
                currency,
                body["beneficiaryAccountNumber"],
                body["callbackUrl"],
            )
        except (KeyError, TypeError):
            return Told(400, {"responseCode": "30", "responseMessage": "format error"})
        word, reply = self.take(asked, order)
        planned = self.planned(reply)
        if word == "error_after_taking":
            return Told(500, {"responseMessage": "internal server error"}, planned=planned)
        if reply.kind in BY_KIND or reply.payment is None:
            return Told(200, {"responseCode": BY_KIND[reply.kind], "transactionReference": order.reference})
        return Told(200, self._stated(reply.payment, asked.now), reply.hangs, planned)

    def _look_up(self, asked: Asked, body: Any) -> Told:
        reference = body.get("transactionReference") if isinstance(body, dict) else None
        payment = self.book.look_up(reference, asked.now) if isinstance(reference, str) else None
        if payment is None:
            told = {"responseCode": "25", "responseMessage": "unable to locate record"}
            return Told(200, told | {"transactionReference": reference})
        return Told(200, self._stated(payment, asked.now))

    def _stated(self, payment: Payment, now: float) -> dict[str, str]:
        order = payment.order
        return {
            "responseCode": BY_STATUS[payment.status(now)],
            "transactionReference": order.reference,
            "transactionAmount": major(order.amount, order.currency),
            "currencyCode": order.currency,
            "sessionId": payment.provider_reference,
        }

    def _signature(self) -> str:
        return hashlib.sha512(f"{self.profile.client_id}:{self.profile.client_secret}".encode()).hexdigest()
