"""The database's clock as a gateway keeps it: never ahead, never by the gateway's own wall clock, better with time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from zentra.runtime.errors import Unavailable
from zentra.storage.intake.clock import DatabaseClock
from zentra.storage.pool import Pool

NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)


class Elapsed:
    """A count of seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_clock_that_was_never_set_says_so() -> None:
    with pytest.raises(Unavailable):
        DatabaseClock().now()


# Told (seconds after noon) between two counts, one after another; and what the clock says right after the last.
READINGS = [
    ("once", [(0.0, 0.0, 0.2)], 0.0),
    ("time passes by our own count", [(0.0, 0.0, 0.0), (10.0, 10.0, 10.0)], 10.0),
    ("the later of two times that are too early", [(0.0, 0.0, 0.0), (9.8, 9.5, 10.0)], 10.0),
    ("a better reading", [(0.0, 0.0, 0.5), (10.0, 10.0, 10.0)], 10.0),
    ("the database stepped back", [(0.0, 0.0, 0.0), (-3_590.0, 10.0, 10.1)], -3_590.0),
    ("the database stepped ahead", [(0.0, 0.0, 0.0), (3_610.0, 10.0, 10.1)], 3_610.0),
]


@pytest.mark.parametrize(("readings", "seconds"), [row[1:] for row in READINGS], ids=[row[0] for row in READINGS])
def test_the_clock_follows_the_database(readings: list[tuple[float, float, float]], seconds: float) -> None:
    elapsed = Elapsed()
    clock = DatabaseClock(elapsed)
    for told, asked, answered in readings:
        elapsed.seconds = answered
        clock.learn(NOON + timedelta(seconds=told), asked, answered)
    assert clock.now() == NOON + timedelta(seconds=seconds)
    elapsed.seconds += 2.5
    assert clock.now() == NOON + timedelta(seconds=seconds + 2.5)
    assert clock.milliseconds() == int(clock.now().timestamp() * 1000)


@pytest.mark.service
async def test_what_it_tells_is_never_ahead_of_the_database(writer_pool: Pool) -> None:
    clock = DatabaseClock()
    for _ in range(5):
        await clock.read(writer_pool)
        told = clock.now()
        asked: datetime = await writer_pool.fetchval("select clock_timestamp()")
        assert timedelta(0) <= asked - told < timedelta(seconds=1)
