"""The doors to what a tenant keeps in versions: write a version, check it, put it in force, go back.

- A draft is stored as it was written, right or wrong; `violations` says what keeps it from being validated.
- Whoever puts a version in force is not its author, and every step is kept with who and when.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import NOTHING, SCHEMAS, Field, Objection, read_fields, text
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import Problem, of_violations
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import digest_of
from zentra.runtime.policy.document import DOCUMENT_BYTES_MAX
from zentra.runtime.policy.shape import oversized
from zentra.storage.pool import Pool
from zentra.storage.versions import InvalidDocument, Shelf, Step, VersionKey, VersionView

__all__ = ["VersionDoors", "draft_fields"]

_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}\Z", re.ASCII)


def draft_fields(what: str, schema: Mapping[str, Any]) -> dict[str, Field]:
    """Return the fields of a draft of a document; `schema` is what a document without violations looks like."""

    def document(value: Any) -> Any:
        return _document(value)

    SCHEMAS[document] = {"type": "object", "description": what, "x-document-schema": schema}
    return {"document": Field(document), "note": Field(text, "")}


class VersionDoors:
    """The handlers of one kind of document; whoever has doors of its own beside them adds those to `version_routes`."""

    def __init__(self, pool: Pool, lists: Lists, shelf: Shelf, draft: Mapping[str, Field]) -> None:
        self._pool, self._lists, self._shelf, self._draft = pool, lists, shelf, draft

    def version_routes(self, at: str, read: Permission, write: Permission, promote: Permission) -> list[Route]:
        """Return what is served at the path and below it, and who may do it."""
        version = f"{at}/{{version}}"
        return [
            Route("POST", at, self.draft, write, body="json"),
            Route("GET", at, self.versions, read),
            Route("GET", version, self.show, read),
            Route("POST", f"{version}/validate", self.validate, write, body="json or nothing"),
            Route("POST", f"{version}/promote", self.promote, promote, body="json or nothing"),
            Route("POST", f"{version}/rollback", self.roll_back, promote, body="json or nothing"),
        ]

    async def draft(self, request: Request) -> Reply:
        """Store the next version."""
        values, in_body = read_fields(request.json, self._draft)
        document, note, who = values["document"], values["note"], request.principal
        asked = {"document": self._shelf.digest(document), "note": note}
        key = VersionKey(request.idempotency_key(in_body), digest_of(self._shelf.subject, asked), request.request_id)
        return self._answer(
            201, await self._shelf.draft_once(self._pool, who.tenant, document, note, who.id, key), key
        )  # fmt: skip

    async def versions(self, request: Request) -> Reply:
        """A page of versions, the newest first."""
        asked = self._lists.asked(request, {}, int)
        rows = await self._shelf.rows(self._pool, asked.tenant, before=asked.after, limit=asked.limit + 1)
        page = rows[: asked.limit]
        return asked.page(page, page[-1].version if len(rows) > len(page) else None)

    async def show(self, request: Request) -> Reply:
        """One version and its history."""
        view = await self.view(request)
        events = await self._shelf.events(self._pool, request.principal.tenant, view.version)
        return json_reply(200, {**self._shelf.shown(view), "events": events})

    async def validate(self, request: Request) -> Reply:
        """Check a draft."""
        return await self._move(request, "validate")

    async def promote(self, request: Request) -> Reply:
        """Put a validated version in force."""
        return await self._move(request, "promote")

    async def roll_back(self, request: Request) -> Reply:
        """Put a version in force again."""
        return await self._move(request, "rollback")

    async def view(self, request: Request) -> VersionView:
        """Return the version that a path names; raise Problem `not_found`."""
        view = await self._shelf.show(self._pool, request.principal.tenant, _version_of(request))
        if view is None:
            raise Problem("not_found")
        return view

    async def _move(self, request: Request, step: Step) -> Reply:
        _, in_body = read_fields(request.json, NOTHING)
        given, version, who = request.idempotency_key(in_body), _version_of(request), request.principal
        key = VersionKey(given, digest_of(f"{self._shelf.subject}/{step}", {"version": version}), request.request_id)
        try:
            done = await self._shelf.move_once(self._pool, who.tenant, version, step, who.id, key)
        except Refusal as refusal:
            raise Problem(refusal.reason, refusal.detail) from None
        except InvalidDocument as invalid:
            raise of_violations(invalid.violations) from None
        if done is None:
            raise Problem("not_found")
        return self._answer(200, done, key)

    def _answer(self, status: int, done: VersionView | StoredKey, key: VersionKey) -> Reply:
        version = done.version if isinstance(done, VersionView) else done.subject.rpartition("/")[2]
        location = ((b"location", f"{self._shelf.door}/{version}".encode()),) if status == 201 else ()
        if isinstance(done, VersionView):
            return json_reply(status, self._shelf.shown(done), location)
        return replayed(key.digest, done, location)


def _version_of(request: Request) -> int:
    given = request.params["version"]
    if not _VERSION.match(given):
        raise Problem("not_found")
    return int(given)


def _document(value: Any) -> Any:
    """Return a JSON object of at most 64 KiB and a bounded number of members and levels, whatever it says."""
    if not isinstance(value, dict):
        raise Objection("field_type", "expected an object")
    try:
        spelled = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise Objection("text_malformed", "a text is no Unicode") from None
    if len(spelled) > DOCUMENT_BYTES_MAX:
        raise Objection("policy_too_large", f"at most {DOCUMENT_BYTES_MAX} bytes")
    excess = oversized(value)
    if excess is not None:
        raise Objection(excess.code, excess.detail)
    if b"\\u0000" in spelled:
        raise Objection("text_malformed", "a text holds a zero byte")
    return value
