"""The doors to deliveries: what became of a tenant's events, and sending one again.

- A delivery shows the bytes it sends, every attempt, and when it is tried next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zentra.gateway.doors.commands import CommandDoor, Order
from zentra.gateway.http.app import Reply, Request, Route
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import identifier, one_of, read_fields, text
from zentra.gateway.http.lists import CREATED, Check, Lists
from zentra.gateway.http.problems import Problem
from zentra.gateway.routes.intent_view import delivery_shown
from zentra.gateway.routes.packets import find_intent, uuid_of
from zentra.gateway.routes.webhooks import NOTHING
from zentra.runtime.intents.vocabulary import Topic
from zentra.runtime.partitions import lane_key
from zentra.runtime.webhooks.delivery import DeliveryState
from zentra.storage.pool import Pool
from zentra.storage.reads import border as border_reads
from zentra.storage.reads import lists as list_reads
from zentra.storage.reads.lists import DeliveryPlace

__all__ = ["DELIVERY_FILTERS", "DeliveryRoutes"]

DELIVERY_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "endpoint": identifier, "intent": text, "event": one_of("event_unknown", *Topic),
    "status": one_of("status_unknown", *DeliveryState),
}  # fmt: skip


class DeliveryRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, commands: CommandDoor, lists: Lists) -> None:
        self._pool, self._commands, self._lists = pool, commands, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("GET", "/webhooks/deliveries", self.deliveries, P.DELIVERIES_READ),
            Route("POST", "/webhooks/deliveries/{id}/replay", self.replay, P.DELIVERIES_REPLAY, body="json or nothing"),
        ]

    async def deliveries(self, request: Request) -> Reply:
        """Deliveries, the newest first; `intent` takes either id."""
        asked = self._lists.asked(request, DELIVERY_FILTERS, DeliveryPlace)
        filters = dict(asked.filters)
        if "intent" in filters:
            filters["intent"] = (await find_intent(self._pool, asked.tenant, filters["intent"])).id
        found = await list_reads.deliveries(
            self._pool, asked.tenant, filters, after=asked.after, limit=asked.limit
        )  # fmt: skip
        return asked.page([delivery_shown(row) for row in found.rows], found.after)

    async def replay(self, request: Request) -> Reply:
        """Send a delivery again: the same id, the same bytes, the schedule from its start."""
        _, in_body = read_fields(request.json, NOTHING)
        key, tenant = request.idempotency_key(in_body), request.principal.tenant
        delivery = uuid_of(request.params["id"])
        endpoint = await border_reads.delivery_endpoint(self._pool, tenant, delivery)
        if endpoint is None:
            raise Problem("not_found")
        order = Order(
            kind="replay_delivery", subject=delivery, owner=lane_key(tenant, endpoint), body={}, asked={},
            shows={"kind": "replay_delivery", "delivery": delivery, "endpoint": endpoint},
            location=f"/webhooks/deliveries?endpoint={endpoint}",
        )  # fmt: skip
        return await self._commands.give(request, key, order)
