"""What a tenant may read around its accounts: books, changes, numbers, monitors, and the tree that their ids make.

Every read runs under row security and names its tenant as well."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import asyncpg
from msgspec import Raw, Struct

from zentra.runtime.errors import Refusal
from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads.walking import Slice

__all__ = [
    "CHART_ACCOUNTS_MAX",
    "BookView",
    "ChangePlace",
    "ChangeView",
    "ChartNode",
    "ChartPlace",
    "MonitorView",
    "NumberView",
    "Target",
    "books",
    "changes",
    "chart",
    "monitors",
    "number_target",
    "numbers",
    "target",
]

CHART_ACCOUNTS_MAX: Final = 100_000  # that one look at the chart adds up: some 200 ms


class BookView(Struct, frozen=True):
    """A book."""

    book: str
    name: str
    created_by: str
    created_at: datetime


class ChangePlace(Struct, frozen=True, array_like=True):
    """The last change that was shown."""

    sequence: int


class ChangeView(Struct, frozen=True):
    """A record of a change, as it is chained."""

    record: Raw
    hash: bytes


class NumberView(Struct, frozen=True):
    """A number of an account; `retired_at` says since when it means nobody."""

    scheme: str
    number: str
    created_by: str
    created_at: datetime
    retired_at: datetime | None


class MonitorView(Struct, frozen=True):
    """A monitor of an account."""

    id: str
    of: str
    when: str
    minor: int
    created_by: str
    created_at: datetime


class Target(Struct, frozen=True):
    """An account that money may be sent to."""

    id: int
    account_id: str
    currency: str
    book: str


class ChartPlace(Struct, frozen=True, array_like=True):
    """The last node that was shown."""

    node: str


class ChartNode(Struct, frozen=True, kw_only=True):
    """A node of the chart in one currency: so many accounts at it and below, and the sums of their counters. `deeper`
    says that some lie below."""

    node: str
    currency: str
    accounts: int
    deeper: bool
    debits_pending: int
    credits_pending: int
    debits_posted: int
    credits_posted: int


async def books(pool: Pool, tenant: str) -> list[BookView]:
    """Return the tenant's books by id; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(
            "select id, name, created_by, created_at from books where tenant = $1 order by id", tenant
        )
    return [BookView(*row) for row in rows]


async def changes(
    pool: Pool, tenant: str, account_id: str, *, after: ChangePlace | None, limit: int
) -> Slice[ChangeView, ChangePlace] | None:
    """Return a page of the changes of the tenant's account, the latest first, or None where there is no such account.

    Raises Unavailable."""
    rows = await _rows(
        pool, tenant, account_id,
        "select record, hash, sequence from account_changes where account = $1 and tenant = $2"
        " and ($3::int is null or sequence < $3) order by sequence desc limit $4",
        None if after is None else after.sequence, limit + 1,
    )  # fmt: skip
    if rows is None:
        return None
    shown = rows[:limit]
    more = len(rows) > limit
    return Slice(
        [ChangeView(Raw(row[0]), row[1]) for row in shown], ChangePlace(shown[-1]["sequence"]) if more else None
    )


async def numbers(pool: Pool, tenant: str, account_id: str) -> list[NumberView] | None:
    """Return the numbers of the tenant's account, the oldest first, or None where there is no such account.

    Raises Unavailable."""
    rows = await _rows(
        pool, tenant, account_id,
        "select scheme, number, created_by, created_at, retired_at from account_numbers"
        " where account = $1 and tenant = $2 order by created_at, scheme, number",
    )  # fmt: skip
    return None if rows is None else [NumberView(*row) for row in rows]


async def monitors(pool: Pool, tenant: str, account_id: str) -> list[MonitorView] | None:
    """Return the monitors of the tenant's account, the oldest first, or None where there is no such account.

    Raises Unavailable."""
    rows = await _rows(
        pool, tenant, account_id,
        'select id, of, "when", minor, created_by, created_at from account_monitors'
        " where account = $1 and tenant = $2 and removed_at is null order by created_at, id",
    )  # fmt: skip
    return None if rows is None else [MonitorView(*row) for row in rows]


async def target(pool: Pool, tenant: str, account_id: str) -> Target | None:
    """Return the tenant's account of this id, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(
            "select id, account_id, currency, book from accounts where tenant = $1 and account_id = $2",
            tenant, account_id,
        )  # fmt: skip
    return None if row is None else Target(*row)


async def number_target(pool: Pool, tenant: str, scheme: str, number: str) -> Target | None:
    """Return the tenant's account that a number means now, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(
            "select a.id, a.account_id, a.currency, a.book from account_numbers k join accounts a on a.id = k.account"
            " where k.tenant = $1 and k.scheme = $2 and k.number = $3 and k.retired_at is null and a.tenant = $1",
            tenant, scheme, number,
        )  # fmt: skip
    return None if row is None else Target(*row)


async def chart(
    pool: Pool, tenant: str, *, book: str, prefix: str, depth: int, currency: str | None, after: ChartPlace | None,
    limit: int,
) -> Slice[ChartNode, ChartPlace]:  # fmt: skip
    """Return a page of the nodes at `depth` below `prefix` (the root where it is empty), in order of their names, each
    with one row per currency; an account that lies higher is a node of its own.

    Raises Refusal `chart_too_large` where there are more than CHART_ACCOUNTS_MAX accounts below; and Unavailable."""
    levels = (prefix.count(":") + 1 if prefix else 0) + depth
    async with tenant_transaction(pool, tenant) as connection:
        scope = (tenant, book, prefix, currency)
        if await connection.fetchval(_CHART_IS_LARGE, *scope, CHART_ACCOUNTS_MAX):
            raise Refusal(
                "chart_too_large", f"more than {CHART_ACCOUNTS_MAX:,} accounts lie below; name a longer prefix"
            )
        rows = await connection.fetch(_CHART, *scope, levels, None if after is None else after.node, limit + 1)
    names = list(dict.fromkeys(row["node"] for row in rows))
    shown = names[:limit]
    found = [ChartNode(**row) for row in rows if row["node"] in set(shown)]
    return Slice(found, ChartPlace(shown[-1]) if len(names) > limit else None)


async def _rows(pool: Pool, tenant: str, account_id: str, query: str, *more: object) -> list[asyncpg.Record] | None:
    """Return what a query finds of an account, its number the first argument and the tenant the second; None where the
    tenant has no such account."""
    async with tenant_transaction(pool, tenant) as connection:
        account = await connection.fetchval(
            "select id from accounts where tenant = $1 and account_id = $2", tenant, account_id
        )
        return None if account is None else await connection.fetch(query, account, tenant, *more)


# A node is everything that begins with its name and a colon; the sign behind the colon ends it.
_BELOW: Final = """
from accounts a
where a.tenant = $1 and a.book = $2 and ($4::text is null or a.currency = $4)
    and ($3 = '' or a.account_id = $3
         or (a.account_id collate "C" >= $3 || ':' and a.account_id collate "C" < $3 || ';'))
"""
_CHART_IS_LARGE: Final = f"select exists (select {_BELOW} offset $5 limit 1)"
_CHART: Final = f"""
with scope as (
    select a.id, a.currency, array_to_string((string_to_array(a.account_id, ':'))[1:$5], ':') as node,
           cardinality(string_to_array(a.account_id, ':')) > $5 as deeper
    {_BELOW}
), nodes as (
    select distinct node collate "C" as node from scope where $6::text is null or node collate "C" > $6
    order by 1 limit $7
)
select s.node, s.currency, count(distinct s.id)::bigint as accounts, bool_or(s.deeper) as deeper,
       coalesce(sum(b.debits_pending), 0) as debits_pending, coalesce(sum(b.credits_pending), 0) as credits_pending,
       coalesce(sum(b.debits_posted), 0) as debits_posted, coalesce(sum(b.credits_posted), 0) as credits_posted
from scope s join nodes n on n.node = s.node left join balances b on b.account = s.id and b.tenant = $1
group by s.node, s.currency order by s.node collate "C", s.currency
"""  # noqa: S608
