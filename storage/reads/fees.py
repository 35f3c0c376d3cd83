"""Reading fee schedules, and what a quote depends on, under the row security of one tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.fees.schedule import FeeRule, FeeSchedule
from zentra.runtime.rails.routing import Corridor
from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.routes import corridors_in_force

__all__ = ["VERSIONS_MAX", "QuoteGround", "ScheduleView", "quote_ground", "schedule", "schedules"]

VERSIONS_MAX: Final = 100  # the latest are shown where nobody says how many


class ScheduleView(Struct, frozen=True, kw_only=True):
    """One version of a tenant's fees; `active` is the one in force."""

    version: int
    active: bool
    rules: tuple[FeeRule, ...]
    created_by: str
    created_at: datetime


class QuoteGround(Struct, frozen=True):
    """What a quote depends on: the schedule in force, the corridors, and (type, currency) of each account there is."""

    schedule: FeeSchedule
    corridors: tuple[Corridor, ...]
    accounts: dict[str, tuple[str, str]]


async def schedules(
    pool: Pool, tenant: str, *, before: int | None = None, limit: int = VERSIONS_MAX
) -> list[ScheduleView]:
    """Return at most `limit` versions that are older than `before`, the newest first; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_SCHEDULES, tenant, before, limit)
    return [_view(row) for row in rows]


async def schedule(pool: Pool, tenant: str, version: int) -> ScheduleView | None:
    """Return one version, or None where there is none; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_SCHEDULES, tenant, version + 1, 1)
    return _view(rows[0]) if rows and rows[0]["version"] == version else None


def _view(row: Any) -> ScheduleView:
    return ScheduleView(
        version=row["version"], active=row["active"],
        rules=msgspec.json.decode(row["rules"], type=tuple[FeeRule, ...]), created_by=row["created_by"],
        created_at=row["created_at"],
    )  # fmt: skip


async def quote_ground(pool: Pool, tenant: str, *accounts: str) -> QuoteGround:
    """Return what a quote on a movement between these accounts depends on; one that does not exist is absent.

    Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        latest = await connection.fetchrow(_SCHEDULES, tenant, None, 1)
        corridors = await corridors_in_force(connection, tenant)
        rows = await connection.fetch(
            "select account_id, type, currency from accounts where tenant = $1 and account_id = any($2::text[])",
            tenant, list(accounts),
        )  # fmt: skip
    rules = () if latest is None else msgspec.json.decode(latest["rules"], type=tuple[FeeRule, ...])
    return QuoteGround(
        FeeSchedule(rules, 0 if latest is None else latest["version"]),
        corridors,
        {row[0]: (row[1], row[2]) for row in rows},
    )


_SCHEDULES: Final = """
select version, version = (select max(version) from fee_schedules where tenant = $1) as active, rules, created_by,
    created_at
from fee_schedules where tenant = $1 and ($2::int is null or version < $2)
order by version desc limit $3
"""
