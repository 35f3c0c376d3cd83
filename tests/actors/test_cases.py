"""Cases about rails, and the people who resolve them: whose word is about which attempt, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.actors.test_outcomes import HELD, KEPT, ONE_RAIL, PAID, awaiting, money, unheard
from tests.actors.world import MakeFleet, configuration, last_facts, outcome, transfer, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State

CONTRADICTION, UNKNOWN = "provider_contradiction", "provider_outcome_unknown"


def left_and_paid(make_fleet: MakeFleet) -> tuple[Fleet, str]:
    """Return an intent that went from alpha, which had not accepted it, to beta, and of which alpha then says that it
    has paid."""
    fleet, intent = unheard(make_fleet)
    fleet.report(outcome(intent, "not_accepted", event="evt-1", minor=None))
    fleet.run_until_idle()
    fleet.report(outcome(intent, "succeeded", event="evt-2"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (HELD, [CONTRADICTION])
    return fleet, intent


def beta(fleet: Fleet, intent: str, status: str, event: str = "evt-9") -> None:
    """Let the second rail say something."""
    fleet.report(outcome(intent, status, event=event, attempt=2, rail="beta"))
    fleet.run_until_idle()


def resolve(fleet: Fleet, intent: str, resolution: str, *, principal: str = "ops", **more: Any) -> str:
    """Resolve the open case of an intent; return the answer."""
    case = next(key for key, file in fleet.store.rows.cases.items() if file.status == "open")
    body = {"case": case, "resolution": resolution, "reason": "statement 7", "intent": intent, **more}
    command = fleet.command("resolve_case", intent, body, principal=principal)
    fleet.run_until_idle()
    return verdict(fleet, command)


def forget(fleet: Fleet, restarted: bool) -> None:
    if restarted:
        fleet.workers[0].engine.memory.distrust()


def told(fleet: Fleet, intent: str) -> tuple[Any, ...]:
    facts = last_facts(fleet, intent, "provider.callback")
    return facts["rail"], facts["attempt"], facts["said"], facts["trust"]


RESTARTED = pytest.mark.parametrize("restarted", [False, True], ids=["the same worker", "another worker"])


@RESTARTED
@pytest.mark.parametrize(
    ("says", "cases"), [("succeeded", [CONTRADICTION]), ("declined", []), ("not_accepted", []), ("pending", [])]
)
def test_the_rail_that_was_left_has_paid_and_the_other_is_asked_on(
    make_fleet: MakeFleet, says: str, cases: list[str], restarted: bool
) -> None:
    fleet, intent = left_and_paid(make_fleet)
    forget(fleet, restarted)
    assert last_facts(fleet, intent, "case.opened")["attempt"] == 1
    assert resolve(fleet, intent, "succeeded") == "done"
    assert told(fleet, intent) == ("alpha", 1, "succeeded", "operator")
    assert (money(fleet), fleet.cases(), fleet.transaction(intent).state) == (PAID, [], State.SUCCESSFUL)
    fleet.performed.polls.clear()
    fleet.advance(60)
    assert {poll.rail for poll in fleet.performed.polls} == {"beta"}
    forget(fleet, restarted)
    beta(fleet, intent, says)
    assert (money(fleet), fleet.cases()) == (PAID, cases)
    if cases:
        assert last_facts(fleet, intent, "case.opened")["attempt"] == 2
    fleet.performed.polls.clear()
    fleet.advance(120)
    assert bool(fleet.performed.polls) is (says == "pending")  # whoever has answered is left alone
    assert fleet.cases() == cases


@pytest.mark.parametrize(
    ("resolution", "code", "cases"),
    [("declined", "done", []), ("succeeded", "done", [CONTRADICTION]), ("dismissed", "done", [])],
)
def test_a_rail_that_never_says_whether_it_paid_as_well_is_a_case_that_a_person_can_end(
    make_fleet: MakeFleet, resolution: str, code: str, cases: list[str]
) -> None:
    fleet, intent = left_and_paid(make_fleet)
    resolve(fleet, intent, "succeeded")
    fleet.advance(400)
    assert fleet.cases() == [UNKNOWN]
    assert last_facts(fleet, intent, "case.opened")["attempt"] == 2
    assert resolve(fleet, intent, resolution) == code
    assert (money(fleet), fleet.cases()) == (PAID, cases)


# fmt: off
AFTER_THE_FIRST_IS_CLEARED: list[tuple[str | None, str | None, dict[str, tuple[int, int, int, int]], list[str]]] = [
    # what the second rail says before and after the operator, the money, the cases
    (None,           None,           HELD, []),
    (None,           "succeeded",    PAID, []),
    (None,           "declined",     KEPT, []),
    ("declined",     None,           KEPT, []),
    ("not_accepted", None,           KEPT, []),
    ("succeeded",    None,           PAID, []),
]
# fmt: on


@RESTARTED
@pytest.mark.parametrize(("before", "after", "expected", "cases"), AFTER_THE_FIRST_IS_CLEARED)
def test_the_rail_that_was_left_has_not_paid_and_nothing_is_released_while_the_other_is_open(
    make_fleet: MakeFleet,
    before: str | None,
    after: str | None,
    expected: dict[str, tuple[int, int, int, int]],
    cases: list[str],
    restarted: bool,
) -> None:
    fleet, intent = left_and_paid(make_fleet)
    if before is not None:
        beta(fleet, intent, before, "evt-8")
    forget(fleet, restarted)
    code = resolve(fleet, intent, "declined")
    if before == "succeeded":  # the money is where the second rail has put it
        assert (code, money(fleet), fleet.cases()) == ("not_awaiting_provider", PAID, [CONTRADICTION])
        return
    assert code == "done"
    assert told(fleet, intent) == ("alpha", 1, "declined", "operator")
    if after is not None:
        assert money(fleet) == HELD
        beta(fleet, intent, after)
    assert (money(fleet), fleet.cases()) == (expected, cases)


def test_the_second_rail_is_asked_at_once_when_the_first_is_cleared(make_fleet: MakeFleet) -> None:
    fleet, intent = left_and_paid(make_fleet)
    fleet.advance(30)
    fleet.performed.polls.clear()
    resolve(fleet, intent, "declined")
    assert [poll.rail for poll in fleet.performed.polls] == ["beta"]


def test_a_rail_that_insists_after_it_was_cleared_is_a_case_again(make_fleet: MakeFleet) -> None:
    fleet, intent = left_and_paid(make_fleet)
    resolve(fleet, intent, "declined")
    fleet.report(outcome(intent, "succeeded", event="evt-3"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (HELD, [CONTRADICTION])
    beta(fleet, intent, "declined")
    assert (money(fleet), fleet.cases()) == (HELD, [CONTRADICTION])


def test_a_doubt_that_was_dismissed_is_asked_about_again_before_anything_is_released(make_fleet: MakeFleet) -> None:
    fleet, intent = left_and_paid(make_fleet)
    assert resolve(fleet, intent, "dismissed") == "done"
    beta(fleet, intent, "declined")
    assert (money(fleet), fleet.cases()) == (HELD, [CONTRADICTION])
    facts = last_facts(fleet, intent, "case.opened")  # it is the first rail that somebody has to look at
    assert (facts["attempt"], facts["rail"], facts["detail"]["rail"]) == (1, "alpha", "alpha")
    assert resolve(fleet, intent, "declined") == "done"
    assert (money(fleet), fleet.cases()) == (KEPT, [])


def test_the_word_of_a_person_on_the_second_rail_releases_nothing_while_the_first_is_in_doubt(
    make_fleet: MakeFleet,
) -> None:
    fleet, intent = left_and_paid(make_fleet)
    resolve(fleet, intent, "dismissed")
    fleet.advance(400)
    assert fleet.cases() == [UNKNOWN]
    assert resolve(fleet, intent, "declined") == "done"
    assert told(fleet, intent) == ("beta", 2, "declined", "operator")
    assert (money(fleet), fleet.cases()) == (HELD, [CONTRADICTION])
    beta(fleet, intent, "succeeded")
    assert money(fleet) == HELD  # what was said first counts, and this contradicts it
    assert resolve(fleet, intent, "declined") == "done"
    assert (money(fleet), fleet.cases()) == (HELD, [CONTRADICTION])  # now of the second rail
    assert last_facts(fleet, intent, "case.opened")["attempt"] == 2
    assert resolve(fleet, intent, "succeeded") == "done"
    assert (money(fleet), fleet.cases()) == (PAID, [])


# fmt: off
CLAIMED_OF_THE_FIRST = [
    # what the rails say and whose case is resolved as not paid, in order; the money; the cases
    (["pending", "declined by person"],                                                HELD, []),
    (["pending", "second declines", "declined by person"],                             KEPT, []),
    (["pending", "declined by person", "first not accepted"],                          KEPT, []),
    (["pending", "declined by person", "second succeeds", "first not accepted"],       KEPT, [CONTRADICTION]),
]
# fmt: on


@RESTARTED
@pytest.mark.parametrize(("said", "expected", "cases"), CLAIMED_OF_THE_FIRST)
def test_a_rail_that_was_left_and_works_on_it_after_all_has_to_answer_before_anything_is_released(
    make_fleet: MakeFleet,
    said: list[str],
    expected: dict[str, tuple[int, int, int, int]],
    cases: list[str],
    restarted: bool,
) -> None:
    fleet, intent = unheard(make_fleet)
    fleet.report(outcome(intent, "not_accepted", event="evt-1", minor=None))
    fleet.run_until_idle()
    for word in said:
        forget(fleet, restarted)
        if word == "pending":
            fleet.report(outcome(intent, "pending", event="evt-2"))
        elif word == "first not accepted":
            fleet.report(outcome(intent, "not_accepted", event="evt-3"))
        elif word.startswith("second"):
            beta(fleet, intent, {"declines": "declined", "succeeds": "succeeded"}[word.split()[1]])
        else:
            fleet.advance(400)  # whose deadlines have passed by then
            assert fleet.cases() == [UNKNOWN]
            about = 1 if "second declines" in said else 2
            assert last_facts(fleet, intent, "case.opened")["attempt"] == about
            assert resolve(fleet, intent, "declined") == "done"
        fleet.run_until_idle()
    assert (money(fleet), [kind for kind in fleet.cases() if kind != UNKNOWN]) == (expected, cases)


def test_a_second_payment_after_a_doubt_was_dismissed_is_a_case_again(make_fleet: MakeFleet) -> None:
    fleet, intent = left_and_paid(make_fleet)
    resolve(fleet, intent, "dismissed")
    beta(fleet, intent, "succeeded")
    assert (money(fleet), fleet.cases()) == (PAID, [CONTRADICTION])


def test_a_case_that_does_not_say_which_attempt_it_is_about_is_about_the_latest(make_fleet: MakeFleet) -> None:
    fleet, intent = left_and_paid(make_fleet)
    known = fleet.workers[0].engine.memory.transactions[intent]
    assert known is not None
    known.cases_about = {}
    assert resolve(fleet, intent, "succeeded") == "done"
    assert told(fleet, intent) == ("beta", 2, "succeeded", "operator")


# Of the cases about a rail at most one is open -----------------------------------------------------------------------


def test_a_rail_that_is_gone_past_its_deadline_is_one_case(make_fleet: MakeFleet) -> None:
    base = structs.replace(configuration(), corridors={"acme": ONE_RAIL})
    fleet = make_fleet(base)
    fleet.effects_lost = True
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    fleet.store.configure(structs.replace(fleet.store.current, rails={}))
    fleet.advance(100)
    fleet.store.configure(structs.replace(fleet.store.current, rails=base.rails))
    fleet.advance(1_000)
    assert fleet.cases() == ["rail_unknown"]
    assert resolve(fleet, intent, "declined") == "done"
    assert (money(fleet), fleet.cases(), fleet.transaction(intent).state) == (KEPT, [], State.FAILED)


@pytest.mark.parametrize("kind", [UNKNOWN, CONTRADICTION])
def test_a_rail_that_is_taken_away_while_a_case_about_it_is_open_is_no_second_one(
    make_fleet: MakeFleet, kind: str
) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    if kind == CONTRADICTION:
        fleet.report(outcome(intent, "succeeded", event="evt-1", minor=1))
    fleet.advance(400)
    fleet.store.configure(structs.replace(fleet.store.current, rails={}))
    fleet.advance(1_000)
    assert fleet.cases() == [kind]


# Nobody decides on their own intent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", ["succeeded", "declined", "retry", "dismissed"])
def test_whoever_made_an_intent_does_not_resolve_its_case(make_fleet: MakeFleet, resolution: str) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    fleet.advance(400)
    before = fleet.transaction(intent)
    assert resolve(fleet, intent, resolution, principal=before.principal) == "self_approval"
    assert (fleet.transaction(intent), fleet.cases()) == (before, [UNKNOWN])
    denial = fleet.store.rows.denials[-1]
    assert (denial.actor, denial.action, denial.reason) == (before.principal, "case.resolve", "self_approval")
    code = "nothing_to_retry" if resolution == "retry" else "done"
    assert resolve(fleet, intent, resolution, principal="somebody-else") == code
