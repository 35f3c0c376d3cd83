"""What was not sent: it may go to the same rail again, waits for one for a time, and is told from what was refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.actors.test_routes import ALPHA, FULL, ILL, setting, stand, words
from tests.actors.world import MakeFleet, balances, last_facts, outcome, transfer
from zentra.actors.health import Standing
from zentra.actors.outcomes import UNSENT_MAX
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.ports import Configuration
from zentra.runtime.rails.document import spelled
from zentra.runtime.rails.explaining import explain_route


def unsent(fleet: Fleet, intent: str, attempt: int = 1) -> None:
    """Let the worker say that it sent nothing under an attempt."""
    said = outcome(
        intent, "not_accepted", attempt=attempt, trust="direct", reason="not_sent", minor=None, currency=None
    )  # fmt: skip
    epoch = fleet.workers[0].leases[fleet.partition_of(intent)].epoch
    fleet.report(said, f"unsent/{epoch}/{said.reference}/{attempt}")
    fleet.run_until_idle()


def at_the_gate(make_fleet: MakeFleet, config: Configuration) -> tuple[Fleet, str]:
    """Return a fleet with a payment whose submission to alpha waits for its turn."""
    fleet = make_fleet(config)
    fleet.effects_lost = True
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    return fleet, intent


def test_what_was_not_sent_may_go_to_the_same_rail_under_another_reference(make_fleet: MakeFleet) -> None:
    fleet, intent = at_the_gate(make_fleet, setting(ALPHA))
    unsent(fleet, intent)
    attempts = fleet.transaction(intent).attempts
    assert [(one.rail, one.status, one.unsent) for one in attempts] == [
        ("alpha", "not_accepted", True),
        ("alpha", "started", False),
    ]
    live = [worker.engine.memory.transactions[intent] for worker in fleet.workers]
    assert [tx.attempts for tx in live if tx is not None] == [attempts]
    facts = last_facts(fleet, intent, "provider.failover")
    assert (words(facts), facts["unsent"], facts["reference"]) == ({"alpha": "chosen"}, True, f"{intent}02")
    shown = explain_route(
        [row.record for row in fleet.store.rows.transitions[intent]],
        {7: spelled(fleet.store.current.corridors["acme"])},
    )
    assert [(one.rail, one.outcome) for one in shown.attempts] == [("alpha", "not_sent"), ("alpha", "started")]
    assert [one.same for one in shown.decisions] == [True, True]
    unsent(fleet, intent)
    assert len(fleet.transaction(intent).attempts) == 2, "it is told again"
    fleet.report(outcome(intent, "succeeded", attempt=2))
    fleet.run_until_idle()
    assert (fleet.transaction(intent).state.lifecycle, fleet.cases()) == ("SUCCESSFUL", [])


def test_a_rail_that_has_not_accepted_is_left_although_nothing_was_sent_to_another(make_fleet: MakeFleet) -> None:
    fleet, intent = at_the_gate(make_fleet, setting())
    fleet.report(outcome(intent, "not_accepted", trust="direct", minor=None, currency=None), f"submit/{intent}01/1")
    fleet.run_until_idle()
    said = outcome(intent, "not_accepted", attempt=2, rail="beta", trust="direct", minor=None, currency=None)
    epoch = fleet.workers[0].leases[fleet.partition_of(intent)].epoch
    fleet.report(said, f"unsent/{epoch}/{said.reference}/1")
    fleet.run_until_idle()
    assert [one.rail for one in fleet.transaction(intent).attempts] == ["alpha", "beta", "beta"]


@pytest.mark.parametrize("standing", [ILL, FULL])
def test_what_was_not_sent_waits_for_its_rail_as_long_as_it_would_in_routing(
    make_fleet: MakeFleet, standing: Standing
) -> None:
    fleet, intent = at_the_gate(make_fleet, setting(ALPHA, wait_seconds=30))
    stand(fleet, alpha=standing)
    fleet.now += timedelta(seconds=10)
    unsent(fleet, intent)
    fleet.performed.polls.clear()
    fleet.advance(3)
    assert [poll.reference for poll in fleet.performed.polls] == [f"{intent}01"], "it is looked at again"
    unsent(fleet, intent)
    assert balances(fleet)["customer"][0] == 125_000
    stand(fleet)
    unsent(fleet, intent)
    assert fleet.events(intent).count("provider.failover") == 1
    stand(fleet, alpha=standing)
    unsent(fleet, intent, 2)
    assert balances(fleet)["customer"][0] == 125_000
    fleet.now += timedelta(seconds=30)
    unsent(fleet, intent, 2)
    assert last_facts(fleet, intent, "ledger.released")["reason"] == "rail alpha: not_accepted, no_rail_now"
    assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)


def test_so_often_nothing_was_sent_that_the_rail_has_not_accepted(make_fleet: MakeFleet) -> None:
    fleet, intent = at_the_gate(make_fleet, setting(ALPHA))
    for attempt in range(1, UNSENT_MAX + 2):
        assert len(fleet.transaction(intent).attempts) == attempt
        unsent(fleet, intent, attempt)
    assert last_facts(fleet, intent, "ledger.released")["reason"] == "rail alpha: not_accepted"
