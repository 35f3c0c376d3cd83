"""A batch on its way to its commit while its partitions come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.actors.test_worker import make_worker, make_world
from tests.actors.world import endpoint
from zentra.actors.committing import Committer
from zentra.actors.memory import Missing
from zentra.actors.tick import Batch, Input
from zentra.runtime.messages import LaneOpened, TimerFired
from zentra.runtime.partitions import lane_key
from zentra.runtime.policy import VelocityKey
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.runtime.webhooks.delivery import Delivery


async def test_what_is_loaded_for_a_partition_that_was_lost_meanwhile_is_forgotten() -> None:
    fleet = make_world(endpoints=(endpoint(),))
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    lane = ("acme", "hook")
    partition = fleet.partition_of(lane_key(*lane))
    read = fleet.store.open_deliveries

    async def lost_while_reading(tenant: str, endpoint: str, *, timed: bool = False) -> list[Delivery]:
        found = await read(tenant, endpoint, timed=timed)
        worker._drop(frozenset({partition}))
        return found

    fleet.store.open_deliveries = lost_while_reading  # type: ignore[method-assign]  # the partition goes while it is read
    opened = Input(partition, "webhook", LaneOpened(*lane), "takeover")
    batch = Batch([opened], {}, epochs={partition: worker.leases[partition].epoch})
    assert await worker._committer.run(batch, 1) is None
    assert lane not in worker.engine.memory.lanes


# fmt: off
DRAFTED = [  # up to two events need no draft: how many there are, what they lock, what the commit under way locks
    ("few events alone",                                2, True,  None,  False),
    ("many events",                                     3, True,  None,  True),
    ("few events beside a commit that locks as well",   1, True,  True,  True),
    ("few events beside a commit that locks nothing",   1, True,  False, False),
    ("few events that lock nothing beside one",         1, False, True,  False),
]
# fmt: on


@pytest.mark.parametrize(
    ("events", "locks", "beside", "drafted"), [r[1:] for r in DRAFTED], ids=[r[0] for r in DRAFTED]
)
async def test_a_draft_is_made_where_it_keeps_somebody_from_waiting(
    events: int, locks: bool, beside: bool | None, drafted: bool
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

    fleet.store.commit = watched  # type: ignore[method-assign]  # tells of drafts, and holds the first commit up
    committer = Committer(
        worker.engine, fleet.store, worker.leases, drop=worker._drop, committed=worker._committed, send=worker._send,
        undrafted_max=2,
    )  # fmt: skip

    def batch(partition: int, size: int, *, locks: bool) -> Batch:
        fired = Input(partition, "timer", TimerFired("intent", "0" * 32, "state", "acme"), "timer/state")
        counters = {VelocityKey("acme", f"account/{partition}", "2026-01-05", "NGN")} if locks else set()
        epochs = {partition: worker.leases[partition].epoch}
        return Batch([fired] * size, {}, extra=Missing(velocity=counters), epochs=epochs)

    async with anyio.create_task_group() as group:
        if beside is not None:
            group.start_soon(committer.run, batch(0, 1, locks=beside), 1)
            await began.wait()
        await committer.run(batch(1, events, locks=locks), 2)
    assert drafts[2] is drafted
