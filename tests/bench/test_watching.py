"""A client that watched says of every accepted intent when it saw it SUCCESSFUL, or for how long it did not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from zentra.bench.measuring.generator import run_load
from zentra.bench.measuring.load import Load, distinct_numbers
from zentra.bench.measuring.marks import Marks
from zentra.bench.measuring.tally import Tally, merge_reports
from zentra.bench.measuring.watching import Watch
from zentra.bench.measuring.wire import serve
from zentra.bench.measuring.workload import Mix

TENANT = "acme"


class Client:
    """A connection that nothing comes over: the frames are handed to the watch by the test."""

    async def close(self) -> None:
        """Give back nothing."""


def watch_of(tally: Tally) -> Watch:
    return Watch(cast(Any, Client()), tally)


def frame(*intents: str) -> tuple[str, bytes]:
    return f"ze.0.{TENANT}.ledger-posted", msgspec.json.encode([{"intent_id": name} for name in intents])


# fmt: off
SENDS = [
    # sent, accepted, seen before the wait, seconds since they were due,   recorded, unseen, p99 ms at least
    (1_000, range(1_000),   range(1_000),   12.0,                           1_000,      0,      0),
    (1_000, range(1_000),   range(970),     12.0,                           1_000,     30, 12_000),
    (1_000, range(970),     range(970),     12.0,                             970,      0,      0),  # 30 were refused
    (1_000, range(1_000),   (),             12.0,                           1_000,  1_000, 12_000),
    (   10, range(5),       range(10),      12.0,                              10,      0,      0),  # no answer
    (    0, (),             (),             12.0,                               0,      0,      0),
]
# fmt: on


@pytest.mark.parametrize(("sent", "accepted", "seen", "seconds", "recorded", "unseen", "p99_ms"), SENDS)
async def test_what_was_accepted_and_never_seen_counts_for_as_long_as_it_was_waited_for(
    sent: int, accepted: Sequence[int], seen: Sequence[int], seconds: float, recorded: int, unseen: int, p99_ms: float
) -> None:
    tally = Tally(0.0)
    watch, now = watch_of(tally), time.perf_counter()
    for number in range(sent):
        late = number in seen
        watch.expect(number, f"i{number}", "steady", TENANT, now if late else now - seconds)
    for number in accepted:
        tally.acknowledged.add(number)
    watch.saw([frame(*(f"i{number}" for number in seen))])
    await watch.wait_all(until=now)
    report = merge_reports([tally.report(seconds=1, started_at=0, cpu_seconds=0)])
    totals = {name: histogram.total for name, histogram in report.successful.items()}
    assert (totals, report.unseen) == ({"steady": recorded} if recorded else {}, unseen)
    assert {name: each.total for name, each in report.successful_by_tenant.items()} == (
        {TENANT: recorded} if recorded else {}
    )
    if recorded:
        assert report.successful["steady"].quantile_ms(0.99) >= p99_ms


@pytest.mark.parametrize("repeats_answered", [409, 202])
async def test_a_repeat_that_is_refused_hides_nothing_of_its_first(
    monkeypatch: pytest.MonkeyPatch, repeats_answered: int
) -> None:
    """The feed is late: it tells of all when the last request comes, so every refusal but that one came before."""
    made: list[Watch] = []
    asked: list[str] = []
    load = Load(
        transport="http", url="", intents=80, in_flight=1, mix=Mix(repeats=0.3), sources=("a",), destinations=("b",),
        watch_url="nats://127.0.0.1:1", watch_seconds=30.0,
    )  # fmt: skip

    async def start(url: str, tenants: Sequence[str], tally: Tally) -> Watch:
        made.append(watch_of(tally))
        return made[0]

    def answer(method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        key = headers[b"x-idempotency-key"].decode()
        status = repeats_answered if key in asked else 202
        asked.append(key)
        if len(asked) == load.intents:
            made[0].saw([frame(*dict.fromkeys(asked))])
        return status, b"{}"

    monkeypatch.setattr(Watch, "start", start)
    async with serve(answer) as port:
        report = await run_load(msgspec.structs.replace(load, url=f"http://127.0.0.1:{port}"))
    distinct = len(distinct_numbers(load))
    assert report.refused == (80 - distinct if repeats_answered == 409 else 0)
    assert len(Marks(report.acknowledged)) == distinct < 80
    assert (sum(each.total for each in report.successful.values()), report.unseen) == (distinct, 0)
