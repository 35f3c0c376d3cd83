"""What a tenant's store holds in the end, read past every door in one snapshot, in the order of its commits.

- Rows of one transaction carry its number, so what was committed together is known exactly.
- The order is that in which the database ended its transactions, where it keeps these times (`keep_commit_times`). A
  row lock is held until then, so on every account it is the order in which things happened. Without them it is that of
  the times in the rows, which agree with it as long as one worker commits at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from typing import Any, Final

import msgspec

from zentra.bench.histories.model import Account, Commit, Ending, Event, Intent, Limits, Posting, StoredKey
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["keep_commit_times", "read_ending", "unsettled"]

_TRANSITIONS: Final = """
select xmin::text as commit, at, intent, sequence, event, state,
    case when event in ('ledger.refused', 'policy.denied', 'policy.review')
        then convert_from(record, 'UTF8')::json -> 'facts' end as facts
from transitions where tenant = $1 order by intent, sequence
"""
_POSTINGS: Final = """
select p.xmin::text as commit, p.at, p.intent, p.ordinal, p.kind, d.account_id as debit, c.account_id as credit,
    p.currency, p.pending, p.posted
from postings p join accounts d on d.id = p.debit join accounts c on c.id = p.credit
where p.tenant = $1 order by p.intent, p.ordinal
"""
_ENDED: Final = """
select number::text, pg_xact_commit_timestamp(number::text::xid) from unnest($1::bigint[]) as given (number)
"""
_ACCOUNTS: Final = """
select a.account_id, a.currency, a.type, a.normal_side, a.guarded, a.overdraft_limit, a.status, a.created_at,
    coalesce(sum(b.debits_pending), 0)::bigint, coalesce(sum(b.credits_pending), 0)::bigint,
    coalesce(sum(b.debits_posted), 0)::bigint, coalesce(sum(b.credits_posted), 0)::bigint
from accounts a left join balances b on b.account = a.id where a.tenant = $1 group by a.id
order by a.id
"""
_INTENTS: Final = "select id, intent_id, key, command, role from intents where tenant = $1"
_KEYS: Final = "select key, subject, answer from idempotency where tenant = $1"
_CASES: Final = "select intent from cases where tenant = $1 and status = 'open' and intent is not null"
_POLICIES: Final = "select rules -> 'limits' from policies where tenant = $1"
_UNSETTLED: Final = """
select count(*) from intents i
cross join lateral (select state from transitions where intent = i.id order by sequence desc limit 1) as last
where i.tenant = $1 and last.state not in ('SUCCESSFUL', 'FAILED', 'RECONCILED', 'REVERSED', 'REVIEW')
    and not exists (select from cases c where c.intent = i.id and c.status = 'open')
"""


async def keep_commit_times(pool: Pool) -> None:
    """Have the database keep the time of every commit from its next start on; it takes a superuser's pool.

    The caller restarts the server afterwards."""
    async with pool.acquire() as connection:
        await connection.execute("alter system set track_commit_timestamp = on")


async def unsettled(pool: Pool, tenant: str) -> int:
    """Return how many intents of a tenant go on by themselves."""
    return int(await pool.fetchval(_UNSETTLED, tenant))


async def read_ending(pool: Pool, tenant: str) -> Ending:
    """Return everything of a tenant that the check of a history needs; `pool` sees every tenant.

    Raises Unavailable where the store cannot answer."""
    async with transaction(pool) as connection:
        await connection.execute("set transaction isolation level repeatable read, read only")
        await connection.execute("set local transaction_timeout = 0")
        commits, times, exact = await _commits(connection, tenant)
        accounts: dict[str, Account] = {}
        balances = {}
        for row in await connection.fetch(_ACCOUNTS, tenant):
            name, currency, kind, side, guarded, limit, status, created, *counters = row
            accounts[name] = Account(
                account_id=name, currency=currency, type=kind, side=side, guarded=guarded, limit=limit, status=status,
                opened=bisect_left(times, created),
            )  # fmt: skip
            balances[name] = (counters[0], counters[1], counters[2], counters[3])
        intents = [
            Intent(id=row[0], intent_id=row[1], key=row[2], command=msgspec.json.decode(row[3]), role=row[4])
            for row in await connection.fetch(_INTENTS, tenant)
        ]
        keys = {
            row[0]: StoredKey(row[1].removeprefix("intent/") if row[1].startswith("intent/") else "", row[2].decode())
            for row in await connection.fetch(_KEYS, tenant)
        }
        cases = frozenset(row[0] for row in await connection.fetch(_CASES, tenant))
        policies = [_json(row[0]) for row in await connection.fetch(_POLICIES, tenant)]
    return Ending(
        accounts=accounts, intents=intents, keys=keys, commits=commits, balances=balances, cases=cases, exact=exact,
        limits=_limits(policies[0]) if len(policies) == 1 else {},
    )  # fmt: skip


async def _commits(connection: Connection, tenant: str) -> tuple[list[Commit], list[datetime], bool]:
    """Return the commits in order, the moment of each, and whether these are the database's own."""
    events: dict[str, list[Event]] = defaultdict(list)
    postings: dict[str, list[Posting]] = defaultdict(list)
    written: dict[str, datetime] = {}
    for row in await connection.fetch(_TRANSITIONS, tenant):
        number, at, facts = row[0], row[1], _json(row[6])
        codes = (facts["code"],) if "code" in facts else tuple(facts.get("reasons", ()))
        event = Event(intent=row[2], sequence=row[3], event=row[4], state=row[5], codes=codes)
        events[number].append(event)
        written[number] = min(at, written.get(number, at))
    for row in await connection.fetch(_POSTINGS, tenant):
        number, at = row[0], row[1]
        postings[number].append(
            Posting(
                intent=row[2], ordinal=row[3], kind=row[4], debit=row[5], credit=row[6], currency=row[7],
                pending=row[8], posted=row[9], at=at.isoformat(),
            )
        )  # fmt: skip
        written[number] = min(at, written.get(number, at))
    ended: dict[str, datetime | None] = dict.fromkeys(written)
    if await connection.fetchval("select current_setting('track_commit_timestamp')") == "on":
        rows = await connection.fetch(_ENDED, [int(number) for number in written])
        ended |= {row[0]: row[1] for row in rows}
    # What was committed before the database began to keep times stands before the rest, by the times in its rows.
    order = sorted(written, key=lambda number: (ended[number] is not None, ended[number] or written[number]))
    commits = [Commit(tuple(events[number]), tuple(postings[number])) for number in order]
    # An account is opened at the start of a transaction and a row says when its tick began, so these compare.
    times = [written[number] for number in order]
    return commits, times, bool(order) and ended[order[-1]] is not None


def _json(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str | bytes) else value or {}


def _limits(rules: dict[str, Any]) -> dict[str, Limits]:
    return {
        currency: Limits(limits.get("transaction_minor_max"), limits.get("review_minor_min"))
        for currency, limits in rules.items()
        if currency != "*"
    }
