"""The leaves from before a range that addenda of the range follow, each with the proof that the log had it by then.

- Nothing is verified here: where hashes of the log are missing, the leaf is left out, and a verifier says that it is.
- Hashes are read by the tile, and kept while neighbours need them: what is amended was mostly sealed not long ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.bundle import EarlierLine
from zentra.runtime.evidence.merkle import TILE_LEVELS, Range
from zentra.storage.pool import Connection
from zentra.storage.reads.evidence import stored_hashes

__all__ = ["Predecessors"]

_TILE: Final = 1 << TILE_LEVELS
HASHES_MAX: Final = 1_000 * _TILE  # kept, of 32 bytes


class Predecessors:
    """What makes the proofs of one range; `size` is that of the log at its beginning."""

    def __init__(self, connection: Connection, tenant: str, size: int) -> None:
        self._connection, self._tenant, self._size = connection, tenant, size
        self._hashes: dict[tuple[int, int], bytes] = {}
        self._tiles: set[tuple[int, int]] = set()

    async def line(self, index: int, data: bytes) -> EarlierLine | None:
        """Return a leaf from before the range with its proof, or None where hashes are missing; raises Unavailable."""
        await self._load(merkle.proof_ranges(index, self._size))
        try:
            proof = merkle.inclusion_proof(index, self._size, self._fetch)
        except ValueError:
            return None  # somebody took rows out of the log, and it is not for an export to hide or to repair that
        return EarlierLine(data.decode("utf-8", "replace"), index, [node.hex() for node in proof])

    async def _load(self, ranges: Sequence[Range]) -> None:
        wanted = {
            (level, tile)
            for level, start, count in ranges
            for tile in range(start // _TILE, (start + count - 1) // _TILE + 1)
        }
        if len(self._hashes) > HASHES_MAX:
            self._hashes.clear()
            self._tiles.clear()
        missing = sorted(wanted - self._tiles)
        reads = [Range(level, tile * _TILE, _TILE) for level, tile in missing]
        self._hashes |= await stored_hashes(self._connection, self._tenant, reads)
        self._tiles |= wanted

    def _fetch(self, level: int, start: int, count: int) -> list[bytes]:
        return [self._hashes[level, at] for at in range(start, start + count) if (level, at) in self._hashes]
