"""What every store says of partitions, on the twin and on Postgres: who owns them, who should, what they wait for."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
from msgspec import structs

from tests.contracts.test_store_contract import World, numbers, pools, story, world
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ports import Lease, TickWrites, Timer
from zentra.runtime.stream_ports import Position

__all__ = ["pools", "world"]


async def test_a_worker_alone_owns_everything_and_renewing_changes_nothing(world: World) -> None:
    first, second = (await world.store.claim(world.worker, 60)).owned, (await world.store.claim(world.worker, 60)).owned
    assert set(first) == set(range(64))
    assert first == second


async def test_two_workers_share_and_a_partition_changes_hands_with_a_new_epoch(world: World) -> None:
    other = f"worker-{next(numbers)}"
    before = (await world.store.claim(world.worker, 60)).owned
    joining = await world.store.claim(other, 60)
    assert joining.owned == {}  # nothing is free yet
    claim = await world.store.claim(world.worker, 60)
    assert claim.owned == before  # and nothing is taken from it
    assert len(claim.leaving) == joining.awaited > 10
    await world.store.give_up(other, claim.leaving)  # it cannot give up what is not its own
    assert await world.store.claim(world.worker, 60) == claim
    await world.store.give_up(world.worker, claim.leaving)
    ours, theirs = await world.store.claim(world.worker, 60), await world.store.claim(other, 60)
    assert [(claim.leaving, claim.awaited) for claim in (ours, theirs)] == [(frozenset(), 0)] * 2
    _share(before, ours.owned, theirs.owned)
    await world.store.release(other)
    assert set((await world.store.claim(world.worker, 60)).owned) == set(before)


def _share(before: dict[int, Lease], ours: dict[int, Lease], theirs: dict[int, Lease]) -> None:
    """Fail where a partition was not given on with the next epoch, or not left alone."""
    assert ours.keys() | theirs.keys() == before.keys()
    assert not ours.keys() & theirs.keys()
    assert len(theirs) > 10
    assert all(theirs[p].epoch == before[p].epoch + 1 for p in theirs)
    assert all(ours[p] == before[p] for p in ours)


async def test_what_is_released_is_free_at_once_and_keeps_its_position(world: World) -> None:
    other = f"worker-{next(numbers)}"
    await world.commit(partitions=[9], position=Position(77, "m77"))
    before = await world.store.leases([9])
    await world.store.release(world.worker)
    taken = (await world.store.claim(other, 60)).owned
    await world.store.release(other)
    assert taken[9] == Lease(9, before[9].epoch + 1, before[9].version, Position(77, "m77"))


async def test_a_dead_workers_partitions_are_taken_when_its_lease_is_over_and_it_can_commit_no_more(
    world: World,
) -> None:
    other, lease_seconds = f"worker-{next(numbers)}", 0.3
    before = (await world.store.claim(world.worker, lease_seconds)).owned
    with anyio.fail_after(10):
        while len((await world.store.claim(other, lease_seconds)).owned) < len(before):
            await anyio.sleep(0.02)
    try:
        ground = await world.commit(partitions=[2], stale={2: (1, 0)})
        assert ground.lost == {2}
    finally:
        await world.store.release(other)


@pytest.mark.parametrize(
    ("submitted", "name", "partition", "due_in", "found"),
    [
        (True, "state", 5, 10, True),
        (True, "state", 5, -10, True),
        (False, "state", 5, 10, False),
        (True, "seal", 5, 10, False),
        (True, "state", 6, 10, False),
        (True, "state", 5, 20, False),
    ],
    ids=["waits", "overdue", "waits for us", "another timer", "elsewhere", "later"],
)
async def test_an_attempt_that_was_started_is_found_by_its_timer(
    world: World, submitted: bool, name: str, partition: int, due_in: float, found: bool
) -> None:
    now = (await world.commit()).now
    before, last = (State.ROUTING, State.SUBMITTED) if submitted else (State.SUBMITTED, State.CONFIRMED)
    records = [structs.replace(record, at=now - timedelta(seconds=3), state=before) for record in story(3)]
    records[-1] = structs.replace(records[-1], state=last)
    timer = Timer("intent", records[0].intent, name, partition, "acme", now + timedelta(seconds=due_in))

    def write(writes: TickWrites) -> None:
        writes.transitions.extend(records)
        writes.timers_set[timer.kind, timer.key, timer.name] = timer

    await world.commit(write)
    rows = {row.key: (row, age) for row, age in await world.store.started_attempts([5], 15, 100)}
    assert (timer.key in rows) == found
    if found:
        row, age = rows[timer.key]
        assert row == timer
        assert 3 <= age < 60
    assert await world.store.started_attempts([5], 15, 0) == []
