"""What rails say, in any order: the money follows the first valid outcome, a contradiction opens one case."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, balances, configuration, facts_of, last_facts, outcome, transfer
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.rails.port import RailOutcome
from zentra.runtime.rails.routing import Corridor

PAID = {"customer": (0, 0, 125_000, 5_000_000), "merchant": (0, 0, 0, 125_000)}
KEPT = {"customer": (0, 0, 0, 5_000_000), "merchant": (0, 0, 0, 0)}
HELD = {"customer": (125_000, 0, 0, 5_000_000), "merchant": (0, 0, 0, 0)}


def awaiting(make_fleet: MakeFleet, scenario: str = "silent", **options: Any) -> tuple[Fleet, str]:
    """Return a fleet with one intent that waits for a rail which has taken it and says nothing by itself."""
    fleet = make_fleet(**options)
    intent = fleet.submit(transfer(scenario=scenario))
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.SUBMITTED
    return fleet, intent


def unheard(make_fleet: MakeFleet, **options: Any) -> tuple[Fleet, str]:
    """Return a fleet with one intent that waits for a rail which has said nothing at all, and whom nobody asks."""
    fleet = make_fleet(**options)
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="silent"))
    fleet.run_until_idle()
    return fleet, intent


def money(fleet: Fleet) -> dict[str, tuple[int, int, int, int]]:
    return {name: total for name, total in balances(fleet).items() if name in PAID}


# fmt: off
AGREE = [
    ("success twice",             [("succeeded", {}), ("succeeded", {})]),
    ("success without an amount", [("succeeded", {"minor": None, "currency": None}), ("succeeded", {})]),
    ("success after pending",     [("pending", {}), ("succeeded", {}), ("pending", {})]),
    ("success beside unknown",    [("unknown", {}), ("succeeded", {}), ("not_found", {})]),
]
CLASH = [
    ("success and decline",       [("succeeded", {}), ("declined", {})]),
    ("another amount",            [("succeeded", {}), ("succeeded", {"minor": 125_001})]),
    ("another currency",          [("succeeded", {}), ("succeeded", {"currency": "USD"})]),
    ("a clash and an echo",       [("succeeded", {}), ("declined", {}), ("succeeded", {})]),
    ("three words",               [("succeeded", {}), ("declined", {}), ("succeeded", {"minor": 1})]),
]
# fmt: on


def said(intent: str, script: Sequence[tuple[str, dict[str, Any]]]) -> list[RailOutcome]:
    return [outcome(intent, status, event=f"evt-{n}", **rest) for n, (status, rest) in enumerate(script)]


@pytest.mark.parametrize("together", [True, False], ids=["in one tick", "in a tick each"])
@pytest.mark.parametrize("script", [row[1] for row in AGREE], ids=[row[0] for row in AGREE])
def test_any_order_of_reports_that_agree_is_one_payment(
    make_fleet: MakeFleet, script: list[tuple[str, dict[str, Any]]], together: bool
) -> None:
    for order in permutations(range(len(script))):
        fleet, intent = awaiting(make_fleet)
        reports = said(intent, script)
        for index in order:
            fleet.report(reports[index])
            if not together:
                fleet.run_until_idle()
        fleet.run_until_idle()
        assert (money(fleet), fleet.cases()) == (PAID, []), order


@pytest.mark.parametrize("together", [True, False], ids=["in one tick", "in a tick each"])
@pytest.mark.parametrize("script", [row[1] for row in CLASH], ids=[row[0] for row in CLASH])
def test_any_order_of_reports_that_clash_is_one_case_and_the_first_valid_one_counts(
    make_fleet: MakeFleet, script: list[tuple[str, dict[str, Any]]], together: bool
) -> None:
    for order in permutations(range(len(script))):
        fleet, intent = awaiting(make_fleet)
        reports = said(intent, script)
        for index in order:
            fleet.report(reports[index])
            if not together:
                fleet.run_until_idle()
        fleet.run_until_idle()
        valid = [script[i][0] for i in order if script[i][1] == {}]
        expected = PAID if valid[0] == "succeeded" else KEPT
        assert (money(fleet), fleet.cases()) == (expected, ["provider_contradiction"]), order


def test_a_repeat_is_recorded_with_its_number_and_moves_nothing(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    for number in range(3):
        fleet.report(outcome(intent, "succeeded", event=f"evt-{number}"))
        fleet.run_until_idle()
    assert last_facts(fleet, intent, "provider.callback")["repeats"] == 2
    assert money(fleet) == PAID


def test_the_same_callback_delivered_again_leaves_no_record(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet, repeats=3)
    before = fleet.events(intent).count("provider.callback")
    fleet.report(outcome(intent, "succeeded", event="evt-1"))
    fleet.run_until_idle()
    assert fleet.events(intent).count("provider.callback") == before + 1


def test_the_sandbox_duplicate_is_one_mutation_and_one_replay_record(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet, "duplicate_callback")
    fleet.advance(5)
    assert money(fleet) == PAID
    assert last_facts(fleet, intent, "provider.callback")["repeats"] == 1
    assert fleet.cases() == []


def test_a_wrong_amount_alone_moves_nothing_and_a_poll_with_the_right_one_settles(make_fleet: MakeFleet) -> None:
    fleet, _ = awaiting(make_fleet, "contradictory_amount")
    fleet.advance(1)
    assert (money(fleet), fleet.cases()) == (HELD, ["provider_contradiction"])
    fleet.advance(5)
    assert (money(fleet), fleet.cases()) == (PAID, ["provider_contradiction"])


def test_an_unknown_outcome_keeps_the_hold_and_tries_no_other_rail(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    fleet.advance(299)
    assert (money(fleet), fleet.cases()) == (HELD, [])
    fleet.advance(1_000)
    assert (money(fleet), fleet.cases()) == (HELD, ["provider_outcome_unknown"])
    assert {attempt.rail for attempt in fleet.transaction(intent).attempts} == {"alpha"}
    assert not fleet.rails["beta"].submits
    assert fleet.rails["alpha"].polls.total() > 10


def test_a_late_answer_settles_what_has_a_case(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet, "never_answers")
    fleet.advance(400)
    fleet.report(outcome(intent, "succeeded", event="evt-late"))
    fleet.run_until_idle()
    assert money(fleet) == PAID
    assert fleet.transaction(intent).state is State.SUCCESSFUL


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"reference": "stranger-1"}, "unknown_reference"),
        ({"reference": "f" * 32 + "01"}, "unknown_reference"),
        ({"attempt": 2}, "unknown_reference"),
        ({"rail": "beta"}, "provider_wrong_rail"),
        ({"rail": "gamma"}, "unknown_reference"),
    ],
)
def test_a_report_that_names_no_attempt_is_one_case(make_fleet: MakeFleet, changes: dict[str, Any], kind: str) -> None:
    fleet, intent = awaiting(make_fleet)
    for number in range(2):
        fleet.report(outcome(intent, "succeeded", event=f"evt-{number}", **changes))
        fleet.run_until_idle()
    fleet.advance(60)
    assert (money(fleet), fleet.cases()) == (HELD, [kind])


def test_a_success_of_the_rail_that_was_left_contradicts(make_fleet: MakeFleet) -> None:
    fleet, intent = unheard(make_fleet)
    fleet.report(outcome(intent, "not_accepted", event="evt-1", minor=None))
    fleet.run_until_idle()
    assert [a.rail for a in fleet.transaction(intent).attempts] == ["alpha", "beta"]
    fleet.report(outcome(intent, "succeeded", event="evt-2"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (HELD, ["provider_contradiction"])
    fleet.report(outcome(intent, "not_accepted", event="evt-3", attempt=2, rail="beta", minor=None))
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.SUBMITTED  # the first rail may have paid: a person decides
    assert (money(fleet), fleet.cases()) == (HELD, ["provider_contradiction"])


# fmt: off
OF_THE_RAIL_THAT_WAS_LEFT = [
    # its status, by whose word, another amount, what the rail is then polled as; released when the second declines
    ("declined",     "shared_secret", False, None,           True,  []),
    ("declined",     "body_signed",   False, None,           True,  []),
    ("declined",     "body_signed",   True,  None,           True,  ["provider_contradiction"]),
    ("not_accepted", "shared_secret", False, None,           True,  []),
    ("succeeded",    "shared_secret", False, None,           False, ["provider_contradiction"]),
    ("succeeded",    "none",          True,  None,           False, ["provider_contradiction"]),
    ("succeeded",    "shared_secret", False, "unknown",      False, ["provider_contradiction"]),
    ("succeeded",    "shared_secret", False, "pending",      False, ["provider_contradiction"]),
    ("succeeded",    "shared_secret", False, "not_found",    True,  ["provider_contradiction"]),
    ("pending",      "body_signed",   False, None,           False, []),
    ("pending",      "shared_secret", False, "not_accepted", True,  []),
    ("succeeded",    "shared_secret", False, "not_accepted", True,  ["provider_contradiction"]),
    ("succeeded",    "shared_secret", False, "declined",     True,  ["provider_contradiction"]),
    ("succeeded",    "shared_secret", False, "succeeded",    False, ["provider_contradiction"]),
    ("succeeded",    "body_signed",   False, None,           False, ["provider_contradiction"]),
    ("succeeded",    "body_signed",   True,  None,           False, ["provider_contradiction"]),
]
# fmt: on


@pytest.mark.parametrize("restarted", [False, True], ids=["the same worker", "another worker"])
@pytest.mark.parametrize(("status", "trust", "differs", "polled", "released", "cases"), OF_THE_RAIL_THAT_WAS_LEFT)
def test_what_the_rail_that_was_left_may_have_paid_keeps_the_hold_when_the_next_declines(
    make_fleet: MakeFleet,
    status: str,
    trust: str,
    differs: bool,
    polled: str | None,
    released: bool,
    cases: list[str],
    restarted: bool,
) -> None:
    fleet, intent = unheard(make_fleet)
    fleet.report(outcome(intent, "not_accepted", event="left", minor=None, currency=None))
    fleet.run_until_idle()
    fleet.report(outcome(intent, status, event="later", trust=trust, minor=1 if differs else 125_000))
    fleet.run_until_idle()
    if polled is not None:
        fleet.now += timedelta(seconds=1)
        fleet.report(outcome(intent, polled, trust="polled"), f"poll/{intent}01")
        fleet.run_until_idle()
    if restarted:
        fleet.workers[0].engine.memory.distrust()
    fleet.report(outcome(intent, "declined", event="second", attempt=2, rail="beta"))
    fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (KEPT if released else HELD, cases)


@pytest.mark.parametrize("statuses", [("declined", "not_accepted"), ("not_accepted", "declined")])
@pytest.mark.parametrize("trust", ["body_signed", "shared_secret"])
@pytest.mark.parametrize("polled", [False, True])
def test_declined_and_not_accepted_agree_that_it_was_not_paid(
    make_fleet: MakeFleet, statuses: tuple[str, str], trust: str, polled: bool
) -> None:
    base = configuration()
    fleet, intent = unheard(make_fleet, config=structs.replace(base, corridors={"acme": ONE_RAIL}))
    for number, status in enumerate(statuses):
        fleet.report(outcome(intent, status, event=f"evt-{number}", trust=trust if number else "body_signed"))
        fleet.run_until_idle()
    if polled:
        for _ in range(2):
            fleet.report(outcome(intent, statuses[1], trust="polled"), f"poll/{intent}01")
            fleet.run_until_idle()
    assert (money(fleet), fleet.cases()) == (KEPT, [])
    # what the rail says itself is recorded beside what was said in its name, once
    assert fleet.events(intent).count("provider.callback") == (3 if polled and trust == "shared_secret" else 2)


ONE_RAIL = (Corridor("acme", "ng", "NGN", "transfer", ("alpha",)),)


def test_the_case_of_a_rail_that_has_answered_is_closed_when_another_is_asked(make_fleet: MakeFleet) -> None:
    fleet, intent = unheard(make_fleet)
    fleet.advance(400)
    assert fleet.cases() == ["provider_outcome_unknown"]
    fleet.report(outcome(intent, "not_accepted", trust="polled", minor=None, currency=None), f"poll/{intent}01")
    fleet.run_until_idle()
    assert [a.rail for a in fleet.transaction(intent).attempts] == ["alpha", "beta"]
    assert (fleet.cases(), fleet.cases(status="resolved")) == ([], ["provider_outcome_unknown"])
    fleet.advance(299)
    assert fleet.cases() == []
    fleet.advance(60)  # of the second rail nobody knows by its deadline either: it is a case of its own
    assert fleet.cases() == ["provider_outcome_unknown"]


# fmt: off
REFUSED = [
    # idempotent, not found after, a claim before, then after, the worker,   the refusal comes at, and counts
    (True,  None, None, 0.0,  "same",    1.0,  True),
    (True,  None, None, 0.0,  "same",    5.0,  True),   # slow, as a connection that fails: nothing was sent again
    (True,  2.0,  None, 0.0,  "same",    5.0,  False),
    (True,  None, 0.5,  0.0,  "same",    1.0,  False),  # asked for the claim, and sent again before the first poll
    (True,  None, 0.5,  30.0, "same",    1.0,  True),   # "not found" may lie: not sent again
    (True,  None, None, 0.0,  "another", 1.0,  True),   # before the first poll nobody has sent it again
    (True,  None, None, 0.0,  "another", 5.0,  False),  # nobody knows
    (True,  None, 0.5,  0.0,  "another", 1.0,  False),
    (False, None, None, 0.0,  "same",    5.0,  True),
    (False, 2.0,  None, 0.0,  "same",    5.0,  True),
    (False, None, None, 0.0,  "another", 5.0,  True),
    (False, None, 0.5,  0.0,  "another", 5.0,  True),
]
# fmt: on


@pytest.mark.parametrize(("idempotent", "lost", "claimed", "lies", "worker", "at", "counts"), REFUSED)
def test_not_accepted_decides_unless_it_may_answer_a_second_submission(
    make_fleet: MakeFleet,
    idempotent: bool,
    lost: float | None,
    claimed: float | None,
    lies: float,
    worker: str,
    at: float,
    counts: bool,
) -> None:
    base = configuration()
    alpha = structs.replace(
        base.rails["alpha"], idempotent_references=idempotent, not_found_lies_seconds=lies, poll_after_seconds=2.0
    )
    fleet = make_fleet(structs.replace(base, rails={**base.rails, "alpha": alpha}))
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="silent"))
    fleet.run_until_idle()
    began = fleet.now
    not_found = outcome(intent, "not_found", trust="polled", minor=None, currency=None)
    if claimed is not None:
        fleet.now = began + timedelta(seconds=claimed)
        fleet.report(outcome(intent, "not_accepted", event="claim", trust="none", minor=None, currency=None))
        fleet.run_until_idle()
        fleet.report(not_found, f"poll/{intent}01/1")
        fleet.run_until_idle()
    if lost is not None:
        fleet.now = began + timedelta(seconds=lost)
        fleet.report(not_found, f"poll/{intent}01/2")
        fleet.run_until_idle()
    if worker == "another":
        fleet.workers[0].engine.memory.distrust()
    fleet.now = began + timedelta(seconds=at)
    fleet.report(outcome(intent, "not_accepted", trust="direct", minor=None, currency=None), f"submit/{intent}01/9")
    fleet.run_until_idle()
    assert money(fleet) == HELD
    assert [a.rail for a in fleet.transaction(intent).attempts] == (["alpha", "beta"] if counts else ["alpha"])


# fmt: off
UNSENT = [
    # of the epoch, a callback, the worker     counts
    ("unsent/{}", 0, False,  "same",           True),
    ("unsent/{}", 0, False,  "forgetful",      True),   # nobody else has submitted it either
    ("unsent/{}", 0, False,  "resubmitted",    True),   # nothing was sent, whatever was asked for
    ("unsent/{}", 1, False,  "resubmitted",    False),  # somebody else had the partition, and may have sent it
    ("unsent/{}", 1, False,  "forgetful",      False),
    ("submit/{}", 0, False,  "forgetful",      False),
    ("unsent/{}", 0, True,   "same",           False),  # a partner may name its callback anything
]
# fmt: on


@pytest.mark.parametrize(("cause", "ago", "callback", "worker", "counts"), UNSENT)
def test_that_nothing_was_sent_decides_whatever_is_known_of_a_second_submission(
    make_fleet: MakeFleet, cause: str, ago: int, callback: bool, worker: str, counts: bool
) -> None:
    fleet = make_fleet()
    fleet.effects_lost = True
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    fleet.now += timedelta(seconds=5)
    memory, reference = fleet.workers[0].engine.memory, f"{intent}01"
    if worker == "forgetful":
        memory.distrust()
    elif worker == "resubmitted":
        fleet.report(outcome(intent, "not_found", trust="polled", minor=None, currency=None), f"poll/{reference}/1")
        fleet.run_until_idle()
    told = f"{cause.format(epoch_of(fleet, intent) - ago)}/{reference}/9"
    unsent = outcome(intent, "not_accepted", reason="not_sent", minor=None, currency=None)
    fleet.report(structs.replace(unsent, event_id=told, trust="none") if callback else unsent, told)
    fleet.run_until_idle()
    assert money(fleet) == HELD
    assert [a.unsent for a in fleet.transaction(intent).attempts] == ([True, False] if counts else [False])


def epoch_of(fleet: Fleet, intent: str) -> int:
    """Return the epoch of the partition of an intent."""
    return fleet.workers[0].leases[fleet.partition_of(intent)].epoch


def test_a_submission_that_was_lost_is_sent_again_under_the_same_reference_and_paid_once(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet()
    fleet.effects_lost = True
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    fleet.effects_lost = False
    fleet.advance(30)
    assert (money(fleet), fleet.transaction(intent).state) == (PAID, State.SUCCESSFUL)
    assert list(fleet.rails["alpha"].paid.values()) == [1]
    assert len(fleet.transaction(intent).attempts) == 1


def test_replaying_the_stream_after_one_callback_changes_nothing(make_fleet: MakeFleet) -> None:
    fleet, intent = awaiting(make_fleet)
    fleet.report(outcome(intent, "declined", event="evt-1"))
    fleet.run_until_idle()
    before = facts_of(fleet)
    fleet.replay()
    assert facts_of(fleet) == before
