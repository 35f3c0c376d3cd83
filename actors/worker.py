"""The worker: the thin shell around ticks. It takes what has arrived, loads, commits, sends, and takes the next.

Invariants. A partition is in one commit at a time, so its stream is consumed in order. Inputs are forgotten only when
their tick has committed or their partition was given up, and then they are read again from the checkpoint. What is
published or performed was committed before. Losing a partition drops its inputs, actors and timers at once; the epoch
in the fence keeps a late commit out, and what is to be performed outside is not while the lease may have passed on."""

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import anyio
import anyio.abc

from zentra.actors.committing import Committer
from zentra.actors.engine import Engine
from zentra.actors.lanes import renewed
from zentra.actors.memory import Lane
from zentra.actors.outward import Outward
from zentra.actors.owning import Owner
from zentra.actors.pacing import Arrivals, pause
from zentra.actors.relay import Relay
from zentra.actors.settings import WorkerSettings, elapsed
from zentra.actors.stages import REGISTERED_TIMER
from zentra.actors.tick import Batch, Input, Tick
from zentra.actors.timers import HORIZON_SECONDS, SOON_MAX, Timers
from zentra.actors.unpacking import Waiting, cut, unpack
from zentra.runtime.instruments import Instruments
from zentra.runtime.messages import LaneOpened
from zentra.runtime.partitions import lane_key
from zentra.runtime.ports import Configuration, Lease, Store, TickPlan
from zentra.runtime.stream_ports import CommandSource, Position
from zentra.runtime.webhooks.standard import WebhookCall

__all__ = ["Worker", "WorkerSettings", "elapsed"]

logger = logging.getLogger(__name__)

_SET_UP = "set up"  # the cause of looking after an endpoint that is new, or enabled again
LANES_EVERY_SECONDS = 20.0  # how often lanes are searched for attempts that never reported
# A consumer that is silent counts as broken after half of this, so a source at its end has seen what is older.
LOST_AFTER_SECONDS = 10.0
# A call begins under what its endpoint was set up as no longer ago than this, and is not made where no commit has said
# so within the other.
KNOWN_SECONDS_MAX, KNOWING_SECONDS_MAX = 0.25, 2.0


def _endpoints_of(configuration: Configuration) -> set[tuple[str, str]]:
    return {(tenant, endpoint.id) for tenant, found in configuration.endpoints.items() for endpoint in found}


class Worker(Owner):
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
        clock: Callable[[], float] = elapsed,
    ) -> None:
        super().__init__(settings, store, instruments, clock)
        self.engine, self.source, self.relay, self.outward = engine, source, relay, outward
        self.timers = Timers()
        self.ticks = 0
        self._queues: dict[int, deque[Waiting]] = {}
        self._taken: dict[int, Position] = {}
        self._flying: set[int] = set()
        self._configuration = engine.memory.configuration
        self._endpoints = _endpoints_of(self._configuration)
        self._stripes: list[int] = []
        self._checkpoint: dict[int, Position] = {}
        self._stripe_base = 1 + (sum(settings.name.encode()) * 7919) % 1000 * settings.commits_max
        self._ticks_seen, self._lanes_at = 0, -math.inf  # when it was last looked after what nobody reports
        self._end_seen: tuple[float, dict[int, Position]] | None = None  # when all was taken, and how far that was
        self._read_through = -math.inf  # everything that was in the stream by then is consumed
        self._rewinding = False
        self._outdated: set[int] = set()  # rewound while a commit was on its way, which names a place that is gone
        self._arrivals = Arrivals()
        self._started_at = -math.inf  # the last tick
        self._known: tuple[float, datetime] = (-math.inf, datetime.max)  # the last commit here, and what it took as now
        self._knows = anyio.Event()
        self._wake = anyio.Event()
        self._room = anyio.Event()
        self._draining = False
        self._drained = anyio.Event()
        self._committer = Committer(
            engine, store, self.leases, drop=self._drop, committed=self._committed, send=self._send
        )
        outward.renew = self._call_now

    # Ownership ----------------------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        self._advance_idle()
        if self.ticks == self._ticks_seen:
            self._check_set_up()
        self._ticks_seen = self.ticks
        await self._look_for_lost()
        if anyio.current_time() - self._lanes_at >= LANES_EVERY_SECONDS:
            self._lanes_at = anyio.current_time()
            await self._open_lanes(frozenset(self.leases))
            self._wake.set()

    async def _take_up(self, gained: dict[int, Lease]) -> None:
        for partition, lease in gained.items():
            self._taken[partition] = lease.position
            self._queues[partition] = deque()
        if rolled_back := await self.source.verify({p: self._taken[p] for p in gained}):
            await self._rewind(rolled_back)
        await self._start_source()
        await self._open_lanes(frozenset(gained))
        self._lanes_at = anyio.current_time()
        await self._learn_timers()
        await self._learn_attempts(gained)
        self._wake.set()

    def _under_way(self, partition: int) -> bool:
        return partition in self._flying or self.outward.waits_in(partition)

    async def _start_source(self) -> None:
        """Listen behind what was taken; how far the stream was read is to be seen anew."""
        self._end_seen, self._read_through = None, -math.inf
        await self.source.start(dict(self._taken))
        self._rewinding = False

    def _drop(self, partitions: frozenset[int]) -> None:
        for partition in partitions:
            self.leases.pop(partition, None)
            self._taken.pop(partition, None)
            self._queues.pop(partition, None)
            self._checkpoint.pop(partition, None)
        self.engine.memory.drop_partitions(partitions)
        self.timers.drop_partitions(partitions)

    def _follow_configuration(self) -> None:
        """Look after what is open at endpoints that were not there before: new ones, and those enabled again."""
        memory, known = self.engine.memory, self._endpoints
        self._configuration = memory.configuration
        self._endpoints = _endpoints_of(memory.configuration)
        for tenant, endpoint in sorted(self._endpoints - known):
            partition = self.engine.rules.partition_of(lane_key(tenant, endpoint))
            if partition in self._queues:
                self._queues[partition].append(
                    (Input(partition, "webhook", LaneOpened(tenant, endpoint), _SET_UP), None)
                )

    async def _open_lanes(self, partitions: frozenset[int]) -> None:
        """Look after the open deliveries of every endpoint in these partitions; raises Unavailable.

        An endpoint that was removed or disabled is not set up any more, and what was on its way there has still to
        end: where its report was lost, nothing else would ever touch the lane."""
        lanes = await self.store.open_lanes()
        for tenant, endpoint in sorted(lanes | _endpoints_of(self.engine.memory.configuration)):
            partition = self.engine.rules.partition_of(lane_key(tenant, endpoint))
            if partition in partitions and partition in self._queues:  # it may have been lost while the store answered
                opened = Input(partition, "webhook", LaneOpened(tenant, endpoint), "takeover")
                self._queues[partition].append((opened, None))

    async def _rewind(self, partitions: Collection[int]) -> None:
        """Let partitions go on where the stream was rolled back to, and publish again what is theirs and not consumed;
        see the relay for why nothing is missed. Raises Unavailable and StreamError.

        What they had taken waits still. A report of an outward call that is lost has no row; its object asks again: a
        rail after its own time, a webhook when its lane is looked after."""
        self._rewinding = True
        found = {*partitions, *await self.source.verify(dict(self._taken))}  # at once: a worker finds a loss once
        logger.critical("the stream rolled back; what it lost is published again", extra={"partitions": sorted(found)})
        place = await self.relay.republish(self.source, found)
        found &= self.leases.keys()
        self.instruments.count("stream_rollbacks", by=len(found))
        for partition in found:
            lease = self.leases[partition]
            self._taken[partition] = place
            # stored as soon as may be: nothing may be purged up to the old one, and nobody find it contradicted again
            self._checkpoint[partition] = place
            self.leases[partition] = Lease(partition, lease.epoch, lease.version, place)
            # what waits is still to be done, and its places in the stream are of messages that are gone
            self._queues[partition] = deque((entry, None) for entry, _ in self._queues[partition])
        self._outdated |= found & self._flying
        self._wake.set()

    async def _look_for_lost(self) -> None:
        """Send again what the stream lost without contradicting a checkpoint, or what somebody took out of it.

        The row of a frame goes with the commit that consumes it. So a row that was sent before this worker had last
        consumed all there was is of a frame that the stream does not have."""
        self._see_end()
        if self._end_seen is not None:
            seen_at, taken = self._end_seen
            busy = {p for p in self.leases if self._queues[p] or p in self._flying}
            if all(self.leases[p].position.sequence >= taken[p].sequence for p in busy):
                self._read_through, self._end_seen = seen_at, None
        behind = anyio.current_time() - self._read_through
        if not self.leases or math.isinf(behind):
            return
        lost = await self.relay.resend(self.source, behind + LOST_AFTER_SECONDS)
        if lost:
            logger.critical(
                "the stream lost frames that nobody had consumed; they were sent again", extra={"lost": lost}
            )
            self.instruments.count("frames_lost", by=lost)

    def _see_end(self) -> None:
        if self._end_seen is None and self.source.at_end:
            self._end_seen = (anyio.current_time(), dict(self._taken))

    # Inputs -------------------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Take what arrives and wake the ticks, until cancelled; while too much waits, the source goes on buffering."""
        while True:
            await self.source.wait_arrival()
            rolled_back = self.source.take_rolled_back()
            if rolled_back:
                await self._start_over(rolled_back)
            while self._queued() >= self.settings.events_max * 4 or self.outward.congested:
                self._room = anyio.Event()
                with anyio.move_on_after(0.1):  # outward effects make room without a tick
                    await self._room.wait()
            self._take_arrived()
            self._see_end()
            self._wake.set()
            await anyio.lowlevel.checkpoint()

    async def _start_over(self, rolled_back: set[int]) -> None:
        """Rewind what the source found rolled back and start it again: it stands still until then."""
        async with self._following:
            try:
                if rolled_back & self.leases.keys():
                    await self._rewind(rolled_back & self.leases.keys())
                await self._start_source()
            except BaseException:  # gained again, they are found rolled back again, and the source is started
                self._drop(frozenset(rolled_back & self.leases.keys() or self.leases))
                raise

    async def watch_timers(self) -> None:
        """Hand out timers as they fall due, until cancelled."""
        read_at = -HORIZON_SECONDS
        while True:
            now = anyio.current_time()
            if now - read_at >= HORIZON_SECONDS / 2:
                await self._learn_timers()
                read_at = now
            # what an early timer would ask for may be among what waits; should it not be, its row fires
            crowded = self.waiting >= self.settings.events_max
            for fired in self.timers.take(now, self.settings.events_max, self._queues, only_rows=crowded):
                self._queues[fired.partition].append((fired, None))
                self._wake.set()
            due = None if crowded else self.timers.next_due()
            left = HORIZON_SECONDS / 2 if due is None else due - anyio.current_time()
            await anyio.sleep(min(max(left, 0.005), 0.25))

    async def _learn_timers(self) -> None:
        if self.leases:
            rows = await self.store.due_timers(self.leases, HORIZON_SECONDS, self.settings.events_max * 4)
            self.timers.learn(rows, anyio.current_time())

    async def _learn_attempts(self, partitions: Collection[int]) -> None:
        """Let what an owner before has submitted, or has not come to submit, be polled after the time of its rail; a
        timer that is too early looks and waits."""
        rails = self.engine.memory.configuration.rails.values()
        after = min((rail.poll_after_seconds for rail in rails), default=0.0)
        horizon = REGISTERED_TIMER.total_seconds() + after  # rows that are due later were set by a poll
        now = anyio.current_time()
        for timer, age in await self.store.started_attempts(partitions, horizon, SOON_MAX):
            self.timers.remember(timer, after - age, now)

    @property
    def waiting(self) -> int:
        """How many events wait for a tick here or in the stream, as far as is known; none once no more are taken."""
        if self._draining:
            return 0
        return self._queued() + round(self.source.frames_waiting * self._arrivals.events_per_frame)

    def _queued(self) -> int:
        return sum(map(len, self._queues.values()))

    def _take_arrived(self) -> None:
        """Decode what has arrived into the queues of its partitions."""
        messages = self.source.take_nowait(self.settings.messages_max)
        events = 0
        for message in messages:
            queue = self._queues.get(message.partition)
            if queue is None:
                continue
            self._taken[message.partition] = Position(message.sequence, message.id)
            unpacked = unpack(message)
            events += len(unpacked)
            queue.extend(unpacked)
        self._arrivals.count(len(messages), events)

    # Ticks --------------------------------------------------------------------------------------------------------

    async def run_ticks(self) -> None:
        """Run ticks over what has arrived until cancelled or drained."""
        self._drop(frozenset(self.leases))  # after a failure: what was taken then is read again from the checkpoints
        self._flying.clear()
        self._outdated.clear()
        self._stripes = list(range(self.settings.commits_max))
        await self.refresh_leases()
        async with anyio.create_task_group() as group:
            paused = math.inf
            while True:
                with anyio.move_on_after(paused):
                    await self._wake.wait()
                self._wake = anyio.Event()
                paused = self._start_ticks(group)
                if self._draining and not self._flying:
                    self._drained.set()
                    return

    def _start_ticks(self, group: anyio.abc.TaskGroup) -> float:
        """Start the ticks that are worth it; return how long the next waits for more, for ever where it has nothing."""
        while self._stripes:
            now, under_way = anyio.current_time(), self.settings.commits_max - len(self._stripes)
            left = pause(self._queued(), self._arrivals.rate(now), now - self._started_at, under_way)
            if left > 0:
                return left
            batch = self._next_batch()
            if batch is None:
                break
            self._started_at = now
            partitions = {entry.partition for entry in batch.inputs} | batch.positions.keys()
            self._flying |= partitions
            group.start_soon(self._fly, batch, partitions, self._stripes.pop())
        return math.inf

    def _next_batch(self) -> Batch | None:
        """Return the inputs of partitions that are not in a commit, or None where there are none."""
        if self._draining:
            return None
        standing = self._flying | self._leaving.keys()
        inputs, positions, consumed = cut(self._queues, standing, self.settings.events_max)
        for entry in inputs:
            if entry.cause == _SET_UP and isinstance(entry.event, LaneOpened):
                self._read_lane_again(entry.event.tenant, entry.event.endpoint)
        if inputs:
            return self._batch(inputs, positions, consumed)
        checkpoint = self._checkpoint
        self._checkpoint = {p: at for p, at in checkpoint.items() if p in self._flying}
        idle = {
            p: at
            for p, at in checkpoint.items()
            if p in self.leases and p not in self._flying and self.leases[p].position.sequence <= at.sequence
        }
        return self._batch([], idle, []) if idle else None

    def _read_lane_again(self, tenant: str, endpoint: str) -> None:
        """Forget what waits in a lane: the store knows more, which came while nobody listened there. Only while no tick
        has its partition, which would put back what it had decided on."""
        lane = self.engine.memory.lanes.get((tenant, endpoint))
        if lane is not None:
            self.engine.memory.lanes[tenant, endpoint] = Lane(lane.in_flight, more=True, width=lane.width, row=lane.row)

    def _batch(self, inputs: list[Input], positions: dict[int, Position], consumed: list[tuple[int, str]]) -> Batch:
        named = {entry.partition for entry in inputs} | positions.keys()
        return Batch(inputs, positions, epochs={p: self.leases[p].epoch for p in named}, consumed=consumed)

    def _advance_idle(self) -> None:
        """Let quiet partitions follow the stream, so that a new consumer and the purge need not go back far."""
        at = self.source.last_delivered
        if at is None or self._rewinding:
            return
        quiet = [p for p, lease in self.leases.items() if not self._queues[p] and p not in self._flying]
        passed = {p: at for p in quiet if self.leases[p].position.sequence < at.sequence}
        self._checkpoint.update(passed)
        self._taken.update(passed)
        if passed:
            self._wake.set()

    async def _fly(self, batch: Batch, partitions: set[int], stripe: int) -> None:
        """Bring one batch to its commit, publish and perform what it decided.

        Where that fails, its partitions stay taken until the ticks are started again: what comes behind the inputs that
        failed must not be committed before them."""
        started = anyio.current_time()
        tick = await self._committer.run(batch, self._stripe_base + stripe)
        self._flying -= partitions
        self._outdated -= partitions
        self._stripes.append(stripe)
        self._room.set()
        self._wake.set()
        if tick is None:
            return
        self.ticks += 1
        self.instruments.tick(len(batch.inputs), anyio.current_time() - started)
        self.instruments.stages(tick.waits)
        await self._send(tick)

    async def _send(self, tick: Tick) -> None:
        """Perform and publish what a commit made true."""
        epochs = tick.batch.epochs

        async def permitted(partition: int, reference: str) -> bool | None:
            held = await self._holds(partition, epochs.get(partition))
            return self.engine.memory.awaits(reference) if held and reference else held

        self.outward.perform(tick.submissions, tick.polls, tick.calls, permitted)
        await self.relay.publish([message for _, message in tick.writes.outbox])

    def renewed_now(self, call: WebhookCall) -> WebhookCall | None:
        """Return a call as its endpoint is set up as far as is known, or None where it takes none."""
        at, now = self._known
        since = timedelta(seconds=max(0.0, anyio.current_time() - at))
        return renewed(call, self.engine.memory.configuration, self.engine.rules.open_secret, now + since)

    async def _call_now(self, call: WebhookCall) -> WebhookCall | None:
        """Return a call as its endpoint is set up now: as of a commit that is not older than that, over nothing where
        there is no other; None too where there comes none."""
        since = anyio.current_time() - KNOWN_SECONDS_MAX
        with anyio.move_on_after(KNOWING_SECONDS_MAX):
            while self._known[0] < since:
                self._check_set_up()
                await self._knows.wait()
            return self.renewed_now(call)
        return None

    def _check_set_up(self) -> None:
        """Let a tick over nothing hear of what was set up anew."""
        idle = next((p for p in self.leases if p not in self._flying), None)
        if idle is not None:
            self._checkpoint.setdefault(idle, self.leases[idle].position)
            self._wake.set()

    def _committed(self, plan: TickPlan, tick: Tick) -> None:
        """Follow a commit. What was given up while it was on its way is not remembered: others write there by now."""
        gone = set()
        for fence in plan.fences:
            held = self.leases.get(fence.partition)
            if held is None or held.epoch != fence.epoch:
                gone.add(fence.partition)
            elif fence.partition not in tick.lost:
                position = held.position if fence.partition in self._outdated else fence.position
                self.leases[fence.partition] = Lease(fence.partition, fence.epoch, fence.version + 1, position)
        self.engine.absorb(tick)
        if tick.batch.poisoned:
            self.instruments.count("poison_messages", by=len(tick.batch.poisoned))
        if self.engine.memory.configuration is not self._configuration:
            self._follow_configuration()
        self._known = (anyio.current_time(), tick.now)
        self._knows.set()
        self._knows = anyio.Event()
        self.timers.follow(tick, anyio.current_time())
        if tick.lost:
            self.instruments.count("fence_refusals", by=len(tick.lost))
            self._drop(tick.lost - gone)
        for kid, count in tick.unsigned.items():
            self.instruments.count("evidence_leaves_waiting", by=count)
            logger.error("sealing has stopped: this worker lacks the key in force", extra={"key_id": kid})
        if gone:
            self.engine.memory.drop_partitions(frozenset(gone))
            self.timers.drop_partitions(frozenset(gone - self.leases.keys()))

    # The end ------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more, finish the commits in flight, give up every lease."""
        self._draining = True
        await self.source.stop()
        self._wake.set()
        with anyio.move_on_after(self.settings.drain_seconds_max):
            await self._drained.wait()
            await self.outward.wait_begun()
        await self.relay.flush()
        self._alive_until = -math.inf
        await self.store.release(self.settings.name)

    def statistics(self) -> Mapping[str, float]:
        """Return gauges of the moment."""
        return {
            "leases_owned": len(self.leases),
            "queued_events": self._queued(),
            "actors_in_memory": len(self.engine.memory.transactions),
            "outward_backlog": self.outward.backlog,
        }
