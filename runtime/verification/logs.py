"""Logs, verified: every leaf against the records it seals, every subtree and head against the leaves, every signature.

- A tenant's log is rebuilt from the data of its leaves; nothing else is believed but the keys that are given.
- A leaf says how many records it seals and what their chain came to, so whoever rewrites records, hashes and postings
  alike would have to rewrite leaves, and heads that take the installation's key to sign.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zentra.runtime.evidence.heads import TreeHead, head_flaw
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.evidence.packet import LeafKind, leaf_data
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import Topic
from zentra.runtime.verification.differences import Findings
from zentra.runtime.verification.intents import RecordRow

__all__ = ["HeadRow", "LeafRow", "LogVerifier", "TileRow", "verify_leaves"]

_SEALS: Final[Mapping[str, LeafKind]] = {str(Topic.REVIEW_CLOSED): "packet", str(Topic.EVIDENCE_AMENDED): "addendum"}


class LeafRow(NamedTuple):
    """A row of the leaves."""

    tenant: str
    place: int
    intent: str
    data: bytes
    hash: bytes


class TileRow(NamedTuple):
    """A row of the subtrees."""

    level: int
    place: int
    hash: bytes


class HeadRow(NamedTuple):
    """A row of the heads."""

    tenant: str
    size: int
    root: bytes
    frontier: Sequence[bytes]
    at: datetime
    key_id: str
    signature: bytes


class _Leaf(msgspec.Struct, frozen=True, gc=False):
    records: int


_decode: Final = msgspec.json.Decoder(_Leaf).decode


def verify_leaves(
    findings: Findings, records: Sequence[RecordRow], leaves: Iterable[LeafRow], settled_before: datetime
) -> None:
    """Verify the leaves of an intent by its records: each seals what stood there, and each seal from before
    `settled_before` has its leaf."""
    sealing = {record.sequence: record for record in records if record.event in _SEALS}
    for leaf in leaves:
        where = f"{leaf.intent} leaf {leaf.place}"
        try:
            count = _decode(leaf.data).records
        except msgspec.MsgspecError as error:
            findings.differ("leaf", leaf.tenant, where, "data", "a leaf", error)
            continue
        record = sealing.pop(count, None)
        if record is None:
            findings.differ("leaf", leaf.tenant, where, "records", "up to a seal", count)
            continue
        data = leaf_data(
            tenant=record.tenant, intent=record.intent, kind=_SEALS[record.event], chain=record.hash, records=count
        )
        if data != leaf.data:
            findings.differ("leaf", leaf.tenant, where, "data", data.decode(), leaf.data.decode("utf-8", "replace"))
    for record in sealing.values():
        if record.at < settled_before:
            where = f"{record.intent} record {record.sequence}"
            findings.differ("leaf", record.tenant, where, "leaf of the seal", "in the log", "none")


class LogVerifier:
    """Verifies the log of one tenant: its leaves, in order, and its heads, in the order of their sizes."""

    def __init__(self, tenant: str, findings: Findings, keys: Mapping[str, Ed25519PublicKey] | None) -> None:
        """`keys` are those that may have signed, by id; None leaves the signatures alone."""
        self.tenant, self.findings, self.keys = tenant, findings, keys
        self.size = 0
        self._frontier = Frontier()
        self._tiles: dict[tuple[int, int], bytes] = {}

    def leaves(self, rows: Sequence[LeafRow]) -> None:
        """Verify the next leaves."""
        hashes: list[bytes] = []
        for row in rows:
            place = self.size + len(hashes)
            where = f"leaf {row.place}"
            if row.place != place:
                self.findings.differ("log", self.tenant, where, "index", place, row.place)
            computed = leaf_hash(row.data)
            if computed != row.hash:
                self.findings.differ("log", self.tenant, where, "hash", computed.hex(), row.hash.hex())
            hashes.append(computed)
        self._frontier, tiles = self._frontier.append(hashes)
        self.size += len(hashes)
        self._tiles |= {(tile.level, tile.index): tile.hash for tile in tiles}

    def head(self, row: HeadRow) -> None:
        """Verify a head of the size that has been reached."""
        where = f"head of {row.size}"
        if row.size != self.size:
            self.findings.differ("log", self.tenant, where, "leaves", row.size, self.size)
            return
        root = self._frontier.root()
        if root != row.root:
            self.findings.differ("log", self.tenant, where, "root", root.hex(), row.root.hex())
        if tuple(row.frontier) != self._frontier.hashes:
            self.findings.differ("log", self.tenant, where, "frontier", "as the leaves give it", "another one")
        if self.keys is not None:
            self._signature(where, row)

    def tile(self, row: TileRow) -> None:
        """Verify a stored subtree, once all leaves were."""
        expected = self._tiles.pop((row.level, row.place), None)
        if expected != row.hash:
            said = "none" if expected is None else expected.hex()
            where = f"subtree {row.place} of level {row.level}"
            self.findings.differ("log", self.tenant, where, "hash", said, row.hash.hex())

    def finish(self, signed: int) -> None:
        """Verify that nothing is missing: `signed` is the size of the last head."""
        for level, index in self._tiles:
            self.findings.differ("log", self.tenant, f"subtree {index} of level {level}", "row", "there is one", "none")
        if signed != self.size:
            self.findings.differ("log", self.tenant, "last head", "size", self.size, signed)

    def _signature(self, where: str, row: HeadRow) -> None:
        assert self.keys is not None
        key = self.keys.get(row.key_id)
        if key is None:
            known = ", ".join(sorted(self.keys)) or "none"
            self.findings.differ("signature", self.tenant, where, "key", f"one of those given ({known})", row.key_id)
            return
        head = TreeHead(
            tenant=row.tenant, size=row.size, root=row.root.hex(), at=timestamp(row.at), key_id=row.key_id,
            signature=row.signature.hex(),
        )  # fmt: skip
        flaw = head_flaw(key, head)
        if flaw is not None:
            self.findings.differ("signature", self.tenant, where, "signature", "of this head", flaw[1])
