"""Journals, conditions, dates, conversions, corrections and forced reversals, through the engine, as tables."""

# A table is read down its columns.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, account, audited, balances, configuration, last_facts, transfer, verdict
from zentra.bench.twins.fleet import START, Fleet
from zentra.runtime.intents.command import IntentCommand, parse_intent
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.conversion import FxRate, Quote
from zentra.runtime.ports import Configuration

QUOTES: dict[str, Quote] = {}
RATE = FxRate("acme", "NGN", "USD", "0.00065", 50, 1_000, START, 3600, "desk", 7)


def dollars(number: int, name: str, type_: str) -> AccountRef:
    """Return an account in USD."""
    guarded = type_ == "customer"
    return structs.replace(account(number, name, type_), currency="USD", guarded=guarded)


MORE = (
    dollars(21, "fee-usd", "fee"),
    dollars(22, "liquidity-usd", "liquidity"),
    dollars(23, "dollars", "customer"),
    account(24, "closed", "customer", status="closed"),
    account(25, "lent", "customer", overdraft_limit=500),
)


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    return opened(make_fleet)


def opened(make_fleet: MakeFleet, config: Configuration | None = None) -> Fleet:
    """Return a fleet with accounts in two currencies, and a rate."""
    made = make_fleet(structs.replace(config or configuration(), rates={"acme": (RATE,)}))
    for ref in MORE:
        made.store.open_account(ref)
    made.rules = structs.replace(made.rules, open_quote=QUOTES.get)
    for worker in made.workers:
        worker.engine.rules = made.rules
    return made


def asked(**body: Any) -> IntentCommand:
    """Return the command that a body asks for."""
    command, _, violations = parse_intent(body)
    assert command is not None, violations
    return command


def journal(*legs: tuple[Any, ...], **more: Any) -> IntentCommand:
    """Return a journal of (source, destination, amount) or (source, destination, amount, currency)."""
    named = ("source", "destination", "amount", "currency")
    given = [dict(zip(named, leg, strict=False)) for leg in legs]
    return asked(kind="journal", legs=given, **({"currency": "NGN"} | more))


def ended(fleet: Fleet, command: IntentCommand, **who: Any) -> tuple[str, str]:
    """Return the intent and how it ended: its state, or the code of the ledger's refusal."""
    intent = fleet.submit(command, **who)
    fleet.run_until_idle()
    state = fleet.transaction(intent).state
    if state is State.FAILED and "ledger.refused" in fleet.events(intent):
        return intent, str(last_facts(fleet, intent, "ledger.refused")["code"])
    return intent, str(state)


def held(fleet: Fleet, name: str) -> int:
    """Return what an account has, posted."""
    _, _, debits, credits = balances(fleet)[name]
    return credits - debits


def given(fleet: Fleet, kind: str, intent: str, body: dict[str, Any], principal: str = "ops") -> str:
    """Return the code of a command."""
    command = fleet.command(kind, intent, body, principal=principal)
    fleet.run_until_idle()
    return verdict(fleet, command)


# Journals -------------------------------------------------------------------------------------------------------------

ALL = 5_000_000  # what the customer has

# fmt: off
JOURNALS: list[tuple[str, list[tuple[Any, ...]], str]] = [
    ("one leg",                [("customer", "merchant", 5)],                                         "SUCCESSFUL"),
    ("three legs",             [("customer", "merchant", 5), ("customer", "poor", 6), ("merchant", "poor", 1)], "SUCCESSFUL"),
    ("out before in",          [("merchant", "poor", 7), ("customer", "merchant", 7)],                "SUCCESSFUL"),
    ("round trip",             [("poor", "merchant", 9), ("merchant", "poor", 9)],                    "SUCCESSFUL"),
    ("all there is, in parts", [("customer", "merchant", ALL - 1), ("customer", "poor", 1)],          "SUCCESSFUL"),
    ("one more",               [("customer", "merchant", ALL), ("customer", "poor", 1)],              "insufficient_funds"),
    ("two currencies",         [("customer", "merchant", 5), ("liquidity-usd", "dollars", 3, "USD")], "SUCCESSFUL"),
    ("to itself",              [("customer", "merchant", 5), ("poor", "poor", 1)],                    "accounts_must_be_different"),
    ("nobody",                 [("customer", "merchant", 5), ("customer", "nobody", 1)],              "account_not_found"),
    ("closed",                 [("customer", "merchant", 5), ("customer", "closed", 1)],              "account_closed"),
    ("frozen",                 [("customer", "merchant", 5), ("frozen", "poor", 1)],                  "account_frozen"),
    ("another currency",       [("customer", "merchant", 5), ("customer", "dollars", 1)],             "currency_mismatch"),
    # Two objections apply, and the leg that comes first has the one that stands later.
    ("frozen, then closed",    [("frozen", "poor", 1), ("customer", "closed", 1)],                    "account_closed"),
    ("closed, then nobody",    [("customer", "closed", 1), ("customer", "nobody", 1)],                "account_not_found"),
    ("nobody, then itself",    [("customer", "nobody", 1), ("poor", "poor", 1)],                      "accounts_must_be_different"),
    ("currency, then frozen",  [("customer", "dollars", 1), ("frozen", "poor", 1)],                   "account_frozen"),
    ("too little, then currency", [("poor", "merchant", 1), ("customer", "dollars", 1)],              "currency_mismatch"),
]
# fmt: on


@pytest.mark.parametrize(("legs", "end"), [row[1:] for row in JOURNALS], ids=[row[0] for row in JOURNALS])
def test_a_journal_is_booked_as_a_whole_or_not_at_all(fleet: Fleet, legs: list[tuple[Any, ...]], end: str) -> None:
    before = balances(fleet)
    intent, outcome = ended(fleet, journal(*legs), role="operator")
    assert outcome == end
    if end != "SUCCESSFUL":
        assert balances(fleet) == before
        assert fleet.transaction(intent).posted == 0
        return
    entries = last_facts(fleet, intent, "ledger.posted")["entries"]
    assert [(e["debit"], e["credit"], int(e["posted"])) for e in entries] == [leg[:3] for leg in legs]
    moved = {name: held(fleet, name) - (after[3] - after[2]) for name, after in before.items()}
    for name, change in moved.items():
        assert change == sum(leg[2] * ((leg[1] == name) - (leg[0] == name)) for leg in legs)


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_leg_out_of_a_system_account_is_an_operators_wherever_it_stands(fleet: Fleet, place: int) -> None:
    legs: list[tuple[Any, ...]] = [("customer", "merchant", 1)] * 5
    legs.insert(place, ("liquidity-ngn", "poor", 1_000))
    intent = fleet.submit(journal(*legs), role="developer")
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.FAILED
    assert last_facts(fleet, intent, "policy.denied")["reasons"] == ["source_not_permitted"]


def test_journals_of_one_tick_see_what_those_before_them_left(fleet: Fleet) -> None:
    first = fleet.submit(journal(("customer", "merchant", ALL)))
    second = fleet.submit(journal(("customer", "poor", 1)))
    third = fleet.submit(journal(("merchant", "customer", 2), ("customer", "poor", 2)))
    fleet.run_until_idle()
    assert [fleet.transaction(intent).state.name for intent in (first, second, third)] == [
        "SUCCESSFUL", "FAILED", "SUCCESSFUL",
    ]  # fmt: skip


# Reversals ------------------------------------------------------------------------------------------------------------

TWO = [("customer", "merchant", 70), ("customer", "poor", 30)]
# fmt: off
REVERSALS: list[tuple[str, list[tuple[Any, ...]], list[str], list[str], State]] = [
    ("full",           TWO,     ["full"],        ["done"],                        State.REVERSED),
    ("by its amount",  TWO,     ["100"],         ["done"],                        State.REVERSED),
    ("twice",          TWO,     ["full", "full"], ["done", "already_reversed"],   State.REVERSED),
    ("in part",        TWO,     ["70"],          ["reversal_indivisible"],        State.SUCCESSFUL),
    ("too much",       TWO,     ["101"],         ["exceeds_original"],            State.SUCCESSFUL),
    ("one leg, parts", TWO[:1], ["30", "40"],    ["done", "done"],                State.REVERSED),
    ("one leg, part",  TWO[:1], ["30", "41"],    ["done", "exceeds_original"],    State.SUCCESSFUL),
]
# fmt: on


@pytest.mark.parametrize(
    ("legs", "amounts", "codes", "state"), [row[1:] for row in REVERSALS], ids=[row[0] for row in REVERSALS]
)
def test_a_journal_goes_back_as_a_whole_and_once(
    fleet: Fleet, legs: list[tuple[Any, ...]], amounts: list[str], codes: list[str], state: State
) -> None:
    before = balances(fleet)
    intent, _ = ended(fleet, journal(*legs))
    assert [given(fleet, "reverse", intent, {"amount": amount}) for amount in amounts] == codes
    assert fleet.transaction(intent).state is state
    if state is State.REVERSED:
        assert {name: held(fleet, name) for name in before} == {n: b[3] - b[2] for n, b in before.items()}


def test_a_reversal_is_judged_by_what_all_its_postings_leave(fleet: Fleet) -> None:
    intent, _ = ended(fleet, journal(("customer", "merchant", 70), ("merchant", "poor", 70)))
    assert given(fleet, "reverse", intent, {}) == "done"  # the merchant has nothing and is left with nothing
    intent, _ = ended(fleet, journal(("customer", "merchant", 70), ("customer", "poor", 30)))
    ended(fleet, journal(("poor", "merchant", 1)))
    assert given(fleet, "reverse", intent, {}) == "insufficient_funds"


# fmt: off
FORCES: list[tuple[dict[str, Any], str]] = [
    ({"force": True, "approved_by": "boss"},  "done"),
    ({"force": True, "approved_by": "ops"},   "force_not_approved"),  # by whoever asks
    ({"force": True},                         "force_not_approved"),
    ({"approved_by": "boss"},                 "insufficient_funds"),  # approved, but not asked for
    ({},                                      "insufficient_funds"),
]
# fmt: on


@pytest.mark.parametrize(("body", "code"), FORCES)
@pytest.mark.parametrize("kind", ["journal", "book_transfer", "transfer"])
def test_force_takes_the_payee_below_its_limit_only_where_another_has_approved(
    fleet: Fleet, kind: str, body: dict[str, Any], code: str
) -> None:
    if kind == "journal":
        command = journal(("customer", "merchant", 100), ("customer", "poor", 50))
    else:
        command = transfer(100, kind=IntentKind(kind))
    intent, _ = ended(fleet, command)
    fleet.advance(5)
    ended(fleet, journal(("merchant", "lent", 40)))
    assert given(fleet, "reverse", intent, body) == code
    if code == "done":
        assert held(fleet, "merchant") == -40
        facts = last_facts(fleet, intent, "ledger.reversal")
        assert {entry["posting"] for entry in facts["entries"]} == {"forced_reversal"}
        assert facts["approved_by"] == "boss"
        assert fleet.transaction(intent).state is State.REVERSED
        assert ended(fleet, journal(("customer", "merchant", 10)))[1] == "SUCCESSFUL"  # who is below it may receive
        assert ended(fleet, journal(("merchant", "poor", 1)))[1] == "insufficient_funds"  # and not spend
    else:
        assert held(fleet, "merchant") == 60


# Conditions -----------------------------------------------------------------------------------------------------------


def on(account_id: str, of: str = "available", **bounds: Any) -> dict[str, Any]:
    return {"account": account_id, "of": of, **bounds}


# fmt: off
CONDITIONS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("just enough is left",   [on("customer", min=ALL - 100)],                        "done"),
    ("one too little",        [on("customer", min=ALL - 99)],                         "balance_condition_failed"),
    ("just not too much",     [on("merchant", max=100)],                              "done"),
    ("one too much",          [on("merchant", max=99)],                               "balance_condition_failed"),
    ("exactly so",            [on("merchant", min=100, max=100)],                     "done"),
    ("posted",                [on("customer", "posted", max=ALL - 100)],              "done"),
    ("pending",               [on("customer", "pending", min=0, max=0)],              "done"),
    ("below nothing",         [on("merchant", min=-5, max=5)],                        "balance_condition_failed"),
    ("of a bystander",        [on("poor", max=0)],                                    "done"),
    ("the second fails",      [on("poor", max=0), on("poor", min=1)],                 "balance_condition_failed"),
    ("of nobody",             [on("nobody", max=0)],                                  "account_not_found"),
    ("of what is not read",   [on("liquidity-ngn", max=0)],                           "balance_condition_unreadable"),
]
# fmt: on


@pytest.mark.parametrize(("conditions", "code"), [row[1:] for row in CONDITIONS], ids=[row[0] for row in CONDITIONS])
@pytest.mark.parametrize("kind", ["journal", "book_transfer"])
def test_a_condition_is_judged_on_what_the_transaction_leaves(
    fleet: Fleet, kind: str, conditions: list[dict[str, Any]], code: str
) -> None:
    body: dict[str, Any] = {"kind": kind, "currency": "NGN", "conditions": conditions}
    leg = {"source": "customer", "destination": "merchant", "amount": 100}
    before = balances(fleet)
    _, outcome = ended(fleet, asked(**body, **({"legs": [leg]} if kind == "journal" else leg)))
    assert outcome == ("SUCCESSFUL" if code == "done" else code)
    assert (balances(fleet) == before) == (code != "done")


@pytest.mark.parametrize(("least", "end"), [(ALL - 100, "posted"), (ALL - 99, "balance_condition_failed")])
def test_a_transfer_that_a_rail_carries_keeps_its_conditions_when_it_reserves(
    fleet: Fleet, least: int, end: str
) -> None:
    conditions = [on("customer", min=least), on("customer", "pending", max=-100)]
    command = asked(kind="transfer", amount=100, currency="NGN", source="customer", destination="merchant",
                    conditions=conditions)  # fmt: skip
    intent, outcome = ended(fleet, command)
    fleet.advance(5)
    if end == "posted":
        assert fleet.transaction(intent).state is State.SUCCESSFUL
    else:
        assert outcome == end
        assert all(usage.count == 0 for usage in fleet.store.rows.velocity.values())


def test_a_maximum_holds_against_another_worker(make_fleet: MakeFleet) -> None:
    """More than a worker believed is as good a reason to decide again as less."""
    fleet = opened(make_fleet)
    ended(fleet, journal(("customer", "merchant", 10)))  # it has seen the merchant's balance and believes it
    merchant, liquidity = fleet.store.refs["acme", "merchant"], fleet.store.refs["acme", "liquidity-ngn"]
    fleet.store.book(liquidity, merchant, 50)
    conditions = [on("merchant", max=20)]
    assert ended(fleet, journal(("customer", "merchant", 10), conditions=conditions))[1] == "balance_condition_failed"


def test_insufficient_funds_come_before_a_condition_that_fails(fleet: Fleet) -> None:
    command = journal(("poor", "merchant", 10), conditions=[on("merchant", max=0)])
    assert ended(fleet, command)[1] == "insufficient_funds"


# Effective dates ------------------------------------------------------------------------------------------------------

YESTERDAY = START - timedelta(days=1)

# fmt: off
DATES: list[tuple[datetime, datetime | None, str]] = [
    (YESTERDAY,                       None,                            "SUCCESSFUL"),
    (START - timedelta(days=9_000),   None,                            "SUCCESSFUL"),
    (START + timedelta(seconds=60),   None,                            "SUCCESSFUL"),  # clocks differ that much
    (START + timedelta(seconds=61),   None,                            "effective_at_in_future"),
    (YESTERDAY,                       YESTERDAY,                       "SUCCESSFUL"),
    (YESTERDAY,                       YESTERDAY + timedelta(seconds=1), "period_closed"),
]
# fmt: on


@pytest.mark.parametrize(("effective", "closed", "end"), DATES)
@pytest.mark.parametrize("kind", ["journal", "book_transfer"])
def test_money_counts_from_its_effective_date_which_no_closed_period_takes(
    make_fleet: MakeFleet, kind: str, effective: datetime, closed: datetime | None, end: str
) -> None:
    periods = {} if closed is None else {("acme", "default"): closed, ("acme", "eu"): START}
    fleet = opened(make_fleet, structs.replace(configuration(), closed_until=periods))
    leg = {"source": "customer", "destination": "merchant", "amount": 5}
    body: dict[str, Any] = {"kind": kind, "currency": "NGN", "effective_at": timestamp(effective)}
    intent, outcome = ended(fleet, asked(**body, **({"legs": [leg]} if kind == "journal" else leg)))
    assert outcome == end
    if end == "SUCCESSFUL":
        (posting,) = [p for p in fleet.store.rows.postings.values() if p.intent == intent]
        assert (posting.effective_at, posting.at) == (effective, START)
        (entry,) = last_facts(fleet, intent, "ledger.posted")["entries"]
        assert entry["effective_at"] == timestamp(effective)


# Conversions ----------------------------------------------------------------------------------------------------------


def conversion(minor: int = 1_001_000, **more: Any) -> IntentCommand:
    """Return the sale of naira for dollars; a thousand is the fee."""
    body = {
        "kind": "conversion", "amount": minor, "currency": "NGN", "source": "customer", "destination": "dollars",
        "buy_currency": "USD",
    }  # fmt: skip
    return asked(**(body | more))


def test_a_conversion_is_two_linked_pairs_with_fee_and_spread_of_their_own(fleet: Fleet) -> None:
    intent, outcome = ended(fleet, conversion())
    assert outcome == "SUCCESSFUL"
    facts = last_facts(fleet, intent, "ledger.posted")
    assert [(e["posting"], e["debit"], e["credit"], e["currency"], e["posted"]) for e in facts["entries"]] == [
        ("book", "customer", "liquidity-ngn", "NGN", "1000000"),
        ("conversion_fee", "customer", "fee-ngn", "NGN", "1000"),
        ("book", "liquidity-usd", "dollars", "USD", "646"),  # 650 x 0.995 = 646.75, rounded down
        ("spread", "liquidity-usd", "fee-usd", "USD", "4"),
    ]
    assert facts["priced"] == {
        "sold": "1001000", "bought": "646", "fee": "1000", "spread": "4", "mid": "0.00065", "spread_bps": 50,
        "rate_version": 7,
    }  # fmt: skip
    assert given(fleet, "reverse", intent, {"amount": "1"}) == "reversal_indivisible"
    assert given(fleet, "reverse", intent, {}) == "done"
    assert (held(fleet, "customer"), held(fleet, "dollars"), held(fleet, "fee-usd")) == (ALL, 0, 0)


def quoted(name: str, **changes: Any) -> str:
    quote = Quote("acme", name, "NGN", "USD", "1001000", "0.001", 0, 0, 3, START + timedelta(seconds=30))
    QUOTES[f"token-{name}"] = structs.replace(quote, **changes)
    return f"token-{name}"


@pytest.fixture(autouse=True)
def no_quotes() -> Iterator[None]:
    yield
    QUOTES.clear()


# fmt: off
PRICES: list[tuple[str, dict[str, Any], float, str]] = [
    ("in force",                 {},                                          0,      "646"),
    ("to the second",            {},                                          3600,   "646"),
    ("too old",                  {},                                          3600.1, "rate_stale"),
    ("no such pair",             {"currency": "USD", "source": "dollars", "destination": "customer",
                                  "buy_currency": "NGN"},                     0,      "rate_unknown"),
    ("all of it is the fee",     {"amount": 1_000},                           0,      "conversion_too_small"),
    ("less than a cent",         {"amount": 1_001},                           0,      "conversion_too_small"),
    ("into naira",               {"destination": "merchant"},                 0,      "currency_mismatch"),
    ("too much",                 {"amount": ALL + 1},                         0,      "insufficient_funds"),
    ("a quote",                  {"quote": "token-q", "intent_id": "q"},      0,      "1001"),
    ("a quote, rate too old",    {"quote": "token-late", "intent_id": "late"}, 4_000, "1001"),
    ("a quote that expired",     {"quote": "token-q", "intent_id": "q"},      30,     "quote_expired"),
    ("for another intent",       {"quote": "token-q", "intent_id": "r"},      0,      "quote_invalid"),
    ("for another amount",       {"quote": "token-q", "intent_id": "q", "amount": 5}, 0, "quote_invalid"),
    ("another tenant's",         {"quote": "token-g", "intent_id": "g"},      0,      "quote_invalid"),
    ("none of ours",             {"quote": "token-x", "intent_id": "x"},      0,      "quote_invalid"),
]
# fmt: on


@pytest.mark.parametrize(("more", "later", "end"), [row[1:] for row in PRICES], ids=[row[0] for row in PRICES])
def test_a_conversion_takes_the_quote_it_names_or_the_rate_in_force(
    fleet: Fleet, more: dict[str, Any], later: float, end: str
) -> None:
    quoted("q")
    quoted("late", expires_at=START + timedelta(hours=2))
    quoted("g", tenant="globex")
    before = balances(fleet)
    fleet.now += timedelta(seconds=later)
    intent, outcome = ended(fleet, conversion(**more))
    if end.isdigit():
        facts = last_facts(fleet, intent, "ledger.posted")["priced"]
        assert (facts["bought"], facts.get("quote")) == (end, more.get("intent_id"))
    else:
        assert outcome == end
        assert balances(fleet) == before


# Corrections ----------------------------------------------------------------------------------------------------------


def test_a_correction_is_reviewed_linked_and_final(fleet: Fleet) -> None:
    wrong, _ = ended(fleet, structs.replace(transfer(100, kind=IntentKind.BOOK_TRANSFER), intent_id="wrong"))
    records = [row.record for row in fleet.store.rows.transitions[wrong]]
    right, state = ended(fleet, journal(("merchant", "customer", 40), corrects="wrong"))
    assert state == "REVIEW"
    assert last_facts(fleet, right, "policy.review")["results"]["correction_reviewed"] == "review"
    assert held(fleet, "merchant") == 100
    assert given(fleet, "decide_review", right, {"verdict": "approved", "round": 1, "reason": "seen"}) == "done"
    assert (fleet.transaction(right).state, held(fleet, "merchant")) == (State.SUCCESSFUL, 60)
    assert fleet.store.rows.corrections == {(wrong, right): "acme"}
    assert [row.record for row in fleet.store.rows.transitions[wrong]] == records
    assert given(fleet, "reverse", right, {}) == "reversal_of_reversal"


@pytest.mark.parametrize("named", ["nothing", "itself"])
def test_what_is_corrected_is_there_and_is_something_else(fleet: Fleet, named: str) -> None:
    command = journal(("customer", "merchant", 40), corrects=named, intent_id="itself")
    intent = fleet.submit(command)
    fleet.run_until_idle()
    given(fleet, "decide_review", intent, {"verdict": "approved", "round": 1, "reason": "seen"})
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "corrected_not_found"
    assert fleet.store.rows.corrections == {}


def test_another_tenants_intent_cannot_be_corrected(fleet: Fleet) -> None:
    fleet.submit(structs.replace(transfer(100), intent_id="theirs"), tenant="globex")
    intent = fleet.submit(journal(("customer", "merchant", 40), corrects="theirs"))
    fleet.run_until_idle()
    given(fleet, "decide_review", intent, {"verdict": "approved", "round": 1, "reason": "seen"})
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "corrected_not_found"
    audited(fleet)
