"""A batch on its way to its commit while its partitions come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.actors.test_worker import make_worker, make_world
from tests.actors.world import endpoint
from zentra.actors.committing import Committer
from zentra.actors.tick import Batch, Input
from zentra.runtime.messages import LaneOpened, TimerFired
from zentra.runtime.partitions import lane_key
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.runtime.webhooks.delivery import Delivery


async def test_what_is_loaded_for_a_partition_that_was_lost_meanwhile_is_forgotten() -> None:
    fleet = make_world(endpoints=(endpoint(),))
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    lane = ("acme", "hook")
    partition = fleet.partition_of(lane_key(*lane))
    read = fleet.store.open_deliveries

    async def lost_while_reading(tenant: str, endpoint: str) -> list[Delivery]:
        found = await read(tenant, endpoint)
        worker._drop(frozenset({partition}))
        return found

    fleet.store.open_deliveries = lost_while_reading  # type: ignore[method-assign]  # the partition goes while it is read
    opened = Input(partition, "webhook", LaneOpened(*lane), "takeover")
    batch = Batch([opened], {}, epochs={partition: worker.leases[partition].epoch})
    assert await worker._committer.run(batch, 1) is None
    assert lane not in worker.engine.memory.lanes


@pytest.mark.parametrize(
    ("undrafted_max", "events", "under_way", "drafted"),
    [(2, 2, 0, False), (2, 3, 0, True), (2, 1, 1, True), (0, 1, 0, True)],
    ids=["few events alone", "many events", "few events beside another commit", "where everything is drafted"],
)
async def test_a_draft_is_made_where_it_keeps_somebody_from_waiting(
    undrafted_max: int, events: int, under_way: int, drafted: bool
) -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    commit, release, began = fleet.store.commit, anyio.Event(), anyio.Event()
    drafts: dict[int, bool] = {}

    async def watched(
        plan: TickPlan, decide: Callable[[Ground], TickWrites], draft: Any = None, turn: Any = None
    ) -> Ground:
        drafts.setdefault(plan.stripe, draft is not None)
        if plan.stripe == 1:
            began.set()
            await release.wait()
        release.set()
        return await commit(plan, decide, draft, turn)

    fleet.store.commit = watched  # type: ignore[method-assign]  # tells of drafts, and holds the first commits up
    committer = Committer(
        worker.engine, fleet.store, worker.leases, drop=worker._drop, committed=worker._committed, send=worker._send,
        undrafted_max=undrafted_max,
    )  # fmt: skip

    def batch(partition: int, size: int) -> Batch:
        fired = Input(partition, "timer", TimerFired("intent", "0" * 32, "state", "acme"), "timer/state")
        return Batch([fired] * size, {}, epochs={partition: worker.leases[partition].epoch})

    async with anyio.create_task_group() as group:
        if under_way:
            group.start_soon(committer.run, batch(0, 1), 1)
            await began.wait()
        await committer.run(batch(1, events), 2)
    assert drafts[2] is drafted
