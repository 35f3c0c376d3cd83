"""Verifying a bundle: integrity (nothing was changed) and completeness (nothing is missing) are answered apart.

- Bytes are held to the signed manifest, records to their chain, the chain to the leaf, leaves to the signed heads.
- Heads that somebody kept elsewhere (anchors) are what finds a log that was cut off or made anew: within the range the
  log is rebuilt leaf by leaf, so an anchor of any size in it is compared; beyond the range it shows that something is
  missing here. What no anchor covers is said.
- Whoever signs the manifest vouches for refusals and exports, which no log covers: a key that was retired by the end
  of what the bundle holds does not count.
- The verdict is of all problems, however many are shown.
- An addendum is held to the leaf that it follows, across parts. Where that leaf lies before the range, its proof under
  the opening checkpoint has to be here: without it nobody can tell whether records between the two are missing, and
  that is incomplete, and said.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import UNSET

from zentra.runtime.evidence import canonical, merkle
from zentra.runtime.evidence.bundle import (
    BUNDLE_FORMAT,
    CHECKPOINTS,
    MANIFEST,
    MANIFEST_SIGNATURE,
    PROOFS,
    BundleManifest,
    Counts,
    LogProofs,
    name_flaws,
    numbered,
)
from zentra.runtime.evidence.bundle_parts import (
    INCOMPLETE,
    UNREADABLE,
    Part,
    PartJob,
    Problems,
    check_part,
    first_index,
)
from zentra.runtime.evidence.contradictions import contradictions
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_flaw, envelope_signers, open_envelope
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.history import KeyHistory
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.notes import NoteFlaw, read_note
from zentra.runtime.evidence.packet import Problem
from zentra.runtime.evidence.seals import Seals

__all__ = ["BundleVerdict", "check_bundle"]

_MISSING: Final = INCOMPLETE | {"records_missing", "file_missing", "leaf_missing"}


class BundleVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer about a bundle. `anchored` and `unanchored` are ranges of leaves, the end excluded, or None."""

    ok: bool
    integrity: bool
    completeness: bool
    problems: tuple[Problem, ...] = ()
    problems_in_all: int = 0
    tenant: str | None = None
    since: str | None = None
    until: str | None = None
    first: int = 0
    size: int = 0
    entries: int = 0
    leaves: int = 0
    denials: int = 0
    exports: int = 0
    left_out: int = 0  # leaves whose entries are not in the bundle, because of its filter
    head_at: str | None = None
    key_ids: tuple[str, ...] = ()
    anchored: tuple[int, int] | None = None
    unanchored: tuple[int, int] | None = None
    not_sealed: int | None = None  # intents open when it was made; None: it does not say
    not_covered: tuple[int, ...] = ()  # sizes of anchors from before the range, which nothing here can be held to


def check_bundle(
    names: Sequence[str],
    read: Callable[[str], bytes],
    parts: Callable[[Sequence[PartJob]], Iterator[Part]],
    ring: KeyRing,
    anchors: Sequence[TreeHead] = (),
    digests: Callable[[Sequence[str]], Mapping[str, tuple[int, str]]] | None = None,
    history: KeyHistory | None = None,
) -> BundleVerdict:
    """Return the verdict about a bundle whose files have these `names`, in their order.

    `read` returns a file's bytes; `parts` verifies pairs of files, in order, by `check_part`; `digests` returns size
    and SHA-256 of files, where there is a faster way than one by one. `anchors` are heads that were verified,
    `history` the keys as somebody was told them."""
    check = _Bundle(names, read, ring, anchors)
    if not check.manifest_holds():
        return check.verdict()
    check.files_hold(digests or check.digests)
    if check.problems.count:
        return check.verdict()  # whatever else would be said would only be an echo of it
    opening, closing = (check.checkpoint(name) for name in CHECKPOINTS)
    for flaw in contradictions([one for one in (opening, closing, *anchors) if one is not None]):
        check.problems.add(*flaw)
    check.vouched(closing)
    check.lines()
    check.history(history, closing)
    check.log(opening, closing, parts)
    return check.verdict(closing)


class _Bundle:
    """One pass over a bundle."""

    def __init__(
        self, names: Sequence[str], read: Callable[[str], bytes], ring: KeyRing, anchors: Sequence[TreeHead]
    ) -> None:
        self.names, self.read, self.ring, self.anchors = names, read, ring, anchors
        self.problems = Problems()
        self.manifest: BundleManifest | None = None
        self.left_out = 0
        self.key_ids: list[str] = []
        self.anchored_to: int | None = None
        self.not_covered: list[int] = []

    def manifest_holds(self) -> bool:
        """Read the manifest and verify its signature; nothing else is worth a look where that fails."""
        try:
            data = self.read(MANIFEST)
            signatures = open_envelope(self.read(MANIFEST_SIGNATURE))
            if canonical.encode(signatures) != self.read(MANIFEST_SIGNATURE):
                raise ValueError("the envelope has other members than those of an envelope, or is spelled otherwise")
            if (signatures.payload, signatures.payload_type) != ("", MANIFEST_TYPE):
                raise ValueError("the envelope is not one of a manifest that stands beside it")
        except (KeyError, ValueError) as error:
            self.problems.add("manifest_malformed", MANIFEST, f"no manifest and signature: {error}")
            return False
        flaw = envelope_flaw(self.ring, MANIFEST_TYPE, data, signatures.signatures)
        if flaw is not None:
            self.problems.add(flaw[0], MANIFEST, flaw[1])
            return False
        self.key_ids += envelope_signers(self.ring, MANIFEST_TYPE, data, signatures.signatures)
        try:
            canonical.decode(data)
            manifest = self.manifest = msgspec.json.decode(data, type=BundleManifest)
        except UNREADABLE as error:
            self.problems.add("manifest_malformed", MANIFEST, error)
            return False
        if manifest.format != BUNDLE_FORMAT:
            self.problems.add("format_unknown", MANIFEST, f"the format is {manifest.format!r}, not {BUNDLE_FORMAT!r}")
            return False
        return True

    def vouched(self, closing: TreeHead | None) -> None:
        """Hold the keys that signed the manifest to what it covers. One that came later may have made it later."""
        manifest = self.manifest
        assert manifest is not None
        ends = [manifest.settled_until, *([] if closing is None else [closing.at])]
        good = {kid: key for kid, key in self.ring.items() if not any(key.retired(at) for at in ends)}
        signatures = open_envelope(self.read(MANIFEST_SIGNATURE)).signatures
        if envelope_flaw(good, MANIFEST_TYPE, self.read(MANIFEST), signatures) is not None:
            detail = f"it covers what was until {max(ends)}, when the key that signed it was retired"
            self.problems.add("key_out_of_time", MANIFEST, detail)

    def lines(self) -> None:
        """Count every line of every kind, and read those that no leaf covers."""
        assert self.manifest is not None
        counts = Counts()
        for name in self.names:
            kind = name.partition("/")[0]
            if kind == "earlier" or not name.endswith(".jsonl"):
                continue
            *rows, end = self.read(name).split(b"\n")
            setattr(counts, kind, getattr(counts, kind) + len(rows))
            sound = not end and (kind not in ("denials", "exports") or all(map(_is_object, rows)))
            if not sound:
                self.problems.add("line_malformed", name, "not every line of it is a line of canonical JSON")
        if counts != self.manifest.counts:
            detail = f"the manifest says {_told(self.manifest.counts)}; there are {_told(counts)}"
            self.problems.add("counts_differ", MANIFEST, detail)

    def history(self, history: KeyHistory | None, closing: TreeHead | None) -> None:
        """Hold the history of keys that somebody was told to the one that the manifest tells."""
        assert self.manifest is not None
        if history is None or self.manifest.keys is UNSET:
            return
        told, here = (
            self.manifest.keys,
            history.standing(self.manifest.settled_until if closing is None else closing.at),
        )
        if told.count > len(history.entries):
            detail = f"it has {len(history.entries)} keys, the bundle was made when there were {told.count}"
            self.problems.add("history_short", "history", detail)
        elif here != (told.count, told.last):
            detail = f"it is not the history of {told.count} keys that the bundle was made under"
            self.problems.add("history_differs", "history", detail)

    def digests(self, names: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        """Return size and digest of files."""
        found = ((name, self.read(name)) for name in names)
        return {name: (len(data), sha256(data).hexdigest()) for name, data in found}

    def files_hold(self, digests: Callable[[Sequence[str]], Mapping[str, tuple[int, str]]]) -> None:
        """Hold every file to the manifest; of one that differs, name the first bad entry."""
        assert self.manifest is not None
        named = {file.name: file for file in self.manifest.files}
        for flaw in name_flaws(self.names):
            self.problems.add(*flaw)
        for name in self.names:
            if name not in named and name not in (MANIFEST, MANIFEST_SIGNATURE):
                self.problems.add("file_unexpected", name, "the manifest does not name it")
        if len(set(self.names)) != len(self.names):
            self.problems.add("file_unexpected", "bundle", "a name stands there twice")
        here = [name for name in named if name in self.names]
        for name in sorted(named.keys() - set(here)):
            self.problems.add("file_missing", name, "the manifest names it")
        for name, (size, digest) in digests(here).items():
            if (size, digest) != (named[name].bytes, named[name].sha256):
                self._name_the_first(name, f"it is not the file that the manifest names: {size} bytes, {digest}")

    def _name_the_first(self, name: str, detail: str) -> None:
        """Say of a file that was changed where the change begins, as far as its own hashes tell."""
        assert self.manifest is not None
        kind, _, number = name.partition("/")
        self.problems.add("file_differs", name, detail)
        if kind in ("entries", "leaves") and number[:5].isdigit():
            leaves, entries = numbered("leaves", int(number[:5])), numbered("entries", int(number[:5]))
            try:
                rows, lines = self.read(leaves), self.read(entries)
            except KeyError:
                return
            job = PartJob(self.manifest.tenant, int(number[:5]), first_index(rows), self.manifest.types is not None)
            for one in check_part(job, rows, lines).problems[:3]:
                self.problems.add(one.code, one.where, one.detail)

    def checkpoint(self, name: str) -> TreeHead | None:
        """Return a checkpoint of the bundle, verified, or None where there is none."""
        assert self.manifest is not None
        if name not in self.names:
            return None
        try:
            head = read_note(self.read(name), self.ring)
        except NoteFlaw as flaw:
            self.problems.add(flaw.code, name, flaw)
            return None
        if head.tenant != self.manifest.tenant:
            self.problems.add("tenant_differs", name, f"it is of {head.tenant!r}, not {self.manifest.tenant!r}")
            return None
        self.key_ids.append(head.key_id)
        return head

    def log(
        self, opening: TreeHead | None, closing: TreeHead | None, parts: Callable[[Sequence[PartJob]], Iterator[Part]]
    ) -> None:
        """Rebuild the log from the opening checkpoint on, and hold it to the closing one and the anchors."""
        manifest = self.manifest
        assert manifest is not None
        if closing is None and not self.problems.count:
            self.problems.add("not_sealed", CHECKPOINTS[1], "no signed head covers anything")
        proofs = self._proofs()
        first, size = (0 if opening is None else opening.size), (0 if closing is None else closing.size)
        if (first, size) != (manifest.first, manifest.size):
            detail = (
                f"the checkpoints are of {first} and {size} leaves, the manifest says {manifest.first}, {manifest.size}"
            )
            self.problems.add("root_differs", "checkpoints", detail)
        frontier = self._opened(opening, proofs)
        sizes = sorted({one.size for one in self.anchors if first <= one.size <= size})
        roots, entries = self._grown(frontier, parts, sizes)
        if manifest.counts.entries > entries:
            self.problems.add("records_missing", MANIFEST, f"{entries} entries of {manifest.counts.entries} are here")
        if closing is not None and roots[-1] != closing.root:
            detail = f"the leaves come to the root {roots[-1]}, it says {closing.root}"
            self.problems.add("root_differs", CHECKPOINTS[1], detail)
        self._anchor(closing, roots)

    def _proofs(self) -> LogProofs:
        try:
            return msgspec.json.decode(self.read(PROOFS), type=LogProofs)
        except (KeyError, *UNREADABLE) as error:
            self.problems.add("proof_invalid", PROOFS, error)
            return LogProofs([])

    def _opened(self, opening: TreeHead | None, proofs: LogProofs) -> merkle.Frontier:
        try:
            frontier = merkle.Frontier(
                0 if opening is None else opening.size, tuple(bytes.fromhex(node) for node in proofs.frontier)
            )
        except ValueError as error:
            self.problems.add("proof_invalid", PROOFS, error)
            return merkle.Frontier()
        if opening is not None and frontier.root().hex() != opening.root:
            self.problems.add("root_differs", CHECKPOINTS[0], "the subtrees in proofs.json do not come to its root")
        return frontier

    def _grown(
        self, frontier: merkle.Frontier, parts: Callable[[Sequence[PartJob]], Iterator[Part]], sizes: list[int]
    ) -> tuple[dict[int, str], int]:
        """Append every leaf; return the roots at `sizes` and at the end, and how many entries there were."""
        manifest = self.manifest
        assert manifest is not None
        jobs, place, number = [], frontier.size, 1
        while numbered("leaves", number) in self.names:
            jobs.append(PartJob(manifest.tenant, number, place, manifest.types is not None))
            place += self.read(numbered("leaves", number)).count(b"\n")
            number += 1
        roots, entries, wanted = {frontier.size: frontier.root().hex()}, 0, list(sizes)
        seals, whole = Seals(), frontier.size == 0
        self._earlier(seals, frontier)
        for part in parts(jobs):
            hashes = [part.hashes[start : start + 32] for start in range(0, len(part.hashes), 32)]
            while wanted and wanted[0] <= frontier.size + len(hashes):
                cut = wanted.pop(0) - frontier.size
                frontier, _ = frontier.append(hashes[:cut])
                hashes = hashes[cut:]
                roots[frontier.size] = frontier.root().hex()
            frontier, _ = frontier.append(hashes)
            entries += part.entries
            self.left_out += part.left_out
            self.problems.take(part)
            for code, index, detail in seals.join(part.seals, whole=whole):
                self.problems.add(code, f"leaf {index}" if index >= 0 else "log", detail)
        for flaw in seals.needless():
            self.problems.add(*flaw)
        roots[frontier.size] = frontier.root().hex()
        roots[-1] = roots[frontier.size]
        if frontier.size != manifest.size:
            detail = f"the leaves end at {frontier.size}, the closing checkpoint is of {manifest.size}"
            self.problems.add("leaf_missing" if frontier.size < manifest.size else "root_differs", "log", detail)
        return roots, entries

    def _earlier(self, seals: Seals, opening: merkle.Frontier) -> None:
        """Take in the leaves from before the range, as far as the log at its beginning proves them."""
        assert self.manifest is not None
        for name in sorted(name for name in self.names if name.startswith("earlier/")):
            lines = self.read(name).split(b"\n")
            if lines.pop():
                self.problems.add("leaf_malformed", name, "its last line does not end")
            for flaw in seals.earlier(lines, self.manifest.tenant, opening.size, opening.root()):
                self.problems.add(*flaw)

    def _anchor(self, closing: TreeHead | None, roots: Mapping[int, str]) -> None:
        assert self.manifest is not None
        size = 0 if closing is None else closing.size
        for anchor in sorted(self.anchors, key=lambda one: one.size):
            where = f"anchor of {anchor.size}"
            if anchor.tenant != self.manifest.tenant:
                self.problems.add("tenant_differs", where, f"it is of {anchor.tenant!r}, not {self.manifest.tenant!r}")
            elif anchor.size > size:
                detail = f"leaves {size} to {anchor.size - 1} were in the log at {anchor.at} and are not here"
                self.problems.add("anchor_beyond", where, detail)
            elif anchor.size in roots:
                if roots[anchor.size] != anchor.root:
                    self.problems.add("anchor_differs", where, "the log that was kept is not the one that is here")
                else:
                    self.anchored_to = anchor.size
            else:
                self.not_covered.append(anchor.size)

    def verdict(self, closing: TreeHead | None = None) -> BundleVerdict:
        codes = self.problems.codes
        manifest, first = self.manifest, 0 if self.manifest is None else self.manifest.first
        found: dict[str, Any] = {}
        if manifest is not None:
            counts, to = manifest.counts, max(self.anchored_to or 0, first)
            found = {
                "tenant": manifest.tenant, "since": manifest.since, "until": manifest.until, "first": first,
                "size": manifest.size, "entries": counts.entries, "leaves": counts.leaves, "denials": counts.denials,
                "exports": counts.exports, "anchored": (first, to) if self.anchored_to and to > first else None,
                "unanchored": (to, manifest.size) if manifest.size > to else None,
                "not_sealed": None if manifest.open is UNSET else manifest.open,
            }  # fmt: skip
        return BundleVerdict(
            ok=not codes, integrity=codes <= INCOMPLETE, completeness=not codes & _MISSING,
            problems=tuple(self.problems.kept), problems_in_all=self.problems.count, left_out=self.left_out,
            not_covered=tuple(self.not_covered),
            head_at=None if closing is None else closing.at, key_ids=tuple(sorted(set(self.key_ids))), **found,
        )  # fmt: skip


def _is_object(row: bytes) -> bool:
    try:
        return isinstance(canonical.decode(row), dict)
    except ValueError:
        return False


def _told(counts: Counts) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in msgspec.structs.asdict(counts).items())
