"""What a tenant may read of its deliveries one by one: attempts in full, recoveries, and the health of endpoints.

- Every read runs under row security and names its tenant as well.
- Health is counted from the deliveries themselves: those of the last day, along the index of each endpoint, and a
  bounded number of them, the newest. Nothing is written for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.reads.walking import Filters, Slice, walk
from zentra.storage.reads.work import DeliveryView, deliveries_by_id

__all__ = [
    "AttemptDetail", "AttemptPlace", "EndpointHealth", "RecoveryPlace", "RecoveryState", "WebhookHealth", "attempts",
    "delivery", "endpoint_health", "endpoint_status", "health", "records_until", "recoveries", "recovery",
]  # fmt: skip

COUNTED_MAX: Final = 20_000  # deliveries that one look at the health reads, over all endpoints: tens of milliseconds
COUNTED_MIN: Final = 200  # of each endpoint, however many there are
ENDPOINTS_MAX: Final = 100
DUE_AFTER_SECONDS: Final = 60  # the first attempt begins at once, and has ended within a minute


class AttemptPlace(Struct, frozen=True, array_like=True):
    """The number of the last attempt."""

    number: int


class RecoveryPlace(Struct, frozen=True, array_like=True):
    """The last recovery."""

    created_at: datetime
    id: str


class AttemptDetail(Struct, frozen=True, kw_only=True):
    """An attempt with all that is kept of it. `trigger` is what started the schedule that it belongs to: `automatic`,
    `manual` (somebody asked for this delivery) or `replay` (somebody asked for many); `actor` is that somebody."""

    number: int
    trigger: str
    actor: str
    at: datetime
    latency_ms: int
    status_code: int | None
    error: str | None
    next_at: datetime | None
    request_headers: dict[str, str]
    response_body: str


class RecoveryState(Struct, frozen=True, kw_only=True):
    """A recovery: what was asked, by whom, and how far it is."""

    id: str
    endpoint: str
    which: str
    since: datetime
    before: datetime
    events: tuple[str, ...]
    dry_run: bool
    status: str
    found: int
    replayed: int
    made: int
    skipped: int
    created_by: str
    created_at: datetime
    updated_at: datetime


class EndpointHealth(Struct, frozen=True, kw_only=True):
    """How one endpoint does. `health` is delivered / due, None where nothing was due. `counted_from` is since when, and
    later than a day ago where `complete` is false: then only the newest deliveries were counted."""

    endpoint: str
    status: str
    due: int
    delivered: int
    retrying: int
    exhausted: int
    health: float | None
    complete: bool
    counted_from: datetime


class WebhookHealth(Struct, frozen=True, kw_only=True):
    """How the endpoints of a tenant do, together and one by one."""

    due: int
    delivered: int
    health: float | None
    complete: bool
    endpoints: tuple[EndpointHealth, ...]


async def delivery(pool: Pool, tenant: str, id: str) -> DeliveryView | None:
    """Return the tenant's delivery of this uuid with its attempts, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        found = await deliveries_by_id(connection, tenant, [id])
    return found[0] if found else None


async def attempts(
    pool: Pool, tenant: str, id: str, *, after: AttemptPlace | None, limit: int
) -> Slice[AttemptDetail, AttemptPlace]:
    """Return a page of the attempts of a delivery, the last one first; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_ATTEMPTS, tenant, id, None if after is None else after.number, limit + 1)
    found = [
        AttemptDetail(
            **{**row, "request_headers": msgspec.json.decode(row["request_headers"]) if row["request_headers"] else {}}
        )
        for row in rows[:limit]
    ]
    return Slice(found, AttemptPlace(found[-1].number) if len(rows) > limit else None)


async def endpoint_status(pool: Pool, tenant: str, endpoint: str) -> str | None:
    """Return whether the tenant's endpoint is enabled or disabled, or None where there is none; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        status: str | None = await connection.fetchval(
            "select status from endpoints where tenant = $1 and id = $2 and status <> 'deleted'", tenant, endpoint
        )
    return status


async def recovery(pool: Pool, tenant: str, id: str) -> RecoveryState | None:
    """Return the tenant's recovery of this uuid, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(
            _ONE_RECOVERY,
            tenant,
            id,
        )
    return None if row is None else RecoveryState(**{**row, "events": tuple(row["events"])})


async def recoveries(
    pool: Pool, tenant: str, filters: Filters, *, after: RecoveryPlace | None, limit: int
) -> Slice[RecoveryState, RecoveryPlace]:
    """Return a page of the tenant's recoveries, the newest first.

    Filters: `created_from`, `created_before`, `endpoint`, `status`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="recoveries", columns=_RECOVERY, order=_RECOVERY_ORDER,
            known=_RECOVERY_FILTERS, filters=filters, after=None if after is None else (after.created_at, after.id),
            limit=limit,
        )  # fmt: skip
    found = [RecoveryState(**{**row, "events": tuple(row["events"])}) for row in rows]
    return Slice(found, None if end is None else RecoveryPlace(*end))


async def health(pool: Pool, tenant: str) -> WebhookHealth:
    """Return how the tenant's endpoints do, the oldest first, at most ENDPOINTS_MAX of them; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_ENDPOINTS, tenant, ENDPOINTS_MAX)
        found = await _health_of(connection, tenant, [row[0] for row in rows])
    due, delivered = sum(one.due for one in found), sum(one.delivered for one in found)
    return WebhookHealth(
        due=due, delivered=delivered, health=_share(delivered, due), complete=all(one.complete for one in found),
        endpoints=tuple(found),
    )  # fmt: skip


async def endpoint_health(pool: Pool, tenant: str, endpoint: str) -> EndpointHealth | None:
    """Return how one endpoint does, or None where the tenant has none of this id; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        found = await _health_of(connection, tenant, [endpoint])
    return found[0] if found else None


async def _health_of(connection: Connection, tenant: str, endpoints: list[str]) -> list[EndpointHealth]:
    most = max(COUNTED_MIN, COUNTED_MAX // max(1, len(endpoints)))
    rows = await connection.fetch(_HEALTH, tenant, endpoints, most, DUE_AFTER_SECONDS)
    return [
        EndpointHealth(
            endpoint=row["endpoint"], status=row["status"], due=row["due"], delivered=row["delivered"],
            retrying=row["retrying"], exhausted=row["exhausted"], health=_share(row["delivered"], row["due"]),
            complete=row["counted"] < most, counted_from=row["day"] if row["counted"] < most else row["oldest"],
        )
        for row in rows
    ]  # fmt: skip


def _share(delivered: int, due: int) -> float | None:
    return round(delivered / due, 4) if due else None


async def records_until(pool: Pool, tenant: str, intent: str, sequence: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return the first records of the tenant's intent with their hashes, up to this one; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(
            "select record, hash from transitions where intent = $2 and tenant = $1 and sequence <= $3"
            " order by sequence", tenant, intent, sequence,
        )  # fmt: skip
    return tuple((row[0], row[1]) for row in rows)


_ENDPOINTS: Final = """
select id from endpoints where tenant = $1 and status <> 'deleted' order by created_at, id limit $2
"""
_ATTEMPTS: Final = """
select number, trigger, actor, at, latency_ms, status_code, error, next_at, request_headers, excerpt as response_body
from delivery_attempts where tenant = $1 and delivery = $2 and ($3::int is null or number < $3)
order by number desc limit $4
"""
_RECOVERY: Final = (
    "id, endpoint, which, since, before, events, dry_run, status, found, replayed, made, skipped,"
    " principal as created_by, created_at, updated_at"
)
_ONE_RECOVERY: Final = f"select {_RECOVERY} from recoveries where tenant = $1 and id = $2"  # noqa: S608 - of constants
_RECOVERY_ORDER: Final = {"created_at": "timestamptz", "id": "uuid"}
_RECOVERY_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "created_at >= {}",
    "created_before": "created_at < {}",
    "endpoint": "endpoint = {}",
    "status": "status = {}",
}
# Delivered by the schedule: taken, and nobody had to ask for it. What was asked for again counts where an attempt of
# the schedule had been taken before; those are few, so their attempts are looked at.
_HEALTH: Final = """
select e.id as endpoint, e.status, now() - interval '24 hours' as day, c.*
from endpoints e cross join lateral (
    select count(*)::int as counted, min(n.created_at) as oldest,
        count(*) filter (where n.due)::int as due,
        count(*) filter (where n.taken)::int as delivered,
        count(*) filter (where n.status = 'retrying')::int as retrying,
        count(*) filter (where n.status = 'exhausted')::int as exhausted
    from (
        select d.created_at, s.status,
            coalesce(s.status, 'pending') in ('delivered', 'retrying', 'exhausted') or s.attempts > 1
                or d.created_at < now() - make_interval(secs => $4) as due,
            (s.status = 'delivered' and s.trigger = 'automatic') or (s.trigger <> 'automatic' and exists (
                select from delivery_attempts a where a.delivery = d.id and a.tenant = $1
                    and a.trigger = 'automatic' and a.status_code between 200 and 299)) as taken
        from (
            select id, created_at from deliveries
            where tenant = $1 and endpoint = e.id and created_at >= now() - interval '24 hours'
            order by created_at desc limit $3
        ) d left join delivery_states s on s.delivery = d.id and s.tenant = $1
    ) n
) c
where e.tenant = $1 and e.id = any($2::text[])
order by e.created_at, e.id
"""
