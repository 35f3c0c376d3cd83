"""The doors to webhook endpoints: where a tenant wants its events.

- A secret is shown in the answer that makes it and nowhere else; the answer stored with the key does not hold it, so a
  replay has `"secret": null`. That is the one difference between an answer and its replay.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import Field, event_filters, read_fields, url
from zentra.gateway.http.problems import refusals_answered
from zentra.gateway.sealing import Sealer
from zentra.runtime.intents.command import digest_of
from zentra.runtime.webhooks.standard import generate_secret, parse_secret
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.configuration import NewEndpoint, create_endpoint
from zentra.storage.pool import Pool
from zentra.storage.reads import work as work_reads

__all__ = ["ENDPOINT", "EVENTS_DEFAULT", "NOTHING", "WebhookRoutes"]

EVENTS_DEFAULT: Final = ("ledger.posted", "ledger.released", "ledger.reversal", "policy.review", "policy.denied")
SECRET_BYTES: Final = 32
ENDPOINT: Final[Mapping[str, Field]] = {"url": Field(url), "events": Field(event_filters, EVENTS_DEFAULT)}
NOTHING: Final[Mapping[str, Field]] = {}


class WebhookRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, sealer: Sealer) -> None:
        self._pool, self._sealer = pool, sealer
        self._new_id = Uuid7()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/webhooks/endpoints", self.create, P.ENDPOINTS_CREATE, body="json"),
            Route("GET", "/webhooks/endpoints", self.endpoints, P.ENDPOINTS_READ),
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
