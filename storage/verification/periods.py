"""Closing of periods: after it nothing may count before a time any more, and what accounts stood at then is kept.

- The time is closed first, under the locks that a freeze takes: whatever tick commits afterwards knows of it. Then the
  ledger is checked, and only balances that were verified are kept. Where something differs the period is opened again.
- The books are closed until the latest time that is in force, so periods are closed and reopened at their end alone.
- Whoever closes or reopens stands in the row, for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.verification.postings import Counters
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.verification.checking import Check, Plan, Progress, Totals, check_ledger

__all__ = ["Period", "close_period", "list_periods", "reopen_period"]

ROWS_AT_ONCE: Final = 10_000

_SELECT: Final = """
select id, tenant, book, until, closed_by, closed_at, verified_at, accounts, postings, reopened_by, reopened_at, reason,
    archived_at
from periods
"""
_IN_FORCE: Final = _SELECT + "where tenant = $1 and book = $2 and reopened_at is null order by until desc limit 1"
_ALL: Final = _SELECT + "where tenant = $1 and ($2::text is null or book = $2) order by until desc, closed_at desc"
_ONE: Final = _SELECT + "where id = $1"
_KEEP: Final = """
insert into closing_balances
    (period, account, tenant, debits_pending, credits_pending, debits_posted, credits_posted)
select $1, n.account, $2, n.dp::numeric, n.cp::numeric, n.dq::numeric, n.cq::numeric
from unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[]) as n (account, dp, cp, dq, cq)
join accounts a on a.id = n.account and a.tenant = $2{of_book}
"""
_POSTINGS: Final = """
select count(*) from postings p join accounts a on a.id = p.debit
where p.tenant = $1 and coalesce(p.effective_at, p.at) < $2{of_book}
"""
_HAS_BOOKS: Final = """
select exists (select from pg_attribute where attrelid = 'zentra.accounts'::regclass and attname = 'book')
"""


class Period(Struct, frozen=True):
    """A closing of the books of a tenant: nothing may count before `until`, as long as it was not reopened."""

    id: str
    tenant: str
    book: str
    until: datetime
    closed_by: str
    closed_at: datetime
    verified_at: datetime | None
    accounts: int | None
    postings: int | None
    reopened_by: str | None
    reopened_at: datetime | None
    reason: str | None
    archived_at: datetime | None


async def close_period(
    pool: Pool, url: str, tenant: str, until: datetime, *, book: str, by: str, jobs: int, progress: Progress
) -> tuple[Period, Check]:
    """Close the books of a tenant until a time, and return the period and the check that it rests on; where that found
    something the period was reopened.

    `pool` is the owner's, `url` of a role that sees every tenant. What a run before did not finish is gone
    on with. Refuses `tenant_unknown`, `book_unknown`, `until_in_future`, `period_closed`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        period = await _begun(connection, tenant, book, until, by)
    kept: list[tuple[int, Counters]] = []

    def keep(taken_at: datetime, totals: Totals, accounts: Iterator[tuple[int, Counters]]) -> None:
        kept.extend(accounts)

    plan = Plan(tenant, jobs=jobs, until=until, effective=True, keep=keep)
    found = await check_ledger(url, plan, progress)
    async with tenant_transaction(pool, tenant) as connection:
        if found.clean:
            await _keep(connection, period, kept)
        else:
            reason = f"the check found {sum(found.differences_by_check.values())} differences"
            await _reopen(connection, period, by, reason)
        return await _read(connection, period.id), found


async def list_periods(pool: Pool, tenant: str, *, book: str | None = None) -> list[Period]:
    """Return every closing of a tenant, the latest time first, reopened ones among them. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_ALL, tenant, book)
    return [Period(*row) for row in rows]


async def reopen_period(pool: Pool, tenant: str, *, book: str, by: str, reason: str) -> Period:
    """Open the latest period of a tenant's book again, and return it as it is then.

    Refuses `reason_missing`, `nothing_closed`, and `period_archived` where its postings may have been pruned. Raises
    Unavailable."""
    if not reason.strip():
        raise Refusal("reason_missing", "say why: it is kept for ever")
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_IN_FORCE + " for update", tenant, book)
        if row is None:
            raise Refusal("nothing_closed", f"no period of {tenant} is closed in book {book}")
        period = Period(*row)
        if period.archived_at is not None:
            raise Refusal("period_archived", f"it was archived at {period.archived_at}: book corrections from now on")
        await _reopen(connection, period, by, reason)
        return await _read(connection, period.id)


async def _begun(connection: Connection, tenant: str, book: str, until: datetime, by: str) -> Period:
    """Close the time, so that nothing more counts before it; return the period, which may have been begun before."""
    if not await connection.fetchval("select exists (select from tenants where id = $1)", tenant):
        raise Refusal("tenant_unknown", f"there is no tenant {tenant}")
    if await connection.fetchval(_HAS_BOOKS) and not await connection.fetchval(
        "select exists (select from books where tenant = $1 and id = $2)", tenant, book
    ):
        raise Refusal("book_unknown", f"{tenant} has no book {book}")
    now = await connection.fetchval("select now()")
    if until > now:
        raise Refusal("until_in_future", f"it is {now} there; a period is closed when it is over")
    row = await connection.fetchrow(_IN_FORCE, tenant, book)
    if row is not None:
        latest = Period(*row)
        if latest.until == until and latest.verified_at is None:
            return latest
        if until <= latest.until:
            raise Refusal("period_closed", f"the books are closed until {latest.until} already")
    made = await connection.fetchval(
        "insert into periods (tenant, book, until, closed_by) values ($1, $2, $3, $4) returning id",
        tenant, book, until, by,
    )  # fmt: skip
    return await _read(connection, made)


async def _keep(connection: Connection, period: Period, balances: list[tuple[int, Counters]]) -> None:
    books = await connection.fetchval(_HAS_BOOKS)
    await connection.execute("set local transaction_timeout = 0")
    for place in range(0, len(balances), ROWS_AT_ONCE):
        some = balances[place : place + ROWS_AT_ONCE]
        columns: list[Any] = [[number for number, _ in some]]
        columns += [[str(counters[which]) for _, counters in some] for which in range(4)]
        statement = _KEEP.format(of_book=" and a.book = $8" if books else "")
        await connection.execute(statement, period.id, period.tenant, *columns, *([period.book] if books else []))
    statement = _POSTINGS.format(of_book=" and a.book = $3" if books else "")
    postings = await connection.fetchval(statement, period.tenant, period.until, *([period.book] if books else []))
    await connection.execute(
        "update periods set verified_at = now(), postings = $2,"
        " accounts = (select count(*) from closing_balances where period = $1) where id = $1",
        period.id, postings,
    )  # fmt: skip


async def _reopen(connection: Connection, period: Period, by: str, reason: str) -> None:
    await connection.execute("delete from closing_balances where period = $1", period.id)
    await connection.execute(
        "update periods set reopened_at = now(), reopened_by = $2, reason = $3 where id = $1", period.id, by, reason
    )


async def _read(connection: Connection, period: str) -> Period:
    row = await connection.fetchrow(_ONE, period)
    assert row is not None
    return Period(*row)
