"""What the commands of `zentra bench` print for people."""

from collections.abc import Sequence
from typing import Final

from zentra.bench.measuring.compare import Comparison
from zentra.bench.measuring.grown import Grown
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.plans import PROFILES
from zentra.bench.measuring.suite import ROWS, RowResult, SuiteResult

__all__ = ["comparison_table", "grown_table", "profiles_table", "run_table", "suite_table"]

REASONS_SHOWN: Final = 2
STAGES: Final = (
    "policy.accepted", "ledger.reserved", "provider.routed", "provider.callback", "ledger.posted", "review.closed",
)  # fmt: skip


def run_table(measured: Measured, against: Sequence[str]) -> str:
    """Return the figures of one run, and what speaks against it."""
    lines = [
        f"{measured.completed:,} of {measured.intents:,} intents completed in {measured.seconds:.2f} s:"
        f" {measured.completed_per_second:,.0f}/s",
        f"until SUCCESSFUL     p50 {measured.p50_ms:>9,.1f} ms   p99 {measured.p99_ms:>9,.1f} ms",
        f"until the answer     p50 {measured.answer_p50_ms:>9,.1f} ms   p99 {measured.answer_p99_ms:>9,.1f} ms",
        f"generator's ceiling  {measured.generator_per_second_max:,.0f}/s against a null server,"
        f" {measured.generator_cpu_us_per_intent} µs of CPU per intent; {measured.sent_late:,} sent late",
    ]
    if measured.knee_per_second is not None:
        lines.append(f"knee                 {measured.knee_per_second:,.0f}/s")
    if measured.phases:
        head = f"{'':<14}{'offered/s':>10}{'done/s':>9}{'p50 ms':>9}{'p99 ms':>10}{'refused':>9}{'late':>7}"
        lines += ["phases", head]
        lines += [
            f"  {p.name:<12}{p.offered_per_second:>10,.0f}{p.successful_per_second:>9,.0f}{p.successful_p50_ms:>9,.1f}"
            f"{p.successful_p99_ms:>10,.1f}{p.refused:>9,}{p.late:>7,}" + ("" if p.counted else "   not counted")
            for p in measured.phases
        ]
    if measured.stages:
        lines.append("stages, since the record before")
    every = measured.stages
    ordered = [*(name for name in STAGES if name in measured.stages), *sorted(set(measured.stages) - set(STAGES))]
    lines += [
        f"  {name:<18} p50 {every[name]['p50_ms']:>9,.1f} ms   p99 {every[name]['p99_ms']:>9,.1f} ms"
        for name in ordered
    ]
    if len(measured.tenants) > 1:
        lines.append("tenants, until SUCCESSFUL")
        lines += [
            f"  {name:<18} p50 {each['p50_ms']:>9,.1f} ms   p99 {each['p99_ms']:>9,.1f} ms"
            for name, each in measured.tenants.items()
        ]
    lines.append("CPU seconds          " + ", ".join(f"{name} {cpu}" for name, cpu in measured.cpu_seconds.items()))
    lines.append("memory MiB           " + ", ".join(f"{name} {mib:.0f}" for name, mib in measured.memory_mib.items()))
    if measured.memory_slope_mib_per_minute:
        slopes = ", ".join(f"{name} {mib:+.2f}" for name, mib in measured.memory_slope_mib_per_minute.items())
        lines.append(f"memory MiB a minute  {slopes}")
    if "successful_p99_drift" in measured.figures:
        drift = f"p50 × {measured.figures['successful_p50_drift']}, p99 × {measured.figures['successful_p99_drift']}"
        lines.append(f"last against first   {drift}")
    kept = ", ".join(f"{name} {each:,.0f}" for name, each in measured.bytes_each.items())
    lines.append(f"bytes each           {kept}")
    lines.append(f"other processes      {measured.figures['other_cores']} of {measured.machine.cores} cores")
    lines += [f"answered             {how}: {count:,}" for how, count in measured.answers.items()]
    lines += [f"turned away for now  {how}: {count:,}" for how, count in measured.turned_away.items()]
    if measured.repeats["sent"]:
        repeats = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in measured.repeats.items())
        lines.append(f"repeats              {repeats}")
    lines += ["checks", *(f"  {'ok    ' if c.ok else 'BROKEN'} {c.name}: {c.found}" for c in measured.checks)]
    lines += ["thresholds kept" if not against else "against this run", *(f"  {sentence}" for sentence in against)]
    return "\n".join(lines)


def profiles_table() -> str:
    """Return the profiles, a line each."""
    return "\n".join(
        f"{name:<10}{'as fast as it goes' if name == 'full' else f'{p.rate:g}/s for {p.seconds:g} s':<20}{p.question}"
        for name, p in PROFILES.items()
    )


def comparison_table(found: Comparison, a: str, b: str) -> str:
    """Return a comparison, a line per round."""
    lines = [f"A  {a}", f"B  {b}", f"{found.figure}", f"{'round':<8}{'A':>12}{'B':>12}{'A / B':>9}"]
    for number, (left, right, ratio) in enumerate(zip(found.a, found.b, found.ratio.rounds, strict=True), 1):
        lines.append(f"{number:<8}{left:>12,.1f}{right:>12,.1f}{ratio:>9.3f}")
    spread = f"{found.ratio.low:.3f} to {found.ratio.high:.3f}"
    return "\n".join([*lines, f"median of A / B is {found.ratio.median:.3f}, {spread}"])


def grown_table(found: Grown) -> str:
    """Return the comparison of a database with a history and an empty one, a line per round."""
    history = found.history
    lines = [
        f"{history.intents:,} finished intents copied in {history.seconds:,.0f} s: {history.mib:,.0f} MiB of database",
        f"{'round':<8}{'with /s':>12}{'empty /s':>12}{'ratio':>9}"
        f"{'with p99 ms':>14}{'empty p99 ms':>14}{'ratio':>9}   p99 at {found.steady_per_second:,.0f}/s",
    ]
    columns = (
        found.rates["with"], found.rates["without"], found.rate.rounds,
        found.p99_ms["with"], found.p99_ms["without"], found.p99.rounds,
    )  # fmt: skip
    for number, (a, b, rate, c, d, p99) in enumerate(zip(*columns, strict=True), 1):
        lines.append(f"{number:<8}{a:>12,.1f}{b:>12,.1f}{rate:>9.3f}{c:>14,.1f}{d:>14,.1f}{p99:>9.3f}")
    for name, ratio in (("rate", found.rate), ("p99", found.p99)):
        lines.append(f"median of the {name} ratios is {ratio.median:.3f}, {ratio.low:.3f} to {ratio.high:.3f}")
    lines += ["checks of everything in the database, after the last round", *(f"  ok {each}" for each in found.checks)]
    return "\n".join(lines)


def suite_table(found: SuiteResult) -> str:
    """Return the rows of the suite, the rates behind them, and why there is none where there is none."""
    head = f"{'':<54}{'median':>12}{'spread':>19}{'first bar':>11}{'goal':>8}{'to goal':>9}"
    lines = [head, *(_suite_row(row) for row in found.rows.values()), "", "by round"]
    for name, rates in found.rates.items():
        told = "  ".join(f"{'none':>9}" if rate is None else f"{rate:>9,.1f}" for rate in rates)
        lines.append(f"  {name:<34}{told}{_because(found.rate_faults.get(name, []))}")
    lines += [f"BROKEN: {breach}" for breach in found.breaches]
    if found.left_out:
        lines.append("left out: " + ", ".join(ROWS[name].name for name in found.left_out))
    lines.append(f"rounds: {found.rounds}, in {found.seconds / 60:.0f} minutes")
    return "\n".join(lines)


def _suite_row(result: RowResult) -> str:
    row = result.row
    bar, goal = ("" if limit is None else _number(limit) for limit in (row.bar, row.goal))
    middle = "none" if result.median is None else f"{_number(result.median)} {row.unit}"
    spread = "" if result.low is None or result.high is None else f"{_number(result.low)} – {_number(result.high)}"
    missing = "" if result.to_goal_percent is None else f"{result.to_goal_percent:.0f} %"
    word = "met" if result.goal_met else "bar met" if result.bar_met else "NOT MET"
    return f"{row.name:<54}{middle:>12}{spread:>19}{bar:>11}{goal:>8}{missing:>9}  {word}{_because(result.faults)}"


def _because(faults: Sequence[str]) -> str:
    """Return the first reasons of each kind, and how many more there are."""
    told = list(dict.fromkeys(faults))
    more = f", and {len(told) - REASONS_SHOWN} more" if len(told) > REASONS_SHOWN else ""
    return f": {'; '.join(told[:REASONS_SHOWN])}{more}" if told else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
