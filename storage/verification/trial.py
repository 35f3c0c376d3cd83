"""The trial balance of the store: of the counters as they stand, or of the postings up to a time, in one snapshot.

As they stand, it is the books that are held that are added up, so a counter that is off shows. At a time it is the
postings, by when they were recorded or by when they count."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, TypeAlias

from zentra.runtime.verification.trial import AccountSums, TrialBalance, trial_balance
from zentra.storage.verification.snapshot import taken_snapshot

__all__ = ["By", "read_trial_balance"]

By: TypeAlias = Literal["recorded", "effective"]

_WHERE: Final = "where ($1::text is null or a.tenant = $1) and ($2::text is null or {book} = $2)"
_NOW: Final = """
select a.tenant, {book}, a.currency, a.type, coalesce(sum(b.debits_posted), 0)::text,
    coalesce(sum(b.credits_posted), 0)::text
from accounts a left join balances b on b.account = a.id {where}
group by a.id
"""
_THEN: Final = """
select a.tenant, {book}, a.currency, a.type, coalesce(s.debits, 0)::text, coalesce(s.credits, 0)::text
from accounts a left join (
    select account, sum(debits) as debits, sum(credits) as credits from (
        select debit as account, posted as debits, 0::bigint as credits from postings where {moment} < $3
        union all
        select credit, 0, posted from postings where {moment} < $3
    ) sides group by account
) s on s.account = a.id {where}
"""
_MOMENTS: Final = {"recorded": "at", "effective": "coalesce(effective_at, at)"}
_HAS_BOOKS: Final = """
select exists (select from pg_attribute where attrelid = 'zentra.accounts'::regclass and attname = 'book')
"""


async def read_trial_balance(
    url: str, *, tenant: str | None, book: str | None, at: datetime | None, by: By
) -> tuple[datetime, TrialBalance]:
    """Return the time as of which the trial balance is, and the trial balance; a posting of exactly `at` is not in it.

    Raises Misconfigured where the role does not see every tenant, and Unavailable."""
    async with taken_snapshot(url) as snapshot:
        connection = snapshot.connection
        named = "a.book" if await connection.fetchval(_HAS_BOOKS) else "'default'"
        where = _WHERE.format(book=named)
        if at is None:
            rows = await connection.fetch(_NOW.format(book=named, where=where), tenant, book)
        else:
            statement = _THEN.format(book=named, where=where, moment=_MOMENTS[by])
            rows = await connection.fetch(statement, tenant, book, at)
        moment = snapshot.at if at is None else at
    return moment, trial_balance(AccountSums(row[0], row[1], row[2], row[3], int(row[4]), int(row[5])) for row in rows)
