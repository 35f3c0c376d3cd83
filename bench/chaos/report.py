"""The report of a chaos run for people: faults with their recovery, requests by outcome, and the invariants."""

from collections.abc import Iterator, Mapping

from zentra.bench.chaos.run import Report

__all__ = ["as_text"]


def as_text(report: Report) -> str:
    """Return the report as lines."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"seed {report.seed}, {report.seconds:g} s: {'everything held' if report.ok else 'NOT EVERYTHING HELD'}"
    yield "faults"
    for one in report.faults:
        recovery = "none" if one.recovery_seconds is None else f"{one.recovery_seconds:.2f} s"
        late = "" if one.in_time else f"  OVER ITS BOUND of {one.recovery_seconds_max:g} s"
        yield (
            f"  {one.at:7.1f} s  {one.fault:<18} {one.victim:<9} lasted {one.lasted:5.1f} s"
            f"  recovery {recovery}{late}  {one.note}".rstrip()
        )
    yield f"requests    {_counted(report.requests)}"
    yield f"in doubt    {report.doubtful} looked up, {report.found} there"
    yield f"intents     {_counted(report.states)}"
    yield f"cases       {_counted(report.cases)}"
    yield f"rails       {report.rail_payments} payments, {report.rail_repeats} asked again"
    yield f"webhooks    {report.deliveries} deliveries, {report.webhook_calls} calls"
    yield f"readings    {_counted(report.readings)}"
    settled = "not in time" if report.settled_seconds is None else f"in {report.settled_seconds:g} s"
    yield f"settled     {settled}"
    yield f"evidence    {report.records} records, {report.packets_verified} packets verified"
    yield f"feed        {report.feed_repeats} repeats"
    yield "invariants"
    for verdict in report.invariants:
        yield f"  {verdict.letter}  {verdict.verdict:<11} {verdict.detail}"
        yield from (f"       {wrong}" for wrong in verdict.wrongs)
        if verdict.count > len(verdict.wrongs):
            yield f"       and {verdict.count - len(verdict.wrongs)} more"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
