"""Timers: the heap that hands them out, and the stories in which nothing but time happens."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.actors.world import MakeFleet, transfer
from zentra.actors.timers import HORIZON_SECONDS, Timers
from zentra.bench.twins.fleet import START
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.messages import TimerFired
from zentra.runtime.ports import Timer


def timer(key: str = "a", partition: int = 1, name: str = "state") -> Timer:
    return Timer("intent", key, name, partition, "acme", START)


def keys(timers: Timers, now: float, limit: int = 10) -> list[str]:
    taken = timers.take(now, limit, owned=range(8))
    assert all(isinstance(entry.event, TimerFired) for entry in taken)
    return [entry.event.key for entry in taken if isinstance(entry.event, TimerFired)]


def test_timers_are_handed_out_in_order_when_they_are_due_and_once() -> None:
    timers = Timers()
    timers.learn([(timer("late"), 3.0), (timer("early"), 1.0), (timer("overdue"), -5.0)], now=100.0)
    assert keys(timers, 100.5) == ["overdue"]
    assert keys(timers, 104.0) == ["early", "late"]
    assert keys(timers, 200.0) == []


def test_a_limit_leaves_the_rest_for_the_next_time() -> None:
    timers = Timers()
    timers.learn([(timer(str(n)), float(n)) for n in range(5)], now=0.0)
    assert keys(timers, 10.0, limit=2) == ["0", "1"]
    assert keys(timers, 10.0, limit=9) == ["2", "3", "4"]


def test_what_was_handed_out_is_not_learnt_again_before_its_tick_has_committed() -> None:
    timers = Timers()
    timers.learn([(timer(), 0.0)], now=0.0)
    assert keys(timers, 1.0) == ["a"]
    timers.learn([(timer(), -1.0)], now=1.0)
    assert keys(timers, 2.0) == []
    timers.committed([], [("intent", "a", "state")], now=2.0)
    timers.learn([(timer(), 0.0)], now=2.0)
    assert keys(timers, 3.0) == ["a"]


def test_a_timer_that_is_set_again_fires_at_its_new_time() -> None:
    timers = Timers()
    timers.learn([(timer(), 1.0)], now=0.0)
    timers.committed([(timer(), 3.0)], [], now=0.0)
    assert keys(timers, 2.0) == []
    assert timers.next_due() == 3.0
    assert keys(timers, 3.0) == ["a"]


def test_a_timer_beyond_the_horizon_is_left_to_the_store() -> None:
    timers = Timers()
    timers.committed([(timer(), HORIZON_SECONDS + 1)], [], now=0.0)
    assert timers.next_due() is None


@pytest.mark.parametrize("handed_out", [False, True])
def test_a_cleared_timer_never_fires(handed_out: bool) -> None:
    timers = Timers()
    timers.learn([(timer(), 0.0)], now=0.0)
    if handed_out:
        assert keys(timers, 1.0) == ["a"]
    timers.committed([], [("intent", "a", "state")], now=1.0)
    assert keys(timers, 9.0) == []


def test_a_timer_that_was_learnt_of_while_its_partition_was_lost_is_there_again_when_it_is_regained() -> None:
    timers = Timers()
    timers.remember(timer(), 1.0, now=0.0)
    assert timers.take(2.0, 10, owned={3}) == []
    timers.learn([(timer(), 0.0)], now=3.0)
    assert keys(timers, 3.0) == ["a"]


def test_the_timers_of_a_lost_partition_are_forgotten() -> None:
    timers = Timers()
    timers.learn([(timer("mine", 1), 0.0), (timer("lost", 2), 0.0)], now=0.0)
    timers.drop_partitions(frozenset({2}))
    assert keys(timers, 1.0) == ["mine"]


def test_a_timer_that_came_to_nothing_rests_longer_each_time_and_is_handed_out_again() -> None:
    timers, key = Timers(), ("intent", "a", "state")
    now = 0.0
    for rest in (60, 120, 240, 480, 960, 1_920, 3_600, 3_600):
        timers.learn([(timer(), -1.0)], now)
        assert keys(timers, now) == ["a"]
        timers.came_to_nothing([(1, key)], now)
        timers.drop_partitions(frozenset({2}))  # another's: what rests goes on resting
        timers.learn([(timer(), -1.0)], now + rest - 1)
        assert timers.next_due() is None
        now += rest
    timers.learn([(timer(), -1.0)], now)
    timers.take(now, 1, range(8))
    timers.committed([], [key], now)
    timers.learn([(timer(), -1.0)], now)
    assert keys(timers, now) == ["a"]  # set anew: what was before is forgotten


def test_only_a_timer_that_was_handed_out_can_have_come_to_nothing() -> None:
    timers = Timers()
    timers.came_to_nothing([(1, ("intent", "a", "state"))], now=0.0)
    timers.learn([(timer(), 0.0)], now=0.0)
    assert keys(timers, 0.0) == ["a"]


# Sooner than the row --------------------------------------------------------------------------------------------------

STATE = ("intent", "a", "state")


def test_a_timer_that_is_sooner_than_its_row_fires_first_and_stands_for_both() -> None:
    timers = Timers()
    timers.learn([(timer(), 4.0)], now=0.0)
    timers.remember(timer(), 2.0, now=0.0)
    timers.learn([(timer(), 3.5)], now=0.5)  # reading the row does not put it off
    assert timers.next_due() == 2.0
    assert keys(timers, 2.0) == ["a"]
    assert keys(timers, 9.0) == []
    timers.learn([(timer(), 0.0)], now=9.0)
    assert keys(timers, 9.0) == []  # its tick has not committed
    timers.committed([(timer(), 1.0)], [], now=9.0)
    assert keys(timers, 10.0) == ["a"]


@pytest.mark.parametrize("how", ["cleared", "stored anew", "given up", "forgotten with its process"])
def test_the_row_is_what_is_left_of_a_timer_that_is_sooner(how: str) -> None:
    timers = Timers()
    timers.remember(timer(), 2.0, now=0.0)
    if how == "cleared":
        timers.committed([], [STATE], now=1.0)
    elif how == "stored anew":
        timers.committed([(timer(), 3.0)], [], now=1.0)
    elif how == "given up":
        timers.drop_partitions(frozenset({1}))
    else:
        timers = Timers()
    assert keys(timers, 3.9) == []
    timers.learn([(timer(), 0.0)], now=4.0)
    assert keys(timers, 4.0) == ["a"]
    assert keys(timers, 9.0) == []


def test_what_else_a_transaction_waits_for_leaves_its_state_timer_alone() -> None:
    timers = Timers()
    timers.remember(timer(), 2.0, now=0.0)
    timers.committed([(timer(name="seal"), 1.0)], [], now=0.0)
    timers.committed([], [("intent", "a", "seal")], now=0.5)
    timers.drop_partitions(frozenset({2}))
    assert keys(timers, 2.0) == ["a"]


def test_where_only_rows_are_asked_for_a_sooner_timer_waits_for_its_turn_or_its_row() -> None:
    timers = Timers()
    for key in ("a", "b"):
        timers.remember(timer(key), 1.0, now=0.0)
    timers.learn([(timer("a"), 2.0)], now=0.0)
    assert timers.take(1.5, 10, range(8), only_rows=True) == []
    assert [entry.cause for entry in timers.take(2.0, 10, range(8), only_rows=True)] == ["timer/state"]
    assert keys(timers, 3.0) == ["b"]
    assert keys(timers, 9.0) == []


def test_the_last_word_on_a_sooner_timer_counts() -> None:
    timers = Timers()
    timers.remember(timer(), 2.0, now=0.0)
    timers.remember(timer(), 3.0, now=0.0)
    assert keys(timers, 2.5) == []
    assert keys(timers, 3.0) == ["a"]


def test_no_more_sooner_timers_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zentra.actors.timers.SOON_MAX", 2)
    timers = Timers()
    for intent in ("a", "b", "c"):
        timers.remember(timer(intent), 1.0, now=0.0)
    timers.learn([(timer("c"), 3.0)], now=0.0)
    assert keys(timers, 2.0) == ["a", "b"]
    assert keys(timers, 3.0) == ["c"]  # its row stands
    timers.remember(timer("d"), 4.0, now=0.0)  # what has fired makes room
    assert keys(timers, 4.0) == ["d"]


def test_a_submission_is_looked_after_before_its_row_is_due_and_writes_none(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(scenario="never_answers"))
    stored = fleet.store.rows.timers["intent", intent, "state"]
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.SUBMITTED
    assert fleet.store.rows.timers["intent", intent, "state"] == stored
    poll_after = fleet.rails["alpha"].settings.poll_after_seconds
    fleet.advance(poll_after - 0.01)
    assert fleet.rails["alpha"].polls.total() == 0
    fleet.advance(0.02)
    assert fleet.rails["alpha"].polls.total() == 1
    assert stored.due_at - START > timedelta(seconds=poll_after + 0.01)


def test_a_successor_looks_after_a_submission_when_its_row_is_due(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(scenario="never_answers"))
    fleet.run_until_idle()
    due = fleet.store.rows.timers["intent", intent, "state"].due_at
    fleet.replace_worker("w2")
    fleet.advance((due - fleet.now).total_seconds() - 0.01)
    assert fleet.rails["alpha"].polls.total() == 0
    fleet.advance(0.02)
    assert fleet.rails["alpha"].polls.total() == 1


# Time alone -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_an_intent_whose_frame_never_comes_is_asked_for_again(make_fleet: MakeFleet, lost: int) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    worker = fleet.workers[0]
    for _ in range(lost - 1):
        worker.take()
        worker.tick()
    worker.source.take_nowait(1_000)  # what was published is lost
    fleet.advance(60)
    assert fleet.transaction(intent).state is State.SUCCESSFUL
    assert list(fleet.rails["alpha"].submits.values()) == [1]


def test_a_settled_intent_leaves_no_timer(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    for scenario in ("success", "decline", "reject", "timeout_then_success"):
        fleet.submit(transfer(1_000, scenario=scenario))
    fleet.advance(120)
    assert fleet.store.rows.timers == {}


def test_a_waiting_intent_always_has_a_timer(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(events_max=1)
    intent = fleet.submit(transfer(scenario="never_answers"))
    for _ in range(200):
        assert ("intent", intent, "state") in fleet.store.rows.timers
        fleet.advance(7)


@pytest.mark.parametrize("effects_lost", [False, True], ids=["asked", "killed before the socket"])
def test_a_successor_looks_after_an_approved_intent_within_seconds(make_fleet: MakeFleet, effects_lost: bool) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(1_500_000, scenario="never_answers"))
    fleet.advance(3_600)  # nobody decides in the first hour, so the stored timer is that of the review
    assert fleet.transaction(intent).state is State.REVIEW
    fleet.effects_lost = effects_lost
    fleet.command("decide_review", intent, {"verdict": "approved", "round": 1, "reason": "known"})
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.SUBMITTED
    fleet.effects_lost = False
    fleet.replace_worker("w2")
    fleet.advance(20)
    assert fleet.rails["alpha"].polls.total() >= 1
    fleet.advance(300)
    assert fleet.cases() == ["provider_outcome_unknown"]


def test_a_successor_sets_the_timer_that_its_predecessor_has_put_off(make_fleet: MakeFleet) -> None:
    """A frame tells of an intent as it was registered: not that its first timer has fired since, and stands later."""
    fleet = make_fleet()
    fleet.workers.clear()
    intent = fleet.submit(transfer(scenario="never_answers"))
    fleet.now += timedelta(hours=1)  # nobody works
    worker = fleet.add_worker("w2")
    fleet.fire_timers()
    worker.tick()  # asks once more, and dies before any frame reaches it
    stored = fleet.store.rows.timers["intent", intent, "state"].due_at
    assert stored - fleet.now > timedelta(minutes=30)
    fleet.replace_worker("w3")
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.SUBMITTED
    fleet.advance(20)
    assert fleet.rails["alpha"].polls.total() >= 1


def test_an_early_timer_only_looks_and_arms_itself_again(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(1_500_000))
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.REVIEW
    before = fleet.events(intent)
    fleet.advance(20)  # the timer of its first state is still set
    assert fleet.events(intent) == before
    due = fleet.store.rows.timers["intent", intent, "state"].due_at
    assert due - START > timedelta(hours=3)


def test_polls_become_rarer_and_never_sleep_over_the_deadline(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.submit(transfer(scenario="never_answers"))
    fleet.advance(299.9)
    early = fleet.rails["alpha"].polls.total()
    assert 5 <= early <= 15
    assert fleet.cases() == []
    fleet.advance(0.2)
    assert fleet.cases() == ["provider_outcome_unknown"]
    fleet.advance(600)
    assert fleet.rails["alpha"].polls.total() - early <= 12


def test_a_review_outlives_a_takeover(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(1_500_000))
    fleet.advance(3_600)
    fleet.replace_worker("w2")
    fleet.advance(72 * 3_600)
    assert fleet.transaction(intent).state is State.FAILED
    assert fleet.events(intent)[-2:] == ["review.expired", "review.closed"]
