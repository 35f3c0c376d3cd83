"""What a load leaves behind and moves: bytes of each table, of the write-ahead log, and of NATS, for each intent.

Tables count with their indexes, as the files have them: pages that are half full count whole, and vacuum has not been
there. NATS counts on its first server, where it is a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import aiohttp

from zentra.storage.errors import translated

if TYPE_CHECKING:
    from zentra.bench.measuring.stand import Stand

__all__ = ["WAL", "bytes_each", "read_footprint"]

WAL: Final = "postgres wal"
_TABLES: Final = """
select 'table ' || relname, pg_total_relation_size(oid) from pg_class
where relnamespace = 'zentra'::regnamespace and relkind in ('r', 'p')
"""
_WAL: Final = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
LEAST: Final = 1.0  # byte for each intent; what is less is not of the intents


async def read_footprint(stand: Stand) -> dict[str, int]:
    """Return the bytes by name as of now. Raises Unavailable, and ClientError without NATS."""
    with translated():
        found = {row[0]: int(row[1]) for row in await stand.pool.fetch(_TABLES)}
        found[WAL] = int(await stand.pool.fetchval(_WAL))
    async with aiohttp.ClientSession(stand.installation.servers.nats_monitor_url) as session:
        async with session.get("/varz") as answer:
            server = await answer.json()
        async with session.get("/jsz?accounts=true&streams=true") as answer:
            accounts = (await answer.json()).get("account_details", ())
    for stream in (stream for account in accounts for stream in account.get("stream_detail", ())):
        found[f"nats stream {stream['name']}"] = int(stream["state"]["bytes"])
    return found | {"nats received": int(server["in_bytes"]), "nats sent": int(server["out_bytes"])}


def bytes_each(before: Mapping[str, int], after: Mapping[str, int], intents: int) -> dict[str, float]:
    """Return by how many bytes each grew for an intent, the most first; none of no intents."""
    grown = {name: (size - before.get(name, 0)) / intents for name, size in after.items()} if intents else {}
    return {name: round(each, 1) for name, each in sorted(grown.items(), key=lambda item: -item[1]) if each >= LEAST}
