"""What endpoints were told, and are told again. Every method may raise APIError and ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Sequence

from zentra.client import calls, delivery_calls
from zentra.client.blocking.endpoints import Endpoints
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.calls import Time
from zentra.client.delivery_models import AttemptDetail, RecoveryState, WebhookHealth
from zentra.client.models import Command, Delivery
from zentra.client.webhooks import WebhookVerifier

__all__ = ["Deliveries", "Recoveries", "Webhooks"]


class Deliveries:
    """Webhooks that were sent, or are to be."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        endpoint: str | None = None,
        intent: str | None = None,
        event: str | None = None,
        status: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[Delivery]:
        """Return the deliveries that fit, newest first, with every attempt; `intent` is either id."""
        filters = {
            "endpoint": endpoint, "intent": intent, "event": event, "status": status,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, calls.list_deliveries(page_size, filters))

    def replay(self, id: str, *, idempotency_key: str | None = None, wait: int | None = None) -> Command:
        """Send a delivery again: the same id, the same bytes."""
        return self._transport.send(calls.replay_delivery(id, idempotency_key, wait))

    def get(self, id: str) -> Delivery:
        """Return a delivery with its attempts in short."""
        return self._transport.send(delivery_calls.get_delivery(id))

    def attempts(self, id: str, *, page_size: int | None = None) -> Pages[AttemptDetail]:
        """Return the attempts of a delivery in full, the last one first."""
        return Pages(self._transport, delivery_calls.list_delivery_attempts(id, page_size))


class Recoveries:
    """What endpoints are sent that they have not had."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def start(
        self,
        endpoint: str,
        *,
        since: Time,
        before: Time | None = None,
        which: str | None = None,
        events: Sequence[str] | None = None,
        dry_run: bool | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Command:
        """Begin to send an endpoint what it has not had since a time; its `recovery` tells how far that is.

        `which` is `undelivered` (by default), `failed`, `missing` or `any`, which takes in what was delivered;
        `dry_run` only counts."""
        return self._transport.send(
            delivery_calls.recover_deliveries(endpoint, since, before, which, events, dry_run, idempotency_key, wait)
        )

    def list(
        self,
        *,
        endpoint: str | None = None,
        status: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[RecoveryState]:
        """Return the recoveries that fit, the newest first."""
        filters = {
            "endpoint": endpoint, "status": status, "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, delivery_calls.list_recoveries(page_size, filters))

    def get(self, id: str) -> RecoveryState:
        """Return a recovery, and how far it is."""
        return self._transport.send(delivery_calls.get_recovery(id))


class Webhooks(WebhookVerifier):
    """Endpoints and deliveries; and `verify`, for whoever receives."""

    def __init__(self, transport: Transport) -> None:
        self.endpoints = Endpoints(transport)
        self.deliveries = Deliveries(transport)
        self.recoveries = Recoveries(transport)
        self._transport = transport

    def health(self) -> WebhookHealth:
        """Return how the endpoints do over the last 24 hours: delivered by the schedule / due."""
        return self._transport.send(delivery_calls.webhook_health())

    def body(self, intent: str, sequence: int | str) -> bytes:
        """Return an event of an intent, by either id, byte for byte as endpoints get it."""
        return self._transport.send(delivery_calls.webhook_body(intent, sequence))
