"""The doors to a tenant's routes: write a version, check it, put it in force, go back; explain; and how rails do.

- A draft is stored as it was written, right or wrong; `violations` says what keeps it from being validated.
- Whoever puts a version in force is not its author, and every step is kept with who and when.
- Of rails a tenant sees those that its corridors lead to: shares and times, and no count of anybody's calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from zentra.gateway.doors.commands import replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Field, read_fields, text
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import Problem, of_violations
from zentra.gateway.routes.policies import document
from zentra.gateway.routes.webhooks import NOTHING
from zentra.gateway.routing import rails_shown, route_of
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import digest_of
from zentra.runtime.rails.document import digest_of_routes, routes_schema
from zentra.storage.pool import Pool
from zentra.storage.routes import ROUTES, draft_routes_once, move_routes_once
from zentra.storage.versions import InvalidDocument, Step, VersionKey, VersionView

__all__ = ["ROUTES_DRAFT", "CorridorRoutes"]

_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}\Z", re.ASCII)


def routes_document(value: Any) -> Any:
    """Return a JSON object of at most 64 KiB and a bounded number of members and levels, whatever it says."""
    return document(value)


SCHEMAS[routes_document] = {
    "type": "object", "description": "a routing document", "x-document-schema": routes_schema(),
}  # fmt: skip
ROUTES_DRAFT: Final[Mapping[str, Field]] = {"document": Field(routes_document), "note": Field(text, "")}


class CorridorRoutes:
    """The handlers and their routes. A worker counts as alive for `lease_seconds` after it was heard of."""

    def __init__(self, pool: Pool, writer: Pool, lists: Lists, lease_seconds: float) -> None:
        self._pool, self._writer, self._lists, self._lease_seconds = pool, writer, lists, lease_seconds

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        version = "/routes/{version}"
        return [
            Route("POST", "/routes", self.draft, P.ROUTES_WRITE, body="json"),
            Route("GET", "/routes", self.versions, P.ROUTES_READ),
            Route("GET", version, self.show, P.ROUTES_READ),
            Route("POST", f"{version}/validate", self.validate, P.ROUTES_WRITE, body="json or nothing"),
            Route("POST", f"{version}/promote", self.promote, P.ROUTES_PROMOTE, body="json or nothing"),
            Route("POST", f"{version}/rollback", self.roll_back, P.ROUTES_PROMOTE, body="json or nothing"),
            Route("GET", "/runtime/intents/{id}/route", self.explain, P.ROUTES_READ),
            Route("GET", "/rails", self.rails, P.ROUTES_READ),
        ]

    async def draft(self, request: Request) -> Reply:
        """Store the next version."""
        values, in_body = read_fields(request.json, ROUTES_DRAFT)
        asked_for = {"document": digest_of_routes(values["document"]), "note": values["note"]}
        key = VersionKey(request.idempotency_key(in_body), digest_of("routes", asked_for), request.request_id)
        who = request.principal
        done = await draft_routes_once(self._pool, who.tenant, values["document"], values["note"], who.id, key)
        return _answer(201, done, key)

    async def versions(self, request: Request) -> Reply:
        """A page of versions, the newest first."""
        asked = self._lists.asked(request, {}, int)
        rows = await ROUTES.rows(self._pool, asked.tenant, before=asked.after, limit=asked.limit + 1)
        page = rows[: asked.limit]
        return asked.page(page, page[-1].version if len(rows) > len(page) else None)

    async def show(self, request: Request) -> Reply:
        """One version and its history."""
        version = _version_of(request)
        view = await ROUTES.show(self._pool, request.principal.tenant, version)
        if view is None:
            raise Problem("not_found")
        events = await ROUTES.events(self._pool, request.principal.tenant, version)
        return json_reply(200, {**ROUTES.shown(view), "events": events})

    async def validate(self, request: Request) -> Reply:
        """Check a draft."""
        return await self._move(request, "validate")

    async def promote(self, request: Request) -> Reply:
        """Put a validated version in force."""
        return await self._move(request, "promote")

    async def roll_back(self, request: Request) -> Reply:
        """Put a version in force again."""
        return await self._move(request, "rollback")

    async def explain(self, request: Request) -> Reply:
        """Why an intent went by this rail and not by another."""
        given = request.params["id"]
        if not given.isascii() or not given.isprintable():
            raise Problem("not_found")
        found = await route_of(self._pool, request.principal.tenant, given)
        if found is None:
            raise Problem("not_found")
        return json_reply(200, found)

    async def rails(self, request: Request) -> Reply:
        """How the rails do that the tenant's corridors lead to."""
        only = self._pool, request.principal.tenant
        found = await rails_shown(self._writer, self._lease_seconds, datetime.now(UTC), only=only)
        return json_reply(200, {"data": found, "has_more": False, "next_cursor": None})

    async def _move(self, request: Request, step: Step) -> Reply:
        _, in_body = read_fields(request.json, NOTHING)
        given, version, who = request.idempotency_key(in_body), _version_of(request), request.principal
        key = VersionKey(given, digest_of(f"routes/{step}", {"version": version}), request.request_id)
        try:
            done = await move_routes_once(self._pool, who.tenant, version, step, who.id, key)
        except Refusal as refusal:
            raise Problem(refusal.reason, refusal.detail) from None
        except InvalidDocument as invalid:
            raise of_violations(invalid.violations) from None
        if done is None:
            raise Problem("not_found")
        return _answer(200, done, key)


def _version_of(request: Request) -> int:
    given = request.params["version"]
    if not _VERSION.match(given):
        raise Problem("not_found")
    return int(given)


def _answer(status: int, done: VersionView | StoredKey, key: VersionKey) -> Reply:
    if isinstance(done, VersionView):
        shown = ROUTES.shown(done)
        location = ((b"location", shown["links"]["self"].encode()),) if status == 201 else ()
        return json_reply(status, shown, location)
    location = ((b"location", b"/" + done.subject.encode()),) if status == 201 else ()
    return replayed(key.digest, done, location)
