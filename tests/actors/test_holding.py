"""Holds through the engine: captured, voided, expired, raced, given back, and what is said to whoever comes later."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

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
from zentra.runtime.intents.terms import Condition, HoldTerms
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.ledger.holds import CAPTURES_MAX
from zentra.runtime.policy import Limits, PolicyRules, VelocityKey
from zentra.runtime.ports import Configuration, Expiring

FUNDS = 5_000_000
DAY = 86_400


def hold(minor: int = 10_000, *, seconds: int = DAY, **changes: Any) -> IntentCommand:
    """Return a hold on the customer, for the merchant unless told otherwise."""
    return transfer(minor, kind=IntentKind.HOLD, hold=HoldTerms(seconds), **changes)


def placed(fleet: Fleet, command: IntentCommand) -> str:
    """Return a hold that stands."""
    intent = fleet.submit(command)
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.HELD
    return intent


def capture(fleet: Fleet, intent: str, amount: object = "full", **body: Any) -> str:
    """Capture and return the code of the outcome."""
    command = fleet.command("capture_hold", intent, {"amount": str(amount), **body})
    fleet.run_until_idle()
    return verdict(fleet, command)


def void(fleet: Fleet, intent: str) -> str:
    """Void and return the code of the outcome."""
    command = fleet.command("void_hold", intent, {"reason": "no longer needed"})
    fleet.run_until_idle()
    return verdict(fleet, command)


def reverse(fleet: Fleet, intent: str, amount: object = "full") -> str:
    """Reverse and return the code of the outcome."""
    command = fleet.command("reverse", intent, {"amount": str(amount), "reason": "returned"})
    fleet.run_until_idle()
    return verdict(fleet, command)


def expire(fleet: Fleet, intent: str) -> None:
    """Let the time of a hold come, and what follows."""
    found = fleet.transaction(intent).hold
    assert found is not None
    fleet.advance((found.expires_at - fleet.now).total_seconds())
    fleet.run_until_idle()


def test_a_hold_speaks_for_its_amount_until_it_is_captured(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold(10_000))
    assert balances(fleet)["customer"] == (10_000, 0, 0, FUNDS)
    assert fleet.events(intent) == ["ingress.accepted", "policy.accepted", "ledger.reserved"]
    assert capture(fleet, intent) == "done"
    assert balances(fleet)["customer"] == (0, 0, 10_000, FUNDS)
    assert balances(fleet)["merchant"] == (0, 0, 0, 10_000)
    assert balances(fleet)["settlement-ngn"] == (0, 0, 10_000, 10_000)
    tx = fleet.transaction(intent)
    assert (tx.state, tx.held, tx.posted) == (State.SUCCESSFUL, 0, 10_000)
    assert fleet.store.rows.holds[intent].status == "captured"


def test_several_captures_go_where_they_say_and_the_last_one_gives_back_the_rest(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold(10_000, destination=""))
    assert capture(fleet, intent, 1_000, destination="merchant") == "done"
    assert capture(fleet, intent, 2_000, destination="poor") == "done"
    assert fleet.transaction(intent).state is State.HELD
    assert fleet.store.rows.holds[intent].remaining == 7_000
    assert balances(fleet)["customer"] == (7_000, 0, 3_000, FUNDS)
    assert capture(fleet, intent, 4_000, destination="merchant", final=True, reason="delivered") == "done"
    assert balances(fleet)["customer"] == (0, 0, 7_000, FUNDS)
    assert (balances(fleet)["merchant"][3], balances(fleet)["poor"][3]) == (5_000, 2_000)
    facts = last_facts(fleet, intent, "hold.captured")
    assert [(entry["posting"], entry["pending"], entry["posted"]) for entry in facts["entries"]] == [
        ("post", "-4000", "4000"), ("settle", "0", "4000"), ("release", "-3000", "0"),
    ]  # fmt: skip
    assert (facts["code"], facts["detail"]) == ("hold_captured", "delivered")


# fmt: off
ENDS = [  # how it ended, what had been captured before, where the intent stands, what is said to whoever comes later
    ("capture", 0,     State.SUCCESSFUL, "hold_already_posted"),
    ("capture", 3_000, State.SUCCESSFUL, "hold_already_posted"),
    ("void",    0,     State.FAILED,     "hold_already_voided"),
    ("void",    3_000, State.SUCCESSFUL, "hold_already_voided"),
    ("expire",  0,     State.FAILED,     "hold_expired"),
    ("expire",  3_000, State.SUCCESSFUL, "hold_expired"),
]
# fmt: on


@pytest.mark.parametrize(("way", "before", "state", "code"), ENDS)
def test_a_hold_ends_once_and_says_how_it_ended(
    make_fleet: MakeFleet, way: str, before: int, state: State, code: str
) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold(10_000))
    if before:
        assert capture(fleet, intent, before) == "done"
    {"capture": capture, "void": void, "expire": expire}[way](fleet, intent)
    assert fleet.transaction(intent).state is state
    captured = 10_000 if way == "capture" else before
    assert balances(fleet)["customer"] == (0, 0, captured, FUNDS)
    row = fleet.store.rows.holds[intent]
    assert (row.status, row.remaining, row.captured) == (
        {"capture": "captured", "void": "voided", "expire": "expired"}[way], 0, captured,
    )  # fmt: skip
    for late in (0, 2 * DAY):  # also when its time would have come
        fleet.advance(late)
        assert (capture(fleet, intent), capture(fleet, intent, 1), void(fleet, intent)) == (code,) * 3
    assert balances(fleet)["customer"] == (0, 0, captured, FUNDS)
    assert not any(key[1] == intent for key in fleet.store.rows.timers)


CLOSED = account(7, "shut", "merchant", status="closed")
DOLLARS = structs.replace(account(8, "dollars", "merchant"), currency="USD")
ABROAD = account(9, "abroad", "merchant", book="eu")
PRECEDENCE: list[tuple[str, dict[str, Any], str]] = [  # each row breaks its rule and all that are asked after it
    ("voided", {"amount": "0", "destination": "nobody"}, "amount_zero"),
    ("voided", {"amount": "-5", "destination": "nobody"}, "amount_negative"),
    ("voided", {"amount": str(2**63), "destination": "nobody"}, "amount_overflow"),
    ("transfer", {"amount": "999999", "destination": "nobody"}, "hold_not_found"),
    ("captured", {"amount": "999999", "destination": "nobody"}, "hold_already_posted"),
    ("voided", {"amount": "999999", "destination": "nobody"}, "hold_already_voided"),
    ("late", {"amount": "999999", "destination": "nobody"}, "hold_expired"),
    ("open", {"amount": "999999", "destination": ""}, "destination_missing"),
    ("open", {"amount": "999999", "destination": "nobody"}, "account_not_found"),
    ("open", {"amount": "999999", "destination": "customer"}, "accounts_must_be_different"),
    ("open", {"amount": "999999", "destination": "settlement-ngn"}, "accounts_must_be_different"),
    ("open", {"amount": "999999", "destination": "shut"}, "account_closed"),
    ("open", {"amount": "999999", "destination": "dollars"}, "currency_mismatch"),
    ("open", {"amount": "999999", "destination": "abroad"}, "book_mismatch"),
    ("open", {"amount": "10001", "destination": "merchant"}, "exceeds_hold"),
    ("open", {"amount": "10000", "destination": "merchant"}, "done"),
    ("open", {"amount": "10000", "destination": "frozen"}, "done"),
]


@pytest.mark.parametrize(("stands", "body", "code"), PRECEDENCE)
def test_the_first_objection_to_a_capture_is_the_answer(
    make_fleet: MakeFleet, stands: str, body: dict[str, Any], code: str
) -> None:
    fleet = make_fleet()
    fleet.store.open_account(CLOSED)
    fleet.store.open_account(DOLLARS)
    fleet.store.open_account(ABROAD)
    intent = fleet.submit(transfer() if stands == "transfer" else hold(10_000, destination=""))
    fleet.run_until_idle()
    if stands == "captured":
        assert capture(fleet, intent, destination="merchant") == "done"
    elif stands == "voided":
        assert void(fleet, intent) == "done"
    elif stands == "late":
        fleet.now += timedelta(seconds=DAY + 1)  # no timer has fired
    before = balances(fleet)
    assert capture(fleet, intent, **body) == code
    if code != "done":
        assert balances(fleet) == before or stands == "late"  # whoever is late finds the timer due as well


@pytest.mark.parametrize(("status", "code"), [("frozen", "done"), ("closed", "account_closed")])
def test_a_freeze_stops_what_begins_and_a_close_what_moves(make_fleet: MakeFleet, status: str, code: str) -> None:
    fleet = make_fleet()
    first, second = placed(fleet, hold(10_000)), placed(fleet, hold(5_000, seconds=60))
    fleet.store.refs["acme", "customer"] = structs.replace(ACCOUNTS[0], status=status)
    fleet.store.configure(fleet.store.current)
    assert capture(fleet, first, 1_000) == code
    refused = fleet.submit(hold(1))
    fleet.run_until_idle()
    assert last_facts(fleet, refused, "ledger.refused")["code"] == f"account_{status}"
    assert void(fleet, first) == "done"
    expire(fleet, second)
    assert balances(fleet)["customer"][0] == 0


# fmt: off
INSTANTS = [(-1, "done", "done"), (0, "hold_expired", "hold_expired"), (1, "hold_expired", "hold_expired")]
# fmt: on


@pytest.mark.parametrize(("late", "captured", "voided"), INSTANTS)
def test_a_hold_has_expired_at_its_instant_however_late_its_timer_is(
    make_fleet: MakeFleet, late: int, captured: str, voided: str
) -> None:
    fleet = make_fleet()
    one, other = placed(fleet, hold()), placed(fleet, hold())
    for intent, act, code in ((one, capture, captured), (other, void, voided)):
        found = fleet.transaction(intent).hold
        assert found is not None
        fleet.now = found.expires_at + timedelta(microseconds=late)
        assert act(fleet, intent) == code


def test_a_capture_acts_once(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold(10_000))
    for _ in range(3):
        fleet.command("capture_hold", intent, {"amount": "1000"}, id="c" * 32)
        fleet.run_until_idle()
    assert fleet.transaction(intent).posted == 1_000
    fleet.replay()
    assert fleet.transaction(intent).posted == 1_000
    assert fleet.cases("poison_message") == []


def test_what_was_captured_comes_back_the_newest_capture_first(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold(10_000))
    assert capture(fleet, intent, 4_000) == "done"
    assert reverse(fleet, intent, 1) == "transaction_not_found"  # it stands still: it can be captured or voided
    assert capture(fleet, intent, 5_000, destination="poor", final=True) == "done"
    assert reverse(fleet, intent, 9_001) == "exceeds_original"
    assert reverse(fleet, intent, 6_000) == "done"
    assert (balances(fleet)["poor"], balances(fleet)["merchant"]) == ((0, 0, 5_000, 5_000), (0, 0, 1_000, 4_000))
    assert reverse(fleet, intent, 3_001) == "exceeds_original"
    assert reverse(fleet, intent) == "done"
    assert fleet.transaction(intent).state is State.REVERSED
    assert reverse(fleet, intent) == "already_reversed"
    customer = balances(fleet)["customer"]
    assert customer[3] - customer[2] == FUNDS
    assert capture(fleet, intent) == "hold_already_posted"


def test_a_reversal_that_one_destination_cannot_pay_moves_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold(10_000))
    assert capture(fleet, intent, 4_000) == "done"
    assert capture(fleet, intent, 6_000, destination="poor") == "done"
    spent = fleet.submit(transfer(3_000, kind=IntentKind.BOOK_TRANSFER, source="merchant", destination="customer"))
    fleet.run_until_idle()
    assert fleet.transaction(spent).state is State.SUCCESSFUL
    before = balances(fleet)
    assert reverse(fleet, intent) == "insufficient_funds"
    assert balances(fleet) == before
    assert reverse(fleet, intent, 6_000) == "done"


COUNTED = Configuration(
    version=1,
    policies={"acme": PolicyRules(version=1, limits={"NGN": Limits(daily_minor_max=1_000_000)})},
    corridors=configuration().corridors,
    endpoints={},
    rails=configuration().rails,
)


@pytest.mark.parametrize(
    ("captured", "end", "counted"),
    [(0, "void", (0, 0)), (3_000, "void", (1, 3_000)), (3_000, "expire", (1, 3_000)), (0, "expire", (0, 0)),
     (3_000, "capture", (1, 5_000)), (10_000, "", (1, 10_000))],
)  # fmt: skip
def test_velocity_keeps_what_was_captured_and_gets_back_the_rest(
    make_fleet: MakeFleet, captured: int, end: str, counted: tuple[int, int]
) -> None:
    fleet = make_fleet(COUNTED)
    intent = placed(fleet, hold(10_000))
    key = VelocityKey("acme", "account/customer", fleet.now.date().isoformat(), "NGN")
    usage = fleet.store.rows.velocity
    assert (usage[key].count, usage[key].minor) == (1, 10_000)
    if captured:
        assert capture(fleet, intent, captured) == "done"
    if end == "capture":
        assert capture(fleet, intent, 2_000, final=True) == "done"
    elif end:
        {"void": void, "expire": expire}[end](fleet, intent)
    assert (usage[key].count, usage[key].minor) == counted


@pytest.mark.parametrize("command", ["cancel", "reverse"])
def test_a_hold_that_stands_is_voided_and_neither_cancelled_nor_reversed(make_fleet: MakeFleet, command: str) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold())
    given = fleet.command(command, intent)
    fleet.run_until_idle()
    assert verdict(fleet, given) == {"cancel": "not_cancellable", "reverse": "transaction_not_found"}[command]
    assert fleet.transaction(intent).state is State.HELD


# Funds that an expired hold keeps until its end is booked ------------------------------------------------------------


def crowded(make_fleet: MakeFleet, minor: int = FUNDS, **options: Any) -> tuple[Fleet, str]:
    """Return a fleet whose customer has nothing left but what a hold keeps that has expired and is not booked."""
    fleet = make_fleet(configuration(limits=None), **options)
    intent = placed(fleet, hold(minor, seconds=60))
    fleet.now += timedelta(seconds=61)
    return fleet, intent


@pytest.mark.parametrize("kind", [IntentKind.TRANSFER, IntentKind.BOOK_TRANSFER, IntentKind.HOLD])
@pytest.mark.parametrize("undrafted", [0, 100])
def test_nothing_is_refused_for_a_hold_that_has_expired(
    make_fleet: MakeFleet, kind: IntentKind, undrafted: int
) -> None:
    fleet, expired = crowded(make_fleet, undrafted_max=undrafted)
    terms: dict[str, Any] = {"hold": HoldTerms()} if kind is IntentKind.HOLD else {}
    intents = [fleet.submit(transfer(1_000, kind=kind, **terms)) for _ in range(5)]
    fleet.run_until_idle()  # the timer of the hold has not fired: it was asked to
    assert fleet.events(expired)[-1] != "ledger.reserved"
    assert fleet.transaction(expired).state is State.FAILED
    fleet.advance(1)
    assert all("ledger.refused" not in fleet.events(intent) for intent in intents)
    assert all(fleet.transaction(intent).ordinal > 0 for intent in intents)


def test_what_expired_holds_cannot_make_up_for_is_refused_at_once(make_fleet: MakeFleet) -> None:
    fleet, expired = crowded(make_fleet, minor=1_000)
    intent = fleet.submit(transfer(FUNDS + 1, kind=IntentKind.BOOK_TRANSFER))
    fleet.run_until_idle()
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "insufficient_funds"
    assert fleet.transaction(expired).state is State.HELD


@pytest.mark.parametrize("kind", [IntentKind.TRANSFER, IntentKind.BOOK_TRANSFER, IntentKind.HOLD])
@pytest.mark.parametrize("of", ["available", "pending", "posted"])
def test_no_condition_fails_for_a_hold_that_has_expired(make_fleet: MakeFleet, kind: IntentKind, of: str) -> None:
    """What is posted no hold keeps: a condition on it fails at once."""
    fleet, expired = crowded(make_fleet, minor=FUNDS - 2_000)
    pending = 0 if kind is IntentKind.BOOK_TRANSFER else -1_000
    least = {"available": FUNDS - 1_000, "pending": pending, "posted": FUNDS + 1}[of]
    condition = Condition(account="customer", of=of, min=str(least))
    terms: dict[str, Any] = {"hold": HoldTerms()} if kind is IntentKind.HOLD else {}
    intent = fleet.submit(transfer(1_000, kind=kind, conditions=(condition,), **terms))
    fleet.run_until_idle()
    fleet.advance(1)
    if of == "posted":
        assert last_facts(fleet, intent, "ledger.refused")["code"] == "balance_condition_failed"
        return
    assert "ledger.refused" not in fleet.events(intent)
    assert fleet.transaction(intent).ordinal > 0
    assert fleet.transaction(expired).state is State.FAILED
    short = Condition(account="customer", of=of, min=str(FUNDS + 1))
    other = fleet.submit(transfer(1_000, kind=kind, conditions=(short,), **terms))
    fleet.run_until_idle()
    assert last_facts(fleet, other, "ledger.refused")["code"] == "balance_condition_failed"


def test_a_hold_that_stands_lets_others_be_refused(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(limits=None))
    placed(fleet, hold(FUNDS))
    intents = [fleet.submit(transfer(1, kind=IntentKind.BOOK_TRANSFER)) for _ in range(100)]
    fleet.run_until_idle()
    codes = {last_facts(fleet, intent, "ledger.refused")["code"] for intent in intents}
    assert codes == {"insufficient_funds"}


def test_a_reserve_waits_while_the_owner_of_an_expired_hold_is_away(make_fleet: MakeFleet) -> None:
    fleet, expired = crowded(make_fleet)
    away = fleet.partition_of(expired)
    worker = fleet.workers[0]
    intent = next(
        intent
        for intent in iter(lambda: fleet.submit(transfer(1_000, kind=IntentKind.BOOK_TRANSFER)), "")
        if fleet.partition_of(intent) != away
    )
    lease = worker.leases.pop(away)
    ticks = len(worker.ticks)
    for _ in range(60):
        fleet.now += timedelta(seconds=1)
        fleet.fire_timers()
        fleet.run_until_idle()
    assert fleet.events(intent)[-1] == "policy.accepted"
    assert len(worker.ticks) - ticks < 60  # the pauses double
    worker.leases[away] = lease
    fleet.replace_worker("w2")
    fleet.advance(20)
    assert fleet.events(expired)[-1] == "review.closed"
    assert fleet.transaction(intent).posted == 1_000


def test_a_webhook_about_a_hold_says_how_it_stands(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "hold.*"),)))
    intent = placed(fleet, hold(10_000))
    assert capture(fleet, intent, 3_000) == "done"
    assert capture(fleet, intent, 2_000, final=True) == "done"
    bodies = [json.loads(made.body) for made in fleet.store.rows.deliveries.values() if made.intent == intent]
    found = fleet.transaction(intent).hold
    assert found is not None
    assert [(body["type"], body["data"]["status"], body["data"]["hold"]) for body in bodies] == [
        ("hold.captured", "PROCESSING",
         {"captured": "3000", "remaining": "7000", "expires_at": timestamp(found.expires_at)}),
        ("hold.captured", "SUCCESSFUL",
         {"captured": "5000", "remaining": "0", "expires_at": timestamp(found.expires_at)}),
    ]  # fmt: skip


@pytest.mark.parametrize("undrafted", [0, 100])
def test_a_store_that_is_slow_is_not_asked_for_ever(
    make_fleet: MakeFleet, undrafted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at its clock takes two seconds: what it says of holds is out of date before it is used."""
    fleet = make_fleet(configuration(limits=None), undrafted_max=undrafted)
    asked = 0
    expiring_holds = fleet.store.expiring_holds

    def slow() -> datetime:
        fleet.now += timedelta(seconds=2)
        return fleet.now

    async def counted(accounts: Collection[int]) -> dict[int, Expiring]:
        nonlocal asked
        asked += 1
        return await expiring_holds(accounts)

    intent = fleet.submit(transfer(FUNDS + 1, kind=IntentKind.BOOK_TRANSFER))
    monkeypatch.setattr(fleet.store, "_clock", slow)
    monkeypatch.setattr(fleet.store, "expiring_holds", counted)
    fleet.run_until_idle()
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "insufficient_funds"
    assert 1 < asked < 20
    assert fleet.cases() == []


def test_who_asked_for_an_account_that_is_not_there_is_denied_and_not_who_placed_the_hold(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet()
    intent = placed(fleet, hold())
    command = fleet.command("capture_hold", intent, {"destination": "of-somebody-else"}, principal="clerk")
    fleet.run_until_idle()
    assert verdict(fleet, command) == "account_not_found"
    (denial,) = fleet.store.rows.denials
    assert (denial.actor, denial.action, denial.reason) == ("clerk", "ledger.capture", "not_found")


def test_the_last_of_the_captures_that_a_hold_can_have_ends_it(make_fleet: MakeFleet) -> None:
    """So that the one record that gives all of them back stays small."""
    fleet = make_fleet()
    intent = placed(fleet, hold(1_000))
    for _ in range(CAPTURES_MAX - 1):
        fleet.command("capture_hold", intent, {"amount": "1"})
    fleet.run_until_idle()
    left = 1_000 - CAPTURES_MAX + 1
    assert fleet.transaction(intent).held == left
    assert capture(fleet, intent, 1) == "captures_exhausted"
    assert capture(fleet, intent, left + 1) == "captures_exhausted"
    assert capture(fleet, intent, left + 1, final=True) == "exceeds_hold"
    assert fleet.transaction(intent).held == left
    assert capture(fleet, intent, 1, final=True) == "done"
    assert reverse(fleet, intent) == "done"
    assert balances(fleet)["customer"][2:] == (CAPTURES_MAX, FUNDS + CAPTURES_MAX)
    assert max(len(transition.record) for transition in fleet.store.rows.transitions[intent]) < 64 * 1024
    audited(fleet)
