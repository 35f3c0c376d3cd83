"""What the border asks for many tenants at once or beside intents: outcomes of commands, denials, rails.

- Outcomes are asked for many tenants in one query, over the writer's pool; every pair names its tenant.
- Everything else that belongs to a tenant is read under its row security."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Raw, Struct

from zentra.runtime.rails.port import RailSettings
from zentra.storage.errors import translated
from zentra.storage.pool import Pool, tenant_transaction

__all__ = ["DenialView", "OutcomeRow", "command_outcomes", "delivery_endpoint", "partitions", "rails"]


class OutcomeRow(Struct, frozen=True):
    """What became of a command."""

    accepted: bool
    code: str
    detail: Raw


class DenialView(Struct, frozen=True):
    """A refusal and how often it happened within its minute."""

    actor: str
    role: str
    action: str
    reason: str
    minute: datetime
    count: int
    first_at: datetime
    last_at: datetime
    request_id: str


async def command_outcomes(pool: Pool, commands: Sequence[tuple[str, str]]) -> dict[str, OutcomeRow]:
    """Return the outcomes that exist of (tenant, command), by command; over the writer's pool. Raises Unavailable."""
    with translated():
        rows = await pool.fetch(_OUTCOMES, [tenant for tenant, _ in commands], [command for _, command in commands])
    return {row[0]: OutcomeRow(row[1], row[2], Raw(row[3].encode())) for row in rows}


async def delivery_endpoint(pool: Pool, tenant: str, delivery: str) -> str | None:
    """Return the endpoint of the tenant's delivery of that uuid, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        endpoint: str | None = await connection.fetchval(
            "select endpoint from deliveries where tenant = $1 and id = $2", tenant, delivery
        )
    return endpoint


async def partitions(pool: Pool) -> int:
    """Return the number of partitions, fixed when the installation was made; over the writer's pool."""
    with translated():
        return int(await pool.fetchval("select partitions from installation"))


async def rails(pool: Pool) -> dict[str, RailSettings]:
    """Return the rails of the installation by name, over the writer's pool; raises Unavailable."""
    with translated():
        rows = await pool.fetch("select settings from rails")
    settings = [msgspec.json.decode(row[0], type=RailSettings) for row in rows]
    return {rail.name: rail for rail in settings}


_OUTCOMES: Final = """
select o.command, o.accepted, o.code, o.detail
from command_outcomes o join unnest($1::text[], $2::uuid[]) as given (tenant, command)
  on o.command = given.command and o.tenant = given.tenant
"""
