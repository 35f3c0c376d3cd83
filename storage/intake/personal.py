"""Personal data in the store: kept beside the evidence when it comes in, and erased for good.

- What opens a commitment is committed before the intent that has the commitment: an intent without its openings cannot
  come about. Openings whose intent never came are erased with the rest of their subject.
- Whoever commits for a subject holds its row, and so does an erasure: none of both sees half of the other.
- An erasure takes the openings and the subject's key, so that nobody can try out what they were, and leaves a signed
  statement. It is done by the owner of the database; a gateway or worker cannot.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import Struct

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.personal import SUBJECT, SUBJECT_KEY_BYTES, committed, personal_in
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.errors import Misconfigured
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = ["ERASURE_FORMAT", "Erasure", "ErasureRow", "commit_personal", "erase_subject", "erasures", "openings_named"]

ERASURE_FORMAT: Final = "zentra.erasure/1"


class Erasure(Struct, frozen=True, kw_only=True):
    """What was erased: the digests of the openings, which records have in their place. Whose they were it does not
    say."""

    actor: str
    at: str
    digests: list[str]
    format: Literal["zentra.erasure/1"]
    id: str
    reason: str
    tenant: str


class ErasureRow(Struct, frozen=True):
    """An erasure as it is listed; `envelope` is the signed statement, JSON."""

    id: str
    actor: str
    at: datetime
    reason: str
    erased: int
    envelope: bytes


async def commit_personal(pool: Pool, tenant: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata with commitments in the place of what is personal, once their openings are kept.

    `metadata` has a `personal.subject`. The same metadata gives the same until its subject is erased. Raises
    Unavailable."""
    subject = metadata[SUBJECT]
    async with tenant_transaction(pool, tenant) as connection:
        key = await connection.fetchval(_SUBJECT, tenant, subject, os.urandom(SUBJECT_KEY_BYTES))
        kept, openings = committed(metadata, key)
        digests, contents = [bytes.fromhex(digest) for digest in openings], list(openings.values())
        await connection.execute(_OPENINGS, tenant, subject, digests, contents)
    return kept


async def openings_named(connection: Connection, tenant: str, first_record: bytes) -> list[bytes]:
    """Return the openings that there are of what a first record has commitments of, within the caller's transaction."""
    if b'"personal.' not in first_record:
        return []
    metadata = msgspec.json.decode(first_record, type=_Record).facts.command.metadata
    digests = [bytes.fromhex(digest) for digest in personal_in(metadata).values() if not digest.strip(_HEX)]
    return [row[0] for row in await connection.fetch(_NAMED, tenant, digests)]


async def erase_subject(
    pool: Pool, tenant: str, subject: str, *, actor: str, reason: str, sign: Callable[[bytes], bytes]
) -> ErasureRow:
    """Erase what opens commitments of a subject, and its key; return the record of that. `pool` is the owner's.

    `sign` makes the envelope of the statement. Raises Misconfigured `subject_unknown` where nothing of the subject is
    kept, and Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        known = await connection.fetchval(_HELD, tenant, subject)
        if known is None:
            raise Misconfigured("subject_unknown", f"nothing of this subject is kept for {tenant}")
        at, id = await connection.fetchval("select clock_timestamp()"), uuid.uuid4().hex
        rows = await connection.fetch(_ERASE, tenant, subject, id)
        await connection.execute("delete from personal_subjects where tenant = $1 and subject = $2", tenant, subject)
        statement = canonical.encode(
            Erasure(
                actor=actor, at=timestamp(at), digests=sorted(row[0].hex() for row in rows), format=ERASURE_FORMAT,
                id=id, reason=reason, tenant=tenant,
            )
        )  # fmt: skip
        row = ErasureRow(id, actor, at, reason, len(rows), sign(statement))
        await connection.execute(_ERASURE, id, tenant, actor, at, reason, len(rows), row.envelope)
    return row


async def erasures(pool: Pool, tenant: str) -> list[ErasureRow]:
    """Return the erasures of a tenant, the earliest first; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        return [ErasureRow(*row) for row in await connection.fetch(_ERASURES, tenant)]


class _Command(Struct, frozen=True):
    metadata: dict[str, str] = {}


class _Facts(Struct, frozen=True):
    command: _Command = _Command()


class _Record(Struct, frozen=True):
    facts: _Facts = _Facts()


_HEX: Final = "0123456789abcdef"
# Writing the row, even with what it has, holds it until the end of the transaction.
_SUBJECT: Final = """
insert into personal_subjects (tenant, subject, key) values ($1, $2, $3)
on conflict (tenant, subject) do update set key = personal_subjects.key returning key
"""
_OPENINGS: Final = """
insert into personal_openings (tenant, digest, subject, content)
select $1, o.digest, $2, o.content from unnest($3::bytea[], $4::bytea[]) as o(digest, content) on conflict do nothing
"""
_NAMED: Final = """
select content from personal_openings where tenant = $1 and digest = any($2::bytea[]) and content is not null
"""
_HELD: Final = "select 1 from personal_subjects where tenant = $1 and subject = $2 for update"
_ERASE: Final = """
update personal_openings set content = null, subject = null, erasure = $3
where tenant = $1 and subject = $2 returning digest
"""
_ERASURE: Final = """
insert into evidence_erasures (id, tenant, actor, at, reason, erased, envelope) values ($1, $2, $3, $4, $5, $6, $7)
"""
_ERASURES: Final = """
select id, actor, at, reason, erased, envelope from evidence_erasures where tenant = $1 order by at, id
"""
