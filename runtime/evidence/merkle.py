"""The RFC 6962 Merkle tree: hashes, a compact right edge for appending, and proofs of inclusion and consistency.

- A leaf and a node can never be taken for each other: leaves are hashed behind 0x00, nodes behind 0x01.
- Whoever appends keeps only a `Frontier`: one hash per set bit of the size, so any log's state is small.
- Whoever proves keeps the leaf hashes and the *tiles*: the roots of complete subtrees at levels 8, 16, ... (256 leaves,
  65,536 leaves, ...). A proof then reads at most a few hundred hashes per level, however long the log is.
- Nothing here waits or reads. A caller asks `proof_ranges` or `consistency_ranges` what to load, loads it, and hands
  the loaded hashes back as a plain function.
- A proof says nothing by itself: it is checked against a (size, root) that somebody signed, never against a bare root.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeAlias

import msgspec

__all__ = [
    "EMPTY_ROOT",
    "TILE_LEVELS",
    "Fetch",
    "Frontier",
    "Range",
    "Tile",
    "consistency_proof",
    "consistency_ranges",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "proof_ranges",
    "verify_consistency",
    "verify_inclusion",
]

EMPTY_ROOT = sha256(b"").digest()
"""The root of a log without leaves."""

TILE_LEVELS = 8
"""A tile covers this many levels: 256 hashes of 32 bytes are 8 KiB, one page of the database."""

Fetch: TypeAlias = Callable[[int, int, int], Sequence[bytes]]
"""`fetch(level, start, count)`: the hashes at `start`, `start + 1`, ... of `level`; level 0 holds leaf hashes."""


class Range(NamedTuple):
    """Hashes that a proof reads: `length` of them from `start` on, at `level` (a multiple of 8)."""

    level: int
    start: int
    length: int


class Tile(msgspec.Struct, frozen=True):
    """The root of a complete subtree: it covers the leaves from `index * 2**level`, `2**level` of them."""

    level: int
    index: int
    hash: bytes


class Frontier(msgspec.Struct, frozen=True):
    """The right edge of a log: its size, and the roots of the complete subtrees it falls into, the largest first.

    Raises `ValueError` when the number of hashes is not the number of set bits of the size.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"a log of {self.size} leaves has no frontier of {len(self.hashes)} hashes")

    def append(self, leaf_hashes: Sequence[bytes]) -> "tuple[Frontier, tuple[Tile, ...]]":
        """Return the frontier after `leaf_hashes`, in order, and the tiles which they completed."""
        stack = list(self.hashes)
        size = self.size
        tiles: list[Tile] = []
        push, pop = stack.append, stack.pop
        for hashed in leaf_hashes:
            # Each set low bit of the old size is a subtree as large as the one in hand: the two become one.
            rest, level, carried = size, 0, hashed
            while rest & 1:
                carried = sha256(b"\x01" + pop() + carried).digest()
                rest >>= 1
                level += 1
                if not level % TILE_LEVELS:
                    tiles.append(Tile(level, size >> level, carried))
            push(carried)
            size += 1
        return Frontier(size, tuple(stack)), tuple(tiles)

    def root(self) -> bytes:
        """Return the root of the log: `EMPTY_ROOT` when it has no leaves."""
        return _folded(self.hashes) if self.hashes else EMPTY_ROOT


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds `data`."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over `left` and `right`."""
    return sha256(b"\x01" + left + right).digest()


def proof_ranges(index: int, size: int) -> list[Range]:
    """Return what `inclusion_proof(index, size, ...)` will fetch: neighbouring reads are joined.

    Raises `ValueError` when the log of `size` leaves has no leaf `index`.
    """
    return _ranges(_inclusion_nodes(index, size))


def inclusion_proof(index: int, size: int, fetch: Fetch) -> list[bytes]:
    """Return the audit path of leaf `index` in the log of `size` leaves, the leaf's own sibling first.

    Raises `ValueError` when there is no such leaf, or `fetch` returns another number of hashes than it was asked for.
    """
    return [_subtree(start, end, fetch) for start, end in _inclusion_nodes(index, size)]


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether `proof` shows that the log of `size` leaves under `root` holds `leaf_hash` at `index`."""
    if not 0 <= index < size:
        return False
    # RFC 9162, 2.1.3.2: `last` is the rightmost node of the level that `place` stands on.
    place, last, carried = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            carried = node_hash(sibling, carried)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            carried = node_hash(carried, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and carried == root


def consistency_ranges(old_size: int, size: int) -> list[Range]:
    """Return what `consistency_proof(old_size, size, ...)` will fetch.

    Raises `ValueError` unless `0 <= old_size <= size`.
    """
    return _ranges(_consistency_nodes(old_size, size))


def consistency_proof(old_size: int, size: int, fetch: Fetch) -> list[bytes]:
    """Return the proof that the first `old_size` of `size` leaves are unchanged; empty where the roots say it all.

    Raises `ValueError` unless `0 <= old_size <= size`, or when `fetch` returns another number of hashes than asked for.
    """
    return [_subtree(start, end, fetch) for start, end in _consistency_nodes(old_size, size)]


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether `proof` shows that the log under `root` begins with the whole log under `old_root`."""
    if not 0 <= old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    # RFC 9162, 2.1.4.2: a complete old tree is its own first node, so the proof leaves it out.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old_size - 1, size - 1
    while place & 1:
        place >>= 1
        last >>= 1
    old_carried = carried = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old_carried = node_hash(sibling, old_carried)
            carried = node_hash(sibling, carried)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            carried = node_hash(carried, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and old_carried == old_root and carried == root


def _split(length: int) -> int:
    """Return the largest power of two below `length`: where RFC 6962 divides a tree of that many leaves."""
    return 1 << (length - 1).bit_length() - 1


def _inclusion_nodes(index: int, size: int) -> list[tuple[int, int]]:
    """Return the subtrees of an audit path as leaf ranges [start, end), lowest first."""
    if not 0 <= index < size:
        raise ValueError(f"a log of {size} leaves has no leaf {index}")
    nodes: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            nodes.append((middle, end))
            end = middle
        else:
            nodes.append((start, middle))
            start = middle
    return nodes[::-1]


def _consistency_nodes(old_size: int, size: int) -> list[tuple[int, int]]:
    """Return the subtrees of a consistency proof as leaf ranges [start, end), lowest first."""
    if not 0 <= old_size <= size:
        raise ValueError(f"a log of {size} leaves has no earlier state of {old_size}")
    if old_size in (0, size):
        return []
    nodes: list[tuple[int, int]] = []
    start, end = 0, size
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            nodes.append((middle, end))
            end = middle
        else:
            nodes.append((start, middle))
            start = middle
    if start:
        nodes.append((start, end))
    return nodes[::-1]


def _peaks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the complete subtrees (level, index) of the leaves [start, end), the largest first.

    `start` must be a multiple of the largest one's size, as it is for every node of the tree.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _stored(level: int, index: int) -> Range:
    """Return the stored hashes below the subtree (level, index): those of the nearest level kept."""
    depth = level % TILE_LEVELS
    return Range(level - depth, index << depth, 1 << depth)


def _ranges(nodes: Sequence[tuple[int, int]]) -> list[Range]:
    joined: list[Range] = []
    for level, start, length in sorted(_stored(*peak) for node in nodes for peak in _peaks(*node)):
        before = joined[-1] if joined else None
        if before is not None and before.level == level and before.start + before.length == start:
            joined[-1] = Range(level, before.start, before.length + length)
        else:
            joined.append(Range(level, start, length))
    return joined


def _subtree(start: int, end: int, fetch: Fetch) -> bytes:
    """Return the hash over the leaves [start, end), a node of the tree."""
    return _folded([_complete(fetch, _stored(level, index)) for level, index in _peaks(start, end)])


def _complete(fetch: Fetch, wanted: Range) -> bytes:
    hashes = list(fetch(*wanted))
    if len(hashes) != wanted.length:
        raise ValueError(f"{len(hashes)} hashes were loaded where {wanted} was needed")
    while len(hashes) > 1:
        hashes = [node_hash(hashes[place], hashes[place + 1]) for place in range(0, len(hashes), 2)]
    return hashes[0]


def _folded(hashes: Sequence[bytes]) -> bytes:
    """Return the hash over subtrees that stand side by side, the largest first."""
    carried = hashes[-1]
    for left in reversed(hashes[:-1]):
        carried = node_hash(left, carried)
    return carried
