"""How rails are operated: drained, in maintenance, and what workers have counted of them.

What an operator says of a rail is in force from the next commit of every worker on, as all configuration is, and is
kept in a history. What workers count is replaced every few seconds and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.ports import RailCounts
from zentra.runtime.rails.health import Counts
from zentra.runtime.rails.operating import MAINTENANCE_MAX, Maintenance, RailOperation
from zentra.storage.errors import translated
from zentra.storage.pool import Connection, Pool, transaction

__all__ = [
    "RailEvent",
    "drain_rail",
    "exchange_health",
    "lift_maintenance",
    "rail_events",
    "rail_operations",
    "read_health",
    "set_maintenance",
]

EVENTS_MAX: Final = 100


class RailEvent(Struct, frozen=True):
    """Who said what of a rail, when."""

    rail: str
    action: str
    principal: str
    at: datetime
    detail: Any


async def rail_operations(pool: Pool) -> dict[str, RailOperation]:
    """Return what operators have said of rails; one of which they said nothing is absent. Raises Unavailable."""
    with translated():
        rows = await pool.fetch("select rail, draining, reason, maintenance from rail_operations")
    return {row[0]: _operation(row) for row in rows}


async def drain_rail(pool: Pool, rail: str, *, draining: bool, reason: str, by: str) -> bool:
    """Send nothing new to a rail, or send again; return whether that is another thing than before.

    Raises Refusal `rail_unknown`, Unavailable."""
    async with transaction(pool) as connection:
        known = await _known(connection, rail)
        if known.draining == draining:
            return False
        changed = RailOperation(draining, reason if draining else "", known.maintenance)
        await _write(connection, rail, changed, "drained" if draining else "resumed", by, {"reason": reason})
        return True


async def set_maintenance(pool: Pool, rail: str, window: Maintenance, *, by: str) -> None:
    """Plan a time in which a rail is not asked; windows that are over are forgotten.

    Raises Refusal `rail_unknown`, `maintenance_malformed` (it ends before it begins, or there are too many);
    Unavailable."""
    if window.until <= window.from_:
        raise Refusal("maintenance_malformed", "a window ends after it begins")
    async with transaction(pool) as connection:
        known, now = await _known(connection, rail), await connection.fetchval("select clock_timestamp()")
        windows = {one for one in known.maintenance if one.until > now} | {window}
        if len(windows) > MAINTENANCE_MAX:
            raise Refusal("maintenance_malformed", f"at most {MAINTENANCE_MAX} windows to come")
        planned = tuple(sorted(windows, key=lambda one: (one.from_, one.until)))
        changed = RailOperation(known.draining, known.reason, planned)
        await _write(connection, rail, changed, "maintenance_set", by, msgspec.to_builtins(window))


async def lift_maintenance(pool: Pool, rail: str, *, by: str) -> int:
    """Take back every planned window of a rail; return how many. Raises Refusal `rail_unknown`, Unavailable."""
    async with transaction(pool) as connection:
        known = await _known(connection, rail)
        if known.maintenance:
            changed = RailOperation(known.draining, known.reason)
            await _write(connection, rail, changed, "maintenance_lifted", by, {"windows": len(known.maintenance)})
        return len(known.maintenance)


async def rail_events(pool: Pool, rail: str) -> list[RailEvent]:
    """Return what operators have said of a rail, the last first; raises Unavailable."""
    with translated():
        rows = await pool.fetch(_EVENTS, rail, EVENTS_MAX)
    return [RailEvent(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4])) for row in rows]


async def exchange_health(
    pool: Pool, worker: str, counts: Sequence[RailCounts], lease_seconds: float
) -> tuple[int, list[RailCounts]]:
    """See Store.exchange_health."""
    with translated():
        await pool.execute(
            _PUT, worker, [row.rail for row in counts], [row.counts.calls for row in counts],
            [row.counts.failed for row in counts], [row.counts.slow for row in counts],
            [row.counts.seconds for row in counts], [row.circuit for row in counts], [row.waiting for row in counts],
            lease_seconds,
        )  # fmt: skip
        alive = await pool.fetchval(_ALIVE, worker, lease_seconds)
        rows = await pool.fetch(f"{_HEALTH} and h.worker <> $2 order by h.worker, h.rail", lease_seconds, worker)
    return alive, [_counts(row) for row in rows]


async def read_health(pool: Pool, lease_seconds: float) -> list[RailCounts]:
    """Return what the workers that are alive have counted; raises Unavailable."""
    with translated():
        rows = await pool.fetch(f"{_HEALTH} order by h.rail, h.worker", lease_seconds)
    return [_counts(row) for row in rows]


async def _known(connection: Connection, rail: str) -> RailOperation:
    if not await connection.fetchval("select true from rails where name = $1 for update", rail):
        raise Refusal("rail_unknown", f"no rail is called {rail!r}; see: zentra rails list")
    row = await connection.fetchrow(
        "select rail, draining, reason, maintenance from rail_operations where rail = $1", rail
    )
    return RailOperation() if row is None else _operation(row)


async def _write(
    connection: Connection, rail: str, changed: RailOperation, action: str, by: str, detail: dict[str, Any]
) -> None:
    windows = msgspec.json.encode(changed.maintenance).decode()
    await connection.execute(_OPERATION, rail, changed.draining, changed.reason, windows)
    await connection.execute(_EVENT, rail, action, by, msgspec.json.encode(detail).decode())


def _operation(row: Any) -> RailOperation:
    return RailOperation(row[1], row[2], msgspec.json.decode(row[3], type=tuple[Maintenance, ...]))


def _counts(row: Any) -> RailCounts:
    return RailCounts(row[0], row[1], Counts(row[2], row[3], row[4], row[5]), row[6], row[7])


_OPERATION: Final = """
insert into rail_operations (rail, draining, reason, maintenance) values ($1, $2, $3, $4)
on conflict (rail) do update set draining = excluded.draining, reason = excluded.reason,
    maintenance = excluded.maintenance
"""
_EVENT: Final = "insert into rail_events (rail, action, principal, detail) values ($1, $2, $3, $4)"
_EVENTS: Final = """
select rail, action, principal, at, detail from rail_events where rail = $1 order by number desc limit $2
"""
# Rows of workers that are long gone go with the next exchange of anybody.
_PUT: Final = """
with gone as (
    delete from rail_health
    where (worker = $1 and rail <> all($2::text[])) or at < clock_timestamp() - make_interval(secs => 10 * $9)
)
insert into rail_health (worker, rail, calls, failed, slow, seconds, circuit, waiting, at)
select $1, n.*, clock_timestamp()
from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::float8[], $7::text[], $8::int[]) as n
on conflict (worker, rail) do update set calls = excluded.calls, failed = excluded.failed, slow = excluded.slow,
    seconds = excluded.seconds, circuit = excluded.circuit, waiting = excluded.waiting, at = excluded.at
"""
_ALIVE: Final = """
select count(*) + 1 from members where worker <> $1 and seen_at > clock_timestamp() - make_interval(secs => $2)
"""
_HEALTH: Final = """
select h.worker, h.rail, h.calls, h.failed, h.slow, h.seconds, h.circuit, h.waiting
from rail_health h join members m on m.worker = h.worker
where m.seen_at > clock_timestamp() - make_interval(secs => $1) and h.at > clock_timestamp() - make_interval(secs => $1)
"""
