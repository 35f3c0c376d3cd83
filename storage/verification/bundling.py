"""Making a bundle: a range of a tenant's log, read in one snapshot and streamed into a tar file.

- Nothing is verified while it is read: rows that were changed come out as they are, for a verifier to find.
- A range in the past comes out the same byte for byte whenever it is made: it ends at the last head before `until`, and
  takes refusals and exports only from minutes to which nothing is added any more.
- Whoever exports is on record before the file has its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import UNSET, Struct, UnsetType

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.bundle import (
    CHECKPOINTS,
    KEYS,
    PROOFS,
    BundleBuilder,
    BundleHistory,
    BundleKey,
    Counts,
    LeafLine,
    LogProofs,
)
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_of, pae, sign_payload
from zentra.runtime.evidence.heads import ORIGIN, TreeHead, key_id, signed_note
from zentra.runtime.evidence.history import KeyHistory
from zentra.runtime.evidence.keyring import KeyRing
from zentra.runtime.evidence.notes import verifier_key
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.errors import Misconfigured
from zentra.storage.intake.evidence import ExportRow, kept_signature, record_export
from zentra.storage.pool import Connection, Pool
from zentra.storage.reads.evidence import tree_head
from zentra.storage.verification.checking import Progress
from zentra.storage.verification.predecessors import Predecessors
from zentra.storage.verification.snapshot import taken_snapshot

__all__ = ["README", "BundleAsked", "BundleMade", "make_bundle"]

LEAVES_AT_ONCE: Final = 2_000
Keep = Callable[[Pool, ExportRow], Awaitable[None]]
SETTLED_AFTER: Final = timedelta(seconds=90)  # refusals are counted by the minute, and written within seconds
README: Final = "README.txt"

_HEAD: Final = """
select size, root, at, key_id, signature from log_heads
where tenant = $1 and ($2::timestamptz is null or at < $2) order by size desc limit 1
"""
_FRONTIER: Final = "select frontier from log_heads where tenant = $1 and size = $2"
_LEAVES: Final = """
select "index", intent, data from log_leaves where tenant = $1 and "index" >= $2 and "index" < $3 order by "index"
"""
_LEAVES_OF: Final = """
select intent, "index", data from log_leaves where tenant = $1 and intent = any($2::uuid[]) order by intent, "index"
"""
_RECORDS: Final = """
select intent, sequence, record, hash from transitions
where tenant = $1 and intent = any($2::uuid[]) order by intent, sequence
"""
_KINDS: Final = """
select id from intents
where tenant = $1 and id = any($2::uuid[]) and convert_from(command, 'UTF8')::jsonb ->> 'kind' = any($3::text[])
"""
_DENIALS: Final = """
select action, actor, count, first_at, last_at, minute, reason, request_id, role from denials
where tenant = $1 and ($2::timestamptz is null or minute >= $2) and minute < $3 order by minute, actor, action, reason
"""
_OPEN: Final = """
select count(*) from intents i where tenant = $1 and created_at < $2 and not exists (
    select from log_leaves l where l.intent = i.id and l.tenant = $1 and l."index" < $3)
"""
_EXPORTS: Final = """
select actor, at, entries, first_leaf, id, log_size, encode(manifest, 'hex') as manifest, role, since, types, until
from evidence_exports
where tenant = $1 and ($2::timestamptz is null or at >= $2) and at < $3 order by at, id
"""


_ASKS: Final = """
select actor, true as asked, at, id, role, since, types, until from export_jobs
where tenant = $1 and ($2::timestamptz is null or at >= $2) and at < $3 order by at, id
"""


class BundleAsked(Struct, frozen=True, kw_only=True):
    """What is asked for, and by whom; `types` are kinds of intents, None for all."""

    tenant: str
    actor: str
    role: str
    since: datetime | None = None
    until: datetime | None = None
    types: Sequence[str] | None = None


class BundleMade(Struct, frozen=True, kw_only=True):
    """What was made: the range of leaves, what there is of each kind, and the digests of manifest and file."""

    tenant: str
    first: int
    size: int
    counts: Counts
    settled_until: str
    manifest: str
    sha256: str
    bytes: int


class _SealedCount(Struct, frozen=True):
    records: int


class _Seal(Struct, frozen=True, gc=False):
    """What a leaf seals: records beyond the first `before`, as far as `records`; and the leaf of its intent before it,
    as (index, bytes)."""

    before: int
    records: int
    follows: tuple[int, bytes] | None


_NO_SEAL: Final = _Seal(0, 0, None)


async def make_bundle(
    url: str, pool: Pool, path: Path, asked: BundleAsked, *, key: Ed25519PrivateKey, ring: KeyRing, texts:
    Mapping[str, bytes], progress: Progress, keep: Keep = record_export, history: KeyHistory | None = None,
) -> BundleMade:  # fmt: skip
    """Write the bundle that is asked for into `path` and return what it is.

    `url` is of a role that sees every tenant, `pool` writes the record of the export by `keep`, `key` signs the
    manifest, `ring` has the keys of the heads, `texts` are files that every bundle has, `history` is that of the keys.
    Raises Misconfigured where `ring` lacks a key, the role sees only some tenants, the tenant is unknown or the range
    ends before it begins; Unavailable and OSError."""
    if asked.since is not None and asked.until is not None and asked.since > asked.until:
        raise Misconfigured("range_backwards", f"it begins at {asked.since} and ends at {asked.until}, before that")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            made = await _written(url, pool, file, asked, key, ring, texts, progress, keep, history)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return made


async def _written(
    url: str, pool: Pool, file: IO[bytes], asked: BundleAsked, key: Ed25519PrivateKey, ring: KeyRing,
    texts: Mapping[str, bytes], progress: Progress, keep: Keep, history: KeyHistory | None,
) -> BundleMade:  # fmt: skip
    whole, size = sha256(), 0

    def write(data: bytes) -> None:
        nonlocal size
        whole.update(data)
        size += file.write(data)

    builder = BundleBuilder(write)
    async with taken_snapshot(url) as snapshot:
        reading = _Reading(snapshot.connection, asked, snapshot.at)
        await reading.assert_tenant()
        await reading.heads()
        for name, content in texts.items():
            builder.file(name, content)
        builder.file(KEYS, _keys(asked.tenant, reading, key, ring))
        for name, head in zip(CHECKPOINTS, (reading.opening, reading.closing), strict=True):
            if head is not None:
                builder.file(name, signed_note(_public(ring, head.key_id), head).encode())
        builder.file(PROOFS, canonical.encode(reading.proofs()))
        await reading.write(builder, progress)
        opened = await reading.open_intents()
    builder.end_of_lines()
    manifest = builder.manifest(
        tenant=asked.tenant, first=reading.first, size=reading.size, since=_text(asked.since), until=_text(asked.until),
        settled_until=timestamp(reading.settled_until), types=asked.types, open=opened, keys=reading.keys(history),
    )  # fmt: skip
    signing = sign_payload(key, MANIFEST_TYPE, manifest)
    kept = await kept_signature(pool, asked.tenant, sha256(pae(MANIFEST_TYPE, manifest)).digest(), signing)
    builder.close(manifest, envelope_of(MANIFEST_TYPE, b"", [kept or signing]))
    digest = sha256(manifest)
    await keep(
        pool,
        ExportRow(
            tenant=asked.tenant, actor=asked.actor, role=asked.role, since=asked.since, until=asked.until,
            types=asked.types, first_leaf=reading.first, log_size=reading.size, entries=builder.counts.entries,
            manifest=digest.digest(),
        ),
    )  # fmt: skip
    return BundleMade(
        tenant=asked.tenant, first=reading.first, size=reading.size, counts=builder.counts, bytes=size,
        settled_until=timestamp(reading.settled_until), manifest=digest.hexdigest(), sha256=whole.hexdigest(),
    )  # fmt: skip


class _Reading:
    """The rows of one tenant and range, in one snapshot."""

    def __init__(self, connection: Connection, asked: BundleAsked, now: datetime) -> None:
        self._connection, self._asked, self._tenant = connection, asked, asked.tenant
        until = now - SETTLED_AFTER if asked.until is None else min(asked.until, now - SETTLED_AFTER)
        self.settled_until = until.replace(second=0, microsecond=0)
        # From the minute on in which the range begins: one that ends within it leaves that minute to this one.
        self._settled_since = None if asked.since is None else asked.since.replace(second=0, microsecond=0)
        self.opening: TreeHead | None = None
        self.closing: TreeHead | None = None
        self._frontier: Sequence[bytes] = ()

    @property
    def first(self) -> int:
        """The index of the first leaf."""
        return 0 if self.opening is None else self.opening.size

    @property
    def size(self) -> int:
        """The size of the log at the end."""
        return 0 if self.closing is None else self.closing.size

    async def heads(self) -> None:
        """Find the last head before each end of the range."""
        since, until = self._asked.since, self._asked.until
        row = await self._connection.fetchrow(_HEAD, self._tenant, until)
        self.closing = None if row is None else tree_head(self._tenant, *row)
        if since is not None and (row := await self._connection.fetchrow(_HEAD, self._tenant, since)) is not None:
            self.opening = tree_head(self._tenant, *row)
            self._frontier = await self._connection.fetchval(_FRONTIER, self._tenant, self.opening.size)

    async def assert_tenant(self) -> None:
        """Raise Misconfigured where there is no such tenant."""
        if not await self._connection.fetchval("select exists (select from tenants where id = $1)", self._tenant):
            raise Misconfigured("tenant_unknown", f"there is no tenant {self._tenant!r}")

    async def open_intents(self) -> int:
        """Return how many intents were accepted by the end of the range and are sealed by no leaf of it or before."""
        return int(await self._connection.fetchval(_OPEN, self._tenant, self.settled_until, self.size))

    def keys(self, history: KeyHistory | None) -> BundleHistory | UnsetType:
        """Return how the history of keys stood at the end, so that no later key makes another bundle."""
        if history is None or not history.entries:
            return UNSET
        at = timestamp(self.settled_until) if self.closing is None else self.closing.at
        return BundleHistory(*history.standing(at))

    def proofs(self) -> LogProofs:
        """Return what joins both heads."""
        return LogProofs([node.hex() for node in self._frontier])

    async def write(self, builder: BundleBuilder, progress: Progress) -> None:
        """Write leaves with their records, refusals and exports."""
        before = Predecessors(self._connection, self._tenant, self.first)
        async for leaves in self._leaves():
            intents = list({intent for _, intent, _ in leaves})
            sealed = await self._sealed_before(intents)
            records = await self._records(await self._of_types(intents))
            for index, intent, data in leaves:
                seal = sealed.get((intent, index), _NO_SEAL)
                line, chosen = _line(index, data, (seal.before, seal.records), records.get(intent, {}))
                builder.leaf(line, chosen)
                if line.hashes and line.after and seal.follows is not None and seal.follows[0] < self.first:
                    earlier = await before.line(*seal.follows)
                    if earlier is not None:
                        builder.earlier(earlier)
            progress("leaves", builder.counts.leaves, self.size - self.first)
        for statement, add in ((_DENIALS, builder.denial), (_EXPORTS, builder.export), (_ASKS, builder.export)):
            await self._rows(statement, add)

    async def _leaves(self) -> AsyncIterator[list[tuple[int, str, bytes]]]:
        some: list[tuple[int, str, bytes]] = []
        cursor = self._connection.cursor(_LEAVES, self._tenant, self.first, self.size, prefetch=LEAVES_AT_ONCE)
        async for row in cursor:
            some.append((row[0], row[1], row[2]))
            if len(some) == LEAVES_AT_ONCE:
                yield some
                some = []
        if some:
            yield some

    async def _sealed_before(self, intents: Sequence[str]) -> dict[tuple[str, int], _Seal]:
        """Return what each leaf of these intents seals, by intent and index."""
        found: dict[tuple[str, int], _Seal] = {}
        last, before, follows = "", 0, None
        for intent, index, data in await self._connection.fetch(_LEAVES_OF, self._tenant, intents):
            before, follows = (before, follows) if intent == last else (0, None)
            try:
                count = msgspec.json.decode(data, type=_SealedCount).records
            except msgspec.MsgspecError:
                count = before
            found[intent, index] = _Seal(before, count, follows)
            last, before, follows = intent, count, (index, data)
        return found

    async def _of_types(self, intents: Sequence[str]) -> Sequence[str]:
        if self._asked.types is None:
            return intents
        return [row[0] for row in await self._connection.fetch(_KINDS, self._tenant, intents, list(self._asked.types))]

    async def _records(self, intents: Sequence[str]) -> dict[str, dict[int, tuple[bytes, bytes]]]:
        found: dict[str, dict[int, tuple[bytes, bytes]]] = {intent: {} for intent in intents}
        for intent, sequence, record, link in await self._connection.fetch(_RECORDS, self._tenant, intents):
            found[intent][sequence] = record, link
        return found

    async def _rows(self, statement: str, add: Callable[[bytes], None]) -> None:
        values = (self._tenant, self._settled_since, self.settled_until)
        async for row in self._connection.cursor(statement, *values, prefetch=LEAVES_AT_ONCE):
            add(canonical.encode({name: _plain(value) for name, value in row.items()}))


def _line(
    index: int, data: bytes, counts: tuple[int, int], records: Mapping[int, tuple[bytes, bytes]]
) -> tuple[LeafLine, list[bytes]]:
    """Return the line of a leaf and the records that it seals beyond the first `counts[0]`, up to the `counts[1]`th."""
    before, count = counts
    chosen = [records[at] for at in range(before + 1, count + 1) if at in records]
    after = records[before][1].hex() if before and before in records and chosen else ""
    if before and not chosen:
        after = "00" * 32  # an addendum is told from a packet, where its records are left out
    line = LeafLine(after, data.decode("utf-8", "replace"), [link.hex() for _, link in chosen], index)
    return line, [record for record, _ in chosen]


def _keys(tenant: str, reading: _Reading, key: Ed25519PrivateKey, ring: KeyRing) -> bytes:
    """Return the keys of the heads in the bundle, for convenience, with their times as they were known at its end: a
    key that came later makes no other bundle of what was before it."""
    heads = [head for head in (reading.opening, reading.closing) if head is not None]
    signing = key.public_key()
    named = {head.key_id: _public(ring, head.key_id) for head in heads} or {key_id(signing): signing}
    origin = ORIGIN + tenant
    shown: list[BundleKey] = []
    for kid, public in sorted(named.items()):
        since, until = (ring[kid].since, ring[kid].until) if kid in ring else (None, None)
        if until is not None and heads and until > heads[-1].at:
            until = None
        name = verifier_key(origin, public.public_bytes_raw())
        shown.append(BundleKey(key_id=kid, pem=_pem(public), since=since, until=until, verifier_key=name))
    return canonical.encode(shown)


def _public(ring: KeyRing, kid: str) -> Ed25519PublicKey:
    if kid not in ring:
        raise Misconfigured("evidence_key_unknown", f"the log has a head of key {kid}; give its public key with --key")
    return ring[kid].public


def _pem(public: Ed25519PublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


def _text(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


def _plain(value: Any) -> Any:
    return timestamp(value) if isinstance(value, datetime) else value
