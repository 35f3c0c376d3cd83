"""The worker: the thin shell around ticks. It takes what has arrived, loads, commits, sends, and takes the next.

Invariants. A partition is in one commit at a time, so its stream is consumed in order. Inputs are forgotten only when
their tick has committed or their partition was given up, and then they are read again from the checkpoint. What is
published or performed was committed before. Losing a partition drops its inputs, actors and timers at once; the epoch
in the fence keeps a late commit out."""

import logging
import random
from collections import deque
from collections.abc import Mapping
from typing import Final

import anyio
import anyio.abc
import msgspec

from zentra.actors.engine import Engine
from zentra.actors.memory import Lane, Missing, MissingGround
from zentra.actors.outward import Outward
from zentra.actors.relay import Relay
from zentra.actors.tick import Batch, Input, Tick
from zentra.actors.timers import HORIZON_SECONDS, Timers
from zentra.runtime.delivery import DeliveryState
from zentra.runtime.errors import Contended, DataError, InDoubt, LeaseLost, Unavailable
from zentra.runtime.instruments import Instruments
from zentra.runtime.messages import LaneOpened, decode_frame
from zentra.runtime.ports import Ground, Lease, Store, TickPlan, TickWrites
from zentra.runtime.stream_ports import CommandSource, Position
from zentra.runtime.transaction import restore

__all__ = ["Worker", "WorkerSettings"]

logger = logging.getLogger(__name__)

ROUNDS_MAX: Final = 64  # a tick that still misses something after so many rounds would miss it for ever
CONTENDED_TRIES: Final = 20


class WorkerSettings(msgspec.Struct, frozen=True):
    """How a worker works. The lease outlives the store's limit on a transaction, so no zombie holds locks for long."""

    name: str
    lease_seconds: float = 10.0
    events_max: int = 2_000  # per tick: beyond that a commit only gets slower
    commits_max: int = 2  # in flight at once: one decides while the other waits for the disk
    messages_max: int = 1_024  # taken from the stream at once
    drain_seconds_max: float = 10.0


class Worker:
    """One worker: partitions, their queues, and the ticks over them."""

    def __init__(
        self,
        settings: WorkerSettings,
        engine: Engine,
        store: Store,
        source: CommandSource,
        relay: Relay,
        outward: Outward,
        instruments: Instruments,
    ) -> None:
        self.settings, self.engine, self.store = settings, engine, store
        self.source, self.relay, self.outward, self.instruments = source, relay, outward, instruments
        self.leases: dict[int, Lease] = {}
        self.timers = Timers()
        self.ticks = 0
        self._queues: dict[int, deque[tuple[Input, Position | None]]] = {}
        self._taken: dict[int, Position] = {}
        self._flying: set[int] = set()
        self._stripes: list[int] = []
        self._checkpoint: dict[int, Position] = {}
        self._stripe_base = 1 + (sum(settings.name.encode()) * 7919) % 1000 * settings.commits_max
        self._wake = anyio.Event()
        self._room = anyio.Event()
        self._draining = False
        self._drained = anyio.Event()

    # Ownership ----------------------------------------------------------------------------------------------------

    async def keep_leases(self) -> None:
        """Renew, take and give up partitions until cancelled; one that is lost is dropped at once."""
        while True:
            await anyio.sleep(self.settings.lease_seconds / 3)
            await self.refresh_leases()
            self._advance_idle()

    async def refresh_leases(self) -> None:
        """Look once at what this worker owns and follow it."""
        owned = await self.store.claim(self.settings.name, self.settings.lease_seconds)
        lost = frozenset(p for p, lease in self.leases.items() if p not in owned or owned[p].epoch != lease.epoch)
        gained = [p for p, lease in owned.items() if p not in self.leases or self.leases[p].epoch != lease.epoch]
        if lost:
            self._drop(lost)
        if not gained and not lost:
            return
        for partition in gained:
            self.leases[partition] = owned[partition]
            self._taken[partition] = owned[partition].position
            self._queues[partition] = deque()
        for partition in await self.source.verify({p: self._taken[p] for p in gained}):
            await self._rewind(partition)
        await self.source.start(dict(self._taken))
        self._open_lanes(frozenset(gained))
        await self._learn_timers()
        logger.info("partitions changed", extra={"gained": len(gained), "lost": len(lost), "owned": len(self.leases)})
        self.instruments.gauge("leases_owned", len(self.leases))
        self._wake.set()

    def _drop(self, partitions: frozenset[int]) -> None:
        for partition in partitions:
            self.leases.pop(partition, None)
            self._taken.pop(partition, None)
            self._queues.pop(partition, None)
        self.engine.memory.drop_partitions(partitions)
        self.timers.drop_partitions(partitions)

    def _open_lanes(self, partitions: frozenset[int]) -> None:
        """Look after the open deliveries of every endpoint that came along with these partitions."""
        for tenant, endpoints in self.engine.memory.configuration.endpoints.items():
            for endpoint in endpoints:
                partition = self.engine.rules.partition_of(f"{tenant}/{endpoint.id}")
                if partition in partitions:
                    opened = Input(partition, "webhook", LaneOpened(tenant, endpoint.id), "takeover")
                    self._queues[partition].append((opened, None))

    async def _rewind(self, partition: int) -> None:
        """Start a partition over from the beginning of the stream, after the store of the stream rolled back."""
        logger.critical("the stream rolled back; its partition is replayed", extra={"partition": partition})
        self.instruments.count("stream_rollbacks")
        self._taken[partition] = Position(0, "")
        await self.relay.republish([partition])

    # Inputs -------------------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Take what arrives and wake the ticks, until cancelled; while too much waits, the source goes on buffering."""
        while True:
            await self.source.wait_arrival()
            rolled_back = self.source.take_rolled_back()
            if rolled_back:
                for partition in rolled_back & self.leases.keys():
                    await self._rewind(partition)
                await self.source.start(dict(self._taken))
            while self._queued() >= self.settings.events_max * 4 or self.outward.congested:
                self._room = anyio.Event()
                with anyio.move_on_after(0.1):  # outward effects make room without a tick
                    await self._room.wait()
            self._take_arrived()
            self._wake.set()
            await anyio.lowlevel.checkpoint()

    async def watch_timers(self) -> None:
        """Hand out timers as they fall due, until cancelled."""
        read_at = -HORIZON_SECONDS
        while True:
            now = anyio.current_time()
            if now - read_at >= HORIZON_SECONDS / 2:
                await self._learn_timers()
                read_at = now
            for fired in self.timers.take(now, self.settings.events_max):
                queue = self._queues.get(fired.partition)
                if queue is not None:
                    queue.append((fired, None))
                    self._wake.set()
            due = self.timers.next_due()
            pause = HORIZON_SECONDS / 2 if due is None else due - anyio.current_time()
            await anyio.sleep(min(max(pause, 0.005), 0.25))

    async def _learn_timers(self) -> None:
        if self.leases:
            rows = await self.store.due_timers(self.leases, HORIZON_SECONDS, self.settings.events_max * 4)
            self.timers.learn(rows, anyio.current_time())

    def _queued(self) -> int:
        return sum(map(len, self._queues.values()))

    def _take_arrived(self) -> None:
        """Decode what has arrived into the queues of its partitions."""
        for message in self.source.take_nowait(self.settings.messages_max):
            queue = self._queues.get(message.partition)
            if queue is None:
                continue
            position = Position(message.sequence, message.id)
            self._taken[message.partition] = position
            try:
                events = decode_frame(message.body)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                entry = Input(message.partition, message.stage, None, message.id, message.body)
                queue.append((entry, position))
                continue
            last = len(events) - 1
            for number, event in enumerate(events):
                entry = Input(message.partition, message.stage, event, message.id)
                queue.append((entry, position if number == last else None))

    # Ticks --------------------------------------------------------------------------------------------------------

    async def run_ticks(self) -> None:
        """Run ticks over what has arrived until cancelled or drained."""
        self._drop(frozenset(self.leases))  # after a failure: what was taken then is read again from the checkpoints
        self._flying.clear()
        self._stripes = list(range(self.settings.commits_max))
        await self.refresh_leases()
        async with anyio.create_task_group() as group:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                while self._stripes and (batch := self._next_batch()) is not None:
                    partitions = {entry.partition for entry in batch.inputs} | batch.positions.keys()
                    self._flying |= partitions
                    group.start_soon(self._fly, batch, partitions, self._stripes.pop())
                if self._draining and not self._flying:
                    self._drained.set()
                    return

    def _next_batch(self) -> Batch | None:
        """Return the inputs of partitions that are not in a commit, or None where there are none."""
        if self._draining:
            return None
        inputs: list[Input] = []
        positions: dict[int, Position] = {}
        limit = self.settings.events_max
        for partition, queue in self._queues.items():
            if partition in self._flying:
                continue
            while queue and len(inputs) < limit:
                entry, position = queue.popleft()
                inputs.append(entry)
                if position is not None:
                    positions[partition] = position
            if len(inputs) >= limit:
                break
        if inputs:
            return Batch(inputs, positions)
        checkpoint, self._checkpoint = self._checkpoint, {}
        idle = {p: at for p, at in checkpoint.items() if p in self.leases and p not in self._flying}
        return Batch([], idle) if idle else None

    def _advance_idle(self) -> None:
        """Let quiet partitions follow the stream, so that a new consumer and the purge need not go back far."""
        at = self.source.last_delivered
        if at is None:
            return
        quiet = [p for p, lease in self.leases.items() if not self._queues[p] and p not in self._flying]
        self._checkpoint = {p: at for p in quiet if self.leases[p].position.sequence < at.sequence}
        for partition in self._checkpoint:
            self._taken[partition] = at
        if self._checkpoint:
            self._wake.set()

    async def _fly(self, batch: Batch, partitions: set[int], stripe: int) -> None:
        """Bring one batch to its commit, publish and perform what it decided."""
        started = anyio.current_time()
        try:
            tick = await self._run(batch, stripe)
        finally:
            self._flying -= partitions
            self._stripes.append(stripe)
            self._room.set()
            self._wake.set()
        if tick is None:
            return
        self.ticks += 1
        self.instruments.tick(len(batch.inputs), anyio.current_time() - started)
        self.instruments.stages(tick.waits)
        if batch.poisoned:
            self.instruments.count("poison_messages", by=len(batch.poisoned))
        await self._send(tick)

    async def _send(self, tick: Tick) -> None:
        """Perform and publish what a commit made true."""
        self.outward.perform(tick.submissions, tick.polls, tick.calls)
        await self.relay.publish([message for _, message in tick.writes.outbox])

    async def _run(self, batch: Batch, stripe: int) -> Tick | None:
        """Commit a batch, whole or in parts; return the last tick, or None where nothing was left to commit."""
        rounds = contended = 0
        while True:
            self._leave_lost(batch)
            if not batch.inputs and not batch.positions:
                return None
            try:
                missing = self.engine.missing(batch)
                if missing:
                    raise MissingGround(missing)
                return await self._commit(batch, stripe)
            except MissingGround as more:
                rounds += 1
                if rounds > ROUNDS_MAX:
                    raise RuntimeError("a tick misses the same for ever") from more
                await self._load(batch, more.missing)
            except Contended:
                contended += 1
                if contended > CONTENDED_TRIES:
                    raise
                await anyio.sleep(random.uniform(0, 0.01) * contended)  # noqa: S311  # spreads retries, guards nothing
            except LeaseLost:
                continue
            except DataError as error:
                return await self._isolate(batch, stripe, error)
            except Unavailable as error:
                logger.warning("the store is away; the tick is tried again", extra={"error": str(error)})
                await anyio.sleep(0.2)

    async def _commit(self, batch: Batch, stripe: int) -> Tick:
        """Decide and commit once; remember what was committed."""
        plan = self.engine.plan(batch, self.leases, self._stripe_base + stripe)
        decided: list[Tick] = []

        def decide(ground: Ground) -> TickWrites:
            decided.append(self.engine.decide(batch, plan, ground))
            return decided[-1].writes

        try:
            await self.store.commit(plan, decide)
        except InDoubt:
            await self._settle_doubt(plan)
        tick = decided[-1]
        self._committed(plan, tick)
        return tick

    async def _settle_doubt(self, plan: TickPlan) -> None:
        """Return where a commit of unknown outcome did happen; raise Unavailable or LeaseLost where it did not."""
        fences = {fence.partition: fence for fence in plan.fences}
        while True:
            try:
                leases = await self.store.leases(fences)
                break
            except Unavailable:
                await anyio.sleep(0.2)
        if any(leases[p].epoch == f.epoch and leases[p].version == f.version + 1 for p, f in fences.items()):
            return
        lost = frozenset(p for p, f in fences.items() if leases[p].epoch != f.epoch)
        if lost:
            self._drop(lost)
            raise LeaseLost("another worker took over while a commit was in doubt")
        raise Unavailable("the commit did not happen")

    def _committed(self, plan: TickPlan, tick: Tick) -> None:
        for fence in plan.fences:
            held = self.leases.get(fence.partition)
            if held is not None and held.epoch == fence.epoch and fence.partition not in tick.lost:
                self.leases[fence.partition] = Lease(fence.partition, fence.epoch, fence.version + 1, fence.position)
        self.engine.absorb(tick)
        now = anyio.current_time()
        due = [(t, (t.due_at - tick.now).total_seconds()) for t in tick.writes.timers_set.values()]
        self.timers.committed(due, tick.writes.timers_cleared, now)
        if tick.lost:
            self.instruments.count("fence_refusals", by=len(tick.lost))
            self._drop(tick.lost)

    def _leave_lost(self, batch: Batch) -> None:
        """Take inputs of partitions that were lost meanwhile out of a batch."""
        if (
            all(entry.partition in self.leases for entry in batch.inputs)
            and batch.positions.keys() <= self.leases.keys()
        ):
            return
        batch.inputs = [entry for entry in batch.inputs if entry.partition in self.leases]
        batch.positions = {p: position for p, position in batch.positions.items() if p in self.leases}
        batch.poisoned.clear()

    async def _isolate(self, batch: Batch, stripe: int, error: DataError) -> Tick | None:
        """Find the event whose data the store refuses: try the partitions one by one, then the events."""
        self.engine.memory.transactions.clear()  # whatever was trusted is read again
        if batch.trust_openings:
            batch.trust_openings = False
            batch.opened.clear()
            return await self._run(batch, stripe)
        partitions = sorted({entry.partition for entry in batch.inputs})
        if len(partitions) > 1:
            parts = [
                Batch(
                    [entry for entry in batch.inputs if entry.partition == p],
                    {p: batch.positions[p]} if p in batch.positions else {},
                    trust_openings=False,
                )
                for p in partitions
            ]
        elif len(batch.inputs) > 1:
            parts = [Batch([entry], {}, trust_openings=False) for entry in batch.inputs]
            parts[-1].positions = batch.positions
        else:
            batch.poisoned[0] = f"the store refuses its data: {error}"
            return await self._run(batch, stripe)
        tick = None
        for part in parts:
            tick = await self._run(part, stripe) or tick
            if tick is not None and part is not parts[-1]:
                await self._send(tick)
        return tick

    # Loading ------------------------------------------------------------------------------------------------------

    async def _load(self, batch: Batch, missing: Missing) -> None:
        """Bring what a tick misses into memory or into its next plan."""
        memory, store = self.engine.memory, self.store
        batch.extra.balances.update(missing.balances)
        batch.extra.velocity |= missing.velocity
        if missing.configuration:
            memory.configure(await store.configuration())
        if missing.accounts:
            accounts = await store.accounts(missing.accounts)
            memory.accounts.update({name: accounts.get(name) for name in missing.accounts})
        if missing.intents:
            await self._load_intents(missing.intents)
        if missing.deliveries:
            deliveries = await store.deliveries(missing.deliveries)
            memory.deliveries.update({key: deliveries.get(key) for key in missing.deliveries})
        for tenant, endpoint in missing.lanes:
            await self._load_lane(tenant, endpoint)
        if missing.logs:
            logs = await store.logs(missing.logs)
            memory.logs.update({tenant: logs.get(tenant) for tenant in missing.logs})
        if missing.leaves:
            batch.logged = (batch.logged or set()) | await store.leaves(missing.leaves)

    async def _load_intents(self, ids: set[str]) -> None:
        stored = await self.store.intents(ids)
        for key in ids:
            found = stored.get(key)
            self.engine.memory.transactions[key] = None if found is None else restore(found.records, found.deliveries)

    async def _load_lane(self, tenant: str, endpoint: str) -> None:
        memory = self.engine.memory
        known = memory.lanes.get((tenant, endpoint))
        in_flight = known.in_flight if known is not None else set()
        lane = Lane(set(in_flight))
        found = await self.store.open_deliveries(tenant, endpoint)
        for delivery in found:
            if delivery.id in in_flight:
                continue
            memory.deliveries[delivery.id] = delivery
            if delivery.state is not DeliveryState.RETRYING:
                lane.waiting.append(delivery.id)
        lane.more = len(found) >= 2_000
        memory.lanes[tenant, endpoint] = lane

    # The end ------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more, finish the commits in flight, give up every lease."""
        self._draining = True
        await self.source.stop()
        self._wake.set()
        with anyio.move_on_after(self.settings.drain_seconds_max):
            await self._drained.wait()
        await self.relay.flush()
        await self.store.release(self.settings.name)

    def statistics(self) -> Mapping[str, float]:
        """Return gauges of the moment."""
        return {
            "leases_owned": len(self.leases),
            "queued_events": self._queued(),
            "actors_in_memory": len(self.engine.memory.transactions),
            "outward_backlog": self.outward.backlog,
        }
