"""Exports that somebody asked for: asked, taken by a worker, made, kept for a day, and on record for ever.

- What makes the bytes is fixed when it is asked, its end at the latest 90 s ago: whoever makes it makes the same bytes.
- A job is taken for a minute at a time. Where its maker has died another one takes it, under the next number of an
  attempt, and whatever the first one still writes counts for nothing.
- Its finish, the record of the export and the end of what others wrote are one commit.
- A tenant has JOBS_MAX that wait, run or are kept: so many files are stored at the most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.storage.intake.commands import KeyedAnswer, claim_key, known_key, rerun
from zentra.storage.pool import Connection, Pool, tenant_transaction, transaction
from zentra.storage.reads.walking import Filters, Slice, walk

__all__ = [
    "JOBS_MAX",
    "KEPT",
    "PART_BYTES",
    "ExportJob",
    "JobAsked",
    "JobClaim",
    "JobKey",
    "JobPlace",
    "JobResult",
    "ask_export",
    "claim_export",
    "expire_exports",
    "export_job",
    "export_jobs",
    "export_part",
    "fail_export",
    "finish_export",
    "keep_claim",
    "keep_part",
]  # fmt: skip

JOBS_MAX: Final = 4
KEPT: Final = timedelta(hours=24)
PART_BYTES: Final = 2**20
CLAIM_SECONDS: Final = 60
SETTLED_AFTER: Final = timedelta(seconds=90)  # as in storage.verification.bundling, which would end there too
ERROR_CHARACTERS_MAX: Final = 300


class JobAsked(Struct, frozen=True, kw_only=True):
    """What is asked for, and by whom; None is from the beginning, up to now, and everything."""

    id: str
    tenant: str
    actor: str
    role: str
    since: datetime | None
    until: datetime | None
    types: Sequence[str] | None


class JobKey(Struct, frozen=True):
    """The key of a request, and the digest of what is asked with it."""

    key: str
    digest: bytes
    request_id: str


class ExportJob(Struct, frozen=True, kw_only=True):
    """An export as it stands. `leaves_done` of `leaves` are written; digests are in hex, and None until it is done."""

    id: str
    actor: str
    role: str
    at: datetime
    since: datetime | None
    until: datetime
    types: list[str] | None
    state: str
    leaves_done: int
    leaves: int
    entries: int
    first_leaf: int | None
    log_size: int | None
    manifest: str | None
    sha256: str | None
    bytes: int | None
    error: str | None
    finished_at: datetime | None
    expires_at: datetime | None


class JobPlace(Struct, frozen=True, array_like=True):
    """The last job of a page."""

    at: datetime
    id: str


class JobClaim(Struct, frozen=True, kw_only=True):
    """A job that was taken: its attempt is the claimer's alone."""

    id: str
    tenant: str
    attempt: int
    actor: str
    role: str
    since: datetime | None
    until: datetime
    types: list[str] | None


class JobResult(Struct, frozen=True, kw_only=True):
    """What was made."""

    first_leaf: int
    log_size: int
    entries: int
    manifest: bytes
    sha256: bytes
    bytes: int


async def ask_export(
    pool: Pool, asked: JobAsked, key: JobKey, answer: Callable[[ExportJob], bytes]
) -> ExportJob | StoredKey:
    """Store a job under its key and return it, or what the key has stored already; `answer` is what it keeps.

    Raises Refusal `exports_too_many` and `export_range_empty`, and Unavailable."""

    async def run(connection: Connection) -> ExportJob | StoredKey:
        known = await known_key(connection, asked.tenant, key.key)
        if known is not None:
            return known
        await connection.execute(_LOCK, asked.tenant)
        if await connection.fetchval(_OPEN, asked.tenant) >= JOBS_MAX:
            raise Refusal("exports_too_many", f"{JOBS_MAX} wait, run or are kept; one ends {KEPT} after it was made")
        settled = await connection.fetchval("select now()") - SETTLED_AFTER
        until = settled if asked.until is None else min(asked.until, settled)
        if asked.since is not None and asked.since >= until:
            raise Refusal("export_range_empty", f"it begins at {asked.since} and ends at {until}")
        row = await connection.fetchrow(
            _ASK, asked.id, asked.tenant, asked.actor, asked.role, asked.since, until, asked.types
        )
        assert row is not None
        job = ExportJob(**dict(row.items()))
        stored = await claim_key(connection, KeyedAnswer(
            tenant=asked.tenant, key=key.key, digest=key.digest, subject=f"evidence/exports/{job.id}", status=202,
            answer=answer(job), request_id=key.request_id,
        ))  # fmt: skip
        if stored is not None:
            raise _Lost(stored)
        return job

    try:
        return await rerun(pool, asked.tenant, run)
    except _Lost as lost:  # and with it the job that was written
        return lost.stored


class _Lost(Exception):
    """Raised where another request has stored the key meanwhile."""

    def __init__(self, stored: StoredKey) -> None:
        super().__init__("the key is stored")
        self.stored = stored


async def export_job(pool: Pool, tenant: str, id: str) -> ExportJob | None:
    """Return a job of the tenant (a uuid), or None where there is none; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_SHOW, tenant, id)
    return None if row is None else ExportJob(**dict(row.items()))


async def export_jobs(
    pool: Pool, tenant: str, filters: Filters, *, after: JobPlace | None, limit: int
) -> Slice[ExportJob, JobPlace]:
    """Return a page of the tenant's jobs, the latest first. Filters: `created_from`, `created_before`, `actor`,
    `state`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="export_jobs", columns=_COLUMNS, order={"at": "timestamptz", "id": "uuid"},
            known=_FILTERS, filters=filters, after=None if after is None else (after.at, after.id), limit=limit,
        )  # fmt: skip
    return Slice([ExportJob(**dict(row.items())) for row in rows], None if end is None else JobPlace(*end))


async def export_part(pool: Pool, tenant: str, id: str, number: int) -> bytes | None:
    """Return a part of a finished export, counted from 0, or None where it has expired; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        content: bytes | None = await connection.fetchval(_PART, tenant, id, number)
    return content


# Of whoever makes them.


async def claim_export(pool: Pool) -> JobClaim | None:
    """Take the oldest job that nobody makes, for a minute; None where there is none. Raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        row = await connection.fetchrow(_CLAIM, CLAIM_SECONDS)
    return None if row is None else JobClaim(**dict(row.items()))


async def keep_claim(pool: Pool, claim: JobClaim, done: int, leaves: int) -> bool:
    """Say how far it is, and keep it for another minute; return False where it was taken. Raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        row = await connection.fetchval(_KEEP, claim.id, claim.attempt, CLAIM_SECONDS, done, leaves)
    return row is not None


async def keep_part(pool: Pool, claim: JobClaim, number: int, content: bytes) -> None:
    """Store a part; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute(_KEEP_PART, claim.tenant, claim.id, claim.attempt, number, content)


async def finish_export(pool: Pool, claim: JobClaim, result: JobResult) -> bool:
    """Keep that a job is done, that evidence was exported, and nothing that earlier attempts wrote.

    Return False where it was taken by somebody else. Raises Unavailable."""
    async with transaction(pool) as connection:
        done = await connection.fetchval(
            _FINISH, claim.id, claim.attempt, KEPT, result.first_leaf, result.log_size, result.entries,
            result.manifest, result.sha256, result.bytes,
        )  # fmt: skip
        if done is None:
            return False
        await connection.execute(
            _RECORD, claim.id, claim.tenant, claim.actor, claim.role, claim.since, claim.until, claim.types,
            result.first_leaf, result.log_size, result.entries, result.manifest,
        )  # fmt: skip
        await connection.execute("delete from export_parts where job = $1 and attempt <> $2", claim.id, claim.attempt)
    return True


async def fail_export(pool: Pool, claim: JobClaim, error: str) -> None:
    """Keep why a job cannot be made; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute(_FAIL, claim.id, claim.attempt, error[:ERROR_CHARACTERS_MAX])


async def expire_exports(pool: Pool) -> int:
    """Remove the files whose time is over; return how many. Raises Unavailable."""
    async with transaction(pool) as connection:
        rows = await connection.fetch(_EXPIRE)
        ids = [row[0] for row in rows]
        if ids:
            await connection.execute("delete from export_parts where job = any($1::uuid[])", ids)
    return len(ids)


_COLUMNS: Final = (
    "id, actor, role, at, since, until, types,"
    " case when state = 'done' and expires_at <= now() then 'expired' else state end as state, leaves_done, leaves,"
    " entries, first_leaf, log_size, encode(manifest, 'hex') as manifest, encode(sha256, 'hex') as sha256, bytes,"
    " error, finished_at, expires_at"
)
_FILTERS: Final[dict[str, str]] = {
    "created_from": "at >= {}", "created_before": "at < {}", "actor": "actor = {}",
    "state": "case when state = 'done' and expires_at <= now() then 'expired' else state end = {}",
}  # fmt: skip
_SHOW: Final = f"select {_COLUMNS} from export_jobs where tenant = $1 and id = $2"  # noqa: S608
_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('zentra/evidence/exports/' || $1, 0))"
_OPEN: Final = """
select count(*) from export_jobs
where tenant = $1 and (state in ('waiting', 'running') or (state = 'done' and expires_at > now()))
"""
_ASK: Final = f"""
insert into export_jobs (id, tenant, actor, role, since, until, types) values ($1, $2, $3, $4, $5, $6, $7)
returning {_COLUMNS}
"""  # noqa: S608
_PART: Final = """
select p.content from export_jobs j join export_parts p on p.job = j.id and p.attempt = j.attempt
where j.tenant = $1 and p.tenant = $1 and j.id = $2 and p.number = $3 and j.state = 'done' and j.expires_at > now()
"""
_CLAIM: Final = """
update export_jobs set state = 'running', attempt = attempt + 1, leaves_done = 0,
    claimed_until = now() + make_interval(secs => $1)
where id = (
    select id from export_jobs where state in ('waiting', 'running') and claimed_until <= now()
    order by at limit 1 for update skip locked)
returning id, tenant, attempt, actor, role, since, until, types
"""
_KEEP: Final = """
update export_jobs set claimed_until = now() + make_interval(secs => $3), leaves_done = $4, leaves = $5
where id = $1 and attempt = $2 and state = 'running' returning 1
"""
_KEEP_PART: Final = """
insert into export_parts (tenant, job, attempt, number, content) values ($1, $2, $3, $4, $5)
"""
_FINISH: Final = """
update export_jobs set state = 'done', finished_at = now(), expires_at = now() + $3::interval, first_leaf = $4,
    log_size = $5, entries = $6, manifest = $7, sha256 = $8, bytes = $9, leaves = $5::bigint - $4::bigint,
    leaves_done = $5::bigint - $4::bigint
where id = $1 and attempt = $2 and state = 'running' returning 1
"""
_RECORD: Final = """
insert into evidence_exports (id, tenant, actor, role, since, until, types, first_leaf, log_size, entries, manifest)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
_FAIL: Final = """
update export_jobs set state = 'failed', finished_at = now(), error = $3
where id = $1 and attempt = $2 and state = 'running'
"""
_EXPIRE: Final = "update export_jobs set state = 'expired' where state = 'done' and expires_at <= now() returning id"
