"""What a generator counts while it sends, and how the counts of several generators become one report.

A latency is kept per route, outcome and phase, twice: from the intended send time, which is what a client would have
waited, and from the actual one, which is what the server took. The difference is what a closed loop would hide."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from zentra.bench.measuring.histogram import Histogram, merged
from zentra.bench.measuring.marks import Marks
from zentra.bench.measuring.schedule import LATE_SECONDS
from zentra.bench.measuring.transports import is_accepted

__all__ = ["LoadReport", "Sample", "Second", "Tally", "merge_reports"]


class Sample(Struct):
    """Answers of one kind: latencies from the intended and from the actual time of sending."""

    route: str
    outcome: str
    phase: str
    response: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)


class Second(Struct):
    """One second of a load, from its start."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    late: int = 0


class LoadReport(Struct, kw_only=True):
    """What came back: accepted and refused intents, seconds, and latencies of the answers in milliseconds."""

    accepted: int
    refused: int
    seconds: float
    sent_late: int
    started_at: float
    p50_ms: float
    p99_ms: float
    refusals: dict[str, int] = {}
    repeated: int = 0  # sends that asked again for an intent of before
    repeated_elsewhere: int = 0  # of those: over another door than the first time
    repeated_early: int = 0  # of those: while this process waited for the answer to the first, at the time of sending
    answered_again: int = 0  # of those accepted: the answer said that it had been given before
    turned_away: dict[str, int] = {}  # by route and answer: how often somebody was told to come back, and did
    acknowledged: bytes = b""  # the numbers that were accepted; see Marks
    samples: list[Sample] = []
    lags: dict[str, Histogram] = {}  # by phase: how far sends were behind their schedule
    successful: dict[str, Histogram] = {}  # by phase: from the intended time until SUCCESSFUL was seen on the feed
    successful_by_tenant: dict[str, Histogram] = {}
    unseen: int = 0  # of those: were never seen, and are recorded with the time that they were waited for
    by_second: dict[int, Second] = {}
    cpu_seconds: float = 0.0


class Tally:
    """Counts as they happen; times are those of one monotonic clock, `started` being the first intended one."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.accepted = self.refused = self.late = self.repeated = self.answered_again = 0
        self.repeated_elsewhere = self.repeated_early = self.unseen = 0
        self.turned_aways: dict[str, int] = {}
        self.acknowledged = Marks()
        self.refusals: dict[str, int] = {}
        self.samples: dict[tuple[str, str, str], Sample] = {}
        self.lags: dict[str, Histogram] = {}
        self.successful: dict[str, Histogram] = {}
        self.successful_by_tenant: dict[str, Histogram] = {}
        self.by_second: dict[int, Second] = {}

    def repeat(self, *, elsewhere: bool, early: bool) -> None:
        """Count a send that asks again: over another door than the first, before the first was answered."""
        self.repeated += 1
        self.repeated_elsewhere += elsewhere
        self.repeated_early += early

    def turned_away(self, route: str, outcome: str) -> None:
        """Count somebody who was told to come back and will."""
        told = f"{route}: {outcome}"
        self.turned_aways[told] = self.turned_aways.get(told, 0) + 1

    def sent(self, phase: str, intended: float, sent: float, count: int) -> None:
        """Count a request that leaves now."""
        lag = sent - intended
        lags = self.lags.get(phase)
        if lags is None:
            lags = self.lags[phase] = Histogram()
        second = self._second(sent)
        for _ in range(count):
            lags.record(lag)
        second.sent += count
        if lag > LATE_SECONDS:
            self.late += count
            second.late += count

    def answered(self, route: str, outcome: str, phase: str, intended: float, sent: float, now: float) -> None:
        """Count the answer to one intent."""
        sample = self.samples.get((route, outcome, phase))
        if sample is None:
            sample = self.samples[route, outcome, phase] = Sample(route, outcome, phase)
        sample.response.record(now - intended)
        sample.service.record(now - sent)
        second = self._second(now)
        if is_accepted(outcome):
            self.accepted += 1
            second.accepted += 1
            self.answered_again += outcome.endswith("replayed")
            return
        self.refused += 1
        second.refused += 1
        self.refusals[outcome] = self.refusals.get(outcome, 0) + 1

    def seen_successful(self, phase: str, tenant: str, seconds: float) -> None:
        """Count an intent whose SUCCESSFUL was seen by a client."""
        self.successful.setdefault(phase, Histogram()).record(seconds)
        self.successful_by_tenant.setdefault(tenant, Histogram()).record(seconds)

    def never_seen(self, phase: str, tenant: str, seconds: float) -> None:
        """Count an intent that was accepted, and waited for in vain for so long."""
        self.unseen += 1
        self.seen_successful(phase, tenant, seconds)

    def report(self, *, seconds: float, started_at: float, cpu_seconds: float) -> LoadReport:
        """Return everything that was counted."""
        samples = list(self.samples.values())
        accepted = merged(sample.response for sample in samples if is_accepted(sample.outcome))
        return LoadReport(
            accepted=self.accepted,
            refused=self.refused,
            seconds=round(seconds, 3),
            sent_late=self.late,
            started_at=started_at,
            p50_ms=round(accepted.quantile_ms(0.5), 2),
            p99_ms=round(accepted.quantile_ms(0.99), 2),
            refusals=self.refusals,
            repeated=self.repeated,
            repeated_elsewhere=self.repeated_elsewhere,
            repeated_early=self.repeated_early,
            turned_away=self.turned_aways,
            acknowledged=bytes(self.acknowledged),
            answered_again=self.answered_again,
            samples=samples,
            lags=self.lags,
            successful=self.successful,
            successful_by_tenant=self.successful_by_tenant,
            unseen=self.unseen,
            by_second=self.by_second,
            cpu_seconds=round(cpu_seconds, 2),
        )

    def _second(self, at: float) -> Second:
        number = max(0, int(at - self.started))
        second = self.by_second.get(number)
        if second is None:
            second = self.by_second[number] = Second()
        return second


def merge_reports(reports: Sequence[LoadReport]) -> LoadReport:
    """Return one report of what several generators did together; raise ValueError for none."""
    if not reports:
        raise ValueError("no generator reported")
    tally = Tally(0.0)
    for report in reports:
        tally.accepted += report.accepted
        tally.refused += report.refused
        tally.late += report.sent_late
        tally.repeated += report.repeated
        tally.repeated_elsewhere += report.repeated_elsewhere
        tally.repeated_early += report.repeated_early
        tally.answered_again += report.answered_again
        tally.unseen += report.unseen
        tally.acknowledged.update(report.acknowledged)
        for told, count in report.turned_away.items():
            tally.turned_aways[told] = tally.turned_aways.get(told, 0) + count
        for why, count in report.refusals.items():
            tally.refusals[why] = tally.refusals.get(why, 0) + count
        for sample in report.samples:
            key = (sample.route, sample.outcome, sample.phase)
            into = tally.samples.setdefault(key, Sample(*key))
            into.response.add(sample.response)
            into.service.add(sample.service)
        for mine, theirs in (
            (tally.lags, report.lags),
            (tally.successful, report.successful),
            (tally.successful_by_tenant, report.successful_by_tenant),
        ):
            for name, histogram in theirs.items():
                mine.setdefault(name, Histogram()).add(histogram)
        for number, second in report.by_second.items():
            whole = tally.by_second.setdefault(number, Second())
            whole.sent += second.sent
            whole.accepted += second.accepted
            whole.refused += second.refused
            whole.late += second.late
    return tally.report(
        seconds=max(report.seconds for report in reports),
        started_at=min(report.started_at for report in reports),
        cpu_seconds=sum(report.cpu_seconds for report in reports),
    )
