"""The balance of an account at any moment, past or present, by when entries were recorded or by when they count.

- Everything that lies before a moment counts, what lies at it does not: so the balance at the beginning of a day is the
  one that the day before ended with, and every other interval here is cut alike.
- The figures are folded from postings, in one snapshot, and are exact. `marks` (sums up to a moment that is past for
  good) make the fold short; where there are none yet, the first who asks for a long fold makes them.
- By the recorded time an answer is final once the moment is FINAL_AFTER old: a posting carries the time of its tick,
  and a transaction that is older than that was ended by the server. By the effective time it never is, because an entry
  that is booked tomorrow may count from yesterday.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

import asyncpg
from msgspec import Struct

from zentra.runtime.ledger.book import Balance
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = ["FINAL_AFTER", "By", "Folded", "balance_at", "fold", "leave_marks"]

By = Literal["recorded", "effective"]

FINAL_AFTER: Final = timedelta(
    seconds=60
)  # no commit of the engine lasts that long: half a lease, 5 s unless configured
MARK_EVERY: Final = 4_096  # entries
MARKED_FROM: Final = 20_000  # entries behind the last mark: some 10 ms to fold
MARKED_AT_ONCE: Final = 200_000  # entries, in one transaction: half a second
MARKINGS_MAX: Final = 25  # transactions that one request makes marks in


class Folded(Struct, frozen=True, kw_only=True):
    """The counters of an account as all entries before `at` leave them; `entries` says how many these are."""

    account: int
    account_id: str
    currency: str
    normal_side: str
    at: datetime
    entries: int
    balance: Balance
    final: bool


async def balance_at(pool: Pool, tenant: str, account_id: str, at: datetime | None, by: By) -> Folded | None:
    """Return the balance of the tenant's account at a moment, now unless given, or None where there is no such account.

    Raises Unavailable."""
    if not await leave_marks(pool, tenant, account_id, at):
        return None
    async with tenant_transaction(pool, tenant, snapshot=True) as connection:
        row = await account_row(connection, tenant, account_id)
        if row is None:
            return None
        moment = at or row["now"]
        entries, balance = await fold(connection, tenant, row["id"], moment, by)
    return Folded(
        account=row["id"], account_id=account_id, currency=row["currency"], normal_side=row["normal_side"], at=moment,
        entries=entries, balance=balance, final=by == "recorded" and moment <= row["now"] - FINAL_AFTER,
    )  # fmt: skip


async def leave_marks(pool: Pool, tenant: str, account_id: str, at: datetime | None) -> bool:
    """Make marks where the fold up to a moment would be long; return whether there is such an account.

    Raises Unavailable."""
    for _ in range(MARKINGS_MAX):
        async with tenant_transaction(pool, tenant) as connection:
            row = await account_row(connection, tenant, account_id)
            if row is None:
                return False
            moment = at or row["now"]
            if not await connection.fetchval(_IS_LONG, row["id"], tenant, moment, MARKED_FROM):
                return True
            made = await connection.fetchval(
                "select mark_balances($1, $2, $3, $4)", row["id"], moment, MARK_EVERY, MARKED_AT_ONCE
            )
            if not made:
                return True
    return True


async def account_row(connection: Connection, tenant: str, account_id: str) -> asyncpg.Record | None:
    """Return what a fold needs of an account, and the time."""
    return await connection.fetchrow(
        "select id, account_id, currency, normal_side, created_at, now() as now from accounts"
        " where tenant = $1 and account_id = $2",
        tenant, account_id,
    )  # fmt: skip


async def fold(connection: Connection, tenant: str, account: int, at: datetime, by: By) -> tuple[int, Balance]:
    """Return how many entries of an account lie before a moment, and the counters that they leave."""
    row = await connection.fetchrow(_FOLDS[by], account, tenant, at)
    assert row is not None
    return int(row[0]), Balance(*(int(value) for value in row[1:]))


_MARK: Final = """
mark as (
    select at, entries, debits_pending, credits_pending, debits_posted, credits_posted
    from balance_marks where account = $1 and tenant = $2 and at < $3 order by at desc limit 1
)"""
_SINCE: Final = "coalesce((select at from mark), '-infinity')"
_IS_LONG: Final = f"""
with {_MARK}
select exists (select from postings where debit = $1 and tenant = $2 and at > {_SINCE} and at < $3
               order by at offset $4 limit 1)
    or exists (select from postings where credit = $1 and tenant = $2 and at > {_SINCE} and at < $3
               order by at offset $4 limit 1)
"""  # noqa: S608


def _sides(condition: str, sign: str = "") -> str:
    """Return both sides of the postings that fit, as counters of the account."""
    return f"""
    select {sign}count(*) as n, {sign}sum(pending) as dp, 0 as cp, {sign}sum(posted) as ds, 0 as cs
    from postings where debit = $1 and tenant = $2 and {condition}
    union all
    select {sign}count(*), 0, {sign}sum(pending), 0, {sign}sum(posted)
    from postings where credit = $1 and tenant = $2 and {condition}"""  # noqa: S608


def _fold(*sides: str) -> str:
    return f"""
with {_MARK}, sides as (
    select entries as n, debits_pending as dp, credits_pending as cp, debits_posted as ds, credits_posted as cs
    from mark
    union all {" union all ".join(sides)}
)
select coalesce(sum(n), 0), coalesce(sum(dp), 0), coalesce(sum(cp), 0), coalesce(sum(ds), 0), coalesce(sum(cs), 0)
from sides
"""  # noqa: S608


_RECORDED: Final = _sides(f"at > {_SINCE} and at < $3")
# What was recorded by then, and of what counts from another time what is missing and what does not count yet: of that
# there is an index.
_FOLDS: Final[Mapping[By, str]] = {
    "recorded": _fold(_RECORDED),
    "effective": _fold(
        _RECORDED,
        _sides("effective_at < $3 and at >= $3"),
        _sides("effective_at >= $3 and at < $3", "-"),
    ),
}
