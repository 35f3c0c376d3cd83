"""The auditor's own evidence log: RFC 6962 hashes over the leaves that commits append, and packets taken apart.

The tree is kept as lists of complete nodes per level, which is another way to the same root than the one it checks; at
the end every root is computed once more by the recursion of the RFC itself."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.bench.simulation.auditor_histories import History
from zentra.bench.simulation.auditor_words import SETTLED, Violation
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.evidence.heads import TreeHead, sign_head
from zentra.runtime.evidence.packet import Sealed, Verdict, build_packet, verify_packet
from zentra.runtime.ports import LogHead

__all__ = ["AuditedLogs"]

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # of this audit alone: it signs what it has checked


class _Tree:
    def __init__(self) -> None:
        self.levels: list[list[bytes]] = [[]]

    def append(self, leaf: bytes) -> list[tuple[int, int]]:
        """Append a leaf hash; return the (level, index) of every node that became complete."""
        made = []
        level, node = 0, leaf
        while True:
            if level == len(self.levels):
                self.levels.append([])
            row = self.levels[level]
            row.append(node)
            made.append((level, len(row) - 1))
            if len(row) % 2:
                return made
            node = sha256(b"\x01" + row[-2] + row[-1]).digest()
            level += 1

    def peaks(self) -> list[bytes]:
        """Return the roots of the complete trees side by side, the largest first."""
        return [row[-1] for row in reversed(self.levels) if len(row) % 2]

    def root(self) -> bytes:
        peaks = self.peaks()
        node = peaks.pop()
        while peaks:
            node = sha256(b"\x01" + peaks.pop() + node).digest()
        return node


class AuditedLogs:
    """The logs of all tenants."""

    def __init__(self, verify: Callable[[bytes, Ed25519PublicKey], Verdict] = verify_packet) -> None:
        """`verify` is the verifier that is audited: whoever receives a packet has nothing else."""
        self.verify = verify
        self._trees: defaultdict[str, _Tree] = defaultdict(_Tree)
        self._leaves: defaultdict[str, list[tuple[str, bytes, bytes]]] = defaultdict(list)
        self._tiles: dict[tuple[str, int, int], bytes] = {}
        self._places: dict[tuple[str, int], int] = {}  # (intent, records sealed) -> index in its log
        self._heads: dict[tuple[str, int], LogHead] = {}
        self._latest: dict[str, datetime] = {}

    def wrote(
        self,
        leaves: Sequence[tuple[str, int, str, bytes, bytes]],
        tiles: Sequence[tuple[str, int, int, bytes]],
        heads: Sequence[LogHead],
        histories: Mapping[str, History],
    ) -> None:
        """Follow what a commit appended."""
        due: dict[tuple[str, int, int], bytes] = {}
        for tenant, index, intent, data, link in leaves:
            self._leaf(tenant, index, intent, data, link, histories)
            tree = self._trees[tenant]
            for level, place in tree.append(link):
                if level and level % 8 == 0:
                    due[tenant, level, place] = tree.levels[level][place]
        told = {(tenant, level, place): node for tenant, level, place, node in tiles}
        if told != due:
            raise Violation("S", f"the tiles {sorted(told)} were written where {sorted(due)} are due")
        self._tiles.update(due)
        if {head.tenant for head in heads} != {tenant for tenant, *_ in leaves}:
            raise Violation("S", "a log has grown without a signed head, or a head came without a leaf")
        for head in heads:
            tree = self._trees[head.tenant]
            size = len(tree.levels[0])
            if (head.size, head.root) != (size, tree.root()):
                raise Violation("S", f"a head of {head.tenant} over {head.size} leaves does not fit the {size} there")
            if (head.frontier.size, list(head.frontier.hashes)) != (size, tree.peaks()):
                raise Violation("S", f"the frontier of {head.tenant} does not fit its {size} leaves")
            if head.at < self._latest.get(head.tenant, head.at):
                raise Violation(
                    "S", f"the head of {head.tenant} over {size} leaves is of before the one that it follows"
                )
            self._latest[head.tenant] = head.at
            self._heads[head.tenant, head.size] = head

    def _leaf(
        self, tenant: str, index: int, intent: str, data: bytes, link: bytes, histories: Mapping[str, History]
    ) -> None:
        where = f"leaf {index} of {tenant}"
        history = histories.get(intent)
        if history is None or history.tenant != tenant:
            raise Violation("M", f"{where} is of an intent that the tenant does not have: {intent}")
        if index != len(self._leaves[tenant]):
            raise Violation("S", f"{where} follows {len(self._leaves[tenant])} leaves")
        if link != sha256(b"\x00" + data).digest():
            raise Violation("S", f"{where} does not have the hash of its data")
        said = json.loads(data)
        sealed = said["records"]
        if sealed not in history.seals:
            raise Violation("S", f"{where} seals {sealed} records of {intent}, which has closed {history.seals}")
        kind = "packet" if sealed == history.seals[0] else "addendum"
        expected = {
            "chain": history.links[sealed - 1].hex(), "intent": intent, "kind": kind, "records": sealed,
            "tenant": tenant,
        }  # fmt: skip
        if said != expected:
            raise Violation("S", f"{where} says {said} where {expected} is due")
        if (intent, sealed) in self._places:
            raise Violation("S", f"{where} is in its log already, at {self._places[intent, sealed]}")
        self._places[intent, sealed] = index
        self._leaves[tenant].append((intent, data, link))

    def rebuild(self, store: StoreTwin) -> None:
        """Compare the stored leaves, tiles and heads with what commits wrote, and each log with its last root."""
        mine = {(tenant, at): leaf for tenant, leaves in self._leaves.items() for at, leaf in enumerate(leaves)}
        if store.rows.leaves != mine:
            raise Violation("S", "the stored leaves are not those that were committed")
        if store.rows.tiles != self._tiles or store.rows.heads != self._heads:
            raise Violation("S", "the stored tiles or heads are not those that were committed")
        self._signed_in_time(store)
        for tenant, leaves in self._leaves.items():
            hashes = [sha256(b"\x00" + data).digest() for _, data, _ in leaves]
            head = store.rows.heads.get((tenant, len(hashes)))
            if head is None or head.root != _recursive_root(hashes):
                raise Violation("S", f"the log of {tenant} has no head over its {len(hashes)} leaves")

    def _signed_in_time(self, store: StoreTwin) -> None:
        """See every head signed by the key that was in force at its time; where there is no history, by any."""
        keys = [(key.key_id, datetime.fromisoformat(key.since)) for key in store.current.evidence_keys]
        if not keys:
            return
        for head in self._heads.values():
            due = [keys[0], *(key for key in keys[1:] if key[1] <= head.at)][-1][0]
            if head.key_id != due:
                raise Violation("S", f"a head of {head.at} names {head.key_id} where {due} was in force")

    def finish(self, histories: Mapping[str, History]) -> None:
        """Verify every packet, and see a packet with one flipped byte refused.

        The heads are signed anew with a key of this audit: what is at stake here is the evidence, not the signer."""
        heads = {}
        for tenant, leaves in self._leaves.items():
            root = _recursive_root([link for _, _, link in leaves])
            heads[tenant] = sign_head(
                _KEY, tenant=tenant, size=len(leaves), root=root, at="2026-01-01T00:00:00.000000Z"
            )
        public = _KEY.public_key()
        for history in histories.values():
            if history.state not in SETTLED:
                continue
            absent = [seal for seal in history.seals if (history.id, seal) not in self._places]
            if absent or history.seals[-1:] != [history.sequence]:
                raise Violation(
                    "S", f"{history.id} has {history.sequence} records, closed {history.seals}, not in the log {absent}"
                )
            packet = self._packet(history, heads[history.tenant])
            verdict = self.verify(packet, public)
            if not verdict.ok:
                raise Violation("S", f"the packet of {history.id} does not verify: {verdict.problems[:2]}")
            place = int(history.id[:8], 16) % len(packet)
            flipped = packet[:place] + bytes([packet[place] ^ 1]) + packet[place + 1 :]
            if self.verify(flipped, public).ok:
                raise Violation("S", f"the packet of {history.id} verifies with byte {place} flipped")

    def _packet(self, history: History, head: TreeHead) -> bytes:
        hashes = [link for _, _, link in self._leaves[history.tenant]]
        parts = []
        start = 0
        for seal in history.seals:
            index = self._places[history.id, seal]
            proof = tuple(_recursive_proof(index, hashes))
            parts.append(Sealed(tuple(history.records[start:seal]), index, proof))
            start = seal
        return build_packet(parts[0], head, addenda=parts[1:])


def _recursive_root(hashes: Sequence[bytes]) -> bytes:
    """Return the hash over leaf hashes by the definition of RFC 6962, 2.1."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"").digest()
    cut = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + _recursive_root(hashes[:cut]) + _recursive_root(hashes[cut:])).digest()


def _recursive_proof(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return the audit path of a leaf by the definition of RFC 6962, 2.1.1."""
    if len(hashes) < 2:
        return []
    cut = 1 << (len(hashes) - 1).bit_length() - 1
    if index < cut:
        return [*_recursive_proof(index, hashes[:cut]), _recursive_root(hashes[cut:])]
    return [*_recursive_proof(index - cut, hashes[cut:]), _recursive_root(hashes[:cut])]
