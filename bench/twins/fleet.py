"""A fleet without tasks: workers as values over the twins of stream, store, rails and endpoints, in virtual time.

The plain engine and its committer do the work; what the async shell would do between two ticks is done here, step by
step, by whoever drives it. Nothing reads a wall clock, waits or draws a random number, so equal calls give equal runs.
A coroutine that would wait is a bug of a twin and raises."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from zentra.actors.committing import Committer
from zentra.actors.engine import Engine
from zentra.actors.memory import Memory
from zentra.actors.stages import REGISTERED_TIMER
from zentra.actors.tick import Batch, Input, Poll, Rules, Tick
from zentra.actors.unpacking import unpack
from zentra.bench.twins.rails import ScriptedRail
from zentra.bench.twins.store import StoreTwin
from zentra.bench.twins.stream import StreamTwin
from zentra.bench.twins.transport import ScriptedEndpoints, ScriptedReply
from zentra.gateway.sandbox.scenarios import RailProfile
from zentra.runtime import messages as m
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import IntentCommand, digest_of
from zentra.runtime.intents.transaction import Transaction, register, restore
from zentra.runtime.partitions import callback_key, lane_key, partition_of
from zentra.runtime.ports import Configuration, Lease, TickPlan, Timer
from zentra.runtime.rails.port import RailOutcome, Submission
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.stream_ports import NOTHING_CONSUMED, Outgoing, Position
from zentra.runtime.subjects import command_subject, dead_subject, event_subject
from zentra.runtime.webhooks.standard import WebhookCall
from zentra.storage.intake.registration import Registration

__all__ = ["START", "Fleet", "FleetWorker", "at_once"]

START: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)
LEASE_SECONDS: Final = 10.0
STEPS_MAX: Final = 10_000  # a fleet that is busy for longer is busy for ever

_T = TypeVar("_T")


def at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Return what a coroutine returns that never waits; raise RuntimeError for one that does."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the value of a StopIteration has no type
    coroutine.close()
    raise RuntimeError("a twin has waited")


class Effects(Struct):
    """The outward effects that committed ticks asked for."""

    submissions: list[Submission]
    polls: list[Poll]
    calls: list[tuple[str, str, WebhookCall]]


class FleetWorker:
    """One worker: its leases, its memory, and what it has taken from the stream."""

    def __init__(self, name: str, fleet: Fleet, rules: Rules, stripe: int) -> None:
        self.name, self._fleet, self._stripe = name, fleet, stripe
        self.engine = Engine(Memory(fleet.store.current, rules.partition_of), rules)
        self.leases: dict[int, Lease] = {}
        self.source = fleet.stream.source()
        self.inbox: deque[tuple[Input, Position | None]] = deque()
        self.ticks: list[Tick] = []
        self.soon: dict[str, Timer] = {}  # state timers, by intent, that are earlier than the stored ones
        self.committer = Committer(
            self.engine, fleet.store, self.leases, drop=self.drop, committed=self._committed, send=self._send,
            pause=_no_pause, breathe=_no_breath, undrafted_max=fleet.undrafted_max,
        )  # fmt: skip

    def claim(self) -> None:
        """Renew, take and give up partitions, and follow what changed."""
        claim = at_once(self._fleet.store.claim(self.name, LEASE_SECONDS))
        at_once(self._fleet.store.give_up(self.name, claim.leaving))
        owned = {p: lease for p, lease in claim.owned.items() if p not in claim.leaving}
        lost = {p for p, lease in self.leases.items() if p not in owned or owned[p].epoch != lease.epoch}
        self.drop(frozenset(lost))
        gained = owned.keys() - self.leases.keys()
        if not gained and not lost:
            return
        self.leases.update({p: owned[p] for p in gained})
        self.inbox = deque(entry for entry in self.inbox if entry[1] is None and entry[0].partition in self.leases)
        at_once(self.source.start({p: lease.position for p, lease in self.leases.items()}))
        self.look_after_lanes(gained)

    def look_after_lanes(self, partitions: Collection[int]) -> None:
        """Look after what is open at the endpoints in these partitions."""
        lanes = at_once(self._fleet.store.open_lanes())
        lanes |= {(t, e.id) for t, members in self.engine.memory.configuration.endpoints.items() for e in members}
        for tenant, endpoint in sorted(lanes):
            partition = self.engine.rules.partition_of(lane_key(tenant, endpoint))
            if partition in partitions:
                opened = Input(partition, "webhook", m.LaneOpened(tenant, endpoint), "takeover")
                self.inbox.append((opened, None))

    def drop(self, partitions: frozenset[int]) -> None:
        """Give partitions up: leases, actors and what was taken for them."""
        for partition in partitions:
            self.leases.pop(partition, None)
        self.engine.memory.drop_partitions(partitions)
        self.soon = {intent: soon for intent, soon in self.soon.items() if soon.partition not in partitions}
        self.inbox = deque(entry for entry in self.inbox if entry[0].partition not in partitions)

    def forget(self) -> None:
        """Passivate everything that can be read again; what is under way at endpoints stays known."""
        memory = self.engine.memory
        memory.distrust()
        memory.accounts.clear()
        memory.deliveries.clear()

    def take(self) -> None:
        """Take what has arrived, each frame as often as the fleet says."""
        for message in self.source.take_nowait(1_000):
            if message.partition in self.leases:
                for _ in range(self._fleet.repeats):
                    self.inbox.extend(unpack(message))

    def tick(self) -> bool:
        """Run one tick over what was taken; return whether there was anything."""
        if not self.inbox:
            return False
        if self._fleet.forgetful:
            self.forget()
        inputs: list[Input] = []
        positions: dict[int, Position] = {}
        while self.inbox and len(inputs) < self._fleet.events_max:
            entry, position = self.inbox.popleft()
            inputs.append(entry)
            if position is not None:
                positions[entry.partition] = position
        epochs = {p: lease.epoch for p, lease in self.leases.items()}
        tick = at_once(self.committer.run(Batch(inputs, positions, epochs=epochs), self._stripe))
        if tick is not None:
            at_once(self._send(tick))
        return True

    def _committed(self, plan: TickPlan, tick: Tick) -> None:
        for fence in plan.fences:
            if fence.partition not in tick.lost:
                self.leases[fence.partition] = Lease(fence.partition, fence.epoch, fence.version + 1, fence.position)
        self.engine.absorb(tick)
        self.ticks.append(tick)
        for _, key, name in (*tick.writes.timers_cleared, *tick.writes.timers_set):
            if name == "state":
                self.soon.pop(key, None)
        self.soon |= tick.timers_soon
        if tick.lost:
            self.drop(tick.lost)

    async def _send(self, tick: Tick) -> None:
        self._fleet.send(tick)


async def _no_pause(_: float) -> None:
    """Virtual time has nothing to wait for."""


async def _no_breath() -> None:
    """Nobody else has to get a turn."""


class Fleet:
    """Workers, the world around them, and the clock. `repeats` delivers each frame that often, `forgetful` passivates
    between ticks, `events_max` bounds a tick, `undrafted_max` says which are decided without a draft, `effects_lost`
    loses what is performed outside."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        profiles: Mapping[str, RailProfile] | None = None,
        scripts: Mapping[str, Sequence[ScriptedReply]] | None = None,
        partitions: int = 8,
        repeats: int = 1,
        forgetful: bool = False,
        events_max: int = 1_000,
        lane_width: int = 8,
        undrafted_max: int = 0,
    ) -> None:
        self.now, self.undrafted_max = START, undrafted_max
        self.repeats, self.forgetful, self.events_max = repeats, forgetful, events_max
        self.effects_lost = False
        self.store = StoreTwin(lambda: self.now, configuration, partitions)
        self.stream = StreamTwin()
        self.partition_of = partial(partition_of, partitions=partitions)
        self.rails = {
            name: ScriptedRail(settings, self.seconds, (profiles or {}).get(name))
            for name, settings in configuration.rails.items()
        }
        self.endpoints = ScriptedEndpoints(self.seconds, scripts)
        self.performed = Effects([], [], [])
        self.rules = Rules(
            partition_of=self.partition_of,
            command_subject=command_subject,
            event_subject=event_subject,
            dead_subject=dead_subject,
            sign_head=lambda tenant, size, root, at: ("key", hashlib.sha256(root).digest()),
            open_secret=lambda sealed: sealed,
            lane_width=lane_width,
            lane_width_max=lane_width,
        )
        self.workers: list[FleetWorker] = []
        self._serial = 0
        self.add_worker("w1")

    def seconds(self) -> float:
        """Return virtual unix time."""
        return self.now.timestamp()

    def add_worker(self, name: str) -> FleetWorker:
        """Start a worker; partitions move when the others claim again."""
        worker = FleetWorker(name, self, self.rules, len(self.workers) + 1)
        self.workers.append(worker)
        worker.claim()
        return worker

    def replace_worker(self, name: str) -> FleetWorker:
        """Kill every worker and start another one when their leases have expired."""
        self.workers.clear()
        self.now += timedelta(seconds=LEASE_SECONDS + 1)
        return self.add_worker(name)

    def replay(self) -> None:
        """Deliver the whole command stream again to a worker that remembers nothing."""
        for row in self.store.lease_rows.values():
            row.position = NOTHING_CONSUMED
        self.replace_worker(f"replay-{self._next()}")
        self.run_until_idle()

    # What comes in ------------------------------------------------------------------------------------------------

    def submit(
        self, command: IntentCommand, *, tenant: str = "acme", principal: str = "dev", role: str = "developer",
        id: str | None = None,
    ) -> str:  # fmt: skip
        """Register an intent as the gateway does and publish its frame; return its id."""
        number = self._next()
        intent = id or hashlib.sha256(f"intent/{number}".encode()).hexdigest()[:32]
        intent_id, digest, key = command.intent_id or f"intent-{number}", digest_of("intent", command), f"key-{number}"
        transition = register(
            intent=intent, tenant=tenant, intent_id=intent_id, command=command, digest=digest, key=key,
            principal=principal, role=role, trace=f"{number:032x}", at=self.now, cause=f"request-{number}",
        )  # fmt: skip
        timer = Timer("intent", intent, "state", self.partition_of(intent), tenant, self.now + REGISTERED_TIMER)
        _, frames = self.store.register(
            Registration(
                tenant=tenant, key=key, digest=digest, intent=intent, intent_id=intent_id,
                command=canonical.encode(command), principal=principal, role=role, trace=f"{number:032x}",
                request_id=f"request-{number}", status=202, answer=b"{}", transition=transition, timer=timer,
            ),
            feed=False,
        )  # fmt: skip
        self.publish(frames)
        return intent

    def command(
        self, kind: str, subject: str, body: object = None, *, partition: int | None = None, tenant: str = "acme",
        principal: str = "ops", role: str = "operator", id: str | None = None,
    ) -> str:  # fmt: skip
        """Give a command as the gateway does; return its id."""
        number = self._next()
        key = id or hashlib.sha256(f"command/{number}".encode()).hexdigest()[:32]
        given = m.CommandGiven(key, tenant, kind, subject, principal, role, msgspec.json.encode(body or {}))
        self.emit(self.partition_of(subject) if partition is None else partition, "command", [given])
        return key

    def report(self, outcome: RailOutcome, cause: str | None = None) -> None:
        """Let a rail say something; what has an event id is a callback, which the gateway takes once."""
        if outcome.event_id is not None and not self.store.take_callback(outcome):
            return
        named = parse_reference(outcome.reference)
        key = named[0] if named else callback_key(outcome.rail, outcome.reference)
        reported = m.RailReported(outcome, cause or m.callback_cause(outcome.event_id or f"{self._next()}"))
        self.emit(self.partition_of(key), "callback", [reported])

    def emit(self, partition: int, stage: str, events: list[m.Event]) -> None:
        """Publish a frame that comes from outside of the ticks."""
        self.emit_raw(partition, stage, m.encode_frame(events))

    def emit_raw(self, partition: int, stage: str, body: bytes) -> None:
        """Publish bytes that may be no frame."""
        subject = command_subject(partition, stage)
        key = hashlib.sha256(f"frame/{self._next()}".encode()).hexdigest()[:32]
        self.publish([self.store.put(partition, subject, body, key)])

    # What goes out ------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish outbox rows and mark those that arrived."""
        sent = [message.id for message in messages if self.stream.append(message) is None]
        at_once(self.store.mark_sent(sent))

    def sweep(self) -> None:
        """Publish what nobody marked as sent."""
        self.publish(at_once(self.store.unsent(range(self.store.partitions), 0, 10_000)))

    def send(self, tick: Tick) -> None:
        """Perform and publish what a commit made true."""
        self.performed.submissions += tick.submissions
        self.performed.polls += tick.polls
        self.performed.calls += tick.calls
        self.publish([message for _, message in tick.writes.outbox])
        if self.effects_lost:
            return
        for submission in tick.submissions:
            outcome = at_once(self.rails[submission.rail].submit(submission))
            self.report(outcome, f"submit/{outcome.reference}/{self._next()}")
        for rail, reference, cause in tick.polls:
            self.report(at_once(self.rails[rail].poll(reference, cause)), f"poll/{reference}/{self._next()}")
        for tenant, endpoint, call in tick.calls:
            result = at_once(self.endpoints.send(call))
            partition = self.partition_of(lane_key(tenant, endpoint))
            self.emit(partition, "webhook", [m.AttemptReported(tenant, endpoint, result)])

    # Time ---------------------------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Run ticks until nothing is left to take; raise RuntimeError where that never comes."""
        for _ in range(STEPS_MAX):
            busy = False
            for worker in self.workers:
                worker.take()
                busy = worker.tick() or busy
            if not busy:
                return
        raise RuntimeError("the fleet never comes to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass: timers fire and callbacks arrive when they are due, and each is worked off before the next."""
        until = self.now + timedelta(seconds=seconds)
        self.run_until_idle()
        while (due := self._next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            self._deliver_callbacks()
            self.fire_timers()
            self.run_until_idle()
        self.now = until

    def _next_due(self) -> datetime | None:
        times = [timer.due_at for timer in self.store.rows.timers.values()]
        times += [soon.due_at for worker in self.workers for soon in worker.soon.values()]
        for rail in self.rails.values():
            at = rail.next_callback_at()
            if at is not None:
                # microseconds are the grain of this clock: never before the rail's own float says so
                times.append(datetime.fromtimestamp(at, UTC) + timedelta(microseconds=1))
        return min(times, default=None)

    def _deliver_callbacks(self) -> None:
        for rail in self.rails.values():
            for callback in rail.take_callbacks():
                self.report(rail.verify_callback(callback.raw, callback.headers, self.seconds()))

    def fire_timers(self) -> None:
        """Let the timers fire that are due, of partitions that somebody owns."""
        for worker in self.workers:
            for timer, _ in at_once(self.store.due_timers(worker.leases, 1e-6, 10_000)):
                fired = m.TimerFired(timer.kind, timer.key, timer.name, timer.tenant)
                worker.inbox.append((Input(timer.partition, "timer", fired, f"timer/{timer.name}"), None))
            for intent in [intent for intent, soon in worker.soon.items() if soon.due_at <= self.now]:
                soon = worker.soon.pop(intent)
                fired = m.TimerFired("intent", intent, "state", soon.tenant)
                worker.inbox.append((Input(soon.partition, "timer", fired, "timer/state"), None))

    # What can be seen ---------------------------------------------------------------------------------------------

    def transaction(self, intent: str) -> Transaction:
        """Return an actor as the store has it."""
        stored = at_once(self.store.intents([intent]))[intent]
        return restore(stored.records, stored.deliveries)

    def events(self, intent: str) -> list[str]:
        """Return the topics of an intent's records, in order."""
        return [transition.event for transition in self.store.rows.transitions[intent]]

    def cases(self, kind: str | None = None, *, status: str = "open") -> list[str]:
        """Return the kinds of the cases that stand so."""
        kinds = [case.row.kind for case in self.store.rows.cases.values() if case.status == status]
        return [name for name in kinds if kind in (None, name)]

    def _next(self) -> int:
        self._serial += 1
        return self._serial
