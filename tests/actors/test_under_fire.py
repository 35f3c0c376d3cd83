"""Faults at the worst moment: streams that lose their tail, stores that are away, commits that nobody heard of."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import structs

from tests.actors.test_supervisor import in_virtual_time
from tests.actors.test_worker import make_worker, make_world, running, until
from tests.actors.world import MakeFleet, endpoint, facts_of, outcome, transfer
from zentra.actors.committing import Committer
from zentra.actors.engine import Engine
from zentra.actors.loading import load
from zentra.actors.memory import Memory, Missing
from zentra.actors.supervisor import RESTARTS_MAX, Supervisor
from zentra.actors.tick import Batch, Input, Tick
from zentra.actors.worker import elapsed
from zentra.bench.twins.fleet import Fleet, at_once
from zentra.bench.twins.stream import SourceTwin
from zentra.runtime.errors import InDoubt, Unavailable
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.messages import TimerFired
from zentra.runtime.ports import Claim, Ground, TickPlan, TickWrites, Timer
from zentra.runtime.rails.port import (
    UNKNOWN_CAUSE,
    CallbackCode,
    CallbackRejected,
    Cause,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    RailSettings,
    Submission,
    Verdict,
)
from zentra.runtime.stream_ports import Position, StreamError

PAYLOAD_MAX = 1024 * 1024  # what the stream takes


# Frames -------------------------------------------------------------------------------------------------------------


def test_no_frame_is_larger_than_the_stream_takes() -> None:
    """A lane gets a frame from every intent of its tenant in a tick, each with a body of its own."""
    fleet = make_world(endpoints=(endpoint("hook", "*"),), limits=None)
    labels = {f"label-{number}": "x" * 512 for number in range(32)}
    for _ in range(100):
        fleet.submit(structs.replace(transfer(1_000), metadata=labels))
    fleet.add_worker("w1")
    fleet.run_until_idle()
    assert max(len(row.message.body) for row in fleet.store.rows.outbox.values()) < PAYLOAD_MAX
    assert [row.message.subject for row in fleet.store.rows.outbox.values() if row.sent_at is None] == []


async def time_passes(seconds: float) -> None:
    """Return when so much virtual time has passed, in steps: nobody's clock is jumped over."""
    until_then = anyio.current_time() + seconds
    while anyio.current_time() < until_then:
        await anyio.sleep(0.5)


# Ownership ------------------------------------------------------------------------------------------------------------


async def test_a_source_is_started_by_one_at_a_time() -> None:
    class Slow(SourceTwin):
        starting = most = 0

        async def start(self, positions: Mapping[int, Position]) -> None:
            self.starting += 1
            self.most = max(self.most, self.starting)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            await super().start(positions)
            self.starting -= 1

    fleet = make_world()
    source = Slow(fleet.stream)
    worker = make_worker(fleet, "w", source)
    await worker.refresh_leases()
    source._rolled_back = {3}
    async with anyio.create_task_group() as group:
        group.start_soon(worker.listen)
        for place in (1, 2):
            fleet.store.lease_rows[place].epoch += 1
            group.start_soon(worker.refresh_leases)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert source.most == 1


# Commits --------------------------------------------------------------------------------------------------------------


async def test_a_partition_that_was_refused_says_nothing_of_a_commit_in_doubt() -> None:
    """Its lease may stand where the commit would have left it, because an earlier one of ours got through unheard."""
    fleet = make_world()
    leases = at_once(fleet.store.claim("w", 10)).owned
    fleet.store.lease_rows[0].version += 1  # got through, and we were not told
    committed: list[Tick] = []
    commit, tries = fleet.store.commit, []

    async def lost(
        plan: TickPlan, decide: Callable[[Ground], TickWrites], draft: Any = None, turn: Any = None
    ) -> Ground:
        tries.append(plan)
        if len(tries) > 1:
            return await commit(plan, decide, draft, turn)
        decide(Ground(fleet.now, fleet.store.current.version, frozenset({0}), {}, {}))
        raise InDoubt("the connection died before the commit arrived")

    fleet.store.commit = lost  # type: ignore[method-assign]  # a commit that never happens
    engine = Engine(Memory(fleet.store.current, fleet.partition_of), fleet.rules)

    async def send(tick: Tick) -> None:
        raise AssertionError("nothing was committed in parts")

    async def no_pause(_: float) -> None:
        return

    committer = Committer(
        engine, fleet.store, leases, drop=lambda lost: None, committed=lambda plan, tick: committed.append(tick),
        send=send, pause=no_pause,
    )  # fmt: skip
    inputs = [Input(p, "timer", TimerFired("intent", "0" * 32, "state", "acme"), "timer/state") for p in (0, 1)]
    await committer.run(Batch(inputs, {}, epochs={p: leases[p].epoch for p in (0, 1)}), 1)
    assert len(tries) == 2
    assert fleet.store.lease_rows[1].version == leases[1].version + 1


class NarrowRail:
    """A rail with room for one call at a time, which takes as long as the test says."""

    def __init__(self, settings: RailSettings) -> None:
        self.settings = structs.replace(settings, kind="sandbox", concurrency_max=1)
        self.declaration = Declaration("none")
        self.asked: list[str] = []
        self.answer = anyio.Event()

    async def submit(self, submission: Submission) -> RailOutcome:
        self.asked.append(submission.reference)
        await self.answer.wait()
        return RailOutcome(self.settings.name, submission.reference, OutcomeStatus.PENDING)

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        return RailOutcome(self.settings.name, reference, OutcomeStatus.UNKNOWN)

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        raise CallbackRejected(self.settings.name, CallbackCode.BODY_MALFORMED)

    def ack(self, verdict: Verdict) -> None:
        return

    async def aclose(self) -> None:
        return


@pytest.mark.parametrize(("taken_over", "asked"), [(True, 1), (False, 3)])
@in_virtual_time
async def test_what_a_stopped_worker_had_not_asked_yet_it_asks_only_if_it_was_not_succeeded(
    taken_over: bool, asked: int
) -> None:
    fleet = make_world()
    rail = NarrowRail(fleet.store.current.rails["alpha"])
    worker = make_worker(fleet, "stopped")
    worker.outward._rail_of = {"alpha": rail}.get
    claim, resumed = fleet.store.claim, anyio.Event()
    stopping = False

    async def stopped(name: str, lease_seconds: float) -> Claim:
        if stopping:  # as SIGSTOP would, between two renewals
            await resumed.wait()
        return await claim(name, lease_seconds)

    fleet.store.claim = stopped  # type: ignore[method-assign,assignment]  # only time passes for a stopped process
    async with running(worker):
        for _ in range(3):
            fleet.submit(transfer(1_000))
        await until(lambda: worker.outward.backlog == 3)
        stopping = True
        await time_passes(worker.settings.lease_seconds * 2)
        fleet.now += timedelta(seconds=1)
        if taken_over:
            assert len((await claim("successor", 0.3)).owned) == 8
        rail.answer.set()
        await time_passes(1)
        assert len(rail.asked) == 1  # nobody knows who owns the others
        resumed.set()
        await until(lambda: worker.outward.backlog == 0)
        assert len(set(rail.asked)) == len(rail.asked) == asked


async def test_a_machine_that_slept_longer_than_the_lease_lasts_asks_before_it_acts() -> None:
    """The loop's clock stood still meanwhile."""
    fleet = make_world()
    worker = make_worker(fleet, "w")
    slept = 0.0
    worker._clock = lambda: anyio.current_time() + slept
    await worker.refresh_leases()
    epoch = worker.leases[3].epoch
    assert await worker._holds(3, epoch)
    slept = worker.settings.lease_seconds
    fleet.store.lease_rows[3].epoch += 1
    held: list[bool] = []

    async def ask() -> None:
        held.append(await worker._holds(3, epoch))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert held == []
        await worker.renew_leases()
    assert held == [False]


def test_the_lease_is_counted_by_a_clock_that_goes_on_while_the_machine_sleeps() -> None:
    counted = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before = time.clock_gettime(counted)
    assert before <= elapsed() <= time.clock_gettime(counted)


async def test_an_effect_of_an_epoch_that_has_passed_is_not_performed_though_its_partition_came_back() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    epoch = worker.leases[3].epoch
    assert await worker._holds(3, epoch)
    fleet.store.lease_rows[3].epoch += 1
    await worker.refresh_leases()
    assert not await worker._holds(3, epoch)
    assert await worker._holds(3, epoch + 1)


# Timers of poisoned events --------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_poisoned_timer_fires_again_but_does_not_spin() -> None:
    fleet = make_world()
    timer = Timer("nobody", "f" * 32, "state", 3, "acme", fleet.now)
    fleet.store.rows.timers[timer.kind, timer.key, timer.name] = timer
    async with running(make_worker(fleet, "w")):
        await time_passes(1_000)
        letters = len(fleet.stream.log("ZD").messages)
        assert letters == 5  # at 0, 60, 180, 420 and 900 seconds
        assert fleet.cases() == ["poison_message"]
        fleet.now += timedelta(days=1)
        await time_passes(1_000)
    assert fleet.cases() == ["poison_message"] * 2  # a resolved case does not silence it for ever
    told = {msgspec.json.decode(letter.body)["case"] for letter in fleet.stream.log("ZD").messages}
    assert told == set(fleet.store.rows.cases), "each letter names the case that stands for it"


# What is remembered ---------------------------------------------------------------------------------------------------


async def test_an_account_read_before_it_changed_is_not_remembered_after_it() -> None:
    fleet = make_world()
    memory = Memory(fleet.store.current, fleet.partition_of)
    accounts = fleet.store.accounts

    async def overtaken(names: Collection[tuple[str, str]]) -> dict[tuple[str, str], AccountRef]:
        found = await accounts(names)
        fleet.store.configure(fleet.store.current)  # somebody freezes the account, and another tick hears of it
        memory.configure(fleet.store.current)
        return found

    fleet.store.accounts = overtaken  # type: ignore[method-assign]  # a slow answer
    await load(fleet.store, memory, Batch([], {}), Missing(accounts={("acme", "customer")}))
    assert memory.accounts == {}


# Servers that are away ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("away"), StreamError("away", retryable=True)])
@in_virtual_time
async def test_a_server_that_is_away_uses_up_no_ration(error: Exception) -> None:
    supervisor, back = Supervisor(), anyio.Event()
    starts = 0

    async def service() -> None:
        nonlocal starts
        starts += 1
        if starts <= RESTARTS_MAX * 10:
            raise error
        back.set()

    supervisor.add("service", service)
    await supervisor.run()
    assert back.is_set()


# What rails say -------------------------------------------------------------------------------------------------------


def submitted(make_fleet: MakeFleet) -> tuple[Fleet, str]:
    """Return a fleet and an intent that a rail has been asked for and has not answered."""
    fleet = make_fleet()
    fleet.effects_lost = True
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    return fleet, intent


# fmt: off
SAID = [
    # what a rail says, each time without an id of an event    records, cases
    ("a poll repeats another amount",    [("succeeded", 1)] * 4,                               1, 1),
    ("another amount after success",     [("succeeded", 125_000), ("succeeded", 1)],           2, 1),
    ("the same after success",           [("succeeded", 125_000)] * 3,                         1, 0),
    ("a decline after success, again",   [("succeeded", 125_000)] + [("declined", 125_000)] * 3, 2, 1),
    ("two other amounts",                [("succeeded", 1), ("succeeded", 2), ("succeeded", 1)], 2, 1),
]
# fmt: on


@pytest.mark.parametrize(("said", "records", "cases"), [row[1:] for row in SAID], ids=[row[0] for row in SAID])
def test_what_a_rail_repeats_without_an_id_is_recorded_once_and_what_contradicts_always(
    make_fleet: MakeFleet, said: list[tuple[str, int]], records: int, cases: int
) -> None:
    fleet, intent = submitted(make_fleet)
    for status, minor in said:
        fleet.report(outcome(intent, status, minor=minor))
        fleet.run_until_idle()
    assert fleet.events(intent).count("provider.callback") == records
    assert fleet.cases() == ["provider_contradiction"] * cases
    before = facts_of(fleet)
    fleet.replay()
    assert facts_of(fleet) == before


def test_a_rail_that_claimed_a_payment_is_not_left_for_another(make_fleet: MakeFleet) -> None:
    fleet, intent = submitted(make_fleet)
    fleet.report(outcome(intent, "succeeded", minor=1, event="evt-1"))
    fleet.report(outcome(intent, "not_accepted", minor=None, event="evt-2"))
    fleet.run_until_idle()
    assert [submission.rail for submission in fleet.performed.submissions] == ["alpha"]
    assert (fleet.transaction(intent).state, fleet.cases()) == (State.SUBMITTED, ["provider_contradiction"])


def test_an_actor_that_failed_over_is_what_its_records_fold_to(make_fleet: MakeFleet) -> None:
    fleet, intent = submitted(make_fleet)
    fleet.report(outcome(intent, "declined", minor=1, event="evt-1"))
    fleet.report(outcome(intent, "not_accepted", minor=None, event="evt-2"))
    fleet.run_until_idle()
    remembered = fleet.workers[0].engine.memory.transactions[intent]
    assert remembered is not None
    assert len(remembered.attempts) == 2
    assert remembered.attempts == fleet.transaction(intent).attempts
