"""The doors to holds: list them, look at one with its history, capture, void. One is placed like any other intent.

- A hold has expired at its instant: it is shown so, and can neither be captured nor voided, whether or not that was
  booked.
- What happened to a hold is read from the sealed records of its intent, so it cannot disagree with the evidence.
- An intent that is no hold is not found here; a command on it is answered with the code for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zentra.actors.holding import CaptureOrder, VoidOrder
from zentra.gateway.doors.commands import CommandDoor, Order
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import Field, amount_or_full, boolean, currency, identifier, one_of, read_fields, text
from zentra.gateway.http.lists import CREATED, Check, Lists, time
from zentra.gateway.http.problems import Problem
from zentra.gateway.routes.intent_view import view_of
from zentra.gateway.routes.packets import find_intent
from zentra.runtime.intents.terms import HoldTerms
from zentra.runtime.intents.transaction import restore
from zentra.runtime.intents.vocabulary import SETTLED, IntentKind, State
from zentra.storage.pool import Pool
from zentra.storage.reads import holds as reads
from zentra.storage.reads.holds import HoldPlace, HoldRowView
from zentra.storage.reads.tenant import IntentView

__all__ = ["CAPTURE", "HOLD_FILTERS", "VOID", "HoldRoutes"]

STATUSES: Final = ("open", "captured", "voided", "expired")
HOLD_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "account": identifier, "status": one_of("status_unknown", *STATUSES), "currency": currency,
    "expires_before": time,
}  # fmt: skip
CAPTURE: Final[Mapping[str, Field]] = {
    "amount": Field(amount_or_full),
    "destination": Field(identifier, ""),
    "final": Field(boolean, False),
    "reason": Field(text, ""),
}
VOID: Final[Mapping[str, Field]] = {"reason": Field(text)}


class HoldRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, commands: CommandDoor, lists: Lists) -> None:
        self._pool, self._commands, self._lists = pool, commands, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        one = "/holds/{id}"
        return [
            Route("GET", "/holds", self.holds, P.INTENTS_READ),
            Route("GET", one, self.show, P.INTENTS_READ),
            Route("POST", f"{one}/captures", self.capture, P.HOLDS_CAPTURE, body="json"),
            Route("POST", f"{one}/void", self.void, P.HOLDS_VOID, body="json"),
        ]

    async def holds(self, request: Request) -> Reply:
        """The tenant's holds, the last placed first."""
        asked = self._lists.asked(request, HOLD_FILTERS, HoldPlace)
        found = await reads.holds(self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit)
        return asked.page([_row(row) for row in found.rows], found.after)

    async def show(self, request: Request) -> Reply:
        """A hold and everything that happened to it."""
        tenant = request.principal.tenant
        seen = await find_intent(self._pool, tenant, request.params["id"])
        standing = seen.last.state == State.HELD
        expired = standing and await reads.has_expired(self._pool, tenant, seen.id)
        shown = _shown(seen, expired=expired)
        if shown is None:
            raise Problem("not_found")
        return json_reply(200, shown)

    async def capture(self, request: Request) -> Reply:
        """Take a part of what is held, or all of it."""
        values, in_body = read_fields(request.json, CAPTURE)
        return await self._give(request, in_body, "capture_hold", values, CaptureOrder(**values))

    async def void(self, request: Request) -> Reply:
        """Give back what is held still."""
        values, in_body = read_fields(request.json, VOID)
        return await self._give(request, in_body, "void_hold", values, VoidOrder(**values))

    async def _give(
        self, request: Request, in_body: str | None, kind: str, asked: dict[str, Any], body: CaptureOrder | VoidOrder
    ) -> Reply:
        key = request.idempotency_key(in_body)
        seen = await find_intent(self._pool, request.principal.tenant, request.params["id"])
        order = Order(
            kind=kind, subject=seen.id, owner=seen.id, body=body, asked=asked,
            shows={"kind": kind, "intent_id": seen.intent_id, "intent": seen.id},
            location=f"/holds/{seen.intent_id}",
        )  # fmt: skip
        return await self._commands.give(request, key, order)


def _row(row: HoldRowView) -> dict[str, Any]:
    return {
        "id": row.intent,
        "intent_id": row.intent_id,
        "status": row.status,
        "account": row.account_id,
        "currency": row.currency,
        "amount": str(row.minor),
        "remaining": str(row.remaining),
        "captured": str(row.captured),
        "placed_at": row.placed_at,
        "expires_at": row.expires_at,
        "ended_at": row.ended_at,
        "links": _links(row.intent_id),
    }


def _links(intent_id: str) -> dict[str, str]:
    return {"self": f"/holds/{intent_id}", "intent": f"/runtime/intents/{intent_id}"}


def _shown(seen: IntentView, *, expired: bool) -> dict[str, Any] | None:
    """Return a hold as JSON-ready values, from its records; None where the intent is none. `expired` says that its time
    has come, though no record says so."""
    tx = restore([(bytes(record), b"") for record in seen.timeline])
    terms, hold = tx.command.hold, tx.hold
    if tx.command.kind is not IntentKind.HOLD or not isinstance(terms, HoldTerms):
        return None
    if hold is None:
        status = "failed" if tx.state in SETTLED else "requested"
    elif tx.state is State.HELD:
        status = "expired" if expired else "open"
    else:
        status = hold.end.removeprefix("hold_")
    ended_at = None if hold is None else hold.expires_at if status == "expired" else hold.ended_at
    whole = view_of(seen)
    return {
        "id": seen.id,
        "intent_id": seen.intent_id,
        "status": status,
        "account": tx.command.source,
        "currency": tx.command.currency,
        "amount": tx.command.minor,
        "remaining": "0" if expired else str(tx.held),
        "captured": str(tx.posted),
        "given_back": str(tx.given_back),
        "destination": tx.command.destination or None,
        "expires_in_seconds": terms.expires_in_seconds,
        "release_condition": terms.release_condition or None,
        "created_by": seen.principal,
        "created_at": seen.created_at,
        "placed_at": None if hold is None else _placed_at(whole),
        "expires_at": None if hold is None else hold.expires_at,
        "ended_at": ended_at,
        "reason": whole["reason"],
        "captures": [
            {"destination": one.destination, "amount": str(one.minor), "given_back": str(one.given_back)}
            for one in (() if hold is None else hold.captures)
        ],
        "history": whole["event_stream"],
        "metadata": tx.command.metadata,
        "version": whole["version"],
        "links": _links(seen.intent_id),
    }


def _placed_at(whole: Mapping[str, Any]) -> str:
    return next(str(event["at"]) for event in whole["event_stream"] if event["event"] == "ledger.reserved")
