"""Recoveries in the store: their rows, and the pages that they walk.

- A page looks at a bounded number of rows along an index, and says where it ended: the next one begins behind that.
- Every statement names the tenant, and reads no rows but the tenant's: what one recovers costs the others nothing.
- What a page says of deliveries is true when the step commits: only the owner of the lane, who asks, changes them.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from zentra.runtime.webhooks.delivery import OF_ENDPOINTS, UNTOLD
from zentra.runtime.webhooks.recovery import (
    PAGE_DELIVERIES_MAX,
    PAGE_EVENTS_MAX,
    PAGE_EXAMINED_MAX,
    MissedIntent,
    Phase,
    Recovery,
    RecoveryPage,
    RecoveryStatus,
    Which,
    states_of,
)
from zentra.storage.pool import Connection, Pool

__all__ = ["ATTEMPT_COLUMNS", "attempt_row", "find_recoveries", "find_running", "next_page", "write_recoveries"]

# An id has the time of the gateway that made it, its row that of the database. Behind, by more than the first, an
# intent is found by its timer or its leaf; ahead, by as much as the second, by walking so much further: events are
# judged by the time of their rows anyway.
CLOCKS_APART: Final = timedelta(seconds=1)
CLOCK_AHEAD_MAX: Final = timedelta(minutes=15)
ATTEMPT_COLUMNS: Final = (
    "delivery", "number", "tenant", "trigger", "at", "status_code", "error", "latency_ms", "excerpt", "actor",
    "request_headers", "next_at",
)  # fmt: skip
_Walked = list[tuple[str, str]]  # (place behind it, intent) in the order of the walk


def attempt_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the columns of an attempt that was written in the order of `ATTEMPT_COLUMNS`."""
    headers = "" if not row[10] else msgspec.json.encode(dict(row[10])).decode()
    return (*row[:10], headers, row[11])


async def find_recoveries(pool: Pool, ids: Sequence[str]) -> dict[str, Recovery]:
    """Return the recoveries of these ids that there are."""
    return {row[0]: _recovery(row) for row in await pool.fetch(_FIND, ids)}


async def find_running(pool: Pool, tenants: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the endpoint of each recovery that is under way, by tenant and id."""
    found: dict[str, dict[str, str]] = {}
    for tenant, id, endpoint in await pool.fetch(_RUNNING, list(tenants)):
        found.setdefault(tenant, {})[id] = endpoint
    return found


async def write_recoveries(connection: Connection, recoveries: Iterable[Recovery], now: datetime) -> None:
    """Write recoveries as they stand, within the caller's transaction."""
    await connection.executemany(
        _WRITE,
        [
            (
                r.id, r.tenant, r.endpoint, r.which, r.since, r.before, list(r.events), r.principal, r.dry_run,
                r.status, r.phase, r.place, r.found, r.replayed, r.made, r.skipped, now,
            )
            for r in recoveries
        ],
    )  # fmt: skip


async def next_page(connection: Connection, recovery: Recovery) -> RecoveryPage:
    """Return what lies behind the place of a recovery."""
    if recovery.phase is Phase.DELIVERIES:
        return await _deliveries(connection, recovery)
    walked, more = await _WALKS[recovery.phase](connection, recovery)
    missed = await _missed(connection, recovery, {intent for _, intent in walked if intent})
    limit = PAGE_EVENTS_MAX * (5 if recovery.dry_run else 1)
    taken: dict[str, tuple[int, ...]] = {}
    events, place = 0, recovery.place
    for behind, intent in walked:
        if events >= limit:
            more = True
            break
        place = behind
        if intent in missed and intent not in taken:
            taken[intent] = missed[intent]
            events += len(missed[intent])
    records = await _records(connection, recovery.tenant, taken)
    found = tuple(MissedIntent(intent, sequences, records[intent]) for intent, sequences in taken.items())
    return RecoveryPage(place, not more, missed=found)


async def _deliveries(connection: Connection, recovery: Recovery) -> RecoveryPage:
    at, _, last = recovery.place.partition(" ")
    after = datetime.fromisoformat(at) if at else recovery.since
    rows = await connection.fetch(
        _DELIVERIES, recovery.tenant, recovery.endpoint, after, last or None, recovery.before, PAGE_EXAMINED_MAX
    )
    states, limit = states_of(recovery.which), PAGE_EXAMINED_MAX if recovery.dry_run else PAGE_DELIVERIES_MAX
    found: list[tuple[str, str]] = []
    place, more = recovery.place, len(rows) == PAGE_EXAMINED_MAX
    for id, event, created_at, status in rows:
        if len(found) == limit:
            more = True
            break
        place = f"{created_at.isoformat()} {id}"
        if status in states:
            found.append((id, event))
    return RecoveryPage(place, not more, deliveries=tuple(found))


async def _begun(connection: Connection, recovery: Recovery) -> tuple[_Walked, bool]:
    """Walk the intents that began within the time."""
    low, end = recovery.place or _id_at(recovery.since - CLOCKS_APART), _id_at(recovery.before + CLOCK_AHEAD_MAX)
    return await _walk(connection, _BEGUN, recovery.tenant, low, end)


async def _open(connection: Connection, recovery: Recovery) -> tuple[_Walked, bool]:
    """Walk the intents that began before and are not at their end: each has a timer."""
    low, end = recovery.place or "0" * 32, _id_at(recovery.since - CLOCKS_APART)
    return await _walk(connection, _OPEN, recovery.tenant, low, end)


async def _walk(connection: Connection, walk: str, tenant: str, low: str, end: str) -> tuple[_Walked, bool]:
    rows = await connection.fetch(walk, tenant, low, end, PAGE_EXAMINED_MAX)
    return [(row[0], row[0]) for row in rows], len(rows) == PAGE_EXAMINED_MAX


async def _sealed(connection: Connection, recovery: Recovery) -> tuple[_Walked, bool]:
    """Walk the intents that began before and have a leaf from since then: one follows the last event of an intent."""
    if recovery.place:
        index = int(recovery.place)
    else:
        index = await connection.fetchval(_LEAVES_BEFORE, recovery.tenant, recovery.since) or 0
    rows = await connection.fetch(_SEALED, recovery.tenant, index, PAGE_EXAMINED_MAX)
    end = _id_at(recovery.since - CLOCKS_APART)
    walked = [(str(row[0] + 1), row[1] if row[1] < end else "") for row in rows]
    return walked, len(rows) == PAGE_EXAMINED_MAX


async def _missed(connection: Connection, recovery: Recovery, intents: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the sequences of events within the time that the endpoint wants and has no delivery of, by intent: what it
    does not want would only fill pages."""
    if not intents:
        return {}
    wanted = await connection.fetchval(_WANTED, recovery.tenant, recovery.endpoint)
    rows = await connection.fetch(
        _MISSED, sorted(intents), recovery.tenant, recovery.endpoint, recovery.since, recovery.before,
        [f"{word}%" for word in UNTOLD], list(OF_ENDPOINTS),
        _patterns(wanted or ANY), _patterns(recovery.events or ANY),
    )  # fmt: skip
    return {row[0]: tuple(row[1]) for row in rows}


def _patterns(filters: Collection[str]) -> list[str]:
    """Return filters as patterns of LIKE, which let pass what they do, and perhaps more: whoever makes deliveries
    looks again."""
    return [f"{one.removesuffix('*')}%" if one.endswith("*") else one for one in filters]


async def _records(
    connection: Connection, tenant: str, taken: dict[str, tuple[int, ...]]
) -> dict[str, tuple[tuple[bytes, bytes], ...]]:
    if not taken:
        return {}
    rows = await connection.fetch(_RECORDS, list(taken), [max(found) for found in taken.values()], tenant)
    return {row[0]: tuple(zip(row[1], row[2], strict=True)) for row in rows}


def _id_at(at: datetime) -> str:
    """Return the lowest uuid of version 7 of that time; RFC 9562, 5.7."""
    return f"{min(max(0, int(at.timestamp() * 1000)), 2**48 - 1):012x}" + "0" * 20


def _recovery(row: Any) -> Recovery:
    return Recovery(
        id=row[0], tenant=row[1], endpoint=row[2], which=Which(row[3]), since=row[4].astimezone(UTC),
        before=row[5].astimezone(UTC), events=tuple(row[6]), principal=row[7], dry_run=row[8],
        status=RecoveryStatus(row[9]), phase=Phase(row[10]), place=row[11], found=row[12], replayed=row[13],
        made=row[14], skipped=row[15],
    )  # fmt: skip


ANY: Final = ("*",)
_WALKS: Final = {Phase.BEGUN: _begun, Phase.OPEN: _open, Phase.SEALED: _sealed}
_FIND: Final = """
select id, tenant, endpoint, which, since, before, events, principal, dry_run, status, phase, place, found, replayed,
    made, skipped
from recoveries where id = any($1::uuid[])
"""
_WRITE: Final = """
insert into recoveries (id, tenant, endpoint, which, since, before, events, principal, dry_run, status, phase, place,
    found, replayed, made, skipped, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)
on conflict (id) do update set status = excluded.status, phase = excluded.phase, place = excluded.place,
    found = excluded.found, replayed = excluded.replayed, made = excluded.made, skipped = excluded.skipped,
    updated_at = excluded.updated_at
"""
_DELIVERIES: Final = """
select d.id, d.event, d.created_at, coalesce(s.status, 'pending')
from deliveries d left join delivery_states s on s.delivery = d.id
where d.tenant = $1 and d.endpoint = $2 and d.created_at >= $3 and d.created_at < $5
    and ($4::uuid is null or (d.created_at, d.id) > ($3, $4))
order by d.created_at, d.id limit $6
"""
_RUNNING: Final = "select tenant, id, endpoint from recoveries where tenant = any($1::text[]) and status = 'running'"
# In the words of the index, which nothing else asks for: see the migration that makes it.
_BEGUN: Final = """
select id from intents
where (tenant || '/' || id::text) collate "C" > $1 || '/' || $2::uuid::text
    and (tenant || '/' || id::text) collate "C" < $1 || '/' || $3::uuid::text
order by (tenant || '/' || id::text) collate "C" limit $4
"""
_OPEN: Final = """
select key from timers where tenant = $1 and kind = 'intent' and key > $2 and key < $3 order by key limit $4
"""
_LEAVES_BEFORE: Final = """
select size from log_heads where tenant = $1 and at < $2 order by size desc limit 1
"""
_SEALED: Final = "select index, intent from log_leaves where tenant = $1 and index >= $2 order by index limit $3"
_WANTED: Final = "select events from endpoints where tenant = $1 and id = $2"
_MISSED: Final = """
select t.intent, array_agg(t.sequence order by t.sequence)
from transitions t
where t.intent = any($1::uuid[]) and t.tenant = $2 and t.at >= $4 and t.at < $5
    and (t.event not like all($6::text[]) or t.event = any($7::text[]))
    and t.event like any($8::text[]) and t.event like any($9::text[])
    and not exists (
        select from deliveries d
        where d.intent = t.intent and d.tenant = $2 and d.endpoint = $3 and d.sequence = t.sequence)
group by t.intent
"""
_RECORDS: Final = """
select t.intent, array_agg(t.record order by t.sequence), array_agg(t.hash order by t.sequence)
from unnest($1::uuid[], $2::int[]) as wanted(intent, last)
    join transitions t on t.intent = wanted.intent and t.sequence <= wanted.last and t.tenant = $3
group by t.intent
"""
