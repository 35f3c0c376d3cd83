"""What accounts do to intents: books, changes that are in force at once, numbers, deposits, monitors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from tests.actors.world import (
    ACCOUNTS,
    MakeFleet,
    account,
    audited,
    balances,
    configuration,
    endpoint,
    last_facts,
    transfer,
    verdict,
)
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.terms import Deposit
from zentra.runtime.intents.vocabulary import COMPOSED, IntentKind, State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.monitors import Monitor
from zentra.runtime.policy import Limits, VelocityKey
from zentra.runtime.policy.replay import again, decisions_in, same

ABROAD = tuple(
    account(number, name, type_, book="eu")
    for number, (name, type_) in enumerate(
        (("eu-customer", "customer"), ("eu-merchant", "merchant"), ("eu:settlement-ngn", "settlement"),
         ("eu:suspense-ngn", "suspense"), ("eu:liquidity-ngn", "liquidity")), start=20,
    )
)  # fmt: skip
SUSPENSE = account(30, "suspense-ngn", "suspense")


def opened(make_fleet: MakeFleet, *refs: AccountRef, **options: Any) -> Fleet:
    """Return a fleet with more accounts; the one abroad has as much as the customer."""
    fleet = make_fleet(**options)
    for ref in refs:
        fleet.store.open_account(structs.replace(ref, guarded=ref.type not in ("settlement", "suspense", "liquidity")))
    if ABROAD[0] in refs:
        fleet.store.book(fleet.store.refs["acme", "eu:liquidity-ngn"], fleet.store.refs["acme", "eu-customer"], 500_000)
    return fleet


def book_transfer(minor: int = 100, **changes: Any) -> IntentCommand:
    return transfer(minor, kind=IntentKind.BOOK_TRANSFER, **changes)


def deposit(destination: str, minor: int = 700, **changes: Any) -> IntentCommand:
    command = IntentCommand(
        kind=IntentKind.BOOK_TRANSFER, minor=str(minor), currency="NGN", source="settlement-ngn",
        destination=destination, deposit=Deposit("ref-1", destination),
    )  # fmt: skip
    return structs.replace(command, **changes)


def state(fleet: Fleet, intent: str) -> State:
    return fleet.store.rows.transitions[intent][-1].state


def events(fleet: Fleet, intent: str) -> list[str]:
    return [t.event for t in fleet.store.rows.transitions[intent]]


# Books ----------------------------------------------------------------------------------------------------------------


def test_money_of_another_book_goes_through_the_settlement_account_of_that_book(make_fleet: MakeFleet) -> None:
    fleet = opened(make_fleet, *ABROAD)
    intent = fleet.submit(transfer(100, source="eu-customer", destination="eu-merchant"))
    fleet.advance(60)
    assert state(fleet, intent) is State.SUCCESSFUL
    found = balances(fleet)
    assert found["eu:settlement-ngn"] == (0, 0, 100, 100)
    assert found["settlement-ngn"] == (0, 0, 0, 0)
    reversal = fleet.command("reverse", intent, {"amount": "full", "reason": "x"})
    fleet.advance(10)
    assert verdict(fleet, reversal) == "done"
    assert balances(fleet)["eu:settlement-ngn"] == (0, 0, 200, 200)
    audited(fleet)


@pytest.mark.parametrize("kind", sorted(frozenset(IntentKind) - COMPOSED))
@pytest.mark.parametrize(("source", "destination"), [("eu-customer", "merchant"), ("customer", "eu-merchant")])
def test_no_intent_leads_out_of_its_book(
    make_fleet: MakeFleet, kind: IntentKind, source: str, destination: str
) -> None:
    fleet = opened(make_fleet, *ABROAD)
    intent = fleet.submit(transfer(100, kind=kind, source=source, destination=destination))
    fleet.advance(5)
    assert state(fleet, intent) is State.FAILED
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "book_mismatch"
    audited(fleet)


# Changes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [("frozen", "account_frozen"), ("closed", "account_closed")])
def test_a_change_is_in_force_for_the_next_commit(make_fleet: MakeFleet, status: str, code: str) -> None:
    fleet = make_fleet()
    first = fleet.submit(book_transfer())
    fleet.advance(1)
    customer = fleet.store.refs["acme", "customer"]
    fleet.store.change_account(structs.replace(customer, status=status))
    second = fleet.submit(book_transfer())
    fleet.advance(1)
    fleet.store.change_account(customer)
    third = fleet.submit(book_transfer())
    fleet.advance(1)
    assert [state(fleet, one) for one in (first, second, third)] == [State.SUCCESSFUL, State.FAILED, State.SUCCESSFUL]
    assert last_facts(fleet, second, "ledger.refused")["code"] == code


def test_what_a_closed_account_held_is_given_back(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(scenario="decline"))
    fleet.run_until_idle()
    fleet.store.change_account(structs.replace(fleet.store.refs["acme", "customer"], status="closed"))
    fleet.advance(120)
    assert state(fleet, intent) is State.FAILED
    assert fleet.store.balance(1).debits_pending == 0
    audited(fleet)


# Numbers --------------------------------------------------------------------------------------------------------------


def numbered(fleet: Fleet, **numbers: str) -> None:
    for number, name in numbers.items():
        fleet.store.numbers["acme", "virtual", number[1:]] = name


def test_an_intent_may_name_accounts_by_number_and_its_entries_name_the_accounts(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    numbered(fleet, n1="customer", n2="merchant")
    intent = fleet.submit(transfer(source="virtual:1", destination="virtual:2"))
    fleet.advance(60)
    assert state(fleet, intent) is State.SUCCESSFUL
    entries = [entry for t in fleet.store.rows.transitions[intent]
               for entry in msgspec.json.decode(t.record)["facts"].get("entries", ())]  # fmt: skip
    assert {entry["debit"] for entry in entries} == {"customer", "settlement-ngn"}
    reversal = fleet.command("reverse", intent, {"amount": "full", "reason": "x"})
    fleet.advance(10)
    assert verdict(fleet, reversal) == "done"
    audited(fleet)


def test_a_number_and_the_id_of_one_account_are_the_same_account(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    numbered(fleet, n1="customer")
    intent = fleet.submit(book_transfer(source="virtual:1", destination="customer"))
    fleet.advance(5)
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "accounts_must_be_different"


def test_limits_are_counted_by_account_whatever_it_is_called(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(limits=Limits(daily_count_max=1)))
    numbered(fleet, n1="customer")
    first = fleet.submit(transfer(100))
    fleet.advance(30)
    second = fleet.submit(transfer(100, source="virtual:1"))
    fleet.advance(30)
    assert (state(fleet, first), state(fleet, second)) == (State.SUCCESSFUL, State.FAILED)
    assert last_facts(fleet, second, "policy.denied")["reasons"] == ["daily_count_exceeded"]
    assert {key.counter for key in fleet.store.rows.velocity} == {"account/customer"}
    (past,) = decisions_in([t.record for t in fleet.store.rows.transitions[second]])
    assert same(past.judged, again(past, fleet.store.current.policies["acme"], source_type="customer"))


def test_a_number_that_means_nobody_is_no_account(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(book_transfer(destination="virtual:9"))
    fleet.advance(5)
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "account_not_found"


# Deposits -------------------------------------------------------------------------------------------------------------


def test_money_that_comes_in_is_booked_to_whom_its_number_belongs(make_fleet: MakeFleet) -> None:
    fleet = opened(make_fleet, SUSPENSE)
    numbered(fleet, n1="merchant")
    intent = fleet.submit(deposit("virtual:1"), role="operator")
    fleet.advance(5)
    assert state(fleet, intent) is State.SUCCESSFUL
    assert balances(fleet)["merchant"] == (0, 0, 0, 700)
    assert not fleet.store.rows.cases


def test_money_for_an_account_of_another_book_comes_out_of_that_book(make_fleet: MakeFleet) -> None:
    fleet = opened(make_fleet, *ABROAD, SUSPENSE)
    intent = fleet.submit(deposit("eu-merchant"), role="operator")
    fleet.advance(5)
    assert balances(fleet)["eu:settlement-ngn"] == (0, 0, 700, 0)
    reversal = fleet.command("reverse", intent, {"amount": "full", "reason": "x"})
    fleet.advance(10)
    assert verdict(fleet, reversal) == "done"
    assert balances(fleet)["eu:settlement-ngn"] == (0, 0, 700, 700)


# fmt: off
DIVERTED = [
    ("virtual:9",  "account_not_found"),
    ("nobody",     "account_not_found"),
    ("frozen",     "account_frozen"),
    ("gone",       "account_closed"),
    ("dollars",    "currency_mismatch"),
]
# fmt: on


@pytest.mark.parametrize("watched", [False, True], ids=["nobody listens", "an endpoint listens"])
@pytest.mark.parametrize(("destination", "reason"), DIVERTED)
def test_money_that_cannot_be_booked_where_it_was_sent_waits_in_suspense_beside_a_case(
    make_fleet: MakeFleet, destination: str, reason: str, watched: bool
) -> None:
    gone, dollars = account(31, "gone", "customer", status="closed"), account(32, "dollars", "customer")
    wanted = (endpoint("hook", "*"),) if watched else ()
    fleet = opened(make_fleet, SUSPENSE, gone, structs.replace(dollars, currency="USD"),
                   config=configuration(endpoints=wanted))  # fmt: skip
    intent = fleet.submit(deposit(destination), role="operator")
    fleet.advance(5)
    assert state(fleet, intent) is State.SUCCESSFUL
    assert balances(fleet)["suspense-ngn"] == (0, 0, 0, 700)
    (case,) = fleet.store.rows.cases.values()
    assert (case.row.kind, case.row.detail["reason"], case.row.detail["sent_to"]) == (
        "deposit_unmatched", reason, destination,
    )  # fmt: skip
    fleet.advance(120)
    assert "review.closed" in events(fleet, intent)
    reversal = fleet.command("reverse", intent, {"amount": "full", "reason": "sent back"})
    fleet.advance(10)
    assert verdict(fleet, reversal) == "done"
    assert balances(fleet)["suspense-ngn"] == (0, 0, 700, 700)
    audited(fleet)


def test_without_a_suspense_account_a_deposit_is_refused_for_what_is_wrong(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(deposit("nobody"), role="operator")
    fleet.advance(5)
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "account_not_found"


# Monitors -------------------------------------------------------------------------------------------------------------


RICH = Monitor("r" * 32, "posted", "at_least", 150)


def monitored(fleet: Fleet, **monitors: Monitor) -> None:
    for name, monitor in monitors.items():
        ref = fleet.store.refs["acme", name]
        fleet.store.change_account(structs.replace(ref, monitors=(monitor,)))


@pytest.mark.parametrize("watched", [False, True], ids=["nobody listens", "an endpoint listens"])
def test_a_crossing_is_told_once_on_the_intent_behind_it(make_fleet: MakeFleet, watched: bool) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "balance.*"),) if watched else ()))
    before = fleet.store.balance(1).credits_posted
    low = Monitor("m" * 32, "available", "below", before - 50)
    monitored(fleet, customer=low, merchant=RICH)
    intents = [fleet.submit(book_transfer(100)) for _ in range(3)]
    fleet.advance(200)
    told = {
        (intents.index(intent), facts["account"], facts["balance"])
        for intent, found in fleet.store.rows.transitions.items()
        for t in found
        if t.event == "balance.crossed"
        for facts in [msgspec.json.decode(t.record)["facts"]]
    }
    assert told == {(0, "customer", str(before - 100)), (1, "merchant", "200")}
    assert [state(fleet, one) for one in intents] == [State.SUCCESSFUL] * 3
    assert all("review.closed" in events(fleet, one) for one in intents)
    assert len(fleet.performed.calls) == (2 if watched else 0)
    audited(fleet)


def test_a_crossing_in_the_middle_of_a_payment_keeps_nobody_waiting(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    before = fleet.store.balance(1).credits_posted
    monitored(fleet, customer=Monitor("m" * 32, "available", "below", before), merchant=RICH)
    intent = fleet.submit(transfer())
    fleet.advance(9)  # sooner than any state is asked for again
    assert state(fleet, intent) is State.SUCCESSFUL
    found = events(fleet, intent)
    assert found[found.index("ledger.reserved") + 1] == found[found.index("ledger.posted") + 1] == "balance.crossed"
    assert fleet.transaction(intent).held == 0


def test_a_crossing_is_decided_on_the_balance_as_it_is(make_fleet: MakeFleet) -> None:
    """Others have added to the account while a draft was on its way: nothing is told of a balance that never was."""
    fleet = make_fleet()
    monitored(fleet, merchant=Monitor("r" * 32, "posted", "at_least", 100))
    fleet.submit(book_transfer(10))
    fleet.advance(1)
    fleet.store.book(fleet.store.refs["acme", "liquidity-ngn"], fleet.store.refs["acme", "merchant"], 1_000)
    assert not fleet.workers[0].engine.memory.beliefs.doubted
    intent = fleet.submit(book_transfer(95))
    fleet.advance(1)
    assert state(fleet, intent) is State.SUCCESSFUL
    assert "balance.crossed" not in events(fleet, intent)
    assert fleet.workers[0].engine.memory.beliefs.doubted, "what it believed was not so"


def test_an_account_without_monitors_tells_of_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    fleet.advance(60)
    assert "balance.crossed" not in events(fleet, intent)
    assert all(not ref.monitors for ref in ACCOUNTS)
    assert VelocityKey("acme", "account/customer", fleet.now.date().isoformat(), "NGN") in fleet.store.rows.velocity
