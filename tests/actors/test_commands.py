"""Commands on what exists, as tables: state, command, answer, and where the money is afterwards."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest

from tests.actors.world import MakeFleet, balances, last_facts, outcome, transfer, verdict
from zentra.actors.resolving import CaseResolution
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.messages import CommandGiven
from zentra.runtime.reviews import EXPIRES_AFTER as REVIEW_EXPIRES_AFTER

HIGH = 1_500_000  # above the review threshold
EMPTY = "0" * 31 + "f"


def bring_to(fleet: Fleet, state: State) -> str:
    """Return an intent that stands in `state`."""
    scenario = {State.SUCCESSFUL: "success", State.FAILED: "decline"}.get(state, "silent")
    intent = fleet.submit(transfer(HIGH if state is State.REVIEW else 125_000, scenario=scenario))
    fleet.events_max = 1
    worker = fleet.workers[0]
    for _ in range(100):
        if fleet.transaction(intent).state is state:
            fleet.events_max = 1_000
            return intent
        worker.take()
        if not worker.tick():
            fleet.advance(1)
    raise AssertionError(f"never came to {state}")


# fmt: off
CANCELS = [
    (State.ACCEPTED,   "done",            "intent.cancelled"),
    (State.RESERVING,  "done",            "intent.cancelled"),
    (State.ROUTING,    "done",            "ledger.released"),
    (State.REVIEW,     "done",            "intent.cancelled"),
    (State.SUBMITTED,  "not_cancellable", None),
    (State.SUCCESSFUL, "not_cancellable", None),
    (State.FAILED,     "not_cancellable", None),
]
# fmt: on


@pytest.mark.parametrize(("state", "code", "event"), CANCELS)
def test_an_intent_can_be_cancelled_until_a_rail_was_asked(
    make_fleet: MakeFleet, state: State, code: str, event: str | None
) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, state)
    pending = list(fleet.workers[0].inbox)
    fleet.workers[0].inbox.clear()  # the command overtakes what the state itself asked for
    fleet.workers[0].source.take_nowait(1_000)
    command = fleet.command("cancel", intent, principal="dev", role="developer")
    fleet.workers[0].take()
    fleet.workers[0].inbox.extend(pending)
    fleet.run_until_idle()
    assert verdict(fleet, command) == code
    if event is not None:
        assert fleet.transaction(intent).state is State.FAILED
        records = [json.loads(row.record) for row in fleet.store.rows.transitions[intent]]
        assert [record["cause"] for record in records if record["event"] == event] == [command]
        assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)
        assert all(usage.count == 0 for usage in fleet.store.rows.velocity.values())
        assert all(review["status"] == "cancelled" for review in fleet.store.rows.reviews.values())


def test_a_review_holds_everything_back_until_it_is_approved(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.REVIEW)
    assert (balances(fleet)["customer"], fleet.rails["alpha"].submits.total()) == ((0, 0, 0, 5_000_000), 0)
    body = {"verdict": "approved", "round": 1, "reason": "known customer"}
    assert verdict(fleet, _run(fleet, "decide_review", intent, body, principal="ops")) == "done"
    fleet.advance(5)
    assert fleet.transaction(intent).state is State.SUBMITTED
    facts = last_facts(fleet, intent, "review.approved")
    assert (facts["waives"], facts["decided_by"]) == (["review_threshold"], "ops")
    assert last_facts(fleet, intent, "policy.accepted")["results"]["review_threshold"] == "waived"
    assert fleet.store.rows.reviews[intent]["status"] == "approved"


# fmt: off
VERDICTS = [
    ({"verdict": "rejected", "round": 1, "reason": "no"},  "ops", "done",            State.FAILED),
    ({"verdict": "approved", "round": 1, "reason": "me"},  "dev", "self_approval",   State.REVIEW),
    ({"verdict": "approved", "round": 2, "reason": "old"}, "ops", "review_not_open", State.REVIEW),
]
# fmt: on


@pytest.mark.parametrize(("body", "principal", "code", "state"), VERDICTS)
def test_a_review_is_decided_by_somebody_else_in_its_round(
    make_fleet: MakeFleet, body: dict[str, object], principal: str, code: str, state: State
) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.REVIEW)
    assert verdict(fleet, _run(fleet, "decide_review", intent, body, principal=principal)) == code
    assert fleet.transaction(intent).state is state
    assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)


@pytest.mark.parametrize(("late", "code"), [(-1, "done"), (0, "review_not_open"), (1, "review_not_open")])
def test_a_review_that_has_run_out_is_not_decided_however_late_its_timer_is(
    make_fleet: MakeFleet, late: int, code: str
) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.REVIEW)
    referred = fleet.transaction(intent).referred_at
    assert referred is not None
    fleet.now = referred + REVIEW_EXPIRES_AFTER + timedelta(microseconds=late)  # no timer has fired
    body = {"verdict": "approved", "round": 1, "reason": ""}
    assert verdict(fleet, _run(fleet, "decide_review", intent, body, principal="ops")) == code


def test_two_deciders_make_one_decision(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.REVIEW)
    first = fleet.command("decide_review", intent, {"verdict": "rejected", "round": 1, "reason": ""}, principal="a")
    second = fleet.command("decide_review", intent, {"verdict": "approved", "round": 1, "reason": ""}, principal="b")
    fleet.run_until_idle()
    assert sorted([verdict(fleet, first), verdict(fleet, second)]) == ["done", "review_not_open"]


def test_a_review_that_nobody_decides_expires_after_72_hours(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.REVIEW)
    fleet.advance(72 * 3600 - 60)
    assert fleet.transaction(intent).state is State.REVIEW
    fleet.advance(120)
    assert fleet.transaction(intent).state is State.FAILED
    assert fleet.store.rows.reviews[intent]["status"] == "expired"


def test_approval_may_still_meet_an_empty_account(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(funds=100)
    intent = bring_to(fleet, State.REVIEW)
    _run(fleet, "decide_review", intent, {"verdict": "approved", "round": 1, "reason": ""})
    assert fleet.transaction(intent).state is State.FAILED
    assert last_facts(fleet, intent, "ledger.refused")["code"] == "insufficient_funds"


# fmt: off
REVERSALS = [
    ("full",            ["full"],             ["done"],                           State.REVERSED,   0),
    ("twice",           ["full", "full"],     ["done", "already_reversed"],       State.REVERSED,   0),
    ("in part",         ["25000"],            ["done"],                           State.SUCCESSFUL, 100_000),
    ("in two parts",    ["25000", "100000"],  ["done", "done"],                   State.REVERSED,   0),
    ("part, then rest", ["25000", "full"],    ["done", "done"],                   State.REVERSED,   0),
    ("too much",        ["125001"],           ["exceeds_original"],               State.SUCCESSFUL, 125_000),
    ("parts too much",  ["100000", "25001"],  ["done", "exceeds_original"],       State.SUCCESSFUL, 25_000),
    ("nothing",         ["0"],                ["amount_zero"],                    State.SUCCESSFUL, 125_000),
    ("below nothing",   ["-1"],               ["amount_negative"],                State.SUCCESSFUL, 125_000),
]
# fmt: on


@pytest.mark.parametrize("kind", [IntentKind.TRANSFER, IntentKind.BOOK_TRANSFER])
@pytest.mark.parametrize(
    ("amounts", "codes", "state", "left"), [row[1:] for row in REVERSALS], ids=[row[0] for row in REVERSALS]
)
def test_a_reversal_gives_back_at_most_what_was_posted(
    make_fleet: MakeFleet, kind: IntentKind, amounts: list[str], codes: list[str], state: State, left: int
) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(kind=kind))
    fleet.advance(5)
    given = [_run(fleet, "reverse", intent, {"amount": amount, "reason": "return"}) for amount in amounts]
    assert [verdict(fleet, command) for command in given] == codes
    assert fleet.transaction(intent).state is state
    _, _, debits, credits = balances(fleet)["merchant"]
    assert credits - debits == left
    assert len(fleet.store.rows.leaves) == 1 + sum(code == "done" for code in codes)  # an addendum for each


def test_a_book_transfer_is_reversed_where_the_tenant_has_no_settlement_account(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    del fleet.store.refs["acme", "settlement-ngn"]
    intent = fleet.submit(transfer(kind=IntentKind.BOOK_TRANSFER))
    fleet.run_until_idle()
    command = _run(fleet, "reverse", intent, {"amount": "full"})
    assert (verdict(fleet, command), fleet.transaction(intent).state) == ("done", State.REVERSED)


@pytest.mark.parametrize("repeats", [2, 3])
def test_the_same_reversal_acts_once(make_fleet: MakeFleet, repeats: int) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    fleet.advance(5)
    fleet.repeats = repeats
    command = _run(fleet, "reverse", intent, {"amount": "25000"})
    assert verdict(fleet, command) == "done"
    assert balances(fleet)["merchant"] == (0, 0, 25_000, 125_000)


@pytest.mark.parametrize("state", [State.REVIEW, State.SUBMITTED, State.FAILED])
def test_only_posted_money_can_be_reversed(make_fleet: MakeFleet, state: State) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, state)
    assert verdict(fleet, _run(fleet, "reverse", intent, {"amount": "full"})) == "transaction_not_found"


def test_a_reversal_needs_the_funds_at_the_destination(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    fleet.advance(5)
    fleet.submit(transfer(100_000, kind=IntentKind.BOOK_TRANSFER, source="merchant", destination="poor"))
    fleet.run_until_idle()
    assert verdict(fleet, _run(fleet, "reverse", intent, {"amount": "full"})) == "insufficient_funds"
    assert verdict(fleet, _run(fleet, "reverse", intent, {"amount": "25000"})) == "done"


@pytest.mark.parametrize("kind", ["cancel", "reverse", "decide_review", "replay_delivery"])
def test_what_does_not_exist_is_not_found(make_fleet: MakeFleet, kind: str) -> None:
    fleet = make_fleet()
    assert verdict(fleet, _run(fleet, kind, EMPTY)) == "not_found"


@pytest.mark.parametrize(("kind", "body"), [("cancel", {}), ("reverse", {"amount": "full"}), ("resolve_case", None)])
def test_another_tenants_object_is_as_unknown_as_none(
    make_fleet: MakeFleet, kind: str, body: dict[str, str] | None
) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.SUBMITTED)
    fleet.report(outcome(intent, "succeeded", event="evt-1", minor=1))
    fleet.run_until_idle()
    case = next(iter(fleet.store.rows.cases))
    given = body if body is not None else {"case": case, "resolution": "dismissed", "reason": "", "intent": intent}
    before = fleet.transaction(intent)
    command = _run(fleet, kind, intent, given, tenant="globex")
    assert verdict(fleet, command) in ("not_found", "case_not_open")
    assert fleet.transaction(intent) == before
    assert fleet.cases() == ["provider_contradiction"]


def test_a_case_beside_no_intent_is_resolved_once_and_by_its_tenant(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.emit_raw(1, "policy", b"\xc1")
    fleet.run_until_idle()
    case = next(iter(fleet.store.rows.cases))
    body = {"case": case, "resolution": "dismissed", "reason": "seen"}
    _run(fleet, "resolve_case", case, body, principal="stranger")  # of a tenant, and the case is of none
    assert fleet.cases() == ["poison_message"]
    for principal in ("first", "second"):
        _run(fleet, "resolve_case", case, body, principal=principal, tenant="-")
    assert [(file.status, file.operator) for file in fleet.store.rows.cases.values()] == [("resolved", "first")]


@pytest.mark.parametrize(
    ("resolution", "state", "merchant"),
    [("succeeded", State.SUCCESSFUL, 125_000), ("declined", State.FAILED, 0)],
)
def test_an_operators_proof_settles_what_the_rail_never_answered(
    make_fleet: MakeFleet, resolution: str, state: State, merchant: int
) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(scenario="never_answers"))
    fleet.advance(400)
    case = next(iter(fleet.store.rows.cases))
    body = {"case": case, "resolution": resolution, "reason": "bank statement 7", "intent": intent}
    assert verdict(fleet, _run(fleet, "resolve_case", intent, body)) == "done"
    assert fleet.transaction(intent).state is state
    assert balances(fleet)["merchant"] == (0, 0, 0, merchant)
    assert fleet.cases() == []
    again = _run(fleet, "resolve_case", intent, body)
    assert verdict(fleet, again) == "case_not_open"


@pytest.mark.parametrize(
    ("resolution", "code"),
    [("succeeded", "not_awaiting_provider"), ("declined", "not_awaiting_provider"), ("retry", "nothing_to_retry")],
)
def test_a_case_beside_a_settled_intent_takes_neither_proof_nor_retry(
    make_fleet: MakeFleet, resolution: str, code: str
) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.SUCCESSFUL)
    fleet.report(outcome(intent, "declined", event="evt-late"))
    fleet.run_until_idle()
    case, before = next(iter(fleet.store.rows.cases)), fleet.transaction(intent)
    body = {"case": case, "resolution": resolution, "reason": "seen", "intent": intent}
    assert verdict(fleet, _run(fleet, "resolve_case", intent, body)) == code
    assert fleet.transaction(intent) == before
    assert fleet.cases() == ["provider_contradiction"]


def test_what_a_rail_says_after_an_operators_proof_is_decided_after_it(make_fleet: MakeFleet) -> None:
    """A command waits for locked balances and a report does not: it has to wait all the same."""
    fleet = make_fleet()
    intent = fleet.submit(transfer(scenario="never_answers"))
    fleet.advance(400)
    case = next(iter(fleet.store.rows.cases))
    body = CaseResolution(case, "declined", "bank statement 7", intent)
    given = CommandGiven("c" * 32, "acme", "resolve_case", case, "ops", "operator", msgspec.json.encode(body), intent)
    fleet.emit(fleet.partition_of(intent), "command", [given])
    fleet.report(outcome(intent, "succeeded", event="evt-1"))
    fleet.run_until_idle()
    assert verdict(fleet, given.command) == "done"
    assert last_facts(fleet, intent, "provider.callback")["trust"] == "body_signed"
    assert fleet.cases() == ["provider_contradiction"]


def test_a_refused_posting_is_a_case_and_is_posted_when_somebody_retries(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = bring_to(fleet, State.SUBMITTED)
    merchant = fleet.store.refs["acme", "merchant"]
    fleet.store.refs["acme", "merchant"] = type(merchant)(
        2, "acme", "merchant", "merchant", "NGN", "credit", True, 0, "closed"
    )
    fleet.store.configure(fleet.store.current)
    fleet.report(outcome(intent, "succeeded", event="evt-1"))
    fleet.advance(60)  # the state's own timer asks again and again, and says it once
    assert (fleet.transaction(intent).state, fleet.cases()) == (State.CONFIRMED, ["posting_refused"])
    assert fleet.events(intent).count("ledger.refused") == 1
    fleet.store.refs["acme", "merchant"] = merchant
    fleet.store.configure(fleet.store.current)
    case = next(iter(fleet.store.rows.cases))
    body = {"case": case, "resolution": "retry", "reason": "open again", "intent": intent}
    assert verdict(fleet, _run(fleet, "resolve_case", intent, body)) == "done"
    assert (fleet.transaction(intent).state, fleet.cases()) == (State.SUCCESSFUL, [])


def _run(fleet: Fleet, kind: str, subject: str, body: object = None, **who: str) -> str:
    command = fleet.command(kind, subject, body, **who)  # type: ignore[arg-type]  # who names text alone
    fleet.run_until_idle()
    return command
