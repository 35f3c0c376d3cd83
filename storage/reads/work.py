"""What a tenant may read of the work around its intents: cases, callbacks, endpoints, deliveries, outcomes.

Every read runs under row security and names its tenant as well. Lists are newest first and bounded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
from msgspec import Raw, Struct

from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = [
    "CASE_COLUMNS",
    "AttemptView",
    "CallbackView",
    "CaseView",
    "CommandView",
    "DeliveryView",
    "callbacks_of",
    "case",
    "case_view",
    "cases_of",
    "command",
    "deliveries_by_id",
    "deliveries_of",
    "made_by",
]

PAGE_MAX: Final = 200  # deliveries shown with an intent; the list of deliveries has all of them


class CaseView(Struct, frozen=True, kw_only=True):
    """A case beside an intent, or of a message that nobody could read."""

    id: str
    intent: str | None
    intent_id: str | None
    kind: str
    status: str
    detail: Raw
    opened_at: datetime
    deadline: datetime
    operator: str | None
    resolution: Raw | None
    resolved_at: datetime | None
    overdue: bool  # open, and its deadline has passed


class CallbackView(Struct, frozen=True):
    """A callback of a rail as it arrived, and how often it came again."""

    rail: str
    event_id: str
    reference: str
    body: bytes
    digest: bytes
    received_at: datetime
    repeats: int
    status: str | None = None  # what it said, as its adapter read it; None of those of before that was kept
    trust: str | None = None
    same_as: str | None = None  # an earlier one that said the same under another event id


class AttemptView(Struct, frozen=True, kw_only=True):
    """One attempt to deliver, in short; `next_at` is when it was to be tried again after it."""

    number: int
    trigger: str
    actor: str
    next_at: datetime | None
    at: datetime
    status_code: int | None
    error: str | None
    latency_ms: int
    excerpt: str


class DeliveryView(Struct, frozen=True, kw_only=True):
    """A delivery, how it stands, and every attempt. `body` is what was or will be sent, byte for byte."""

    id: str
    endpoint: str
    intent: str
    sequence: int
    event: str
    body: bytes
    created_at: datetime
    status: str
    attempts_made: int
    next_at: datetime | None
    attempts: tuple[AttemptView, ...]


class CommandView(Struct, frozen=True, kw_only=True):
    """A command and what became of it; `accepted` is None until its owner has decided."""

    id: str
    kind: str
    subject: str
    principal: str
    created_at: datetime
    accepted: bool | None
    code: str | None
    detail: Raw | None
    decided_at: datetime | None


async def case(pool: Pool, tenant: str, id: str) -> CaseView | None:
    """Return one case by its uuid, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_CASES + " and id = $2", tenant, id)
    return case_view(dict(row)) if row is not None else None


async def made_by(pool: Pool, tenant: str, case: str) -> str | None:
    """Return who made the intent that a case is beside, None where there is none; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        found = await connection.fetchval(_MADE_BY, tenant, case)
    return None if found is None else str(found)


async def cases_of(connection: Connection, tenant: str, *, intent: str) -> tuple[CaseView, ...]:
    """Return the cases of an intent within the caller's transaction, oldest first."""
    rows = await connection.fetch(_CASES + " and intent = $2 order by opened_at", tenant, intent)
    return tuple(case_view(dict(row)) for row in rows)


async def callbacks_of(connection: Connection, tenant: str, *, intent: str) -> tuple[CallbackView, ...]:
    """Return what rails reported of an intent within the caller's transaction, in order of arrival."""
    return tuple(CallbackView(*row) for row in await connection.fetch(_CALLBACKS, tenant, intent))


async def deliveries_of(connection: Connection, tenant: str, *, intent: str) -> tuple[DeliveryView, ...]:
    """Return the newest deliveries of an intent with their attempts within the caller's transaction."""
    rows = await connection.fetch(_DELIVERIES_OF, tenant, intent, PAGE_MAX)
    return tuple(await _with_attempts(connection, tenant, rows))


async def deliveries_by_id(connection: Connection, tenant: str, ids: Sequence[str]) -> list[DeliveryView]:
    """Return the deliveries of these uuids with their attempts within the caller's transaction, the newest first."""
    return await _with_attempts(connection, tenant, await connection.fetch(_DELIVERIES_BY_ID, tenant, ids))


async def _with_attempts(connection: Connection, tenant: str, rows: Sequence[asyncpg.Record]) -> list[DeliveryView]:
    attempts = await connection.fetch(_ATTEMPTS, tenant, [row["id"] for row in rows]) if rows else []
    by_delivery: dict[str, list[AttemptView]] = {row["id"]: [] for row in rows}
    for row in attempts:
        fields = dict(row)
        by_delivery[fields.pop("delivery")].append(AttemptView(**fields))
    return [DeliveryView(**dict(row), attempts=tuple(by_delivery[row["id"]])) for row in rows]


async def command(pool: Pool, tenant: str, id: str) -> CommandView | None:
    """Return a command and its outcome by its uuid, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_COMMAND, tenant, id)
    return CommandView(**{**row, "detail": _raw(row["detail"])}) if row is not None else None


def case_view(fields: dict[str, Any]) -> CaseView:
    """Return the view that a row of cases is."""
    return CaseView(**{**fields, "detail": _raw(fields["detail"]), "resolution": _raw(fields["resolution"])})


def _raw(text: object) -> Raw | None:
    return Raw(str(text).encode()) if text is not None else None


CASE_COLUMNS: Final = """
id, intent, intent_id, kind, status, detail, opened_at, deadline, operator, resolution, resolved_at,
(status = 'open' and deadline < clock_timestamp()) as overdue"""
_CASES: Final = f"select {CASE_COLUMNS} from cases where tenant = $1"  # noqa: S608 - of constants
_MADE_BY: Final = """
select i.principal from cases k join intents i on i.id = k.intent and i.tenant = k.tenant
where k.tenant = $1 and k.id = $2
"""
_CALLBACKS: Final = """
select c.rail, c.event_id, c.reference, c.body, c.digest, c.received_at, coalesce(r.count, 0), c.status, c.trust,
    c.same_as
from callbacks c left join callback_repeats r on r.rail = c.rail and r.event_id = c.event_id
where c.tenant = $1 and c.intent = $2
order by c.received_at, c.event_id
"""
_DELIVERIES: Final = """
select d.id, d.endpoint, d.intent, d.sequence, d.event, d.body, d.created_at, coalesce(s.status, 'pending') as status,
       coalesce(s.attempts, 0) as attempts_made, s.next_at
from deliveries d left join delivery_states s on s.delivery = d.id and s.tenant = $1
where d.tenant = $1 and """
_DELIVERIES_OF: Final = _DELIVERIES + "d.intent = $2 order by d.created_at desc, d.id desc limit $3"
_DELIVERIES_BY_ID: Final = _DELIVERIES + "d.id = any($2::uuid[]) order by d.created_at desc, d.id desc"
_ATTEMPTS: Final = """
select delivery, number, trigger, actor, at, status_code, error, latency_ms, excerpt, next_at
from delivery_attempts where tenant = $1 and delivery = any($2::uuid[])
order by delivery, number
"""
_COMMAND: Final = """
select c.id, c.kind, c.subject, c.principal, c.created_at, o.accepted, o.code, o.detail, o.decided_at
from commands c left join command_outcomes o on o.command = c.id and o.tenant = $1
where c.tenant = $1 and c.id = $2
"""
