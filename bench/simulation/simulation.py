"""One run: a fleet, its world and its faults in virtual time, where one seed decides everything.

Every step draws one action. What is committed, published, asked and paid is told to the auditor, which raises Violation
at once; every hundred steps it rebuilds everything from what was written. At the end the faults stop, time runs until
everything is quiet, and the auditor looks at what is left. No wall clock, no task, no hash order has a say."""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any, Final

from msgspec import Struct, structs

from zentra.actors.relay import row_of
from zentra.actors.tick import Input, Rules
from zentra.bench.simulation import mischief, orders
from zentra.bench.simulation.auditor import Auditor, Violation
from zentra.bench.simulation.border import Border
from zentra.bench.simulation.faults import FAULTS, Fault, Swarm
from zentra.bench.simulation.hooks import known
from zentra.bench.simulation.outside import Callback, Endpoints, SimulatedRail
from zentra.bench.simulation.resting import found_by_looking, waits_for_people
from zentra.bench.simulation.setting import FIRST_KEY, PARTITIONS, open_books, profiles
from zentra.bench.simulation.shelf import Shelf
from zentra.bench.simulation.workers import SimulatedPublisher, SimulatedWorker
from zentra.bench.twins.fleet import START
from zentra.bench.twins.stream import StreamTwin
from zentra.runtime.evidence.history import SignHead
from zentra.runtime.partitions import partition_of
from zentra.runtime.ports import Endpoint, Ground, TickPlan, TickWrites
from zentra.runtime.stream_ports import Outgoing, StreamError
from zentra.runtime.subjects import command_subject, dead_subject, event_subject

__all__ = ["Failed", "Outcome", "Simulation", "VirtualLoop", "run_seed"]

STEPS_PER_INTENT: Final = 14
REBUILD_EVERY: Final = 100
QUIET_ROUNDS_MAX: Final = 6_000
QUIET_SECONDS_MAX: Final = 5 * 86_400.0
LOOKING_SECONDS_MAX: Final = 900.0  # within this everything that was lost has been found
WORKERS_MAX: Final = 3
LYING: Final = {Fault.CALLBACK_CONTRADICTS, Fault.CALLBACK_TOO_EARLY, Fault.CALLBACK_FORGED}


class Failed(Struct, frozen=True):
    """What was violated, and where."""

    letter: str
    detail: str
    step: int


class Outcome(Struct, frozen=True):
    """What became of one seed."""

    seed: int
    asked: int  # intents that were asked for
    intents: int  # and those that there was time for
    steps: int
    committed: int
    seconds: float  # of virtual time
    faults: dict[str, int]
    actions: dict[str, int]
    states: dict[str, int]
    digest: str
    failed: Failed | None = None


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is the simulation's; nothing is ever scheduled on it."""

    now = 0.0

    def time(self) -> float:
        return self.now


def run_seed(seed: int, intents: int, *, steps_max: int | None = None, only: frozenset[Fault] | None = None) -> Outcome:
    """Return what became of one seed; the same arguments give the same outcome, bit by bit."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_run(Simulation(seed, intents, loop, steps_max=steps_max, only=only)))
    finally:
        loop.close()


async def _run(simulation: Simulation) -> Outcome:
    return simulation.run()


class Simulation:
    """The world of one seed."""

    def __init__(
        self, seed: int, intents: int, loop: VirtualLoop, *, steps_max: int | None, only: frozenset[Fault] | None
    ) -> None:
        self.seed, self.intents, self._loop = seed, intents, loop
        self.random = random = Random(seed)  # noqa: S311 - a seed that replays, not a secret
        self.steps_max = steps_max or intents * STEPS_PER_INTENT
        self.swarm = Swarm(random, only)
        self.time = self.store_offset = self.gateway_offset = 0.0
        self.step = self.restarts = 0
        self.acting: SimulatedWorker | None = None
        self.actions: Counter[str] = Counter()
        self._digest = hashlib.sha256()
        self.no_transport: Any = None
        self.partition_of = partial(partition_of, partitions=PARTITIONS)
        self.signers: dict[str, SignHead] = {}  # of the evidence keys that the workers hold
        self.rules = Rules(
            partition_of=self.partition_of,
            command_subject=command_subject,
            event_subject=event_subject,
            dead_subject=dead_subject,
            sign_head=lambda tenant, size, root, at: ("key", hashlib.sha256(root).digest()),
            open_secret=lambda sealed: sealed,
            open_quote=orders.open_quote,
            lane_width=random.choice((1, 2, 8)),
            signers=self.signers,
        )
        self.hold_key(FIRST_KEY)
        self.store = Shelf(self)
        open_books(self.store)
        self.stream = StreamTwin()
        self.publisher = SimulatedPublisher(self, killable=False)
        self.auditor = Auditor(self.store)
        self.rails = {
            name: SimulatedRail(self, settings, profiles()[name]) for name, settings in self.store.current.rails.items()
        }
        self.endpoints = Endpoints(self)
        self.border = Border(self)
        self.callbacks: list[Callback] = []
        self.called_back: list[Callback] = []  # what a gateway has taken
        self.garbage: set[bytes] = set()
        self.workers: list[SimulatedWorker] = []
        self._graves: list[tuple[float, str]] = []
        self._names = 0
        self._left = intents
        self._events_max = random.choice((1, 3, 10, 100, 2_000))
        self.stream_history: list[tuple[float, int]] = []
        self.spare_endpoints: dict[str, list[Endpoint]] = {}
        self.known_endpoints = known(self.store.current)
        self._worked_at = 0.0  # when a commit last told anybody of anything
        self._closed: dict[str, float] = {}  # until when the stream is away, or has no room
        self._calmed: dict[str, datetime] = {}  # by key: when timers were due when the faults stopped

    # Clocks -------------------------------------------------------------------------------------------------------

    def store_time(self) -> datetime:
        """Return what the database's clock shows."""
        return START + timedelta(seconds=self.time + self.store_offset)

    def gateway_time(self) -> datetime:
        """Return what the gateway's clock shows."""
        return START + timedelta(seconds=self.time + self.gateway_offset)

    def rail_time(self) -> float:
        """Return what everybody else's clock shows, as unix time."""
        return START.timestamp() + self.time

    def advance(self, seconds: float) -> None:
        """Let time pass; members that live and are not held up have renewed meanwhile."""
        self.time = round(self.time + seconds, 6)
        self._loop.now = self.time
        self.store.let_time_pass()
        if self.time >= self.store.away_until:
            for worker in self.workers:
                renews = worker.running and self.time >= worker.beats_missed_until
                if renews and worker.name in self.store.members:
                    self.store.members[worker.name] = self.store_time()
        for rail in self.rails.values():
            rail.pay()
            for callback in rail.inner.take_callbacks():
                self.callbacks.append(Callback(rail.settings.name, callback.raw, self.time))
        for grave in [grave for grave in self._graves if grave[0] <= self.time]:
            self._graves.remove(grave)
            self.add_worker(grave[1])
        for what in [what for what, until in self._closed.items() if until <= self.time]:
            self.open(what)
        log = self.stream.log()
        if not self.stream_history or self.time - self.stream_history[-1][0] > 1:
            self.stream_history.append((self.time, log.last))

    def close(self, what: str, until: float) -> bool:
        """Take the stream away, or its room, until a time; return False where that is so already."""
        if what in self._closed:
            return False
        self._closed[what] = until
        if what == "stream":
            self.stream.available = False
        else:
            self.stream.log().bytes_max = 0
        return True

    def open(self, what: str) -> None:
        """Give back what was taken away."""
        del self._closed[what]
        if what == "stream":
            self.stream.available = True
        else:
            self.stream.log().bytes_max = None

    def open_everything(self) -> None:
        """Give back all that was taken away."""
        for what in list(self._closed):
            self.open(what)

    # What the parts tell ------------------------------------------------------------------------------------------

    def committed(self, plan: TickPlan, writes: TickWrites, ground: Ground) -> None:
        """A commit has happened."""
        for transition in writes.transitions:
            self._digest.update(transition.hash)
        if writes.outbox or writes.delivery_states:  # to poll a rail once more is no progress
            self._worked_at = self.time
        for _, message in writes.outbox:
            self._digest.update(message.id.encode() + message.body)
        self._digest.update(repr((sorted(writes.timers_set), plan.fences, ground.now)).encode())
        self.auditor.committed(self.acting.name if self.acting else "-", plan, writes, ground)

    def append(self, message: Outgoing) -> StreamError | None:
        """Append to the stream; return why that was not possible."""
        failure = self.stream.append(message)
        if failure is None:
            # a row that a stream lost is sent again under another id, and is the same row
            self.auditor.published(structs.replace(message, id=row_of(message.id) or message.id))
        return failure

    def append_again(self, message: Outgoing) -> None:
        """Append a message once more, beyond the window in which the stream would know it."""
        self.stream.forget_id(message.id)
        self.append(message)

    def set_aside(self, entry: Input, reason: str) -> None:
        """An event was set aside: raises Violation unless it is one that was made to be."""
        if entry.event is None and entry.raw in self.garbage:
            return
        raise Violation("O", f"an event of ours was set aside: {reason}: {entry.stage} {entry.event}")

    def buried(self, worker: SimulatedWorker) -> None:
        """A process has ended; another one takes its place after a while."""
        self.workers.remove(worker)
        self.store.forget_worker(worker.name)
        self._graves.append((self.time + self.random.choice((0.1, 2.0, 15.0)), worker.name))

    def hold_key(self, key_id: str) -> None:
        """Give all workers an evidence key."""
        self.signers[key_id] = lambda tenant, size, root, at: (key_id, hashlib.sha256(key_id.encode() + root).digest())

    def add_worker(self, name: str | None = None) -> None:
        """Start a worker, under a new name unless one is given."""
        if name is None:
            self._names += 1
            name = f"w{self._names}"
        worker = SimulatedWorker(self, name, self._events_max)
        self.workers.append(worker)
        worker.beat(now=True)

    # The run ------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Run to the end; return what became of it."""
        failed = None
        try:
            for _ in range(self.random.randrange(1, WORKERS_MAX + 1)):
                self.add_worker()
            while self.step < self.steps_max:
                self.step += 1
                self._step()
                if self.step % REBUILD_EVERY == 0:
                    self._rebuild()
            self._come_to_rest()
            self._rebuild()
            self.auditor.finish(self.store, self.store_time())
            self._finish()
        except Violation as violation:
            failed = Failed(violation.letter, violation.detail, self.step)
        except Exception:  # whatever the product raises where nobody expects it is a finding too
            failed = Failed("bug", traceback.format_exc(), self.step)
        states = Counter(str(rows[-1].state) for rows in self.store.rows.transitions.values())
        return Outcome(
            seed=self.seed, asked=self.intents, intents=len(self.border.requests), steps=self.step,
            committed=self.store.commits, seconds=self.time,
            faults={str(fault): self.swarm.struck[fault] for fault in FAULTS},
            actions=dict(sorted(self.actions.items())),
            states=dict(sorted(states.items())),
            digest=self._digest.hexdigest(), failed=failed,
        )  # fmt: skip

    def _rebuild(self) -> None:
        """Let the auditor recompute everything, and what the workers remember."""
        self.auditor.rebuild(self.store)
        for worker in self.workers:
            for tx in worker.engine.memory.transactions.values():
                if tx is not None:
                    self.auditor.remembered(worker.name, tx)

    def _step(self) -> None:
        name = self.random.choices(_NAMES, _WEIGHTS)[0]
        self.actions[name] += 1
        self._digest.update(name.encode())
        self.advance(self.random.uniform(0, 0.02))
        _ACTIONS[name](self)
        for fault in self.swarm.of_step():
            if mischief.STRIKES[fault](self):
                self.swarm.count(fault)

    # Actions ------------------------------------------------------------------------------------------------------

    def _new(self) -> None:
        for _ in range(self.random.randrange(1, 4)):
            if self._left:
                self._left -= 1
                self.border.new_intent()

    def _turn(self) -> None:
        """Let one worker do all that its services would do in a moment."""
        worker = self._any_worker()
        if worker is None:
            return
        worker.beat()
        worker.look_at_rails()
        for job in list(worker.jobs):
            if job in worker.jobs and worker.running:
                worker.step(job)
            while job in worker.jobs and job.may_go_on and self.random.random() < 0.8:
                worker.step(job)
        for service in (worker.listen_once, worker.look_at_timers, worker.tick_once, worker.report, worker.flush):
            if worker.running:
                service()
        if worker.running and self.random.random() < 0.05:
            worker.sweep(1.0)

    def _bit(self) -> None:
        """Let one service of one worker have one turn."""
        worker = self._any_worker()
        if worker is None:
            return
        services: list[Callable[[], object]] = [
            worker.beat, worker.look_at_rails, worker.listen_once,
            worker.look_at_timers, worker.tick_once, worker.report, worker.flush,
            worker.look_after, partial(worker.sweep, 1.0), *(partial(worker.step, job) for job in worker.jobs),
        ]  # fmt: skip
        self.random.choice(services)()

    def _effect(self) -> None:
        """Let workers perform some of what they are to perform outside."""
        worker = self._any_worker()
        for _ in range(self.random.randrange(1, 6)):
            if worker is not None and worker.running and worker.effects.effects:
                worker.carry_out(self.random.randrange(len(worker.effects.effects)))

    def _callback(self) -> None:
        """Let rails make callbacks: in order or not, once or twice, or not at all."""
        for _ in range(self.random.randrange(1, 4)):
            if self.callbacks:
                out_of_order = len(self.callbacks) > 1 and self.swarm.strikes(Fault.CALLBACK_OUT_OF_ORDER)
                self.make_callback(self.random.randrange(1, len(self.callbacks)) if out_of_order else 0)

    def make_callback(self, place: int) -> None:
        """Make one callback; the rail keeps it where nobody took it."""
        callback = self.callbacks.pop(place)
        if self.swarm.strikes(Fault.CALLBACK_LOST):
            # Of a rail that lies, the truth must arrive in the end: nobody can know of what was never told.
            if LYING & self.swarm.rates.keys() or self.rails[callback.rail].lies(callback):
                self.callbacks.append(callback)
            return
        if not self.border.take_callback(callback):
            self.callbacks.append(callback)
            return
        self.called_back.append(callback)
        if self.swarm.strikes(Fault.CALLBACK_REPEATED):
            self.callbacks.insert(self.random.randrange(len(self.callbacks) + 1), callback)

    def _time(self) -> None:
        self.advance(self.random.choice((0.3, 0.3, 1.0, 3.0, 3.0, 16.0, 70.0)))

    def _late(self) -> None:
        self.store.finish_one()

    def _any_worker(self) -> SimulatedWorker | None:
        running = [worker for worker in self.workers if worker.running]
        return self.random.choice(running) if running else None

    # The end ------------------------------------------------------------------------------------------------------

    def _come_to_rest(self) -> None:
        """Stop all faults and let time run until nothing is left to do."""
        self.swarm.calm()
        mischief.repair(self)
        timers = self.store.rows.timers.items()
        self._calmed = {key: timer.due_at for (_, key, name), timer in timers if name == "state"}
        started = self._worked_at = self.time
        for _ in range(QUIET_ROUNDS_MAX):
            if self._work_off():
                self.advance(0.01)
                continue
            pause = self._pause()
            if pause is None:
                return
            if self.time - started > QUIET_SECONDS_MAX:
                raise Violation("T", "the run does not come to rest")
            self.advance(pause)
        raise Violation("T", "the run does not come to rest: it works for ever")

    def _work_off(self) -> bool:
        """Let everybody do everything once; return whether anything came of it or is still under way."""
        before = self._progress()
        self.store.finish_late(self.time)
        while self.callbacks:
            self.make_callback(0)
        for worker in list(self.workers):
            worker.beat()
            worker.look_at_rails()
            for job in list(worker.jobs):
                worker.step(job)
                while job in worker.jobs and job.may_go_on:
                    worker.step(job)
            worker.listen_once()
            worker.look_at_timers()
            while worker.tick_once():
                pass
            while worker.effects.effects:
                worker.carry_out(0)
            worker.report()
            worker.flush()
        return self._progress() != before or not all(worker.idle for worker in self.workers)

    def _progress(self) -> tuple[int, int, int]:
        log = self.stream.log()
        return self.store.commits, log.last, sum(len(worker.leases) for worker in self.workers)

    def _owned(self) -> bool:
        """Return whether every partition has an owner who knows it."""
        known = {(p, lease.epoch): worker.name for worker in self.workers for p, lease in worker.leases.items()}
        rows = self.store.lease_rows.values()
        return all(known.get((row.partition, row.epoch)) == row.owner is not None for row in rows)

    def _pause(self) -> float | None:
        """Return how long to wait for what comes next, or None where nothing does that anybody waits for."""
        if self._graves or not self._owned():
            return 1.0
        if any(row.sent_at is None for row in self.store.rows.outbox.values()):
            for worker in self.workers:
                worker.sweep(1.0)
            return 1.0
        people = waits_for_people(self.store.rows, self._calmed)
        timers, now = self.store.rows.timers.values(), self.store_time()
        due = [timer.due_at for timer in timers if timer.key not in people or timer.due_at <= now]
        waits = [(at - now).total_seconds() for at in due]
        for rail in self.rails.values():
            for at in (rail.inner.next_callback_at(), rail.next_payment_at()):
                if at is not None:
                    waits.append(at - self.rail_time() + 1e-6)
        if found_by_looking(self.store.rows) and self.time - self._worked_at < LOOKING_SECONDS_MAX:
            waits.append(5.0)
        if not waits:
            return None
        return max(min(waits), 0.05)

    def _finish(self) -> None:
        """Check what the auditor cannot see."""
        outcomes = self.store.rows.command_outcomes
        for command in self.border.foreign:
            if outcomes[command][1]:
                raise Violation("M", f"command {command} of another tenant was carried out")
        for rows in self.store.rows.transitions.values():
            self._digest.update(rows[-1].hash)


# fmt: off
_ACTIONS: Final[dict[str, Callable[[Simulation], None]]] = {
    "turn":     Simulation._turn,
    "bit":      Simulation._bit,
    "new":      Simulation._new,
    "effect":   Simulation._effect,
    "callback": Simulation._callback,
    "time":     Simulation._time,
    "late":     Simulation._late,
    "repeat":   lambda simulation: simulation.border.repeat(),
    "command":  lambda simulation: simulation.border.command(),
    "change":   mischief.change_configuration,
}
_SHARES: Final = {
    "turn": 36, "bit": 22, "new": 7, "effect": 14, "callback": 9, "time": 4, "late": 1, "repeat": 2, "command": 4,
    "change": 0.7,
}
# fmt: on
_NAMES: Final = list(_ACTIONS)
_WEIGHTS: Final = [_SHARES[name] for name in _NAMES]
