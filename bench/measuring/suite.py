"""The rows that the runtime is held to, measured in rounds beside the limit: rates are shares of it, the rest is as is.

- Every stand is measured right after a run of the limit, and divided by it, so that both had the same machine.
- A run that is invalid or incorrect has no figure; its row says why instead of quoting what is left.
- What is quoted is the median of the rounds, with the lowest and highest beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator
from typing import Final

from msgspec import Struct

from zentra.bench.measuring.limit import LimitPlan, measure_limit
from zentra.bench.measuring.measure import measure_on
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.plans import Plan, plan_of
from zentra.bench.measuring.stand import Progress, open_stand

__all__ = ["ROWS", "Row", "RowResult", "SuiteResult", "results_of", "run_suite"]

GROWTH_FLAT_MIB: Final = 40.0
HALF: Final = 0.5
SECONDS: Final = 8.0


class Row(Struct, frozen=True):
    """One thing that is asked, the bar to reach and the goal beyond it; `least` is better where it is true."""

    name: str
    unit: str
    bar: float
    goal: float
    least: bool = False


# fmt: off
ROWS: Final = {
    "inline":   Row("inline rail / limit",                                  "×",     0.4,  0.8),
    "sandbox":  Row("HTTP sandbox rail / limit",                            "×",     0.08, 0.25),
    "endpoint": Row("inline rail and a webhook endpoint / limit",           "×",     0.10, 0.3),
    "hot":      Row("hot account / uniform",                                "×",     0.7,  0.95),
    "half":     Row("p99 until SUCCESSFUL at half of the own maximum",      "ms",  500,    100,  True),
    "slow":     Row("p50 until SUCCESSFUL at 50 intents/s",                 "ms",   40,     10,  True),
    "http":     Row("one intent per HTTP request, completed",               "/s", 2500,   5000),
    "unloaded": Row("p50 of one intent at a time until SUCCESSFUL",         "ms",   14,   10.6,  True),
    "memory":   Row("growth of a worker's memory after warm-up",            "MiB", GROWTH_FLAT_MIB, 10, True),
}
# fmt: on


class RowResult(Struct, frozen=True, kw_only=True):
    """A row with what came out: a value a round, their median and spread, and whether the bar and goal are met."""

    row: Row
    values: list[float]
    median: float | None
    low: float | None
    high: float | None
    bar_met: bool
    goal_met: bool
    faults: list[str]


class SuiteResult(Struct, frozen=True, kw_only=True):
    """All rows, and the rates behind the ratios, by name and round."""

    rows: dict[str, RowResult]
    rates: dict[str, list[float]]
    rounds: int


class _Board:
    """Collects values and faults by row."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.faults: dict[str, list[str]] = {}
        self.rates: dict[str, list[float]] = {}

    def rate(self, name: str, value: float) -> None:
        self.rates.setdefault(name, []).append(value)

    def take(self, name: str, measured: Measured, value: float) -> None:
        """Take a value of a run that may be quoted; else its faults."""
        faults = [*measured.faults, *measured.breaches]
        if faults:
            self.faults.setdefault(name, []).extend(faults)
        else:
            self.values.setdefault(name, []).append(round(value, 4))


async def run_suite(rounds: int, scale: float, memory_intents: int, progress: Progress) -> SuiteResult:
    """Return all rows. `scale` multiplies the number of intents; `memory_intents` 0 leaves that row out.

    Raises what measuring raises."""
    board = _Board()
    for number in range(rounds):
        async for label in _round(board, scale, progress, number):
            progress(f"round {number + 1} of {rounds}: {label}", number, rounds)
    if memory_intents:
        plan = Plan(intents=memory_intents)
        async with open_stand(plan, progress) as stand:
            measured = await measure_on(stand, plan, progress)
        board.take("memory", measured, measured.figures["worker_memory_growth_mib"])
        board.rate("memory of a worker, MiB", measured.figures["worker_memory_mib"])
    return SuiteResult(rows=results_of(board.values, board.faults), rates=board.rates, rounds=rounds)


async def _round(board: _Board, scale: float, progress: Progress, number: int) -> AsyncIterator[str]:
    """Measure everything once; yields before each stand. Rounds alternate the order of uniform and hot."""
    yield "inline rail"
    limit = await _limit(board, scale)
    plan = Plan(intents=round(20_000 * scale))
    async with open_stand(plan, progress) as stand:

        async def on_stand(wanted: Plan) -> Measured:
            return await measure_on(stand, wanted, progress)

        hot_plan = Plan(intents=plan.intents, hot=True)
        pair = [hot_plan, plan] if number % 2 else [plan, hot_plan]
        both = {each.hot: await on_stand(each) for each in pair}
        uniform, hot = both[False], both[True]
        rate = uniform.completed_per_second
        board.rate("inline", rate)
        board.take("inline", uniform, rate / limit)
        board.take("hot", hot, hot.completed_per_second / rate)
        half = await on_stand(plan_of("steady", rate=HALF * rate, seconds=SECONDS * min(1.0, scale)))
        board.take("half", half, half.p99_ms)
        slow = await on_stand(plan_of("steady", rate=50, seconds=SECONDS * min(1.0, scale)))
        board.take("slow", slow, slow.p50_ms)
        http = await on_stand(Plan(transport="http", intents=round(10_000 * scale), in_flight=128))
        board.take("http", http, http.completed_per_second)
        unloaded = await on_stand(plan_of("unloaded", seconds=2))
        board.take("unloaded", unloaded, unloaded.p50_ms)
    for name, more in (("sandbox", {"rail": "sandbox"}), ("endpoint", {"endpoint": True})):
        yield name
        limit = await _limit(board, scale)
        other = Plan(intents=round(8_000 * scale), **more)
        async with open_stand(other, progress) as stand:
            measured = await measure_on(stand, other, progress)
        board.rate(name, measured.completed_per_second)
        board.take(name, measured, measured.completed_per_second / limit)


async def _limit(board: _Board, scale: float) -> float:
    result = await measure_limit(LimitPlan(intents=round(30_000 * scale)))
    board.rate("limit", result.limit_per_second)
    return result.limit_per_second


def results_of(values: dict[str, list[float]], faults: dict[str, list[str]]) -> dict[str, RowResult]:
    """Return the result of every row that was measured; one without a value has met nothing."""
    results = {}
    for name, row in ROWS.items():
        if name not in values and name not in faults:
            continue
        found = values.get(name, [])
        median = statistics.median(found) if found else None
        results[name] = RowResult(
            row=row, values=found, median=median, low=min(found, default=None), high=max(found, default=None),
            bar_met=_meets(row, row.bar, median) and name not in faults,
            goal_met=_meets(row, row.goal, median) and name not in faults,
            faults=faults.get(name, []),
        )  # fmt: skip
    return results


def _meets(row: Row, limit: float, median: float | None) -> bool:
    if median is None:
        return False
    return median <= limit if row.least else median >= limit
