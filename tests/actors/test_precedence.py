"""What a hold or a transaction has come to is said before anything is said of what a command asks for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.actors.test_holding import ABROAD, CLOSED, DAY, DOLLARS, capture, hold, placed, void
from tests.actors.world import MakeFleet, balances, last_facts, transfer, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.command import parse_intent
from zentra.runtime.intents.vocabulary import IntentKind, State

# fmt: off
STANDS = [
    ("no hold",      "hold_not_found"),
    ("not placed",   "hold_not_found"),
    ("captured",     "hold_already_posted"),
    ("voided",       "hold_already_voided"),
    ("late",         "hold_expired"),
    ("booked late",  "hold_expired"),
]
LATER: list[dict[str, Any]] = [  # each would be refused if the hold stood
    {"amount": "1", "destination": ""},
    {"amount": "1", "destination": "nobody"},
    {"amount": "1", "destination": "customer"},
    {"amount": "1", "destination": "shut"},
    {"amount": "1", "destination": "dollars"},
    {"amount": "1", "destination": "abroad"},
    {"amount": "10001", "destination": "merchant"},
]
EARLIER = [("0", "amount_zero"), ("-1", "amount_negative"), (str(2**63), "amount_overflow")]
# fmt: on


def stand(make_fleet: MakeFleet, stands: str) -> tuple[Fleet, str]:
    """Return a fleet and an intent that stands so."""
    fleet = make_fleet()
    for ref in (CLOSED, DOLLARS, ABROAD):
        fleet.store.open_account(ref)
    if stands in ("no hold", "not placed"):
        intent = fleet.submit(transfer() if stands == "no hold" else hold(10_000, source="poor"))
        fleet.run_until_idle()
        return fleet, intent
    intent = placed(fleet, hold(10_000, destination=""))
    if stands == "captured":
        assert capture(fleet, intent, destination="merchant") == "done"
    elif stands == "voided":
        assert void(fleet, intent) == "done"
    elif stands == "late":
        fleet.now += timedelta(seconds=DAY + 1)  # no timer has fired
    elif stands == "booked late":
        fleet.advance(DAY + 1)
    return fleet, intent


@pytest.mark.parametrize(("stands", "code"), STANDS)
def test_how_a_hold_ended_is_said_before_what_is_wrong_with_a_capture(
    make_fleet: MakeFleet, stands: str, code: str
) -> None:
    fleet, intent = stand(make_fleet, stands)
    assert [capture(fleet, intent, **body) for body in LATER] == [code] * len(LATER)
    assert void(fleet, intent) == code


@pytest.mark.parametrize(("stands", "code"), STANDS)
def test_what_is_wrong_with_an_amount_is_said_before_how_a_hold_ended(
    make_fleet: MakeFleet, stands: str, code: str
) -> None:
    fleet, intent = stand(make_fleet, stands)
    assert [capture(fleet, intent, amount, destination="nobody") for amount, _ in EARLIER] == [
        one for _, one in EARLIER
    ]
    assert capture(fleet, intent, 1, destination="merchant") == code


@pytest.mark.parametrize("body", LATER)
def test_each_of_these_captures_is_refused_of_a_hold_that_stands(make_fleet: MakeFleet, body: dict[str, Any]) -> None:
    fleet, intent = stand(make_fleet, "stands")
    before = balances(fleet)
    assert capture(fleet, intent, **body) not in ("done", *(code for _, code in STANDS))
    assert balances(fleet) == before


# Reversals ------------------------------------------------------------------------------------------------------------

# fmt: off
REVERSALS: list[tuple[str, str, str]] = [
    # what it is,               amount,   code
    ("declined",                "999999", "transaction_not_found"),
    ("correction in review",    "999999", "transaction_not_found"),  # and one day the reversal of a reversal
    ("correction",              "999999", "reversal_of_reversal"),   # and more than the original
    ("correction",              "1",      "reversal_of_reversal"),
    ("given back",              "999999", "already_reversed"),       # and more than the original
    ("given back, spent",       "1",      "already_reversed"),       # and there are no funds
    ("posted, spent",           "999999", "exceeds_original"),       # and there are no funds
    ("posted, spent",           "100",    "insufficient_funds"),
    ("posted",                  "101",    "exceeds_original"),
    ("posted",                  "100",    "done"),
]
# fmt: on


def _booked(fleet: Fleet, minor: int, source: str, destination: str, **more: Any) -> str:
    intent = fleet.submit(
        transfer(minor, kind=IntentKind.BOOK_TRANSFER, source=source, destination=destination, **more)
    )
    fleet.run_until_idle()
    return intent


def _given(fleet: Fleet, kind: str, intent: str, body: dict[str, Any]) -> str:
    command = fleet.command(kind, intent, body)
    fleet.run_until_idle()
    return verdict(fleet, command)


def _reversible(fleet: Fleet, what: str) -> str:
    if what == "declined":
        return _booked(fleet, 100, "poor", "merchant")
    if what.startswith("correction"):
        _booked(fleet, 100, "customer", "merchant", intent_id="wrong")
        leg = {"source": "merchant", "destination": "customer", "amount": 40}
        command, _, violations = parse_intent(
            {"kind": "journal", "legs": [leg], "currency": "NGN", "corrects": "wrong"}
        )
        assert command is not None, violations
        intent = fleet.submit(command)
        fleet.run_until_idle()
        assert fleet.transaction(intent).state is State.REVIEW
        if what == "correction":
            assert (
                _given(fleet, "decide_review", intent, {"verdict": "approved", "round": 1, "reason": "seen"}) == "done"
            )
        return intent
    intent = _booked(fleet, 100, "customer", "merchant")
    if what.startswith("given back"):
        assert _given(fleet, "reverse", intent, {"amount": "full"}) == "done"
    elif what.endswith("spent"):
        spent = _booked(fleet, 100, "merchant", "poor")
        assert last_facts(fleet, spent, "ledger.posted")
    return intent


@pytest.mark.parametrize(("what", "amount", "code"), REVERSALS)
def test_the_first_objection_to_a_reversal_is_the_answer(
    make_fleet: MakeFleet, what: str, amount: str, code: str
) -> None:
    fleet = make_fleet()
    intent = _reversible(fleet, what)
    before = balances(fleet)
    assert _given(fleet, "reverse", intent, {"amount": amount, "reason": "asked"}) == code
    assert (balances(fleet) == before) == (code != "done")
