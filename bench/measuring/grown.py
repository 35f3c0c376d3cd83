"""What a full database costs: the same loads on a stand with a history of intents and on one without, in turns.

- Both stands stay up for all rounds, so a history is filled in once, and each has the other idle beside it.
- Each round asks both for their rate at full speed and for the latency at one and the same rate, half of what the empty
  one did at first. What is quoted is the ratio of each round.
- Every run is checked for what it added; what was there before is checked with it once, after the last round.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from zentra.bench.measuring.compare import Ratio, order_of, ratio_of
from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.generating import Ceilings
from zentra.bench.measuring.history import History
from zentra.bench.measuring.measure import measure_on
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.plans import Plan, plan_of
from zentra.bench.measuring.stand import Progress, Stand, open_stand

__all__ = ["Grown", "NotQuotable", "compare_grown"]

INTENTS: Final = 20_000
WARM_UP_INTENTS: Final = 2_000
STEADY_SECONDS: Final = 8.0
HALF: Final = 0.5
TRIES: Final = 3
WITH, WITHOUT = "A", "B"


class NotQuotable(Exception):
    """Raised where a run was invalid or incorrect; the sentence says why."""


class Grown(Struct, frozen=True):
    """The figures of each round with a history and without, and with / without."""

    history: History
    steady_per_second: float
    rate: Ratio
    p99: Ratio
    rates: dict[str, list[float]]
    p99_ms: dict[str, list[float]]
    checks: list[str]


async def compare_grown(history: int, rounds: int, scale: float, progress: Progress, ceilings: Ceilings) -> Grown:
    """Return the comparison; `scale` multiplies the intents of each run. Raises NotQuotable, and as `open_stand`."""
    plan = Plan(intents=round(INTENTS * scale))
    rates: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    waits: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    async with AsyncExitStack() as stack:
        stands: dict[str, Stand] = {
            WITHOUT: await stack.enter_async_context(open_stand(plan, progress)),
            WITH: await stack.enter_async_context(open_stand(replace(plan, history=history), progress)),
        }
        warm = replace(plan, intents=round(WARM_UP_INTENTS * scale))
        for stand in stands.values():
            await _run(stand, warm, ceilings, progress, whole=False)
        steady, checks = 0.0, list[Check]()
        for number, order in enumerate(order_of(rounds)):
            for side in order:
                progress(f"round {number + 1} of {rounds}", number, rounds)
                rates[side].append(
                    (await _run(stands[side], plan, ceilings, progress, whole=False)).completed_per_second
                )
            steady = steady or round(HALF * rates[WITHOUT][0])
            for side in order:
                calm = plan_of("steady", rate=steady, seconds=max(1.0, STEADY_SECONDS * min(1.0, scale)))
                found = await _run(stands[side], calm, ceilings, progress, whole=number == rounds - 1)
                waits[side].append(found.p99_ms)
                checks = found.checks if side == WITH else checks
    return Grown(
        history=stands[WITH].history, steady_per_second=steady, rate=ratio_of(rates[WITH], rates[WITHOUT]),
        p99=ratio_of(waits[WITH], waits[WITHOUT]), rates=_named(rates), p99_ms=_named(waits),
        checks=[f"{check.name}: {check.found}" for check in checks],
    )  # fmt: skip


def _named(values: dict[str, list[float]]) -> dict[str, list[float]]:
    return {"with": values[WITH], "without": values[WITHOUT]}


async def _run(stand: Stand, plan: Plan, ceilings: Ceilings, progress: Progress, *, whole: bool) -> Measured:
    """Return the first of a few runs that may be quoted: a generator that lagged once is no reason to begin anew."""
    for _ in range(TRIES):
        measured = await measure_on(stand, plan, ceilings, progress, whole=whole)
        if measured.breaches:
            raise NotQuotable("; ".join(measured.breaches))
        if not measured.faults:
            return measured
    raise NotQuotable(f"{TRIES} times: {'; '.join(measured.faults)}")
