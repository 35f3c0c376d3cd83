"""Journals, conversions and conditions on accounts of books, under numbers, and with monitors."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tests.actors.test_accounts import ABROAD, state
from tests.actors.test_journals import asked, dollars, ended, journal, opened
from tests.actors.world import MakeFleet, audited, balances, configuration, last_facts, transfer
from zentra.bench.twins.fleet import START, Fleet
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ledger.monitors import Monitor

FAR = tuple(
    structs.replace(dollars(number, name, type_), book="eu")
    for number, (name, type_) in enumerate(
        (("eu-dollars", "customer"), ("eu:liquidity-usd", "liquidity"), ("eu:fee-usd", "fee")), start=40
    )
)
NEAR = tuple(structs.replace(ref, id=ref.id + 100) for ref in ABROAD)
FEE = structs.replace(ABROAD[2], id=43, account_id="eu:fee-ngn", type="fee")


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    return abroad(opened(make_fleet))


def abroad(made: Fleet) -> Fleet:
    """Return the fleet with a book abroad, and a number of the merchant."""
    store = made.store
    for ref in (*NEAR, *FAR, FEE):
        store.open_account(structs.replace(ref, guarded=ref.type in ("customer", "merchant")))
    store.book(store.refs["acme", "eu:liquidity-ngn"], store.refs["acme", "eu-customer"], 5_000_000)
    store.numbers["acme", "virtual", "9"] = "merchant"
    store.numbers["acme", "virtual", "8"] = "customer"
    return made


def test_legs_may_name_accounts_by_numbers_and_entries_name_the_accounts(fleet: Fleet) -> None:
    intent, outcome = ended(fleet, journal(("virtual:8", "virtual:9", 70), ("virtual:9", "customer", 20)))
    assert outcome == "SUCCESSFUL"
    entries = last_facts(fleet, intent, "ledger.posted")["entries"]
    assert [(e["debit"], e["credit"]) for e in entries] == [("customer", "merchant"), ("merchant", "customer")]
    fleet.command("reverse", intent, {"amount": "full", "reason": "x"})
    fleet.run_until_idle()
    assert state(fleet, intent) is State.REVERSED
    audited(fleet)


@pytest.mark.parametrize(("legs", "code"), [
    ((("customer", "virtual:8", 5),),                                     "accounts_must_be_different"),
    ((("customer", "virtual:7", 5),),                                     "account_not_found"),
    ((("customer", "merchant", 5), ("customer", "eu-merchant", 5)),       "book_mismatch"),
    ((("customer", "eu-merchant", 5), ("customer", "dollars", 5)),        "currency_mismatch"),
    ((("customer", "merchant", 5), ("eu-customer", "eu-merchant", 5)),    "SUCCESSFUL"),
    ((("customer", "eu-merchant", 999_999_999),),                         "book_mismatch"),
])  # fmt: skip
def test_no_leg_leads_out_of_its_book(fleet: Fleet, legs: tuple[Any, ...], code: str) -> None:
    assert ended(fleet, journal(*legs))[1] == code
    audited(fleet)


def test_a_journal_lacks_by_the_accounts_that_numbers_mean(fleet: Fleet) -> None:
    assert ended(fleet, journal(("virtual:8", "merchant", 999_999_999)))[1] == "insufficient_funds"
    audited(fleet)


@pytest.mark.parametrize(("least", "fails"), [(0, False), (10**12, True)])
@pytest.mark.parametrize(("kind", "source"), [("book_transfer", "virtual:8"), ("transfer", "customer")])
def test_a_condition_may_name_a_number(fleet: Fleet, kind: str, source: str, least: int, fails: bool) -> None:
    conditions = [{"account": "virtual:9", "of": "posted", "min": least}]
    body = {"kind": kind, "source": source, "destination": "merchant", "amount": 5, "currency": "NGN"}
    assert (ended(fleet, asked(**body, conditions=conditions))[1] == "balance_condition_failed") is fails
    audited(fleet)


def test_a_conversion_goes_through_the_house_accounts_of_its_book(fleet: Fleet) -> None:
    body = {
        "kind": "conversion", "amount": 1_001_000, "currency": "NGN", "buy_currency": "USD", "source": "eu-customer",
    }  # fmt: skip
    intent, outcome = ended(fleet, asked(**body, destination="eu-dollars"))
    assert outcome == "SUCCESSFUL"
    touched = {e[side] for e in last_facts(fleet, intent, "ledger.posted")["entries"] for side in ("debit", "credit")}
    assert touched == {
        "eu-customer", "eu:liquidity-ngn", "eu:fee-ngn", "eu:liquidity-usd", "eu-dollars", "eu:fee-usd"
    }  # fmt: skip
    assert ended(fleet, asked(**body, destination="dollars"))[1] == "book_mismatch"
    audited(fleet)


def test_a_journal_trips_a_monitor_by_what_all_its_legs_leave(fleet: Fleet) -> None:
    monitor = Monitor("m" * 32, "posted", "at_least", 100)
    store = fleet.store
    store.change_account(structs.replace(store.refs["acme", "merchant"], monitors=(monitor,)))
    intent, _ = ended(fleet, journal(("customer", "merchant", 150), ("merchant", "customer", 60)))
    assert "balance.crossed" not in fleet.events(intent)
    intent, _ = ended(fleet, journal(("customer", "merchant", 60), ("merchant", "customer", 40)))
    assert last_facts(fleet, intent, "balance.crossed")["balance"] == "110"
    assert balances(fleet)["merchant"][3] - balances(fleet)["merchant"][2] == 110
    audited(fleet)


@pytest.mark.parametrize(("book", "end"), [("eu", "period_closed"), ("default", "SUCCESSFUL")])
def test_only_the_book_of_its_accounts_is_closed_to_a_transaction(make_fleet: MakeFleet, book: str, end: str) -> None:
    config = structs.replace(configuration(), closed_until={("acme", book): START})
    fleet = abroad(opened(make_fleet, config))
    command = transfer(5, source="eu-customer", destination="eu-merchant")
    dated = timestamp(START - timedelta(days=1))
    assert ended(fleet, journal((command.source, command.destination, 5), effective_at=dated))[1] == end
    audited(fleet)
