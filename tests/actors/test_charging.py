"""What is charged on the way of an intent: postings by step, funds, agreed fees, refunds. Every fleet is audited."""

# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, balances, configuration, last_facts, transfer, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.fees.quoting import FeeFacts, quote
from zentra.runtime.fees.schedule import FeeMatch, FeeRule, FeeSchedule, violations_of
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.terms import FeeTerms
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.ports import Configuration

BOOK, TRANSFER = IntentKind.BOOK_TRANSFER, IntentKind.TRANSFER
NGN = FeeMatch(currencies=("NGN",))
AMOUNT, FUNDS = 125_000, 5_000_000

FLAT = FeeRule(name="flat", model="flat", flat_minor=500, applies=NGN)
PAYEE = FeeRule(name="discount", model="percentage", rate_bps="100", payer="payee", applies=NGN)
UPFRONT = FeeRule(name="upfront", model="flat", flat_minor=70, charged="on_submission", applies=NGN)
KEPT = structs.replace(UPFRONT, name="kept", flat_minor=30, on_failure="keep", on_reversal="keep")
TAX = FeeRule(name="vat", model="percentage", rate_bps="750", of=("flat",), on_reversal="full")


def charging(*rules: FeeRule, version: int = 4) -> Configuration:
    schedule = FeeSchedule(rules, version)
    assert violations_of(schedule) == []
    return structs.replace(configuration(), fees={"acme": schedule})


def postings(fleet: Fleet, intent: str) -> list[tuple[str, str, str, int, int]]:
    return [
        (p.kind, p.debit.account_id, p.credit.account_id, p.pending, p.posted)
        for p in fleet.store.rows.postings.values()
        if p.intent == intent
    ]


def reverse(fleet: Fleet, intent: str, amount: str = "full") -> str:
    command = fleet.command("reverse", intent, {"amount": amount})
    fleet.run_until_idle()
    return verdict(fleet, command)


# fmt: off
PATHS: list[tuple[str, tuple[FeeRule, ...], dict[str, Any], State, list[tuple[str, str, str, int, int]]]] = [
    ("payer, rail confirms", (FLAT,), {}, State.SUCCESSFUL, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("fee_reserve", "customer", "fee-ngn", 500, 0),
        ("post",        "customer", "settlement-ngn", -AMOUNT, AMOUNT),
        ("settle",      "settlement-ngn", "merchant", 0, AMOUNT),
        ("fee",         "customer", "fee-ngn", -500, 500)]),
    ("payer, rail declines", (FLAT,), {"scenario": "decline"}, State.FAILED, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("fee_reserve", "customer", "fee-ngn", 500, 0),
        ("release",     "customer", "settlement-ngn", -AMOUNT, 0),
        ("fee_release", "customer", "fee-ngn", -500, 0)]),
    ("payer, no corridor", (FLAT,), {"kind": IntentKind.PAYMENT}, State.FAILED, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("fee_reserve", "customer", "fee-ngn", 500, 0),
        ("release",     "customer", "settlement-ngn", -AMOUNT, 0),
        ("fee_release", "customer", "fee-ngn", -500, 0)]),
    ("payee, rail confirms", (PAYEE,), {}, State.SUCCESSFUL, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("post",        "customer", "settlement-ngn", -AMOUNT, AMOUNT),
        ("settle",      "settlement-ngn", "merchant", 0, AMOUNT),
        ("fee",         "merchant", "fee-ngn", 0, 1_250)]),
    ("both, and a tax", (FLAT, TAX, PAYEE), {}, State.SUCCESSFUL, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("fee_reserve", "customer", "fee-ngn", 538, 0),
        ("post",        "customer", "settlement-ngn", -AMOUNT, AMOUNT),
        ("settle",      "settlement-ngn", "merchant", 0, AMOUNT),
        ("fee",         "customer", "fee-ngn", -538, 538),
        ("fee",         "merchant", "fee-ngn", 0, 1_250)]),
    ("on submission, refunded or kept", (UPFRONT, KEPT, FLAT), {"scenario": "decline"}, State.FAILED, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("fee_reserve", "customer", "fee-ngn", 500, 0),
        ("fee",         "customer", "fee-ngn", 0, 100),
        ("release",     "customer", "settlement-ngn", -AMOUNT, 0),
        ("fee_release", "customer", "fee-ngn", -500, 0),
        ("fee_refund",  "fee-ngn", "customer", 0, 70)]),
    ("on submission, rail confirms", (UPFRONT,), {}, State.SUCCESSFUL, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("fee",         "customer", "fee-ngn", 0, 70),
        ("post",        "customer", "settlement-ngn", -AMOUNT, AMOUNT),
        ("settle",      "settlement-ngn", "merchant", 0, AMOUNT)]),
    ("book transfer", (FLAT, UPFRONT, PAYEE), {"kind": BOOK}, State.SUCCESSFUL, [
        ("book",        "customer", "merchant", 0, AMOUNT),
        ("fee",         "customer", "fee-ngn", 0, 570),
        ("fee",         "merchant", "fee-ngn", 0, 1_250)]),
    ("another kind", (structs.replace(FLAT, applies=FeeMatch(("payment",), ("NGN",))),), {}, State.SUCCESSFUL, [
        ("reserve",     "customer", "settlement-ngn", AMOUNT, 0),
        ("post",        "customer", "settlement-ngn", -AMOUNT, AMOUNT),
        ("settle",      "settlement-ngn", "merchant", 0, AMOUNT)]),
    ("its corridor", (structs.replace(FLAT, applies=FeeMatch((), ("NGN",), (), ("ng",))),), {"kind": BOOK}, State.SUCCESSFUL, [
        ("book",        "customer", "merchant", 0, AMOUNT)]),
]
# fmt: on


@pytest.mark.parametrize("undrafted", [0, 16], ids=["drafted", "under locks"])
@pytest.mark.parametrize(("rules", "command", "state", "expected"), [r[1:] for r in PATHS], ids=[r[0] for r in PATHS])
def test_fees_are_entries_of_their_own_beside_those_of_the_money(
    make_fleet: MakeFleet, rules: tuple[FeeRule, ...], command: dict[str, Any], state: State,
    expected: list[tuple[str, str, str, int, int]], undrafted: int,
) -> None:  # fmt: skip
    fleet = make_fleet(charging(*rules), undrafted_max=undrafted)
    intent = fleet.submit(transfer(AMOUNT, **command))
    fleet.advance(30)
    tx = fleet.transaction(intent)
    assert (tx.state, tx.fee_held, tx.held) == (state, 0, 0)
    assert postings(fleet, intent) == expected
    assert tx.fee_posted == sum(row[4] for row in expected if row[0] == "fee")
    assert tx.fee_given_back == sum(row[4] for row in expected if row[0] == "fee_refund")
    assert balances(fleet)["fee-ngn"][3] - balances(fleet)["fee-ngn"][2] == tx.fee_posted - tx.fee_given_back


def test_the_record_of_the_reserve_carries_the_lines_and_the_version(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(charging(FLAT, TAX))
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    fees = last_facts(fleet, intent, "ledger.reserved")["fees"]
    assert fees["version"] == 4
    assert [(line["rule"], line["payer"], line["minor"]) for line in fees["lines"]] == [
        ("flat", "payer", "500"),
        ("vat", "payer", "38"),
    ]
    fleet.advance(5)
    assert "fees" not in last_facts(fleet, intent, "ledger.posted")


def test_a_tenant_without_a_schedule_leaves_the_bytes_as_they_were(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    assert "fees" not in last_facts(fleet, intent, "ledger.reserved")


@pytest.mark.parametrize("kind", [TRANSFER, BOOK])
@pytest.mark.parametrize(("funds", "code"), [(AMOUNT + 500, None), (AMOUNT + 499, "insufficient_funds")])
def test_funds_are_judged_on_amount_and_fee(
    make_fleet: MakeFleet, funds: int, code: str | None, kind: IntentKind
) -> None:
    fleet = make_fleet(charging(FLAT), funds=funds)
    intent = fleet.submit(transfer(AMOUNT, kind=kind))
    fleet.advance(30)
    if code is None:
        assert fleet.transaction(intent).state is State.SUCCESSFUL
    else:
        assert last_facts(fleet, intent, "ledger.refused")["code"] == code
        assert postings(fleet, intent) == []


def test_two_that_are_afforded_only_without_fees_do_not_both_pass(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(charging(FLAT), funds=2 * AMOUNT + 999)
    intents = [fleet.submit(transfer(AMOUNT)) for _ in range(2)]
    fleet.advance(30)
    states = sorted(fleet.transaction(intent).state for intent in intents)
    assert states == [State.FAILED, State.SUCCESSFUL]


DIGEST = quote(FeeSchedule((FLAT,), 1), FeeFacts("transfer", AMOUNT, "NGN", None, "", "customer", "merchant")).digest
# fmt: off
AGREED: list[tuple[str, IntentCommand, str | None]] = [
    ("the quoted one",           transfer(fee=FeeTerms(quote_digest=DIGEST)),                               None),
    ("the most, just",           transfer(fee=FeeTerms(max="500")),                                         None),
    ("both",                     transfer(fee=FeeTerms(max="500", quote_digest=DIGEST)),                    None),
    ("the most, exceeded",       transfer(fee=FeeTerms(max="499")),                                         "fee_changed"),
    ("another quote",            transfer(fee=FeeTerms(quote_digest="0" * 64)),                             "fee_changed"),
    ("of another amount",        transfer(AMOUNT + 1, fee=FeeTerms(quote_digest=DIGEST)),                   "fee_changed"),
    # Two objections apply; the one that stands first is the answer.
    ("no such account",          transfer(destination="nobody", fee=FeeTerms(max="0")),                     "account_not_found"),
    ("a frozen account",         transfer(source="frozen", fee=FeeTerms(max="0")),                          "account_frozen"),
    ("one account",              transfer(destination="customer", fee=FeeTerms(max="0")),                   "accounts_must_be_different"),
    ("no funds either",          transfer(source="poor", fee=FeeTerms(max="0")),                            "fee_changed"),
    ("no funds",                 transfer(source="poor", fee=FeeTerms(max="500")),                          "insufficient_funds"),
]
# fmt: on


@pytest.mark.parametrize(("command", "code"), [row[1:] for row in AGREED], ids=[row[0] for row in AGREED])
def test_nothing_is_charged_but_what_was_agreed_to(
    make_fleet: MakeFleet, command: IntentCommand, code: str | None
) -> None:
    fleet = make_fleet(charging(FLAT))
    intent = fleet.submit(command)
    fleet.advance(30)
    if code is None:
        assert fleet.transaction(intent).fee_posted == 500
    else:
        assert last_facts(fleet, intent, "ledger.refused")["code"] == code
        assert postings(fleet, intent) == []


def test_a_quote_of_nothing_holds_where_there_is_no_schedule(make_fleet: MakeFleet) -> None:
    free = quote(FeeSchedule(()), FeeFacts("transfer", AMOUNT, "NGN")).digest
    fleet = make_fleet()
    agreed = fleet.submit(transfer(fee=FeeTerms(quote_digest=free, max="0")))
    other = fleet.submit(transfer(fee=FeeTerms(quote_digest=DIGEST)))
    fleet.advance(30)
    assert fleet.transaction(agreed).state is State.SUCCESSFUL
    assert last_facts(fleet, other, "ledger.refused")["code"] == "fee_changed"


@pytest.mark.parametrize(("status", "code"), [("closed", "account_closed"), ("frozen", "account_frozen")])
def test_a_fee_account_that_takes_nothing_refuses(make_fleet: MakeFleet, status: str, code: str) -> None:
    fleet = make_fleet(charging(FLAT))
    ref = fleet.store.refs["acme", "fee-ngn"]
    fleet.store.refs["acme", "fee-ngn"] = structs.replace(ref, status=status)
    intent = fleet.submit(transfer())
    fleet.advance(5)
    facts = last_facts(fleet, intent, "ledger.refused")
    assert (facts["code"], facts["detail"]) == (code, "fee")


def test_a_tenant_without_a_fee_account_is_refused_by_name(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(charging(FLAT))
    del fleet.store.refs["acme", "fee-ngn"]
    intent = fleet.submit(transfer())
    fleet.advance(5)
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "account_not_found"


def test_the_schedule_of_the_reserve_holds_for_the_whole_life(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(charging(FLAT))
    intent = fleet.submit(transfer())
    fleet.run_until_idle()  # reserved, not answered
    fleet.store.configure(charging(structs.replace(FLAT, flat_minor=9_000), version=5))
    fleet.advance(10)
    tx = fleet.transaction(intent)
    assert (tx.state, tx.fee_posted) == (State.SUCCESSFUL, 500)
    later = fleet.submit(transfer())
    fleet.advance(10)
    assert fleet.transaction(later).fee_posted == 9_000
    assert reverse(fleet, intent) == "done"
    assert fleet.transaction(intent).fee_given_back == 500


# Reversals ------------------------------------------------------------------------------------------------------------

BY_RULE = (
    structs.replace(FLAT, name="full", flat_minor=100, on_reversal="full"),
    structs.replace(FLAT, name="part", flat_minor=100, on_reversal="pro_rata"),
    structs.replace(FLAT, name="none", flat_minor=100, on_reversal="keep"),
)


@pytest.mark.parametrize("kind", [TRANSFER, BOOK])
def test_a_fee_goes_back_as_its_rule_says_and_parts_add_up(make_fleet: MakeFleet, kind: IntentKind) -> None:
    fleet = make_fleet(charging(*BY_RULE))
    intent = fleet.submit(transfer(100, kind=kind))
    fleet.advance(10)
    given = []
    for amount in ("33", "33", "full"):
        before = len(postings(fleet, intent))
        assert reverse(fleet, intent, amount) == "done"
        given.append([row for row in postings(fleet, intent)[before:] if row[0] == "fee_refund"])
    assert given == [
        [("fee_refund", "fee-ngn", "customer", 0, 33)],
        [("fee_refund", "fee-ngn", "customer", 0, 33)],
        [("fee_refund", "fee-ngn", "customer", 0, 34 + 100)],
    ]
    tx = fleet.transaction(intent)
    assert (tx.state, tx.fee_posted, tx.fee_given_back) == (State.REVERSED, 300, 200)
    assert balances(fleet)["customer"][3] - balances(fleet)["customer"][2] == FUNDS - 100


@pytest.mark.parametrize(("on_reversal", "code"), [("pro_rata", "done"), ("keep", "insufficient_funds")])
def test_a_payee_needs_no_funds_for_what_it_gets_back(make_fleet: MakeFleet, on_reversal: Any, code: str) -> None:
    fleet = make_fleet(charging(structs.replace(PAYEE, on_reversal=on_reversal)))
    intent = fleet.submit(transfer())
    fleet.advance(10)
    assert balances(fleet)["merchant"] == (0, 0, 1_250, AMOUNT)
    assert reverse(fleet, intent) == code
    back = [row for row in postings(fleet, intent) if row[0] == "fee_refund"]
    assert back == ([("fee_refund", "fee-ngn", "merchant", 0, 1_250)] if code == "done" else [])


@pytest.mark.parametrize("amount", [str(AMOUNT + 1), "0", "-1", "x"])
def test_a_refused_reversal_gives_no_fee_back(make_fleet: MakeFleet, amount: str) -> None:
    fleet = make_fleet(charging(FLAT))
    intent = fleet.submit(transfer())
    fleet.advance(10)
    before = postings(fleet, intent)
    assert reverse(fleet, intent, amount) != "done"
    assert postings(fleet, intent) == before


def test_a_cancelled_intent_gets_back_what_was_held_and_charged(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(charging(FLAT, UPFRONT))
    intent = fleet.submit(transfer())
    fleet.events_max = 1
    worker = fleet.workers[0]
    while fleet.transaction(intent).state is not State.ROUTING:
        worker.take()
        worker.tick()
    pending = list(worker.inbox)
    worker.inbox.clear()
    worker.source.take_nowait(1_000)
    command = fleet.command("cancel", intent, principal="dev", role="developer")
    worker.take()
    worker.inbox.extend(pending)
    fleet.events_max = 1_000
    fleet.run_until_idle()
    assert verdict(fleet, command) == "done"
    assert balances(fleet)["customer"][0] == 0
    assert fleet.transaction(intent).fee_given_back == 70
