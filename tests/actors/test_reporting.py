"""Load reports: what is told, how often, and that nothing depends on having been heard."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tests.actors.test_worker import make_worker, make_world, running, until
from tests.actors.world import transfer
from zentra.actors.reporting import REPORT_AT_LEAST_SECONDS, REPORT_EVERY_SECONDS, Reporter
from zentra.bench.twins.stream import StreamTwin
from zentra.runtime.instruments import SILENCE
from zentra.runtime.messages import Load


def reporter(stream: StreamTwin, waiting: Callable[[], int]) -> Reporter:
    return Reporter("w", waiting, stream.load_reports(), SILENCE)


async def test_what_changes_is_told_at_once_and_what_does_not_once_a_second() -> None:
    stream, waiting = StreamTwin(), [0] * 30 + [7, 7, 9]
    subject = reporter(stream, lambda: waiting[0])
    told = []
    for step in range(33):
        await subject.look(100.0 + step * REPORT_EVERY_SECONDS)
        waiting.pop(0)
        told.append(len(stream.loads))
    assert [load.waiting for load in stream.loads] == [0, 0, 7, 9]
    again = round(REPORT_AT_LEAST_SECONDS / REPORT_EVERY_SECONDS)
    assert told[again - 1 : again + 1] == [1, 2]


async def test_a_report_that_nobody_takes_is_not_repeated_and_ends_nothing() -> None:
    stream, waiting = StreamTwin(), [5]
    subject = reporter(stream, lambda: waiting[0])
    stream.available = False
    await subject.look(100.0)
    stream.available = True
    await subject.look(100.1)
    assert stream.loads == []
    waiting[0] = 6
    await subject.look(100.2)
    assert stream.loads == [Load("w", 6)]


async def test_who_stops_says_that_nothing_waits() -> None:
    stream = StreamTwin()
    async with anyio.create_task_group() as group:
        group.start_soon(reporter(stream, lambda: 12).run)
        await until(lambda: bool(stream.loads))
        group.cancel_scope.cancel()
    assert stream.loads[0] == Load("w", 12)
    assert stream.loads[-1] == Load("w", 0)


async def test_what_waits_is_counted_here_and_in_the_stream() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w", messages_max=3, drain_seconds_max=0.01)
    async with running(worker):
        await until(lambda: len(worker.leases) == 8)
    await worker.refresh_leases()
    for _ in range(10):
        fleet.submit(transfer(1_000))
    assert worker.waiting == 10
    worker._take_arrived()
    assert worker._queued() == 3
    assert worker.waiting == 10
    await worker.drain()
    assert worker.waiting == 0
