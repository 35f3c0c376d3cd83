"""The report of a chaos run: faults with their recovery, requests by outcome, and the verdict on each invariant.

Besides the recovery that is bounded, each fault shows what its clients felt: the longest time without a completed
intent, and how long it took until everything asked for while it lasted had come to its end."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct

from zentra.bench.chaos.ground import Ground, Intent
from zentra.bench.chaos.verdict import ENDED, Verdict, judge

__all__ = ["Injected", "Report", "as_text", "make_report"]

PLAIN: Final = ("", "success", "decline", "duplicate_callback", "out_of_order")  # a rail that takes no time of its own


class Injected(Struct, frozen=True, kw_only=True):
    """One fault as it happened: `at` is seconds since the start of the load, `recovery_seconds` how long until the
    first intent completed that was asked for after the end of the fault (None: it did not)."""

    fault: str
    victim: str
    at: float
    lasted: float
    recovery_seconds: float | None
    recovery_seconds_max: float
    note: str
    wrong: str = ""
    hit_at: float
    ended_at: float
    silent_seconds: float = 0.0
    caught_up_seconds: float = 0.0

    @property
    def well(self) -> bool:
        """Return whether nothing was wrong while it lasted and recovery stayed within its bound."""
        return not self.wrong and self.in_time

    @property
    def in_time(self) -> bool:
        """Return whether recovery stayed within its bound."""
        return self.recovery_seconds is not None and self.recovery_seconds <= self.recovery_seconds_max


class Report(Struct, frozen=True, kw_only=True):
    """What a run shows. `ok` means that every invariant held and every recovery stayed within its bound."""

    ok: bool
    seed: int
    seconds: float
    faults: list[Injected]
    requests: dict[str, int]
    states: dict[str, int]
    cases: dict[str, int]
    operators: dict[str, int]
    routing: dict[str, int]
    deliveries: int
    webhook_calls: int
    rail_payments: int
    rail_repeats: int
    readings: dict[str, int]
    doubtful: int
    found: int
    settled_seconds: float | None
    history_calls: int
    packets_verified: int
    exports_verified: int
    records: int
    feed_repeats: int
    invariants: list[Verdict]


def make_report(seed: int, seconds: float, injected: Sequence[Injected], ground: Ground) -> Report:
    """Return the report on a run: the ground judged, and every fault with what its clients felt."""
    invariants = judge(ground)
    held = all(one.verdict != "violated" for one in invariants)
    readings = ground.readings
    return Report(
        ok=held and all(one.well for one in injected),
        seed=seed,
        seconds=seconds,
        faults=[_felt(one, ground.intents) for one in injected],
        requests=_counts(f"{one.door} {one.outcome}" for one in ground.asked),
        states=_counts(one.state for one in ground.intents),
        cases=_counts(f"{kind} {word}" for one in ground.intents for kind, word in one.cases),
        operators=ground.operators,
        routing=ground.routing,
        deliveries=len(ground.deliveries),
        webhook_calls=sum(one.calls for one in ground.arrived.values()),
        rail_payments=len(ground.payments),
        rail_repeats=sum(one.submits - 1 for one in ground.payments),
        readings={
            "snapshots": readings.snapshots,
            "accounts": readings.accounts,
            "foreign": readings.foreign,
            "unanswered": readings.unanswered,
            "wrong": readings.wrong,
        },
        doubtful=len(ground.read_back),
        found=sum(ground.read_back.values()),
        settled_seconds=ground.unsettled_seconds,
        history_calls=ground.history_calls,
        packets_verified=ground.packets,
        exports_verified=ground.exports,
        records=ground.audit.records,
        feed_repeats=sum(count - 1 for count in ground.feed.told.values()),
        invariants=invariants,
    )


def _felt(fault: Injected, intents: Sequence[Intent]) -> Injected:
    """Return the fault with the longest silence from its hit to recovery, and the time to catch up after its end."""
    until = fault.ended_at + (fault.recovery_seconds or 0.0)
    completed = sorted(at for one in intents if (at := _ended_at(one)) is not None and fault.hit_at <= at <= until)
    silent = max(after - before for before, after in pairwise([fault.hit_at, *completed, until]))
    meant = (one for one in intents if fault.hit_at <= one.created_at <= fault.ended_at and _is_plain(one))
    last = max((at for one in meant if (at := _ended_at(one)) is not None), default=0.0)
    return msgspec.structs.replace(
        fault, silent_seconds=round(silent, 2), caught_up_seconds=round(max(0.0, last - fault.ended_at), 2)
    )


def _ended_at(intent: Intent) -> float | None:
    return next((step.at for step in intent.steps if step.state in ENDED), None)


def _is_plain(intent: Intent) -> bool:
    scenario = intent.command.get("metadata", {}).get("sandbox_scenario", "")
    return scenario in PLAIN and not intent.cases and not intent.review


def _counts(words: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def as_text(report: Report) -> str:
    """Return the report as lines for people."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"seed {report.seed}, {report.seconds:g} s: {'everything held' if report.ok else 'NOT EVERYTHING HELD'}"
    yield f"\n  {'at':>7}  {'fault':<20} {'victim':<14} {'lasted':>7} {'recovery':>9} {'silence':>8} {'caught up':>10}"
    for one in report.faults:
        recovery = "none" if one.recovery_seconds is None else f"{one.recovery_seconds:.2f} s"
        late = "" if one.in_time else f"  OVER ITS BOUND of {one.recovery_seconds_max:g} s"
        late += f"  WRONG: {one.wrong}" if one.wrong else ""
        yield (
            f"  {one.at:5.1f} s  {one.fault:<20} {one.victim:<14} {one.lasted:5.1f} s {recovery:>9}"
            f" {one.silent_seconds:6.2f} s {one.caught_up_seconds:8.2f} s{late}  {one.note}".rstrip()
        )
    settled = "not in time" if report.settled_seconds is None else f"in {report.settled_seconds:g} s"
    yield f"\nrequests    {_counted(report.requests)}"
    yield f"in doubt    {report.doubtful} looked up, {report.found} there"
    yield f"intents     {_counted(report.states)}"
    yield f"cases       {_counted(report.cases)}"
    yield f"operators   {_counted(report.operators)}"
    yield f"routing     {_counted(report.routing)}"
    yield f"rails       {report.rail_payments} payments, {report.rail_repeats} asked again"
    yield f"webhooks    {report.deliveries} deliveries, {report.webhook_calls} calls"
    yield f"readings    {_counted(report.readings)}"
    yield f"settled     {settled}"
    proved = f"{report.packets_verified} packets and {report.exports_verified} exports verified"
    yield f"evidence    {report.records} records, {proved}"
    yield f"history     {report.history_calls} calls checked"
    yield f"feed        {report.feed_repeats} repeats"
    yield "\ninvariants"
    for verdict in report.invariants:
        yield f"  {verdict.letter}  {verdict.verdict:<11} {verdict.detail}"
        yield from (f"       {wrong}" for wrong in verdict.wrongs)
        if verdict.count > len(verdict.wrongs):
            yield f"       and {verdict.count - len(verdict.wrongs)} more"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
