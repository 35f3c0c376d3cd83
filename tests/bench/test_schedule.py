"""The schedule sends every intent once, at its time, whatever the server does; and a lagging sender is found out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.bench.measuring.histogram import Histogram
from zentra.bench.measuring.schedule import Phase, arrivals, lag_fault, seconds_of, total_of

RATES = st.floats(1, 500)
PHASES = st.lists(st.builds(Phase, st.just("p"), st.floats(0.1, 3), RATES, st.none() | RATES), min_size=1, max_size=4)


@pytest.mark.parametrize(("phase", "intents", "place", "second"), [
    (Phase("even", 10, 100),        1000,  0,    0.0),
    (Phase("even", 10, 100),        1000,  500,  5.0),
    (Phase("rising", 10, 0, 100),   500,   125,  5.0),   # half the time, a quarter of the intents
    (Phase("rising", 10, 0, 100),   500,   500,  10.0),
    (Phase("falling", 10, 100, 0),  500,   375,  5.0),
    (Phase("falling", 10, 100, 0),  500,   500,  10.0),
])  # fmt: skip
def test_a_phase_sends_by_the_integral_of_its_rate(phase: Phase, intents: int, place: int, second: float) -> None:
    assert phase.intents == intents
    assert phase.second_of(place) == pytest.approx(second)


@given(PHASES, st.integers(1, 4), st.none() | st.integers(0, 99))
def test_the_shares_together_send_every_intent_once(phases: list[Phase], shares: int, seed: int | None) -> None:
    apart = [list(arrivals(phases, share=n, shares=shares, poisson_seed=seed)) for n in range(shares)]
    together = sorted(arrival for part in apart for arrival in part)
    assert together == list(arrivals(phases, poisson_seed=seed))
    assert [arrival.number for arrival in together] == list(range(total_of(phases)))


@given(PHASES, st.none() | st.integers(0, 99))
def test_arrivals_are_in_order_and_inside_their_phase(phases: list[Phase], seed: int | None) -> None:
    begins = [seconds_of(phases[:index]) for index in range(len(phases) + 1)]
    last = 0.0
    for _, second, phase in arrivals(phases, poisson_seed=seed):
        assert second >= last
        assert begins[phase] <= second <= begins[phase + 1]
        last = second


def test_poisson_arrivals_keep_the_rate_and_lose_the_rhythm() -> None:
    phase = [Phase("p", 10, 100)]
    even, drawn = list(arrivals(phase)), list(arrivals(phase, poisson_seed=1))
    assert len(even) == len(drawn) == 1000
    gaps = {round(b.second - a.second, 4) for a, b in pairwise(drawn)}
    assert len(gaps) > 100


@pytest.mark.parametrize(("share", "shares"), [(1, 1), (-1, 2), (0, 0)])
def test_a_share_that_is_none_is_refused(share: int, shares: int) -> None:
    with pytest.raises(ValueError, match="share"):
        list(arrivals([Phase("p", 1, 1)], share=share, shares=shares))


@pytest.mark.parametrize(("punctual", "late", "planned", "fault"), [
    (1000, 0,   1000, None),
    (995,  5,   1000, None),                        # one in two hundred: a hiccup of the machine
    (980,  20,  1000, "the generator lagged"),
    (900,  0,   1000, "100 of 1000 intents were never sent"),
    (0,    0,   0,    None),
])  # fmt: skip
def test_a_phase_whose_sender_lagged_counts_for_nothing(
    punctual: int, late: int, planned: int, fault: str | None
) -> None:
    lag = Histogram(counts={})
    for _ in range(punctual):
        lag.record(0.001)
    for _ in range(late):
        lag.record(0.2)
    found = lag_fault(lag, planned)
    assert (found is None) if fault is None else (found is not None and found.startswith(fault))
