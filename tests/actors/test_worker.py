"""The async shell around ticks, on twins: it takes, commits, sends, hands over and comes back after a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest
from msgspec import structs

from tests.actors.world import ACCOUNTS, audited, configuration, endpoint, transfer
from zentra.actors.committing import Committer
from zentra.actors.engine import Engine
from zentra.actors.lanes import ATTEMPT_LOST_AFTER
from zentra.actors.memory import Lane, Memory
from zentra.actors.outward import BACKLOG_MAX, Outward, Permitted
from zentra.actors.relay import Relay
from zentra.actors.supervisor import Supervisor
from zentra.actors.tick import Batch, Input
from zentra.actors.worker import Worker, WorkerSettings
from zentra.bench.twins.fleet import Fleet, at_once
from zentra.bench.twins.stream import SourceTwin
from zentra.bench.twins.transport import ScriptedEndpoints
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.runtime.errors import DataError, InDoubt, Unavailable
from zentra.runtime.instruments import SILENCE
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.messages import Due, TimerFired
from zentra.runtime.partitions import lane_key
from zentra.runtime.ports import Ground, Lease, TickPlan, TickWrites, Timer
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, Submission
from zentra.runtime.rails.routing import reference_of
from zentra.runtime.stream_ports import Position
from zentra.runtime.webhooks.delivery import DeliveryState
from zentra.runtime.webhooks.standard import AttemptResult, WebhookCall


def make_world(partitions: int = 8, **changes: Any) -> Fleet:
    """Return a fleet without workers, for the twins and the gateway in it; its rails answer at once."""
    plain = configuration(**changes)
    rails = {name: structs.replace(rail, kind="inline") for name, rail in plain.rails.items()}
    fleet = Fleet(structs.replace(plain, rails=rails), partitions=partitions)
    at_once(fleet.store.release("w1"))
    fleet.workers.clear()
    refs = {ref.account_id: fleet.store.open_account(ref) for ref in ACCOUNTS}
    fleet.store.book(refs["liquidity-ngn"], refs["customer"], 5_000_000)
    return fleet


class WakingSource(SourceTwin):
    """A source whose waiters look again when it is started, as a server wakes them by delivering."""

    async def start(self, positions: Mapping[int, Position]) -> None:
        await super().start(positions)
        self._stream.wake()


def make_worker(fleet: Fleet, name: str, source: SourceTwin | None = None, **settings: Any) -> Worker:
    """Return a worker over the twins of a fleet, not running."""
    publisher = fleet.stream.publisher()
    rails = {rail: InlineRail(settings_) for rail, settings_ in fleet.store.current.rails.items()}
    memory = Memory(fleet.store.current, fleet.partition_of)
    outward = Outward(rails.get, fleet.endpoints, publisher, fleet.partition_of, fleet.rules.command_subject, SILENCE)
    relay = Relay(fleet.store, publisher, lambda: tuple(worker.leases), SILENCE)
    worker = Worker(
        WorkerSettings(name, **{"lease_seconds": 0.3, **settings}), Engine(memory, fleet.rules), fleet.store,
        source or WakingSource(fleet.stream), relay, outward, SILENCE, anyio.current_time,
    )  # fmt: skip
    return worker


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Supervisor]:
    """Run a worker's services."""
    supervisor = Supervisor()
    services = (worker.outward.run, worker.run_ticks, worker.listen, worker.watch_timers, worker.keep_leases)
    for service in services:
        supervisor.add(service.__name__, service)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        yield supervisor
        supervisor.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after ten seconds."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.002)


def all_in(fleet: Fleet, intents: list[str], state: State = State.SUCCESSFUL) -> Callable[[], bool]:
    return lambda: all(fleet.store.rows.transitions[intent][-1].state is state for intent in intents)


@pytest.mark.parametrize("commits_max", [1, 2, 4])
@pytest.mark.parametrize("events_max", [1, 7, 2_000])
async def test_every_intent_reaches_its_end(commits_max: int, events_max: int) -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w", commits_max=commits_max, events_max=events_max)
    async with running(worker):
        intents = [fleet.submit(transfer(1_000)) for _ in range(30)]
        await until(all_in(fleet, intents))
        await until(lambda: len(fleet.store.rows.leaves) == 30)
    audited(fleet)


async def test_webhooks_are_sent_and_told() -> None:
    fleet = make_world(endpoints=(endpoint("hook", "*"),))
    async with running(make_worker(fleet, "w")):
        intent = fleet.submit(transfer())
        await until(lambda: fleet.events(intent).count("webhook.delivered") == 5)
        await until(lambda: fleet.events(intent)[-1] == "review.closed")


async def lost_attempts(fleet: Fleet) -> str:
    """Leave attempts behind of which nobody will report, at an endpoint that is removed then; return their intent."""
    first = make_worker(fleet, "w")
    first.outward.perform = lambda *effects: None  # type: ignore[method-assign]  # it dies before it calls anybody
    intent = fleet.submit(structs.replace(transfer(), kind=IntentKind.BOOK_TRANSFER))
    async with running(first):
        await until(all_in(fleet, [intent]))
        count = len(fleet.store.rows.deliveries)
        await until(lambda: len(fleet.store.rows.delivery_states) == count > 1)
        await first.drain()
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={}))
    return intent


@pytest.mark.parametrize("lane_known", [True, False])
async def test_what_is_open_at_an_endpoint_goes_on_when_the_endpoint_is_enabled_again(
    lane_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled = configuration(endpoints=(endpoint("hook", "*"),)).endpoints
    fleet = make_world(endpoints=(endpoint("hook", "*"),))
    intent = await lost_attempts(fleet)
    count = len(fleet.store.rows.deliveries)
    second = make_worker(fleet, "next")

    async def not_yet(partitions: frozenset[int]) -> None:
        """It looks now and then; the endpoint is back before."""

    monkeypatch.setattr(second, "_open_lanes", not_yet)
    async with running(second):
        await until(lambda: len(second.leases) == 8)
        if lane_known:
            second.engine.memory.lanes["acme", "hook"] = Lane()
        assert fleet.events(intent).count("webhook.delivered") == 0
        fleet.store.configure(structs.replace(fleet.store.current, endpoints=enabled))
        await until(lambda: fleet.events(intent).count("webhook.delivered") == count)


def all_exhausted(fleet: Fleet, intent: str) -> Callable[[], bool]:
    count = len(fleet.store.rows.deliveries)
    assert count > 1
    return lambda: fleet.events(intent).count("webhook.exhausted") == count and not fleet.endpoints.received


async def test_a_takeover_ends_the_lost_attempts_at_an_endpoint_that_was_removed() -> None:
    fleet = make_world(endpoints=(endpoint("hook", "*"),))
    intent = await lost_attempts(fleet)
    fleet.store.fail_next(Unavailable("gone"), method="open_lanes")  # it starts over, and asks again
    async with running(make_worker(fleet, "next")):
        await until(all_exhausted(fleet, intent))


async def test_looking_ends_the_lost_attempts_at_an_endpoint_that_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = make_world(endpoints=(endpoint("hook", "*"),))
    worker = make_worker(fleet, "w")
    worker.outward.perform = lambda *effects: None  # type: ignore[method-assign]  # nobody is called, nobody reports
    intent = fleet.submit(structs.replace(transfer(), kind=IntentKind.BOOK_TRANSFER))
    async with running(worker):
        await until(all_in(fleet, [intent]))
        await until(lambda: len(fleet.store.rows.delivery_states) == len(fleet.store.rows.deliveries) > 1)
        fleet.store.configure(structs.replace(fleet.store.current, endpoints={}))
        monkeypatch.setattr("zentra.actors.lanes.ATTEMPT_LOST_AFTER", timedelta(0))
        monkeypatch.setattr("zentra.actors.worker.LANES_EVERY_SECONDS", 0.0)
        await until(all_exhausted(fleet, intent))


async def test_a_call_that_was_one_too_many_is_made_when_it_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints that hang may take up all calls there are; what waits for them is attempted once more."""
    monkeypatch.setattr("zentra.actors.outward.CALLS_MAX", 3)
    monkeypatch.setattr("zentra.actors.outward.BACKLOG_MAX", 3)
    monkeypatch.setattr("zentra.actors.worker.LANES_EVERY_SECONDS", 0.0)
    fleet = make_world(endpoints=(endpoint("hook", "*"),))
    worker, hang, called = make_worker(fleet, "w"), anyio.Event(), list[str]()

    class Hanging(ScriptedEndpoints):
        async def send(self, call: WebhookCall) -> AttemptResult:
            called.append(call.delivery)
            await hang.wait()
            return await super().send(call)

    worker.outward._transport = Hanging(fleet.seconds)
    async with running(worker):
        intent = fleet.submit(transfer())
        await until(all_in(fleet, [intent]))
        await until(lambda: len(fleet.store.rows.delivery_states) == len(fleet.store.rows.deliveries) > 3)
        states = fleet.store.rows.delivery_states.values()
        await until(lambda: all(row.state is DeliveryState.DELIVERING for row in states))
        await until(lambda: worker.outward.backlog == len(called) == 3)
        hang.set()
        await until(lambda: worker.outward.backlog == 0)
        assert len(called) == 3
        fleet.now += ATTEMPT_LOST_AFTER
        fleet.store.members = dict.fromkeys(fleet.store.members, fleet.now)
        count = len(fleet.store.rows.deliveries)
        await until(lambda: fleet.events(intent).count("webhook.delivered") == count)
    assert len(called) == len(set(called)) == count


async def test_a_drained_worker_gives_its_leases_up_and_leaves_nothing_half_done() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w", events_max=3)
    intents = [fleet.submit(transfer(1_000)) for _ in range(30)]
    async with running(worker):
        await until(lambda: worker.ticks > 2)
        await worker.drain()
        assert all(row.owner is None for row in fleet.store.lease_rows.values())
        commits = fleet.store.commits
        fleet.submit(transfer(1_000))
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        assert fleet.store.commits == commits
    async with running(make_worker(fleet, "next")):
        await until(all_in(fleet, intents))
    audited(fleet)


# fmt: off
FAILURES = [
    ("a bug",               RuntimeError("boom"), False),
    ("a bug after a commit", InDoubt("lost"),      True),
    ("bad data",            DataError("no"),      False),
]
# fmt: on


@pytest.mark.parametrize(("error", "after"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
async def test_ticks_that_failed_and_are_started_again_lose_nothing(error: Exception, after: bool) -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w", events_max=5)
    async with running(worker) as supervisor:
        await until(lambda: len(worker.leases) == 8)
        for _ in range(3):
            fleet.store.fail_next(error, after=after)
        intents = [fleet.submit(transfer(1_000)) for _ in range(20)]
        await until(all_in(fleet, intents))
        assert bool(supervisor.restarts) == isinstance(error, RuntimeError)
    audited(fleet)


async def test_a_lost_partition_is_dropped_and_read_again_when_it_comes_back() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    async with running(worker):
        await until(lambda: len(worker.leases) == 8)
        intents = [fleet.submit(transfer(1_000)) for _ in range(20)]
        place = fleet.partition_of(intents[0])
        fleet.store.lease_rows[place].epoch += 1  # somebody else had it for a moment
        await until(lambda: worker.leases.get(place, Lease(0, 0, 0, Position(0, ""))).epoch > 1)
        await until(all_in(fleet, intents))
    audited(fleet)


async def test_two_workers_finish_what_either_would() -> None:
    fleet = make_world()
    first, second = make_worker(fleet, "a"), make_worker(fleet, "b")
    async with running(first):
        intents = [fleet.submit(transfer(1_000)) for _ in range(20)]
        async with running(second):
            await until(lambda: bool(first.leases) and bool(second.leases))
            intents += [fleet.submit(transfer(1_000)) for _ in range(20)]
            await until(all_in(fleet, intents))
            await second.drain()
        await until(lambda: len(first.leases) == 8)
    audited(fleet)


async def test_early_timers_wait_while_a_crowd_does() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w", events_max=2)
    await worker.refresh_leases()
    intents = [fleet.submit(transfer(1_000)) for _ in range(3)]
    worker._take_arrived()
    early, stored = (
        Timer("intent", intent, "state", fleet.partition_of(intent), "acme", fleet.now) for intent in intents[:2]
    )
    worker.timers.remember(early, 0.0, anyio.current_time())
    worker.timers.committed([(stored, 0.0)], [], anyio.current_time())

    def fired() -> list[str]:
        waiting = (entry for queue in worker._queues.values() for entry, _ in queue)
        return [entry.event.key for entry in waiting if isinstance(entry.event, TimerFired)]

    async with anyio.create_task_group() as group:
        group.start_soon(worker.watch_timers)
        await until(lambda: bool(fired()))
        assert fired() == [stored.key]
        for queue in worker._queues.values():
            queue.clear()
        await until(lambda: bool(fired()))
        assert fired() == [early.key]
        group.cancel_scope.cancel()


async def test_while_too_much_is_under_way_outside_nothing_more_is_taken() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    async with running(worker):
        await until(lambda: len(worker.leases) == 8)
        worker.outward._asking += BACKLOG_MAX + 1
        intents = [fleet.submit(transfer(1_000)) for _ in range(5)]
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert all_in(fleet, intents, State.ACCEPTED)()
        worker.outward._asking -= BACKLOG_MAX + 1
        await until(all_in(fleet, intents))


async def test_a_submission_is_permitted_while_its_attempt_waits_and_its_partition_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    asked: list[tuple[Submission, Permitted]] = []

    def perform(submissions: list[Submission], polls: object, calls: object, permitted: Permitted) -> None:
        asked.extend((submission, permitted) for submission in submissions)

    monkeypatch.setattr(worker.outward, "perform", perform)
    async with running(worker):
        await until(lambda: len(worker.leases) == 8)
        fleet.submit(transfer(1_000))
        await until(lambda: bool(asked))
        [(submission, permitted)] = asked
        assert submission.first
        place, reference = fleet.partition_of(submission.reference[:32]), submission.reference
        assert await permitted(place, reference)
        assert await permitted(place, "")
        assert not await permitted(place, reference_of("f" * 32, 1)), "who is not remembered may have ended"
        refused = RailOutcome("alpha", reference, OutcomeStatus.NOT_ACCEPTED)
        fleet.report(refused, f"submit/{reference}/1")
        await until(lambda: len(asked) == 2)
        assert asked[1][0].rail == "beta"
        assert not await permitted(place, reference), "another rail has it"
        assert await permitted(place, asked[1][0].reference)
        fleet.report(RailOutcome("beta", asked[1][0].reference, OutcomeStatus.DECLINED), "submit/other/2")
        await until(all_in(fleet, [submission.reference[:32]], State.FAILED))
        assert not await permitted(place, asked[1][0].reference), "its hold was released"
        worker._drop(frozenset({place}))
        assert not await permitted(place, "")


async def test_a_partition_that_could_not_be_listened_to_is_gained_again() -> None:
    class Deaf(SourceTwin):
        failures = 2

        async def verify(self, positions: Mapping[int, Position]) -> list[int]:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("no server")
            return await super().verify(positions)

    fleet = make_world()
    worker = make_worker(fleet, "w", Deaf(fleet.stream))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await worker.refresh_leases()
        assert worker.leases == {}
    await worker.refresh_leases()
    assert len(worker.leases) == 8


async def test_a_stream_that_rolled_back_is_read_from_its_start_and_no_old_checkpoint_stays() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    async with running(worker):
        intents = [fleet.submit(transfer(1_000)) for _ in range(5)]
        await until(all_in(fleet, intents))
        await until(lambda: len(fleet.store.rows.leaves) == 5)
        reached = {p: row.position.sequence for p, row in fleet.store.lease_rows.items()}
        fleet.stream.roll_back(0)
        fleet.stream.forget_ids()
        more = [fleet.submit(transfer(1_000)) for _ in range(5)]
        await until(all_in(fleet, more))
        await until(lambda: len(fleet.store.rows.leaves) == 10)
        last = fleet.stream.log().last
        await until(lambda: all(row.position.sequence <= last for row in fleet.store.lease_rows.values()))
    assert max(reached.values()) > 0
    audited(fleet)


async def test_a_checkpoint_that_the_stream_contradicts_is_taken_back_by_the_next_commit() -> None:
    fleet = make_world()
    fleet.store.lease_rows[3].position = Position(99, "of a stream that is gone")
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    fired = Input(3, "timer", TimerFired("intent", "0" * 32, "state", "acme"), "timer/state")
    worker._queues[3].append((fired, None))
    batch = worker._next_batch()
    assert batch is not None
    assert await worker._committer.run(batch, 1) is not None
    assert fleet.store.lease_rows[3].position == Position(0, "")


async def test_a_quiet_partition_follows_the_stream_and_never_goes_back() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    async with running(worker):
        intent = fleet.submit(transfer(1_000))
        await until(all_in(fleet, [intent]))
        await until(lambda: min(row.position.sequence for row in fleet.store.lease_rows.values()) > 0)
    place, lease = next(iter(worker.leases.items()))
    worker._checkpoint = {place: Position(lease.position.sequence - 1, "old")}
    assert worker._next_batch() is None


async def test_what_is_committed_after_its_partition_was_given_up_is_not_remembered() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    commit = fleet.store.commit

    async def dropping(
        plan: TickPlan, decide: Callable[[Ground], TickWrites], draft: Any = None, turn: Any = None
    ) -> Ground:
        ground = await commit(plan, decide, draft, turn)
        worker._drop(frozenset(fence.partition for fence in plan.fences))
        return ground

    fleet.store.commit = dropping  # type: ignore[method-assign]  # the moment between a commit and its return
    intent = fleet.submit(transfer(1_000))
    await worker.refresh_leases()
    worker._take_arrived()
    batch = worker._next_batch()
    assert batch is not None
    assert await worker._committer.run(batch, 1) is not None
    assert fleet.store.rows.transitions[intent][-1].state is State.RESERVING
    assert worker.engine.memory.transactions == {}


async def test_inputs_of_an_ownership_that_has_ended_are_left_to_the_next(  # they are read again from the checkpoint
) -> None:
    fleet = make_world()
    leases = at_once(fleet.store.claim("w", 10)).owned
    engine = Engine(Memory(fleet.store.current, fleet.partition_of), fleet.rules)
    sent: list[object] = []

    async def send(tick: object) -> None:
        sent.append(tick)

    committer = Committer(
        engine, fleet.store, leases, drop=lambda lost: None, committed=lambda plan, tick: None, send=send
    )
    inputs = [Input(1, "ledger", Due("0" * 32, "acme", 1), "cause")]
    batch = Batch(inputs, {1: Position(5, "m5")}, epochs={1: leases[1].epoch - 1})
    assert await committer.run(batch, 1) is None
    assert fleet.store.commits == 0


async def test_a_lane_that_is_set_up_anew_is_read_again_though_a_tick_had_decided_on_it_before() -> None:
    fleet = make_world(endpoints=(endpoint("hook", "*"),))
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    memory, place = worker.engine.memory, fleet.partition_of(lane_key("acme", "hook"))
    worker._queues[place].clear()
    decided = Lane({"under way": fleet.now}, {"old": 1})  # by a tick that is on its way to its commit
    worker._flying, worker._endpoints = {place}, set()
    worker._follow_configuration()
    memory.lanes["acme", "hook"] = decided
    assert worker._next_batch() is None
    worker._flying.clear()
    assert worker._next_batch() is not None
    lane = memory.lanes["acme", "hook"]
    assert (lane.in_flight, list(lane.waiting), lane.more) == (decided.in_flight, [], True)
    assert list(decided.waiting) == ["old"]
