"""The bundle as a format: equal rows are equal bytes, any tar reads it, and parts are verified by themselves."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.runtime.test_evidence import INTENT, KEY, RECORDS
from zentra.gateway.cli import standalone
from zentra.runtime.evidence import bundle, canonical, heads, merkle
from zentra.runtime.evidence.bundle import BundleBuilder, EarlierLine, LeafLine, LogProofs
from zentra.runtime.evidence.bundle_check import BundleVerdict, check_bundle
from zentra.runtime.evidence.bundle_parts import PartJob, check_part
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_of, sign_payload
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.keyring import KeyRing, RingKey, ring_of
from zentra.runtime.evidence.packet import leaf_data
from zentra.runtime.evidence.seals import Seals

AT = "2026-11-21T02:42:00.000000Z"
BEFORE, AFTER = "2026-11-21T02:41:59.000000Z", "2026-11-21T02:42:00.000001Z"
RING = ring_of([KEY.public_key()])
HASHES = [GENESIS]
for one in RECORDS:
    HASHES.append(chain(HASHES[-1], one))


def line(start: int, end: int, index: int) -> LeafLine:
    """The leaf that seals the records from `start` on, before `end`."""
    kind = "addendum" if start else "packet"
    data = leaf_data(tenant="acme", intent=INTENT, kind=kind, chain=HASHES[end], records=end)  # type: ignore[arg-type]
    after = HASHES[start].hex() if start else ""
    return LeafLine(after, data.decode(), [link.hex() for link in HASHES[start + 1 : end + 1]], index)


PACKET, ADDENDUM = line(0, 8, 0), line(8, 10, 1)
LINES = [line(0, 8, 0), line(8, 9, 1), line(9, 10, 2)]
PARTS = [RECORDS[0:8], RECORDS[8:9], RECORDS[9:10]]


def made(
    lines: Sequence[LeafLine] = LINES, parts: Sequence[Sequence[bytes]] = PARTS, types: Sequence[str] | None = None
) -> tuple[bytes, TreeHead]:
    out = io.BytesIO()
    builder = BundleBuilder(out.write)
    for one, records in zip(lines, parts, strict=True):
        builder.leaf(one, records)
    builder.denial(b'{"actor":"eve"}')
    builder.export(b'{"actor":"bob"}')
    frontier, _ = merkle.Frontier().append([merkle.leaf_hash(one.data.encode()) for one in lines])
    head = heads.sign_head(KEY, tenant="acme", size=len(lines), root=frontier.root(), at=AT)
    builder.file(bundle.CHECKPOINTS[1], heads.signed_note(KEY.public_key(), head).encode())
    builder.file(bundle.PROOFS, canonical.encode(LogProofs([])))
    builder.end_of_lines()
    manifest = builder.manifest(
        tenant="acme", first=0, size=len(lines), since=None, until=None, settled_until=AT, types=types
    )
    builder.close(manifest, envelope_of(MANIFEST_TYPE, b"", [sign_payload(KEY, MANIFEST_TYPE, manifest)]))
    return out.getvalue(), head


def ranged(lines: Sequence[LeafLine] = (), parts: Sequence[Sequence[bytes]] = ()) -> tuple[bytes, TreeHead]:
    """A bundle of the third of five leaves and on, of an intent whose packet is the second; and its closing head."""
    out = io.BytesIO()
    builder = BundleBuilder(out.write)
    strangers = [
        leaf_data(tenant="acme", intent=f"{n:032x}", kind="packet", chain=HASHES[1], records=1) for n in range(5)
    ]
    before = [strangers[0], PACKET.data.encode(), *strangers[1:]]
    opening, _ = merkle.Frontier().append([merkle.leaf_hash(data) for data in before])
    own = [msgspec.structs.replace(one, index=one.index + 5) for one in (line(8, 9, 1), line(9, 10, 2))]
    for one, records in zip(lines or own, parts or [RECORDS[8:9], RECORDS[9:10]], strict=True):
        builder.leaf(one, records)
    proof = merkle.inclusion_proof(1, 6, lambda _, start, count: list(map(merkle.leaf_hash, before))[start:][:count])
    builder.earlier(EarlierLine(PACKET.data, 1, [node.hex() for node in proof]))
    closing, _ = opening.append([merkle.leaf_hash(one.data.encode()) for one in lines or own])
    ends = [
        heads.sign_head(KEY, tenant="acme", size=one.size, root=one.root(), at=at)
        for one, at in ((opening, BEFORE), (closing, AT))
    ]
    for name, head in zip(bundle.CHECKPOINTS, ends, strict=True):
        builder.file(name, heads.signed_note(KEY.public_key(), head).encode())
    builder.file(bundle.PROOFS, canonical.encode(LogProofs([node.hex() for node in opening.hashes])))
    builder.end_of_lines()
    manifest = builder.manifest(
        tenant="acme", first=opening.size, size=closing.size, since=BEFORE, until=None, settled_until=AT, types=None
    )
    builder.close(manifest, envelope_of(MANIFEST_TYPE, b"", [sign_payload(KEY, MANIFEST_TYPE, manifest)]))
    return out.getvalue(), ends[1]


def files_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


def verdict_of(files: dict[str, bytes], anchors: list[TreeHead] | None = None, ring: KeyRing = RING) -> BundleVerdict:
    def parts(jobs: object) -> object:
        for job in jobs:  # type: ignore[attr-defined]
            names = (bundle.numbered("leaves", job.number), bundle.numbered("entries", job.number))
            yield check_part(job, *(files[name] for name in names))

    return check_bundle(list(files), files.__getitem__, parts, ring, anchors or [])  # type: ignore[arg-type]


def test_any_tar_reads_it_and_nothing_of_the_machine_is_in_it() -> None:
    data, _ = made()
    assert len(data) % 10_240 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for one in archive:
            assert (one.mtime, one.uid, one.gid, one.mode, one.uname, one.isreg()) == (0, 0, 0, 0o644, "", True)
    assert made()[0] == data


def test_the_bytes_are_those_of_the_first_release() -> None:
    assert sha256(made()[0]).hexdigest() == "d549bf27d3bf98f0bacc960aca4cfcc1b9d3ae1fcbcdfe7dfa12fbe8b2d37307"


def test_it_verifies_up_to_its_anchor() -> None:
    data, head = made()
    found = verdict_of(files_of(data), [head])
    assert (found.ok, found.problems, found.entries, found.leaves) == (True, (), 10, 3)
    assert (found.denials, found.exports, found.anchored, found.unanchored) == (1, 1, (0, 3), None)


def test_a_range_stands_on_the_leaves_before_it() -> None:
    data, head = ranged()
    found = verdict_of(files_of(data), [head])
    assert (found.ok, found.problems, found.entries, found.anchored) == (True, (), 2, (6, 8))
    lost_one = [msgspec.structs.replace(lost(8, 10, 1), index=6)]
    assert [one.code for one in verdict_of(files_of(ranged(lost_one, [RECORDS[9:]])[0])).problems] == [
        "records_missing"
    ]


def test_full_parts_are_cut_and_stay_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "PART_LEAVES_MAX", 2)
    data, _ = made()
    files = files_of(data)
    assert [name for name in files if name.startswith(("leaves", "entries"))] == [
        "leaves/00001.jsonl", "entries/00001.jsonl", "entries/00002.jsonl", "leaves/00002.jsonl",
    ]  # fmt: skip
    assert verdict_of(files).ok


NEXT = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
MANIFESTS: dict[str, tuple[Ed25519PrivateKey, str | None, str | None, dict[str, str], str | None]] = {
    # who signs; until when its own key and the next one are good; what the manifest says; what is said of it
    "by the key of its time": (KEY, AFTER, None, {}, None),
    "by a key retired before the closing head": (NEXT, None, AT, {"settled_until": BEFORE}, "key_out_of_time"),
    "by a key retired before refusals end": (KEY, AFTER, None, {"settled_until": AFTER}, "key_out_of_time"),
    "later, by the next key": (NEXT, AFTER, None, {}, None),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_retired_key_vouches_for_no_manifest_of_what_came_after_it(case: str) -> None:
    signer, own, following, changes, code = MANIFESTS[case]
    files = files_of(made()[0])
    manifest = canonical.encode(msgspec.json.decode(files[bundle.MANIFEST]) | changes)
    files[bundle.MANIFEST] = manifest
    files[bundle.MANIFEST_SIGNATURE] = envelope_of(MANIFEST_TYPE, b"", [sign_payload(signer, MANIFEST_TYPE, manifest)])
    ring = {
        heads.key_id(KEY.public_key()): RingKey(KEY.public_key(), BEFORE, own),
        heads.key_id(NEXT.public_key()): RingKey(NEXT.public_key(), BEFORE, following),
    }
    codes = [one.code for one in verdict_of(files, ring=ring).problems if one.where == bundle.MANIFEST]
    assert codes == ([] if code is None else [code])


def test_an_addendum_is_verified_without_its_packet() -> None:
    job = PartJob("acme", 1, 1, False)
    leaves = b"".join(canonical.encode(one) + b"\n" for one in LINES[1:])
    entries = b"".join(record + b"\n" for record in RECORDS[8:])
    found = check_part(job, leaves, entries)
    assert (found.problems, found.entries, len(found.hashes)) == ([], 2, 64)


def lost(start: int, end: int, index: int) -> LeafLine:
    """The leaf of an addendum whose first record was dropped, which says to follow that record."""
    return msgspec.structs.replace(
        line(start, end, index), after=HASHES[start + 1].hex(), hashes=line(start + 1, end, 0).hashes
    )


def bare(of: LeafLine) -> LeafLine:
    """A leaf whose records are left out."""
    return msgspec.structs.replace(of, after="00" * 32 if of.after else "", hashes=[])


GOING_ON: dict[str, tuple[list[LeafLine], Sequence[Sequence[bytes]], list[str] | None, set[str]]] = {
    "sound": ([PACKET, ADDENDUM], [RECORDS[:8], RECORDS[8:]], None, set()),
    "a record dropped between": ([PACKET, lost(8, 10, 1)], [RECORDS[:8], RECORDS[9:]], None, {"records_missing"}),
    "a record twice": ([PACKET, line(7, 10, 1)], [RECORDS[:8], RECORDS[7:]], None, {"sequence_broken"}),
    "another record before it": (
        [PACKET, msgspec.structs.replace(ADDENDUM, after="11" * 32)], [RECORDS[:8], RECORDS[8:]], None,
        {"chain_broken"},
    ),
    "two packets": ([PACKET, line(0, 8, 1)], [RECORDS[:8], RECORDS[:8]], None, {"sequence_broken"}),
    "no packet": ([line(8, 10, 0)], [RECORDS[8:]], None, {"sequence_broken"}),
    "all left out": ([bare(PACKET), bare(ADDENDUM)], [[], []], ["hold"], set()),
    "an addendum left out": ([PACKET, bare(ADDENDUM)], [RECORDS[:8], []], ["hold"], {"records_missing"}),
    "a packet left out": ([bare(PACKET), ADDENDUM], [[], RECORDS[8:]], ["hold"], {"records_missing"}),
    "left out and fewer": ([bare(PACKET), bare(line(4, 6, 1))], [[], []], ["hold"], {"sequence_broken"}),
}  # fmt: skip


@pytest.mark.parametrize("leaves", [1, 10_000])
@pytest.mark.parametrize("name", GOING_ON)
def test_an_addendum_goes_on_where_the_leaf_before_it_ends(
    name: str, leaves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "PART_LEAVES_MAX", leaves)
    lines, parts, types, codes = GOING_ON[name]
    data, _ = made(lines, parts, types)
    found = verdict_of(files_of(data))
    assert codes <= {one.code for one in found.problems}
    assert (found.ok, found.integrity) == (not codes, not codes)
    (tmp_path / "b.tar").write_bytes(data)
    raw = KEY.public_key().public_bytes_raw()
    assert bool(standalone.verify(tmp_path / "b.tar", [raw], [])[0]) is bool(codes)


def test_an_addendum_to_what_lies_before_the_range_is_incomplete() -> None:
    part = check_part(PartJob("acme", 1, 1, False), *one_addendum())
    assert [code for code, _, _ in Seals().join(part.seals, whole=False)] == ["beginning_missing"]
    assert [code for code, _, _ in Seals().join(part.seals, whole=True)] == ["sequence_broken"]


def one_addendum() -> tuple[bytes, bytes]:
    return canonical.encode(ADDENDUM) + b"\n", b"".join(record + b"\n" for record in RECORDS[8:])


CHANGES = {
    "another tenant": ({"data": LINES[0].data.replace("acme", "globex")}, "tenant_differs"),
    "another kind": ({"data": LINES[0].data.replace('"packet"', '"addendum"')}, "leaf_differs"),
    "another chain": ({"data": line(0, 9, 0).data}, "leaf_differs"),
    "another place": ({"index": 3}, "leaf_missing"),
    "after something": ({"after": "00" * 32}, "leaf_differs"),
    "fewer hashes": ({"hashes": LINES[0].hashes[:-1]}, "sequence_broken"),
    "more hashes": ({"hashes": [*LINES[0].hashes, "00" * 32]}, "sequence_broken"),
    "no hashes": ({"hashes": []}, "records_missing"),
    "no hash": ({"hashes": ["x", *LINES[0].hashes[1:]]}, "chain_broken"),
    "no leaf": ({"data": "{}"}, "leaf_malformed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_leaf_that_was_changed_is_told(change: str) -> None:
    fields, code = CHANGES[change]
    leaves = canonical.encode(msgspec.structs.replace(LINES[0], **fields)) + b"\n"  # type: ignore[arg-type]
    found = check_part(PartJob("acme", 1, 0, False), leaves, b"".join(one + b"\n" for one in RECORDS[:8]))
    assert code in {one.code for one in found.problems}


@pytest.mark.parametrize(
    ("leaves", "entries", "code"),
    [
        (b"x\n", b"", "leaf_malformed"),
        (b"", b"x\n", "records_unsealed"),
        (b"", b"x", "records_malformed"),
        (canonical.encode(LINES[0]), b"", "leaf_malformed"),
        (canonical.encode(LINES[0]) + b"\n", b"", "records_missing"),
        (canonical.encode(LINES[0]) + b"\n", b"{}\n" * 8, "record_malformed"),
        (b"", b"\xff\n", "records_unsealed"),
    ],
)
def test_what_is_no_part_is_told(leaves: bytes, entries: bytes, code: str) -> None:
    found = check_part(PartJob("acme", 1, 0, False), leaves, entries)
    assert code in {one.code for one in found.problems}


def test_a_thousand_problems_are_counted_and_the_first_are_kept() -> None:
    found = check_part(PartJob("acme", 1, 0, False), b"x\n" * 1_000, b"")
    assert (len(found.problems), found.problems_in_all) == (100, 1_000)
