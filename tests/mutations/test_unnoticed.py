"""Rules that no test stood for until a fault was planted against them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, configuration, outcome, transfer
from zentra.actors.tick import Input
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.messages import CommandGiven, Due
from zentra.storage.pool import Pool


def _tick_until(fleet: Fleet, intent: str, state: State) -> None:
    worker = fleet.workers[0]
    while fleet.transaction(intent).state is not state:
        worker.take()
        assert worker.tick()


def test_a_frame_that_a_tick_has_cut_is_taken_again_by_the_next_worker(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(partitions=1)
    intents = [fleet.submit(transfer(1_000)) for _ in range(3)]
    _tick_until(fleet, intents[0], State.RESERVING)  # one frame asks the ledger for all three
    fleet.events_max = 1
    _tick_until(fleet, intents[0], State.ROUTING)
    fleet.replace_worker("w2")
    fleet.run_until_idle()
    assert {fleet.transaction(intent).state for intent in intents} == {State.SUBMITTED}


def test_an_event_of_a_version_that_has_passed_asks_for_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    merchant = fleet.store.refs["acme", "merchant"]

    def stand(status: str) -> None:
        fleet.store.refs["acme", "merchant"] = structs.replace(merchant, status=status)
        fleet.store.configure(fleet.store.current)

    stand("closed")
    fleet.advance(5)
    assert fleet.events(intent)[-2:] == ["ledger.refused", "case.opened"]
    stand("open")
    sequence = fleet.transaction(intent).sequence
    fleet.emit(fleet.partition_of(intent), "ledger", [Due(intent, "acme", sequence - 2)])
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.CONFIRMED
    fleet.emit(fleet.partition_of(intent), "ledger", [Due(intent, "acme", sequence)])
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.SUCCESSFUL


def test_what_follows_on_an_intent_waits_for_its_locks_as_well(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    _tick_until(fleet, intent, State.ROUTING)
    partition, worker = fleet.partition_of(intent), fleet.workers[0]
    cancel = CommandGiven("c" * 32, "acme", "cancel", intent, "ops", "operator", b"{}")
    route = Due(intent, "acme", fleet.transaction(intent).sequence)
    for stage, event in (("command", cancel), ("route", route)):
        worker.inbox.append((Input(partition, stage, event, stage), None))
    worker.engine.memory.beliefs.deceived()  # a draft on beliefs leaves nothing waiting
    assert worker.tick()
    assert fleet.transaction(intent).state is State.FAILED
    assert fleet.performed.submissions == []


async def test_row_security_holds_for_owners_too(admin_pool: Pool) -> None:
    rows = await admin_pool.fetch(
        "select relname from pg_class where relnamespace = 'zentra'::regnamespace and relrowsecurity"
        " and not relforcerowsecurity"
    )
    assert [row[0] for row in rows] == []


@pytest.mark.parametrize(
    ("idempotent", "lies_seconds", "submits"), [(True, 0.0, 2), (True, 10_000.0, 1), (False, 0.0, 1)]
)
def test_a_rail_that_does_not_know_a_payment_is_asked_again_only_where_that_is_safe(
    make_fleet: MakeFleet, idempotent: bool, lies_seconds: float, submits: int
) -> None:
    plain = configuration()
    rails = {
        name: structs.replace(rail, idempotent_references=idempotent, not_found_lies_seconds=lies_seconds)
        for name, rail in plain.rails.items()
    }
    fleet = make_fleet(structs.replace(plain, rails=rails))
    fleet.effects_lost = True
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    fleet.now += timedelta(seconds=1)
    fleet.report(outcome(intent, "not_found", minor=None, currency=None), "poll/1")
    fleet.run_until_idle()
    assert len(fleet.performed.submissions) == submits
    assert fleet.transaction(intent).state is State.SUBMITTED
