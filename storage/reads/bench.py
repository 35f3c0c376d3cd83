"""What the load harness reads: who owns partitions, how far a tenant's log has come, how long intents took.

Run as a role that sees every tenant; nothing here is on a hot path."""

from datetime import UTC, datetime

from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["intents_sealed", "leaves_logged", "partitions_owned", "stage_latencies"]

_STAGES = """
with waits as (
    select event, extract(epoch from at - lag(at) over (partition by intent order by sequence)) * 1000 as ms
    from transitions where tenant = $1 and intent in (select id from intents where tenant = $1 and created_at >= $2)
)
select event, percentile_cont(0.5) within group (order by ms), percentile_cont(0.99) within group (order by ms)
from waits where ms is not null group by event order by event
"""
_OVERALL = """
with spans as (
    select extract(epoch from max(at) filter (where event = 'ledger.posted') - min(at)) * 1000 as ms
    from transitions where tenant = $1 and intent in (select id from intents where tenant = $1 and created_at >= $2)
    group by intent
)
select percentile_cont(0.5) within group (order by ms), percentile_cont(0.99) within group (order by ms) from spans
where ms is not null
"""


_SEALED = """
select count(*) from intents i where starts_with(i.key, $1) and exists (select from log_leaves l where l.intent = i.id)
"""


async def partitions_owned(pool: Pool) -> dict[str | None, int]:
    """Return how many partitions each worker owns, and under None how many nobody does; raise Unavailable."""
    with translated():
        rows = await pool.fetch("select owner, count(*) from leases group by owner")
    return {row[0]: row[1] for row in rows}


async def intents_sealed(pool: Pool, prefix: str) -> int:
    """Return how many intents whose key begins so have a leaf in a log; raise Unavailable."""
    with translated():
        return int(await pool.fetchval(_SEALED, prefix))


async def leaves_logged(pool: Pool, tenant: str) -> int:
    """Return how many leaves the log of a tenant has, of packets and of addenda to them; raise Unavailable."""
    with translated():
        return int(await pool.fetchval("select coalesce(max(index) + 1, 0) from log_leaves where tenant = $1", tenant))


async def stage_latencies(
    pool: Pool, tenant: str, since: float
) -> tuple[tuple[float, float], dict[str, dict[str, float]]]:
    """Return p50 and p99 in ms from acceptance to `ledger.posted`, and by event since the record before; raise
    Unavailable. `since` is unix time: only intents made after it count."""
    moment = datetime.fromtimestamp(since, UTC)
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("set local transaction_timeout = 0")
            overall = await connection.fetchrow(_OVERALL, tenant, moment)
            rows = await connection.fetch(_STAGES, tenant, moment)
    stages = {row[0]: {"p50_ms": round(float(row[1]), 2), "p99_ms": round(float(row[2]), 2)} for row in rows}
    if overall is None or overall[0] is None:
        return (0.0, 0.0), stages
    return (round(float(overall[0]), 2), round(float(overall[1]), 2)), stages
