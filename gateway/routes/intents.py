"""The doors to intents: create, list, look, wait, cancel, reverse.

- Creation answers 202 once the intent is committed; a replay is the first answer byte for byte and says so in a header.
- Up to a thousand intents in one array have an answer each, in one answer; each has its key in its body.
- With `Prefer: wait=N`, or `?wait=N` on a look, a client is held until nothing more happens without somebody, and sees
  the state as it then is.
- An id that is unknown and one that is another tenant's are the same 404, and both are kept as denials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zentra.actors.commands import Reversal
from zentra.gateway.doors.commands import CommandDoor, Order
from zentra.gateway.doors.intents import Asker, Created, IntentDoor
from zentra.gateway.http.app import WAIT_SECONDS_MAX, Headers, Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import Field, amount_or_full, boolean, currency, identifier, one_of, read_fields, text
from zentra.gateway.http.lists import CREATED, Check, Lists, amount
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.waiting import IntentWaiters
from zentra.gateway.routes.approvals import Asking
from zentra.gateway.routes.intent_view import is_stable, row_of, view_of
from zentra.gateway.routes.packets import find_intent, find_uuid, uuid_of
from zentra.runtime.intents.command import Violation, digest_of
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import SETTLED, IntentKind, Lifecycle, State
from zentra.storage.pool import Pool
from zentra.storage.reads import lists as list_reads
from zentra.storage.reads import work as work_reads
from zentra.storage.reads.lists import IntentPlace
from zentra.storage.reads.tenant import IntentView

__all__ = ["CANCEL", "INTENT_FILTERS", "REVERSAL", "IntentRoutes", "asker_of", "created_reply"]

BULK: Final = "/runtime/intents/bulk"
BULK_BYTES_MAX: Final = 1024 * 1024  # as over NATS; a thousand intents without metadata are a quarter of it
TRANSFERS: Final = frozenset({IntentKind.TRANSFER.value, IntentKind.BOOK_TRANSFER.value})
PAYMENTS: Final = frozenset({IntentKind.PAYMENT.value})
HOLDS: Final = frozenset({IntentKind.HOLD.value})
INTENT_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "state": one_of("status_unknown", *Lifecycle), "intent_id": identifier, "account": identifier,
    "kind": one_of("kind_unknown", *IntentKind), "currency": currency, "amount_min": amount, "amount_max": amount,
}  # fmt: skip
REVERSAL: Final[Mapping[str, Field]] = {
    "amount": Field(amount_or_full, "full"), "reason": Field(text), "force": Field(boolean, False),
}  # fmt: skip
CANCEL: Final[Mapping[str, Field]] = {"reason": Field(text, "")}


class IntentRoutes:
    """The handlers and their routes."""

    def __init__(
        self,
        pool: Pool,
        door: IntentDoor,
        commands: CommandDoor,
        waiters: IntentWaiters,
        lists: Lists,
        asking: Asking,
    ) -> None:
        self._pool, self._door, self._commands, self._waiters = pool, door, commands, waiters
        self._lists, self._asking = lists, asking

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        one = "/runtime/intents/{id}"
        return [
            Route("POST", "/runtime/intents", self.create, P.INTENTS_CREATE, body="json"),
            Route(
                "POST",
                BULK,
                self.create_many,
                P.INTENTS_CREATE,
                body="json",
                body_bytes_max=BULK_BYTES_MAX,
                weigh=_weigh,
            ),
            Route("POST", "/transfers", self.create_transfer, P.INTENTS_CREATE, body="json"),
            Route("POST", "/payments", self.create_payment, P.INTENTS_CREATE, body="json"),
            Route("POST", "/holds", self.create_hold, P.INTENTS_CREATE, body="json"),
            Route("GET", "/runtime/intents", self.intents, P.INTENTS_READ),
            Route("GET", one, self.show, P.INTENTS_READ),
            Route("POST", f"{one}/cancel", self.cancel, P.INTENTS_CANCEL, body="json or nothing"),
            Route("POST", f"{one}/reversals", self.reverse, P.INTENTS_REVERSE, body="json"),
            Route("GET", "/runtime/commands/{id}", self.show_command, P.INTENTS_READ),
        ]

    async def create(self, request: Request) -> Reply:
        """The general door."""
        return await self.make(request, None)

    async def create_many(self, request: Request) -> Reply:
        """The door for many at once."""
        if request.idempotency_keys:
            raise Problem("idempotency_key_ambiguous", "in an array every intent has a key of its own, in its body")
        answers = await self._door.create_many(request.json, asker_of(request), request.request_id)
        return json_reply(200, {"results": answers})

    async def create_transfer(self, request: Request) -> Reply:
        """The door for transfers, between accounts or out to a rail."""
        return await self.make(request, TRANSFERS)

    async def create_payment(self, request: Request) -> Reply:
        """The door for payments."""
        return await self.make(request, PAYMENTS)

    async def create_hold(self, request: Request) -> Reply:
        """The door for holds: money is spoken for, and captured later."""
        return await self.make(request, HOLDS)

    async def make(self, request: Request, kinds: frozenset[str] | None) -> Reply:
        """Make an intent of one of these kinds, or of any."""
        created = await self._door.create(
            request.json, request.idempotency_key, asker_of(request), request.request_id, kinds
        )
        return await created_reply(self._pool, self._waiters, request, created)

    async def intents(self, request: Request) -> Reply:
        """The tenant's intents, the newest first."""
        asked = self._lists.asked(request, INTENT_FILTERS, IntentPlace)
        filters = dict(asked.filters)
        if (state := filters.pop("state", None)) is not None:
            filters["states"] = [one for one in State if one.lifecycle == state]
        found = await list_reads.intents(self._pool, asked.tenant, filters, after=asked.after, limit=asked.limit)
        return asked.page([row_of(row) for row in found.rows], found.after)

    async def show(self, request: Request) -> Reply:
        """An intent with everything around it."""
        tenant = request.principal.tenant
        seen = await find_intent(self._pool, tenant, request.params["id"])
        preferred, asked = request.wait_seconds, _wait_of(request)
        seconds = asked if preferred is None else preferred
        if seconds and not is_stable(seen):
            seen = await self._wait(tenant, seen.id, seconds)
        headers = () if preferred is None else ((b"preference-applied", b"wait=%d" % preferred),)
        return json_reply(200, view_of(seen), headers)

    async def cancel(self, request: Request) -> Reply:
        """Cancel before anything was sent to a rail."""
        values, in_body = read_fields(request.json, CANCEL)
        key = request.idempotency_key(in_body)
        seen = await find_intent(self._pool, request.principal.tenant, request.params["id"])
        return await self._commands.give(request, key, _order("cancel", seen, dict(values)))

    async def reverse(self, request: Request) -> Reply:
        """Give back all that is left, or a part; by force, also what is not there, once somebody else has agreed."""
        values, in_body = read_fields(request.json, REVERSAL)
        key, force = request.idempotency_key(in_body), values.pop("force")
        seen = await find_intent(self._pool, request.principal.tenant, request.params["id"])
        if force:
            return await self._asking.ask(
                request, key, kind="forced_reversal", subject=seen.id, asked={**values, "intent_id": seen.intent_id},
                reason=values["reason"], status=202,
                digest=digest_of("command/reverse/force", {"subject": seen.id, **values}),
                shows={"command": "", "kind": "reverse", "status": "awaiting_approval", "intent_id": seen.intent_id,
                       "intent": seen.id, "links": f"/runtime/intents/{seen.intent_id}"},
            )  # fmt: skip
        return await self._commands.give(request, key, _order("reverse", seen, dict(values), Reversal(**values)))

    async def show_command(self, request: Request) -> Reply:
        """What became of a command."""
        seen = await work_reads.command(self._pool, request.principal.tenant, uuid_of(request.params["id"]))
        if seen is None:
            raise Problem("not_found")
        return json_reply(200, seen)

    async def _wait(self, tenant: str, intent: str, seconds: float) -> IntentView:
        return await self._waiters.wait(intent, lambda: find_uuid(self._pool, tenant, intent), is_stable, seconds)


async def created_reply(pool: Pool, waiters: IntentWaiters, request: Request, created: Created) -> Reply:
    """Return the answer to whoever has made an intent: as accepted, or as it is after the wait that was asked for."""
    headers, seconds, tenant = _headers_of(created), request.wait_seconds, request.principal.tenant
    if not seconds:
        return Reply(created.answer.status, created.answer.body, headers)
    seen = await waiters.wait(created.intent, lambda: find_uuid(pool, tenant, created.intent), is_stable, seconds)
    status = 200 if seen.last.state in SETTLED else 202
    return json_reply(status, view_of(seen), (*headers, (b"preference-applied", b"wait=%d" % seconds)))


def _wait_of(request: Request) -> float:
    """Return how long the query asks to wait, at most 30 s; raise Problem for what is no number of seconds."""
    given = request.query().get("wait", "0")
    if not given.isascii() or not given.isdigit() or len(given) > 6:
        raise Problem("query_malformed", errors=[Violation("wait", "wait_malformed", "a number of seconds")])
    return min(float(given), WAIT_SECONDS_MAX)


def _weigh(body: object) -> int:
    return len(body) if isinstance(body, list) else 1


def asker_of(request: Request) -> Asker:
    """Return who asks for intents."""
    who = request.principal
    return Asker(
        tenant=who.tenant,
        principal=who.id,
        role=who.role,
        trace=request.trace,
        source="http",
        tracestate=request.tracestate,
    )


def _headers_of(created: Created) -> Headers:
    location = (b"location", b"/runtime/intents/%b" % created.intent.encode())
    answer = created.answer
    if not answer.replayed:
        return (location,)
    return (
        location,
        (b"idempotent-replayed", b"true"),
        (b"x-original-request-id", answer.request_id.encode()),
        (b"idempotency-first-seen", timestamp(answer.first_seen).encode()),
    )


def _order(kind: str, seen: IntentView, asked: dict[str, str], body: Reversal | None = None) -> Order:
    return Order(
        kind=kind, subject=seen.id, owner=seen.id, body=body or asked, asked=asked,
        shows={"kind": kind, "intent_id": seen.intent_id, "intent": seen.id},
        location=f"/runtime/intents/{seen.intent_id}",
    )  # fmt: skip
