"""The bundle: a range of a tenant's log with everything that it takes to verify it, as one deterministic tar file.

- Files hold what was stored, byte for byte: a line of `entries/` is a record, a leaf's line carries the leaf's bytes.
- Leaves and their entries stand in files of equal number, so each pair can be verified without the others.
- What an addendum of the range follows may lie before the range: that leaf is in `earlier/`, with the proof that the
  opening checkpoint covers it. There is no such file where there is no such leaf.
- The manifest names every other file with its digest and is signed, so denials and exports are covered too.
- No clock, name or order of the machine that made it gets in: equal rows give equal bytes. Tar headers are POSIX ustar
  with owner 0, mode 0644 and time 0.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from zentra.runtime.evidence import canonical

__all__ = [
    "BUNDLE_FORMAT", "CHECKPOINTS", "KEYS", "MANIFEST", "MANIFEST_SIGNATURE", "PROOFS", "TEXTS", "BundleBuilder",
    "BundleFile", "BundleHistory", "BundleKey", "BundleManifest", "Counts", "EarlierLine", "LeafLine", "LogProofs",
    "name_flaws", "numbered",
]  # fmt: skip

BUNDLE_FORMAT: Final = "zentra.evidence-bundle/1"
MANIFEST: Final = "manifest.json"
MANIFEST_SIGNATURE: Final = "manifest.sig.json"
PROOFS: Final = "proofs.json"
KEYS: Final = "keys.json"
TEXTS: Final = ("README.txt", "verify.py")
CHECKPOINTS: Final = ("checkpoints/opening.txt", "checkpoints/closing.txt")
PART_LEAVES_MAX: Final = 10_000
PART_BYTES_MAX: Final = 16 * 2**20  # of one kind of lines: what a verifier holds in memory at once

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK  # tar files end at a multiple of this

Kind = Literal["denials", "earlier", "entries", "exports", "leaves"]


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle."""

    bytes: int
    name: str
    sha256: str


class Counts(msgspec.Struct, forbid_unknown_fields=True):
    """How many lines of each kind there are."""

    denials: int = 0
    entries: int = 0
    exports: int = 0
    leaves: int = 0


class BundleHistory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The history of keys as it stood: how many entries, and the SHA-256 of the payload of the last one, in hex."""

    count: int
    last: str


class BundleManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle holds: the leaves from `first` on, as far as the head of `size` covers them.

    `since` and `until` are what was asked for; refusals and exports are those before `settled_until`, in minutes that
    nothing is added to any more. With `types`, only intents of these kinds have entries. `open` counts intents that
    were accepted before `settled_until` and that no leaf up to `size` seals: nothing in the bundle shows them. `keys`
    is the history of keys as it stood at the end. Earlier releases told neither."""

    counts: Counts
    files: list[BundleFile]
    first: int
    format: str
    settled_until: str
    since: str | None
    size: int
    tenant: str
    types: list[str] | None
    until: str | None
    keys: BundleHistory | UnsetType = UNSET
    open: int | UnsetType = UNSET


class LeafLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A leaf: its bytes, its place, and the hashes of the records that it seals beyond those before it.

    `after` is the hash that the first of them follows; empty at the beginning of an intent. No hashes means that the
    records are left out."""

    after: str
    data: str
    hashes: list[str]
    index: int


class EarlierLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A leaf from before the range that an addendum follows: its bytes, its place, and its audit path up to the root
    of the opening checkpoint (RFC 6962, 2.1.1), in hex, the lowest first."""

    data: str
    index: int
    proof: list[str]


class LogProofs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What joins the two checkpoints: the roots of the complete subtrees of the opening log, the largest first, in hex.

    They come to the opening root, and with the leaves behind them to the closing one: so the log only grew."""

    frontier: list[str]


class BundleKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A public key and its time, for convenience: nobody should believe a key because it comes with what it signed."""

    key_id: str
    pem: str
    since: str | None
    until: str | None
    verifier_key: str


class BundleBuilder:
    """Writes a bundle front to back; what it holds back is one part."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """`write` takes the bytes of the tar file, in order; what it raises comes out of every method."""
        self._write = write
        self._written = 0
        self._lines: dict[Kind, list[bytes]] = {
            "denials": [], "earlier": [], "entries": [], "exports": [], "leaves": []
        }  # fmt: skip
        self._held: dict[Kind, int] = dict.fromkeys(self._lines, 0)
        self._parts: dict[Kind, int] = dict.fromkeys(self._lines, 0)
        self.counts = Counts()
        self.files: list[BundleFile] = []

    def leaf(self, line: LeafLine, records: Sequence[bytes]) -> None:
        """Add a leaf, and the records of which it has the hashes."""
        self._add("leaves", canonical.encode(line))
        for record in records:
            self._add("entries", record)
        self.counts.leaves += 1
        self.counts.entries += len(records)
        if len(self._lines["leaves"]) >= PART_LEAVES_MAX or self._held["entries"] >= PART_BYTES_MAX:
            self._flush("leaves")
            self._flush("entries")

    def earlier(self, line: EarlierLine) -> None:
        """Add a leaf from before the range: each that an addendum of the range follows, once, and no other."""
        self._add("earlier", canonical.encode(line))
        if self._held["earlier"] >= PART_BYTES_MAX:
            self._flush("earlier")

    def denial(self, line: bytes) -> None:
        """Add a refusal, as a line of canonical JSON."""
        self._add("denials", line)
        self.counts.denials += 1
        if self._held["denials"] >= PART_BYTES_MAX:
            self._flush("denials")

    def export(self, line: bytes) -> None:
        """Add an earlier export, as a line of canonical JSON."""
        self._add("exports", line)
        self.counts.exports += 1
        if self._held["exports"] >= PART_BYTES_MAX:
            self._flush("exports")

    def file(self, name: str, content: bytes) -> None:
        """Add a file of its own."""
        self._put(name, content)
        self.files.append(BundleFile(len(content), name, sha256(content).hexdigest()))

    def end_of_lines(self) -> None:
        """Write what is held back; lines cannot be added after that."""
        for kind, lines in self._lines.items():
            # leaves and entries are pairs, even where a part has no entries
            if lines or (kind == "entries" and self._parts["leaves"] > self._parts["entries"]):
                self._flush(kind)
        while self._parts["entries"] < self._parts["leaves"]:
            self._flush("entries")

    def manifest(
        self, *, tenant: str, first: int, size: int, since: str | None, until: str | None, settled_until: str,
        types: Sequence[str] | None, open: int | UnsetType = UNSET, keys: BundleHistory | UnsetType = UNSET,
    ) -> bytes:  # fmt: skip
        """Return the manifest of all that was added."""
        return canonical.encode(
            BundleManifest(
                counts=self.counts, files=sorted(self.files, key=lambda one: one.name), first=first,
                format=BUNDLE_FORMAT, settled_until=settled_until, since=since, size=size, tenant=tenant,
                types=None if types is None else sorted(set(types)), until=until, keys=keys, open=open,
            )
        )  # fmt: skip

    def close(self, manifest: bytes, envelope: bytes) -> None:
        """Write the manifest, the envelope that has its signatures, and the end of the tar file."""
        self._put(MANIFEST, manifest)
        self._put(MANIFEST_SIGNATURE, envelope)
        self._write(bytes(-(self._written + 2 * _BLOCK) % _RECORD + 2 * _BLOCK))

    def _add(self, kind: Kind, line: bytes) -> None:
        self._lines[kind].append(line)
        self._held[kind] += len(line) + 1

    def _flush(self, kind: Kind) -> None:
        lines = self._lines[kind]
        self._parts[kind] += 1
        self.file(numbered(kind, self._parts[kind]), b"".join([line + b"\n" for line in lines]))
        lines.clear()
        self._held[kind] = 0

    def _put(self, name: str, content: bytes) -> None:
        padded = content + bytes(-len(content) % _BLOCK)
        self._write(_header(name, len(content)))
        self._write(padded)
        self._written += _BLOCK + len(padded)


def numbered(kind: str, number: int) -> str:
    """Return the name of a part, counted from 1."""
    return f"{kind}/{number:05d}.jsonl"


def name_flaws(names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (stable code, name, sentence) of what is not named as files of a bundle are: parts are counted from 1
    without a gap, and each file of leaves has one of entries. What nobody reads must not look verified."""
    kinds = get_args(Kind)
    parts = {kind: sum(name.startswith(f"{kind}/") for name in names) for kind in kinds}
    good = {numbered(kind, number + 1) for kind in kinds for number in range(parts[kind])}
    good |= {MANIFEST, MANIFEST_SIGNATURE, PROOFS, KEYS, *CHECKPOINTS, *TEXTS}
    for name in names:
        if name not in good:
            yield "file_unexpected", name, "no file of a bundle has this name"
    if parts["leaves"] != parts["entries"]:
        said = f"there are {parts['leaves']} files of leaves and {parts['entries']} of entries"
        yield "file_missing", "leaves and entries", said


def _header(name: str, size: int) -> bytes:
    """Return a POSIX ustar header of a plain file; `name` has at most 100 ASCII characters, `size` is below 8 GiB."""
    fields = (
        name.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size,
        b"00000000000\0", b" " * 8, b"0", bytes(100), b"ustar\x0000", bytes(32), bytes(32), b"0000000\0", b"0000000\0",
        bytes(155), bytes(12),
    )  # fmt: skip
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
