"""Who owns which partition: what only the real database can show, and the hash that shares partitions out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator

import anyio
import pytest

from zentra.storage.engine.ownership import claim_leases, release_leases, shares
from zentra.storage.engine.store import PostgresStore
from zentra.storage.pool import Pool

PARTITIONS = range(64)
numbers = itertools.count(1)


@pytest.fixture
async def worker(writer_pool: Pool) -> AsyncIterator[str]:
    """The name of a worker that gives everything up in the end."""
    name = f"worker-{next(numbers)}"
    yield name
    await release_leases(writer_pool, name)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_partition_has_one_worker_and_every_worker_some(count: int) -> None:
    workers = [f"w{number}" for number in range(count)]
    owners = shares(PARTITIONS, workers)
    assert set(owners) == set(PARTITIONS)
    loads = Counter(owners.values())
    assert set(loads) == set(workers)
    assert max(loads.values()) == -(-len(PARTITIONS) // count)
    assert owners == shares(PARTITIONS[::-1], workers[::-1])


def test_a_worker_that_leaves_moves_little_but_its_own() -> None:
    workers = ["a", "b", "c", "d"]
    before, after = shares(PARTITIONS, workers), shares(PARTITIONS, workers[:-1])
    moved = {p for p in PARTITIONS if before[p] != after[p]}
    its_own = {p for p in PARTITIONS if before[p] == "d"}
    assert its_own <= moved
    assert len(moved - its_own) <= len(PARTITIONS) // 8


async def test_a_worker_that_comes_back_under_its_name_fences_its_earlier_life(writer_pool: Pool, worker: str) -> None:
    before = (await PostgresStore(writer_pool).claim(worker, 60)).owned
    again = PostgresStore(writer_pool)  # a new process: nothing was released
    after = (await again.claim(worker, 60)).owned
    assert {p: lease.epoch for p, lease in after.items()} == {p: lease.epoch + 1 for p, lease in before.items()}
    assert (await again.claim(worker, 60)).owned == after


async def test_renewing_waits_for_no_tick(writer_pool: Pool, worker: str) -> None:
    owned = (await claim_leases(writer_pool, worker, 60)).owned
    async with writer_pool.acquire() as tick, tick.transaction():
        await tick.execute("select from leases order by partition for update")
        with anyio.fail_after(2):
            assert (await claim_leases(writer_pool, worker, 60)).owned == owned


async def test_a_partition_that_is_in_a_commit_is_taken_the_next_time(writer_pool: Pool, worker: str) -> None:
    async with writer_pool.acquire() as tick, tick.transaction():
        await tick.execute("select from leases where partition = 7 for update")
        with anyio.fail_after(2):
            assert set((await claim_leases(writer_pool, worker, 60)).owned) == set(PARTITIONS) - {7}
    assert set((await claim_leases(writer_pool, worker, 60)).owned) == set(PARTITIONS)


async def test_members_that_are_long_dead_are_forgotten(writer_pool: Pool, admin_pool: Pool, worker: str) -> None:
    await admin_pool.execute("insert into members values ('ancient', now() - interval '1 day')")
    assert set((await claim_leases(writer_pool, worker, 60)).owned) == set(PARTITIONS)
    assert await admin_pool.fetchval("select count(*) from members where worker = 'ancient'") == 0


async def test_what_is_released_belongs_to_nobody(writer_pool: Pool, admin_pool: Pool, worker: str) -> None:
    await claim_leases(writer_pool, worker, 60)
    await release_leases(writer_pool, worker)
    assert await admin_pool.fetchval("select count(*) from leases where owner is not null") == 0
    assert await admin_pool.fetchval("select count(*) from members where worker = $1", worker) == 0
