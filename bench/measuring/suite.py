"""The rows that the runtime is held to, measured in rounds beside the limit: rates are shares of it, the rest is as is.

- Every stand is measured right after a run of the limit, and divided by it, so that both had the same machine.
- A run that is invalid or incorrect has no figure; its row says why instead of quoting what is left.
- What is quoted is the median of the rounds, with the lowest and highest beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from zentra.bench.measuring.generating import GeneratorFault
from zentra.bench.measuring.grown import NotQuotable, compare_grown
from zentra.bench.measuring.limit import LimitPlan, measure_limit
from zentra.bench.measuring.measure import measure_on
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.plans import Plan, plan_of
from zentra.bench.measuring.sidecar import SidecarFailed
from zentra.bench.measuring.stand import Progress, open_stand

__all__ = ["ROWS", "Row", "RowResult", "SuiteResult", "results_of", "run_suite", "seconds_expected"]

GROWTH_FLAT_MIB: Final = 40.0
HALF: Final = 0.5
SLOW_RATE: Final = 50.0
SECONDS: Final = 8.0
UNLOADED_SECONDS: Final = 2.0
LIMIT_INTENTS: Final = 50_000
UNIFORM_INTENTS: Final = 50_000  # as many as the limit
WORKERS: Final = 2  # one for each core
OTHER_INTENTS: Final = 8_000
HTTP_INTENTS: Final = 10_000
HTTP_IN_FLIGHT: Final = 128
BULK_INTENTS: Final = 20_000
MEMORY_SECONDS_MAX: Final = 1_200.0
INLINE_ROWS: Final = ("inline", "hot", "half", "slow", "http", "unloaded", "unloaded_p99")
MEMORY_ROWS: Final = ("memory", "growth")
# What the parts take on two cores where a worker does 4,000 intents a second; printed before a suite begins.
ROUND_SECONDS: Final = 140.0  # three limits, three stands with their accounts, eight loads with their checks
SCALED_SECONDS: Final = 100.0  # of those: what grows with the number of intents
MEMORY_SECONDS_EACH: Final = 4e-4  # an intent of the row about memory, its check included
HISTORY_SECONDS_EACH: Final = 4e-4  # an intent of a history, filled in and checked once
HISTORY_SECONDS: Final = 90.0  # two stands, and a round of loads on each


class Row(Struct, frozen=True):
    """One thing that is asked, the bar to reach and the goal beyond it; `least` is better where it is true.

    None where nothing was set: such a bar or goal is met by whatever was measured."""

    name: str
    unit: str
    bar: float | None
    goal: float | None
    least: bool = False


# fmt: off
ROWS: Final = {
    "inline":   Row("inline rail / limit",                                  "×",     0.4,  0.8),
    "sandbox":  Row("HTTP sandbox rail / limit",                            "×",     0.08, 0.25),
    "endpoint": Row("inline rail and an endpoint for the outcome / limit",  "×",     0.10, 0.3),
    "hot":      Row("hot account / uniform",                                "×",     0.7,  0.95),
    "half":     Row("p99 until SUCCESSFUL at half of the own maximum",      "ms",  500,    100,  True),
    "slow":     Row("p50 until SUCCESSFUL at 50 intents/s",                 "ms",   40,     10,  True),
    "http":     Row("one intent per HTTP request, accepted and completed",  "/s", 2500,   5000),
    "unloaded": Row("p50 of one intent at a time until SUCCESSFUL",         "ms",   14,   10.6,  True),
    "unloaded_p99": Row("p99 of one intent at a time until SUCCESSFUL",     "ms",   19,   15,    True),
    "memory":   Row("memory of one worker after all of its intents",        "MiB", None,  200,   True),
    "growth":   Row("growth of a worker's memory after warm-up",            "MiB", GROWTH_FLAT_MIB, None, True),
    "history":  Row("database with a history / empty one, rate",            "×",     0.8,  None),
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
    seconds: float = 0.0


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
        for fault in faults:
            self.fail(name, fault)
        if not faults:
            self.values.setdefault(name, []).append(round(value, 4))

    def fail(self, name: str, fault: str) -> None:
        """Note why a round has no value for a row."""
        self.faults.setdefault(name, []).append(fault)


def seconds_expected(rounds: int, scale: float, memory_intents: int, history: int) -> float:
    """Return about how long the suite takes on two cores."""
    each = ROUND_SECONDS - SCALED_SECONDS * (1 - scale) + MEMORY_SECONDS_EACH * memory_intents
    grown = HISTORY_SECONDS * rounds + HISTORY_SECONDS_EACH * history if history else 0.0
    return rounds * each + grown


async def run_suite(
    rounds: int, scale: float, memory_intents: int, progress: Progress, *, history: int = 0
) -> SuiteResult:
    """Return all rows. `scale` multiplies the number of intents; `memory_intents` and `history` 0 leave theirs out.

    A stand that fails costs its rows and no others. Raises DevStackError, and LimitFailed."""
    board, begun = _Board(), time.monotonic()
    bench = _Bench(board, scale, progress)
    for number in range(rounds):
        works = {
            INLINE_ROWS: partial(bench.inline, number),
            ("sandbox",): partial(bench.other, "sandbox", Plan(rail="sandbox", workers=WORKERS)),
            ("endpoint",): partial(bench.endpoint),
        }
        if memory_intents:
            works[MEMORY_ROWS] = partial(bench.memory, memory_intents)
        for names, work in works.items():
            progress(f"round {number + 1} of {rounds}: {names[0]}", number, rounds)
            await _attempt(board, names, work())
    if history:
        await _attempt(board, ("history",), bench.history(history, rounds))
    rows = results_of(board.values, board.faults)
    return SuiteResult(rows=rows, rates=board.rates, rounds=rounds, seconds=round(time.monotonic() - begun, 1))


async def _attempt(board: _Board, names: Sequence[str], work: Coroutine[Any, Any, None]) -> None:
    """Do the work; where it fails, the rows that it had not given a value yet have a fault."""
    before = {name: len(board.values.get(name, [])) for name in names}
    try:
        await work
    except (GeneratorFault, SidecarFailed, NotQuotable, TimeoutError, RuntimeError) as error:
        for name in names:
            if len(board.values.get(name, [])) == before[name]:
                board.fail(name, f"{type(error).__name__}: {error}".removesuffix(": "))


class _Bench:
    """Measures the rows of one round, stand by stand; each begins with the limit."""

    def __init__(self, board: _Board, scale: float, progress: Progress) -> None:
        self._board, self._scale, self._progress = board, scale, progress

    async def inline(self, turn: int) -> None:
        """The rows of the inline rail; rounds alternate the order of uniform and hot."""
        board, scale = self._board, self._scale
        limit = await self._limit()
        plan = Plan(intents=round(UNIFORM_INTENTS * scale), workers=WORKERS)
        async with open_stand(plan, self._progress) as stand:

            async def on_stand(wanted: Plan) -> Measured:
                return await measure_on(stand, wanted, self._progress)

            pair = [plan, replace(plan, hot=True)]
            both = {each.hot: await on_stand(each) for each in (reversed(pair) if turn % 2 else pair)}
            rate = both[False].completed_per_second
            board.rate("inline", rate)
            board.take("inline", both[False], rate / limit)
            board.take("hot", both[True], both[True].completed_per_second / rate)
            seconds = SECONDS * min(1.0, scale)
            steady = plan_of("steady", rate=HALF * rate, seconds=seconds)
            half = await on_stand(replace(steady, batch=plan.batch))
            board.take("half", half, half.p99_ms)
            board.rate("p99 at half in single requests, ms", (await on_stand(steady)).p99_ms)
            slow = await on_stand(plan_of("steady", rate=SLOW_RATE, seconds=seconds))
            board.take("slow", slow, slow.p50_ms)
            http = await on_stand(Plan(transport="http", intents=round(HTTP_INTENTS * scale), in_flight=HTTP_IN_FLIGHT))
            board.take("http", http, min(http.accepted_per_second, http.completed_per_second))
            board.rate("http, accepted", http.accepted_per_second)
            bulk = await on_stand(Plan(transport="bulk", intents=round(BULK_INTENTS * scale)))
            board.rate("http bulk, completed", bulk.completed_per_second)
            unloaded = await on_stand(plan_of("unloaded", seconds=UNLOADED_SECONDS))
            board.take("unloaded", unloaded, unloaded.p50_ms)
            board.take("unloaded_p99", unloaded, unloaded.p99_ms)

    async def other(self, name: str, plan: Plan) -> None:
        """The row of one other stand."""
        limit = await self._limit()
        plan = replace(plan, intents=round(OTHER_INTENTS * self._scale))
        async with open_stand(plan, self._progress) as stand:
            measured = await measure_on(stand, plan, self._progress)
        self._board.rate(name, measured.completed_per_second)
        self._board.take(name, measured, measured.completed_per_second / limit)

    async def endpoint(self) -> None:
        """The row of a webhook per intent, and the rate with one for every event of it."""
        outcome = Plan(endpoint=True, endpoint_event="ledger.posted")
        await self.other("endpoint", outcome)
        plan = replace(outcome, intents=round(OTHER_INTENTS / 2 * self._scale), endpoint_event="")
        async with open_stand(plan, self._progress) as stand:
            measured = await measure_on(stand, plan, self._progress)
        self._board.rate("endpoint for every event", measured.completed_per_second)

    async def memory(self, intents: int) -> None:
        """The rows about memory: how much a worker has in the end, and by how much it grew after warm-up."""
        plan = Plan(intents=intents, seconds_max=MEMORY_SECONDS_MAX)
        async with open_stand(plan, self._progress) as stand:
            measured = await measure_on(stand, plan, self._progress)
        self._board.take("memory", measured, measured.figures["worker_memory_mib"])
        self._board.take("growth", measured, measured.figures["worker_memory_growth_mib"])

    async def history(self, intents: int, rounds: int) -> None:
        """The row about a database that is not empty: its rounds are on two stands that stay."""
        grown = await compare_grown(intents, rounds, self._scale, self._progress)
        self._board.values["history"] = grown.rate.rounds
        self._board.rates |= {f"history of {intents:,}, {side}": found for side, found in grown.rates.items()}
        self._board.rates |= {f"p99 at {grown.steady_per_second:,.0f}/s, {s}, ms": v for s, v in grown.p99_ms.items()}

    async def _limit(self) -> float:
        result = await measure_limit(LimitPlan(intents=round(LIMIT_INTENTS * self._scale)))
        self._board.rate("limit", result.limit_per_second)
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


def _meets(row: Row, limit: float | None, median: float | None) -> bool:
    if median is None:
        return False
    if limit is None:
        return True
    return median <= limit if row.least else median >= limit
