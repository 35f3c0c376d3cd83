"""The doors to webhooks: where a tenant wants its events, what became of them, and sending one again.

- A secret is shown in the answer that makes it and nowhere else; the answer stored with the key does not hold it, so a
  replay has `"secret": null`. That is the one difference between an answer and its replay.
- A delivery shows the bytes it sends, every attempt, and when it is tried next.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import CommandDoor, Order, replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import Field, event_filters, identifier, one_of, read_fields, text, url
from zentra.gateway.http.lists import CREATED, Check, Lists
from zentra.gateway.http.problems import Problem, refusals_answered
from zentra.gateway.routes.intent_view import delivery_shown
from zentra.gateway.routes.packets import find_intent, uuid_of
from zentra.gateway.sealing import Sealer
from zentra.runtime.intents.command import digest_of
from zentra.runtime.intents.vocabulary import Topic
from zentra.runtime.partitions import lane_key
from zentra.runtime.webhooks.delivery import DeliveryState
from zentra.runtime.webhooks.standard import generate_secret, parse_secret
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.configuration import NewEndpoint, create_endpoint
from zentra.storage.pool import Pool
from zentra.storage.reads import border as border_reads
from zentra.storage.reads import lists as list_reads
from zentra.storage.reads import work as work_reads
from zentra.storage.reads.lists import DeliveryPlace

__all__ = ["DELIVERY_FILTERS", "ENDPOINT", "EVENTS_DEFAULT", "NOTHING", "WebhookRoutes"]

EVENTS_DEFAULT: Final = ("ledger.posted", "ledger.released", "ledger.reversal", "policy.review", "policy.denied")
SECRET_BYTES: Final = 32
ENDPOINT: Final[Mapping[str, Field]] = {"url": Field(url), "events": Field(event_filters, EVENTS_DEFAULT)}
DELIVERY_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "endpoint": identifier, "intent": text, "event": one_of("event_unknown", *Topic),
    "status": one_of("status_unknown", *DeliveryState),
}  # fmt: skip
NOTHING: Final[Mapping[str, Field]] = {}


class WebhookRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, commands: CommandDoor, sealer: Sealer, lists: Lists) -> None:
        self._pool, self._commands, self._sealer, self._lists = pool, commands, sealer, lists
        self._new_id = Uuid7()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/webhooks/endpoints", self.create, P.ENDPOINTS_CREATE, body="json"),
            Route("GET", "/webhooks/endpoints", self.endpoints, P.ENDPOINTS_READ),
            Route("GET", "/webhooks/deliveries", self.deliveries, P.DELIVERIES_READ),
            Route("POST", "/webhooks/deliveries/{id}/replay", self.replay, P.DELIVERIES_REPLAY, body="json or nothing"),
        ]

    async def create(self, request: Request) -> Reply:
        """Set up an endpoint and show its secret, once."""
        values, in_body = read_fields(request.json, ENDPOINT)
        key, asker = request.idempotency_key(in_body), request.principal
        secret, endpoint = generate_secret(secrets.token_bytes(SECRET_BYTES)), f"ep_{self._new_id()}"
        shown: dict[str, Any] = {
            "id": endpoint, "url": values["url"], "events": values["events"], "status": "enabled",
            "created_by": asker.id, "secret": None,
        }  # fmt: skip
        digest = digest_of("endpoint", {**values, "events": list(values["events"])})
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=f"endpoint/{endpoint}", status=201,
            answer=msgspec.json.encode(shown), request_id=request.request_id,
        )  # fmt: skip
        made = NewEndpoint(
            id=endpoint, url=values["url"], events=values["events"], secret=self._sealer.seal(parse_secret(secret)),
            created_by=asker.id,
        )  # fmt: skip
        with refusals_answered():
            stored = await create_endpoint(self._pool, keyed, made)
        if stored is None:
            return json_reply(201, {**shown, "secret": secret})
        return replayed(digest, stored)

    async def endpoints(self, request: Request) -> Reply:
        """The tenant's endpoints, without secrets."""
        rows = await work_reads.endpoints(self._pool, request.principal.tenant)
        return json_reply(200, {"data": rows, "has_more": False, "next_cursor": None})

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
