"""The commit of a tick: lock what it names, let it decide, write what it decided, all or nothing.

Invariants. Locks are taken in one order everywhere: leases by partition, velocity counters by key, balances by account
and stripe. The fence comes first: a lease row that does not hold the expected epoch and version takes its partition out
of the tick before anything is decided. Rows are only added; what is updated here are counters, leases and the mutable
halves of reviews, cases and deliveries."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec

from zentra.runtime.errors import DataError
from zentra.runtime.ledger.book import Balance
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.storage.copying import copy_heads, copy_leaves, copy_postings, copy_tiles, copy_transitions
from zentra.storage.engine.recoveries import ATTEMPT_COLUMNS, attempt_row, write_recoveries
from zentra.storage.few import (
    FEW_ROWS,
    Part,
    few_heads,
    few_leaves,
    few_outbox,
    few_postings,
    few_tiles,
    few_transitions,
    write_few,
)
from zentra.storage.outbox import outbox_rows, write_outbox
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["UUID_DIGITS", "commit_tick"]

UUID_DIGITS: Final = 32

_FENCE: Final = """
with fence as (
    select * from unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
        as f(partition, epoch, version, sequence, message_id)
), held as (
    select l.partition from leases l join fence f using (partition)
    where l.epoch = f.epoch and l.version = f.version
    order by l.partition for update of l
), moved as (
    update leases l set version = l.version + 1, sequence = f.sequence, message_id = f.message_id
    from fence f join held using (partition) where l.partition = f.partition
    returning l.partition
), consumed as (
    delete from outbox where id = any($6::uuid[]) and partition in (select partition from moved)
)
select clock_timestamp(), (select version from configuration_version), (select array_agg(partition) from moved)
"""
_READ_COUNTERS: Final = """
select v.tenant, v.counter, v.day, v.currency, v.count, v.minor, v.buckets
from velocity v join unnest($1::text[], $2::text[], $3::date[], $4::text[]) as k(tenant, counter, day, currency)
    using (tenant, counter, day, currency)
"""
_COUNTERS: Final = f"{_READ_COUNTERS} order by 1, 2, 3, 4 for update of v"
# A counter that somebody else begins at this moment is waited for here, and locked when they are read once more.
_BEGIN_COUNTERS: Final = """
insert into velocity (tenant, counter, day, currency)
select * from unnest($1::text[], $2::text[], $3::date[], $4::text[]) order by 1, 2, 3, 4 on conflict do nothing
returning tenant, counter, day, currency
"""
# The version once more: the fence may have waited for its rows, and read what held before. Now that it has them,
# whoever changes an account waits for this commit.
_READ_BALANCES: Final = """
select account, debits_pending, credits_pending, debits_posted, credits_posted
from balances where account = any($1::bigint[]) and stripe = 0
"""
_LOCK: Final = """
with locked as (
    select b.account, b.stripe, b.debits_pending, b.credits_pending, b.debits_posted, b.credits_posted
    from balances b join unnest($1::bigint[], $2::smallint[]) as k(account, stripe) using (account, stripe)
    order by b.account, b.stripe for update of b
)
select locked.*, v.version from configuration_version v left join locked on true
"""
_STRIPES: Final = """
insert into balances (account, stripe, tenant)
select * from unnest($1::bigint[], $2::smallint[], $3::text[]) order by 1, 2 on conflict do nothing
"""
_BALANCE: Final = """
update balances b set debits_pending = b.debits_pending + c.debits_pending,
    credits_pending = b.credits_pending + c.credits_pending,
    debits_posted = b.debits_posted + c.debits_posted, credits_posted = b.credits_posted + c.credits_posted
from unnest({0}::bigint[], {1}::smallint[], {2}::bigint[], {3}::bigint[], {4}::bigint[], {5}::bigint[])
    as c(account, stripe, debits_pending, credits_pending, debits_posted, credits_posted)
where b.account = c.account and b.stripe = c.stripe
"""
_VELOCITY: Final = """
update velocity v set count = v.count + c.count, minor = v.minor + c.minor
from unnest({0}::text[], {1}::text[], {2}::date[], {3}::text[], {4}::bigint[], {5}::bigint[])
    as c(tenant, counter, day, currency, count, minor)
where v.tenant = c.tenant and v.counter = c.counter and v.day = c.day and v.currency = c.currency
"""
_WINDOWS: Final = """
update velocity v set count = c.count, minor = c.minor, buckets = c.buckets::bigint[]
from unnest({0}::text[], {1}::text[], {2}::date[], {3}::text[], {4}::bigint[], {5}::bigint[], {6}::text[])
    as c(tenant, counter, day, currency, count, minor, buckets)
where v.tenant = c.tenant and v.counter = c.counter and v.day = c.day and v.currency = c.currency
"""
_TIMERS: Final = """
insert into timers (kind, key, name, partition, tenant, due_at)
select * from unnest({0}::text[], {1}::uuid[], {2}::text[], {3}::int[], {4}::text[], {5}::timestamptz[])
on conflict (kind, key, name) do update set due_at = excluded.due_at
"""
_UNTIMERS: Final = """
delete from timers t using unnest({0}::text[], {1}::uuid[], {2}::text[]) as c(kind, key, name)
where t.kind = c.kind and t.key = c.key and t.name = c.name
"""
_REVIEW_OPENED: Final = """
insert into reviews
    (id, round, tenant, intent_id, created_by, rules, version, opened_at, expires_at, due_at, approvals, kind, currency,
     minor, status)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'open')
on conflict (id) do update set round = excluded.round, rules = excluded.rules, version = excluded.version,
    opened_at = excluded.opened_at, expires_at = excluded.expires_at, due_at = excluded.due_at,
    approvals = excluded.approvals, status = 'open', assigned_to = null, level = 0, breached = false,
    approved_by = '{}', comments = 0, decided_by = null, decided_at = null, reason = null
"""
_REVIEW_CHANGED: Final = """
update reviews set assigned_to = $2, level = $3, breached = $4, approved_by = $5, comments = $6 where id = $1
"""
_DECISION_REFUSED: Final = """
update review_decisions set refused = $2 where command = $1
"""
_REVIEW_CLOSED: Final = """
update reviews set status = $2, decided_by = $3, decided_at = $4, reason = $5 where id = $1
"""
_CASE_OPENED: Final = """
insert into cases (id, tenant, intent, intent_id, kind, status, detail, opened_at, deadline, operator)
values ($1, $2, $3, $4, $5, 'open', $6, $7, $8, (select id from principals where tenant = $2 and role = 'operator'
    and disabled_at is null order by id is not distinct from (select principal from intents where id = $3), id limit 1))
on conflict (id) do nothing
"""
_CASE_RESOLVED: Final = """
update cases set status = 'resolved', operator = $2, resolution = $3, resolved_at = $4
where id = $1 and tenant = $5 and status = 'open'
"""
_DELIVERY_STATE: Final = """
update delivery_states d set status = c.status, attempts = c.attempts, tries = c.tries, trigger = c.trigger,
    next_at = c.next_at, actor = c.actor, updated_at = $7
from unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::text[], $6::timestamptz[], $8::text[])
    as c(delivery, status, attempts, tries, trigger, next_at, actor)
where d.delivery = c.delivery
"""
_LANE: Final = """
insert into endpoint_lanes (tenant, endpoint, sequence, failing_since, failed_at, failures)
values ($1, $2, $3, $4, $5, $6)
on conflict (tenant, endpoint) do update set sequence = excluded.sequence, failing_since = excluded.failing_since,
    failed_at = excluded.failed_at, failures = excluded.failures
"""
_DISABLED: Final = """
update endpoints set status = 'disabled', version = version + 1, disabled_reason = $3, disabled_at = $4,
    disabled_by = 'svc_events'
where tenant = $1 and id = $2 and status = 'enabled'
"""
_OUTCOME: Final = """
insert into command_outcomes (command, tenant, accepted, code, detail, decided_at) values ($1, $2, $3, $4, $5, $6)
"""
_CORRECTION: Final = """
insert into corrections (tenant, original, correction, at) values ($1, $2, $3, $4) on conflict do nothing
"""
_HOLDS: Final = """
insert into holds (intent, tenant, intent_id, account, account_id, currency, minor, remaining, captured, status,
    placed_at, expires_at, ended_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (intent) do update set remaining = excluded.remaining, captured = excluded.captured,
    status = excluded.status, ended_at = excluded.ended_at
"""
_CLAIM: Final = """
update callbacks set tenant = $3, intent = $4 where rail = $1 and event_id = $2 and intent is null
"""
_DENIAL: Final = """
insert into denials (tenant, actor, role, action, reason, minute, first_at, last_at, request_id)
values ($1, $2, $3, $4, $5, date_trunc('minute', $6::timestamptz), $6, $6, $7)
on conflict (tenant, actor, action, reason, minute)
do update set count = denials.count + 1, last_at = greatest(denials.last_at, excluded.last_at)
"""


async def commit_tick(
    pool: Pool,
    plan: TickPlan,
    decide: Callable[[Ground], TickWrites],
    draft: Callable[[Ground], Awaitable[TickWrites]] | None = None,
    turn: Callable[[], Awaitable[None]] | None = None,
) -> Ground:
    """Run one tick; see `zentra.runtime.ports.Store.commit` for what it returns and raises."""
    async with transaction(pool) as connection:
        ground = await _fenced(connection, plan)
        drafted = None
        if draft is not None:
            drafted = await draft(ground)
            await _write_owned(connection, drafted, ground.now)
        if turn is not None:
            await turn()
        await _lock(connection, plan, ground)
        writes = decide(ground)
        if writes is drafted:
            await write_few(connection, _additions(plan, writes))
        else:
            await _write_owned(connection, writes, ground.now, _additions(plan, writes))
        await _write_desk(connection, writes, ground.now)
    return ground


async def _fenced(connection: Connection, plan: TickPlan) -> Ground:
    """Pass the fences; return a ground that has only what the plan calls unknown."""
    fences = plan.fences
    now, version, moved = await connection.fetchrow(  # type: ignore[misc]  # one row, always
        _FENCE,
        [fence.partition for fence in fences],
        [fence.epoch for fence in fences],
        [fence.version for fence in fences],
        [fence.position.sequence for fence in fences],
        [fence.position.id for fence in fences],
        [key for _, key in plan.consumed],
    )
    lost = frozenset(fence.partition for fence in fences).difference(moved or ())
    ground = Ground(now, version, lost, {}, {})
    if plan.unknown_velocity:
        ground.usage = {key: Usage() for key in plan.unknown_velocity}
        await _read_counters(connection, _READ_COUNTERS, plan.unknown_velocity, ground)
    if plan.unknown_accounts:
        rows = await connection.fetch(_READ_BALANCES, [ref.id for ref in plan.unknown_accounts])
        ground.balances = {row[0]: Balance(row[1], row[2], row[3], row[4]) for row in rows}
    return ground


async def _lock(connection: Connection, plan: TickPlan, ground: Ground) -> None:
    """Lock counters and balances and put them on the ground."""
    ground.usage = {}
    if plan.velocity:
        await _lock_counters(connection, plan.velocity, ground)
    if plan.accounts:
        stripes = [0 if ref.guarded else plan.stripe for ref in plan.accounts]
        rows = await connection.fetch(_LOCK, [ref.id for ref in plan.accounts], stripes)
        ground.configuration_version = rows[0][6]
        found = {row[0]: Balance(row[2], row[3], row[4], row[5]) for row in rows if row[0] is not None}
        ground.balances.update((ref.id, found[ref.id]) for ref in plan.accounts if ref.guarded)
        new = [ref for ref in plan.accounts if ref.id not in found]
        if new:
            tenants = [ref.tenant for ref in new]
            await connection.execute(_STRIPES, [ref.id for ref in new], [plan.stripe] * len(new), tenants)


async def _lock_counters(connection: Connection, keys: Sequence[VelocityKey], ground: Ground) -> None:
    await _read_counters(connection, _COUNTERS, keys, ground)
    new = [key for key in keys if key not in ground.usage]
    if new:
        for row in await connection.fetch(_BEGIN_COUNTERS, *_columns(new)):
            ground.usage[_velocity_key(row)] = Usage()
        if others := [key for key in new if key not in ground.usage]:
            await _lock_counters(connection, others, ground)


async def _read_counters(connection: Connection, query: str, keys: Sequence[VelocityKey], ground: Ground) -> None:
    for row in await connection.fetch(query, *_columns(keys)):
        buckets = row[6]
        usage = Usage(row[4], row[5]) if buckets is None else Usage(row[4], row[5], _buckets(buckets))
        ground.usage[_velocity_key(row)] = usage


def _buckets(flat: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Return what a row holds as number, count and amount of one bucket after the other."""
    return tuple(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


def _velocity_key(row: Any) -> VelocityKey:
    return VelocityKey(row[0], row[1], row[2].isoformat(), row[3])


def _columns(keys: Sequence[VelocityKey]) -> tuple[list[Any], ...]:
    return (
        [key.tenant for key in keys],
        [key.counter for key in keys],
        [date.fromisoformat(key.day) for key in keys],
        [key.currency for key in keys],
    )


def _refuse_bad_ids(writes: TickWrites) -> None:
    """Raise DataError for ids from outside that no uuid column holds: an empty one would end the connection instead."""
    given = [key for _, key, _ in (*writes.timers_set, *writes.timers_cleared)]
    given += [row[0] for row in (*writes.command_outcomes, *writes.cases_resolved)]
    for key in given:
        if len(key) != UUID_DIGITS:
            raise DataError(f"not a uuid: {key[:64]!r}")


async def _write_owned(
    connection: Connection, writes: TickWrites, now: datetime, additions: Sequence[Part] = ()
) -> None:
    """Write what nobody else writes: it is fenced by the leases alone. A few rows go out together with `additions`."""
    _refuse_bad_ids(writes)
    if _is_few(writes):
        await write_few(connection, [*_few(writes), *_timers(writes), *additions])
    else:
        await _copy(connection, writes)
        await write_few(connection, [*_timers(writes), *additions])
    await _write_deliveries(connection, writes, now)


async def _copy(connection: Connection, writes: TickWrites) -> None:
    if len(writes.transitions) > writes.drafted:
        await copy_transitions(connection, writes.transitions[writes.drafted :])
    if writes.postings:
        await copy_postings(connection, writes.postings)
    if writes.outbox:
        await write_outbox(connection, writes.outbox)
    if writes.leaves:
        await copy_leaves(connection, writes.leaves)
        await copy_heads(connection, writes.heads)
    if writes.tiles:
        await copy_tiles(connection, writes.tiles)


def _few(writes: TickWrites) -> Iterator[Part]:
    """Yield the parts that add the same rows as `_copy`."""
    if len(writes.transitions) > writes.drafted:
        yield few_transitions(writes.transitions[writes.drafted :])
    if writes.postings:
        yield few_postings(writes.postings)
    if writes.outbox:
        yield few_outbox(outbox_rows(writes.outbox))
    if writes.leaves:
        yield few_leaves(writes.leaves)
        yield few_heads(writes.heads)
    if writes.tiles:
        yield few_tiles(writes.tiles)


def _is_few(writes: TickWrites) -> bool:
    rows = len(writes.transitions) + len(writes.postings) + len(writes.outbox) + len(writes.balance_changes)
    rows += len(writes.timers_set) + len(writes.timers_cleared) + len(writes.velocity_changes)
    rows += len(writes.velocity_windows)
    return rows + len(writes.leaves) + len(writes.tiles) + len(writes.heads) <= FEW_ROWS


def _additions(plan: TickPlan, writes: TickWrites) -> list[Part]:
    """Return what adds to rows that others add to as well, in the order of the locks."""
    parts: list[Part] = []
    if writes.velocity_changes:
        keys = tuple(writes.velocity_changes)
        counts = [writes.velocity_changes[key].count for key in keys]
        minors = [writes.velocity_changes[key].minor for key in keys]
        parts.append((_VELOCITY, (*_columns(keys), counts, minors)))
    if writes.velocity_windows:
        windows = writes.velocity_windows
        held = [windows[key] for key in windows]
        flat = ["{" + ",".join(str(figure) for bucket in usage.buckets for figure in bucket) + "}" for usage in held]
        counts, minors = [usage.count for usage in held], [usage.minor for usage in held]
        parts.append((_WINDOWS, (*_columns(tuple(windows)), counts, minors, flat)))
    if writes.balance_changes:
        changes = sorted(writes.balance_changes.items())
        columns = (
            [key for key, _ in changes],
            [0 if ref.guarded else plan.stripe for _, (ref, _) in changes],
            [change.debits_pending for _, (_, change) in changes],
            [change.credits_pending for _, (_, change) in changes],
            [change.debits_posted for _, (_, change) in changes],
            [change.credits_posted for _, (_, change) in changes],
        )
        parts.append((_BALANCE, columns))
    return parts


def _timers(writes: TickWrites) -> list[Part]:
    parts: list[Part] = []
    if writes.timers_set:
        timers = list(writes.timers_set.values())
        columns = (
            [t.kind for t in timers],
            [t.key for t in timers],
            [t.name for t in timers],
            [t.partition for t in timers],
            [t.tenant for t in timers],
            [t.due_at for t in timers],
        )
        parts.append((_TIMERS, columns))
    if writes.timers_cleared:
        parts.append((_UNTIMERS, list(zip(*writes.timers_cleared, strict=True))))
    return parts


async def _write_deliveries(connection: Connection, writes: TickWrites, now: datetime) -> None:
    if writes.deliveries:
        await connection.copy_records_to_table(
            "deliveries",
            columns=("id", "tenant", "endpoint", "intent", "sequence", "event", "body", "created_at"),
            records=[(d.id, d.tenant, d.endpoint, d.intent, n, d.event, d.body, now) for d, n in writes.deliveries],
        )
    begun = [writes.delivery_states[key] for key in writes.deliveries_begun]
    if begun:
        await connection.copy_records_to_table(
            "delivery_states",
            columns=(
                "delivery",
                "tenant",
                "endpoint",
                "status",
                "attempts",
                "tries",
                "trigger",
                "next_at",
                "updated_at",
                "sequence",
                "actor",
            ),
            records=[
                (d.id, d.tenant, d.endpoint, d.state, d.attempts, d.tries, d.trigger, next_at, now, d.sequence, d.actor)
                for d, next_at in begun
            ],
        )
    changed = [state for key, state in writes.delivery_states.items() if key not in writes.deliveries_begun]
    if changed:
        await connection.execute(
            _DELIVERY_STATE,
            [d.id for d, _ in changed],
            [d.state for d, _ in changed],
            [d.attempts for d, _ in changed],
            [d.tries for d, _ in changed],
            [d.trigger for d, _ in changed],
            [next_at for _, next_at in changed],
            now,
            [d.actor for d, _ in changed],
        )
    if writes.delivery_attempts:
        await connection.copy_records_to_table(
            "delivery_attempts",
            columns=ATTEMPT_COLUMNS,
            records=[attempt_row(row) for row in writes.delivery_attempts],
        )
    if writes.lanes:
        await connection.executemany(
            _LANE,
            [
                (*key, row.sequence, *msgspec.structs.astuple(row.health))
                for key, row in sorted(writes.lanes.items(), key=lambda entry: entry[0])
            ],
        )


async def _write_desk(connection: Connection, writes: TickWrites, now: datetime) -> None:
    """Write what people work on: reviews, cases, command outcomes, denials, endpoints. These are few."""
    if writes.reviews_opened:
        await connection.executemany(
            _REVIEW_OPENED, [(*row[:5], _json(row[5]), *row[6:]) for row in writes.reviews_opened]
        )
    if writes.reviews_changed:
        await connection.executemany(
            _REVIEW_CHANGED,
            [
                (key, desk.assigned_to, desk.level, desk.breached, list(desk.approved_by), desk.comments)
                for key, desk in writes.reviews_changed.items()
            ],
        )
    if writes.decisions_refused:
        await connection.executemany(_DECISION_REFUSED, writes.decisions_refused)
    if writes.reviews_closed:
        await connection.executemany(_REVIEW_CLOSED, writes.reviews_closed)
    if writes.cases_opened:
        await connection.executemany(
            _CASE_OPENED,
            [
                (c.id, c.tenant, c.intent, c.intent_id, c.kind, _json(c.detail), c.opened_at, c.deadline)
                for c in writes.cases_opened
            ],
        )
    if writes.cases_resolved:
        await connection.executemany(
            _CASE_RESOLVED,
            [(case, who, _json(how), at, tenant) for case, who, how, at, tenant in writes.cases_resolved],
        )
    if writes.holds:
        await connection.executemany(_HOLDS, [msgspec.structs.astuple(row) for row in writes.holds.values()])
    if writes.command_outcomes:
        await connection.executemany(_OUTCOME, [(*row[:4], _json(row[4]), row[5]) for row in writes.command_outcomes])
    if writes.corrections:
        await connection.executemany(_CORRECTION, writes.corrections)
    if writes.callbacks_claimed:
        await connection.executemany(_CLAIM, writes.callbacks_claimed)
    if writes.recoveries:
        await write_recoveries(connection, writes.recoveries.values(), now)
    if writes.endpoints_disabled:
        await connection.executemany(
            _DISABLED, [(d.tenant, d.endpoint, d.reason, d.at) for d in writes.endpoints_disabled.values()]
        )
    if writes.denials:
        await connection.executemany(
            _DENIAL, [(d.tenant, d.actor, d.role, d.action, d.reason, d.at, d.request_id) for d in writes.denials]
        )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
