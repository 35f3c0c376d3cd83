"""Limits on what a rail is asked: a rate that is never exceeded, its share of several workers, and places at once."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.actors.test_supervisor import in_virtual_time
from zentra.actors.limits import Pace, RailGate
from zentra.runtime.rails.port import RailSettings

ALPHA = RailSettings("alpha", "sandbox", concurrency_max=2)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(st.lists(st.floats(0, 2), max_size=60), st.floats(0.5, 50), st.integers(1, 8))
def test_no_window_has_more_calls_than_its_rate_and_one_burst(pauses: list[float], rate: float, burst: int) -> None:
    pace, now, went = Pace(), 0.0, list[float]()
    for pause in pauses:
        now += pause
        went.append(now + pace.reserve(now, rate, burst))
    assert went == sorted(went)
    for first, start in enumerate(went):
        for last in range(first, len(went)):
            assert last - first + 1 <= burst + rate * (went[last] - start) + 1e-6


def test_after_a_rest_a_burst_goes_at_once() -> None:
    pace = Pace()
    waits = [pace.reserve(100.0, 10.0, 3) for _ in range(5)]
    assert waits == pytest.approx([0, 0, 0, 0.1, 0.2])


@pytest.mark.parametrize(("workers", "seconds"), [(1, 0.9), (3, 2.7)])
@in_virtual_time
async def test_each_worker_spends_an_even_share_of_the_rate(workers: int, seconds: float) -> None:
    gate, done = RailGate(lambda: workers, lambda rail, how, more: None), list[float]()
    settings = structs.replace(ALPHA, rate_per_second=10.0)
    started = anyio.current_time()

    async def ask() -> None:
        async with gate.turn(settings):
            done.append(anyio.current_time() - started)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
    assert done[-1] == pytest.approx(seconds, abs=0.01)


@in_virtual_time
async def test_so_many_calls_have_a_place_and_the_rest_is_told_to_wait() -> None:
    waiting: Counter[str] = Counter()
    gate, most, inside, end = (
        RailGate(lambda: 1, lambda rail, how, more: waiting.update({rail: more})),
        [0],
        [0],
        anyio.Event(),
    )

    async def ask() -> None:
        async with gate.turn(ALPHA):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            await end.wait()
            inside[0] -= 1

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert (inside[0], waiting["alpha"]) == (2, 3)
        async with anyio.create_task_group() as more:
            more.start_soon(_one, gate, structs.replace(ALPHA, concurrency_max=3))
            await anyio.wait_all_tasks_blocked()
            assert (inside[0], waiting["alpha"]) == (3, 3)  # the settings that are in force now
            end.set()
    assert (most[0], inside[0], waiting["alpha"]) == (3, 0, 0)


async def _one(gate: RailGate, settings: RailSettings) -> None:
    async with gate.turn(settings):
        pass
