"""What a packet is built from: an intent's sealed records, its leaves, a signed head and the hashes of the proofs.

- Everything is read in one transaction that sees one moment, under the tenant's row security.
- One head serves the packet and its addenda: the first that covers the last leaf, else the latest that covers any.
- Records behind the last leaf are not in the packet yet; they wait for their own leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.packet import Sealed, build_packet
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.reads.reviews import ReviewView, comments_of, review_of
from zentra.storage.reads.tenant import LeafView
from zentra.storage.reads.work import CallbackView, DeliveryView, callbacks_of, deliveries_of

__all__ = ["EvidenceGround", "evidence", "packet_of"]


class EvidenceGround(Struct, frozen=True, kw_only=True):
    """Everything there is to show of an intent. `hashes` are stored ones by (level, index), level 0 the leaves."""

    id: str
    records: tuple[tuple[bytes, bytes], ...]
    leaves: tuple[LeafView, ...]
    head: TreeHead | None
    hashes: dict[tuple[int, int], bytes]
    callbacks: tuple[CallbackView, ...]
    deliveries: tuple[DeliveryView, ...]
    review: ReviewView | None
    comments: tuple[bytes, ...] = ()

    def fetch(self, level: int, start: int, count: int) -> list[bytes]:
        """Return stored hashes, as `merkle.inclusion_proof` asks for them; fewer where some are missing."""
        return [self.hashes[level, index] for index in range(start, start + count) if (level, index) in self.hashes]


class _LeafData(Struct, frozen=True):
    records: int


async def evidence(
    pool: Pool, tenant: str, *, intent_id: str | None = None, id: str | None = None
) -> EvidenceGround | None:
    """Return what is known of the tenant's intent of that `intent_id` or uuid, or None; raises Unavailable."""
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
        head = await _head(connection, tenant, leaves)
        size = head.size if head is not None else 0
        leaves = [msgspec.structs.replace(leaf, signed=leaf.index < size) for leaf in leaves]
        return EvidenceGround(
            id=uuid,
            records=tuple((row[0], row[1]) for row in records),
            leaves=tuple(leaves),
            head=head,
            hashes=await _hashes(connection, tenant, [leaf.index for leaf in leaves if leaf.signed], size),
            callbacks=await callbacks_of(connection, tenant, intent=uuid),
            deliveries=await deliveries_of(connection, tenant, intent=uuid),
            review=await review_of(connection, tenant, uuid),
            comments=tuple(await comments_of(connection, tenant, [row[0] for row in records])),
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
    bodies = [*(one.body for one in ground.callbacks), *(one.body for one in ground.deliveries), *ground.comments]
    named = [body for body in bodies if sha256(body).hexdigest() in text]
    return build_packet(parts[0], ground.head, addenda=parts[1:], attachments=named)


async def _head(connection: Connection, tenant: str, leaves: Sequence[LeafView]) -> TreeHead | None:
    if not leaves:
        return None
    row = await connection.fetchrow(_HEAD, tenant, leaves[-1].index, leaves[0].index)
    if row is None:
        return None
    return TreeHead(
        tenant=tenant, size=row["size"], root=row["root"].hex(), at=timestamp(row["at"]), key_id=row["key_id"],
        signature=row["signature"].hex(),
    )  # fmt: skip


async def _hashes(
    connection: Connection, tenant: str, indexes: Sequence[int], size: int
) -> dict[tuple[int, int], bytes]:
    """Return what the proofs of these leaves read."""
    found: dict[tuple[int, int], bytes] = {}
    for level, start, count in {one for index in indexes for one in merkle.proof_ranges(index, size)}:
        values: list[Any] = [tenant, start, start + count]
        rows = (
            await connection.fetch(_LEAF_HASHES, *values)
            if level == 0
            else await connection.fetch(_TILE_HASHES, *values, level)
        )
        found |= {(level, row[0]): row[1] for row in rows}
    return found


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
