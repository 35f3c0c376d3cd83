"""The report holds what was measured, asks for nothing from outside, and cannot be broken by a name."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.bench.planted import measured, tally_of
from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.plans import PROFILES, plan_of
from zentra.bench.measuring.plots import Line, line_chart, nice_ticks, percentile_chart, told
from zentra.bench.measuring.report import html_of, write_html

VOID = {"meta", "rect", "line", "polyline"}


class _Page(HTMLParser):
    """Counts elements and collects text; refuses what is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(run: Measured, against: tuple[str, ...] = ()) -> str:
    return html_of(run, {"successful_p99_ms_max": 500.0}, against)


def test_the_page_is_whole_and_has_every_plot() -> None:
    page = _Page(page_of(measured()))
    assert page.tags.count("svg") == 7
    for words in ("Throughput over time", "Where the time goes", "Cores in use", "Memory", "By route and outcome"):
        assert words in page.text
    assert "Counts." in page.text


def test_the_page_asks_for_nothing_from_outside() -> None:
    page = page_of(measured())
    assert re.findall(r"<(?:script|link|img|iframe)|(?:src|href)=|url\(|@import|https?://", page) == []


@pytest.mark.parametrize(
    ("run", "against", "words"),
    [
        (measured(), ("successful_p99_ms is 9, over 5",), "Over a threshold"),
        (measured(faults=["the generator lagged"]), ("invalid: the generator lagged",), "Does not count"),
        (measured(checks=[Check("x", False, "lost")]), ("incorrect: x: lost",), "Does not count"),
    ],
)
def test_what_speaks_against_a_run_stands_at_its_head(run: Measured, against: tuple[str, ...], words: str) -> None:
    text = _Page(page_of(run, against)).text
    assert words in text
    assert against[0] in text


def test_a_name_is_text_and_never_markup() -> None:
    plan = plan_of("steady", rate=20, seconds=10)
    page = page_of(measured(plan, tally=tally_of(plan, outcome="500 <script>alert(1)</script>")))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_a_page(profile: str, tmp_path: Path) -> None:
    write_html(measured(plan_of(profile, rate=20, seconds=4)), {}, (), tmp_path / "report.html")
    assert _Page((tmp_path / "report.html").read_text()).tags.count("h1") == 1


def test_a_plot_of_nothing_says_so() -> None:
    assert "nothing was measured" in line_chart("cores", [Line("a", [])], unit="cores")
    assert "nothing was measured" in percentile_chart("latency", [], unit="ms")


@pytest.mark.parametrize(("highest", "ticks"), [
    (0,      [0, 1]),
    (1,      [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    (7.3,    [0, 2, 4, 6, 8]),
    (1234,   [0, 250, 500, 750, 1000, 1250]),
])  # fmt: skip
def test_ticks_are_round_and_reach_the_highest(highest: float, ticks: list[float]) -> None:
    assert nice_ticks(highest) == pytest.approx(ticks)


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (0.00321, "0.00321"), (1.5, "1.5"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1,234"), (20000, "20,000"),
])  # fmt: skip
def test_numbers_are_told_with_the_digits_that_count(value: float, text: str) -> None:
    assert told(value) == text
