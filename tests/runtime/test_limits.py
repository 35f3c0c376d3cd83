"""The arithmetic of quotas: what is granted over any stretch of time, and what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.limits import Ask, LocalBuckets, Quota, parse_quota


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.integers(1, 60)), min_size=1, max_size=60),
)
def test_no_stretch_of_time_is_granted_more_than_a_full_bucket_and_what_fills_meanwhile(
    quota: int, window: int, steps: list[tuple[float, int]]
) -> None:
    now = 0.0
    buckets = LocalBuckets(lambda: now)
    granted: list[tuple[float, int]] = []
    for seconds, wanted in steps:
        now += seconds
        granted.append((now, buckets.take_nowait(Ask("b", Quota(quota, window), wanted)).tokens))
    for place, (begin, _) in enumerate(granted):
        for end, _ in granted[place:]:
            total = sum(tokens for at, tokens in granted if begin <= at <= end)
            assert total <= quota + (end - begin) * quota / window + 1e-3


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 60))
def test_what_a_bucket_says_about_waiting_is_true(quota: int, window: int, wanted: int) -> None:
    now = 0.0
    buckets = LocalBuckets(lambda: now)
    name, rate = "b", Quota(quota, window)
    buckets.take_nowait(Ask(name, rate, quota))
    least = min(wanted, quota)
    refused = buckets.take_nowait(Ask(name, rate, wanted, least))
    assert refused.tokens == 0
    now += refused.next_seconds
    assert buckets.take_nowait(Ask(name, rate, wanted, least)).tokens >= least


def test_the_memory_of_a_process_is_bounded_and_keeps_what_is_not_full() -> None:
    now = 0.0
    buckets = LocalBuckets(lambda: now, buckets_max=3)
    for name in "abc":
        buckets.take_nowait(Ask(name, Quota(2, 100), 1))
    now = 60.0
    buckets.take_nowait(Ask("b", Quota(2, 100), 2))
    buckets.take_nowait(Ask("d", Quota(2, 100), 1))
    assert len(buckets) == 2, "a and c were full"
    assert buckets.take_nowait(Ask("b", Quota(2, 100), 1)).tokens == 0
    for number in range(100):
        buckets.take_nowait(Ask(str(number), Quota(2, 100), 1))
        assert len(buckets) <= 3


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("600/60", Quota(600, 60)), ("1/1", Quota(1, 1)), ("10000000/86400", Quota(10_000_000, 86_400)),
        ("0/60", None), ("1/0", None), ("10000001/1", None), ("1/86401", None), ("600", None), ("a/b", None),
        ("6 0/1", None), ("-1/1", None), ("1/1\n", None), ("", None),
    ],
)  # fmt: skip
def test_a_quota_is_written_as_requests_and_seconds(text: str, quota: Quota | None) -> None:
    assert parse_quota(text) == quota
