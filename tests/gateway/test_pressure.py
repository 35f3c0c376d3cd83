"""When the doors for new intents close and open, what they say meanwhile, and that a reading costs little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from zentra.gateway.doors.pressure import Cause, Overloaded, Pressure, PressureLimits
from zentra.gateway.http.problems import document, of_error
from zentra.gateway.metrics import Metrics
from zentra.runtime.errors import Unavailable
from zentra.storage.reads.backlog import Backlog

LIMITS = PressureLimits(1_000, 30.0)
EMPTY = Backlog(0, 0, 0.0)


class Store:
    """Says what it is told to say, or fails."""

    def __init__(self) -> None:
        self.backlog = EMPTY
        self.failure: Exception | None = None
        self.readings = 0
        self.now = 0.0

    async def read(self) -> Backlog:
        self.readings += 1
        if self.failure is not None:
            raise self.failure
        return self.backlog

    def clock(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def pressure(store: Store) -> Pressure:
    return Pressure(store.read, LIMITS, clock=store.clock)


def waiting(count: int, late: int = 0) -> Backlog:
    return Backlog(count, late, 1.0)


# What the readings say one after another, and whether the doors are closed after each.
STORIES: tuple[tuple[str, tuple[tuple[Backlog, bool], ...]], ...] = (
    ("below the limit", ((waiting(999), False),)),
    ("at the limit", ((waiting(1_000), True),)),
    ("no flapping", ((waiting(1_000), True), (waiting(999), True), (waiting(501), True), (waiting(500), False))),
    ("not again", ((waiting(1_000), True), (waiting(500), False), (waiting(999), False))),
    (
        "old work",
        ((waiting(99, 99), False), (waiting(100, 100), True), (waiting(60, 50), True), (waiting(9, 9), False)),
    ),
    ("at once from nothing", ((waiting(5_000), True), (waiting(0), False))),
)


@pytest.mark.parametrize("story", [story for _, story in STORIES], ids=[name for name, _ in STORIES])
async def test_doors_close_at_the_limit_and_open_at_half_of_it(
    store: Store, pressure: Pressure, story: tuple[tuple[Backlog, bool], ...]
) -> None:
    for backlog, closed in story:
        store.backlog = backlog
        store.now += 1.0
        await pressure.refresh()
        assert (pressure.closed, backlog) == (closed, backlog)


@pytest.mark.parametrize(("accepted", "pending", "welcome"), [(999, 0, True), (1_000, 0, False), (400, 600, False)])
async def test_what_came_since_the_last_reading_counts(
    pressure: Pressure, accepted: int, pending: int, welcome: bool
) -> None:
    await pressure.refresh()
    pressure.accepted(accepted)
    if welcome:
        pressure.check(pending)
    else:
        with pytest.raises(Overloaded):
            pressure.check(pending)


async def test_a_reading_takes_the_place_of_what_was_counted_before_it(store: Store, pressure: Pressure) -> None:
    await pressure.refresh()
    pressure.accepted(900)
    store.backlog = waiting(100)
    await pressure.refresh()
    assert pressure.waiting == 100


@pytest.mark.parametrize(
    ("per_second", "least", "most"),
    [(0, 30, 30), (1, 30, 30), (100, 4, 10), (100_000, 1, 2)],
)
async def test_when_to_come_back_follows_from_how_fast_the_work_is_done(
    store: Store, pressure: Pressure, per_second: int, least: int, most: int
) -> None:
    store.backlog = waiting(100_000)
    await pressure.refresh()
    left = 1_000 + per_second * 10
    for _ in range(10):
        store.backlog = waiting(left)
        await pressure.refresh()
        store.now += 1.0
        left -= per_second
    assert pressure.closed
    assert least <= pressure.retry_after_seconds() <= most


async def test_a_store_that_is_away_leaves_the_doors_as_they_are(store: Store, pressure: Pressure) -> None:
    store.backlog = waiting(1_000)
    await pressure.refresh()
    store.failure = Unavailable("connection refused")
    with pytest.raises(Unavailable):
        await pressure.refresh()
    assert pressure.closed


async def test_a_gateway_that_starts_knows_the_backlog_before_its_first_request(
    store: Store, pressure: Pressure
) -> None:
    store.backlog = waiting(1_000)
    await pressure.start()
    with pytest.raises(Overloaded) as refused:
        pressure.check(0)
    await pressure.aclose()
    assert refused.value.cause is Cause.BACKLOG


async def test_an_idle_gateway_asks_nothing_and_one_with_traffic_does(
    store: Store, pressure: Pressure, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps = 0
    nap = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal naps
        naps += 1
        store.now += seconds
        await nap(0)

    monkeypatch.setattr(asyncio, "sleep", counted)
    await pressure.start()
    await _until(lambda: naps >= 50)
    assert store.readings == 1
    pressure.accepted(1)
    await _until(lambda: store.readings >= 2)
    await pressure.aclose()


@pytest.mark.parametrize("failure", [Unavailable("connection refused"), RuntimeError("no such column")], ids=type)
async def test_a_watcher_outlives_whatever_a_reading_fails_of_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    nap = asyncio.sleep

    async def brief(seconds: float) -> None:
        store.now += seconds
        await nap(0)

    metrics = Metrics()
    pressure = Pressure(store.read, LIMITS, clock=store.clock, instruments=metrics)
    monkeypatch.setattr(asyncio, "sleep", brief)
    store.backlog = waiting(1_000)
    await pressure.start()
    store.failure = failure
    await _until(lambda: store.readings >= 3)
    assert pressure.closed
    store.failure, store.backlog = None, EMPTY
    await _until(lambda: not pressure.closed)
    await pressure.aclose()
    told = [record for record in caplog.records if "backlog" in record.message]
    assert len(told) >= 2
    assert all(bool(record.exc_info) is not isinstance(failure, Unavailable) for record in told)
    assert metrics.registry.get_sample_value("zentra_backlog_readings_failed_total") == len(told)


@pytest.mark.parametrize(
    ("took", "found", "accepted", "pause"),
    [
        (0.001, waiting(10), 0, 0.25),
        (0.02, waiting(10), 0, 1.0),
        (9.0, waiting(10), 0, 4.0),
        (0.02, waiting(10), 250, 0.25),  # the sum of an old reading and so much says little
        (0.05, waiting(1_000), 0, 1.0),  # closed: somebody waits to hear that the doors are open
    ],
    ids=["cheap", "dear", "never rarer", "much since", "closed"],
)
async def test_how_often_is_read_follows_from_what_it_costs(
    store: Store, monkeypatch: pytest.MonkeyPatch, took: float, found: Backlog, accepted: int, pause: float
) -> None:
    began: list[float] = []
    nap = asyncio.sleep

    async def counted(seconds: float) -> None:
        store.now += seconds
        await nap(0)

    async def slow() -> Backlog:
        began.append(store.now)
        store.now += took
        return found

    monkeypatch.setattr(asyncio, "sleep", counted)
    pressure = Pressure(slow, LIMITS, clock=store.clock)
    await pressure.start()
    pressure.accepted(accepted)
    await _until(lambda: len(began) >= 2)
    pressure.accepted(accepted)
    await _until(lambda: len(began) >= 3)
    await pressure.aclose()
    # Within one look of the watcher, and the reading itself.
    assert pause <= began[2] - began[1] <= pause + took + 0.26


def test_an_answer_says_what_there_is_too_much_of_and_when_to_come_back() -> None:
    problem = of_error(Overloaded(Cause.BACKLOG, 7))
    body = msgspec.json.decode(document(problem, "req_1", "t" * 32))
    assert (body["status"], body["code"], body["retryable"]) == (503, "overloaded", True)
    assert (body["cause"], body["retry_after_seconds"]) == ("backlog", 7)
    assert dict(problem.headers)[b"retry-after"] == b"7"


async def _until(fits: Callable[[], bool]) -> None:
    event = asyncio.get_running_loop()
    while not fits():
        ready: asyncio.Future[None] = event.create_future()
        event.call_soon(ready.set_result, None)
        await ready
