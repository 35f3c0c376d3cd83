"""When a small group waits for company: where many arrive, for some milliseconds, and never where few do."""

from __future__ import annotations

import pytest

from zentra.gateway.doors.company import ENOUGH, LINGER_SECONDS_MAX, Company


def pause_after(per_second: float, waiting: int, *, quiet: float = 0.0) -> float:
    """The pause of a group of `waiting` after a second at that rate, and a time without anybody."""
    company, now = Company(), 1_000.0
    arrived = 0.0
    for _ in range(200):
        now += 0.005
        arrived += per_second * 0.005
        company.pause(ENOUGH, int(arrived), now)
        arrived -= int(arrived)
    return company.pause(waiting, waiting if quiet else 0, now + quiet)


@pytest.mark.parametrize(
    ("per_second", "waiting", "pause"),
    [
        (0, 1, 0.0),
        (10, 1, 0.0),
        (200, 1, 0.0),  # one comes in 5 ms: the wait costs more than it saves
        (1_000, 1, LINGER_SECONDS_MAX),
        (5_000, 10, LINGER_SECONDS_MAX),
        (5_000, ENOUGH, 0.0),  # no small group any more
        (20_000, 500, 0.0),
    ],
)
def test_a_small_group_waits_where_many_arrive(per_second: float, waiting: int, pause: float) -> None:
    assert pause_after(per_second, waiting) == pytest.approx(pause)


def test_nobody_waits_longer_than_it_takes_to_be_enough() -> None:
    pause = pause_after(20_000, ENOUGH - 20)
    assert 0 < pause < LINGER_SECONDS_MAX
    assert pause == pytest.approx(20 / 20_000, rel=0.1)


def test_the_first_after_a_burst_does_not_wait() -> None:
    assert pause_after(5_000, 1, quiet=0.01) == LINGER_SECONDS_MAX
    assert pause_after(5_000, 1, quiet=0.5) == 0.0


def test_the_very_first_request_leaves_at_once() -> None:
    assert Company().pause(1, 1, 1_000_000.0) == 0.0
