"""Making an archive: the postings of a closed period, the intents they belong to with all their records, what accounts
opened and closed with, and the part of the log that seals them, in files under one signed manifest.

- Everything is read in one snapshot and streamed; the manifest is written last: a directory without one is no archive.
- An intent is archived with every period in which something of it counts, each time with all its records so far: a
  chain can only be verified from its beginning.
- An archive is verified, offline and from its files, before the period is marked as archived.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.evidence.heads import TreeHead
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.verification.manifest import FORMAT, KINDS, ArchiveFile, LogEdge, Manifest, signed_manifest
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.verification.checking import Progress
from zentra.storage.verification.rowfiles import Format, RowWriter, open_writer
from zentra.storage.verification.snapshot import taken_snapshot

__all__ = ["MANIFEST", "digest_of", "make_archive", "mark_archived"]

MANIFEST: Final = "manifest.json"
ROWS_PER_FILE: Final = 1_000_000
INTENTS_AT_ONCE: Final = 1_000
_BYTES_AT_ONCE: Final = 2**20

_PERIOD: Final = """
select id, until, verified_at, manifest from periods
where tenant = $1 and book = $2 and reopened_at is null and until {which} $3 order by until desc limit 1
"""
_ACCOUNTS: Final = """
select a.id, a.account_id, a.owner, a.type, a.currency, a.normal_side,
    coalesce(o.debits_pending, 0)::text, coalesce(o.credits_pending, 0)::text, coalesce(o.debits_posted, 0)::text,
    coalesce(o.credits_posted, 0)::text,
    coalesce(c.debits_pending, 0)::text, coalesce(c.credits_pending, 0)::text, coalesce(c.debits_posted, 0)::text,
    coalesce(c.credits_posted, 0)::text
from accounts a
left join closing_balances o on o.account = a.id and o.period = $2
left join closing_balances c on c.account = a.id and c.period = $3
where a.tenant = $1{of_book} order by a.id
"""
_COUNTS_IN: Final = """
p.tenant = $1 and coalesce(p.effective_at, p.at) < $3
and ($2::timestamptz is null or coalesce(p.effective_at, p.at) >= $2)
"""
# What never came to a posting belongs to the default book.
_INTENTS: Final = """
select i.id, i.intent_id, i.digest, i.principal, i.role, i.key, i.trace, i.created_at from intents i
where i.tenant = $1 and (
    i.id in (select p.intent from postings p{joined} where {counts}{of_book})
    or ($4::text = 'default' and i.created_at < $3 and ($2::timestamptz is null or i.created_at >= $2)
        and not exists (select from postings p where p.intent = i.id)))
order by i.id
"""
_POSTINGS: Final = """
select p.intent, p.ordinal, p.kind, p.debit, p.credit, p.currency, p.pending, p.posted, p.at, p.hash, p.effective_at
from postings p{joined} where p.intent = any($5::uuid[]) and {counts}{of_book} order by p.intent, p.ordinal
"""
_RECORDS: Final = """
select intent, sequence, at, state, event, record, hash from transitions
where tenant = $1 and intent = any($2::uuid[]) order by intent, sequence
"""
_LEAVES: Final = """
select intent, "index", data, (convert_from(data, 'utf8')::jsonb ->> 'records')::integer from log_leaves
where tenant = $1 and intent = any($2::uuid[])
"""
_HEADS: Final = """
select size, root, at, key_id, signature, frontier from log_heads where tenant = $1 and size {which}
"""
_LOG: Final = """
select "index", hash from log_leaves where tenant = $1 and "index" >= $2 and "index" < $3 order by "index"
"""
_HAS_BOOKS: Final = """
select exists (select from pg_attribute where attrelid = 'zentra.accounts'::regclass and attname = 'book')
"""


class _Period(Struct, frozen=True):
    id: str
    until: datetime
    verified_at: datetime | None
    manifest: bytes | None


class _Sums(Struct):
    """What was written, and from which to which leaf of the log it reaches."""

    intents: int = 0
    postings: int = 0
    records: int = 0
    pending: int = 0
    posted: int = 0
    first_leaf: int | None = None
    last_leaf: int = -1


class _Files:
    """The files of an archive as they are written: those of a kind follow one another as each is full."""

    def __init__(self, directory: Path, format: Format) -> None:
        """Raises OSError, and Refusal `directory_not_empty`."""
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise Refusal("directory_not_empty", f"{directory} holds something; name a new directory")
        self._directory, self._format = directory, format
        self._open: dict[str, tuple[Path, RowWriter]] = {}
        self._count: dict[str, int] = {}
        self.written: list[ArchiveFile] = []

    def add(self, kind: str, row: Iterable[Any]) -> None:
        """Add a row to the file of its kind; raises OSError."""
        current = self._open.get(kind)
        if current is None or current[1].rows >= ROWS_PER_FILE:
            self._close(kind)
            number = self._count[kind] = self._count.get(kind, 0) + 1
            path = self._directory / f"{kind}-{number:05d}.{self._format}"
            current = self._open[kind] = path, open_writer(path, self._format, KINDS[kind])
        current[1].add(tuple(row))

    def close(self) -> list[ArchiveFile]:
        """Close every file and return them all; raises OSError."""
        for kind in list(self._open):
            self._close(kind)
        return self.written

    def _close(self, kind: str) -> None:
        current = self._open.pop(kind, None)
        if current is None:
            return
        path, writer = current
        writer.close()
        size, digest = digest_of(path)
        self.written.append(ArchiveFile(size, kind, path.name, writer.rows, digest))


def digest_of(path: Path) -> tuple[int, str]:
    """Return how many bytes a file has, and their SHA-256 as hex; raises OSError."""
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while part := file.read(_BYTES_AT_ONCE):
            digest.update(part)
            size += len(part)
    return size, digest.hexdigest()


async def make_archive(
    url: str, directory: Path, key: Ed25519PrivateKey, *, tenant: str, book: str, until: datetime, format: Format,
    installation: str, progress: Progress,
) -> Manifest:  # fmt: skip
    """Write the archive of a closed period into a directory, which is new or empty, and return its manifest.

    Refuses `period_not_closed`, `directory_not_empty`, `parquet_unavailable`. Raises Misconfigured where the role of
    `url` does not see every tenant, Unavailable and OSError."""
    files = _Files(directory, format)
    async with taken_snapshot(url) as snapshot:
        connection = snapshot.connection
        period = await _period(connection, tenant, book, until, "=")
        if period is None or period.verified_at is None:
            raise Refusal("period_not_closed", f"book {book} of {tenant} was not closed until {until}")
        before = await _period(connection, tenant, book, until, "<")
        reading = _Reading(connection, tenant, book, None if before is None else before.until, until)
        await reading.prepare()
        await reading.accounts(files, None if before is None else before.id, period.id)
        sums = await reading.intents(files, progress)
        log_from, log_to = await reading.log(files, sums)
    manifest = Manifest(
        book=book, files=files.close(), format=FORMAT, installation=installation, intents=sums.intents, key_id="",
        kind=format, log_from=log_from, log_to=log_to, made_at=timestamp(snapshot.at), pending=str(sums.pending),
        posted=str(sums.posted), postings=sums.postings,
        previous=None if before is None or before.manifest is None else before.manifest.hex(), records=sums.records,
        signature="", start=None if before is None else timestamp(before.until), tenant=tenant, until=timestamp(until),
    )  # fmt: skip
    (directory / MANIFEST).write_bytes(signed_manifest(manifest, key))
    return manifest


async def mark_archived(pool: Pool, manifest: Manifest, digest: str) -> None:
    """Note that a period is in the archive with this manifest, by its digest as hex; `pool` is the owner's.

    Raises Unavailable."""
    async with tenant_transaction(pool, manifest.tenant) as connection:
        await connection.execute(
            "update periods set archived_at = now(), manifest = $4"
            " where tenant = $1 and book = $2 and until = $3 and reopened_at is null",
            manifest.tenant, manifest.book, datetime.fromisoformat(manifest.until), bytes.fromhex(digest),
        )  # fmt: skip


async def _period(connection: Connection, tenant: str, book: str, until: datetime, which: str) -> _Period | None:
    row = await connection.fetchrow(_PERIOD.format(which=which), tenant, book, until)
    return None if row is None else _Period(*row)


class _Reading:
    """The rows of one tenant's book and period, read in one snapshot."""

    def __init__(self, connection: Connection, tenant: str, book: str, start: datetime | None, until: datetime) -> None:
        self._connection = connection
        self._given = (tenant, start, until, book)
        self._words = {"joined": "", "of_book": " and $4::text is not null", "counts": _COUNTS_IN}

    async def prepare(self) -> None:
        """Look whether there are several books."""
        if await self._connection.fetchval(_HAS_BOOKS):
            self._words |= {"joined": " join accounts a on a.id = p.debit", "of_book": " and a.book = $4"}

    async def accounts(self, files: _Files, before: str | None, period: str) -> None:
        """Write the accounts, with what they opened and closed with."""
        tenant, _, _, book = self._given
        statement = _ACCOUNTS.format(of_book=self._words["of_book"])
        async for row in self._connection.cursor(statement, tenant, before, period, book, prefetch=5_000):
            files.add("accounts", row)

    async def intents(self, files: _Files, progress: Progress) -> _Sums:
        """Write the intents, their postings and their records; return what they add up to."""
        tenant, sums = self._given[0], _Sums()
        postings = _POSTINGS.format(**self._words)
        async for ids in self._ids(files):
            for row in await self._connection.fetch(postings, *self._given, ids):
                files.add("postings", row)
                sums.postings += 1
                sums.pending += row[6]
                sums.posted += row[7]
            leaves = {}
            for intent, place, data, sealed in await self._connection.fetch(_LEAVES, tenant, ids):
                leaves[intent, sealed] = place, data
                sums.first_leaf = place if sums.first_leaf is None else min(place, sums.first_leaf)
                sums.last_leaf = max(place, sums.last_leaf)
            for row in await self._connection.fetch(_RECORDS, tenant, ids):
                files.add("records", (*row, *leaves.get((row[0], row[1]), (None, None))))
                sums.records += 1
            sums.intents += len(ids)
            progress("intents", sums.intents, sums.intents)
        return sums

    async def _ids(self, files: _Files) -> AsyncIterator[list[str]]:
        """Write the intents and yield their ids, some at a time."""
        some: list[str] = []
        statement = _INTENTS.format(**self._words)
        async for row in self._connection.cursor(statement, *self._given, prefetch=INTENTS_AT_ONCE):
            files.add("intents", row)
            some.append(row[0])
            if len(some) == INTENTS_AT_ONCE:
                yield some
                some = []
        if some:
            yield some

    async def log(self, files: _Files, sums: _Sums) -> tuple[LogEdge | None, LogEdge | None]:
        """Write the log from the last head before the first leaf to the first one behind the last; return both."""
        if sums.first_leaf is None:
            return None, None
        edge_from = await self._edge("<= $2 order by size desc limit 1", sums.first_leaf)
        edge_to = await self._edge("> $2 order by size limit 1", sums.last_leaf)
        if edge_to is None:
            edge_to = await self._edge(">= $2 order by size desc limit 1", 0)
        if edge_to is None:
            return None, None
        start = 0 if edge_from is None else edge_from.head.size
        async for row in self._connection.cursor(_LOG, self._given[0], start, edge_to.head.size, prefetch=5_000):
            files.add("log", row)
        return edge_from, edge_to

    async def _edge(self, which: str, place: int) -> LogEdge | None:
        tenant = self._given[0]
        row = await self._connection.fetchrow(_HEADS.format(which=which), tenant, place)
        if row is None:
            return None
        head = TreeHead(
            tenant=tenant, size=row[0], root=row[1].hex(), at=timestamp(row[2]), key_id=row[3], signature=row[4].hex()
        )
        return LogEdge([node.hex() for node in row[5]], head)
