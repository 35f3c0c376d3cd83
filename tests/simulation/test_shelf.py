"""The store of the simulator: what a stopped commit holds back, and how long."""

from __future__ import annotations

from typing import Any

import pytest

from zentra.bench.simulation.faults import Fault
from zentra.bench.simulation.simulation import Simulation, VirtualLoop
from zentra.bench.simulation.stops import Job
from zentra.bench.simulation.workers import SimulatedWorker
from zentra.bench.twins.fleet import at_once
from zentra.bench.twins.store_commit import OpenCommit
from zentra.runtime.errors import Unavailable
from zentra.runtime.ports import Fence, Ground, Lease, TickPlan, TickWrites
from zentra.runtime.stream_ports import NOTHING_CONSUMED


@pytest.fixture
def simulation() -> Any:
    """Return a world without a worker and without faults."""
    loop = VirtualLoop()
    world = Simulation(1, 1, loop, steps_max=None, only=frozenset())
    yield world
    loop.close()


def plan_over(lease: Lease) -> TickPlan:
    return TickPlan((Fence(lease.partition, lease.epoch, lease.version, NOTHING_CONSUMED),), (), (), 1)


async def write(simulation: Simulation, plan: TickPlan) -> None:
    async def draft(ground: Ground) -> TickWrites:
        return TickWrites()

    await simulation.store.commit(plan, lambda ground: TickWrites(), draft)


def test_a_commit_waits_for_one_that_holds_its_lease_and_then_finds_it_moved(simulation: Simulation) -> None:
    lease = at_once(simulation.store.claim("w", 10)).owned[0]
    first, second = OpenCommit(simulation.store, plan_over(lease)), OpenCommit(simulation.store, plan_over(lease))
    assert first.fence()
    assert not second.fence()
    first.commit(TickWrites())
    assert second.fence()
    assert second.ground is not None
    assert second.ground.lost == {0}


def test_a_partition_in_a_stopped_commit_is_taken_over_when_the_server_has_ended_it(simulation: Simulation) -> None:
    store = simulation.store
    lease = at_once(store.claim("w", 10)).owned[0]
    simulation.swarm.rates[Fault.STOPPED_IN_COMMIT] = 1.0
    simulation.acting = SimulatedWorker(simulation, "w", 1)
    job = Job("fly", write(simulation, plan_over(lease)))
    assert not job.step()
    assert job.place == "fenced"
    assert simulation.acting.stalled_until > 0
    simulation.swarm.calm()
    simulation.store_offset += 11  # the lease has run out, by the clock of the store
    assert at_once(store.claim("other", 10)).owned.keys() == set(range(1, store.partitions))
    simulation.advance(6)
    assert at_once(store.claim("other", 10)).owned.keys() == set(range(store.partitions))
    with pytest.raises(Unavailable):
        job.step()
    assert store.commits == 0


def test_a_commit_that_outlives_its_worker_holds_its_lease_until_it_ends(simulation: Simulation) -> None:
    store = simulation.store
    lease = at_once(store.claim("w", 10)).owned[0]
    simulation.swarm.rates[Fault.IN_DOUBT_LATE] = 1.0
    with pytest.raises(Unavailable):
        at_once(write(simulation, plan_over(lease)))
    simulation.swarm.calm()
    asks = Job("ask", store.leases([0]))  # type: ignore[arg-type]  # what it answers is not asked for here
    assert not asks.step()
    store.finish_one()
    assert asks.step() or asks.step()
