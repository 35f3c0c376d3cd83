"""A load is cut into requests so that every intent goes once, and through the door that it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.bench.measuring.load import Load, distinct_numbers, requests_of
from zentra.bench.measuring.marks import Marks
from zentra.bench.measuring.plans import plan_of
from zentra.bench.measuring.schedule import Phase
from zentra.bench.measuring.workload import Mix


def load_of(transport: str = "both", **changes: object) -> Load:
    return Load(transport=transport, url="", sources=("a",), destinations=("b",), **changes)  # type: ignore[arg-type]


ONES = [(0, 1), (0, 1)]

# fmt: off
CUTS = [
    # transport, changes,                                                       (door, intents) of each request
    ("nats", {"intents": 5, "batch": 2},                                        [(0, 2), (0, 2), (0, 1)]),
    ("bulk", {"intents": 4, "batch": 4},                                        [(0, 4)]),
    ("http", {"intents": 2, "batch": 9},                                        [(0, 1), (0, 1)]),
    ("both", {"intents": 7, "batch": 2},                                        [*ONES, (1, 2), *ONES, (1, 1)]),
    ("both", {"phases": (Phase("a", 1.0, 3.0), Phase("b", 1.0, 1.0)), "batch": 2}, [*ONES, (1, 1), (1, 1)]),
]
# fmt: on


@pytest.mark.parametrize(("transport", "changes", "cut"), CUTS)
def test_doors_take_turns_and_no_request_crosses_a_phase_or_a_door(
    transport: str, changes: dict[str, object], cut: list[tuple[int, int]]
) -> None:
    requests = list(requests_of(load_of(transport, **changes)))
    assert [(request.door, len(request.drawn)) for request in requests] == cut
    assert [request.second for request in requests] == sorted(request.second for request in requests)


@pytest.mark.parametrize("shares", [1, 2, 3])
def test_the_shares_send_the_load_once_and_know_the_door_of_every_intent(shares: int) -> None:
    loads = [load_of(intents=100, batch=7, share=share, shares=shares) for share in range(shares)]
    seen: dict[int, int] = {}
    for load in loads:
        for request in requests_of(load):
            seen |= {drawn.number: request.door for drawn in request.drawn}
    assert sorted(seen) == list(range(100))
    assert all(load.door_of(number) == door for load in loads for number, door in seen.items())


def test_distinct_numbers_are_those_that_are_no_repeats() -> None:
    load = load_of(intents=2_000, batch=10, mix=Mix(repeats=0.05))
    drawn = [one for request in requests_of(load) for one in request.drawn]
    assert distinct_numbers(load) == {one.number for one in drawn}
    assert 60 < sum(one.repeated for one in drawn) < 140


@given(st.lists(st.integers(0, 3_000)), st.lists(st.integers(0, 3_000)))
def test_marks_are_a_set(first: list[int], second: list[int]) -> None:
    one, other = Marks(), Marks()
    for number in first:
        one.add(number)
    for number in second:
        other.add(number)
    one.update(bytes(other))
    again = Marks(bytes(one))
    assert set(again) == set(first) | set(second)
    assert len(again) == len(set(again))
    assert all(number in again for number in first + second)
    assert 3_001 not in again


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_repeats_is_one(share: float) -> None:
    with pytest.raises(ValueError, match="share of repeats"):
        plan_of("full", repeats=share)


def test_repeats_are_added_to_what_a_profile_mixes() -> None:
    assert plan_of("hot", repeats=0.05).mix == Mix(zipf=1.2, repeats=0.05)
    assert plan_of("retries").mix.repeats == 0.25
