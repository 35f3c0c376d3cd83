"""Anchors in the store: which checkpoints are to be kept elsewhere, which were, and what keeps the rest from it.

- A checkpoint is due once so many leaves have come since the last one, or the first of them is so old. It is written
  down before it is handed over, so a restart goes on where the last worker stopped.
- Of a sink and tenant one checkpoint is under way; whatever came meanwhile is covered by the next one, because a log
  only grows. So nothing piles up behind a sink that is away, and nothing is left out.
- What failed is tried again for as long as the sink exists, after pauses that double up to an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from zentra.runtime.evidence.heads import TreeHead
from zentra.storage.errors import Misconfigured
from zentra.storage.pool import Pool, transaction
from zentra.storage.reads.evidence import tree_head

__all__ = [
    "LEAVES", "SECONDS", "AnchorDue", "Backlog", "Sink", "SinkStanding", "add_sink", "due_anchors", "plan_anchors",
    "read_backlog", "record_failure", "record_kept", "remove_sink", "retry_sink", "sinks",
]  # fmt: skip

LEAVES: Final = 64
SECONDS: Final = 60
RETRY_SECONDS_MAX: Final = 3_600
ERROR_CHARACTERS_MAX: Final = 300
DUE_AT_ONCE: Final = 200


class Sink(Struct, frozen=True, kw_only=True):
    """Where checkpoints are kept: of one tenant, or of all where `tenant` is None; `target` is a path or a URL."""

    name: str
    kind: Literal["file", "webhook"]
    target: str
    tenant: str | None = None
    leaves: int = LEAVES
    seconds: int = SECONDS
    created_by: str = ""


class SinkStanding(Struct, frozen=True, kw_only=True):
    """How a sink stands: what it has kept, what waits since when, and why."""

    name: str
    kind: str
    target: str
    tenant: str | None
    leaves: int
    seconds: int
    removed_at: datetime | None
    kept: int
    last_kept_at: datetime | None
    pending: int
    pending_since: datetime | None
    attempts: int
    error: str | None


class AnchorDue(Struct, frozen=True):
    """A checkpoint to hand over."""

    sink: str
    kind: str
    target: str
    head: TreeHead
    attempts: int


class Backlog(Struct, frozen=True):
    """What waits to be kept, and for how long the oldest has."""

    pending: int
    oldest_seconds: float


async def add_sink(pool: Pool, sink: Sink) -> None:
    """Add a sink. Raises Misconfigured `anchor_sink_exists` where the name is taken, also by one that was removed, and
    `tenant_unknown`; Unavailable and DataError."""
    async with transaction(pool) as connection:
        if sink.tenant is not None and not await connection.fetchval(_TENANT, sink.tenant):
            raise Misconfigured("tenant_unknown", f"there is no tenant {sink.tenant!r}")
        done = await connection.execute(
            _ADD, sink.name, sink.kind, sink.target, sink.tenant, sink.leaves, sink.seconds, sink.created_by
        )
    if done == "INSERT 0 0":
        raise Misconfigured("anchor_sink_exists", f"there is a sink {sink.name!r} already; give it another name")


async def remove_sink(pool: Pool, name: str) -> None:
    """End a sink; what it has kept stays on record. Raises Misconfigured `anchor_sink_unknown` and Unavailable."""
    await _named(pool, _REMOVE, name)


async def retry_sink(pool: Pool, name: str) -> None:
    """Try what waits for a sink now. Raises Misconfigured `anchor_sink_unknown` and Unavailable."""
    await _named(pool, "select 1 from anchor_sinks where name = $1 and removed_at is null", name)
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute("update anchors set next_at = now() where sink = $1 and kept_at is null", name)


async def sinks(pool: Pool) -> list[SinkStanding]:
    """Return every sink and how it stands, by name; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        rows = await connection.fetch(_STANDING)
    return [SinkStanding(**dict(row.items())) for row in rows]


async def plan_anchors(pool: Pool) -> int:
    """Write down what is due; return how many checkpoints that is. Raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        return int((await connection.execute(_PLAN)).rpartition(" ")[2])


async def due_anchors(pool: Pool) -> list[AnchorDue]:
    """Return checkpoints to hand over now, those that wait longest first, some 200 at most; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        rows = await connection.fetch(_DUE, DUE_AT_ONCE)
    return [AnchorDue(row[0], row[1], row[2], tree_head(row[3], *row[4:9]), row[9]) for row in rows]


async def record_kept(pool: Pool, kept: Sequence[AnchorDue]) -> None:
    """Keep that sinks have these; again is nothing. Raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute(_KEPT, *_names(kept))


async def record_failure(pool: Pool, failed: Sequence[AnchorDue], error: str) -> None:
    """Keep why sinks did not take these, and when to try again; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute(_FAILED, *_names(failed), error[:ERROR_CHARACTERS_MAX], RETRY_SECONDS_MAX)


async def read_backlog(pool: Pool) -> Backlog:
    """Return what waits; raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        [row] = await connection.fetch(_BACKLOG)
    return Backlog(row[0], row[1])


async def _named(pool: Pool, statement: str, name: str) -> None:
    async with transaction(pool, one_statement=True) as connection:
        found = await connection.fetchval(statement, name)
    if found is None:
        raise Misconfigured("anchor_sink_unknown", f"there is no sink {name!r}; see: zentra evidence anchors list")


def _names(anchors: Sequence[AnchorDue]) -> tuple[list[str], list[str], list[int]]:
    return [one.sink for one in anchors], [one.head.tenant for one in anchors], [one.head.size for one in anchors]


_TENANT: Final = "select true from tenants where id = $1"
_ADD: Final = """
insert into anchor_sinks (name, kind, target, tenant, leaves, seconds, created_by) values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing
"""
_REMOVE: Final = "update anchor_sinks set removed_at = now() where name = $1 and removed_at is null returning 1"
_STANDING: Final = """
select s.name, s.kind, s.target, s.tenant, s.leaves, s.seconds, s.removed_at, count(a.kept_at) as kept,
    max(a.kept_at) as last_kept_at, count(*) filter (where a.size is not null and a.kept_at is null) as pending,
    min(a.created_at) filter (where a.kept_at is null) as pending_since,
    coalesce(max(a.attempts) filter (where a.kept_at is null), 0) as attempts,
    max(a.error) filter (where a.kept_at is null) as error
from anchor_sinks s left join anchors a on a.sink = s.name group by s.name order by s.name
"""
_PLAN: Final = """
insert into anchors (sink, tenant, size)
select s.name, t.id, head.size
from anchor_sinks s join tenants t on s.tenant is null or s.tenant = t.id
cross join lateral (select size from log_heads where tenant = t.id order by size desc limit 1) head
cross join lateral (
    select coalesce(max(size), 0) as size, coalesce(bool_or(kept_at is null), false) as waits from (
        select size, kept_at from anchors where sink = s.name and tenant = t.id order by size desc limit 1) l
) last
where s.removed_at is null and not last.waits and head.size > last.size and (
    head.size - last.size >= s.leaves
    or (select at from log_heads where tenant = t.id and size > last.size order by size limit 1)
        <= now() - make_interval(secs => s.seconds)
)
on conflict do nothing
"""
_DUE: Final = """
select a.sink, s.kind, s.target, a.tenant, h.size, h.root, h.at, h.key_id, h.signature, a.attempts
from anchors a join anchor_sinks s on s.name = a.sink
join log_heads h on h.tenant = a.tenant and h.size = a.size
where a.kept_at is null and a.next_at <= now() and s.removed_at is null order by a.next_at, a.sink, a.tenant limit $1
"""
_KEPT: Final = """
update anchors a set kept_at = now(), attempts = attempts + 1, error = null
from unnest($1::text[], $2::text[], $3::bigint[]) as k(sink, tenant, size)
where a.sink = k.sink and a.tenant = k.tenant and a.size = k.size and a.kept_at is null
"""
_FAILED: Final = """
update anchors a set attempts = attempts + 1, error = $4,
    next_at = now() + make_interval(secs => least($5::float8, power(2, least(attempts, 20))))
from unnest($1::text[], $2::text[], $3::bigint[]) as k(sink, tenant, size)
where a.sink = k.sink and a.tenant = k.tenant and a.size = k.size and a.kept_at is null
"""
_BACKLOG: Final = """
select count(*), coalesce(extract(epoch from now() - min(a.created_at)), 0)::float8
from anchors a join anchor_sinks s on s.name = a.sink where a.kept_at is null and s.removed_at is null
"""
