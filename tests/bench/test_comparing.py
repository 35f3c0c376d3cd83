"""What is quoted of two sides is the ratio of rounds that were run in turns; what is quoted of a row, its median."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zentra.bench.measuring.compare import Side, SideFailed, compare, order_of, ratio_of
from zentra.bench.measuring.suite import ROWS, SuiteResult, results_of
from zentra.bench.measuring.tables import comparison_table, suite_table


@pytest.mark.parametrize(("a", "b", "median", "low", "high"), [
    ([10.0],               [5.0],                2.0,  2.0, 2.0),
    ([10.0, 9.0, 12.0],    [10.0, 10.0, 10.0],   1.0,  0.9, 1.2),
    ([1.0, 4.0],           [2.0, 4.0],           0.75, 0.5, 1.0),
])  # fmt: skip
def test_the_ratio_is_that_of_each_round(
    a: list[float], b: list[float], median: float, low: float, high: float
) -> None:
    ratio = ratio_of(a, b)
    assert (ratio.median, ratio.low, ratio.high) == (median, low, high)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], []), ([1.0], [0.0])])
def test_rounds_that_do_not_pair_up_have_no_ratio(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="rounds"):
        ratio_of(a, b)


def test_the_sides_take_turns_at_going_first() -> None:
    assert order_of(4) == ["AB", "BA", "AB", "BA"]


@pytest.mark.parametrize(("values", "faults", "bar_met", "goal_met"), [
    ({"inline": [0.3, 0.5, 0.6]},   {},                         True,  False),
    ({"inline": [0.3, 0.39, 0.9]},  {},                         False, False),
    ({"inline": [0.9]},             {},                         True,  True),
    ({"inline": [0.9]},             {"inline": ["lagged"]},     False, False),
    ({},                            {"inline": ["lagged"]},     False, False),
    ({"half": [90.0, 450.0, 600.0]}, {},                        True,  False),
    ({"half": [90.0]},              {},                         True,  True),
    ({"half": [501.0]},             {},                         False, False),
    ({"memory": [150.0]},           {},                         True,  True),
    ({"memory": [250.0]},           {},                         True,  False),
    ({"growth": [41.0]},            {},                         False, True),
])  # fmt: skip
def test_a_row_is_met_by_its_median_and_by_no_faulty_round(
    values: dict[str, list[float]], faults: dict[str, list[str]], bar_met: bool, goal_met: bool
) -> None:
    (result,) = results_of(values, faults).values()
    assert (result.bar_met, result.goal_met) == (bar_met, goal_met)


def test_every_goal_lies_beyond_its_bar() -> None:
    both = [row for row in ROWS.values() if row.bar is not None and row.goal is not None]
    assert both
    assert all(row.goal is not None and row.bar is not None and (row.goal < row.bar) == row.least for row in both)


def test_the_table_of_the_suite_has_every_row() -> None:
    rows = results_of({name: [row.bar or 1.0] for name, row in ROWS.items()}, {"hot": ["the generator lagged"]})
    table = suite_table(SuiteResult(rows=rows, rates={"limit": [12_000.0]}, rounds=1))
    assert all(row.name in table for row in ROWS.values())
    assert "the generator lagged" in table


@pytest.mark.parametrize(("values", "faults", "said"), [
    ({"inline": [0.2]},         [],                             " 75 %  NOT MET"),
    ({"inline": [0.5]},         [],                             " 38 %  bar met"),
    ({"inline": [0.9]},         [],                             " -12 %  met"),
    ({"half": [1000.0]},        [],                             " 900 %  NOT MET"),
    ({"growth": [39.0]},        [],                             "  met"),
    ({"inline": [0.9, 0.9]},    ["lagged"],                      " -12 %  NOT MET: lagged"),
    ({},                        ["lagged", "lagged", "shed", "lost"],   "NOT MET: lagged; shed, and 1 more"),
])  # fmt: skip
def test_a_row_says_how_far_it_is_from_its_goal_and_what_speaks_against_it(
    values: dict[str, list[float]], faults: list[str], said: str
) -> None:
    rows = results_of(values, {"inline": faults} if faults else {})
    table = suite_table(SuiteResult(rows=rows, rates={}, rounds=1))
    assert table.splitlines()[1].endswith(said)


SAYS = """#!{python}
import pathlib, sys
state = pathlib.Path({state!r})
turn = len(state.read_text()) if state.exists() else 0
state.write_text("x" * (turn + 1))
print({documents!r}[turn % {count}])
"""


def side(tmp_path: Path, name: str, *documents: str) -> Side:
    """Return a side whose Python is a script that says these documents, one a round."""
    script = tmp_path / name
    script.write_text(
        SAYS.format(python=sys.executable, state=str(tmp_path / f"{name}.n"), documents=documents, count=len(documents))
    )
    script.chmod(0o700)
    return Side(name, "--intents 10", str(script))


def quiet(label: str, done: int, total: int) -> None:
    """Watch no progress."""


async def test_two_sides_are_run_in_turns_and_divided(tmp_path: Path) -> None:
    a = side(tmp_path, "a", '{"completed_per_second": 30}', '{"figures": {"completed_per_second": 60}}')
    b = side(tmp_path, "b", '{"completed_per_second": 20}', '{"completed_per_second": 30}')
    found = await compare(a, b, 2, "completed_per_second", quiet)
    assert (found.a, found.b, found.ratio.rounds) == ([30, 60], [20, 30], [1.5, 2.0])
    assert "median of A / B is 1.750, 1.500 to 2.000" in comparison_table(found, "a", "b")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("no JSON", "ended with 0"),
        ('{"valid": false, "completed_per_second": 1, "faults": ["lagged"]}', "lagged"),
        ('{"correct": false, "completed_per_second": 1, "breaches": ["A lost"]}', "A lost"),
        ('{"other": 1}', "no figure"),
    ],
)
async def test_a_side_without_a_figure_that_counts_ends_the_comparison(tmp_path: Path, said: str, why: str) -> None:
    sides = side(tmp_path, "a", said), side(tmp_path, "b", '{"completed_per_second": 1}')
    with pytest.raises(SideFailed, match=why):
        await compare(*sides, 1, "completed_per_second", quiet)
