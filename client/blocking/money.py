"""Intents, transfers and payments. Methods raise APIError, and ValueError for what cannot be sent.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import Literal

from zentra.client import calls
from zentra.client.blocking.transport import EventStream, Pages, Transport
from zentra.client.bulk import BulkResult, NewIntent
from zentra.client.calls import Time
from zentra.client.models import Command, CommandRecord, Condition, Intent

__all__ = ["Commands", "Events", "Intents", "Payments", "Transfers"]


class Intents:
    """Intents: make, look, wait, list, listen, cancel, reverse, export the evidence."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        destination: str | None = None,
        kind: str = "transfer",
        intent_id: str | None = None,
        scope: str | None = None,
        country: str | None = None,
        metadata: Mapping[str, str] | None = None,
        conditions: Sequence[Condition] | None = None,
        effective_at: Time | None = None,
        fee_max: int | None = None,
        fee_quote: str | None = None,
        hold: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
        counterparty: Mapping[str, str] | None = None,
    ) -> Intent:
        """Return the intent as accepted or, after up to `wait` seconds (the server allows 30), as it then is.

        `amount` is in minor units; a hold has terms of its own and may do without a destination. `conditions` have to
        be met once it is in the books; `effective_at` (of a book transfer) is when it counts where that is not now.
        `fee_max` is the most that may be charged on top, `fee_quote` the digest of the quote that was agreed to: with
        another fee the intent fails as `fee_changed`. A `counterparty` has a `name`, and may have `country`, `account`
        and `kind`. Without an `idempotency_key` one is made for this call and all its attempts; give one of yours, kept
        with the order that it is for, to be safe against a crash of your own process as well. Raises APIError and
        ValueError."""
        return self._transport.send(
            calls.create_intent(
                "runtime",
                "intents",
                amount=amount,
                currency=currency,
                source=source,
                destination=destination,
                kind=kind,
                intent_id=intent_id,
                scope=scope,
                country=country,
                metadata=metadata,
                conditions=conditions,
                effective_at=effective_at,
                fee_max=fee_max,
                fee_quote=fee_quote,
                hold=hold,
                idempotency_key=idempotency_key,
                wait=wait,
                counterparty=counterparty,
            )
        )

    def create_many(self, intents: Sequence[NewIntent]) -> tuple[BulkResult, ...]:
        """Make up to 1,000 intents in one request; return what became of each, in order.

        One that is refused harms no other, and has its error in its result. Sending the same values again is safe.
        Raises APIError where the whole request failed, and ValueError for too many or a key that two of them have."""
        return self._transport.send(calls.create_intents(intents))

    def get(self, id: str, wait: int | None = None) -> Intent:
        """Return the intent with this intent_id or uuid, after up to `wait` seconds if it is not stable before.

        Raises APIError and ValueError."""
        return self._transport.send(calls.get_intent(id, wait))

    def wait(self, id: str, timeout: float) -> Intent:
        """Return the intent once it is `stable`, or after `timeout` seconds as it then is.

        Raises APIError and ValueError."""
        end = monotonic() + timeout
        while True:
            left = end - monotonic()
            intent = self.get(id, wait=calls.look_seconds(left))
            left = end - monotonic()
            if intent.stable or left <= 0:
                return intent
            sleep(min(calls.LOOK_PAUSE_SECONDS, left))

    def list(
        self,
        *,
        state: str | None = None,
        intent_id: str | None = None,
        account: str | None = None,
        kind: str | None = None,
        currency: str | None = None,
        amount_min: int | None = None,
        amount_max: int | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[Intent]:
        """Return the intents that fit, newest first; each without its history, which `get` shows."""
        filters = {
            "state": state, "intent_id": intent_id, "account": account, "kind": kind, "currency": currency,
            "amount_min": amount_min, "amount_max": amount_max,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, calls.list_intents(page_size, filters))

    def events(self, id: str, *, last_id: str | None = None) -> EventStream:
        """Return what happened to an intent, from the beginning or behind `last_id`, and what will."""
        return EventStream(self._transport, lambda behind: calls.stream_intent_events(id, behind), last_id)

    def cancel(
        self, id: str, *, reason: str | None = None, idempotency_key: str | None = None, wait: int | None = None
    ) -> Command:
        """Cancel an intent before anything was sent to a rail; return where the command stands.

        Raises APIError (ConflictError `not_cancellable` where it is too late) and ValueError."""
        return self._transport.send(calls.cancel_intent(id, reason, idempotency_key, wait))

    def reverse(
        self,
        id: str,
        amount: int | Literal["full"] = "full",
        *,
        reason: str,
        force: bool | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Command:
        """Give back all that is left, or a part in minor units; return where the command stands.

        By `force` also what is not there any more: then the command waits for somebody else's approval, and has its id
        and `request_hash`. The reason becomes part of the evidence. Raises APIError and ValueError."""
        return self._transport.send(calls.reverse_intent(id, amount, reason, force, idempotency_key, wait))

    def evidence(self, id: str) -> bytes:
        """Return the sealed audit packet, for `client.evidence.verify` or `zentra evidence verify`.

        Raises APIError (ConflictError `evidence_not_sealed` until it is sealed) and ValueError."""
        return self._transport.send(calls.get_evidence(id))


class Commands:
    """What was asked of an intent, a review, a case or a delivery."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, id: str) -> CommandRecord:
        """Return a command and what became of it. Raises APIError and ValueError."""
        return self._transport.send(calls.get_command(id))


class Events:
    """Everything that happens to the tenant's intents."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def stream(self, *, last_id: str | None = None) -> EventStream:
        """Return what happens from now on, or what happened behind `last_id`.

        An id that the server has forgotten is APIStatusError `events_gone`: read the lists, then begin anew."""
        return EventStream(self._transport, calls.stream_events, last_id)


class Transfers:
    """Transfers, between accounts (`book_transfer`) or out to a rail."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        destination: str,
        kind: Literal["transfer", "book_transfer"] = "transfer",
        intent_id: str | None = None,
        scope: str | None = None,
        country: str | None = None,
        metadata: Mapping[str, str] | None = None,
        conditions: Sequence[Condition] | None = None,
        effective_at: Time | None = None,
        fee_max: int | None = None,
        fee_quote: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
        counterparty: Mapping[str, str] | None = None,
    ) -> Intent:
        """As `runtime.intents.create`; anything that is no transfer is refused."""
        return self._transport.send(
            calls.create_intent(
                "transfers",
                amount=amount,
                currency=currency,
                source=source,
                destination=destination,
                kind=kind,
                intent_id=intent_id,
                scope=scope,
                country=country,
                metadata=metadata,
                conditions=conditions,
                effective_at=effective_at,
                fee_max=fee_max,
                fee_quote=fee_quote,
                idempotency_key=idempotency_key,
                wait=wait,
                counterparty=counterparty,
            )
        )


class Payments:
    """Payments."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        destination: str,
        intent_id: str | None = None,
        scope: str | None = None,
        country: str | None = None,
        metadata: Mapping[str, str] | None = None,
        conditions: Sequence[Condition] | None = None,
        fee_max: int | None = None,
        fee_quote: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
        counterparty: Mapping[str, str] | None = None,
    ) -> Intent:
        """As `runtime.intents.create`, for a payment."""
        return self._transport.send(
            calls.create_intent(
                "payments",
                amount=amount,
                currency=currency,
                source=source,
                destination=destination,
                kind="payment",
                intent_id=intent_id,
                scope=scope,
                country=country,
                metadata=metadata,
                conditions=conditions,
                fee_max=fee_max,
                fee_quote=fee_quote,
                idempotency_key=idempotency_key,
                wait=wait,
                counterparty=counterparty,
            )
        )
