"""Parties and counterparties in the engine: what a change of either does to intents, from the next decision on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, configuration, last_facts, transfer
from zentra.bench.twins.fleet import START, Fleet
from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.lists import ListEntry, ListInfo, NameList, digest_of_list
from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.intents.terms import Counterparty, Leg
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.policy.rules import Rule
from zentra.runtime.ports import Configuration

HERON = ListEntry("heron", "person", ("Jorunn Voransky",))


def screened(rules: Compliance, *entries: ListEntry, at: datetime | None = None) -> Configuration:
    """Return a world whose tenant's rules hold `compliance`, with one list."""
    base = configuration()
    policy = structs.replace(base.policies["acme"], compliance=rules)
    info = ListInfo("test", 1, digest_of_list(entries), at or datetime(2200, 1, 1, tzinfo=UTC), len(entries))
    lists = {"test": NameList(info, entries)} if entries else {}
    return structs.replace(base, policies={"acme": policy}, lists=lists)


def give_party(fleet: Fleet, account: str, kyc: str, screening: str, until: datetime | None = None) -> None:
    """Put a party behind an account, or change it; known from the next commit on."""
    ref = fleet.store.refs["acme", account]
    fleet.store.refs["acme", account] = structs.replace(ref, party=PartyRef(f"p-{account}", kyc, screening, until))
    fleet.store.configure(fleet.store.current)


def test_an_approval_that_has_run_out_is_none_for_the_next_decision(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(screened(Compliance(kyc_required=True)))
    rules = Rule(
        name="known", when={"field": "source.kyc", "op": "==", "value": "expired"}, outcome="deny", reason="old"
    )
    give_party(fleet, "customer", "approved", "clear", until=START + timedelta(seconds=60))
    before = fleet.submit(transfer())
    fleet.advance(30)
    assert fleet.events(before)[-1] == "review.closed"
    fleet.advance(40)
    late = fleet.submit(transfer())
    fleet.advance(1)
    facts = last_facts(fleet, late, "policy.review")
    assert facts["reasons"] == ["kyc_expired"]
    assert facts["diligence"]["source"] == {"party": "p-customer", "kyc": "expired", "screening": "clear"}
    base = fleet.store.current
    policy = structs.replace(base.policies["acme"], compliance=None, rules=(rules,))
    fleet.store.configure(structs.replace(base, policies={"acme": policy}))
    refused = fleet.submit(transfer())
    fleet.advance(1)
    assert last_facts(fleet, refused, "policy.denied")["reasons"] == ["old"]


def outcome(fleet: Fleet, intent: str) -> str:
    return str(fleet.transaction(intent).state)


def test_a_party_that_changes_is_another_party_for_the_next_decision(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(screened(Compliance(kyc_required=True, screen="all"), HERON))
    named = transfer(counterparty=Counterparty("Ulrika Denholm"))
    give_party(fleet, "customer", "approved", "clear")
    before = fleet.submit(named)
    fleet.advance(30)
    assert fleet.events(before)[-1] == "review.closed"
    give_party(fleet, "customer", "approved", "possible_match")
    held_up = fleet.submit(named)
    fleet.advance(1)
    assert outcome(fleet, held_up) == "REVIEW"
    assert last_facts(fleet, held_up, "policy.review")["reasons"] == ["party_possible_match"]
    give_party(fleet, "customer", "approved", "true_match")
    denied = fleet.submit(named)
    fleet.advance(1)
    assert last_facts(fleet, denied, "policy.denied")["reasons"] == ["party_true_match"]
    assert fleet.events(before)[-1] == "review.closed", "history stays as it is"


def test_an_approved_review_of_a_possible_match_goes_on_and_one_of_a_true_match_does_not(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(screened(Compliance(screen="counterparties"), HERON))
    intents = [fleet.submit(transfer(counterparty=Counterparty("VORANSKY Jorunn"))) for _ in range(2)]
    fleet.advance(1)
    assert {outcome(fleet, intent) for intent in intents} == {"REVIEW"}
    facts = last_facts(fleet, intents[0], "policy.review")
    assert facts["reasons"] == ["counterparty_possible_match"]
    assert facts["diligence"]["hits"] == [
        {"cleared": False, "digest": HERON.digest, "entry": "heron", "list": "test", "score": 1000}
    ]
    verdict = {"verdict": "approved", "round": 1, "reason": "another person"}
    fleet.command("decide_review", intents[0], verdict, principal="ops")
    fleet.advance(5)
    assert "ledger.posted" in fleet.events(intents[0])
    give_party(fleet, "customer", "approved", "true_match")
    fleet.command("decide_review", intents[1], verdict, principal="ops")
    fleet.advance(5)
    assert fleet.events(intents[1])[-2:] == ["policy.denied", "review.closed"]


@pytest.mark.parametrize(
    ("rules", "name", "reasons"),
    [
        (Compliance(screen="counterparties"), None, ["counterparty_missing"]),
        (Compliance(screen="counterparties"), "???", ["counterparty_unscreenable"]),
        (Compliance(kyc_required=True), None, ["party_missing"]),
        (Compliance(screen="counterparties", lists=("ofac",)), "Ulrika Denholm", ["list_absent"]),
    ],
)
def test_what_cannot_be_known_is_for_a_person(
    make_fleet: MakeFleet, rules: Compliance, name: str | None, reasons: list[str]
) -> None:
    fleet = make_fleet(screened(rules, HERON))
    intent = fleet.submit(transfer() if name is None else transfer(counterparty=Counterparty(name)))
    fleet.advance(1)
    assert last_facts(fleet, intent, "policy.review")["reasons"] == reasons


def test_a_list_that_is_too_old_clears_nobody(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(screened(Compliance(screen="counterparties"), HERON, at=datetime(2000, 1, 1, tzinfo=UTC)))
    intent = fleet.submit(transfer(counterparty=Counterparty("Ulrika Denholm")))
    fleet.advance(1)
    assert last_facts(fleet, intent, "policy.review")["reasons"] == ["list_stale"]


def test_money_within_the_tenant_needs_no_counterparty_and_both_parties(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(screened(Compliance(kyc_required=True, screen="all"), HERON))
    give_party(fleet, "customer", "approved", "clear")
    within = transfer(kind=IntentKind.BOOK_TRANSFER)
    missing = fleet.submit(within)
    fleet.advance(1)
    assert last_facts(fleet, missing, "policy.review")["reasons"] == ["party_missing", "party_missing"]
    give_party(fleet, "merchant", "approved", "false_positive")
    done = fleet.submit(within)
    fleet.advance(1)
    assert "ledger.posted" in fleet.events(done)


def test_whoever_is_in_a_leg_of_a_journal_is_looked_at(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(screened(Compliance(kyc_required=True, screen="all"), HERON))
    for name in ("customer", "merchant"):
        give_party(fleet, name, "approved", "clear")
    give_party(fleet, "poor", "denied", "clear")
    legs = (Leg(source="customer", destination="merchant", minor="5", currency="NGN"),
            Leg(source="merchant", destination="poor", minor="5", currency="NGN"))  # fmt: skip
    intent = fleet.submit(transfer(10, kind=IntentKind.JOURNAL, legs=legs))
    fleet.advance(1)
    facts = last_facts(fleet, intent, "policy.denied")
    assert facts["reasons"] == ["kyc_denied"]
    assert facts["diligence"]["others"] == [{"party": "p-poor", "kyc": "denied", "screening": "clear"}]
