"""How many entries a second both verifiers of bundles get through, by the clock on the wall and by processor time:

.venv/bin/python -m tests.verification.bundle_speed 200000

The bundle is of one day's second half: of each tenth intent the packet lies before the range. Its records are those of
real intents of a twin, so they are as long as records are."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.ledgers import KEY, played
from zentra.gateway.cli import standalone
from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.bundle import CHECKPOINTS, PROOFS, BundleBuilder, EarlierLine, LeafLine, LogProofs
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_of, sign_payload
from zentra.runtime.evidence.heads import sign_head, signed_note
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.evidence.merkle import Frontier, Tile, inclusion_proof, leaf_hash
from zentra.runtime.evidence.packet import leaf_data
from zentra.storage.verification.bundle_files import verify_bundle

__all__ = ["made", "measured"]

AT = ("2026-11-21T00:00:00.000000Z", "2026-11-22T00:00:00.000000Z")
EARLIER_OF = 10  # one intent of so many was sealed before the range


def made(path: Path, entries: int) -> int:
    """Write a bundle of at least so many entries; return how many there are."""
    model = max(played().store.rows.transitions.values(), key=len)
    old = model[0].intent.replace("-", "").encode()
    records = [row.record for row in model]
    lines: list[tuple[LeafLine, list[bytes]]] = []
    before: list[bytes] = []
    number = count = 0
    while count < entries:
        intent = f"{number:032x}"
        own, links = [record.replace(old, intent.encode()) for record in records], [GENESIS]
        for record in own:
            links.append(chain(links[-1], record))
        start = len(own) // 2 if number % EARLIER_OF == 0 else 0
        if start:
            before.append(_leaf(intent, links, start))
        kind_leaf = LeafLine(
            links[start].hex() if start else "", _leaf(intent, links, len(own), bool(start)).decode(),
            [link.hex() for link in links[start + 1 :]], len(lines),
        )  # fmt: skip
        lines.append((kind_leaf, own[start:]))
        count, number = count + len(own) - start, number + 1
    opening, tiles = Frontier().append([leaf_hash(data) for data in before])
    with path.open("wb") as file:
        builder = BundleBuilder(file.write)
        for leaf, own in lines:
            builder.leaf(msgspec.structs.replace(leaf, index=leaf.index + opening.size), own)
        fetch = _fetch(before, tiles)
        for index, data in enumerate(before):
            proof = inclusion_proof(index, opening.size, fetch)
            builder.earlier(EarlierLine(data.decode(), index, [node.hex() for node in proof]))
        closing, _ = opening.append([leaf_hash(leaf.data.encode()) for leaf, _ in lines])
        for name, tree, at in zip(CHECKPOINTS, (opening, closing), AT, strict=True):
            head = sign_head(KEY, tenant="acme", size=tree.size, root=tree.root(), at=at)
            builder.file(name, signed_note(KEY.public_key(), head).encode())
        builder.file(PROOFS, canonical.encode(LogProofs([node.hex() for node in opening.hashes])))
        builder.end_of_lines()
        manifest = builder.manifest(
            tenant="acme", first=opening.size, size=closing.size, since=AT[0], until=None, settled_until=AT[1],
            types=None,
        )  # fmt: skip
        builder.close(manifest, envelope_of(MANIFEST_TYPE, b"", [sign_payload(KEY, MANIFEST_TYPE, manifest)]))
    return count


def _leaf(intent: str, links: list[bytes], records: int, addendum: bool = False) -> bytes:
    kind = "addendum" if addendum else "packet"
    return leaf_data(tenant="acme", intent=intent, kind=kind, chain=links[records], records=records)  # type: ignore[arg-type]


def _fetch(before: list[bytes], tiles: tuple[Tile, ...]) -> Callable[[int, int, int], list[bytes]]:
    hashes = {(tile.level, tile.index): tile.hash for tile in tiles}
    hashes |= {(0, index): leaf_hash(data) for index, data in enumerate(before)}
    return lambda level, start, count: [hashes[level, at] for at in range(start, start + count)]


def measured(path: Path, verify: Callable[[], bool], entries: int) -> str:
    """Return what a verifier does in a second with a bundle in a file; raise ValueError where it does not verify."""
    path.read_bytes()  # from memory, as after a download
    wall, cpu = time.perf_counter(), time.process_time()
    if not verify():
        raise ValueError("the bundle does not verify")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return f"{entries / wall:>12,.0f} entries/s by wall {entries / cpu:>12,.0f} by CPU {wall:>8.2f} s"


def main(entries: int) -> str:
    """Return both figures, a line each."""
    public = KEY.public_key()
    with tempfile.TemporaryDirectory(prefix="zentra-speed-") as folder:
        path = Path(folder) / "bundle.tar"
        count = made(path, entries)
        (Path(folder) / "pub.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        keys = [public.public_bytes_raw()]
        found = {
            "zentra evidence verify": lambda: verify_bundle(path, ring_of([public]), [], lambda *_: None).ok,
            "verify.py": lambda: not standalone.verify(path, keys, [])[0],
        }
        lines = [f"{count:,} entries, {path.stat().st_size / 2**20:,.0f} MiB"]
        return "\n".join([*lines, *(f"{name:<24}{measured(path, one, count)}" for name, one in found.items())])


if __name__ == "__main__":
    sys.stdout.write(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000) + "\n")
