"""Holds: place, look, list, capture, void. Methods raise APIError, and ValueError for what cannot be sent.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from zentra.client import calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.calls import Time
from zentra.client.holds import Hold
from zentra.client.models import Command, Condition, Intent

__all__ = ["Holds"]


class Holds:
    """Money that is spoken for on an account until it is captured, voided, or its time is over."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        destination: str | None = None,
        expires_in_seconds: int | None = None,
        release_condition: str | None = None,
        intent_id: str | None = None,
        scope: str | None = None,
        country: str | None = None,
        metadata: Mapping[str, str] | None = None,
        conditions: Sequence[Condition] | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
        counterparty: Mapping[str, str] | None = None,
    ) -> Intent:
        """Hold an amount on `source`; return the intent, after up to `wait` seconds if it does not stand before.

        It lasts seven days unless told otherwise, 31 at most. `destination` is where captures go that name none.
        Raises APIError and ValueError."""
        terms = {"expires_in_seconds": expires_in_seconds, "release_condition": release_condition}
        return self._transport.send(
            calls.create_intent(
                "holds",
                amount=amount,
                currency=currency,
                source=source,
                destination=destination,
                kind="hold",
                intent_id=intent_id,
                scope=scope,
                country=country,
                metadata=metadata,
                conditions=conditions,
                hold={name: value for name, value in terms.items() if value is not None},
                idempotency_key=idempotency_key,
                wait=wait,
                counterparty=counterparty,
            )
        )

    def get(self, id: str) -> Hold:
        """Return a hold with its captures and its history, by its intent_id or uuid.

        Raises APIError and ValueError."""
        return self._transport.send(calls.get_hold(id))

    def list(
        self,
        *,
        account: str | None = None,
        status: str | None = None,
        currency: str | None = None,
        expires_before: Time | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[Hold]:
        """Return the holds that fit, the last placed first; each without its history, which `get` shows."""
        filters = {
            "account": account, "status": status, "currency": currency, "expires_before": expires_before,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, calls.list_holds(page_size, filters))

    def capture(
        self,
        id: str,
        amount: int | Literal["full"],
        *,
        destination: str | None = None,
        final: bool = False,
        reason: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Command:
        """Take an amount in minor units, or all that is left; return where the command stands.

        Several captures may follow each other; a `final` one gives back the rest. Raises APIError (such as
        ConflictError `hold_expired`, `hold_already_posted`, `hold_already_voided`) and ValueError."""
        return self._transport.send(calls.capture_hold(id, amount, destination, final, reason, idempotency_key, wait))

    def void(self, id: str, *, reason: str, idempotency_key: str | None = None, wait: int | None = None) -> Command:
        """Give back what is held still; return where the command stands. Raises APIError and ValueError."""
        return self._transport.send(calls.void_hold(id, reason, idempotency_key, wait))
