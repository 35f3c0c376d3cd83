"""Personal data in the store: kept beside the evidence when it comes in, and erased for good.

- What opens a commitment is written in the transaction of the intent that has it, and only there: no intent without its
  openings, and nothing kept of a request that made none.
- Who repeats a request is given the commitments of the first, also after their erasure: the proof beside the intent
  says that it is the same.
- Whoever commits for a subject holds its row, and so does an erasure: none of both sees half of the other. Commitments
  under a key that is not the subject's any more are not taken.
- An erasure takes the openings and the subject's key, so that nobody can try out what they were, and leaves a signed
  statement. It is done by the owner of the database; a gateway or worker cannot.
- What a transaction has removed stands in the files of the database until they are written anew, which is a step of its
  own behind the erasure: no backup of files that is taken after it has what was erased.
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

import asyncpg
import msgspec
from msgspec import Struct

from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.personal import (
    SUBJECT,
    SUBJECT_KEY_BYTES,
    committed,
    is_personal,
    personal_in,
    proof_of,
    proves,
)
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.errors import Misconfigured, translated
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = [
    "ERASURE_FORMAT", "REWRITE", "Erasure", "ErasureRow", "Personal", "PersonalData", "erase_subject", "erasures",
    "openings_named", "rewrite_files", "write_personal",
]  # fmt: skip

ERASURE_FORMAT: Final = "zentra.erasure/1"
REWRITE: Final = "vacuum (full, verbose) zentra.personal_openings, zentra.personal_subjects"
"""The statement that writes the files of personal data anew, without what was erased."""
REWRITE_WAITS_SECONDS: Final = 2.0  # for the tables; requests with personal data wait behind it for so long


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


class Personal(Struct, frozen=True, kw_only=True, gc=False):
    """What is written with an intent: openings by digest, the subject's key, and the proof of all that is personal.

    `fresh` says that the subject had no key when it was looked at."""

    subject: str
    key: bytes
    fresh: bool
    openings: dict[str, bytes]
    proof: bytes


class PersonalData:
    """Commits what is personal in requests; `secret` is the installation's."""

    def __init__(self, pool: Pool, secret: bytes) -> None:
        self._pool, self._secret = pool, secret

    async def commit(
        self, tenant: str, metadata: Mapping[str, str], key: str, intent_id: str | None
    ) -> tuple[dict[str, str], Personal | None]:
        """Return metadata with commitments in the place of what is personal, and what is to be written with the intent.

        That is None where the intent of the key, or else the one of that id, has the same personal data: then the
        commitments are its own. Nothing is written here. `metadata` has a `personal.subject`. Raises Unavailable."""
        subject = metadata[SUBJECT]
        with translated():
            rows = await self._pool.fetch(_LOOK, tenant, key, intent_id, subject)
        known: bytes | None = None
        for place, command, value in rows:
            if place == _SUBJECT_PLACE:
                known = value
            elif proves(value, self._secret, tenant, metadata):
                first = msgspec.json.decode(command, type=_Command).metadata
                return {name: first[name] if is_personal({name: ""}) else metadata[name] for name in metadata}, None
        subject_key = known or os.urandom(SUBJECT_KEY_BYTES)
        kept, openings = committed(metadata, subject_key)
        proof = proof_of(self._secret, tenant, metadata, os.urandom(16))
        return kept, Personal(
            subject=subject, key=subject_key, fresh=known is None, openings=openings, proof=proof
        )  # fmt: skip


async def write_personal(connection: Connection, items: Sequence[tuple[str, str, Personal]]) -> list[int]:
    """Write what belongs to new intents, (tenant, intent, personal) each, within the caller's transaction.

    Return the places of those whose subject has another key by now, or none: the caller then takes all of it back.
    Nobody writes keys of idempotency or intents after it in a transaction, and so waits for nobody in a circle."""
    fresh: dict[tuple[str, str], bytes] = {}
    for tenant, _, personal in items:
        if personal.fresh:
            fresh.setdefault((tenant, personal.subject), personal.key)
    if fresh:
        await connection.execute(_SUBJECTS, *_columns((*ref, fresh[ref]) for ref in sorted(fresh)))
    refs = sorted({(tenant, personal.subject) for tenant, _, personal in items})
    keys = {(row[0], row[1]): row[2] for row in await connection.fetch(_HOLD, *_columns(refs))}
    moved = [n for n, (tenant, _, one) in enumerate(items) if keys.get((tenant, one.subject)) != one.key]
    if not moved:
        openings = {
            (tenant, bytes.fromhex(digest), personal.subject, content)
            for tenant, _, personal in items
            for digest, content in personal.openings.items()
        }
        await connection.execute(_OPENINGS, *_columns(sorted(openings)))
        await connection.execute(_PROOFS, *_columns((intent, tenant, one.proof) for tenant, intent, one in items))
    return moved


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


async def rewrite_files(pool: Pool, *, waits_seconds: float = REWRITE_WAITS_SECONDS) -> bool:
    """Write the tables of personal data anew; return whether no file of them has what was erased before.

    False where somebody holds the tables for so long, or where a transaction that began before the erasure is still
    open: rows that it might read are kept. `pool` is the owner's. Raises Unavailable."""
    told: list[str] = []

    def listen(_: object, message: asyncpg.PostgresLogMessage) -> None:
        told.append(getattr(message, "detail", None) or "")

    with translated():
        async with pool.acquire() as connection:
            connection.add_log_listener(listen)
            try:
                await connection.execute("set transaction_timeout = 0")
                await connection.execute(f"set lock_timeout = {round(waits_seconds * 1000)}")
                await connection.execute(REWRITE)
            except asyncpg.LockNotAvailableError:
                return False
            finally:
                if not connection.is_closed():
                    await connection.execute("reset lock_timeout")
                    await connection.execute("reset transaction_timeout")
                await asyncio.sleep(0)  # the listener hears at the next turn
                connection.remove_log_listener(listen)
    # "0 dead row versions cannot be removed yet.", in the language of the server, for each table
    kept = [int(found[0]) for text in told if (found := re.match(r"[0-9]+", text))]
    return len(kept) >= 2 and not any(kept)


async def erasures(pool: Pool, tenant: str) -> list[ErasureRow]:
    """Return the erasures of a tenant, the earliest first; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        return [ErasureRow(*row) for row in await connection.fetch(_ERASURES, tenant)]


def _columns(rows: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return list(zip(*rows, strict=True))


class _Command(Struct, frozen=True):
    metadata: dict[str, str] = {}


class _Facts(Struct, frozen=True):
    command: _Command = _Command()


class _Record(Struct, frozen=True):
    facts: _Facts = _Facts()


_HEX: Final = "0123456789abcdef"
_SUBJECT_PLACE: Final = 2
# The intent of the key first, then the one of the intent_id.
_LOOK: Final = """
select 0 as place, i.command, p.proof as value
from idempotency k
join intents i on i.id = case when k.subject like 'intent/%' then substr(k.subject, 8)::uuid end and i.tenant = k.tenant
join personal_proofs p on p.intent = i.id
where k.tenant = $1 and k.key = $2
union all
select 1, i.command, p.proof from intents i join personal_proofs p on p.intent = i.id
where i.tenant = $1 and i.intent_id = $3
union all
select 2, null, s.key from personal_subjects s where s.tenant = $1 and s.subject = $4
order by place
"""
_SUBJECTS: Final = """
insert into personal_subjects (tenant, subject, key)
select * from unnest($1::text[], $2::text[], $3::bytea[]) as given (tenant, subject, key)
order by tenant collate "C", subject collate "C"
on conflict do nothing
"""
# Until the end of the transaction nobody erases these, and others may commit for them.
_HOLD: Final = """
select s.tenant, s.subject, s.key
from personal_subjects s join unnest($1::text[], $2::text[]) as given (tenant, subject) using (tenant, subject)
order by s.tenant collate "C", s.subject collate "C"
for share of s
"""
_OPENINGS: Final = """
insert into personal_openings (tenant, digest, subject, content)
select * from unnest($1::text[], $2::bytea[], $3::text[], $4::bytea[]) as given (tenant, digest, subject, content)
order by tenant collate "C", digest
on conflict do nothing
"""
_PROOFS: Final = """
insert into personal_proofs (intent, tenant, proof) select * from unnest($1::uuid[], $2::text[], $3::bytea[])
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
