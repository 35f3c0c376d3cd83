"""The doors to deliveries: what became of a tenant's events, and sending one, or many, again.

- A delivery shows the bytes it sends, every attempt, and when it is tried next. Signatures are shown, secrets never.
- One that is sent again keeps its id and its bytes. Many are sent again by a recovery, which the worker works off; the
  door answers as soon as it has begun, and its progress can be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zentra.actors.recovering import RecoveryAsked, body_at
from zentra.gateway.doors.commands import CommandDoor, Order
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import NOTHING, Field, boolean, event_filters, identifier, one_of, read_fields, text
from zentra.gateway.http.lists import CREATED, Check, Lists, checked_query, time
from zentra.gateway.http.problems import Problem
from zentra.gateway.routes.intent_view import delivery_shown
from zentra.gateway.routes.packets import find_intent, uuid_of
from zentra.runtime.intents.vocabulary import Topic
from zentra.runtime.partitions import lane_key
from zentra.runtime.webhooks.delivery import DeliveryState, is_told
from zentra.runtime.webhooks.recovery import RecoveryStatus, Which
from zentra.storage.identifiers import Uuid7
from zentra.storage.pool import Pool
from zentra.storage.reads import border as border_reads
from zentra.storage.reads import deliveries as reads
from zentra.storage.reads import lists as list_reads
from zentra.storage.reads.deliveries import AttemptPlace, RecoveryPlace
from zentra.storage.reads.lists import DeliveryPlace

__all__ = ["DELIVERY_FILTERS", "RECOVERY", "RECOVERY_FILTERS", "DeliveryRoutes"]

SEQUENCE_DIGITS_MAX: Final = 9
DELIVERY_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "endpoint": identifier, "intent": text, "event": one_of("event_unknown", *Topic),
    "status": one_of("status_unknown", *DeliveryState),
}  # fmt: skip
RECOVERY_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "endpoint": identifier, "status": one_of("status_unknown", *RecoveryStatus),
}  # fmt: skip
RECOVERY: Final[Mapping[str, Field]] = {
    "since": Field(time),
    "before": Field(time, None),
    "which": Field(one_of("which_unknown", *Which), str(Which.UNDELIVERED)),
    "events": Field(event_filters, ()),
    "dry_run": Field(boolean, False),
}


class DeliveryRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, commands: CommandDoor, lists: Lists) -> None:
        self._pool, self._commands, self._lists = pool, commands, lists
        self._new_id = Uuid7()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("GET", "/webhooks/deliveries", self.deliveries, P.DELIVERIES_READ),
            Route("GET", "/webhooks/deliveries/{id}", self.delivery, P.DELIVERIES_READ),
            Route("GET", "/webhooks/deliveries/{id}/attempts", self.attempts, P.DELIVERIES_READ),
            Route("POST", "/webhooks/deliveries/{id}/replay", self.replay, P.DELIVERIES_REPLAY, body="json or nothing"),
            Route("POST", "/webhooks/endpoints/{id}/recover", self.recover, P.DELIVERIES_REPLAY, body="json"),
            Route("GET", "/webhooks/recoveries", self.recoveries, P.DELIVERIES_READ),
            Route("GET", "/webhooks/recoveries/{id}", self.recovery, P.DELIVERIES_READ),
            Route("GET", "/webhooks/health", self.health, P.DELIVERIES_READ),
            Route("GET", "/runtime/intents/{id}/webhooks/{sequence}", self.body, P.INTENTS_READ),
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

    async def delivery(self, request: Request) -> Reply:
        """One delivery, how it stands, and its attempts in short."""
        found = await reads.delivery(self._pool, request.principal.tenant, uuid_of(request.params["id"]))
        if found is None:
            raise Problem("not_found")
        return json_reply(200, delivery_shown(found))

    async def attempts(self, request: Request) -> Reply:
        """The attempts of a delivery in full, the last one first."""
        asked, delivery = self._lists.asked(request, {}, AttemptPlace), uuid_of(request.params["id"])
        if await border_reads.delivery_endpoint(self._pool, asked.tenant, delivery) is None:
            raise Problem("not_found")
        found = await reads.attempts(self._pool, asked.tenant, delivery, after=asked.after, limit=asked.limit)
        return asked.page(found.rows, found.after)

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
            location=f"/webhooks/deliveries/{delivery}",
        )  # fmt: skip
        return await self._commands.give(request, key, order)

    async def recover(self, request: Request) -> Reply:
        """Send an endpoint everything that it has not had since a time, or count it."""
        tenant, endpoint = request.principal.tenant, request.params["id"]
        values, in_body = read_fields(request.json, RECOVERY)
        key, id = request.idempotency_key(in_body), self._new_id()
        if await reads.endpoint_status(self._pool, tenant, endpoint) is None:
            raise Problem("not_found")
        body = RecoveryAsked(**{**values, "which": Which(values["which"]), "events": tuple(values["events"])})
        asked: dict[str, Any] = {
            "since": values["since"].isoformat(), "which": values["which"], "events": list(values["events"]),
            "before": None if values["before"] is None else values["before"].isoformat(),
            "dry_run": values["dry_run"],
        }  # fmt: skip
        order = Order(
            id=id, kind="recover_deliveries", subject=endpoint, owner=lane_key(tenant, endpoint), body=body,
            asked=asked, shows={"kind": "recover_deliveries", "endpoint": endpoint, "recovery": id},
            location=f"/webhooks/recoveries/{id}",
        )  # fmt: skip
        return await self._commands.give(request, key, order)

    async def recoveries(self, request: Request) -> Reply:
        """Recoveries, the newest first."""
        asked = self._lists.asked(request, RECOVERY_FILTERS, RecoveryPlace)
        found = await reads.recoveries(self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit)
        return asked.page(found.rows, found.after)

    async def recovery(self, request: Request) -> Reply:
        """One recovery, and how far it is."""
        found = await reads.recovery(self._pool, request.principal.tenant, uuid_of(request.params["id"]))
        if found is None:
            raise Problem("not_found")
        return json_reply(200, found)

    async def health(self, request: Request) -> Reply:
        """How the endpoints do: delivered by the schedule / due, over the last 24 hours."""
        checked_query(request, {})
        return json_reply(200, await reads.health(self._pool, request.principal.tenant))

    async def body(self, request: Request) -> Reply:
        """One event of an intent, byte for byte as an endpoint gets it."""
        sequence = request.params["sequence"]
        tenant = request.principal.tenant
        intent = (await find_intent(self._pool, tenant, request.params["id"])).id
        if not (sequence.isascii() and sequence.isdigit() and 0 < len(sequence) <= SEQUENCE_DIGITS_MAX):
            raise Problem("not_found")
        records = await reads.records_until(self._pool, tenant, intent, int(sequence))
        if not records or len(records) != int(sequence):
            raise Problem("not_found")
        _, event, body = body_at(records)
        if not is_told(event):
            raise Problem("not_found")
        return Reply(200, body)
