"""Bundles as files: their members found, and their parts verified by as many processes as are wanted.

Only plain files are members; one that is anything else is not looked at and not missed, and its name is unexpected.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from zentra.runtime.evidence.bundle import MANIFEST, numbered
from zentra.runtime.evidence.bundle_check import BundleVerdict, check_bundle
from zentra.runtime.evidence.bundle_parts import Part, PartJob, check_part
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.evidence.history import KeyHistory
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.packet import Problem
from zentra.storage.verification.checking import Progress

__all__ = ["BundleReader", "tenant_of_bundle", "verify_bundle"]

_BLOCK: Final = 2**16
_SHARED_BYTES_MIN: Final = 32 * 2**20  # below it, processes take longer to start than to work


class BundleReader:
    """The members of a tar file, by name."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for what is no tar file, and OSError."""
        self.path = path
        self.names: list[str] = []
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    self.names.append(member.name)
                    if member.isreg() and not member.issparse():
                        self._places.setdefault(member.name, (member.offset_data, member.size))
                self._end = archive.offset
        except tarfile.TarError as error:
            raise ValueError(f"not a tar file: {error}") from error

    def read(self, name: str) -> bytes:
        """Return a member; raise KeyError where there is none, and OSError."""
        place, size = self._places[name]
        with self.path.open("rb") as file:
            file.seek(place)
            return file.read(size)

    def ends(self) -> bool:
        """Return whether nothing but zeros stands behind the last member; raise OSError."""
        with self.path.open("rb") as file:
            file.seek(self._end)
            return not any(any(block) for block in iter(partial(file.read, _BLOCK), b""))

    @property
    def bytes(self) -> int:
        """How many bytes all members have."""
        return sum(size for _, size in self._places.values())

    def digest(self, name: str) -> tuple[int, str]:
        """Return size and SHA-256 of a member; what has no content has none of any file."""
        if name not in self._places:
            return -1, ""
        data = self.read(name)
        return len(data), sha256(data).hexdigest()

    def part(self, job: PartJob) -> Part:
        """Verify a pair of files."""
        leaves, entries = numbered("leaves", job.number), numbered("entries", job.number)
        return check_part(job, self.read(leaves), self.read(entries) if entries in self._places else b"")


def verify_bundle(
    path: Path, ring: KeyRing, anchors: Sequence[TreeHead], progress: Progress, *, jobs: int = 1,
    history: KeyHistory | None = None,
) -> BundleVerdict:  # fmt: skip
    """Return the verdict about a bundle in a file, found by `jobs` processes; raises OSError."""
    try:
        reader = BundleReader(path)
        if not reader.ends():
            raise ValueError("there are bytes behind the end of the archive")
    except ValueError as error:
        problem = Problem("malformed", "bundle", str(error))
        return BundleVerdict(ok=False, integrity=False, completeness=False, problems=(problem,), problems_in_all=1)
    if jobs == 1 or reader.bytes < _SHARED_BYTES_MIN:
        return _verified(reader, ring, anchors, progress, None, history)
    with ProcessPoolExecutor(jobs) as pool:
        return _verified(reader, ring, anchors, progress, pool, history)


def _verified(
    reader: BundleReader,
    ring: KeyRing,
    anchors: Sequence[TreeHead],
    progress: Progress,
    pool: ProcessPoolExecutor | None,
    history: KeyHistory | None,
) -> BundleVerdict:
    mapped = map if pool is None else pool.map

    def parts(found: Sequence[PartJob]) -> Iterator[Part]:
        for number, part in enumerate(mapped(partial(_part, reader), found), 1):
            progress("parts", number, len(found))
            yield part

    def digests(names: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        return dict(zip(names, mapped(partial(_digest, reader), names), strict=True))

    return check_bundle(reader.names, reader.read, parts, ring, anchors, digests, history)


def _part(reader: BundleReader, job: PartJob) -> Part:
    return reader.part(job)


def _digest(reader: BundleReader, name: str) -> tuple[int, str]:
    return reader.digest(name)


class _Whose(msgspec.Struct, frozen=True):
    tenant: str | None = None


def tenant_of_bundle(path: Path) -> str | None:
    """Return whose evidence a bundle says it is, unverified, or None; raise OSError where it cannot be read."""
    try:
        with tarfile.open(path, "r:") as archive:
            found = archive.extractfile(MANIFEST)
            return None if found is None else msgspec.json.decode(found.read(), type=_Whose).tenant
    except (tarfile.TarError, KeyError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
