"""When a rail is asked again: by what it said last, by its settings, never over a deadline and never in step."""

from __future__ import annotations

import pytest
from msgspec import structs

from zentra.runtime.rails.polling import Standing, backoff_of, flaw_of, pause, standing_of
from zentra.runtime.rails.port import Backoff, RailSettings

S = Standing
PLAIN = RailSettings(
    "alpha", "sandbox", poll_after_seconds=2, poll_interval_max_seconds=60, deadline_seconds=900,
    polling={name: structs.replace(Backoff(factor=factor), jitter=0.0) for name, factor in
             (("silent", 3.0), ("unknown", 1.5), ("pending", 2.0), ("claimed", 1.5))}
            | {"overdue": Backoff(factor=1.5, max_seconds=600, jitter=0.0)},
)  # fmt: skip
FAR = 10_000.0


@pytest.mark.parametrize(
    ("heard", "claimed", "overdue", "standing"),
    [
        ("", False, False, S.SILENT),
        ("unknown", False, False, S.UNKNOWN),
        ("not_found", False, False, S.UNKNOWN),
        ("pending", False, False, S.PENDING),
        ("pending", True, False, S.CLAIMED),
        ("", True, True, S.OVERDUE),
        ("pending", False, True, S.OVERDUE),
    ],
)
def test_an_attempt_stands_as_what_was_said_of_it_last(
    heard: str, claimed: bool, overdue: bool, standing: Standing
) -> None:
    assert standing_of(heard, claimed=claimed, overdue=overdue) is standing


# fmt: off
PAUSES = [
    # standing   elapsed  left   seconds
    (S.PENDING,        2,   FAR,    2),
    (S.PENDING,       10,   FAR,   10),
    (S.PENDING,      500,   FAR,   60),
    (S.UNKNOWN,        2,   FAR,    2),
    (S.UNKNOWN,       10,   FAR,    5),
    (S.UNKNOWN,      500,   FAR,   60),
    (S.SILENT,         2,   FAR,    4),
    (S.SILENT,        10,   FAR,   20),
    (S.SILENT,       500,   FAR,   60),
    (S.CLAIMED,        0,   FAR,    1),
    (S.CLAIMED,       10,   FAR,    5),
    (S.OVERDUE,      900,    -1,  450),
    (S.OVERDUE,   90_000,  -900,  600),
    (S.PENDING,      880,    20,   20),   # the deadline is not slept over
    (S.PENDING,      900,   0.001, 0.01), # and nothing spins
]
# fmt: on


@pytest.mark.parametrize(("standing", "elapsed", "left", "seconds"), PAUSES)
def test_a_pause_grows_with_what_has_passed(standing: Standing, elapsed: float, left: float, seconds: float) -> None:
    assert pause(PLAIN, standing, elapsed, left, "r") == pytest.approx(seconds)


def test_jitter_shortens_by_a_share_at_the_most_and_follows_from_the_reference() -> None:
    settings = structs.replace(PLAIN, polling={"pending": Backoff(jitter=0.3)})
    drawn = [pause(settings, S.PENDING, 30, FAR, f"reference-{n}") for n in range(500)]
    assert all(30 * 0.7 <= seconds <= 30 for seconds in drawn)
    assert max(drawn) - min(drawn) > 8, "a thousand that failed together do not ask together"
    assert drawn == [pause(settings, S.PENDING, 30, FAR, f"reference-{n}") for n in range(500)]


def test_a_rail_says_itself_how_it_is_asked_and_the_rest_is_as_ever() -> None:
    slow = structs.replace(PLAIN, polling={"pending": Backoff(10, 3.0, 300, 0.0)})
    assert pause(slow, S.PENDING, 1, FAR, "r") == 10
    assert pause(slow, S.PENDING, 50, FAR, "r") == 100
    assert pause(slow, S.PENDING, 5_000, FAR, "r") == 300
    assert backoff_of(slow, S.UNKNOWN) == Backoff(2, 1.5, 60)


def test_a_first_pause_that_is_longer_than_the_longest_wins() -> None:
    assert backoff_of(structs.replace(PLAIN, poll_after_seconds=90), S.PENDING).max_seconds == 90


@pytest.mark.parametrize(
    ("polling", "names"),
    [
        ({"pending": Backoff()}, ""),
        ({"asleep": Backoff()}, "polling.asleep"),
        ({"pending": Backoff(factor=1.0)}, "polling.pending.factor"),
        ({"pending": Backoff(factor=101)}, "polling.pending.factor"),
        ({"pending": Backoff(factor=float("nan"))}, "polling.pending.factor"),
        ({"unknown": Backoff(after_seconds=-1)}, "polling.unknown"),
        ({"unknown": Backoff(max_seconds=float("nan"))}, "polling.unknown"),
        ({"overdue": Backoff(jitter=0.6)}, "polling.overdue.jitter"),
    ],
)
def test_what_makes_no_sense_is_named(polling: dict[str, Backoff], names: str) -> None:
    assert (flaw_of(structs.replace(PLAIN, polling=polling)) or "").partition(":")[0] == names
