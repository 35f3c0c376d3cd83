"""The doors of the review queue: look, claim, assign, talk, escalate, decide, one or many.

- Nobody decides on their own intent: that is refused before anything of it is stored, and is a denial.
- A decision names what its author has seen. One that names something else is refused here, and again by the engine,
  which also looks once more at who decides.
- Of two deciders, the second is told that the review is decided. Many decisions in one request have an answer each, as
  if each had come alone; the key of each follows from the key of the request and the review.
- Whoever claims gets a review that is nobody's; of two who claim the same, the engine knows the first.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct

from zentra.actors.reviewing import ReviewAssignment, ReviewComment, ReviewEscalation, ReviewVerdict
from zentra.gateway.doors.commands import CommandDoor, Order
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import (
    Field,
    Objection,
    currency,
    digest,
    identifier,
    identifier_or_null,
    one_of,
    read_fields,
    text,
)
from zentra.gateway.http.lists import CREATED, Check, Lists, amount, yes_or_no
from zentra.gateway.http.problems import Caller, Problem, document, of_error, of_violations
from zentra.gateway.routes.packets import uuid_of
from zentra.runtime.intents.command import Violation
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.storage.intake.commands import Decision
from zentra.storage.pool import Pool
from zentra.storage.reads import reviews as reads
from zentra.storage.reads.reviews import ReviewPlace, ReviewView

__all__ = ["ASSIGNMENT", "CLAIM", "COMMENT", "DECISIONS_MAX", "ESCALATION", "REVIEW_FILTERS", "VERDICT", "ReviewRoutes"]

DECISIONS_MAX: Final = 100
REVIEW_STATUSES: Final = ("open", "approved", "rejected", "cancelled", "expired")
REVIEW_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "status": one_of("status_unknown", *REVIEW_STATUSES), "intent_id": identifier,
    "assigned_to": identifier, "overdue": yes_or_no, "rule": identifier,
    "kind": one_of("kind_unknown", *IntentKind), "currency": currency, "amount_min": amount, "amount_max": amount,
}  # fmt: skip
VERDICT: Final[Mapping[str, Field]] = {"reason": Field(text), "request_hash": Field(digest, None)}
ASSIGNMENT: Final[Mapping[str, Field]] = {"assignee": Field(identifier_or_null, None)}
COMMENT: Final[Mapping[str, Field]] = {"text": Field(text)}
ESCALATION: Final[Mapping[str, Field]] = {"reason": Field(text), "assignee": Field(identifier_or_null, None)}
CLAIM: Final[Mapping[str, Field]] = {"order": Field(one_of("order_unknown", *reads.ORDERS), "due")}
_ITEM: Final[Mapping[str, Field]] = {
    "id": Field(identifier), "verdict": Field(one_of("verdict_unknown", "approved", "rejected")), **VERDICT,
}  # fmt: skip
ME: Final = "me"
RETRY_SECONDS: Final = 2
UUID_DIGITS: Final = 32

OnDenial = Callable[[Caller, str, str, str], None]
Verdict = Literal["approved", "rejected"]


class _Item(Struct, frozen=True):
    """One decision of many."""

    id: str
    verdict: Verdict
    reason: str
    request_hash: str | None


class ReviewRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, commands: CommandDoor, lists: Lists, on_denial: OnDenial) -> None:
        self._pool, self._commands, self._lists, self._on_denial = pool, commands, lists, on_denial

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P, one = Permission, "/reviews/{id}"
        return [
            Route("GET", "/reviews", self.reviews, P.REVIEWS_READ),
            Route("GET", "/reviews/counts", self.counts, P.REVIEWS_READ),
            Route("GET", one, self.review, P.REVIEWS_READ),
            Route("POST", "/reviews/claim", self.claim, P.REVIEWS_DECIDE, body="json or nothing"),
            Route("POST", "/reviews/decisions", self.decide_many, P.REVIEWS_DECIDE, body="json", weigh=_weigh),
            Route("POST", f"{one}/approve", self.approve, P.REVIEWS_DECIDE, body="json"),
            Route("POST", f"{one}/reject", self.reject, P.REVIEWS_DECIDE, body="json"),
            Route("POST", f"{one}/assign", self.assign, P.REVIEWS_DECIDE, body="json"),
            Route("POST", f"{one}/comments", self.comment, P.REVIEWS_COMMENT, body="json"),
            Route("POST", f"{one}/escalate", self.escalate, P.REVIEWS_DECIDE, body="json"),
        ]

    async def reviews(self, request: Request) -> Reply:
        """Reviews, the last opened first."""
        asked = self._lists.asked(request, REVIEW_FILTERS, ReviewPlace)
        filters = dict(asked.filters)
        if filters.get("assigned_to") == ME:
            filters["assigned_to"] = request.principal.id
        found = await reads.reviews(self._pool, asked.tenant, filters, after=asked.after, limit=asked.limit)
        return asked.page(found.rows, found.after)

    async def counts(self, request: Request) -> Reply:
        """How many reviews are open, and how they stand."""
        who = request.principal
        return json_reply(200, await reads.counts(self._pool, who.tenant, who.id))

    async def review(self, request: Request) -> Reply:
        """One review with its history."""
        tenant, seen = request.principal.tenant, await self._find(request)
        history = await reads.steps(self._pool, tenant, seen.id)
        return json_reply(200, {**msgspec.structs.asdict(seen), "history": history})

    async def claim(self, request: Request) -> Reply:
        """Take the next review that is nobody's: the first due, the oldest, or the largest."""
        values, in_body = read_fields(request.json, CLAIM)
        key, asker = request.idempotency_key(in_body), request.principal
        order = Order(
            kind="assign_review", subject="", owner="", body={}, asked={"claim": values["order"]}, shows={},
            location="", named="next",
        )  # fmt: skip
        before = await self._commands.given_before(request, key, order)
        if before is not None:
            return before
        next_one = await reads.next_unassigned(self._pool, asker.tenant, asker.id, values["order"])
        seen = None if next_one is None else await reads.review(self._pool, asker.tenant, next_one)
        if seen is None:
            raise Problem("nothing_to_claim", retry_after=RETRY_SECONDS)
        body = ReviewAssignment(seen.round, asker.id, unassigned=True)
        given = _order("assign_review", seen, body, dict(order.asked), assigned_to=asker.id)
        return await self._commands.give(request, key, msgspec.structs.replace(given, named="next"))

    async def approve(self, request: Request) -> Reply:
        """Let the intent go on; the rules that asked are waived and that is recorded."""
        return await self._decide(request, "approved")

    async def reject(self, request: Request) -> Reply:
        """End the intent."""
        return await self._decide(request, "rejected")

    async def _decide(self, request: Request, verdict: Verdict) -> Reply:
        values, in_body = read_fields(request.json, VERDICT)
        key = request.idempotency_key(in_body)
        return await self._give(request, key, await self._find(request), verdict, **values)

    async def decide_many(self, request: Request) -> Reply:
        """Decide up to a hundred reviews, each by itself."""
        values, in_body = read_fields(request.json, {"items": Field(_items)})
        key, items = request.idempotency_key(in_body), values["items"]
        await self._commands.bind(request, key, "reviews/decisions", {"items": msgspec.to_builtins(items)})
        ids = {item.id for item in items if _is_uuid(item.id)}
        found = await reads.reviews_by_id(self._pool, request.principal.tenant, ids)
        results = await asyncio.gather(*[self._one_of_many(request, key, item, found) for item in items])
        return json_reply(200, {"results": results})

    async def _one_of_many(
        self, request: Request, key: str, item: _Item, found: Mapping[str, ReviewView]
    ) -> dict[str, Any]:
        own_key = "bulk-" + hashlib.sha256(f"{key}\n{item.id}".encode()).hexdigest()
        try:
            seen = found.get(item.id)
            if seen is None:
                raise Problem("not_found")
            reply = await self._give(request, own_key, seen, item.verdict, item.reason, item.request_hash)
        except Exception as error:  # it is this decision's alone; what nobody foresaw is logged on the way
            problem, who = of_error(error), request.principal
            if problem.denied:
                caller = Caller(who.tenant, who.id, who.role)
                self._on_denial(caller, "POST /reviews/decisions", problem.row.code, request.request_id)
            body = document(problem, request.request_id, request.trace)
            return {"id": item.id, "status": problem.row.status, "body": msgspec.Raw(body)}
        return {"id": item.id, "status": reply.status, "body": msgspec.Raw(reply.body)}

    async def _give(
        self, request: Request, key: str, seen: ReviewView, verdict: Verdict, reason: str, request_hash: str | None
    ) -> Reply:
        if seen.created_by == request.principal.id:
            raise Problem("self_approval")
        if request_hash is None and verdict == "approved":
            raise Problem("request_hash_missing")
        body = ReviewVerdict(verdict, seen.round, reason, UNSET if request_hash is None else request_hash)
        named = {} if request_hash is None else {"request_hash": request_hash}
        order = _order("decide_review", seen, body, {"verdict": verdict, "reason": reason, **named}, verdict=verdict)
        if request_hash not in (None, seen.request_hash):
            before = await self._commands.given_before(request, key, order)
            if before is None:
                raise Problem("review_changed")
            return before
        decision = Decision(seen.id, seen.round, verdict, reason, seen.approvals, request_hash)
        return await self._commands.give(request, key, msgspec.structs.replace(order, decision=decision))

    async def assign(self, request: Request) -> Reply:
        """Make the review somebody's, or nobody's."""
        values, in_body = read_fields(request.json, ASSIGNMENT)
        key, seen, to = request.idempotency_key(in_body), await self._find(request), values["assignee"]
        to = request.principal.id if to == ME else to
        order = _order("assign_review", seen, ReviewAssignment(seen.round, to), {"assignee": to}, assigned_to=to)
        return await self._commands.give(request, key, order)

    async def comment(self, request: Request) -> Reply:
        """Say something about the review; the record of the intent has its digest."""
        values, in_body = read_fields(request.json, COMMENT)
        key, seen = request.idempotency_key(in_body), await self._find(request)
        order = _order("comment_review", seen, ReviewComment(seen.round, values["text"]), values)
        return await self._commands.give(request, key, order)

    async def escalate(self, request: Request) -> Reply:
        """Pass the review on to somebody, or to whoever of the higher role has the least to do."""
        values, in_body = read_fields(request.json, ESCALATION)
        key, seen = request.idempotency_key(in_body), await self._find(request)
        body = ReviewEscalation(seen.round, values["reason"], values["assignee"])
        return await self._commands.give(request, key, _order("escalate_review", seen, body, values))

    async def _find(self, request: Request) -> ReviewView:
        seen = await reads.review(self._pool, request.principal.tenant, uuid_of(request.params["id"]))
        if seen is None:
            raise Problem("not_found")
        return seen


def _order(kind: str, seen: ReviewView, body: Struct, asked: dict[str, Any], **shows: Any) -> Order:
    return Order(
        kind=kind, subject=seen.id, owner=seen.id, body=body, asked=asked,
        shows={"kind": kind, "review": seen.id, "intent_id": seen.intent_id, **shows}, location=f"/reviews/{seen.id}",
    )  # fmt: skip


def _items(value: Any) -> list[_Item]:
    if not isinstance(value, list) or not 0 < len(value) <= DECISIONS_MAX:
        raise Objection("field_type", f"a list of 1 to {DECISIONS_MAX} decisions")
    items = []
    for place, one in enumerate(value):
        try:
            fields, _ = read_fields(one, _ITEM)
        except Problem as problem:
            below = [Violation(f"/items/{place}{each.pointer}", each.code, each.detail) for each in problem.errors]
            raise of_violations(below) from None
        items.append(_Item(**{**fields, "id": _digits(fields["id"])}))
    return items


def _digits(id: str) -> str:
    """Return a uuid as it is stored; what is none names nothing, and is answered so in its place."""
    try:
        return uuid_of(id)
    except Problem:
        return id


def _is_uuid(id: str) -> bool:
    return _digits(id) == id and len(id) == UUID_DIGITS


def _weigh(body: object) -> int:
    items = body.get("items") if isinstance(body, dict) else None
    return max(1, len(items)) if isinstance(items, list) else 1
