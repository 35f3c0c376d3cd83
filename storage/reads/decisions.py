"""Past decisions of a tenant, as they are replayed: by intent to explain one, in order of time to test a policy.

Intents are walked along their primary key, which begins with the time, a page at a time. What is read of each is its
registration, its decisions, the reviews that were approved, and when it gave back what it had been counted for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy.replay import Past, decisions_in
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = ["PastIntent", "accounts_named", "decisions_of", "past_intents"]

PAGE_INTENTS: Final = 250  # some ten milliseconds of whoever reads


class PastIntent(Struct, frozen=True):
    """An intent's decisions in order, and when it gave back what it was counted for."""

    decisions: tuple[Past, ...]
    failed_at: str | None


async def decisions_of(pool: Pool, tenant: str, given: str) -> tuple[Past, ...] | None:
    """Return the decisions on an intent, named by its intent_id or uuid; None where there is no such intent."""
    digits = given.replace("-", "").lower()
    uuid = digits if len(digits) == 32 and set(digits) <= set("0123456789abcdef") else None
    async with tenant_transaction(pool, tenant) as connection:
        found = await connection.fetchval(
            "select id from intents where tenant = $1 and (intent_id = $2 or id = $3)"
            " order by intent_id = $2 desc limit 1",
            tenant, given, uuid,
        )  # fmt: skip
        if found is None:
            return None
        return (await _read(connection, tenant, [found]))[0].decisions


async def past_intents(
    pool: Pool, tenant: str, *, since: datetime | None, until: datetime | None, limit: int
) -> AsyncIterator[list[PastIntent]]:
    """Yield the tenant's intents that were registered from `since` to before `until`, oldest first, in pages.

    Where there are more than `limit` these are the latest of them."""
    ends = _LAST if until is None else _place(until)
    async with tenant_transaction(pool, tenant) as connection:
        begins = _FIRST_ID if since is None else _place(since)
        after: str | None = await connection.fetchval(_FIRST, tenant, begins, ends, limit)
    left = limit
    while left > 0 and after is not None:
        async with tenant_transaction(pool, tenant) as connection:
            rows = await connection.fetch(_PAGE, tenant, after, ends, min(PAGE_INTENTS, left))
            if not rows:
                return
            ids = [row[0] for row in rows]
            found = await _read(connection, tenant, ids)
        after, left = _following(ids[-1]), left - len(ids)
        yield found


async def accounts_named(pool: Pool, tenant: str, names: Collection[str]) -> dict[str, AccountRef]:
    """Return the accounts of these ids, by id, with their parties as they are now, as a decision takes them: an
    approval that has run out is none, whether that was noted or not."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_ACCOUNTS, tenant, sorted(names))
    return {row[2]: _account(row) for row in rows}


def _account(row: Any) -> AccountRef:
    ref = AccountRef(*row[:9])
    return ref if row[9] is None else replace(ref, party=PartyRef(*row[9:13]).as_of(row[13]))


async def _read(connection: Connection, tenant: str, ids: list[str]) -> list[PastIntent]:
    rows = await connection.fetch(_RECORDS, tenant, ids, str(State.FAILED))
    records: dict[str, list[bytes]] = {key: [] for key in ids}
    failed: dict[str, datetime] = {}
    for intent, at, event, state, record in rows:
        if state == State.FAILED:
            failed.setdefault(intent, at)
        if event in _READ:
            records[intent].append(record)
    found = []
    for key in ids:
        if records[key]:
            at = failed.get(key)
            found.append(PastIntent(tuple(decisions_in(records[key])), None if at is None else timestamp(at)))
    return found


def _following(uuid: str) -> str:
    return f"{int(uuid, 16) + 1:032x}"


def _place(at: datetime) -> str:
    """Return the least id of that time: ids begin with the milliseconds since the epoch."""
    return f"{max(int(at.timestamp() * 1000), 0):012x}{0:020x}"


_READ: Final = frozenset({"ingress.accepted", "policy.accepted", "policy.review", "policy.denied", "review.approved"})
_FIRST_ID: Final = "0" * 32
_LAST: Final = "f" * 32
_FIRST: Final = """
select replace(min(id::text), '-', '') from (
    select id from intents where tenant = $1 and id >= $2 and id < $3 order by id desc limit $4
) latest
"""
_PAGE: Final = "select id from intents where tenant = $1 and id >= $2 and id < $3 order by id limit $4"
_RECORDS: Final = """
select intent, at, event, state, record from transitions
where tenant = $1 and intent = any($2::uuid[]) and (state = $3 or event in
    ('ingress.accepted', 'policy.accepted', 'policy.review', 'policy.denied', 'review.approved'))
order by intent, sequence
"""
_ACCOUNTS: Final = """
select a.id, a.tenant, a.account_id, a.type, a.currency, a.normal_side, a.guarded, a.overdraft_limit, a.status,
    p.party_id, p.kyc_state, p.screening_state, p.kyc_expires_at, now()
from accounts a left join parties p on p.tenant = a.tenant and p.party_id = a.party
where a.tenant = $1 and a.account_id = any($2::text[])
"""
