"""The check of the chains: every record of every intent, every leaf, subtree and head of every tenant's log.

One snapshot, rows streamed in order, memory for a window of intents and for one hash per 256 leaves of a log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.verification.differences import Difference
from zentra.runtime.verification.intents import Verifier
from zentra.runtime.verification.logs import HeadRow, LeafRow, LogVerifier, TileRow, verify_leaves
from zentra.storage.pool import Connection
from zentra.storage.verification.checking import SETTLED_AFTER, Progress
from zentra.storage.verification.snapshot import taken_snapshot
from zentra.storage.verification.windows import Window, read_windows, whole_windows

__all__ = ["ChainCheck", "check_chains"]

LEAVES_AT_ONCE: Final = 5_000

_NAMED: Final = """
select id from intents where (intent_id = any($2::text[]) or id = any($3::uuid[])) and ($1::text is null or tenant = $1)
"""
_TENANTS: Final = """
select tenant from log_leaves where $1::text is null or tenant = $1
union select tenant from log_heads where $1::text is null or tenant = $1
union select tenant from log_tiles where $1::text is null or tenant = $1
order by tenant
"""
_LEAVES: Final = """
select tenant, "index", intent, data, hash from log_leaves where tenant = $1 order by "index"
"""
_HEADS: Final = """
select tenant, size, root, frontier, at, key_id, signature from log_heads where tenant = $1 order by size
"""
_TILES: Final = 'select level, "index", hash from log_tiles where tenant = $1 order by level, "index"'
_COUNT: Final = "select count(*) from transitions where $1::text is null or tenant = $1"


class ChainCheck(Struct, frozen=True):
    """What was looked at and what was found; `signatures` says whether those of the heads were verified."""

    at: datetime
    tenant: str | None
    seconds: float
    intents: int
    records: int
    leaves: int
    heads: int
    signatures: bool
    differences: tuple[Difference, ...]
    differences_by_check: dict[str, int]

    @property
    def clean(self) -> bool:
        """Return whether nothing was found."""
        return not self.differences_by_check


async def check_chains(
    url: str,
    *,
    tenant: str | None,
    intents: Sequence[str],
    keys: Mapping[str, Ed25519PublicKey] | None,
    progress: Progress,
) -> ChainCheck:
    """Return the check of all chains and logs, or of the chains and leaves of the `intents` named by id or uuid.

    Raises Refusal `intent_not_found`, Misconfigured where the role does not see every tenant, and Unavailable."""
    begun = time.monotonic()
    verifier = Verifier(ledger=False)
    findings, leaves, heads = verifier.findings, 0, 0
    async with taken_snapshot(url) as snapshot:
        connection = snapshot.connection
        if intents:
            windows = [Window(named=await _named(connection, tenant, intents))]
            total = 0
        else:
            windows = await whole_windows(connection, tenant)
            total = await connection.fetchval(_COUNT, tenant)
        settled_before = snapshot.at - SETTLED_AFTER
        async for held in read_windows(connection, windows, tenant, None):
            for one in held:
                verifier.intent(one.row, one.records, (), {})
                verify_leaves(findings, one.records, one.leaves, settled_before)
            progress("records", verifier.counts.records, max(total, verifier.counts.records))
        if not intents:
            for row in await connection.fetch(_TENANTS, tenant):
                log = LogVerifier(row[0], findings, keys)
                heads += await _walk(connection, log, progress)
                leaves += log.size
    counts = verifier.counts
    return ChainCheck(
        at=snapshot.at, tenant=tenant, seconds=round(time.monotonic() - begun, 3), intents=counts.intents,
        records=counts.records, leaves=leaves, heads=heads, signatures=keys is not None,
        differences=tuple(findings.shown), differences_by_check=findings.counts,
    )  # fmt: skip


async def _named(connection: Connection, tenant: str | None, intents: Sequence[str]) -> tuple[str, ...]:
    uuids = [name.replace("-", "") for name in intents]
    uuids = [name for name in uuids if len(name) == 32 and all(sign in "0123456789abcdef" for sign in name)]
    rows = await connection.fetch(_NAMED, tenant, list(intents), uuids)
    if len(rows) < len(set(intents)):
        raise Refusal("intent_not_found", f"of {len(set(intents))} intents {len(rows)} were found")
    return tuple(sorted(row[0] for row in rows))


async def _walk(connection: Connection, log: LogVerifier, progress: Progress) -> int:
    """Verify one log and return how many heads it has."""
    heads = 0
    signed = 0
    leaves = _leaves(connection, log.tenant)
    waiting: list[LeafRow] = []
    async for row in connection.cursor(_HEADS, log.tenant, prefetch=1_000):
        head = HeadRow._make(row)
        while log.size + len(waiting) < head.size:
            more = await anext(leaves, None)
            if more is None:
                break
            waiting += more
        take = max(0, head.size - log.size)
        log.leaves(waiting[:take])
        del waiting[:take]
        log.head(head)
        heads, signed = heads + 1, head.size
        progress(f"log of {log.tenant}", log.size, log.size)
    log.leaves(waiting)
    async for rest in leaves:
        log.leaves(rest)
    async for row in connection.cursor(_TILES, log.tenant, prefetch=5_000):
        log.tile(TileRow._make(row))
    log.finish(signed)
    return heads


async def _leaves(connection: Connection, tenant: str) -> AsyncIterator[list[LeafRow]]:
    cursor = await connection.cursor(_LEAVES, tenant)
    while rows := await cursor.fetch(LEAVES_AT_ONCE):
        yield [LeafRow._make(row) for row in rows]
