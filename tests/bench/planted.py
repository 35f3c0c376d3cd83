"""Runs that were never made, for tests of what is done with runs."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.generating import Ceiling
from zentra.bench.measuring.measured import Machine, Measured, Seen, summed_up
from zentra.bench.measuring.plans import Plan, plan_of
from zentra.bench.measuring.resources import OTHERS, ResourceSample, Usage
from zentra.bench.measuring.spans import Span
from zentra.bench.measuring.tally import Tally

__all__ = ["CHECKS", "measured", "tally_of"]

CHECKS = [Check("every invariant holds", True, "300 intents")]
_MACHINE = Machine(2, "cpython 3.11", "Linux 6", "abc1234")


def tally_of(plan: Plan, *, lag: float = 0.0, wait: float = 0.02, outcome: str = "202") -> Tally:
    """Return what a generator would have counted that was `lag` behind and answered after `wait`."""
    tally = Tally(0.0)
    begins = 0.0
    for phase in plan.phases:
        for place in range(phase.intents):
            intended = begins + phase.second_of(place)
            tally.sent(phase.name, intended, intended + lag, 1)
            tally.answered("nats", outcome, phase.name, intended, intended + lag, intended + lag + wait)
            tally.seen_successful(phase.name, "acme", lag + 2 * wait)
        begins += phase.seconds
    return tally


def measured(
    plan: Plan | None = None,
    *,
    tally: Tally | None = None,
    checks: list[Check] = CHECKS,
    ceiling: Ceiling | None = Ceiling(20_000, 40.0),  # noqa: B008  # frozen
    memory: tuple[float, ...] = (80.0, 90.0, 90.0, 90.0),
    step: float = 0.5,
    **changes: Any,
) -> Measured:
    """Return the figures of a planted run of `plan`, by default ten seconds at a steady rate."""
    plan = plan or plan_of("steady", rate=20, seconds=10)
    tally = tally or tally_of(plan)
    report = tally.report(seconds=13.0, started_at=0.0, cpu_seconds=0.5)
    spans = [Span(n / 20, n / 20 + 0.04, n / 20 + 0.05) for n in range(plan.sends)]
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
