"""The life of an intent, stage by stage, as tables: what is asked for, the records it leaves, where the money is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.actors.world import ACCOUNTS, MakeFleet, balances, configuration, last_facts, transfer
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.policy import Limits
from zentra.runtime.ports import Configuration

BEGUN = ["ingress.accepted", "policy.accepted"]
SENT = [*BEGUN, "ledger.reserved", "provider.routed"]
BOOK = IntentKind.BOOK_TRANSFER
OK, NO = "SUCCESSFUL", "FAILED"

TOOK = [*SENT, "provider.callback"]  # its first word: that it took the payment, or did not

# fmt: off
PATHS = [
    ("transfer",           transfer(),                          [*TOOK, "provider.callback", "ledger.posted"],   OK),
    ("book transfer",      transfer(kind=BOOK),                 [*BEGUN, "ledger.posted"],                       OK),
    ("over the limit",     transfer(10_000_001),                [BEGUN[0], "policy.started", "policy.denied"],   NO),
    ("over a day's limit", transfer(2_000_001),                 [BEGUN[0], "policy.started", "policy.denied"],   NO),
    ("no funds",           transfer(source="poor"),             [*BEGUN, "ledger.refused"],                      NO),
    ("frozen",             transfer(source="frozen"),           [*BEGUN, "ledger.refused"],                      NO),
    ("no such source",     transfer(source="nobody"),           [*BEGUN, "ledger.refused"],                      NO),
    ("no such target",     transfer(destination="nobody"),      [*BEGUN, "ledger.refused"],                      NO),
    ("onto itself",        transfer(destination="customer"),    [*BEGUN, "ledger.refused"],                      NO),
    ("no corridor",        transfer(kind=IntentKind.PAYMENT),   [*BEGUN, "ledger.reserved", "ledger.released"],  NO),
    ("declined",           transfer(scenario="decline"),        [*TOOK, "provider.callback", "ledger.released"], NO),
    ("not accepted",       transfer(scenario="reject"),         [*TOOK, "provider.failover", "provider.callback",
                                                                 "ledger.released"],                             NO),
    ("late success",       transfer(scenario="timeout_then_success"),
                                                                [*SENT, "provider.callback", "ledger.posted"],   OK),
]
# fmt: on


@pytest.mark.parametrize(
    ("command", "expected", "lifecycle"), [row[1:] for row in PATHS], ids=[row[0] for row in PATHS]
)
def test_an_intent_takes_its_path_and_is_sealed(
    make_fleet: MakeFleet, command: IntentCommand, expected: list[str], lifecycle: str
) -> None:
    fleet = make_fleet()
    intent = fleet.submit(command)
    fleet.advance(30)
    assert fleet.events(intent)[: len(expected) + 1] == [*expected, "review.closed"]
    assert fleet.transaction(intent).state.lifecycle == lifecycle
    assert not fleet.store.rows.timers
    if lifecycle == NO:
        assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)
        assert all((usage.count, usage.minor) == (0, 0) for usage in fleet.store.rows.velocity.values())


def test_the_125000_of_the_domain_are_reserved_posted_and_settled(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(funds=200_000)
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    held = balances(fleet)
    assert (held["customer"], held["settlement-ngn"]) == ((125_000, 0, 0, 200_000), (0, 125_000, 0, 0))
    assert held["merchant"] == (0, 0, 0, 0)
    fleet.advance(1)
    moved = balances(fleet)
    assert moved["customer"] == (0, 0, 125_000, 200_000)
    assert moved["settlement-ngn"] == (0, 0, 125_000, 125_000)
    assert moved["merchant"] == (0, 0, 0, 125_000)
    assert [(p.kind, p.pending, p.posted) for p in fleet.store.rows.postings.values() if p.intent == intent] == [
        ("reserve", 125_000, 0),
        ("post", -125_000, 125_000),
        ("settle", 0, 125_000),
    ]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (transfer(source="poor"), "insufficient_funds"),
        (transfer(source="frozen"), "account_frozen"),
        (transfer(source="nobody"), "account_not_found"),
        (transfer(destination="customer"), "accounts_must_be_different"),
        (transfer(source="poor", kind=BOOK), "insufficient_funds"),
    ],
)
def test_the_first_objection_is_the_answer(make_fleet: MakeFleet, command: IntentCommand, code: str) -> None:
    fleet = make_fleet()
    intent = fleet.submit(command)
    fleet.run_until_idle()
    assert last_facts(fleet, intent, "ledger.refused")["code"] == code


def test_an_account_that_does_not_exist_is_a_denial_with_names(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.submit(transfer(source="nobody"), principal="mallory")
    fleet.run_until_idle()
    assert [(d.tenant, d.actor, d.action, d.reason) for d in fleet.store.rows.denials] == [
        ("acme", "mallory", "ledger.reserve", "not_found")
    ]


def test_an_account_opened_after_a_refusal_is_found(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.submit(transfer(destination="later"))
    fleet.run_until_idle()
    merchant = next(ref for ref in ACCOUNTS if ref.account_id == "merchant")
    fleet.store.open_account(type(merchant)(9, "acme", "later", "merchant", "NGN", "credit", True))
    intent = fleet.submit(transfer(destination="later"))
    fleet.advance(5)
    assert fleet.transaction(intent).state is State.SUCCESSFUL


def test_what_a_day_may_carry_is_counted_under_lock_and_given_back(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intents = [fleet.submit(transfer(900_000)) for _ in range(3)]  # in one tick: two fit into the day
    fleet.advance(5)
    states = [fleet.transaction(intent).state for intent in intents]
    assert sorted(states) == [State.FAILED, State.SUCCESSFUL, State.SUCCESSFUL]
    refused = fleet.submit(transfer(900_000, scenario="decline"))
    fleet.advance(5)
    assert last_facts(fleet, refused, "policy.denied")["reasons"] == ["daily_amount_exceeded"]


def test_a_refused_intent_gives_its_share_of_the_day_back(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    for _ in range(3):  # each would take half of the day
        fleet.submit(transfer(999_999, scenario="decline"))
        fleet.advance(5)
    assert [usage.minor for usage in fleet.store.rows.velocity.values()] == [0]
    intent = fleet.submit(transfer(999_999))
    fleet.advance(5)
    assert fleet.transaction(intent).state is State.SUCCESSFUL


def test_midnight_opens_a_new_window_and_a_share_returns_to_its_own(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.now = fleet.now.replace(hour=23, minute=59, second=59)
    late = fleet.submit(transfer(999_999, scenario="decline"))
    fleet.run_until_idle()
    fleet.now += timedelta(seconds=1)  # the decline comes after midnight
    early = fleet.submit(transfer(999_998))
    fleet.advance(5)
    used = {key.day: (usage.count, usage.minor) for key, usage in fleet.store.rows.velocity.items()}
    assert used == {"2026-01-05": (0, 0), "2026-01-06": (1, 999_998)}
    assert [fleet.transaction(intent).state for intent in (late, early)] == [State.FAILED, State.SUCCESSFUL]


def test_without_limits_nothing_is_counted(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(limits=Limits()))
    fleet.submit(transfer())
    fleet.advance(5)
    assert fleet.store.rows.velocity == {}


def test_a_rail_that_did_not_accept_is_followed_by_the_next(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.rails["alpha"].book.available = False
    intent = fleet.submit(transfer())
    fleet.advance(5)
    assert fleet.transaction(intent).state is State.SUCCESSFUL
    assert [(a.rail, a.status) for a in fleet.transaction(intent).attempts] == [
        ("alpha", "not_accepted"),
        ("beta", "succeeded"),
    ]
    assert sum(fleet.rails["beta"].paid.values()) == 1
    assert not fleet.rails["alpha"].paid


def test_the_policy_version_in_force_is_the_one_recorded(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.submit(transfer())
    fleet.run_until_idle()
    stricter = configuration(limits=Limits(transaction_minor_max=1))
    fleet.store.configure(Configuration(0, stricter.policies, stricter.corridors, stricter.endpoints, stricter.rails))
    intent = fleet.submit(transfer())  # the worker has not heard of it: the commit tells
    fleet.run_until_idle()
    assert last_facts(fleet, intent, "policy.denied")["reasons"] == ["transaction_limit_exceeded"]


def test_one_tick_of_many_intents_equals_many_ticks_of_one(make_fleet: MakeFleet) -> None:
    seen = []
    for events_max in (1, 3, 1_000):
        fleet = make_fleet(events_max=events_max)
        for number in range(12):
            fleet.submit(transfer(1_000 + number, scenario=("success", "decline", "reject")[number % 3]))
        fleet.advance(10)
        seen.append(balances(fleet))
    assert seen[0] == seen[1] == seen[2]
