"""A run counts where its load was what it was meant to be, nothing was lost, and its figures keep their thresholds."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.bench.planted import measured, tally_of
from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.generating import Ceiling
from zentra.bench.measuring.measured import Measured, PhaseResult, knee_of
from zentra.bench.measuring.plans import PROFILES, UnknownProfile, plan_of
from zentra.bench.measuring.schedule import seconds_of
from zentra.bench.measuring.verdict import DEFAULTS_PATH, ThresholdsFaulty, breaks, judged, read_thresholds

STEADY = plan_of("steady", rate=20, seconds=10)
PHASE = PhaseResult(
    name="100/s", counted=True, begins=0, seconds=4, offered_per_second=100, successful_per_second=100,
    answer_p50_ms=1, answer_p99_ms=2, successful_p50_ms=5, successful_p99_ms=20, refused=0, late=0, fault=None,
)  # fmt: skip


@pytest.mark.parametrize(("figures", "thresholds", "broken"), [
    ({"p99_ms": 400},   {"p99_ms_max": 500},    []),
    ({"p99_ms": 500},   {"p99_ms_max": 500},    []),
    ({"p99_ms": 501},   {"p99_ms_max": 500},    ["p99_ms is 501, over 500"]),
    ({"rate": 100},     {"rate_min": 100},      []),
    ({"rate": 99},      {"rate_min": 100},      ["rate is 99, under 100"]),
    ({"rate": 99},      {"rat_min": 1},         ["rat was not measured, and rat_min is 1"]),
    ({},                {},                     []),
])  # fmt: skip
def test_a_figure_keeps_its_threshold_or_is_named(
    figures: dict[str, float], thresholds: dict[str, float], broken: list[str]
) -> None:
    assert breaks(figures, thresholds) == broken


def test_a_run_that_kept_everything_counts() -> None:
    assert judged(measured(STEADY), read_thresholds(DEFAULTS_PATH, "steady")) == []


@pytest.mark.parametrize(("run", "sentence"), [
    (measured(STEADY, tally=tally_of(STEADY, lag=0.05)),                    "invalid: steady: the generator lagged"),
    (measured(STEADY, ceiling=Ceiling(16.0, 99.0)),                         "invalid: the generator was the limit"),
    (measured(STEADY, checks=[Check("one mutation per key", False, "2")]),  "incorrect: one mutation per key: 2"),
    (measured(STEADY, tally=tally_of(STEADY, wait=0.4)),                    "successful_p99_ms is"),
    (measured(STEADY, tally=tally_of(STEADY, outcome="503 overloaded")),    "refused_share is 1, over 0"),
])  # fmt: skip
def test_what_speaks_against_a_run_is_said(run: Measured, sentence: str) -> None:
    assert any(said.startswith(sentence) for said in judged(run, read_thresholds(DEFAULTS_PATH, "steady")))


@pytest.mark.parametrize(("changes", "knee"), [
    (({}, {}, {}),                                          300),
    (({}, {}, {"successful_per_second": 90.0}),             200),
    (({}, {"fault": "the generator lagged"}, {}),           100),   # what comes after inherits the queue
    (({}, {"successful_p99_ms": 5000.0}, {}),               100),
    (({"refused": 1}, {}, {}),                              None),
    (({"counted": False, "refused": 1}, {}, {}),            300),
])  # fmt: skip
def test_the_knee_is_the_last_step_before_the_first_that_failed(
    changes: tuple[dict[str, object], ...], knee: float | None
) -> None:
    steps = [
        replace(
            PHASE,
            **{"offered_per_second": 100.0 * step, "successful_per_second": 100.0 * step, **change},
        )
        for step, change in enumerate(changes, 1)
    ]
    assert knee_of(steps) == knee


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_a_plan_and_thresholds_that_it_measures(profile: str) -> None:
    plan = plan_of(profile)
    assert plan.profile == profile
    assert plan.sends > 0
    assert plan.seconds_max > seconds_of(plan.phases)
    run = measured(plan_of(profile, rate=20, seconds=3), step=15.0)
    unknown = [said for said in breaks(run.figures, read_thresholds(DEFAULTS_PATH, profile)) if "not measured" in said]
    # a planted run has but one tenant
    assert [said for said in unknown if "globex" not in said] == []


def test_an_unknown_profile_is_told_the_others() -> None:
    with pytest.raises(UnknownProfile, match="steady"):
        plan_of("stedy")


@pytest.mark.parametrize("text", ["[steady]\np99_ms = 5", "[steady]\np99_ms_max = 'x'", "[steady]\np_max = true", "["])
def test_a_faulty_file_of_thresholds_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "thresholds.toml"
    file.write_text(text)
    with pytest.raises(ThresholdsFaulty, match=r"thresholds\.toml"):
        read_thresholds(file, "steady")


def test_a_profile_overrides_what_is_for_every_profile(tmp_path: Path) -> None:
    file = tmp_path / "thresholds.toml"
    file.write_text("[every]\na_max = 1\nb_max = 1\n[soak]\nb_max = 2\n")
    assert read_thresholds(file, "soak") == {"a_max": 1, "b_max": 2}


@pytest.mark.parametrize(("memory", "step", "slope"), [
    ((50.0, 90.0, 90.0, 91.0, 92.0, 93.0),      15.0,   4.0),
    ((50.0, 90.0, 90.0, 90.0, 90.0, 90.0),      15.0,   0.0),
    ((50.0, 90.0, 90.0, 91.0, 92.0, 93.0),      0.5,    None),
])  # fmt: skip
def test_memory_has_a_slope_where_the_run_was_long_enough(
    memory: tuple[float, ...], step: float, slope: float | None
) -> None:
    run = measured(memory=memory, step=step)
    assert run.figures.get("zentra_memory_slope_mib_per_minute") == slope


def test_a_soak_compares_its_last_third_with_its_first() -> None:
    figures = measured(plan_of("soak", rate=20, seconds=9)).figures
    assert (figures["successful_p50_drift"], figures["successful_p99_drift"]) == (1.0, 1.0)


def test_growth_after_warm_up_is_what_counts_as_growth() -> None:
    assert measured(memory=(50.0, 90.0, 90.0, 91.0)).figures["worker_memory_growth_mib"] == 1.0
