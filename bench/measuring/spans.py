"""What the records of a load tell: when each intent was accepted, SUCCESSFUL and sealed, by second and by phase.

Times are those of the records, as the runtime decided; what a client sees comes later by a commit and a publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from zentra.bench.measuring.histogram import Histogram
from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["Progressed", "Span", "by_second", "intents_of", "latencies", "read_spans"]

_SPANS: Final = """
select extract(epoch from min(t.at)) - $2, extract(epoch from max(t.at) filter (where t.event = 'ledger.posted')) - $2,
    extract(epoch from max(t.at) filter (where t.event = 'review.closed')) - $2
from intents i join transitions t on t.intent = i.id
where starts_with(i.key, $1) group by i.id
"""


class Span(NamedTuple):
    """One intent: seconds from the start of the load; None for what has not happened."""

    accepted: float
    successful: float | None
    sealed: float | None


class Progressed(Struct):
    """One second of a load, as the records have it. The latency is of the intents accepted in that second."""

    accepted: int = 0
    successful: int = 0
    sealed: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


async def intents_of(pool: Pool, prefix: str) -> int:
    """Return how many intents have a key that begins so; raise Unavailable."""
    with translated():
        return int(await pool.fetchval("select count(*) from intents where starts_with(key, $1)", prefix))


async def read_spans(pool: Pool, prefix: str, started_at: float) -> list[Span]:
    """Return the span of every intent whose key begins so; raise Unavailable."""
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("set local transaction_timeout = 0")
            rows = await connection.fetch(_SPANS, prefix, started_at)
    return [Span(*(None if value is None else float(value) for value in row)) for row in rows]  # type: ignore[arg-type]


def latencies(spans: Sequence[Span], begins: float = float("-inf"), ends: float = float("inf")) -> Histogram:
    """Return the latencies from accepted to SUCCESSFUL of the intents accepted between two seconds."""
    histogram = Histogram()
    for span in spans:
        if span.successful is not None and begins <= span.accepted < ends:
            histogram.record(span.successful - span.accepted)
    return histogram


def by_second(spans: Sequence[Span]) -> dict[int, Progressed]:
    """Return what happened in each second in which anything did."""
    seconds: dict[int, Progressed] = {}
    waits: dict[int, Histogram] = {}

    def at(moment: float) -> Progressed:
        return seconds.setdefault(int(max(0.0, moment)), Progressed())

    for span in spans:
        at(span.accepted).accepted += 1
        if span.successful is not None:
            at(span.successful).successful += 1
            waits.setdefault(int(max(0.0, span.accepted)), Histogram()).record(span.successful - span.accepted)
        if span.sealed is not None:
            at(span.sealed).sealed += 1
    for second, histogram in waits.items():
        seconds[second].p50_ms, seconds[second].p99_ms = histogram.quantiles_ms((0.5, 0.99))
    return dict(sorted(seconds.items()))
