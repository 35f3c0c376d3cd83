"""Reviews as a tenant sees them: what waits, whose it is, what a decision is bound to, and what happened so far.

- Every read runs under row security and names its tenant as well.
- `request_hash` is made from what is shown, and the referral's record, as the engine checks it.
- The history is that of the sealed records. What somebody said is the body of their command; a record has its digest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from zentra.runtime.intents.facts import Judged
from zentra.runtime.reviews import known_digest, request_hash
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.reads.walking import Filters, Slice, walk

__all__ = [
    "ORDERS",
    "ReviewCounts",
    "ReviewPlace",
    "ReviewStep",
    "ReviewView",
    "comments_of",
    "counts",
    "next_unassigned",
    "review",
    "review_of",
    "reviews",
    "reviews_by_id",
    "steps",
]

COUNTED_MAX: Final = 10_000  # open reviews that are looked at to be counted: some ten milliseconds


class ReviewView(Struct, frozen=True, kw_only=True):
    """A review; `id` is the uuid of its intent, `request_hash` what a decision on it names."""

    id: str
    round: int
    intent_id: str
    created_by: str
    rules: Raw
    version: int
    assigned_to: str | None
    status: str
    opened_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    due_at: datetime | None
    overdue: bool
    escalations: int
    approvals: int
    approved_by: tuple[str, ...]
    comments: int
    kind: str | None
    currency: str | None
    amount: int | None
    request_hash: str


class ReviewStep(Struct, frozen=True, kw_only=True):
    """One record of an intent that is about its review; `text` is what a comment said, `facts` what is sealed."""

    sequence: int
    event: str
    at: datetime
    actor: str
    facts: Raw
    text: str | None


class ReviewCounts(Struct, frozen=True):
    """The open reviews of a tenant, at most 10,000 of them: `mine` are the asker's."""

    open: int
    overdue: int
    unassigned: int
    mine: int
    escalated: int
    oldest_at: datetime | None


class ReviewPlace(Struct, frozen=True, array_like=True):
    """The last review of a page."""

    opened_at: datetime
    id: str


async def reviews(
    pool: Pool, tenant: str, filters: Filters, *, after: ReviewPlace | None, limit: int
) -> Slice[ReviewView, ReviewPlace]:
    """Return a page of the tenant's reviews, the last opened first.

    Filters: `created_from`, `created_before` (of the opening), `status`, `intent_id`, `assigned_to`, `overdue`, `rule`,
    `kind`, `currency`, `amount_min`, `amount_max`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="reviews", columns=_COLUMNS, order=_ORDER, known=_FILTERS, filters=filters,
            after=None if after is None else (after.opened_at, after.id), limit=limit,
        )  # fmt: skip
    return Slice([_view(tenant, dict(row)) for row in rows], None if end is None else ReviewPlace(*end))


async def review(pool: Pool, tenant: str, id: str) -> ReviewView | None:
    """Return one review by its uuid, or None; raises Unavailable."""
    return (await reviews_by_id(pool, tenant, [id])).get(id)


async def reviews_by_id(pool: Pool, tenant: str, ids: Collection[str]) -> dict[str, ReviewView]:
    """Return those of the tenant's reviews that exist, by uuid; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        return await _by_id(connection, tenant, list(ids))


async def review_of(connection: Connection, tenant: str, id: str) -> ReviewView | None:
    """Return one review within the caller's transaction, or None."""
    return (await _by_id(connection, tenant, [id])).get(id)


async def steps(pool: Pool, tenant: str, id: str) -> list[ReviewStep]:
    """Return what happened to the review of an intent, in every round, oldest first; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(
            "select record from transitions where tenant = $1 and intent = $2 and event = any($3::text[])"
            " order by sequence",
            tenant, id, list(_EVENTS),
        )  # fmt: skip
        records = [_decode(row[0]) for row in rows]
        said = await _said(connection, tenant, [one.cause for one in records if one.event == _COMMENTED])
    return [
        ReviewStep(
            sequence=one.sequence, event=one.event, at=one.at, actor=one.actor, facts=one.facts,
            text=said.get(one.cause),
        )
        for one in records
    ]  # fmt: skip


async def comments_of(connection: Connection, tenant: str, records: Sequence[bytes]) -> list[bytes]:
    """Return the texts of the comments that these records name by digest, within the caller's transaction."""
    told = [_decode(record) for record in records if _COMMENTED.encode() in record]
    causes = [one.cause for one in told if one.event == _COMMENTED]
    return [text.encode() for text in (await _said(connection, tenant, causes)).values()]


async def counts(pool: Pool, tenant: str, principal: str) -> ReviewCounts:
    """Return how many reviews are open and how they stand; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_COUNTS, tenant, principal, COUNTED_MAX)
    assert row is not None, "an aggregate has a row"
    return ReviewCounts(*row)


async def next_unassigned(
    pool: Pool, tenant: str, principal: str, order: Literal["age", "due", "amount"]
) -> str | None:
    """Return the open review that is nobody's and comes first, None where there is none that `principal` may decide."""
    async with tenant_transaction(pool, tenant) as connection:
        found: str | None = await connection.fetchval(_NEXT.format(order=ORDERS[order]), tenant, principal)
    return found


async def _by_id(connection: Connection, tenant: str, ids: list[str]) -> dict[str, ReviewView]:
    rows = await connection.fetch(
        f"select {_COLUMNS} from reviews where tenant = $1 and id = any($2::uuid[])",  # noqa: S608
        tenant, ids,
    )  # fmt: skip
    return {row["id"]: _view(tenant, dict(row)) for row in rows}


async def _said(connection: Connection, tenant: str, commands: Sequence[str]) -> dict[str, str]:
    """Return the texts of comments by the command that brought them."""
    if not commands:
        return {}
    rows = await connection.fetch(
        "select id, body from commands where tenant = $1 and id = any($2::uuid[])", tenant, list(commands)
    )
    return {row[0]: msgspec.json.decode(row[1], type=_Said).text for row in rows}


def _view(tenant: str, fields: dict[str, Any]) -> ReviewView:
    """Return the view that a row of reviews is."""
    digest: bytes | None = fields.pop("digest")
    referral: bytes | None = fields.pop("referral")
    judged = None if referral is None else _referral(referral).facts
    rules: str = fields.pop("rules")
    seen = request_hash(
        tenant=tenant, intent=fields["id"], command=(digest or b"").hex(), round=fields["round"],
        rules=msgspec.json.decode(rules, type=list[str]), version=fields["version"],
        asks=None if judged is None else judged.asks or None, known="" if judged is None else known_digest(judged),
    )  # fmt: skip
    fields["approved_by"] = tuple(fields["approved_by"])
    return ReviewView(**fields, rules=Raw(rules.encode()), request_hash=seen)


class _Said(Struct):
    text: str


class _Told(Struct):
    sequence: int
    event: str
    at: datetime
    actor: str
    cause: str
    facts: Raw


class _Referral(Struct):
    facts: Judged


_decode: Final = msgspec.json.Decoder(_Told).decode
_referral: Final = msgspec.json.Decoder(_Referral).decode
_COMMENTED: Final = "review.commented"
_EVENTS: Final = (
    "policy.review", "review.assigned", "review.commented", "review.escalated", "review.endorsed", "review.approved",
    "review.rejected", "review.expired", "intent.cancelled",
)  # fmt: skip
_COLUMNS: Final = """
id, round, intent_id, created_by, rules, version, assigned_to, status, opened_at, expires_at, decided_by, decided_at,
reason, due_at, (status = 'open' and due_at < clock_timestamp()) is true as overdue, level as escalations, approvals,
approved_by, comments, kind, currency, minor as amount,
(select digest from intents i where i.id = reviews.id and i.tenant || '' = reviews.tenant) as digest,
(select record from transitions t where t.intent = reviews.id and t.tenant || '' = reviews.tenant
 and t.event = 'policy.review' order by t.sequence desc limit 1) as referral
"""
_ORDER: Final = {"opened_at": "timestamptz", "id": "uuid"}
_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "opened_at >= {}",
    "created_before": "opened_at < {}",
    "status": "status = {}",
    "intent_id": "intent_id = {}",
    "assigned_to": "assigned_to = {}",
    "overdue": "((status = 'open' and due_at < clock_timestamp()) is true) = {}::boolean",
    "rule": "rules ? {}::text",
    "kind": "kind = {}",
    "currency": "currency = {}",
    "amount_min": "minor >= {}::bigint",
    "amount_max": "minor <= {}::bigint",
}
ORDERS: Final[Mapping[str, str]] = {
    "age": "opened_at, id",
    "due": "due_at nulls last, id",
    "amount": "minor desc nulls last, id",
}
"""What comes first when somebody claims the next one."""
_COUNTS: Final = """
select count(*), count(*) filter (where due_at < clock_timestamp()), count(*) filter (where assigned_to is null),
       count(*) filter (where assigned_to = $2), count(*) filter (where level > 0), min(opened_at)
from (select * from reviews where tenant = $1 and status = 'open' order by opened_at limit $3) waiting
"""
_NEXT: Final = """
select id from reviews
where tenant = $1 and status = 'open' and assigned_to is null and created_by <> $2 and expires_at > clock_timestamp()
  and $2 <> all(approved_by)
order by {order} limit 1
"""
