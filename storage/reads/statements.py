"""Statements: what an account began with, every entry in order with the balance after it, and what it ended with.

- The first page takes a snapshot, and later pages show what that snapshot held: opening + entries = closing, whatever
  is committed while somebody pages.
- Entries stand in the order of the time that the statement goes by, then of their ids; the interval has its beginning
  and not its end, as in `balances`.
- A page is one transaction, however long the statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from zentra.runtime.ledger.book import Balance
from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads.balances import By, account_row, fold, leave_marks
from zentra.storage.reads.entries import HELD

__all__ = ["Statement", "StatementEntry", "StatementPlace", "statement"]

Counters = tuple[int, int, int, int]


class StatementPlace(Struct, frozen=True, array_like=True):
    """The last entry that was shown, the counters after it, and what all pages share."""

    moment: datetime
    intent: str
    ordinal: int
    running: Counters
    since: datetime
    until: datetime
    opening: Counters
    closing: Counters
    snapshot: str
    taken_at: datetime


class StatementEntry(Struct, frozen=True, kw_only=True):
    """One side of a posting and the counters of the account after it. `intent_id` is None where no intent is behind."""

    intent: str
    intent_id: str | None
    ordinal: int
    at: datetime
    effective_at: datetime | None
    kind: str
    side: str
    other: str
    pending: int
    posted: int
    hash: bytes
    balance: Balance


class Statement(Struct, frozen=True, kw_only=True):
    """A page of a statement; `after` is the place behind which the next one begins, None where there is no more."""

    account_id: str
    currency: str
    normal_side: str
    since: datetime
    until: datetime
    opening: Balance
    closing: Balance
    entries: list[StatementEntry]
    after: StatementPlace | None


async def statement(
    pool: Pool, tenant: str, account_id: str, *, since: datetime | None, until: datetime | None, by: By,
    after: StatementPlace | None = None, limit: int = 100,
) -> Statement | None:  # fmt: skip
    """Return a page of the statement of the tenant's account, or None where there is no such account.

    It goes from `since`, its opening unless given, to `until`, now unless given. Raises Unavailable."""
    if after is None and not await leave_marks(pool, tenant, account_id, until):
        return None
    async with tenant_transaction(pool, tenant, snapshot=True) as connection:
        row = await account_row(connection, tenant, account_id)
        if row is None:
            return None
        place = after
        if place is None:
            end = until or row["now"]
            begin = min(since or _EARLIEST, end)
            taken = await connection.fetchrow("select pg_current_snapshot()::text, now()")
            assert taken is not None
            opening = (await fold(connection, tenant, row["id"], begin, by))[1]
            closing = (await fold(connection, tenant, row["id"], end, by))[1]
            place = StatementPlace(
                begin, _FIRST, -1, _counters(opening), begin, end, _counters(opening), _counters(closing), *taken
            )
        rows = await connection.fetch(
            _PAGES[by], tenant, row["id"], place.moment, place.intent, place.ordinal, place.snapshot, place.taken_at,
            place.until, limit + 1,
        )  # fmt: skip
    running, entries = Balance(*place.running), list[StatementEntry]()
    for found in rows[:limit]:
        running = _after(running, found["side"], found["pending"], found["posted"])
        entries.append(StatementEntry(**{name: found[name] for name in _FIELDS}, balance=running))
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = replace(
            place, moment=last["moment"], intent=last["intent"], ordinal=last["ordinal"], running=_counters(running)
        )
    return Statement(
        account_id=account_id, currency=row["currency"], normal_side=row["normal_side"], since=place.since,
        until=place.until, opening=Balance(*place.opening), closing=Balance(*place.closing), entries=entries,
        after=following,
    )  # fmt: skip


def _after(balance: Balance, side: str, pending: int, posted: int) -> Balance:
    """Return the counters after one more entry."""
    if side == "debit":
        return Balance(
            balance.debits_pending + pending, balance.credits_pending, balance.debits_posted + posted,
            balance.credits_posted,
        )  # fmt: skip
    return Balance(
        balance.debits_pending, balance.credits_pending + pending, balance.debits_posted,
        balance.credits_posted + posted,
    )  # fmt: skip


def _counters(balance: Balance) -> Counters:
    return balance.debits_pending, balance.credits_pending, balance.debits_posted, balance.credits_posted


_EARLIEST: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_FIRST: Final = "0" * 32
_FIELDS: Final = (
    "intent", "intent_id", "ordinal", "at", "effective_at", "kind", "side", "other", "pending", "posted", "hash",
)  # fmt: skip
_SIDE: Final = """
    (select intent, ordinal, at, effective_at, {moment} as moment, kind, '{side}' as side, {other} as opposite, pending,
            posted, hash
     from postings
     where {side} = $2 and tenant = $1 and {moment} >= $3 and {moment} < $8
        and ({moment}, intent, ordinal) > ($3, $4::uuid, $5::int) and {held}{only}
     order by {moment}, intent, ordinal limit $9)"""


def _page(*moments: tuple[str, str]) -> str:
    """Return a page whose entries are ordered by these times, each read along an index of its own."""
    sides = [
        _SIDE.format(side=side, other=other, moment=moment, only=only, held=HELD)
        for moment, only in moments
        for side, other in (("debit", "credit"), ("credit", "debit"))
    ]
    return f"""
with sides as ({" union all ".join(sides)}), page as (
    select * from sides order by moment, intent, ordinal limit $9
)
select p.*, a.account_id as other, i.intent_id
from page p join accounts a on a.id = p.opposite and a.tenant = $1
left join intents i on i.id = p.intent and i.tenant = $1
order by p.moment, p.intent, p.ordinal
"""  # noqa: S608


_PAGES: Final[Mapping[By, str]] = {
    "recorded": _page(("at", "")),
    "effective": _page(("at", " and effective_at is null"), ("effective_at", "")),
}
