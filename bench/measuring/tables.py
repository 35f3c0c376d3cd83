"""What the commands of `zentra bench` print for people."""

from collections.abc import Sequence
from typing import Final

from zentra.bench.measuring.compare import Comparison
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.plans import PROFILES
from zentra.bench.measuring.suite import RowResult, SuiteResult

__all__ = ["comparison_table", "profiles_table", "run_table", "suite_table"]

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
    ]
    if measured.generator_per_second_max is not None:
        lines.append(
            f"generator's ceiling  {measured.generator_per_second_max:,.0f}/s against a null server,"
            f" {measured.generator_cpu_us_per_intent} µs of CPU per intent; {measured.sent_late:,} sent late"
        )
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


def suite_table(found: SuiteResult) -> str:
    """Return the rows of the suite, and the rates behind them."""
    head = f"{'':<48}{'median':>10}{'spread':>19}{'bar':>9}{'goal':>9}"
    lines = [head, *(_suite_row(row) for row in found.rows.values()), ""]
    lines += [f"{name:<24}" + "  ".join(f"{rate:>9,.1f}" for rate in rates) for name, rates in found.rates.items()]
    return "\n".join(lines)


def _suite_row(result: RowResult) -> str:
    row = result.row
    limits = f"{_number(row.bar):>9}{_number(row.goal):>9}"
    if result.median is None or result.low is None or result.high is None:
        return f"{row.name:<48}{'none':>10}{'':>19}{limits}  NOT MET: {'; '.join(result.faults[:2])}"
    spread = f"{_number(result.low)} – {_number(result.high)}"
    word = "goal met" if result.goal_met else "bar met" if result.bar_met else "NOT MET"
    faults = f": {result.faults[0]}" if result.faults else ""
    return f"{row.name:<48}{_number(result.median) + ' ' + row.unit:>10}{spread:>19}{limits}  {word}{faults}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
