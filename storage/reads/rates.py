"""The exchange rates of a tenant that are in force, under row security."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from zentra.runtime.ledger.conversion import FxRate
from zentra.storage.pool import Pool, tenant_transaction

__all__ = ["rate_now", "rates"]

_RATES: Final = """
select tenant, sell, buy, mid, spread_bps, fee_minor, as_of, max_age_seconds, source, version from fx_rates
where tenant = $1 and ($2::text is null or (sell = $2 and buy = $3)) order by sell, buy
"""


async def rates(pool: Pool, tenant: str) -> list[FxRate]:
    """Return the rates in force, by pair; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        return [FxRate(*row) for row in await connection.fetch(_RATES, tenant, None, None)]


async def rate_now(pool: Pool, tenant: str, sell: str, buy: str) -> tuple[FxRate | None, datetime]:
    """Return the rate in force of a pair, or None, and the time of the store; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_RATES, tenant, sell, buy)
        now: datetime = await connection.fetchval("select clock_timestamp()")
    return None if row is None else FxRate(*row), now
