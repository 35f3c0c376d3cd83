"""What a tenant may read of its endpoints: how each is set up, how its lane stands, and its secrets, sealed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.webhooks.terms import EndpointTerms
from zentra.storage.pool import Pool, tenant_transaction

__all__ = ["EndpointRow", "endpoint", "endpoints"]


class EndpointRow(Struct, frozen=True, kw_only=True):
    """An endpoint as stored; `now` is the time at which it was so."""

    id: str
    url: str
    events: tuple[str, ...]
    terms: EndpointTerms
    secrets: tuple[bytes, ...]
    secrets_until: tuple[datetime | None, ...]
    keys: tuple[bytes, ...]
    keys_until: tuple[datetime | None, ...]
    status: str
    version: int
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    disabled_by: str | None
    failing_since: datetime | None
    sequence: int
    now: datetime


async def endpoint(pool: Pool, tenant: str, id: str) -> EndpointRow | None:
    """Return one endpoint, or None where there is none or it was deleted; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_ENDPOINTS + " and e.id = $2", tenant, id)
    return None if row is None else _row(row)


async def endpoints(pool: Pool, tenant: str) -> list[EndpointRow]:
    """Return the tenant's endpoints, oldest first; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_ENDPOINTS + " order by e.created_at, e.id", tenant)
    return [_row(row) for row in rows]


def _row(row: Any) -> EndpointRow:
    fields = dict(row)
    for name in ("events", "secrets", "secrets_until", "keys", "keys_until"):
        fields[name] = tuple(fields[name])
    fields["terms"] = msgspec.json.decode(fields["terms"], type=EndpointTerms)
    return EndpointRow(**fields)


_ENDPOINTS: Final = """
select e.id, e.url, e.events, e.terms, e.secrets, e.secrets_until, e.keys, e.keys_until, e.status, e.version,
    e.created_by, e.created_at, e.disabled_at, e.disabled_reason, e.disabled_by, l.failing_since,
    coalesce(l.sequence, 0) as sequence, clock_timestamp() as now
from endpoints e left join endpoint_lanes l on l.tenant = $1 and l.endpoint = e.id
where e.tenant = $1 and e.status <> 'deleted'"""
