"""The doors to a tenant's routes, which are kept in versions; why an intent went its way; and how rails do.

Of rails a tenant sees those that its corridors lead to: shares and times, and no count of anybody's calls."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from zentra.gateway.doors.versioned import VersionDoors, draft_fields
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import Field
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import Problem
from zentra.gateway.routing import rails_shown, route_of
from zentra.runtime.rails.document import routes_schema
from zentra.storage.pool import Pool
from zentra.storage.routes import ROUTES

__all__ = ["ROUTES_DRAFT", "CorridorRoutes"]

ROUTES_DRAFT: Final[Mapping[str, Field]] = draft_fields("a routing document", routes_schema())


class CorridorRoutes(VersionDoors):
    """The handlers and their routes. A worker counts as alive for `lease_seconds` after it was heard of."""

    def __init__(self, pool: Pool, writer: Pool, lists: Lists, lease_seconds: float) -> None:
        super().__init__(pool, lists, ROUTES, ROUTES_DRAFT)
        self._writer, self._lease_seconds = writer, lease_seconds

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            *self.version_routes("/routes", P.ROUTES_READ, P.ROUTES_WRITE, P.ROUTES_PROMOTE),
            Route("GET", "/runtime/intents/{id}/route", self.explain, P.ROUTES_READ),
            Route("GET", "/rails", self.rails, P.ROUTES_READ),
        ]

    async def explain(self, request: Request) -> Reply:
        """Why an intent went by this rail and not by another."""
        found = await route_of(self._pool, request.principal.tenant, request.path_id)
        if found is None:
            raise Problem("not_found")
        return json_reply(200, found)

    async def rails(self, request: Request) -> Reply:
        """How the rails do that the tenant's corridors lead to."""
        only = self._pool, request.principal.tenant
        found = await rails_shown(self._writer, self._lease_seconds, datetime.now(UTC), only=only)
        return json_reply(200, {"data": found, "has_more": False, "next_cursor": None})
