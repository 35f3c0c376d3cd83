"""Verifying an archive: from its files and a public key alone, without a database or a network.

- Every file has the bytes that the signed manifest says, and there is no other.
- Opening balances and postings come to the closing balances, account by account; counts and sums are the manifest's.
- Each posting has its hash and stands in a record; each record follows from the one before it; each seal is a leaf of
  the log, and the log between its two signed heads comes out at the second.
- Rows are read side by side in the order of the intents; only the accounts are in memory, and hashes of the log in a
  temporary file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from zentra.runtime.evidence.heads import head_flaw
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.verification.differences import Difference, Findings
from zentra.runtime.verification.intents import Counts, EntryFacts, IntentRow, RecordRow, Verifier
from zentra.runtime.verification.logs import LeafRow, verify_leaves
from zentra.runtime.verification.manifest import KINDS, ArchiveFlaw, LogEdge, Manifest, read_manifest
from zentra.runtime.verification.postings import COUNTERS, AccountFacts, PostingRow
from zentra.storage.verification.archiving import MANIFEST, digest_of
from zentra.storage.verification.checking import Progress
from zentra.storage.verification.rowfiles import Format, read_rows

__all__ = ["ArchiveCheck", "verify_archive"]

_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)
_HASH: Final = 32
_EDGE: Final = timedelta(minutes=1)  # a posting may be recorded a moment after it was made: see CLOCK_STEP_MAX


class ArchiveCheck(Struct, frozen=True):
    """What an archive is, the digest of its manifest, and what is wrong with it."""

    manifest: Manifest
    digest: str
    counts: Counts
    accounts: int
    differences: tuple[Difference, ...]
    differences_by_check: dict[str, int]

    @property
    def clean(self) -> bool:
        """Return whether nothing was found."""
        return not self.differences_by_check


def verify_archive(directory: Path, keys: Mapping[str, Ed25519PublicKey], progress: Progress) -> ArchiveCheck:
    """Return what an archive is and whether it is whole.

    Raises ArchiveFlaw where it has no manifest that one of `keys` (by id) has signed, OSError, and Refusal
    `parquet_unavailable`."""
    try:
        data = (directory / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise ArchiveFlaw(f"{directory} is no archive: it has no {MANIFEST}") from error
    manifest, digest = read_manifest(data, dict(keys))
    check = _Check(directory, manifest, keys, progress)
    check.run()
    findings = check.findings
    return ArchiveCheck(
        manifest, digest, check.verifier.counts, len(check.accounts), tuple(findings.shown), findings.counts
    )


class _Check:
    """One pass over the files of an archive."""

    def __init__(
        self, directory: Path, manifest: Manifest, keys: Mapping[str, Ed25519PublicKey], progress: Progress
    ) -> None:
        self._directory, self._manifest, self._keys, self._progress = directory, manifest, keys, progress
        self._start = None if manifest.start is None else datetime.fromisoformat(manifest.start)
        self._until = datetime.fromisoformat(manifest.until)
        self.accounts: dict[int, tuple[AccountFacts, list[int], list[int]]] = {}
        self.facts: dict[int, AccountFacts] = {}
        self._names: set[str] = set()
        self.verifier = Verifier(whole=False, expected=self._expected)
        self.findings: Findings = self.verifier.findings

    def run(self) -> None:
        """Verify everything; what cannot be read is a difference like any other."""
        if not self._files():
            return  # whatever else would be said would only be an echo of it
        try:
            self._read_accounts()
            with tempfile.TemporaryFile(prefix="zentra-archive-") as hashes:
                base = self._log(hashes)
                self._read_intents(hashes, base)
        except ValueError as error:
            self._differ("archive_file", "content", "rows of its kind", error)
            return
        self._sums()

    def _differ(self, check: str, where: str, expected: object, found: object, what: str = "content") -> None:
        self.findings.differ(check, self._manifest.tenant, where, what, expected, found)

    def _files(self) -> bool:
        named = {file.name: file for file in self._manifest.files}
        there = {path.name for path in self._directory.iterdir()} - {MANIFEST}
        for name in sorted(there - named.keys()):
            self._differ("archive_file", name, "no such file", "one that the manifest does not name", "file")
        for name, file in named.items():
            if name not in there or file.kind not in KINDS or Path(name).name != name:
                self._differ("archive_file", name, "there is one", "none", "file")
                continue
            size, digest = digest_of(self._directory / name)
            if (size, digest) != (file.bytes, file.sha256):
                self._differ("archive_file", name, f"{file.bytes} bytes, {file.sha256}", f"{size} bytes, {digest}")
        return not self.findings

    def _rows(self, kind: str) -> Iterator[tuple[Any, ...]]:
        format: Format = "csv" if self._manifest.kind == "csv" else "parquet"
        names = [file.name for file in self._manifest.files if file.kind == kind]
        return chain.from_iterable(read_rows(self._directory / name, format, KINDS[kind]) for name in names)

    def _read_accounts(self) -> None:
        tenant = self._manifest.tenant
        for row in self._rows("accounts"):
            facts = AccountFacts(row[0], tenant, row[1], row[3], row[4], row[5], False, 0)
            self.accounts[facts.id] = facts, list(row[6:10]), list(row[10:14])
            self.facts[facts.id] = facts
            self._names.add(facts.account_id)

    def _expected(self, record: RecordRow, entry: EntryFacts) -> bool:
        """Return whether the posting of an entry has to be in the archive: it counts in the period, in the book."""
        at = record.at if not entry.effective_at else datetime.fromisoformat(entry.effective_at)
        start = _NEVER if self._start is None else self._start + _EDGE
        return entry.debit in self._names and start <= at < self._until

    def _read_intents(self, hashes: IO[bytes], base: int) -> None:
        tenant = self._manifest.tenant
        records = _Groups(self._rows("records"))
        postings = _Groups(self._rows("postings"))
        for row in self._rows("intents"):
            intent = row[0]
            own = list(records.of(intent))
            held = [RecordRow(one[0], one[1], tenant, *one[2:7]) for one in own]
            made = [PostingRow(one[0], one[1], tenant, *one[2:]) for one in postings.of(intent)]
            for posting in made:
                if not (self._start or _NEVER) <= posting.counts_from < self._until:
                    where = f"{intent}/{posting.ordinal}"
                    self._differ("archive_sum", where, f"before {self._until}", posting.counts_from, "time it counts")
            self.verifier.intent(IntentRow(intent, tenant, row[1], row[2]), held, made, self.facts)
            leaves = [LeafRow(tenant, one[7], intent, one[8], b"") for one in own if one[7] is not None]
            verify_leaves(self.findings, held, leaves, _NEVER)
            for leaf in leaves:
                self._sealed(leaf, hashes, base)
            self._progress("intents", self.verifier.counts.intents, self._manifest.intents)
        for kind, groups in (("records", records), ("postings", postings)):
            if (stray := groups.rest()) is not None:
                self._differ("archive_sum", kind, "of an intent that is archived", f"of {stray}", "intent")

    def _log(self, hashes: IO[bytes]) -> int:
        """Verify the log between the two heads, keep its hashes, and return the place of the first."""
        edge_from, edge_to = self._manifest.log_from, self._manifest.log_to
        frontier = Frontier() if edge_from is None else self._edge(edge_from)
        base, size = frontier.size, frontier.size
        some: list[bytes] = []
        for place, digest in self._rows("log"):
            if place != size:
                self._differ("log", f"leaf {place}", size, place, "index")
            hashes.write(digest)
            some.append(digest)
            size += 1
            if len(some) == 5_000:
                frontier, some = frontier.append(some)[0], []
        frontier = frontier.append(some)[0]
        if edge_to is not None:
            self._edge(edge_to)
            if (frontier.size, frontier.root().hex()) != (edge_to.head.size, edge_to.head.root):
                self._differ("log", f"head of {edge_to.head.size}", edge_to.head.root, frontier.root().hex(), "root")
        return base

    def _edge(self, edge: LogEdge) -> Frontier:
        """Return the frontier of a head, once the head was verified; raises ValueError where it has none."""
        head = edge.head
        key = self._keys.get(head.key_id)
        flaw = ("key_differs", f"of key {head.key_id}") if key is None else head_flaw(key, head)
        if flaw is not None or head.tenant != self._manifest.tenant:
            self._differ(
                "signature", f"head of {head.size}", "of this tenant, signed", flaw or head.tenant, "signature"
            )
        frontier = Frontier(head.size, tuple(bytes.fromhex(node) for node in edge.frontier))
        if frontier.root().hex() != head.root:
            self._differ("log", f"head of {head.size}", head.root, frontier.root().hex(), "frontier")
        return frontier

    def _sealed(self, leaf: LeafRow, hashes: IO[bytes], base: int) -> None:
        hashes.seek((leaf.place - base) * _HASH)
        if leaf.place < base or hashes.read(_HASH) != leaf_hash(leaf.data):
            self._differ("leaf", f"{leaf.intent} leaf {leaf.place}", "in the log at its place", "not", "hash")

    def _sums(self) -> None:
        """Compare what was read with the manifest, and the fold with the closing balances."""
        manifest, counts = self._manifest, self.verifier.counts
        nothing = [0, 0, 0, 0]
        for number, (facts, opening, closing) in self.accounts.items():
            moved = self.verifier.fold.get(number, nothing)
            for place, counter in enumerate(COUNTERS):
                expected = opening[place] + moved[place]
                if expected != closing[place]:
                    self._differ("balance", facts.account_id, expected, closing[place], f"closing {counter}")
        debited = self.verifier.fold.values()
        read = (
            counts.intents, counts.postings, counts.records, str(sum(one[0] for one in debited)),
            str(sum(one[2] for one in debited)),
        )  # fmt: skip
        said = (manifest.intents, manifest.postings, manifest.records, manifest.pending, manifest.posted)
        for name, one, other in zip(("intents", "postings", "records", "pending", "posted"), said, read, strict=True):
            if one != other:
                self._differ("archive_sum", "manifest", one, other, name)


class _Groups:
    """Rows by intent, which comes first in each; intents are asked for in their order."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._next = next(self._groups, None)
        self._stray: str | None = None

    def of(self, intent: str) -> list[tuple[Any, ...]]:
        """Return the rows of an intent; there may be none."""
        while self._next is not None and self._next[0] < intent:
            self._stray = self._stray or self._next[0]
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != intent:
            return []
        rows = list(self._next[1])
        self._next = next(self._groups, None)
        return rows

    def rest(self) -> str | None:
        """Return the first intent whose rows nobody has asked for."""
        return self._stray or (None if self._next is None else str(self._next[0]))
