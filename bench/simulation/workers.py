"""The workers of the simulation: the real worker, relay and outward reports, stepped by hand.

What the shell of the product does in tasks is done here by jobs: coroutines of the same methods, each standing where it
was stopped until the driver steps it again. A job that fails is started again as a supervisor would."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import anyio

from zentra.actors.committing import Committer
from zentra.actors.engine import Engine
from zentra.actors.health import LOOK_SECONDS, HealthExchange
from zentra.actors.limits import wait_max
from zentra.actors.memory import Memory
from zentra.actors.outward import Outward, Permitted
from zentra.actors.owning import UNSETTLED_SECONDS
from zentra.actors.relay import KEPT, Relay
from zentra.actors.tick import Poll, Tick
from zentra.actors.timers import HORIZON_SECONDS
from zentra.actors.worker import LANES_EVERY_SECONDS, Worker, WorkerSettings
from zentra.bench.simulation.faults import Fault
from zentra.bench.simulation.shelf import LEASE_SECONDS
from zentra.bench.simulation.stops import Job, Killed, Stop, Turn
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import SILENCE
from zentra.runtime.messages import AttemptReported
from zentra.runtime.partitions import lane_key
from zentra.runtime.ports import TickPlan
from zentra.runtime.rails.port import Submission
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.stream_ports import Outgoing, StreamError
from zentra.runtime.subjects import command_subject
from zentra.runtime.webhooks.standard import AttemptResult, WebhookCall
from zentra.streams.errors import StreamUnavailable

if TYPE_CHECKING:
    from zentra.bench.simulation.simulation import Simulation

__all__ = ["Effect", "SimulatedOutward", "SimulatedPublisher", "SimulatedWorker"]

BEAT_SECONDS: Final = LEASE_SECONDS / 3
UNDRAFTED: Final = (0, 3)  # workers in turn: what every one of them drafts, the next decides under its locks
Effect = Submission | Poll | tuple[str, str, WebhookCall]


async def _always(_: int, __: str) -> bool:
    return True


class SimulatedPublisher:
    """Publishes into the twin of the stream over a wire that loses, repeats and reorders."""

    def __init__(self, simulation: Simulation, *, killable: bool) -> None:
        self._simulation, self._killable = simulation, killable

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        """See EventPublisher."""
        simulation, swarm = self._simulation, self._simulation.swarm
        results: list[StreamError | None] = [StreamUnavailable("not sent")] * len(messages)
        order = list(range(len(messages)))
        if len(order) > 1 and swarm.strikes(Fault.FRAMES_REORDERED):
            simulation.random.shuffle(order)
        for count, place in enumerate(order):
            if self._killable and count and swarm.strikes(Fault.KILLED_WHILE_PUBLISHING):
                raise Killed
            if swarm.strikes(Fault.PUBLISH_LOST):
                continue
            results[place] = simulation.append(messages[place])
            if results[place] is None:
                if swarm.strikes(Fault.FRAME_REPEATED):
                    simulation.append_again(messages[place])
                if swarm.strikes(Fault.PUBLISH_UNHEARD):
                    results[place] = StreamUnavailable("no acknowledgement")
        if self._killable and swarm.strikes(Fault.KILLED_BEFORE_MARKING):
            raise Killed
        return results


class SimulatedOutward(Outward):
    """The outward effects of one worker: they lie here until the driver performs them, and report as the real ones."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(
            lambda name: None, simulation.no_transport, SimulatedPublisher(simulation, killable=True),
            simulation.partition_of, command_subject, SILENCE,
        )  # fmt: skip
        self._simulation = simulation
        self.current: Callable[[WebhookCall], WebhookCall | None] = lambda call: call
        self.effects: list[tuple[Effect, Permitted, float]] = []  # with the time since when they lie here

    def perform(
        self,
        submissions: Sequence[Submission],
        polls: Sequence[Poll],
        calls: Sequence[tuple[str, str, WebhookCall]],
        permitted: Permitted = _always,
    ) -> None:
        """See Outward.perform."""
        may_wait = [submission for submission in submissions if self._may_wait(submission)]
        asked = [poll for poll in polls if poll.reference not in self._firsts]
        effects: list[Effect] = [*may_wait, *asked, *calls]
        self.effects += [(effect, permitted, self._simulation.time) for effect in effects]

    async def carry_out(self, effect: Effect, permitted: Permitted, since: float) -> None:
        """Perform one effect, unless it is not ours any more or has waited too long; its answer may not arrive."""
        simulation = self._simulation
        if isinstance(effect, tuple) and not isinstance(effect, Poll):
            tenant, endpoint, call = effect
            current = self.current(call)
            if await permitted(self._partition_of(lane_key(tenant, endpoint)), "") and current is not None:
                result = simulation.endpoints.call(tenant, endpoint, current)
                if not simulation.swarm.strikes(Fault.ENDPOINT_ANSWER_LOST):
                    self.heard_of_endpoint(tenant, endpoint, result)
            return
        asks = isinstance(effect, Submission)
        begins = await permitted(self._place(effect), effect.reference if asks else "")
        if isinstance(effect, Submission):
            settings = simulation.store.current.rails[effect.rail]
            if simulation.time - since > wait_max(settings):
                begins = None if effect.first else False
        if isinstance(effect, Submission) and effect.first:
            self._firsts.discard(effect.reference)
            if begins is None:
                self._never_begins(effect, permitted)
        first = None if asks else self._never_begun.get(effect.reference)
        if isinstance(effect, Poll) and begins and first is not None:
            begins = not await self._reported_again(effect, *first, self._place(effect))
        if not begins:
            return
        rail = simulation.rails[effect.rail]
        outcome = rail.submit(effect) if isinstance(effect, Submission) else rail.poll(effect.reference)
        if not simulation.swarm.strikes(Fault.RAIL_ANSWER_LOST):
            self._report_rail(outcome, "submit" if asks else "poll", rail.seconds)

    def heard_of_endpoint(self, tenant: str, endpoint: str, result: AttemptResult) -> None:
        """Report what an attempt has met."""
        partition = self._partition_of(lane_key(tenant, endpoint))
        self._report(partition, "webhook", AttemptReported(tenant, endpoint, result))

    def waits_in(self, partition: int) -> bool:
        """See Outward.waits_in."""
        return any(self._place(effect) == partition for effect, _, _ in self.effects)

    def _place(self, effect: Effect) -> int:
        if isinstance(effect, Submission | Poll):
            named = parse_reference(effect.reference)
            assert named is not None
            return self._partition_of(named[0])
        return self._partition_of(lane_key(effect[0], effect[1]))

    @property
    def reports(self) -> int:
        """Return how many reports wait to be sent."""
        return len(self._reports)

    async def send_reports(self) -> None:
        """Send what waits."""
        reports, self._reports = self._reports, []
        await self._send(reports)


class SimulatedWorker(Worker):
    """One process. `stalled_until` stops all of it; it is dead once it has been killed."""

    def __init__(self, simulation: Simulation, name: str, events_max: int) -> None:
        self._simulation = simulation
        publisher = SimulatedPublisher(simulation, killable=True)
        relay = Relay(simulation.store, publisher, lambda: self.leases, SILENCE)
        self.effects = SimulatedOutward(simulation)
        engine = Engine(Memory(simulation.store.current, simulation.partition_of), simulation.rules, slice_events=2)
        self.effects.board = engine.memory.rails
        settings = WorkerSettings(name=name, lease_seconds=LEASE_SECONDS, events_max=events_max)
        super().__init__(
            settings, engine, simulation.store, simulation.stream.source(), relay, self.effects, SILENCE,
            clock=lambda: simulation.time,
        )  # fmt: skip
        self.effects.current = self.renewed_now
        self._health = HealthExchange(engine.memory.rails, simulation.store, name, LEASE_SECONDS, SILENCE)
        self._looked_at = -math.inf
        self._following: Any = Turn()
        self._claiming: Any = Turn()
        self._committer = Committer(
            engine, simulation.store, self.leases, drop=self._drop, committed=self._committed, send=self._send,
            pause=_pause, breathe=_breathe, undrafted_max=UNDRAFTED[len(simulation.workers) % len(UNDRAFTED)],
        )  # fmt: skip
        self._stripes = list(range(settings.commits_max))
        self.name = name
        self.jobs: list[Job] = []
        self.dead = False
        self.stalled_until = self.beats_missed_until = 0.0
        self._beat_at = self._learned_at = -math.inf
        self._lanes_at = simulation.time
        self._held: deque[tuple[datetime, int]] = deque()

    # Jobs ---------------------------------------------------------------------------------------------------------

    def spawn(self, kind: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a job and run it to its first stop."""
        job = Job(kind, coroutine)
        self.jobs.append(job)
        self.step(job)

    def step(self, job: Job) -> None:
        """Run a job to its next stop. Raises nothing that a supervisor would survive."""
        simulation = self._simulation
        simulation.acting = self
        try:
            if job.step():
                self.jobs.remove(job)
        except Killed:
            self.jobs.remove(job)
            self.kill()
        except (Unavailable, StreamError):
            self.jobs.remove(job)
            simulation.restarts += 1
            if job.kind == "fly":
                self._start_ticks_again()
        finally:
            simulation.acting = None

    def busy(self, kind: str) -> bool:
        """Return whether a job of this kind is under way."""
        return any(job.kind == kind for job in self.jobs)

    def kill(self) -> None:
        """End the process: its transactions are rolled back, its memory and what it had under way are gone."""
        self.dead = True
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job.coroutine.close()
        self.effects.effects.clear()
        self._simulation.buried(self)

    def _start_ticks_again(self) -> None:
        for job in [job for job in self.jobs if job.kind == "fly"]:
            self.jobs.remove(job)
            job.coroutine.close()
        self._drop(frozenset(self.leases))
        self._flying.clear()
        self._stripes = list(range(self.settings.commits_max))
        self._beat_at = -math.inf

    # What the services do, one turn each ----------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Return whether the process gets any time."""
        return not self.dead and self._simulation.time >= self.stalled_until

    def beat(self, *, now: bool = False) -> None:
        """Renew membership and leases when that is due."""
        time = self._simulation.time
        pause = UNSETTLED_SECONDS if self.unsettled else BEAT_SECONDS
        due = now or (time - self._beat_at >= pause and time >= self.beats_missed_until)
        if due and not self.busy("beat"):
            self._beat_at = time
            self.spawn("beat", self._beat())
        elif due and not self.busy("renewal"):
            self._beat_at = time
            self.spawn("renewal", self._renew())

    async def _renew(self) -> None:
        await self.renew_leases()

    async def _beat(self) -> None:
        await self.refresh_leases()
        self._advance_idle()
        await self._look_for_lost()
        if self._simulation.time - self._lanes_at >= LANES_EVERY_SECONDS:
            self._lanes_at = self._simulation.time
            await self._open_lanes(frozenset(self.leases))

    def look_at_rails(self) -> None:
        """Let time pass for circuits, and hear what other workers have counted."""
        time = self._simulation.time
        if time - self._looked_at >= LOOK_SECONDS and not self.busy("rails"):
            self._looked_at = time
            self.spawn("rails", self._health.once(time))

    def listen_once(self) -> None:
        """Take what has arrived, or start over where the stream has rolled back."""
        if not self.busy("listen"):
            self.spawn("listen", self._listen())

    async def _listen(self) -> None:
        rolled_back = self.source.take_rolled_back()
        if rolled_back:
            await self._start_over(rolled_back)
        if self._queued() < self.settings.events_max * 4:
            self._take_arrived()
            self._see_end()

    def look_at_timers(self) -> None:
        """Hand out the timers that are due."""
        if not self.busy("timers"):
            self.spawn("timers", self._look_at_timers())

    async def _look_at_timers(self) -> None:
        time = self._simulation.time
        if time - self._learned_at >= HORIZON_SECONDS / 2:
            await self._learn_timers()
            self._learned_at = time
        for fired in self.timers.take(anyio.current_time(), self.settings.events_max, self._queues):
            self._queues[fired.partition].append((fired, None))

    def tick_once(self) -> bool:
        """Start a tick where there is something for one; return whether there was."""
        batch = self._next_batch() if self._stripes else None
        if batch is None:
            return False
        partitions = {entry.partition for entry in batch.inputs} | batch.positions.keys()
        self._flying |= partitions
        self.spawn("fly", self._fly(batch, partitions, self._stripes.pop()))
        return True

    def flush(self) -> None:
        """Mark what was published."""
        if not self.busy("flush"):
            self.spawn("flush", self.relay.flush())

    def sweep(self, older_seconds: float) -> None:
        """Publish what nobody marked."""
        if not self.busy("sweep"):
            self.spawn("sweep", self.relay._sweep(older_seconds))

    def carry_out(self, place: int) -> None:
        """Perform one of the effects that lie ready."""
        self.spawn("effect", self.effects.carry_out(*self.effects.effects.pop(place)))

    def report(self) -> None:
        """Send the reports that wait."""
        if self.effects.reports and not self.busy("report"):
            self.spawn("report", self.effects.send_reports())

    def look_after(self) -> None:
        """Trim the outbox and purge the stream, as the upkeep of the gateway does."""
        if not self.busy("upkeep"):
            self.spawn("upkeep", self._upkeep())

    async def _upkeep(self) -> None:
        store, stream = self._simulation.store, self._simulation.stream
        last = stream.log().last
        consumed = min((lease.position.sequence for lease in self.leases.values()), default=last)
        self._held.append((store.now(), last))
        while self._held and self._held[0][1] <= consumed:
            passed_at, _ = self._held.popleft()
            await store.trim_outbox(self.leases, passed_at - KEPT)
        if 0 in self.leases:
            leases = await store.leases(range(store.partitions))
            positions = {partition: lease.position for partition, lease in leases.items()}
            if not await self.source.verify(positions):
                lowest = min(position.sequence for position in positions.values())
                if lowest > stream.log().first:
                    self._simulation.swarm.count(Fault.STREAM_PURGED)
                stream.purge_commands(lowest)

    async def hand_over(self) -> None:
        """End in good order, without a tick in flight."""
        await self.relay.flush()
        await self.store.release(self.name)

    def forget(self) -> None:
        """Passivate what can be read again."""
        memory = self.engine.memory
        memory.distrust()
        memory.accounts.clear()
        memory.deliveries.clear()

    def _committed(self, plan: TickPlan, tick: Tick) -> None:
        super()._committed(plan, tick)
        for place, reason in tick.batch.poisoned.items():
            self._simulation.set_aside(tick.batch.inputs[place], reason)

    @property
    def idle(self) -> bool:
        """Return whether nothing is under way or waits."""
        return not (self.jobs or self._queued() or self.effects.effects or self.effects.reports or self.unsettled)


async def _breathe() -> None:
    await Stop("breath")


async def _pause(_: float) -> None:
    """A worker that waits lets others run; how long is nobody's business in virtual time."""
    await Stop("pause")
