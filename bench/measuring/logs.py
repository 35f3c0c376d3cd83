"""The evidence logs after a load, on nobody's word: each leaf hashed anew, each root rebuilt, each signature verified.

- The tree is that of RFC 6962, made here from its definition and not by the code that is measured.
- A leaf is worth something where it names the records that there are: its chain is compared with the stored one, which
  the audit has recomputed from the records.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct, field

from zentra.runtime.evidence.heads import TreeHead, head_flaw
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.pool import Connection, Pool, transaction

__all__ = ["LogRead", "Tree", "read_logs", "sealed_other_than_once"]

ROWS_AT_ONCE: Final = 1_000
SHOWN_MAX: Final = 3

_TENANTS: Final = "select distinct tenant from log_leaves order by tenant"
_HEADS: Final = "select size, root, at, key_id, signature from log_heads where tenant = $1 order by size"
_LEAVES: Final = """
select l."index", l.data, l.hash, d.body ->> 'intent' = replace(l.intent::text, '-', '')
    and d.body ->> 'tenant' = l.tenant and d.body ->> 'chain' = encode(t.hash, 'hex')
from log_leaves l cross join lateral (select convert_from(l.data, 'UTF8')::json as body) d
    left join transitions t on t.intent = l.intent and t.sequence = (d.body ->> 'records')::int
where l.tenant = $1 order by l."index"
"""
_OTHER_THAN_ONCE: Final = """
select count(*) from intents i where starts_with(i.key, $1) and 1 <> (
    select count(*) from log_leaves l
    where l.intent = i.id and convert_from(l.data, 'UTF8')::json ->> 'kind' = 'packet')
"""


class LogRead(Struct):
    """One tenant's log: how much there is of it, and what is wrong with it."""

    tenant: str
    leaves: int = 0
    heads: int = 0
    signed: int = 0  # the leaves that the latest head covers
    root: str = ""  # as recomputed from all leaves
    flaws: list[str] = field(default_factory=list)
    flaw_count: int = 0

    def flaw(self, sentence: str) -> None:
        """Note what is wrong."""
        self.flaw_count += 1
        if len(self.flaws) < SHOWN_MAX:
            self.flaws.append(f"{self.tenant} {sentence}")


class Tree:
    """The root of a list of leaf hashes that grows: RFC 6962 2.1, the complete subtrees from left to right."""

    def __init__(self) -> None:
        self._subtrees: list[tuple[int, bytes]] = []  # (leaves, root), each larger than the next
        self.size = 0

    def add(self, leaf: bytes) -> None:
        """Append the bytes of a leaf."""
        self.size += 1
        leaves, root = 1, sha256(b"\x00" + leaf).digest()
        while self._subtrees and self._subtrees[-1][0] == leaves:
            _, left = self._subtrees.pop()
            leaves, root = 2 * leaves, sha256(b"\x01" + left + root).digest()
        self._subtrees.append((leaves, root))

    def root(self) -> bytes:
        """Return the root over everything that was added."""
        if not self._subtrees:
            return sha256(b"").digest()
        *others, (_, root) = self._subtrees
        for _, left in reversed(others):
            root = sha256(b"\x01" + left + root).digest()
        return root


async def read_logs(pool: Pool, public_key: Ed25519PublicKey) -> list[LogRead]:
    """Return every tenant's log, checked from its first leaf to its last head; raises Unavailable."""
    async with transaction(pool, snapshot=True) as connection:
        await connection.execute("set local transaction_timeout = 0")
        return [await _read(connection, row[0], public_key) for row in await connection.fetch(_TENANTS)]


async def sealed_other_than_once(pool: Pool, prefix: str) -> int:
    """Return how many intents whose key begins so have no packet in the log, or more than one; raises Unavailable."""
    async with transaction(pool) as connection:
        await connection.execute("set local transaction_timeout = 0")
        return int(await connection.fetchval(_OTHER_THAN_ONCE, prefix))


async def _read(connection: Connection, tenant: str, public_key: Ed25519PublicKey) -> LogRead:
    log, tree = LogRead(tenant), Tree()
    heads = {row["size"]: row for row in await connection.fetch(_HEADS, tenant)}
    async for index, data, hashed, names_its_records in connection.cursor(_LEAVES, tenant, prefetch=ROWS_AT_ONCE):
        if index != log.leaves:
            log.flaw(f"leaf {log.leaves} is missing, {index} follows")
        if sha256(b"\x00" + data).digest() != hashed:
            log.flaw(f"leaf {index} has another hash")
        if not names_its_records:
            log.flaw(f"leaf {index} does not name the records that there are")
        tree.add(data)
        log.leaves += 1
        if (head := heads.pop(tree.size, None)) is not None:
            log.heads += 1
            log.signed = tree.size
            if tree.root() != head["root"]:
                log.flaw(f"the head of {tree.size} leaves has another root")
            if (flaw := head_flaw(public_key, _head(tenant, head))) is not None:
                log.flaw(f"the head of {tree.size} leaves: {flaw[1]}")
    for size in heads:
        log.flaw(f"the head of {size} leaves covers more than there is")
    if log.signed != log.leaves:
        log.flaw(f"has {log.leaves} leaves, and its last head covers {log.signed}")
    log.root = tree.root().hex()
    return log


def _head(tenant: str, row: Any) -> TreeHead:
    return TreeHead(
        tenant=tenant, size=row["size"], root=row["root"].hex(), at=timestamp(row["at"]), key_id=row["key_id"],
        signature=row["signature"].hex(),
    )  # fmt: skip
