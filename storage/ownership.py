"""Who owns which partition: members, leases and epochs, all by the clock of the database.

A worker owns the partitions that rendezvous hashing gives it among the live members. It takes one when its lease is
free, expired, or its own from an earlier life; each taking raises the epoch, and an epoch fences every commit of the
one before. What belongs to another live member is released, so that a fleet balances itself within one lease time."""

import hashlib
from collections.abc import Iterable
from typing import Final

from zentra.runtime.ports import Lease
from zentra.runtime.stream_ports import Position
from zentra.storage.pool import Pool, transaction

__all__ = ["claim_leases", "release_leases", "rendezvous"]

_MEMBER: Final = """
insert into members (worker, seen_at) values ($1, clock_timestamp())
on conflict (worker) do update set seen_at = excluded.seen_at
"""
_CLAIM: Final = """
with mine as (select unnest($3::int[]) as partition),
taken as (
    select l.partition from leases l join mine using (partition)
    where l.owner is null or l.expires_at < clock_timestamp() or (l.owner = $1 and $4)
    order by l.partition for update of l skip locked
), acquired as (
    update leases l set epoch = epoch + 1, owner = $1, expires_at = clock_timestamp() + make_interval(secs => $2)
    from taken where l.partition = taken.partition returning l.partition
)
update leases l set expires_at = clock_timestamp() + make_interval(secs => $2)
where l.owner = $1 and l.partition = any($3::int[]) and l.partition not in (select partition from acquired)
"""


def rendezvous(partition: int, workers: Iterable[str]) -> str:
    """Return the worker that should own a partition: highest random weight, so that a change moves few partitions."""
    return max(workers, key=lambda worker: hashlib.sha256(f"{worker}/{partition}".encode()).digest())


async def claim_leases(pool: Pool, worker: str, lease_seconds: float, *, first: bool = False) -> dict[int, Lease]:
    """Renew membership and leases of `worker` and return what it owns; `first` takes over its own from an earlier life.

    Raises Unavailable where the store cannot answer."""
    async with transaction(pool) as connection:
        await connection.execute(_MEMBER, worker)
        await connection.execute(
            "delete from members where seen_at < clock_timestamp() - make_interval(secs => $1)", lease_seconds * 10
        )
        live = [
            row[0]
            for row in await connection.fetch(
                "select worker from members where seen_at > clock_timestamp() - make_interval(secs => $1)",
                lease_seconds,
            )
        ]
        partitions = [row[0] for row in await connection.fetch("select partition from leases")]
        mine = [partition for partition in partitions if rendezvous(partition, live) == worker]
        await connection.execute(_CLAIM, worker, lease_seconds, mine, first)
        await connection.execute(
            "update leases set owner = null, expires_at = '-infinity' where owner = $1 and partition <> all($2::int[])",
            worker,
            mine,
        )
        rows = await connection.fetch(
            "select partition, epoch, version, sequence, message_id from leases where owner = $1", worker
        )
    return {row[0]: Lease(row[0], row[1], row[2], Position(row[3], row[4])) for row in rows}


async def release_leases(pool: Pool, worker: str) -> None:
    """Give up every lease and the membership of `worker` at once; raises Unavailable."""
    async with transaction(pool) as connection:
        await connection.execute("update leases set owner = null, expires_at = '-infinity' where owner = $1", worker)
        await connection.execute("delete from members where worker = $1", worker)
