"""Loading: bring what a tick misses from the store into memory or into its next plan.

Invariants. Memory holds only what the store has answered. What the store did not have is remembered as absent for no
longer than the next commit, because it may exist by then."""

from zentra.actors.memory import Lane, Memory, Missing
from zentra.actors.tick import Batch
from zentra.runtime.intents.transaction import restore
from zentra.runtime.ports import Store

__all__ = ["load"]

OPEN_DELIVERIES_MAX = 2_000  # what the store returns at once; there may be more


async def load(store: Store, memory: Memory, batch: Batch, missing: Missing) -> None:
    """Bring what is missing; raises Unavailable or, where a name is none that the store could hold, DataError."""
    batch.extra.balances.update(missing.balances)
    batch.extra.velocity |= missing.velocity
    if missing.configuration:
        memory.configure(await store.configuration())
    if missing.accounts:
        version = memory.configuration.version
        found_accounts = await store.accounts(missing.accounts)
        if memory.configuration.version == version:  # else one may have changed since it was read: it is asked again
            memory.learn("accounts", missing.accounts, found_accounts)
    if missing.intents:
        stored = await store.intents(missing.intents)
        actors = {key: restore(found.records, found.deliveries) for key, found in stored.items()}
        memory.learn("transactions", missing.intents, actors)
    if missing.names:
        memory.learn("names", missing.names, await store.intent_ids(missing.names))
    if missing.deliveries:
        memory.learn("deliveries", missing.deliveries, await store.deliveries(missing.deliveries))
    for tenant, endpoint in missing.lanes:
        await _load_lane(store, memory, tenant, endpoint)
    if missing.logs:
        logs = await store.logs(missing.logs)
        memory.logs.update({tenant: logs.get(tenant) for tenant in missing.logs})
    if missing.workloads:
        memory.workloads.update(await store.workloads(missing.workloads))
    if missing.leaves:
        batch.stored |= await store.leaves(missing.leaves)
        batch.asked |= missing.leaves
    if missing.expiring:
        batch.expiring |= await store.expiring_holds(missing.expiring)
        batch.expiring_asked.update(missing.expiring)
    if missing.recoveries:
        found_recoveries = await store.recoveries(missing.recoveries)
        batch.recovered.stored.update({key: found_recoveries.get(key) for key in missing.recoveries})
    if missing.running:
        running = await store.running_recoveries(missing.running)
        batch.recovered.running.update({tenant: running.get(tenant, {}) for tenant in missing.running})
    for key, recovery in missing.pages.items():
        batch.recovered.unasked.pop(key, None)
        batch.recovered.pages[key] = await store.recovery_page(recovery)
    if missing.waiting:
        found = await store.waiting_callbacks(missing.waiting)
        batch.waiting |= {place: found.get(place, ()) for place in missing.waiting}
    if missing.strangers:
        batch.strangers |= await store.open_strangers(missing.strangers)
    if missing.commands:
        batch.stored |= await store.answered(missing.commands)
        batch.asked |= missing.commands


async def _load_lane(store: Store, memory: Memory, tenant: str, endpoint: str) -> None:
    """Fill a lane with what waits for it; what this worker has under way stays under way."""
    known = memory.lanes.get((tenant, endpoint))
    if known is None:
        lane = Lane(row=await store.lane(tenant, endpoint))
    else:
        lane = Lane(dict(known.in_flight), width=known.width, row=known.row)
    set_up = next((one for one in memory.configuration.endpoints.get(tenant, ()) if one.id == endpoint), None)
    # In order, what waits for its time holds up what is behind it; so it may be at one that is enabled later.
    timed = set_up is None or set_up.terms.fifo
    found = await store.open_deliveries(tenant, endpoint, timed=timed)
    for delivery in found:
        if delivery.id not in lane.in_flight:
            memory.deliveries[delivery.id] = delivery
            lane.waiting[delivery.id] = delivery.sequence
    lane.more = len(found) >= OPEN_DELIVERIES_MAX and bool(lane.waiting)
    memory.lanes[tenant, endpoint] = lane
