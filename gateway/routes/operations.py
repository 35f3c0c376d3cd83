"""The doors for people who look after what went wrong: cases, and what was refused.

- A case is resolved with a word and a reason; what follows from it goes through the state machine like any other fact.
- Whoever made an intent resolves no case of it: a door refuses them, and so does the intent's actor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zentra.actors.resolving import CaseResolution
from zentra.gateway.doors.commands import CommandDoor, Order
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import Field, identifier, one_of, read_fields, text
from zentra.gateway.http.lists import CREATED, Check, Lists
from zentra.gateway.http.problems import Problem, of_violations
from zentra.gateway.routes.packets import uuid_of
from zentra.gateway.routes.parties import MATCH_RESOLUTIONS, resolve_match
from zentra.runtime.intents.command import Violation
from zentra.storage.pool import Pool
from zentra.storage.reads import lists as list_reads
from zentra.storage.reads import work as work_reads
from zentra.storage.reads.lists import DenialPlace, WorkPlace
from zentra.storage.screening import SCREENING_CASE

__all__ = ["CASE_FILTERS", "DENIAL_FILTERS", "RESOLUTION", "OperationRoutes"]

CASE_STATUSES: Final = ("open", "resolved")
RESOLUTIONS: Final = ("succeeded", "declined", "retry", "dismissed", *MATCH_RESOLUTIONS)
CASE_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "status": one_of("status_unknown", *CASE_STATUSES), "intent_id": identifier, "kind": identifier,
}  # fmt: skip
DENIAL_FILTERS: Final[Mapping[str, Check]] = {**CREATED, "actor": identifier, "action": text, "reason": identifier}
POISON: Final = "poison_message"
RESOLUTION: Final[Mapping[str, Field]] = {
    "resolution": Field(one_of("resolution_unknown", *RESOLUTIONS)),
    "reason": Field(text),
}


class OperationRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, commands: CommandDoor, lists: Lists) -> None:
        self._pool, self._commands, self._lists = pool, commands, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("GET", "/cases", self.cases, P.CASES_READ),
            Route("GET", "/cases/{id}", self.case, P.CASES_READ),
            Route("POST", "/cases/{id}/resolve", self.resolve, P.CASES_RESOLVE, body="json"),
            Route("GET", "/denials", self.denials, P.DENIALS_READ),
        ]

    async def cases(self, request: Request) -> Reply:
        """Cases, the last opened first."""
        asked = self._lists.asked(request, CASE_FILTERS, WorkPlace)
        found = await list_reads.cases(self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit)
        return asked.page(found.rows, found.after)

    async def case(self, request: Request) -> Reply:
        """One case."""
        seen = await work_reads.case(self._pool, request.principal.tenant, uuid_of(request.params["id"]))
        if seen is None:
            raise Problem("not_found")
        return json_reply(200, seen)

    async def resolve(self, request: Request) -> Reply:
        """End a case with a fact: what the rail did, try again, or nothing to be done."""
        values, in_body = read_fields(request.json, RESOLUTION)
        key, asker = request.idempotency_key(in_body), request.principal
        seen = await work_reads.case(self._pool, asker.tenant, uuid_of(request.params["id"]))
        if seen is None:
            raise Problem("not_found")
        of_match = seen.kind == SCREENING_CASE
        if of_match is not (values["resolution"] in MATCH_RESOLUTIONS):
            words = MATCH_RESOLUTIONS if of_match else RESOLUTIONS[:4]
            raise of_violations([Violation("/resolution", "resolution_unknown", f"one of {', '.join(words)}")])
        if of_match:
            return await resolve_match(self._pool, request, in_body, seen.id, values["resolution"], values["reason"])
        # A message that was set aside is not of its intent's history, even where it names the intent.
        intent = None if seen.kind == POISON else seen.intent
        if intent is not None and await work_reads.made_by(self._pool, asker.tenant, seen.id) == asker.id:
            raise Problem("self_approval")
        body = CaseResolution(seen.id, values["resolution"], values["reason"], intent, seen.kind)
        order = Order(
            kind="resolve_case", subject=seen.id, owner=seen.intent or seen.id, body=body, asked=values,
            shows={"kind": "resolve_case", "case": seen.id, "resolution": values["resolution"]},
            location=f"/cases/{seen.id}", intent=intent or "",
        )  # fmt: skip
        return await self._commands.give(request, key, order)

    async def denials(self, request: Request) -> Reply:
        """What the tenant's people were refused, the latest minute first."""
        asked = self._lists.asked(request, DENIAL_FILTERS, DenialPlace)
        found = await list_reads.denials(self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit)
        return asked.page(found.rows, found.after)
