"""The suite quotes no figure of a run that does not count, says why, and how far each row is from its goal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from tests.bench.planted import CHECKS, measured
from zentra.bench.measuring.cli import bench_app
from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.generating import Ceiling, Ceilings, GeneratorFault
from zentra.bench.measuring.limit import LimitPlan, LimitResult
from zentra.bench.measuring.load import Load
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.pace import Pace
from zentra.bench.measuring.plans import Plan
from zentra.bench.measuring.suite import ROWS, SuiteResult, parts_of, results_of, run_suite
from zentra.bench.measuring.tables import suite_table

Changes = Mapping[str, Mapping[str, Any] | Exception]  # by load of the suite: what is unlike a good run, or its end

RATE = 2_500.0
LOST = [*CHECKS, Check("one mutation per key", False, "2 keys twice")]
SINGLE = "p99 at half in single requests, ms"
RATES = {
    "limit", "inline", SINGLE, "http, accepted", "http bulk, completed", "sandbox", "endpoint",
    "endpoint for every event",
}  # fmt: skip


def kind_of(plan: Plan) -> str:
    """Return which of the suite's loads a plan is."""
    if plan.phases:
        return "slow" if plan.rate == 50 else "half" if plan.batch > 1 else "single"
    if plan.endpoint:
        return "endpoint" if plan.endpoint_event else "every event"
    if plan.one_at_a_time:
        return "unloaded"
    known = {"http": "http", "bulk": "bulk"}
    return known.get(plan.transport) or ("sandbox" if plan.rail == "sandbox" else "hot" if plan.hot else "uniform")


class Planted:
    """Stands and loads that are none: each run is as good as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, changes: Changes, limit: float = 1_000.0) -> None:
        self.limit, self.changes = limit, changes
        self.plans: list[Plan] = []
        self.ceilings: set[int] = set()
        for name in ("measure_on", "measure_limit", "open_stand"):
            monkeypatch.setattr(f"zentra.bench.measuring.suite.{name}", getattr(self, name))

    async def measure_limit(self, plan: LimitPlan) -> LimitResult:
        return LimitResult(intents=1, hot=False, batch=1, seconds=1.0, limit_per_second=self.limit)

    @asynccontextmanager
    async def open_stand(self, plan: Plan, progress: object) -> AsyncIterator[None]:
        yield None

    async def measure_on(self, stand: None, plan: Plan, ceilings: Ceilings, progress: object) -> Measured:
        self.plans.append(plan)
        self.ceilings.add(id(ceilings))
        found = self.changes.get(kind_of(plan).replace(" ", "_"), {})
        if isinstance(found, Exception):
            raise found
        figures = {"completed_per_second": RATE, "accepted_per_second": RATE, "p99_ms": 18.0, "p50_ms": 9.0}
        return measured(**{**figures, **found})


def nowhere(label: str, done: int, total: int) -> None:
    """Watch no progress."""


async def suite(memory_intents: int = 0) -> SuiteResult:
    return await run_suite(2, 0.1, memory_intents, nowhere)


LAGGED = {"faults": ["the generator lagged"], "valid": False}

# fmt: off
FAULTY = [
    # the load that does not count,       rows without a value,                         rates without a figure
    ({},                                  set(),                                        set()),
    ({"uniform": LAGGED},                 {"inline", "hot", "half"},                    {"inline", SINGLE}),
    ({"uniform": {"checks": LOST}},       {"inline", "hot", "half"},                    {"inline", SINGLE}),
    ({"hot": LAGGED},                     {"hot"},                                      set()),
    ({"half": LAGGED},                    {"half"},                                     set()),
    ({"single": LAGGED},                  set(),                                        {SINGLE}),
    ({"slow": LAGGED},                    {"slow"},                                     set()),
    ({"http": LAGGED},                    {"http"},                                     {"http, accepted"}),
    ({"bulk": LAGGED},                    set(),                                        {"http bulk, completed"}),
    ({"unloaded": LAGGED},                {"unloaded", "unloaded_p99"},                 set()),
    ({"sandbox": LAGGED},                 {"sandbox"},                                  {"sandbox"}),
    ({"endpoint": LAGGED},                {"endpoint"},                                 {"endpoint"}),
    ({"every_event": LAGGED},             set(),                                        {"endpoint for every event"}),
]
# fmt: on


@pytest.mark.parametrize(("changes", "rows", "rates"), FAULTY)
async def test_no_figure_is_taken_of_a_run_that_does_not_count(
    monkeypatch: pytest.MonkeyPatch, changes: Changes, rows: set[str], rates: set[str]
) -> None:
    planted = Planted(monkeypatch, changes)
    found = await suite()
    assert {name for name, row in found.rows.items() if row.median is None} == rows
    assert {name for name, row in found.rows.items() if row.faults} == rows
    assert {name for name, values in found.rates.items() if None in values} == rates == set(found.rate_faults)
    assert all(values == [None, None] for name, values in found.rates.items() if name in rates)
    assert set(found.rates) == RATES
    assert len(planted.ceilings) == 1
    if changes:
        told = "2 keys twice" if changes == {"uniform": {"checks": LOST}} else "the generator lagged"
        assert told in suite_table(found)
        assert all(any(told in fault for fault in found.rows[name].faults) for name in rows)
        assert all(any(told in fault for fault in found.rate_faults[name]) for name in rates)


# fmt: off
ENDED = [
    ("uniform",     {"inline", "hot", "half", "slow"},              {"inline", SINGLE}),
    ("slow",        {"slow"},                                       set()),
    ("unloaded",    {"http", "unloaded", "unloaded_p99"},           {"http, accepted", "http bulk, completed"}),
    ("http",        {"http"},                                       {"http, accepted", "http bulk, completed"}),
    ("sandbox",     {"sandbox"},                                    {"sandbox"}),
    ("endpoint",    {"endpoint"},                                   {"endpoint", "endpoint for every event"}),
    ("every event", set(),                                          {"endpoint for every event"}),
]
# fmt: on


@pytest.mark.parametrize(("load", "rows", "rates"), ENDED)
async def test_where_a_stand_fails_every_row_and_rate_says_why_it_has_no_figure(
    monkeypatch: pytest.MonkeyPatch, load: str, rows: set[str], rates: set[str]
) -> None:
    Planted(monkeypatch, {load.replace(" ", "_"): GeneratorFault("the door is closed")})
    found = await suite()
    why = ["GeneratorFault: the door is closed"] * 2
    assert {name: row.faults for name, row in found.rows.items() if row.median is None} == dict.fromkeys(rows, why)
    assert found.rate_faults == dict.fromkeys(rates, why)
    absent = {name: values for name, values in found.rates.items() if None in values}
    assert absent == {name: [None, None] for name in rates}


async def test_nothing_is_asked_at_half_of_a_rate_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(monkeypatch, {"uniform": LAGGED})
    await suite()
    assert not {kind_of(plan) for plan in planted.plans} & {"half", "single"}


async def test_a_rate_beside_the_rows_that_was_reached_by_losing_something_fails_the_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Planted(monkeypatch, {"bulk": {"checks": LOST}})
    found = await suite()
    assert found.breaches == ["http bulk, completed: one mutation per key: 2 keys twice"] * 2
    assert "2 keys twice" in suite_table(found)
    assert all(row.bar_met for row in found.rows.values())
    assert not found.met


async def test_the_ceiling_is_measured_once_for_loads_that_are_sent_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Load] = []

    async def measure(load: Load, processes: int) -> Ceiling:
        asked.append(load)
        return Ceiling(float(len(asked)), 1.0)

    monkeypatch.setattr("zentra.bench.measuring.generating.measure_ceiling", measure)
    ceilings, load = Ceilings(), Load(transport="nats", url="", batch=100, in_flight=4_096)
    same = [load, replace(load, prefix="b", intents=7, rate=50.0), replace(load, watch_url="nats://127.0.0.1:1")]
    other = [replace(load, batch=1), replace(load, transport="bulk"), replace(load, in_flight=128)]
    assert [(await ceilings.of(each)).per_second for each in [*same, *other, load]] == [1, 1, 1, 2, 3, 4, 1]
    assert (await ceilings.of(load, 2)).per_second == 5


@pytest.mark.parametrize(("name", "value", "percent", "said"), [
    ("inline",      0.2,      75.0, " 75 %"),
    ("inline",      0.8,       0.0, " 0 %"),
    ("inline",      1.0,     -25.0, " -25 %"),
    ("half",        250.0,   150.0, " 150 %"),
    ("half",        50.0,    -50.0, " -50 %"),
    ("growth",      39.0,     None, ""),
    ("inline",      None,     None, ""),
])  # fmt: skip
def test_a_row_says_what_is_missing_to_its_goal(
    name: str, value: float | None, percent: float | None, said: str
) -> None:
    rows = results_of({} if value is None else {name: [value]}, {} if value else {name: ["lagged"]})
    (row,) = rows.values()
    assert row.to_goal_percent == (None if percent is None else pytest.approx(percent))
    line = suite_table(SuiteResult(rows=rows, rates={}, rounds=1)).splitlines()[1]
    assert said in line
    assert ("%" in line) is bool(said)


def test_the_document_of_the_suite_has_what_the_table_has(monkeypatch: pytest.MonkeyPatch) -> None:
    Planted(monkeypatch, {"sandbox": LAGGED})
    words = ["suite", "--rounds", "1", "--scale", "0.1", "--memory-intents", "0"]
    result = CliRunner().invoke(bench_app, [*words, "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert set(document["rows"]) == set(ROWS) - {"memory", "growth", "history"}
    assert set(document["left_out"]) == {"memory", "growth", "history"}
    half, sandbox = document["rows"]["half"], document["rows"]["sandbox"]
    assert (half["median"], half["low"], half["high"], half["bar_met"]) == (18.0, 18.0, 18.0, True)
    assert (half["row"]["bar"], half["row"]["goal"], half["to_goal_percent"]) == (500, 100, -82.0)
    assert (sandbox["median"], sandbox["bar_met"], sandbox["faults"]) == (None, False, ["the generator lagged"])
    table = CliRunner().invoke(bench_app, words)
    assert table.exit_code == 1
    assert "left out: memory of one worker" in table.stdout


@pytest.mark.parametrize(("limit", "code"), [(1_000.0, 0), (10_000.0, 1)])
def test_a_bar_that_is_missed_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, limit: float, code: int) -> None:
    Planted(monkeypatch, {}, limit)
    words = ["suite", "--rounds", "1", "--scale", "0.1", "--memory-intents", "0"]
    result = CliRunner().invoke(bench_app, words)
    assert result.exit_code == code
    assert "round 1 of 1, inline: about" in result.stderr


def test_the_suite_says_how_long_it_will_take_by_part() -> None:
    parts = parts_of(2, 1.0, 1_000, 500)
    assert [name for name, _ in parts] == [
        *(
            f"round {number} of 2, {name}"
            for number in (1, 2)
            for name in ("inline", "http", "sandbox", "endpoint", "memory")
        ),
        "history",
    ]
    assert all(seconds > 0 for _, seconds in parts)
    assert (
        sum(s for _, s in parts_of(2, 0.1, 0, 0)) < sum(s for _, s in parts_of(2, 1.0, 0, 0)) < sum(s for _, s in parts)
    )


# fmt: off
PACES = [
    # expected,      when each part began,   now,   left
    ([10, 20],       [0.0],                  0.0,   30.0),
    ([10, 20],       [0.0],                  4.0,   26.0),
    ([10, 20],       [0.0],                 15.0,   20.0),      # the part is over its time; the others are to come
    ([10, 20],       [0.0, 20.0],           20.0,   40.0),      # twice as slow as expected
    ([10, 20],       [0.0, 5.0],             9.0,    6.0),
    ([10, 20],       [0.0, 5.0],            99.0,    0.0),
]
# fmt: on


@pytest.mark.parametrize(("expected", "began", "now", "left"), PACES)
def test_the_time_left_follows_what_the_parts_took(
    expected: Sequence[float], began: Sequence[float], now: float, left: float
) -> None:
    clock = 0.0
    pace = Pace([(f"part {number}", seconds) for number, seconds in enumerate(expected)], lambda: clock)
    for clock in began:  # noqa: B007  # the clock reads it
        pace.begin()
    clock = now
    assert pace.part == f"part {len(began) - 1}"
    assert pace.seconds_left == pytest.approx(left)


def test_the_rates_behind_the_rows_are_documents_too() -> None:
    found = SuiteResult(rows={}, rates={"limit": [1.0, None]}, rounds=2, rate_faults={"limit": ["lagged"]})
    assert msgspec.json.decode(msgspec.json.encode(found))["rates"] == {"limit": [1.0, None]}
    assert "none" in suite_table(found)
    assert "lagged" in suite_table(found)
