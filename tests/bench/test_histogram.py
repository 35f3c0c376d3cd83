"""A histogram knows what it was given to one part in a thousand, and adding histograms loses nothing."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.bench.measuring.histogram import Histogram, merged

DURATIONS = st.lists(st.floats(0, 10_000), min_size=1, max_size=200)


def of(*seconds: float) -> Histogram:
    histogram = Histogram(counts={})
    for each in seconds:
        histogram.record(each)
    return histogram


@pytest.mark.parametrize(("seconds", "share", "ms"), [
    ((),                                   0.5,   0.0),
    ((0.001,),                             0.0,   1.0),
    ((0.001,),                             1.0,   1.0),
    ((0.001, 0.002, 0.003),                0.5,   2.0),
    ((0.001, 0.002, 0.003),                0.99,  3.0),  # known to the bucket of 2.048 ms and more: 3.001
    ((-1.0,),                              1.0,   0.0),  # a clock stepped back
    (tuple(n / 1000 for n in range(1, 101)), 0.99, 99.0),
])  # fmt: skip
def test_a_quantile_is_the_duration_that_so_many_did_not_exceed(
    seconds: tuple[float, ...], share: float, ms: float
) -> None:
    assert of(*seconds).quantile_ms(share) == pytest.approx(ms, rel=1 / 1000, abs=0.001)


@given(DURATIONS, st.floats(0, 1))
def test_no_quantile_is_off_by_more_than_a_thousandth(seconds: list[float], share: float) -> None:
    exact = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)] * 1000
    assert of(*seconds).quantile_ms(share) == pytest.approx(exact, rel=1 / 1000, abs=0.0011)


@given(st.lists(DURATIONS, min_size=1, max_size=5))
def test_added_histograms_are_the_histogram_of_everything(parts: list[list[float]]) -> None:
    assert merged(of(*part) for part in parts) == of(*(each for part in parts for each in part))


@given(DURATIONS)
def test_a_histogram_survives_its_json(seconds: list[float]) -> None:
    histogram = of(*seconds)
    assert msgspec.json.decode(msgspec.json.encode(histogram), type=Histogram) == histogram


@given(DURATIONS)
def test_the_mean_is_exact(seconds: list[float]) -> None:
    mean = sum(int(each * 1_000_000) for each in seconds) / len(seconds) / 1000
    assert of(*seconds).mean_ms == pytest.approx(mean)


def test_what_was_longer_is_counted() -> None:
    assert of(0.001, 0.009, 0.011, 5.0).count_over(0.01) == 2


@pytest.mark.parametrize("shares", [(0.9, 0.5), (-0.1,), (1.1,)])
def test_shares_ascend_from_nought_to_one(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        of(1.0).quantiles_ms(shares)
