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

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

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
MARKED_AT_ONCE: Final = 200_000  # entries, in one transaction: about a second
MARKINGS_MAX: Final = 10  # transactions that one request makes marks in


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
            since = (await _mark(connection, tenant, row["id"], moment))[0]
            if not await connection.fetchval(_IS_LONG, row["id"], tenant, moment, since, MARKED_FROM):
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
    since, *marked = await _mark(connection, tenant, account, at)
    row = await connection.fetchrow(_FOLDS[by], account, tenant, at, since)
    assert row is not None
    entries, *counters = (int(one) + int(other) for one, other in zip(marked, row, strict=True))
    return entries, Balance(*counters)


async def _mark(connection: Connection, tenant: str, account: int, at: datetime) -> Sequence[Any]:
    """Return the last mark before a moment: its time, how many entries it holds, and their counters.

    It is read by itself, because the planner has to know how little lies between a mark and the moment."""
    row = await connection.fetchrow(_MARK, account, tenant, at)
    return _NOTHING if row is None else tuple(row)


_NOTHING: Final = (datetime.min.replace(tzinfo=UTC), 0, 0, 0, 0, 0)
_MARK: Final = """
select at, entries, debits_pending, credits_pending, debits_posted, credits_posted
from balance_marks where account = $1 and tenant = $2 and at < $3 order by at desc limit 1
"""
_IS_LONG: Final = """
select exists (select from postings where debit = $1 and tenant = $2 and at < $3 and at > $4
               order by at offset $5 limit 1)
    or exists (select from postings where credit = $1 and tenant = $2 and at < $3 and at > $4
               order by at offset $5 limit 1)
"""


_SIDES: Final = """
    select {sign}count(*) as n, {sign}sum(pending) as dp, 0 as cp, {sign}sum(posted) as ds, 0 as cs
    from postings where debit = $1 and tenant = $2 and {condition}
    union all
    select {sign}count(*), 0, {sign}sum(pending), 0, {sign}sum(posted)
    from postings where credit = $1 and tenant = $2 and {condition}"""
_SUM: Final = """
select coalesce(sum(n), 0), coalesce(sum(dp), 0), coalesce(sum(cp), 0), coalesce(sum(ds), 0), coalesce(sum(cs), 0)
from ({}) sides
"""


def _fold(*terms: tuple[str, str]) -> str:
    """Return the sum of both sides of the postings that fit, as counters of the account, each with its sign."""
    return _SUM.format(" union all ".join(_SIDES.format(sign=sign, condition=condition) for sign, condition in terms))


_RECORDED: Final = ("", "at < $3 and at > $4")
# What was recorded by then, and of what counts from another time what is missing and what does not count yet: of that
# there is an index.
_FOLDS: Final[Mapping[By, str]] = {
    "recorded": _fold(_RECORDED),
    "effective": _fold(_RECORDED, ("", "effective_at < $3 and at >= $3"), ("-", "effective_at >= $3 and at < $3")),
}
