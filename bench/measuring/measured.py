"""The figures of one run, and whether they may be quoted.

- `valid` says that the load was what it was meant to be: the generator kept its schedule and was not the limit itself,
  nobody was refused whom the plan did not mean to be, and every latency is there: none of an intent that got stuck, was
  given up on or ended otherwise is left out.
- `correct` says that nothing was lost, repeated or left unproven. A run that is not both has no rate.
- `figures` are flat and named, so that thresholds, comparisons and tables all speak of the same numbers.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import linear_regression
from typing import Final

from msgspec import Struct

from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.generating import Ceiling
from zentra.bench.measuring.histogram import QUANTILES, Histogram, merged
from zentra.bench.measuring.load import FULL_SPEED
from zentra.bench.measuring.plans import Plan
from zentra.bench.measuring.resources import OTHERS, ResourceSample, Usage
from zentra.bench.measuring.schedule import Phase, lag_fault
from zentra.bench.measuring.spans import Progressed, Span, by_second, latencies
from zentra.bench.measuring.tally import LoadReport, Sample
from zentra.bench.measuring.transports import is_accepted

__all__ = ["Curve", "Machine", "Measured", "PhaseResult", "Seen", "knee_of", "machine", "summed_up"]

CEILING_SHARE_MAX: Final = 0.8  # above this share of its own ceiling a generator is what was measured
SUCCESSFUL_ANSWER: Final = "200 SUCCESSFUL"  # to a request that waits for the end of its intent
SUSTAINED_SHARE_MIN: Final = 0.95
SLOPE_SECONDS_MIN: Final = 30.0  # of less, a slope by the minute says nothing
SUSTAINED_P99_MS_MAX: Final = 1_000.0  # beyond it a step only fills a queue that the next one inherits


class Machine(Struct, frozen=True):
    """Where and of what a run was made."""

    cores: int
    python: str
    system: str
    revision: str


class Curve(Struct, frozen=True):
    """Latencies of one kind: how many, their mean, and quantiles in ms by share."""

    name: str
    count: int
    mean_ms: float
    quantiles_ms: dict[str, float]
    points: list[tuple[float, float]]  # (share, ms), fine enough to draw


class PhaseResult(Struct, frozen=True, kw_only=True):
    """One phase: what was offered, what became of it, and why it says nothing, if so."""

    name: str
    counted: bool
    begins: float
    seconds: float
    offered_per_second: float
    successful_per_second: float
    answer_p50_ms: float
    answer_p99_ms: float
    successful_p50_ms: float
    successful_p99_ms: float
    refused: int
    late: int
    fault: str | None


class Measured(Struct, frozen=True, kw_only=True):
    """The figures of one run. Latencies are milliseconds from the accepted record to SUCCESSFUL, or, where a client
    watched, from the intended send time until it saw SUCCESSFUL."""

    profile: str
    transport: str
    intents: int
    accepted: int
    completed: int
    completed_per_second: float
    accepted_per_second: float
    seconds: float
    p50_ms: float
    p99_ms: float
    answer_p50_ms: float
    answer_p99_ms: float
    sent_late: int
    valid: bool
    faults: list[str]
    correct: bool
    checks: list[Check]
    knee_per_second: float | None
    figures: dict[str, float]
    phases: list[PhaseResult]
    curves: list[Curve]
    stages: dict[str, dict[str, float]]
    tenants: dict[str, dict[str, float]]
    by_second: dict[int, Progressed]
    resources: list[ResourceSample]
    cpu_seconds: dict[str, float]
    memory_mib: dict[str, float]
    memory_slope_mib_per_minute: dict[str, float]  # by process, after warm-up; empty where the run was too short
    bytes_each: dict[str, float]  # an intent, by table and by what else keeps or moves it
    refusals: dict[str, int]
    answers: dict[str, int]  # by route and outcome
    turned_away: dict[str, int]  # by route and outcome: told to come back, and did
    repeats: dict[str, int]
    generator_per_second_max: float
    generator_cpu_us_per_intent: float
    invariants: str
    breaches: list[str]
    machine: Machine
    plan: Plan


class Seen(Struct, frozen=True, kw_only=True):
    """Everything that was seen of a run: by the generator, in the records, by the checks and in /proc."""

    report: LoadReport
    spans: Sequence[Span]
    checks: Sequence[Check]
    completed: int
    seconds: float
    stages: dict[str, dict[str, float]]
    before: Mapping[str, Usage]
    used: Mapping[str, Usage]
    bytes_each: dict[str, float]
    samples: Sequence[ResourceSample]
    ceiling: Ceiling
    machine: Machine


def summed_up(plan: Plan, seen: Seen) -> Measured:
    """Return the figures of a run."""
    report, ceiling = seen.report, seen.ceiling
    phases = _phases(plan, report, seen.spans)
    knee = knee_of(phases) if plan.profile == "ramp" else None
    accepted_per_second = report.accepted / max(report.seconds, 1e-9)
    faults = _faults(plan, seen, phases, knee)
    counted = {phase.name for phase in phases if phase.counted}
    successful = _successful(plan, report, seen.spans, counted)
    answers = merged(
        sample.response
        for sample in report.samples
        if is_accepted(sample.outcome) and (not counted or sample.phase in counted)
    )
    broken = [f"{check.name}: {check.found}" for check in seen.checks if not check.ok]
    measured = Measured(
        profile=plan.profile,
        transport=plan.transport,
        intents=plan.sends,
        accepted=report.accepted,
        completed=seen.completed,
        completed_per_second=round(seen.completed / seen.seconds, 1),
        accepted_per_second=round(accepted_per_second, 1),
        seconds=round(seen.seconds, 3),
        p50_ms=round(successful.quantile_ms(0.5), 2),
        p99_ms=round(successful.quantile_ms(0.99), 2),
        answer_p50_ms=round(answers.quantile_ms(0.5), 2),
        answer_p99_ms=round(answers.quantile_ms(0.99), 2),
        sent_late=report.sent_late,
        valid=not faults,
        faults=faults,
        correct=not broken,
        checks=list(seen.checks),
        knee_per_second=knee,
        figures={},
        phases=phases,
        curves=_curves(report, successful, plan),
        stages=seen.stages,
        tenants={name: _two_quantiles(each) for name, each in sorted(report.successful_by_tenant.items())},
        by_second=by_second(seen.spans),
        resources=list(seen.samples),
        cpu_seconds=_cpu_seconds(seen),
        memory_mib={name: round(usage.memory_mib, 1) for name, usage in seen.used.items()},
        memory_slope_mib_per_minute=_slopes(seen.samples),
        bytes_each=seen.bytes_each,
        refusals=report.refusals,
        answers=_answers(report),
        turned_away=report.turned_away,
        repeats=_repeats(report),
        generator_per_second_max=ceiling.per_second,
        generator_cpu_us_per_intent=ceiling.cpu_us_per_intent,
        invariants="broken" if broken else "ok",
        breaches=broken,
        machine=seen.machine,
        plan=plan,
    )
    measured.figures.update(_figures(measured, report))
    return measured


def knee_of(phases: Sequence[PhaseResult]) -> float | None:
    """Return the highest rate of a ramp that was offered, kept up with and answered in time, before the first that was
    not; None where not even the first was."""
    knee = None
    for phase in phases:
        if not phase.counted:
            continue
        kept_up = phase.successful_per_second >= SUSTAINED_SHARE_MIN * phase.offered_per_second
        if phase.fault or phase.refused or not kept_up or phase.successful_p99_ms > SUSTAINED_P99_MS_MAX:
            break
        knee = phase.offered_per_second
    return knee


def machine(revision_of: Path = Path(__file__).parent) -> Machine:
    """Return where this runs; the revision is that of the checkout, or unknown outside one."""
    git = ("git", "-C", str(revision_of), "describe", "--always", "--dirty")
    found = subprocess.run(git, capture_output=True, text=True, check=False)  # noqa: S603
    revision = found.stdout.strip() if found.returncode == 0 else "unknown"
    python = f"{sys.implementation.name} {platform.python_version()}"
    return Machine(os.cpu_count() or 1, python, f"{platform.system()} {platform.release()}", revision)


def _faults(plan: Plan, seen: Seen, phases: Sequence[PhaseResult], knee: float | None) -> list[str]:
    """Return why the load was not what it was meant to be; beyond a knee that was found nobody can keep a schedule, or
    is sure to be let in."""
    report, ceiling = seen.report, seen.ceiling
    faults: list[str] = []
    if knee is None:
        faults += [f"{phase.name}: {phase.fault}" for phase in phases if phase.counted and phase.fault]
        faults += _refused(plan, report)
    answered_per_second = (report.accepted + report.refused) / max(report.seconds, 1e-9)
    if answered_per_second > CEILING_SHARE_MAX * ceiling.per_second:
        faults.append(f"the generator was the limit: its own ceiling is {ceiling.per_second:.0f}/s")
    succeeded = sum(span.successful is not None for span in seen.spans)
    if succeeded < len(seen.spans):
        faults.append(f"{len(seen.spans) - succeeded:,} of {len(seen.spans):,} intents ended without SUCCESSFUL")
    if plan.watch:
        watched = sum(histogram.total for histogram in report.successful.values()) - report.unseen
        if report.unseen or watched != succeeded:
            vainly = f" and waited in vain for {report.unseen:,}" if report.unseen else ""
            faults.append(f"the client saw {watched:,} of {succeeded:,} intents SUCCESSFUL{vainly}")
    if plan.one_at_a_time:
        others = _by_outcome(s for s in report.samples if is_accepted(s.outcome) and s.outcome != SUCCESSFUL_ANSWER)
        if others:
            answered = report.accepted + report.refused
            faults.append(f"{_counted(others)} of {answered:,} answers were no {SUCCESSFUL_ANSWER}: {_told(others)}")
    return faults


def _refused(plan: Plan, report: LoadReport) -> list[str]:
    """Return a sentence for each counted phase in which others were refused than was meant: what is left of a load that
    was shed is another load, and has other latencies."""
    sentences = []
    for name in [phase.name for phase in plan.phases if phase.counted] or [FULL_SPEED]:
        mine = [sample for sample in report.samples if sample.phase == name]
        refused = _by_outcome(
            sample for sample in mine if not is_accepted(sample.outcome) and sample.outcome not in plan.refusals_meant
        )
        if refused:
            answered = sum(sample.response.total for sample in mine)
            sentences.append(f"{name}: {_counted(refused)} of {answered:,} intents were refused: {_told(refused)}")
    return sentences


def _by_outcome(samples: Iterable[Sample]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.outcome] = counts.get(sample.outcome, 0) + sample.response.total
    return counts


def _counted(outcomes: Mapping[str, int]) -> str:
    return f"{sum(outcomes.values()):,}"


def _told(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{outcome} ({count:,})" for outcome, count in sorted(outcomes.items()))


def _cpu_seconds(seen: Seen) -> dict[str, float]:
    used = {
        name: round(usage.cpu_seconds - (seen.before[name].cpu_seconds if name in seen.before else 0.0), 2)
        for name, usage in seen.used.items()
    }
    return used | {"generator": seen.report.cpu_seconds}


def _answers(report: LoadReport) -> dict[str, int]:
    counts: dict[str, int] = {}
    for sample in report.samples:
        name = f"{sample.route}: {sample.outcome}"
        counts[name] = counts.get(name, 0) + sample.response.total
    return dict(sorted(counts.items()))


def _repeats(report: LoadReport) -> dict[str, int]:
    return {
        "sent": report.repeated,
        "over_another_door": report.repeated_elsewhere,
        "before_the_first_answer": report.repeated_early,
        "answered_as_repeats": report.answered_again,
    }


def _two_quantiles(histogram: Histogram) -> dict[str, float]:
    p50, p99 = histogram.quantiles_ms((0.5, 0.99))
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def _phases(plan: Plan, report: LoadReport, spans: Sequence[Span]) -> list[PhaseResult]:
    results = []
    begins = 0.0
    for phase in plan.phases:
        results.append(_phase(plan, phase, begins, report, spans))
        begins += phase.seconds
    return results


def _phase(plan: Plan, phase: Phase, begins: float, report: LoadReport, spans: Sequence[Span]) -> PhaseResult:
    ends = begins + phase.seconds
    mine = [sample for sample in report.samples if sample.phase == phase.name]
    answers = merged(sample.response for sample in mine if is_accepted(sample.outcome))
    lag = report.lags.get(phase.name, Histogram())
    successful = report.successful.get(phase.name, Histogram()) if plan.watch else latencies(spans, begins, ends)
    finished = sum(1 for span in spans if span.successful is not None and begins <= span.successful < ends)
    seen = successful.quantiles_ms((0.5, 0.99))
    answered = answers.quantiles_ms((0.5, 0.99))
    return PhaseResult(
        name=phase.name,
        counted=phase.counted,
        begins=round(begins, 3),
        seconds=round(phase.seconds, 3),
        offered_per_second=round(phase.intents / phase.seconds, 1),
        successful_per_second=round(finished / phase.seconds, 1),
        answer_p50_ms=round(answered[0], 2),
        answer_p99_ms=round(answered[1], 2),
        successful_p50_ms=round(seen[0], 2),
        successful_p99_ms=round(seen[1], 2),
        refused=sum(sample.response.total for sample in mine if not is_accepted(sample.outcome)),
        late=lag.count_over(0.01),
        fault=lag_fault(lag, phase.intents),
    )


def _successful(plan: Plan, report: LoadReport, spans: Sequence[Span], counted: set[str]) -> Histogram:
    """Return the latencies until SUCCESSFUL: as a client saw them where one watched, else as the records have them,
    which leave out the wait at the door. One at a time it is every answer, whatever it said."""
    if plan.one_at_a_time:
        return merged(sample.response for sample in report.samples)
    if plan.watch:
        return merged(histogram for name, histogram in report.successful.items() if name in counted)
    return latencies(spans)


def _curves(report: LoadReport, successful: Histogram, plan: Plan) -> list[Curve]:
    """Return the curve of SUCCESSFUL, and one per route and outcome over all phases."""
    kinds: dict[str, tuple[Histogram, Histogram]] = {}
    for sample in report.samples:
        response, service = kinds.setdefault(f"{sample.route} {sample.outcome}", (Histogram(), Histogram()))
        response.add(sample.response)
        service.add(sample.service)
    curves = [_curve("intent → SUCCESSFUL", successful)]
    for name, (response, service) in sorted(kinds.items()):
        curves.append(_curve(name, response))
        if plan.phases:
            curves.append(_curve(f"{name}, from the actual send", service))
    return [curve for curve in curves if curve.count]


def _curve(name: str, histogram: Histogram) -> Curve:
    quantiles = dict(zip((str(share) for share in QUANTILES), histogram.quantiles_ms(QUANTILES), strict=True))
    shares = [number / 100 for number in range(100)]
    shares += [1 - 10 ** -(2 + number / 10) for number in range(31) if 10 ** (2 + number / 10) <= histogram.total * 2]
    points = list(zip(shares, histogram.quantiles_ms(shares), strict=True))
    return Curve(name, histogram.total, round(histogram.mean_ms, 3), quantiles, points)


def _figures(measured: Measured, report: LoadReport) -> dict[str, float]:
    """Return every number that a threshold may name."""
    answered = report.accepted + report.refused
    workers = sorted(name for name in measured.memory_mib if name.startswith("worker"))
    figures = {
        "completed_per_second": measured.completed_per_second,
        "accepted_per_second": measured.accepted_per_second,
        "successful_p50_ms": measured.p50_ms,
        "successful_p99_ms": measured.p99_ms,
        "answer_p50_ms": measured.answer_p50_ms,
        "answer_p99_ms": measured.answer_p99_ms,
        "refused_share": report.refused / answered if answered else 0.0,
        "late_share": report.sent_late / answered if answered else 0.0,
        "other_cores": _others(measured.resources),
        "worker_memory_mib": max((measured.memory_mib[name] for name in workers), default=0.0),
        "worker_memory_growth_mib": max((_growth(measured.resources, name) for name in workers), default=0.0),
    }
    for name, tenant in measured.tenants.items():
        figures |= {f"successful_p50_ms.{name}": tenant["p50_ms"], f"successful_p99_ms.{name}": tenant["p99_ms"]}
    if slopes := measured.memory_slope_mib_per_minute:
        ours = (slope for name, slope in slopes.items() if name.startswith(("worker", "gateway")))
        figures["zentra_memory_slope_mib_per_minute"] = max(ours, default=0.0)
    counted = [phase for phase in measured.phases if phase.counted]
    if len(counted) > 1 and counted[0].successful_p99_ms and counted[0].successful_p50_ms:
        first, last = counted[0], counted[-1]
        figures["successful_p50_drift"] = round(last.successful_p50_ms / first.successful_p50_ms, 2)
        figures["successful_p99_drift"] = round(last.successful_p99_ms / first.successful_p99_ms, 2)
    if measured.knee_per_second is not None:
        figures["knee_per_second"] = measured.knee_per_second
    return figures


def _others(samples: Sequence[ResourceSample]) -> float:
    """Return how many cores were busy with what is no part of the run."""
    return round(sum(sample.cores[OTHERS] for sample in samples) / len(samples), 2) if samples else 0.0


def _slopes(samples: Sequence[ResourceSample]) -> dict[str, float]:
    """Return by how many MiB a minute each process grew after warm-up, which is the first third: the straight line that
    fits its memory best."""
    settled = samples[len(samples) // 3 :]
    if not settled or settled[-1].second - settled[0].second < SLOPE_SECONDS_MIN:
        return {}
    slopes = {}
    for name in settled[-1].memory_mib:
        points = [(each.second / 60, each.memory_mib[name]) for each in settled if name in each.memory_mib]
        slopes[name] = round(linear_regression(*zip(*points, strict=True)).slope, 2) if len(points) > 1 else 0.0
    return slopes


def _growth(samples: Sequence[ResourceSample], name: str) -> float:
    """Return by how many MiB a process grew after warm-up: from the first third of the run to its end."""
    memory = [sample.memory_mib[name] for sample in samples if name in sample.memory_mib]
    return round(memory[-1] - memory[len(memory) // 3], 1) if memory else 0.0
