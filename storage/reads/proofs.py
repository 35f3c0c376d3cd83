"""What a tenant's log can show of itself: its signed heads, that it only ever grew, and that a packet is in it.

- A proof is made for one moment of the log, under the tenant's row security, and says under which sizes it holds.
- What a proof is worth the signed heads of those sizes say: a root alone is nobody's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.heads import TreeHead
from zentra.storage.pool import Pool, tenant_transaction, transaction
from zentra.storage.reads.evidence import head_of, stored_hashes
from zentra.storage.reads.walking import Filters, Slice, walk

__all__ = [
    "Consistency", "ExportPlace", "ExportView", "Inclusion", "checkpoint", "consistency", "evidence_keys", "exports",
    "inclusion",
]  # fmt: skip


class Consistency(Struct, frozen=True):
    """That the log of `second` leaves begins with the log of `first`; each head is None where no tick signed it."""

    first: int
    second: int
    first_head: TreeHead | None
    second_head: TreeHead | None
    proof: list[bytes]


class Inclusion(Struct, frozen=True):
    """That the log under `head` has the leaf `data` at `index`."""

    intent: str
    index: int
    data: bytes
    head: TreeHead
    proof: list[bytes]


class ExportPlace(Struct, frozen=True, array_like=True):
    """The last export."""

    at: datetime
    id: str


class ExportView(Struct, frozen=True):
    """Who took which range out of the log: leaves from `first_leaf` on, as far as `log_size`; `types` None: all."""

    id: str
    actor: str
    role: str
    at: datetime
    since: datetime | None
    until: datetime | None
    types: list[str] | None
    first_leaf: int
    log_size: int
    entries: int
    manifest: str


async def checkpoint(pool: Pool, tenant: str, size: int | None = None) -> TreeHead | None:
    """Return the tenant's head of this size, or its latest, or None where there is none; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        return await head_of(connection, tenant, size)


async def consistency(pool: Pool, tenant: str, first: int, second: int | None = None) -> Consistency | None:
    """Return the proof between two sizes of the tenant's log, up to the latest head where `second` is None.

    None where the log never had one of the sizes. Raises Unavailable, and ValueError where hashes are missing."""
    async with tenant_transaction(pool, tenant, snapshot=True) as connection:
        latest = await head_of(connection, tenant)
        size = latest.size if latest is not None else 0
        last = size if second is None else second
        if not 0 <= first <= last <= size:
            return None
        hashes = await stored_hashes(connection, tenant, merkle.consistency_ranges(first, last))
        proof = merkle.consistency_proof(
            first, last, lambda level, start, count: [hashes[level, at] for at in range(start, start + count)
                                                      if (level, at) in hashes],
        )  # fmt: skip
        return Consistency(
            first, last, await head_of(connection, tenant, first), await head_of(connection, tenant, last), proof
        )


async def inclusion(
    pool: Pool, tenant: str, *, intent_id: str, uuid: str | None, addenda: int | None = None, size: int | None = None
) -> Inclusion | None:
    """Return the proof that an intent's packet, or its last addendum, is in the log: under the head of this size, or
    the first one that covers it.

    None where there is no such intent, leaf or head. Raises Unavailable, and ValueError where stored hashes are
    missing."""
    async with tenant_transaction(pool, tenant, snapshot=True) as connection:
        rows = await connection.fetch(_LEAVES, tenant, intent_id, uuid, size)
        if not rows or (addenda is not None and len(rows) <= addenda):
            return None
        intent, index, data = rows[-1] if addenda is None else rows[addenda]
        given = size if size is not None else await connection.fetchval(_COVERING, tenant, index)
        head = None if given is None else await head_of(connection, tenant, given)
        if head is None:
            return None
        hashes = await stored_hashes(connection, tenant, merkle.proof_ranges(index, head.size))
        proof = merkle.inclusion_proof(
            index, head.size, lambda level, start, count: [hashes[level, at] for at in range(start, start + count)
                                                           if (level, at) in hashes],
        )  # fmt: skip
        return Inclusion(intent, index, data, head, proof)


async def evidence_keys(pool: Pool) -> dict[str, bytes]:
    """Return the public keys that heads were signed with, 32 bytes each, by id; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        rows = await connection.fetch("select key_id, public_key from evidence_keys order by since, key_id")
    return {row["key_id"]: row["public_key"] for row in rows}


async def exports(
    pool: Pool, tenant: str, filters: Filters, *, after: ExportPlace | None, limit: int
) -> Slice[ExportView, ExportPlace]:
    """Return a page of what was exported of the tenant's evidence, the latest first.

    Filters: `created_from`, `created_before` (of the export), `actor`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="evidence_exports", columns=_EXPORT, order=_EXPORT_ORDER, known=_EXPORT_FILTERS,
            filters=filters, after=None if after is None else (after.at, after.id), limit=limit,
        )  # fmt: skip
    return Slice([ExportView(*row) for row in rows], None if end is None else ExportPlace(*end))


_LEAVES: Final = """
select i.id, l."index", l.data from intents i
join log_leaves l on l.intent = i.id and l.tenant = $1
where i.tenant = $1 and (i.intent_id = $2 or i.id = $3) and ($4::bigint is null or l."index" < $4)
order by l."index"
"""
_COVERING: Final = "select size from log_heads where tenant = $1 and size > $2 order by size limit 1"
_EXPORT: Final = (
    "id, actor, role, at, since, until, types, first_leaf, log_size, entries, encode(manifest, 'hex') as manifest"
)
_EXPORT_ORDER: Final[Mapping[str, str]] = {"at": "timestamptz", "id": "uuid"}
_EXPORT_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "at >= {}",
    "created_before": "at < {}",
    "actor": "actor = {}",
}
