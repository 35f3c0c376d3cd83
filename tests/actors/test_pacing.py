"""Pacing: a lone event never waits, a stream of them shares its ticks, and a crowd waits for nothing."""

from __future__ import annotations

import math

import pytest

from zentra.actors.pacing import ENOUGH_EVENTS, FEW_EVENTS, PATIENCE_SECONDS, PERIOD_SECONDS, Arrivals, pause

FAST = FEW_EVENTS / PERIOD_SECONDS  # the slowest stream of events that is worth waiting for

CASES = [
    # why, waiting, rate, seconds since the last tick, ticks under way, seconds to wait
    ("nothing waits", 0, FAST, 0.0, 0, 0.0),
    ("a lone event starts at once", 1, 0.0, math.inf, 0, 0.0),
    ("too few are expected", 3, FAST - 1, 0.0, 0, 0.0),
    ("many are expected", 3, FAST, 0.0, 0, PERIOD_SECONDS),
    ("part of the period has passed", 3, FAST, PERIOD_SECONDS / 2, 0, PERIOD_SECONDS / 2),
    ("the last tick lasted longer than a period", 3, FAST, PERIOD_SECONDS, 0, 0.0),
    ("it was quiet for long", 1, FAST, math.inf, 0, 0.0),
    ("enough wait", ENOUGH_EVENTS, 1e6, 0.0, 0, 0.0),
    ("enough wait for a second tick", ENOUGH_EVENTS, 1e6, 0.0, 1, 0.0),
    ("a second tick is not worth it yet", ENOUGH_EVENTS - 1, FAST, 0.0, 1, PATIENCE_SECONDS),
    ("a second tick where little comes", 1, 0.0, 0.0, 1, 0.0),
    ("a commit under way waits for something", 1, FAST, PATIENCE_SECONDS, 1, 0.0),
]


@pytest.mark.parametrize(
    ("waiting", "rate", "since", "under_way", "seconds"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_a_tick_waits_only_for_what_is_worth_it(
    waiting: int, rate: float, since: float, under_way: int, seconds: float
) -> None:
    assert pause(waiting, rate, since, under_way) == pytest.approx(seconds)


def test_the_rate_follows_what_arrives_and_forgets_what_was_long_ago() -> None:
    arrivals = Arrivals()
    assert arrivals.rate(100.0) == 0.0
    for step in range(1, 51):
        arrivals.count(2, 50)
        arrivals.rate(100.0 + step * 0.02)
    assert arrivals.rate(101.0) == pytest.approx(2_500, rel=0.01)
    assert arrivals.rate(101.001) == arrivals.rate(101.0)  # too soon to tell anything
    assert arrivals.rate(102.0) < 1


def test_a_lone_burst_is_no_stream() -> None:
    arrivals = Arrivals()
    arrivals.rate(100.0)
    arrivals.count(1, FEW_EVENTS)
    assert arrivals.rate(110.0) < FAST / 10


def test_the_mean_of_events_per_frame_moves_with_the_frames() -> None:
    arrivals = Arrivals()
    arrivals.count(0, 0)
    assert arrivals.events_per_frame == 1.0
    arrivals.count(100_000, 500_000)
    assert arrivals.events_per_frame == 5.0
    arrivals.count(128, 128 * 9)
    assert arrivals.events_per_frame == 7.0
