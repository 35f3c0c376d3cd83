"""What is shown of routing: the way of an intent, and how the rails do that a tenant's corridors lead to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from zentra.runtime.ports import RailCounts
from zentra.runtime.rails.explaining import RouteShown, explain_route
from zentra.runtime.rails.health import CircuitState, Counts
from zentra.runtime.rails.operating import Maintenance, RailOperation
from zentra.runtime.rails.port import RailMode, RailSettings
from zentra.storage.operations import rail_operations, read_health
from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads.border import rails
from zentra.storage.routes import ROUTES, corridors_in_force

__all__ = ["RailLimits", "RailShown", "rails_shown", "route_of"]


class RailLimits(Struct, frozen=True):
    """What a rail is asked at the most, 0 where there is no limit: calls at once and waiting of each worker, and calls
    a second of all of them."""

    concurrency_max: int
    waiting_max: int
    rate_per_second: float
    burst: int


class RailShown(Struct, frozen=True, kw_only=True):
    """How a rail does. `circuit` is the worst of its workers', of which `workers` counts each state; figures are of all
    calls within the window, null where there were none. `resting` says why nothing new is sent to it, if so."""

    name: str
    mode: RailMode
    circuit: CircuitState
    workers: dict[str, int]
    bad_percent: float | None
    latency_ms: float | None
    waiting: int
    window_seconds: float
    limits: RailLimits
    draining: bool
    reason: str
    maintenance: tuple[Maintenance, ...]
    resting: str | None


async def route_of(pool: Pool, tenant: str, given: str) -> RouteShown | None:
    """Return the way of an intent, named by its intent_id or uuid; None where the tenant has no such intent.

    Raises Unavailable."""
    digits = given.replace("-", "").lower()
    uuid = digits if len(digits) == 32 and set(digits) <= set("0123456789abcdef") else None
    async with tenant_transaction(pool, tenant) as connection:
        found = await connection.fetchval(_INTENT, tenant, given, uuid)
        if found is None:
            return None
        rows = await connection.fetch(_RECORDS, tenant, found)
    records = [row[0] for row in rows]
    documents: dict[int, Any] = {}
    for version in {msgspec.json.decode(data, type=_Versioned).facts.version for data in records} - {0}:
        view = await ROUTES.show(pool, tenant, version)
        if view is not None:
            documents[version] = view.document
    return explain_route(records, documents)


async def rails_shown(
    writer: Pool, lease_seconds: float, now: datetime, *, only: tuple[Pool, str] | None = None
) -> list[RailShown]:
    """Return the rails by name; `only` those of a tenant's corridors, by its pool. Raises Unavailable."""
    known = await rails(writer)
    if only is not None:
        pool, tenant = only
        async with tenant_transaction(pool, tenant) as connection:
            corridors = await corridors_in_force(connection, tenant)
        known = {name: known[name] for corridor in corridors for name in corridor.rails if name in known}
    operations, counted = await rail_operations(writer), await read_health(writer, lease_seconds)
    return [
        _shown(known[name], operations.get(name, RailOperation()), [row for row in counted if row.rail == name], now)
        for name in sorted(known)
    ]


def _shown(settings: RailSettings, operation: RailOperation, rows: list[RailCounts], now: datetime) -> RailShown:
    total = sum((row.counts for row in rows), Counts())
    states = {state: sum(row.circuit == state for row in rows) for state in CircuitState}
    worst = next((s for s in (CircuitState.OPEN, CircuitState.HALF_OPEN) if states[s]), CircuitState.CLOSED)
    calls = total.calls
    return RailShown(
        name=settings.name, mode=settings.mode, circuit=worst, workers={str(s): count for s, count in states.items()},
        bad_percent=round(100 * total.bad / calls, 1) if calls else None,
        latency_ms=round(1000 * total.seconds / calls, 1) if calls else None,
        waiting=sum(row.waiting for row in rows), window_seconds=settings.health_window_seconds,
        limits=RailLimits(
            settings.concurrency_max, settings.waiting_max, settings.rate_per_second, settings.burst
        ),
        draining=operation.draining, reason=operation.reason,
        maintenance=tuple(one for one in operation.maintenance if one.until > now),
        resting=operation.resting(now) or None,
    )  # fmt: skip


class _Version(Struct):
    version: int = 0


class _Versioned(Struct):
    facts: _Version


_INTENT = """
select id from intents where tenant = $1 and (intent_id = $2 or id = $3) order by intent_id = $2 desc limit 1
"""
_RECORDS = """
select record from transitions where tenant = $1 and intent = $2 and (sequence = 1 or event in
    ('provider.routed', 'provider.failover', 'provider.awaited', 'provider.callback', 'ledger.released')
    or sequence = (select max(sequence) from transitions where intent = $2))
order by sequence
"""
