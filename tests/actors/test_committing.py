"""A batch on its way to its commit while its partitions come and go."""

from __future__ import annotations

from tests.actors.test_worker import make_worker, make_world
from tests.actors.world import endpoint
from zentra.actors.tick import Batch, Input
from zentra.runtime.messages import LaneOpened
from zentra.runtime.partitions import lane_key
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
