"""What a tenant may read of its intents and accounts; and the refusals, which may have no tenant.

- Every read runs under row security and names its tenant as well: either alone would keep tenants apart.
- What is not there and what is somebody else's are the same None.
- Records are given as the bytes they were sealed as.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from msgspec import Raw, Struct

from zentra.runtime.ports import DenialRow
from zentra.storage.pool import Connection, Pool, tenant_transaction, transaction
from zentra.storage.reads.holds import EXPIRED_UNBOOKED
from zentra.storage.reads.reviews import ReviewView, review_of
from zentra.storage.reads.work import (
    CallbackView,
    CaseView,
    DeliveryView,
    callbacks_of,
    cases_of,
    deliveries_of,
)

__all__ = [
    "AccountView",
    "IntentState",
    "IntentView",
    "LeafView",
    "account",
    "intent",
    "intent_states",
    "record_denials",
    "records",
]


class IntentState(Struct, frozen=True):
    """Where an intent stands: the last of its transitions. `state` is a `vocabulary.State`."""

    intent: str
    sequence: int
    state: str
    event: str
    at: datetime


class LeafView(Struct, frozen=True):
    """The place of a packet or an addendum in the tenant's log; `signed` says that a head covers it."""

    index: int
    data: bytes
    hash: bytes
    signed: bool


class IntentView(Struct, frozen=True, kw_only=True):
    """An intent with everything around it. `timeline` holds all records, as sealed, in order."""

    id: str
    intent_id: str
    command: Raw
    principal: str
    role: str
    key: str
    trace: str
    created_at: datetime
    last: IntentState
    timeline: tuple[Raw, ...]
    callbacks: tuple[CallbackView, ...]
    deliveries: tuple[DeliveryView, ...]
    review: ReviewView | None
    cases: tuple[CaseView, ...]
    leaves: tuple[LeafView, ...]
    corrected_by: tuple[str, ...] = ()  # the intent_ids of journals that put it right


class AccountView(Struct, frozen=True, kw_only=True):
    """An account and the sums of its counters."""

    id: int
    account_id: str
    owner: str
    type: str
    currency: str
    normal_side: str
    guarded: bool
    overdraft_limit: int
    status: str
    book: str
    created_by: str
    created_at: datetime
    debits_pending: int
    credits_pending: int
    debits_posted: int
    credits_posted: int
    expired_unbooked: int = 0  # what holds keep whose time is over
    party: str | None = None


async def record_denials(pool: Pool, rows: Sequence[DenialRow]) -> None:
    """Keep refusals, over the writer's pool: one row per tenant, actor, action, reason and minute, with a count.

    Raises Unavailable, Contended or DataError as the store does."""
    counts: Counter[tuple[str, str, str, str, datetime]] = Counter()
    ends: dict[tuple[str, str, str, str, datetime], tuple[DenialRow, DenialRow]] = {}
    for row in sorted(rows, key=lambda one: one.at):
        place = (row.tenant, row.actor, row.action, row.reason, row.at.replace(second=0, microsecond=0))
        counts[place] += 1
        ends[place] = (ends[place][0] if place in ends else row, row)
    if not counts:
        return
    columns = zip(
        *[(*place, counts[place], first.role, first.at, last.at, last.request_id)
          for place, (first, last) in sorted(ends.items(), key=lambda item: item[0])],
        strict=True,
    )  # fmt: skip
    async with transaction(pool) as connection:
        await connection.execute(_DENIALS, *columns)


async def intent(pool: Pool, tenant: str, *, intent_id: str | None = None, id: str | None = None) -> IntentView | None:
    """Return the tenant's intent of that `intent_id` or uuid, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        if id is not None:
            row = await connection.fetchrow(_INTENT_OF_UUID, tenant, id)
        else:
            row = await connection.fetchrow(_INTENT_OF_ID, tenant, intent_id)
        if row is None:
            return None
        uuid = row["id"]
        callbacks, deliveries, review, cases, leaves, corrected = row["has"]
        return IntentView(
            id=uuid, intent_id=row["intent_id"], command=Raw(row["command"]), principal=row["principal"],
            role=row["role"], key=row["key"], trace=row["trace"], created_at=row["created_at"],
            last=IntentState(uuid, row["sequence"], row["state"], row["event"], row["at"]),
            timeline=tuple(map(Raw, row["records"])),
            callbacks=await callbacks_of(connection, tenant, intent=uuid) if callbacks else (),
            deliveries=await deliveries_of(connection, tenant, intent=uuid) if deliveries else (),
            review=await review_of(connection, tenant, uuid) if review else None,
            cases=await cases_of(connection, tenant, intent=uuid) if cases else (),
            leaves=await _leaves(connection, tenant, uuid) if leaves else (),
            corrected_by=await _corrections(connection, tenant, uuid) if corrected else (),
        )  # fmt: skip


async def intent_states(pool: Pool, tenant: str, ids: Collection[str]) -> dict[str, IntentState]:
    """Return where those of the tenant's intents stand that exist, by uuid; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_STATES, tenant, list(ids))
    return {row["intent"]: IntentState(*row) for row in rows}


async def records(pool: Pool, tenant: str, intent: str, *, after: int, limit: int) -> list[bytes]:
    """Return the records of the tenant's intent behind a sequence, at most so many, in order; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(
            "select record from transitions where tenant = $1 and intent = $2 and sequence > $3"
            " order by sequence limit $4",
            tenant, intent, after, limit,
        )  # fmt: skip
    return [row[0] for row in rows]


async def account(pool: Pool, tenant: str, account_id: str) -> AccountView | None:
    """Return the tenant's account with its counters summed over stripes, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_ACCOUNT, tenant, account_id)
    return AccountView(**dict(row)) if row is not None else None


async def _leaves(connection: Connection, tenant: str, uuid: str) -> tuple[LeafView, ...]:
    rows = await connection.fetch(
        'select l."index", l.data, l.hash,'
        ' exists (select from log_heads h where h.tenant = $1 and h.size > l."index") as signed'
        ' from log_leaves l where l.tenant = $1 and l.intent = $2 order by l."index"',
        tenant, uuid,
    )  # fmt: skip
    return tuple(LeafView(*row) for row in rows)


async def _corrections(connection: Connection, tenant: str, uuid: str) -> tuple[str, ...]:
    rows = await connection.fetch(
        "select i.intent_id from corrections c join intents i on i.id = c.correction"
        " where c.original = $2 and c.tenant || '' = $1 order by c.at, i.id",
        tenant, uuid,
    )  # fmt: skip
    return tuple(row[0] for row in rows)


_DENIALS: Final = """
insert into denials as known (tenant, actor, action, reason, minute, count, role, first_at, last_at, request_id)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int[], $7::text[],
                     $8::timestamptz[], $9::timestamptz[], $10::text[])
on conflict (tenant, actor, action, reason, minute) do update
set count = known.count + excluded.count, first_at = least(known.first_at, excluded.first_at),
    last_at = greatest(known.last_at, excluded.last_at), request_id = excluded.request_id
"""
# `has` says what there is to ask for besides: callbacks, deliveries, a review, cases, leaves, corrections.
# Its tenant is compared as an expression, which no index has: of a tenant that statistics do not know yet the planner
# believes that it has nothing, and would rather go through all of that than look for the intent.
_INTENT: Final = """
select i.id, i.intent_id, i.command, i.principal, i.role, i.key, i.trace, i.created_at,
       last.sequence, last.state, last.event, last.at,
       array(select record from transitions where tenant = $1 and intent = i.id order by sequence) as records,
       array[
           exists (select from callbacks where intent = i.id and tenant || '' = $1),
           exists (select from deliveries where intent = i.id and tenant || '' = $1),
           exists (select from reviews where id = i.id and tenant || '' = $1),
           exists (select from cases where intent = i.id and tenant || '' = $1),
           exists (select from log_leaves where intent = i.id and tenant || '' = $1),
           exists (select from corrections where original = i.id and tenant || '' = $1)
       ] as has
from intents i
cross join lateral (
    select sequence, state, event, at from transitions
    where tenant = $1 and intent = i.id order by sequence desc limit 1
) as last
where """
_INTENT_OF_ID: Final = _INTENT + "i.tenant = $1 and i.intent_id = $2"
_INTENT_OF_UUID: Final = _INTENT + "i.tenant || '' = $1 and i.id = $2"
_STATES: Final = """
select last.intent, last.sequence, last.state, last.event, last.at
from unnest($2::uuid[]) as wanted (id)
cross join lateral (
    select intent, sequence, state, event, at from transitions
    where intent = wanted.id and tenant = $1
    order by sequence desc limit 1
) as last
"""
_ACCOUNT: Final = f"""
select a.id, a.account_id, a.owner, a.type, a.currency, a.normal_side, a.guarded, a.overdraft_limit, a.status,
       a.book, a.created_by, a.created_at, a.party,
       b.debits_pending, b.credits_pending, b.debits_posted, b.credits_posted,
       {EXPIRED_UNBOOKED.format(account="a.id")} as expired_unbooked
from accounts a
cross join lateral (
    select coalesce(sum(debits_pending), 0)::bigint as debits_pending,
           coalesce(sum(credits_pending), 0)::bigint as credits_pending,
           coalesce(sum(debits_posted), 0)::bigint as debits_posted,
           coalesce(sum(credits_posted), 0)::bigint as credits_posted
    from balances where account = a.id and tenant = $1
) as b
where a.tenant = $1 and a.account_id = $2
"""  # noqa: S608 - of constants
