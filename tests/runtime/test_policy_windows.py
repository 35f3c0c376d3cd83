"""Velocity windows: which counter, which bucket, and that a window never counts less than what happened within it."""

from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.policy.rules import Window
from zentra.runtime.policy.windows import Usage, add, bucket_at, counter_of, counts, day_of, used

COMMAND: Final = IntentCommand(
    kind=IntentKind.TRANSFER, minor="100", currency="NGN", source="a", destination="b", country="NG"
)
LAGOS: Final = "Africa/Lagos"  # an hour ahead of UTC

# fmt: off
COUNTERS: list[tuple[dict[str, Any], str, str]] = [
    # window                                                       zone    counter
    ({"by": "account", "calendar": "day"},                         "UTC",  "account/a"),
    ({"by": "tenant", "calendar": "day"},                          "UTC",  "tenant"),
    ({"by": "account", "calendar": "day"},                         LAGOS,  f"day@{LAGOS}/account/a"),
    ({"by": "counterparty", "calendar": "week"},                   "UTC",  "week/counterparty/b"),
    ({"by": "corridor", "calendar": "month"},                      LAGOS,  f"month@{LAGOS}/corridor/NG/transfer"),
    ({"by": "pair", "calendar": "ever"},                           LAGOS,  "ever/pair/a>b"),
    ({"by": "account", "rolling_seconds": 60, "buckets": 6},       LAGOS,  "rolling-60-6/account/a"),
    ({"by": "tenant", "calendar": "day", "kinds": ("b", "a")},     "UTC",  "a+b/tenant"),
]
DAYS: list[tuple[str, str, str, str]] = [
    # calendar  zone   time                        day
    ("day",    "UTC",  "2026-03-31T23:30:00+00:00", "2026-03-31"),
    ("day",    LAGOS,  "2026-03-31T23:30:00+00:00", "2026-04-01"),
    ("week",   "UTC",  "2026-04-05T12:00:00+00:00", "2026-03-30"),
    ("week",   "UTC",  "2026-04-06T00:00:00+00:00", "2026-04-06"),
    ("month",  "UTC",  "2026-03-31T23:30:00+00:00", "2026-03-01"),
    ("month",  LAGOS,  "2026-03-31T23:30:00+00:00", "2026-04-01"),
    ("ever",   LAGOS,  "2026-03-31T23:30:00+00:00", "1970-01-01"),
]
# fmt: on


@pytest.mark.parametrize(("window", "zone", "counter"), COUNTERS)
def test_a_counter_is_named_by_what_it_counts_and_how(window: dict[str, Any], zone: str, counter: str) -> None:
    assert counter_of(Window(**window), zone, COMMAND) == counter


@pytest.mark.parametrize(("calendar", "zone", "at", "day"), DAYS)
def test_a_calendar_period_is_that_of_its_zone(calendar: str, zone: str, at: str, day: str) -> None:
    place = None if zone == "UTC" else ZoneInfo(zone)
    assert day_of(Window(by="tenant", calendar=calendar), place, datetime.fromisoformat(at).astimezone(UTC)) == day


def test_book_transfers_count_only_where_a_window_says_so() -> None:
    booked = IntentCommand(kind=IntentKind.BOOK_TRANSFER, minor="1", currency="NGN", source="a", destination="b")
    assert counts(Window(by="tenant"), COMMAND)
    assert not counts(Window(by="tenant"), booked)
    assert counts(Window(by="tenant", kinds=("book_transfer",)), booked)


def _count(window: Window, usage: Usage, at: int, minor: int) -> int:
    bucket = bucket_at(window, usage, at)
    assert bucket is not None
    add(usage, counter_of(window, "UTC", COMMAND), bucket, 1, minor)
    return bucket


MINUTE: Final = Window(by="account", rolling_seconds=60, buckets=6)  # buckets of ten seconds


@pytest.mark.parametrize(("later", "counted"), [(0, 1), (59, 1), (60, 1), (64, 1), (65, 0), (100, 0)])
def test_a_bucket_counts_until_none_of_it_lies_in_the_window(later: int, counted: int) -> None:
    usage = Usage()
    _count(MINUTE, usage, 1005, 7)
    assert used(MINUTE, usage, 1005 + later) == (counted, 7 * counted)


def test_the_time_of_a_counter_never_goes_back() -> None:
    usage = Usage()
    _count(MINUTE, usage, 1000, 1)
    ahead = _count(MINUTE, usage, 5000, 10)
    assert used(MINUTE, usage, 1000) == (1, 10)  # by the counter's own time the first is long gone
    assert _count(MINUTE, usage, 1000, 100) == ahead
    add(usage, "rolling-60-6/account/a", ahead, -2, -110)
    assert usage.buckets == ((ahead, 0, 0),)
    assert bucket_at(MINUTE, usage, 1000) == ahead


def test_what_was_counted_in_a_bucket_that_is_gone_is_gone_with_it() -> None:
    usage = Usage()
    old = _count(MINUTE, usage, 1000, 1)
    _count(MINUTE, usage, 2000, 10)
    before = usage.buckets
    add(usage, "rolling-60-6/account/a", old, -1, -1)
    assert usage.buckets == before
    assert (usage.count, usage.minor) == (1, 10)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(
    seconds=st.integers(10, 5000),
    buckets=st.integers(1, 60),
    steps=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 100), st.booleans()), max_size=40),
)
@example(seconds=10, buckets=1, steps=[(5, 1, False), (8, 1, False)])  # in the oldest bucket, and within the window
def test_a_window_never_counts_less_than_what_happened_within_it(
    seconds: int, buckets: int, steps: list[tuple[int, int, bool]]
) -> None:
    """And nothing that is older than the window by a bucket or more; an intent that is given back counts no more."""
    window = Window(by="account", rolling_seconds=seconds, buckets=min(buckets, seconds))
    width, usage, now = -(-seconds // window.buckets), Usage(), 1_000_000
    happened: list[tuple[int, int]] = []
    for later, minor, given_back in steps:
        now += later
        bucket = _count(window, usage, now, minor)
        if given_back:
            add(usage, counter_of(window, "UTC", COMMAND), bucket, -1, -minor)
        else:
            happened.append((now, minor))
        within = [one for at, one in happened if at > now - seconds]
        nearly = [one for at, one in happened if at > now - seconds - width]
        count, amount = used(window, usage, now)
        assert len(within) <= count <= len(nearly)
        assert sum(within) <= amount <= sum(nearly)
        assert len(usage.buckets) <= window.buckets + 2
