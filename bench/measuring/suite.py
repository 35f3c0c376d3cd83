"""The rows that the runtime is held to, measured in rounds beside the limit: rates are shares of it, the rest is as is.

- Every stand is measured right after a run of the limit, and divided by it, so that both had the same machine.
- A run that is invalid or incorrect has no figure; its row says why instead of quoting what is left.
- A row that is a share of another run has none either where that one is invalid or incorrect.
- What is quoted is the median of the rounds, with the lowest and highest beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from zentra.bench.measuring.generating import Ceilings, GeneratorFault
from zentra.bench.measuring.grown import NotQuotable, compare_grown
from zentra.bench.measuring.limit import LimitPlan, measure_limit
from zentra.bench.measuring.measure import measure_on
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.pace import Pace
from zentra.bench.measuring.plans import Plan, plan_of
from zentra.bench.measuring.sidecar import SidecarFailed
from zentra.bench.measuring.stand import Progress, Stand, open_stand

__all__ = ["ROWS", "Row", "RowResult", "SuiteResult", "parts_of", "results_of", "run_suite"]

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
SINGLE: Final = "p99 at half in single requests, ms"
HTTP_ACCEPTED: Final = "http, accepted"
BULK: Final = "http bulk, completed"
EVERY_EVENT: Final = "endpoint for every event"
# What the parts of a round take on two cores where a worker does 4,000 intents a second: stands with their accounts and
# limits with their servers, and what grows with the number of intents.
PART_SECONDS: Final = {"inline": (20.0, 45.0), "http": (10.0, 18.0), "sandbox": (8.0, 15.0), "endpoint": (14.0, 25.0)}
MEMORY_SECONDS: Final = 8.0
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


class _Part(NamedTuple):
    """What is measured in one go: its rows, and the rates that are shown beside them."""

    rows: Sequence[str]
    rates: Sequence[str] = ()


INLINE: Final = _Part(("inline", "hot", "half", "slow"), ("inline", SINGLE))
HTTP: Final = _Part(("http", "unloaded", "unloaded_p99"), (HTTP_ACCEPTED, BULK))
SANDBOX: Final = _Part(("sandbox",), ("sandbox",))
ENDPOINT: Final = _Part(("endpoint",), ("endpoint", EVERY_EVENT))
MEMORY: Final = _Part(("memory", "growth"))
HISTORY: Final = _Part(("history",))


class RowResult(Struct, frozen=True, kw_only=True):
    """A row with what came out: a value a round, their median and spread, and whether the bar and goal are met.

    `to_goal_percent` is what is missing to the goal, in percent of the goal: 0 and less where it is met."""

    row: Row
    values: list[float]
    median: float | None
    low: float | None
    high: float | None
    bar_met: bool
    goal_met: bool
    to_goal_percent: float | None
    faults: list[str]


class SuiteResult(Struct, frozen=True, kw_only=True):
    """All rows, and the rates behind the ratios, by name and round: None where a run does not count, and why."""

    rows: dict[str, RowResult]
    rates: dict[str, list[float | None]]
    rounds: int
    seconds: float = 0.0
    rate_faults: dict[str, list[str]] = {}
    breaches: list[str] = []  # of the runs behind those rates: what was lost, repeated or left unproven
    left_out: list[str] = []  # rows that nobody asked for

    @property
    def met(self) -> bool:
        """Whether every bar is met, and nothing was broken on the way."""
        return all(row.bar_met for row in self.rows.values()) and not self.breaches


class _Board:
    """Collects values and faults by row, and rates by name; no figure of a run gets on it that does not count."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.faults: dict[str, list[str]] = {}
        self.rates: dict[str, list[float | None]] = {}
        self.rate_faults: dict[str, list[str]] = {}
        self.breaches: list[str] = []

    def limit(self, value: float) -> None:
        """Take a run of the limit, which raises where it does not count."""
        self.rates.setdefault("limit", []).append(value)

    def rate(self, name: str, measured: Measured, value: float) -> float | None:
        """Take a rate of a run that may be quoted and return it; else take its faults, and return None."""
        against = _against(measured)
        self.rates.setdefault(name, []).append(None if against else value)
        if against:
            self.rate_faults.setdefault(name, []).extend(against)
            self.breaches += [f"{name}: {breach}" for breach in measured.breaches]
            return None
        return value

    def no_rate(self, name: str, fault: str) -> None:
        """Note why a round has no rate of this name."""
        self.rates.setdefault(name, []).append(None)
        self.rate_faults.setdefault(name, []).append(fault)

    def take(self, name: str, measured: Measured, value: float) -> None:
        """Take a value of a run that may be quoted; else its faults."""
        against = _against(measured)
        for fault in against:
            self.fail(name, fault)
        if not against:
            self.values.setdefault(name, []).append(round(value, 4))

    def fail(self, name: str, fault: str) -> None:
        """Note why a round has no value for a row."""
        self.faults.setdefault(name, []).append(fault)


def _against(measured: Measured) -> list[str]:
    """Return why no figure of a run may be quoted."""
    return [*measured.faults, *measured.breaches]


def parts_of(rounds: int, scale: float, memory_intents: int, history: int) -> list[tuple[str, float]]:
    """Return the parts of a suite in order, each with about how many seconds it takes on two cores."""
    parts = []
    for number in range(rounds):
        for name, (fixed, scaled) in PART_SECONDS.items():
            parts.append((f"round {number + 1} of {rounds}, {name}", fixed + scaled * scale))
        if memory_intents:
            seconds = MEMORY_SECONDS + MEMORY_SECONDS_EACH * memory_intents
            parts.append((f"round {number + 1} of {rounds}, memory", seconds))
    if history:
        parts.append(("history", HISTORY_SECONDS * rounds + HISTORY_SECONDS_EACH * history))
    return parts


async def run_suite(
    rounds: int,
    scale: float,
    memory_intents: int,
    progress: Progress,
    *,
    history: int = 0,
    tell: Callable[[Pace], None] = lambda pace: None,
) -> SuiteResult:
    """Return all rows. `scale` multiplies the number of intents; `memory_intents` and `history` 0 leave theirs out.
    `tell` is told again and again how far the suite has come.

    A stand that fails costs its rows and no others. Raises DevStackError, and LimitFailed."""
    board, begun = _Board(), time.monotonic()
    pace = Pace(parts_of(rounds, scale, memory_intents, history))

    def moved(label: str, done: int, total: int) -> None:
        tell(pace)
        progress(label, done, total)

    async def attempt(part: _Part, work: Coroutine[Any, Any, None]) -> None:
        pace.begin()
        tell(pace)
        await _attempt(board, part, work)

    bench = _Bench(board, scale, moved)
    for number in range(rounds):
        await attempt(INLINE, bench.inline(number))
        await attempt(HTTP, bench.over_http())
        await attempt(SANDBOX, bench.other("sandbox", Plan(rail="sandbox", workers=WORKERS)))
        await attempt(ENDPOINT, bench.endpoint())
        if memory_intents:
            await attempt(MEMORY, bench.memory(memory_intents))
    if history:
        await attempt(HISTORY, bench.history(history, rounds))
    rows = results_of(board.values, board.faults)
    return SuiteResult(
        rows=rows, rates=board.rates, rounds=rounds, seconds=round(time.monotonic() - begun, 1),
        rate_faults=board.rate_faults, breaches=board.breaches, left_out=[name for name in ROWS if name not in rows],
    )  # fmt: skip


async def _attempt(board: _Board, part: _Part, work: Coroutine[Any, Any, None]) -> None:
    """Do the work; where it fails, the rows and rates that it had not given a value yet have a fault."""
    before = {name: len(board.values.get(name, [])) for name in part.rows}
    rates_before = {name: len(board.rates.get(name, [])) for name in part.rates}
    try:
        await work
    except (GeneratorFault, SidecarFailed, NotQuotable, TimeoutError, RuntimeError) as error:
        fault = f"{type(error).__name__}: {error}".removesuffix(": ")
        for name, count in before.items():
            if len(board.values.get(name, [])) == count:
                board.fail(name, fault)
        for name, count in rates_before.items():
            if len(board.rates.get(name, [])) == count:
                board.no_rate(name, fault)


class _Bench:
    """Measures the rows of one round, stand by stand; each begins with the limit."""

    def __init__(self, board: _Board, scale: float, progress: Progress) -> None:
        self._board, self._scale, self._progress = board, scale, progress
        self._ceilings = Ceilings()

    async def inline(self, turn: int) -> None:
        """The rows of the inline rail; rounds alternate the order of uniform and hot."""
        board, scale = self._board, self._scale
        limit = await self._limit()
        plan = Plan(intents=round(UNIFORM_INTENTS * scale), workers=WORKERS)
        async with open_stand(plan, self._progress) as stand:
            pair = [plan, replace(plan, hot=True)]
            both = {each.hot: await self._run(stand, each) for each in (reversed(pair) if turn % 2 else pair)}
            uniform, hot = both[False], both[True]
            board.take("inline", uniform, uniform.completed_per_second / limit)
            seconds = SECONDS * min(1.0, scale)
            if rate := board.rate("inline", uniform, uniform.completed_per_second):
                board.take("hot", hot, hot.completed_per_second / rate)
                await self._at_half(stand, plan_of("steady", rate=HALF * rate, seconds=seconds), plan.batch)
            else:
                fault = f"the uniform load has no rate: {'; '.join(_against(uniform))}"
                board.no_rate(SINGLE, fault)
                for name in ("hot", "half"):
                    board.fail(name, fault)
            slow = await self._run(stand, plan_of("steady", rate=SLOW_RATE, seconds=seconds))
            board.take("slow", slow, slow.p50_ms)

    async def _at_half(self, stand: Stand, steady: Plan, batch: int) -> None:
        half = await self._run(stand, replace(steady, batch=batch))
        self._board.take("half", half, half.p99_ms)
        single = await self._run(stand, steady)
        self._board.rate(SINGLE, single, single.p99_ms)

    async def over_http(self) -> None:
        """The rows of the HTTP door, with one worker: the gateway needs the other core. One intent at a time comes
        first, while no other has left anything behind that a server would still be busy with."""
        board, scale = self._board, self._scale
        plan = Plan(transport="http", intents=round(HTTP_INTENTS * scale), in_flight=HTTP_IN_FLIGHT)
        async with open_stand(plan, self._progress) as stand:
            unloaded = await self._run(stand, plan_of("unloaded", seconds=UNLOADED_SECONDS))
            board.take("unloaded", unloaded, unloaded.p50_ms)
            board.take("unloaded_p99", unloaded, unloaded.p99_ms)
            http = await self._run(stand, plan)
            board.take("http", http, min(http.accepted_per_second, http.completed_per_second))
            board.rate(HTTP_ACCEPTED, http, http.accepted_per_second)
            bulk = await self._run(stand, Plan(transport="bulk", intents=round(BULK_INTENTS * scale)))
            board.rate(BULK, bulk, bulk.completed_per_second)

    async def other(self, name: str, plan: Plan) -> None:
        """The row of one other stand."""
        limit = await self._limit()
        measured = await self._on_its_own(replace(plan, intents=round(OTHER_INTENTS * self._scale)))
        self._board.rate(name, measured, measured.completed_per_second)
        self._board.take(name, measured, measured.completed_per_second / limit)

    async def endpoint(self) -> None:
        """The row of a webhook per intent, and the rate with one for every event of it."""
        outcome = Plan(endpoint=True, endpoint_event="ledger.posted")
        await self.other("endpoint", outcome)
        plan = replace(outcome, intents=round(OTHER_INTENTS / 2 * self._scale), endpoint_event="")
        measured = await self._on_its_own(plan)
        self._board.rate(EVERY_EVENT, measured, measured.completed_per_second)

    async def memory(self, intents: int) -> None:
        """The rows about memory: how much a worker has in the end, and by how much it grew after warm-up."""
        measured = await self._on_its_own(Plan(intents=intents, seconds_max=MEMORY_SECONDS_MAX))
        self._board.take("memory", measured, measured.figures["worker_memory_mib"])
        self._board.take("growth", measured, measured.figures["worker_memory_growth_mib"])

    async def history(self, intents: int, rounds: int) -> None:
        """The row about a database that is not empty: its rounds are on two stands that stay."""
        grown = await compare_grown(intents, rounds, self._scale, self._progress, self._ceilings)
        board = self._board
        board.values["history"] = grown.rate.rounds
        for side, rates in grown.rates.items():
            board.rates[f"history of {intents:,}, {side}"] = [*rates]
        for side, waits in grown.p99_ms.items():
            board.rates[f"p99 at {grown.steady_per_second:,.0f}/s, {side}, ms"] = [*waits]

    async def _run(self, stand: Stand, plan: Plan) -> Measured:
        return await measure_on(stand, plan, self._ceilings, self._progress)

    async def _on_its_own(self, plan: Plan) -> Measured:
        async with open_stand(plan, self._progress) as stand:
            return await self._run(stand, plan)

    async def _limit(self) -> float:
        result = await measure_limit(LimitPlan(intents=round(LIMIT_INTENTS * self._scale)))
        self._board.limit(result.limit_per_second)
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
            to_goal_percent=_missing_percent(row, median),
            faults=faults.get(name, []),
        )  # fmt: skip
    return results


def _meets(row: Row, limit: float | None, median: float | None) -> bool:
    if median is None:
        return False
    if limit is None:
        return True
    return median <= limit if row.least else median >= limit


def _missing_percent(row: Row, median: float | None) -> float | None:
    if median is None or not row.goal:
        return None
    missing = median - row.goal if row.least else row.goal - median
    return round(100 * missing / row.goal, 1)
