"""Who owns which partition: members that are alive, and lease rows with an epoch, all by the clock of the database.

A worker is alive while its member row was touched within the lease time. It owns the partitions that rendezvous hashing
with bounded loads gives it among the live members, and takes one when its lease is free, its owner is dead, or it is
its own from an earlier life; each taking raises the epoch, and an epoch fences every commit of the one before. What
another live member should own stays where it is until its owner, who alone knows what is under way, gives it up.
Renewing touches the member row alone: lease rows are written by ticks, and a renewal that locked them would make every
tick wait for it."""

import hashlib
from collections import Counter
from collections.abc import Collection
from typing import Final

from zentra.runtime.ports import Claim, Lease
from zentra.runtime.stream_ports import Position
from zentra.storage.errors import translated
from zentra.storage.pool import Pool, transaction

__all__ = ["claim_leases", "give_up_leases", "release_leases", "shares"]

_ALIVE: Final = """
with me as (
    insert into members (worker, seen_at) values ($1, clock_timestamp())
    on conflict (worker) do update set seen_at = excluded.seen_at
), gone as (
    delete from members where seen_at < clock_timestamp() - make_interval(secs => 10 * $2) and worker <> $1
)
select worker from members where seen_at > clock_timestamp() - make_interval(secs => $2) or worker = $1
union select $1
"""
_LEASES: Final = "select partition, owner, epoch, version, sequence, message_id from leases"
# Whoever locks lease rows locks them by partition; one that is in a commit right now is taken the next time.
_TAKE: Final = """
with free as (
    select partition from leases
    where partition = any($2::int[]) and (owner is null or owner = $1 or owner <> all($3::text[]))
    order by partition for update skip locked
)
update leases l set epoch = epoch + 1, owner = $1 from free where l.partition = free.partition
"""
_RELEASE: Final = """
with mine as (
    select partition from leases where owner = $1 and partition = any($2::int[]) order by partition for update
)
update leases l set owner = null from mine where l.partition = mine.partition
"""


def shares(partitions: Collection[int], workers: Collection[str]) -> dict[int, str]:
    """Return the worker that should own each partition: the one of highest random weight that is not full, so that a
    change moves few partitions and nobody owns more than an even share, rounded up."""
    full = -(-len(partitions) // len(workers))
    weights = [(hashlib.sha256(f"{w}/{p}".encode()).digest(), p, w) for p in partitions for w in workers]
    owners: dict[int, str] = {}
    loads: Counter[str] = Counter()
    for _, partition, worker in sorted(weights, reverse=True):
        if partition not in owners and loads[worker] < full:
            owners[partition] = worker
            loads[worker] += 1
    return owners


async def claim_leases(pool: Pool, worker: str, lease_seconds: float, *, first: bool = False) -> Claim:
    """Renew the membership of `worker` and return what it owns, and what of that belongs to others; `first` takes over
    its own from an earlier life.

    Raises Unavailable where the store cannot answer."""
    with translated():
        alive = [row[0] for row in await pool.fetch(_ALIVE, worker, lease_seconds)]
        rows = await pool.fetch(_LEASES)
        owners = {row[0]: row[1] for row in rows}
        mine = {partition for partition, owner in shares(owners, alive).items() if owner == worker}
        take = [p for p in mine if owners[p] not in alive or (owners[p] == worker and first)]
        if take:
            others = [name for name in alive if name != worker]
            await pool.execute(_TAKE, worker, take, others)
            rows = await pool.fetch(_LEASES)
    owned = {row[0]: Lease(row[0], row[2], row[3], Position(row[4], row[5])) for row in rows if row[1] == worker}
    return Claim(owned, frozenset(owned.keys() - mine), len(mine - owned.keys()))


async def give_up_leases(pool: Pool, worker: str, partitions: Collection[int]) -> None:
    """Release these leases of `worker`, each once the commit that holds it has ended; raises Unavailable."""
    with translated():
        await pool.execute(_RELEASE, worker, sorted(partitions))


async def release_leases(pool: Pool, worker: str) -> None:
    """Give up every lease and the membership of `worker` at once; raises Unavailable."""
    async with transaction(pool) as connection:
        everything = [row[0] for row in await connection.fetch(_LEASES)]
        await connection.execute(_RELEASE, worker, everything)
        await connection.execute("delete from members where worker = $1", worker)
