"""Runs that were never made, for tests of what is done with runs."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.generating import Ceiling
from zentra.bench.measuring.load import FULL_SPEED
from zentra.bench.measuring.measured import Machine, Measured, Seen, summed_up
from zentra.bench.measuring.plans import Plan, plan_of
from zentra.bench.measuring.resources import OTHERS, ResourceSample, Usage
from zentra.bench.measuring.schedule import Phase
from zentra.bench.measuring.spans import Span
from zentra.bench.measuring.tally import Tally
from zentra.bench.measuring.transports import is_accepted

__all__ = ["CHECKS", "measured", "tally_of"]

CHECKS = [Check("every invariant holds", True, "300 intents")]
_MACHINE = Machine(2, "cpython 3.11", "Linux 6", "abc1234")


def tally_of(
    plan: Plan,
    *,
    lag: float = 0.0,
    wait: float = 0.02,
    outcome: str = "",
    every: int = 1,
    phase: str = "",
    seen: bool | None = None,
) -> Tally:
    """Return what a generator would have counted that was `lag` behind and answered after `wait`.

    `outcome` is the answer to each `every`-th intent of `phase`, or of all; the others were accepted, as all are by
    default. With `seen` False no client saw any of them, without it one did where the plan has one."""
    tally = Tally(0.0)
    begins = 0.0
    accepted = "200 SUCCESSFUL" if plan.one_at_a_time else "202"
    watched = plan.watch if seen is None else seen
    for each in plan.phases or (Phase(FULL_SPEED, 10.0, plan.intents / 10.0),):
        for place in range(each.intents):
            intended = begins + each.second_of(place)
            told = outcome if outcome and place % every == 0 and phase in ("", each.name) else accepted
            tally.sent(each.name, intended, intended + lag, 1)
            tally.answered("nats", told, each.name, intended, intended + lag, intended + lag + wait)
            if watched and is_accepted(told):
                tally.seen_successful(each.name, "acme", lag + 2 * wait)
        begins += each.seconds
    return tally


def measured(
    plan: Plan | None = None,
    *,
    tally: Tally | None = None,
    checks: list[Check] = CHECKS,
    ceiling: Ceiling = Ceiling(20_000, 40.0),  # noqa: B008  # frozen
    memory: tuple[float, ...] = (80.0, 90.0, 90.0, 90.0),
    step: float = 0.5,
    failed: int = 0,
    **changes: Any,
) -> Measured:
    """Return the figures of a planted run of `plan`, by default ten seconds at a steady rate; of the intents that were
    accepted `failed` ended otherwise than SUCCESSFUL."""
    plan = plan or plan_of("steady", rate=20, seconds=10)
    tally = tally or tally_of(plan)
    report = tally.report(seconds=13.0, started_at=0.0, cpu_seconds=0.5)
    spans = [Span(n / 20, n / 20 + 0.04 if n >= failed else None, n / 20 + 0.05) for n in range(report.accepted)]
    samples = [
        ResourceSample(step * n, {"worker-1": 0.5, "a<b": 0.1, OTHERS: 0.2}, {"worker-1": mib, "a<b": 9.0})
        for n, mib in enumerate(memory, 1)
    ]
    usage = {"worker-1": Usage(2.0, memory[-1])}
    seen = Seen(
        report=report, spans=spans, checks=checks, completed=len(spans), seconds=13.0,
        stages={"ledger.posted": {"p50_ms": 4.0, "p99_ms": 9.0}, "webhook.delivered": {"p50_ms": 1.0, "p99_ms": 2.0}},
        before={"worker-1": Usage(1.0, 80.0)}, used=usage,
        bytes_each={"table transitions": 6_000.0}, samples=samples, ceiling=ceiling, machine=_MACHINE,
    )  # fmt: skip
    found = summed_up(plan, seen)
    return replace(found, **changes) if changes else found
