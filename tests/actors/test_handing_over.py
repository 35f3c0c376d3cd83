"""Partitions change hands: what was committed is performed first, and what was not is asked for early by the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest
from msgspec import structs

from tests.actors.test_supervisor import in_virtual_time
from tests.actors.test_worker import all_in, make_worker, make_world, running, until
from tests.actors.world import audited, transfer
from zentra.actors import owning as module
from zentra.actors.worker import Worker
from zentra.bench.twins.fleet import Fleet
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.runtime.errors import Unavailable
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.rails.port import UNKNOWN_CAUSE, Cause, RailOutcome, Submission
from zentra.runtime.rails.routing import reference_of

ONE_AT_A_TIME = 1
POLL_AFTER_SECONDS = 0.5


class GatedRail(InlineRail):
    """A rail that takes one submission at a time, and none before its gate is open."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(structs.replace(fleet.store.current.rails["alpha"], kind="sandbox", concurrency_max=1))
        self.gate = anyio.Event()
        self.submitted: Counter[str] = Counter()
        self.polled: Counter[str] = Counter()

    async def submit(self, submission: Submission) -> RailOutcome:
        await self.gate.wait()
        self.submitted[submission.reference] += 1
        return await super().submit(submission)

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        self.polled[reference] += 1
        return await super().poll(reference, cause)


def make_gated(partitions: int = 8) -> tuple[Fleet, GatedRail]:
    """Return a fleet whose transfers go over a gated rail that is polled after half a second."""
    fleet = make_world(partitions)
    rails = {n: structs.replace(r, poll_after_seconds=POLL_AFTER_SECONDS) for n, r in fleet.store.current.rails.items()}
    fleet.store.configure(structs.replace(fleet.store.current, rails=rails))
    return fleet, GatedRail(fleet)


def on_rail(fleet: Fleet, name: str, rail: InlineRail) -> Worker:
    """Return a worker whose only rail is this one, whatever it is called."""
    worker = make_worker(fleet, name)
    worker.outward._rail_of = lambda _: rail
    return worker


def has(worker: Worker, count: int) -> Callable[[], bool]:
    return lambda: len(worker.leases) == count


async def test_a_worker_performs_what_it_committed_before_it_gives_a_partition_up() -> None:
    fleet, rail = make_gated()
    first, second = on_rail(fleet, "a", rail), on_rail(fleet, "b", rail)
    async with running(first):
        intents = [fleet.submit(transfer(1_000)) for _ in range(40)]
        await until(lambda: first.outward.backlog == 40)
        async with running(second):
            await until(lambda: bool(first._leaving or second.leases))
            rail.gate.set()
            await until(all_in(fleet, intents))
            await until(lambda: has(first, 4)() and has(second, 4)())
    assert rail.submitted == Counter(reference_of(intent, 1) for intent in intents)
    assert not rail.polled
    audited(fleet)


async def test_a_partition_that_is_to_change_hands_takes_up_nothing_more() -> None:
    fleet, rail = make_gated(partitions=2)
    first, second = on_rail(fleet, "a", rail), on_rail(fleet, "b", rail)
    async with running(first):
        fleet.submit(transfer(1_000))
        fleet.submit(transfer(1_000))
        await until(lambda: first.outward.backlog == 2)
        async with running(second):
            await until(lambda: bool(first._leaving))
            leaving = set(first._leaving)
            later = [fleet.submit(transfer(1_000)) for _ in range(20)]
            there = [intent for intent in later if fleet.partition_of(intent) in leaving]
            here = [intent for intent in later if fleet.partition_of(intent) not in leaving]
            assert there
            assert here
            await until(all_in(fleet, here, State.SUBMITTED))
            held = {fleet.store.rows.transitions[intent][-1].state for intent in there if not second.leases}
            assert held <= {State.ACCEPTED}
            rail.gate.set()
            await until(all_in(fleet, later))
    audited(fleet)


async def test_a_worker_waits_for_no_rail_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAND_OVER_SECONDS_MAX", 0.05)
    fleet, stuck = make_gated()
    open_rail = GatedRail(fleet)
    open_rail.gate.set()
    first, second = on_rail(fleet, "a", stuck), on_rail(fleet, "b", open_rail)
    async with running(first):
        intents = [fleet.submit(transfer(1_000)) for _ in range(40)]
        await until(lambda: first.outward.backlog == 40)
        async with running(second):
            await until(lambda: has(first, 4)() and has(second, 4)())
            moved = [intent for intent in intents if fleet.partition_of(intent) in second.leases]
            begun = {reference_of(intent, 1) for intent in intents} - {reference_of(intent, 1) for intent in moved}
            fleet.now += timedelta(seconds=2 * POLL_AFTER_SECONDS)  # of fifteen, after which the stored timer fires
            fleet.store.members = dict.fromkeys(fleet.store.members, fleet.now)
            await until(all_in(fleet, moved))
            assert set(open_rail.polled) == {
                reference_of(intent, 1) for intent in moved
            }  # and submitted only after that
            stuck.gate.set()
            await until(all_in(fleet, intents))
    assert begun <= set(stuck.submitted)
    assert len(stuck.submitted.keys() & open_rail.submitted.keys()) <= ONE_AT_A_TIME  # what was under way already
    audited(fleet)


async def test_the_successor_of_a_dead_worker_polls_after_the_rails_own_time() -> None:
    fleet, rail = make_gated()
    rail.gate.set()
    first, second = on_rail(fleet, "a", rail), on_rail(fleet, "b", rail)
    first.outward.perform = lambda *effects: None  # type: ignore[method-assign]  # it dies before it asks anybody
    intents = [fleet.submit(transfer(1_000)) for _ in range(10)]
    async with running(first):
        await until(all_in(fleet, intents, State.SUBMITTED))
    fleet.now += timedelta(seconds=2 * POLL_AFTER_SECONDS)  # its lease is over, and the stored timers are far away
    fleet.store.fail_next(Unavailable("gone"), method="started_attempts")  # it starts over, and asks again
    async with running(second):
        await until(all_in(fleet, intents))
    assert set(rail.polled) == set(rail.submitted) == {reference_of(intent, 1) for intent in intents}
    audited(fleet)


@in_virtual_time
async def test_a_worker_that_joins_has_its_share_within_a_second_or_so() -> None:
    fleet = make_world()
    first, second = (make_worker(fleet, name, lease_seconds=30) for name in ("a", "b"))
    async with running(first):
        await until(has(first, 8))
        joined_at = anyio.current_time()
        async with running(second):
            await until(lambda: has(first, 4)() and has(second, 4)())
            assert anyio.current_time() - joined_at < 1.5


@in_virtual_time
async def test_workers_that_start_together_share_within_a_second_or_so() -> None:
    fleet = make_world()
    first, second = (make_worker(fleet, name, lease_seconds=30) for name in ("a", "b"))
    started_at = anyio.current_time()
    async with running(first), running(second):
        await until(lambda: has(first, 4)() and has(second, 4)())
        assert anyio.current_time() - started_at < 1.5


async def test_a_partition_that_could_not_be_given_up_is_not_taken_up_again() -> None:
    fleet = make_world()
    first, second = make_worker(fleet, "a"), make_worker(fleet, "b")
    async with running(first):
        await until(has(first, 8))
        for _ in range(3):
            fleet.store.fail_next(Unavailable("gone"), method="give_up")
        async with running(second):
            await until(lambda: has(first, 4)() and has(second, 4)())
            intents = [fleet.submit(transfer(1_000)) for _ in range(20)]
            await until(all_in(fleet, intents))
    audited(fleet)


async def test_a_drained_worker_has_asked_its_rails_for_what_it_committed() -> None:
    fleet, rail = make_gated()
    first = on_rail(fleet, "a", rail)
    intents = [fleet.submit(transfer(1_000)) for _ in range(20)]
    async with running(first):
        await until(lambda: first.outward.backlog == 20)
        async with anyio.create_task_group() as group:
            group.start_soon(first.drain)
            await until(lambda: first._draining)
            rail.gate.set()
    assert rail.submitted == Counter(reference_of(intent, 1) for intent in intents)
    async with running(on_rail(fleet, "b", rail)):
        await until(all_in(fleet, intents))
    assert not rail.polled
    audited(fleet)
