"""What a packet is built from: an intent's sealed records, its leaves, a signed head and the hashes of the proofs.

- Everything is read in one transaction that sees one moment, under the tenant's row security.
- One head serves the packet and its addenda: the first that covers the last leaf. It is there as soon as that leaf is,
  and no later head takes its place, so what was exported once comes out the same byte for byte until there is another
  addendum; and after that for whoever says how many addenda there were. Or it is the head that was asked for by size.
- Records behind the last leaf are not in the packet yet; they wait for their own leaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.merkle import Range, proof_ranges
from zentra.runtime.evidence.packet import Sealed, build_packet
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.intake.personal import openings_named
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.reads.reviews import comments_of
from zentra.storage.reads.tenant import LeafView

__all__ = ["EvidenceGround", "evidence", "head_of", "packet_of", "stored_hashes", "tree_head"]


class EvidenceGround(Struct, frozen=True, kw_only=True):
    """Everything there is to show of an intent. `hashes` are stored ones by (level, index), level 0 the leaves."""

    id: str
    records: tuple[tuple[bytes, bytes], ...]
    leaves: tuple[LeafView, ...]
    head: TreeHead | None
    hashes: dict[tuple[int, int], bytes]
    bodies: tuple[bytes, ...] = ()  # of callbacks, deliveries, comments and openings, also such that no record names

    def fetch(self, level: int, start: int, count: int) -> list[bytes]:
        """Return stored hashes, as `merkle.inclusion_proof` asks for them; fewer where some are missing."""
        return [self.hashes[level, index] for index in range(start, start + count) if (level, index) in self.hashes]


class _LeafData(Struct, frozen=True):
    records: int


async def evidence(
    pool: Pool,
    tenant: str,
    *,
    intent_id: str | None = None,
    id: str | None = None,
    addenda: int | None = None,
    size: int | None = None,
) -> EvidenceGround | None:
    """Return what is known of the tenant's intent of that `intent_id` or uuid, or None; raises Unavailable.

    With so many `addenda` it is what was known when the last of them was sealed, and without a head where there are
    fewer. With `size` it is what the head of that size covers, and without a head where there is none."""
    async with tenant_transaction(pool, tenant, snapshot=True) as connection:
        uuid = await connection.fetchval(
            "select id from intents where tenant = $1 and (intent_id = $2 or id = $3)", tenant, intent_id, id
        )
        if uuid is None:
            return None
        records = await connection.fetch(
            "select record, hash from transitions where tenant = $1 and intent = $2 order by sequence", tenant, uuid
        )
        leaves = [LeafView(row[0], row[1], row[2], False) for row in await connection.fetch(_LEAVES, tenant, uuid)]
        known = len(leaves)
        if size is not None:
            leaves = [leaf for leaf in leaves if leaf.index < size]
        if addenda is not None:
            leaves = leaves[: addenda + 1] if known > addenda else []
        head = await _head(connection, tenant, leaves, size)
        signed = head.size if head is not None else 0
        leaves = [msgspec.structs.replace(leaf, signed=leaf.index < signed) for leaf in leaves]
        return EvidenceGround(
            id=uuid,
            records=tuple((row[0], row[1]) for row in records),
            leaves=tuple(leaves),
            head=head,
            hashes=await stored_hashes(
                connection, tenant, {one for leaf in leaves if leaf.signed for one in proof_ranges(leaf.index, signed)}
            ),
            bodies=(
                *[row[0] for row in await connection.fetch(_BODIES, tenant, uuid)],
                *await comments_of(connection, tenant, [row[0] for row in records]),
                *await openings_named(connection, tenant, records[0][0]),
            ),
        )


def packet_of(ground: EvidenceGround) -> bytes:
    """Return the audit packet of an intent, with the proofs that its head allows, and every body its records name.

    An intent without a leaf gives a packet without a seal. Raises ValueError where stored hashes are missing."""
    parts: list[Sealed] = []
    records = tuple(record for record, _ in ground.records)
    begin = 0
    for leaf in ground.leaves:
        end = msgspec.json.decode(leaf.data, type=_LeafData).records
        proof: Sequence[bytes] = ()
        if ground.head is not None and leaf.signed:
            proof = merkle.inclusion_proof(leaf.index, ground.head.size, ground.fetch)
        parts.append(Sealed(records[begin:end], leaf.index, tuple(proof)))
        begin = end
    if not parts:
        return build_packet(Sealed(records), None)
    text = b"\n".join(records[:begin]).decode()
    named = [body for body in ground.bodies if sha256(body).hexdigest() in text]
    return build_packet(parts[0], ground.head, addenda=parts[1:], attachments=named)


async def _head(connection: Connection, tenant: str, leaves: Sequence[LeafView], size: int | None) -> TreeHead | None:
    if not leaves:
        return None
    if size is not None:
        return await head_of(connection, tenant, size)
    row = await connection.fetchrow(_HEAD, tenant, leaves[-1].index, leaves[0].index)
    return None if row is None else tree_head(tenant, *row)


async def head_of(connection: Connection, tenant: str, size: int | None = None) -> TreeHead | None:
    """Return the head of this size, or the latest, within the caller's transaction; None where there is none."""
    row = await connection.fetchrow(_LATEST if size is None else _OF_SIZE, tenant, *([] if size is None else [size]))
    return None if row is None else tree_head(tenant, *row)


def tree_head(tenant: str, size: int, root: bytes, at: datetime, key_id: str, signature: bytes) -> TreeHead:
    """Return a row of the heads as the head that was signed."""
    return TreeHead(tenant, size, root.hex(), timestamp(at), key_id, signature.hex())


async def stored_hashes(connection: Connection, tenant: str, ranges: Iterable[Range]) -> dict[tuple[int, int], bytes]:
    """Return what proofs read, by (level, index), within the caller's transaction."""
    found: dict[tuple[int, int], bytes] = {}
    for level, start, count in ranges:
        values: list[Any] = [tenant, start, start + count]
        rows = (
            await connection.fetch(_LEAF_HASHES, *values)
            if level == 0
            else await connection.fetch(_TILE_HASHES, *values, level)
        )
        found |= {(level, row[0]): row[1] for row in rows}
    return found


_OF_SIZE: Final = """
select size, root, at, key_id, signature from log_heads where tenant = $1 and size = $2
"""
_LATEST: Final = """
select size, root, at, key_id, signature from log_heads where tenant = $1 order by size desc limit 1
"""
_BODIES: Final = """
select body from callbacks where tenant = $1 and intent = $2
union all select body from deliveries where tenant = $1 and intent = $2
"""
_LEAVES: Final = """
select "index", data, hash from log_leaves where tenant = $1 and intent = $2 order by "index"
"""
_HEAD: Final = """
(select size, root, at, key_id, signature from log_heads where tenant = $1 and size > $2 order by size limit 1)
union all
(select size, root, at, key_id, signature from log_heads where tenant = $1 and size > $3 order by size desc limit 1)
limit 1
"""
_LEAF_HASHES: Final = """
select "index", hash from log_leaves where tenant = $1 and "index" >= $2 and "index" < $3
"""
_TILE_HASHES: Final = """
select "index", hash from log_tiles where tenant = $1 and "index" >= $2 and "index" < $3 and level = $4
"""
