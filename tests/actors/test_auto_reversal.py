"""What fails after a part of it was posted is given back in the same tick, or a person is asked.

No kind of intent posts before it may fail yet, so what is posted early is made here: entries in the record that opens
the hold, as a charge at submission would stand there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, balances, last_facts, outcome, transfer, verdict
from zentra.actors import ledgering, stages
from zentra.actors.tick import Input, Tick
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.terms import HoldTerms
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import Fact, IntentKind, State
from zentra.runtime.ledger.book import Objection

EARLY = 25_000


@pytest.fixture
def charged_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a transfer move a part of its amount at once and hold the rest."""

    def begin(tick: Tick, at: Input, tx: Transaction) -> None:
        source, destination = tick.account(tx.tenant, "customer"), tick.account(tx.tenant, "merchant")
        settlement = tick.account(tx.tenant, "@settlement/NGN")
        tick.lock(source, destination, settlement)
        early = tick.book.book(source, destination, EARLY, tick.now, currency="NGN", intent=tx.id, ordinal=0)
        rest = tick.book.reserve(
            source, settlement, destination, tx.command.amount - EARLY, tick.now, intent=tx.id, ordinal=1
        )
        assert not isinstance(early, Objection)
        assert not isinstance(rest, Objection)
        entries = tuple(posting.entry() for posting in (*early, *rest))
        tick.move(tx, Fact.RESERVED, f.Booked(entries), at, actor="svc_ledger")

    def way_back(tick: Tick, tx: Transaction) -> Any:
        path = real(tick, tx)
        return (path[0], path[2]) if tx.state is State.FAILED else path

    real = ledgering.path_of
    monkeypatch.setattr(stages, "_BEGINNINGS", {**stages._BEGINNINGS, IntentKind.TRANSFER: begin})
    monkeypatch.setattr("zentra.actors.journaling.path_of", way_back)


@pytest.mark.usefixtures("charged_early")
@pytest.mark.parametrize("events_max", [1, 3, 1_000])
@pytest.mark.parametrize("repeats", [1, 2])
def test_what_was_posted_before_the_failure_is_given_back_with_it(
    make_fleet: MakeFleet, events_max: int, repeats: int
) -> None:
    fleet = make_fleet(events_max=events_max, repeats=repeats)
    intent = fleet.submit(transfer(scenario="decline"))
    fleet.advance(30)
    assert fleet.transaction(intent).state is State.REVERSED
    events = fleet.events(intent)
    assert events[events.index("ledger.released") + 1] == "ledger.reversal"
    facts = last_facts(fleet, intent, "ledger.reversal")
    assert [(e["debit"], e["credit"], e["posted"]) for e in facts["entries"]] == [("merchant", "customer", str(EARLY))]
    assert facts["reason"] == "failed after a part of it was posted"
    assert balances(fleet)["customer"] == (0, 0, EARLY, 5_000_000 + EARLY)
    assert fleet.cases() == []


@pytest.fixture
def spent(make_fleet: MakeFleet, charged_early: None) -> tuple[Fleet, str]:
    """A transfer that failed when its payee had spent what it got early."""
    fleet = make_fleet()
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="decline"))
    fleet.run_until_idle()
    fleet.submit(structs.replace(transfer(EARLY, source="merchant", destination="poor"), kind=IntentKind.BOOK_TRANSFER))
    fleet.run_until_idle()
    fleet.effects_lost = False
    fleet.advance(400)
    return fleet, intent


def test_where_the_ledger_refuses_a_person_is_asked_and_goes_on(spent: tuple[Fleet, str]) -> None:
    fleet, intent = spent
    assert fleet.transaction(intent).state is State.FAILED
    assert fleet.cases("reversal_refused") == ["reversal_refused"]
    assert given(fleet, "reverse", intent, {}) == "insufficient_funds"
    assert given(fleet, "reverse", intent, {"amount": "1"}) == "reversal_indivisible"
    fleet.submit(transfer(EARLY, kind=IntentKind.BOOK_TRANSFER))  # the merchant has money again
    fleet.run_until_idle()
    case = next(key for key, file in fleet.store.rows.cases.items() if file.row.kind == "reversal_refused")
    body = {"case": case, "resolution": "retry", "reason": "funded", "intent": intent, "kind": "reversal_refused"}
    assert given(fleet, "resolve_case", case, body, fleet.partition_of(intent)) == "done"
    assert fleet.transaction(intent).state is State.REVERSED
    assert fleet.cases() == []


@pytest.mark.usefixtures("charged_early")
@pytest.mark.parametrize("replaced", [False, True])
def test_nobody_is_asked_while_a_hold_that_has_expired_keeps_what_is_owed(
    make_fleet: MakeFleet, replaced: bool
) -> None:
    fleet = make_fleet()
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="decline"))
    fleet.run_until_idle()
    hold = transfer(EARLY, source="merchant", destination="poor", kind=IntentKind.HOLD, hold=HoldTerms(60))
    kept = fleet.submit(hold)
    fleet.run_until_idle()
    assert fleet.transaction(kept).state is State.HELD
    fleet.now += timedelta(seconds=61)
    fleet.report(outcome(intent, "declined"))
    fleet.run_until_idle()
    assert fleet.cases() == []
    if replaced:
        fleet.replace_worker("fresh")
    fleet.effects_lost = False
    fleet.advance(400)
    assert fleet.transaction(kept).state is State.FAILED
    assert fleet.transaction(intent).state is State.REVERSED
    assert fleet.cases() == []


def test_force_gives_back_what_was_spent(spent: tuple[Fleet, str]) -> None:
    fleet, intent = spent
    assert given(fleet, "reverse", intent, {"force": True, "approved_by": "boss"}) == "done"
    assert fleet.transaction(intent).state is State.REVERSED
    assert balances(fleet)["merchant"][2] - balances(fleet)["merchant"][3] == EARLY


def given(fleet: Fleet, kind: str, subject: str, body: dict[str, Any], partition: int | None = None) -> str:
    command = fleet.command(kind, subject, body, partition=partition)
    fleet.run_until_idle()
    return verdict(fleet, command)
