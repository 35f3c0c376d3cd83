"""The lists of a tenant: intents, accounts, cases, refusals, deliveries.

- Every list is read under row security and names its tenant as well.
- An intent has no mutable row: its state is that of its last record, looked up by primary key for each row that is met.
- The list of intents needs no index of its own. Ids begin with the time of registration, so it is a walk along the
  primary key; how far a page walks is bounded in rows of all tenants (`intents_before`), which tells a tenant nothing.
- Deliveries are walked along the index of each endpoint of the tenant, and merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from zentra.runtime.intents.command import IntentCommand, decode_command
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.reads.border import DenialView
from zentra.storage.reads.holds import EXPIRED_UNBOOKED
from zentra.storage.reads.tenant import AccountView, IntentState
from zentra.storage.reads.walking import EXAMINED_MAX, Filters, Slice, Terms, walk
from zentra.storage.reads.work import CASE_COLUMNS, CaseView, DeliveryView, case_view, deliveries_by_id

__all__ = [
    "AccountPlace", "DeliveryPlace", "DenialPlace", "IntentPlace", "IntentRow", "WorkPlace", "accounts", "cases",
    "deliveries", "denials", "intents",
]  # fmt: skip

FIRST_WINDOW: Final = 200  # enough for a page of a tenant that is not alone, and nothing to read
WINDOW_GROWTH: Final = 6
CLOCKS_APART: Final = timedelta(seconds=1)  # between an id and the time of its row, should the clock be set back
_FIRST, _LAST = "0" * 32, "f" * 32


class IntentPlace(Struct, frozen=True, array_like=True):
    """Everything from this uuid on was looked at."""

    before: str


class AccountPlace(Struct, frozen=True, array_like=True):
    """The number of the last account."""

    id: int


class WorkPlace(Struct, frozen=True, array_like=True):
    """The last case."""

    opened_at: datetime
    id: str


class DenialPlace(Struct, frozen=True, array_like=True):
    """The last refusal; its count may grow, its place does not."""

    minute: datetime
    actor: str
    action: str
    reason: str


class DeliveryPlace(Struct, frozen=True, array_like=True):
    """The last delivery."""

    created_at: datetime
    id: str


class IntentRow(Struct, frozen=True, kw_only=True):
    """An intent in a list: what was asked, by whom, and where it stands."""

    id: str
    intent_id: str
    command: IntentCommand
    principal: str
    created_at: datetime
    last: IntentState


async def intents(
    pool: Pool, tenant: str, filters: Filters, *, after: IntentPlace | None, limit: int
) -> Slice[IntentRow, IntentPlace]:
    """Return a page of the tenant's intents, the newest first.

    Filters: `created_from`, `created_before`, `states` (of the machine), `intent_id`, `kind`, `currency`, `account` (on
    either side), `amount_min`, `amount_max`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        if "intent_id" in filters:  # unique: there is nothing to walk
            before = _LAST if after is None else after.before
            return Slice(await _intents(connection, tenant, filters, before, _FIRST, 1), None)
        return await _walk_intents(connection, tenant, filters, after, limit)


async def _walk_intents(
    connection: Connection, tenant: str, filters: Filters, after: IntentPlace | None, limit: int
) -> Slice[IntentRow, IntentPlace]:
    end = _id_at(filters["created_from"] - CLOCKS_APART) if "created_from" in filters else _FIRST
    before = _LAST if after is None else after.before
    if "created_before" in filters:
        before = min(before, _id_at(filters["created_before"] + CLOCKS_APART))
    rows: list[IntentRow] = []
    examined, window = 0, FIRST_WINDOW
    while before > end:
        horizon = await connection.fetchval("select intents_before($1, $2)", before, window)
        low = max(horizon or _FIRST, end)
        rows += await _intents(connection, tenant, filters, before, low, limit + 1 - len(rows))
        if len(rows) > limit:
            return Slice(rows[:limit], IntentPlace(rows[limit - 1].id))
        before, examined = low, examined + window
        if horizon is None:
            break
        if examined >= EXAMINED_MAX:
            return Slice(rows, IntentPlace(before) if before > end else None)
        window = min(window * WINDOW_GROWTH, EXAMINED_MAX - examined)
    return Slice(rows, None)


async def _intents(
    connection: Connection, tenant: str, filters: Filters, before: str, low: str, limit: int
) -> list[IntentRow]:
    """Return the newest intents with an id in [low, before) that the filters let pass."""
    terms = Terms(tenant, before, low)
    terms.filter(_INTENT_FILTERS, filters)
    asks_command = any("said.command" in _INTENT_FILTERS[name] for name in filters)
    rows = await connection.fetch(
        f"{_INTENTS}{_SAID if asks_command else ''}{_STATE}"
        f" where i.tenant = $1 and i.id < $2 and i.id >= $3{terms.text} order by i.id desc limit {terms.value(limit)}",
        *terms.values,
    )
    return [
        IntentRow(
            id=row[0], intent_id=row[1], command=decode_command(row[2]), principal=row[3], created_at=row[4],
            last=IntentState(row[0], *tuple(row)[5:]),
        )
        for row in rows
    ]  # fmt: skip


async def accounts(
    pool: Pool, tenant: str, filters: Filters, *, after: AccountPlace | None, limit: int
) -> Slice[AccountView, AccountPlace]:
    """Return a page of the tenant's accounts with their counters, the newest first.

    Filters: `created_from`, `created_before`, `status`, `type`, `currency`, `owner`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="accounts", columns=_ACCOUNT, order={"id": "bigint"}, known=_ACCOUNT_FILTERS,
            filters=filters, after=None if after is None else (after.id,), limit=limit,
        )  # fmt: skip
        counted = await connection.fetch(_COUNTERS, tenant, [row["id"] for row in rows])
    counters = {row["account"]: {name: row[name] for name in _COUNTER_NAMES} for row in counted}
    nothing = dict.fromkeys(_COUNTER_NAMES, 0)
    views = [AccountView(**dict(row), **counters.get(row["id"], nothing)) for row in rows]
    return Slice(views, None if end is None else AccountPlace(*end))


async def cases(
    pool: Pool, tenant: str, filters: Filters, *, after: WorkPlace | None, limit: int
) -> Slice[CaseView, WorkPlace]:
    """Return a page of the tenant's cases, the last opened first.

    Filters: `created_from`, `created_before` (of the opening), `status`, `intent_id`, `kind`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="cases", columns=CASE_COLUMNS, order=_WORK_ORDER, known=_WORK_FILTERS,
            filters=filters,
            after=None if after is None else (after.opened_at, after.id), limit=limit,
        )  # fmt: skip
    return Slice([case_view(dict(row)) for row in rows], None if end is None else WorkPlace(*end))


async def denials(
    pool: Pool, tenant: str, filters: Filters, *, after: DenialPlace | None, limit: int
) -> Slice[DenialView, DenialPlace]:
    """Return a page of the refusals of the tenant's people, the latest minute first.

    Filters: `created_from`, `created_before` (of the minute), `actor`, `action`, `reason`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="denials", columns=_DENIAL, order=_DENIAL_ORDER, known=_DENIAL_FILTERS,
            filters=filters, after=None if after is None else (after.minute, after.actor, after.action, after.reason),
            limit=limit,
        )  # fmt: skip
    return Slice([DenialView(*row) for row in rows], None if end is None else DenialPlace(*end))


async def deliveries(
    pool: Pool, tenant: str, filters: Filters, *, after: DeliveryPlace | None, limit: int
) -> Slice[DeliveryView, DeliveryPlace]:
    """Return a page of the tenant's deliveries with their attempts, the newest first.

    Filters: `created_from`, `created_before`, `endpoint`, `intent` (uuid), `event`, `status`. Raises Unavailable."""
    statement, values, examined_max = _delivery_statement(tenant, filters, after, limit)
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(statement, *values)
        fitting = [row for row in rows if row["fits"]]
        views = await deliveries_by_id(connection, tenant, [row["id"] for row in fitting[:limit]])
    end = None
    if len(fitting) > limit:
        end = fitting[limit - 1]
    elif len(rows) == examined_max:
        end = rows[-1]
    return Slice(views, None if end is None else DeliveryPlace(end["created_at"], end["id"]))


def _delivery_statement(
    tenant: str, filters: Filters, after: DeliveryPlace | None, limit: int
) -> tuple[str, list[object], int]:
    """Return the statement that looks at deliveries and says which of them fit, its values, and how many it sees."""
    loose = {name: value for name, value in filters.items() if name in _DELIVERY_FILTERS}
    examined_max = EXAMINED_MAX if loose else limit + 1
    place = (None, None) if after is None else (after.created_at, after.id)
    terms = Terms(tenant, *place, examined_max)
    span = "".join(
        f" and created_at {sign} {terms.value(filters[name])}"
        for name, sign in (("created_from", ">="), ("created_before", "<"))
        if name in filters
    )
    source, inner = _BY_ENDPOINT, ""
    if "intent" in filters:
        source, inner = _BY_INTENT, f" and intent = {terms.value(filters['intent'])}"
    if "endpoint" in filters:
        inner += f" and {'e.id' if source is _BY_ENDPOINT else 'endpoint'} = {terms.value(filters['endpoint'])}"
    terms.filter(_DELIVERY_FILTERS, loose)
    statement = (
        source.format(inner=inner, span=span) + _DELIVERIES.format(fits=terms.text)
    )  # fmt: skip
    return statement, terms.values, examined_max


def _id_at(at: datetime) -> str:
    """Return the lowest uuid of version 7 of that time; RFC 9562, 5.7."""
    return f"{min(max(0, int(at.timestamp() * 1000)), 2**48 - 1):012x}" + "0" * 20


_INTENTS: Final = (
    "select i.id, i.intent_id, i.command, i.principal, i.created_at, s.sequence, s.state, s.event, s.at from intents i"
)
_STATE: Final = """
 cross join lateral (
    select sequence, state, event, at from transitions t where t.intent = i.id and t.tenant = $1
    order by sequence desc limit 1
 ) s"""
# One look at the command however many filters ask about it.
_SAID: Final = """
 cross join lateral (select convert_from(i.command, 'UTF8')::jsonb as command offset 0) said"""
_INTENT_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "i.created_at >= {}",
    "created_before": "i.created_at < {}",
    "intent_id": "i.intent_id = {}",
    "kind": "said.command->>'kind' = {}",
    "currency": "said.command->>'currency' = {}",
    "account": "{}::text in (said.command->>'source', said.command->>'destination')",
    "amount_min": "(said.command->>'minor')::numeric >= {}::bigint",
    "amount_max": "(said.command->>'minor')::numeric <= {}::bigint",
    "states": "s.state = any({}::text[])",
}
_ACCOUNT: Final = (
    "id, account_id, owner, type, currency, normal_side, guarded, overdraft_limit, status, book, created_by,"
    " created_at, party"
)
_ACCOUNT_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "created_at >= {}",
    "created_before": "created_at < {}",
    "status": "status = {}",
    "type": "type = {}",
    "currency": "currency = {}",
    "owner": "owner = {}",
    "book": "book = {}",
    "number": "id = {}",
}
_COUNTER_NAMES: Final = ("debits_pending", "credits_pending", "debits_posted", "credits_posted", "expired_unbooked")
_COUNTERS: Final = f"""
select account, sum(debits_pending)::bigint as debits_pending, sum(credits_pending)::bigint as credits_pending,
       sum(debits_posted)::bigint as debits_posted, sum(credits_posted)::bigint as credits_posted,
       {EXPIRED_UNBOOKED.format(account="balances.account")} as expired_unbooked
from balances where tenant = $1 and account = any($2::bigint[]) group by account
"""  # noqa: S608 - of constants
_WORK_ORDER: Final = {"opened_at": "timestamptz", "id": "uuid"}
_WORK_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "opened_at >= {}",
    "created_before": "opened_at < {}",
    "status": "status = {}",
    "intent_id": "intent_id = {}",
    "kind": "kind = {}",
}
_DENIAL: Final = "actor, role, action, reason, minute, count, first_at, last_at, request_id"
_DENIAL_ORDER: Final = {"minute": "timestamptz", "actor": "text", "action": "text", "reason": "text"}
_DENIAL_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "minute >= {}",
    "created_before": "minute < {}",
    "actor": "actor = {}",
    "action": "action = {}",
    "reason": "reason = {}",
}
# $2 and $3 are the place, $4 how many rows to look at. An endpoint is never deleted, so every delivery has one.
_BY_ENDPOINT: Final = """
with newest as (
    select d.* from endpoints e cross join lateral (
        select id, event, created_at from deliveries
        where tenant = $1 and endpoint = e.id
            and ($2::timestamptz is null or (created_at <= $2 and (created_at, id) < ($2, $3::uuid))){span}
        order by created_at desc, id desc limit $4
    ) d
    where e.tenant = $1{inner}
    order by created_at desc, id desc limit $4
)"""
_BY_INTENT: Final = """
with newest as (
    select id, event, created_at from deliveries
    where tenant = $1{inner} and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid)){span}
    order by created_at desc, id desc limit $4
)"""
_DELIVERIES: Final = """
select id, fits, created_at from (
    select n.id, n.created_at, (true{fits}) as fits
    from newest n left join delivery_states s on s.delivery = n.id and s.tenant = $1
) f order by created_at desc, id desc
"""
_DELIVERY_FILTERS: Final[Mapping[str, str]] = {
    "event": "n.event = {}",
    "status": "coalesce(s.status, 'pending') = {}",
}
