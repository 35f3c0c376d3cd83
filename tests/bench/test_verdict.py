"""A run counts where its load was what it was meant to be, nothing was lost, and its figures keep their thresholds."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.bench.planted import measured, tally_of
from zentra.bench.measuring.correctness import Check
from zentra.bench.measuring.generating import Ceiling
from zentra.bench.measuring.measured import Measured, PhaseResult, knee_of
from zentra.bench.measuring.plans import PROFILES, Plan, UnknownProfile, plan_of
from zentra.bench.measuring.schedule import seconds_of
from zentra.bench.measuring.tally import Tally
from zentra.bench.measuring.verdict import DEFAULTS_PATH, ThresholdsFaulty, breaks, judged, read_thresholds

STEADY = plan_of("steady", rate=20, seconds=10)
FULL = plan_of("full", intents=300)
ONE = plan_of("unloaded", rate=100, seconds=3)
STORM = plan_of("retries", rate=20, seconds=10)
RAMP = plan_of("ramp", rate=80, seconds=16)
PHASE = PhaseResult(
    name="100/s", counted=True, begins=0, seconds=4, offered_per_second=100, successful_per_second=100,
    answer_p50_ms=1, answer_p99_ms=2, successful_p50_ms=5, successful_p99_ms=20, refused=0, late=0, fault=None,
)  # fmt: skip


def unseen(plan: Plan, count: int) -> Tally:
    """Return a tally where so many more were accepted, and never seen."""
    tally = tally_of(plan)
    for _ in range(count):
        tally.answered("nats", "202", "steady", 0.0, 0.0, 0.02)
        tally.never_seen("steady", "acme", 12.0)
    return tally


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
    (measured(STEADY, tally=tally_of(STEADY, outcome="503 overloaded", every=4)),
        "invalid: steady: 50 of 200 intents were refused: 503 overloaded (50)"),
    (measured(STEADY, tally=tally_of(STEADY, seen=False)),  "invalid: the client saw 0 of 260 intents SUCCESSFUL"),
    (measured(STEADY, tally=unseen(STEADY, 30)),            "invalid: the client saw 260 of 290 intents SUCCESSFUL"),
    (measured(STEADY, tally=unseen(STEADY, 30), failed=30),
        "invalid: the client saw 260 of 260 intents SUCCESSFUL and waited in vain for 30"),
    (measured(FULL, tally=tally_of(FULL, outcome="503 overloaded", every=2), ceiling=Ceiling(20.0, 99.0)),
        "invalid: the generator was the limit"),
    (measured(STEADY, failed=3),                            "invalid: 3 of 260 intents ended without SUCCESSFUL"),
    (measured(FULL, ceiling=Ceiling(16.0, 99.0)),           "invalid: the generator was the limit"),
    (measured(FULL, tally=tally_of(FULL, outcome="429 rate_limited", every=3)),
        "invalid: full speed: 100 of 300 intents were refused: 429 rate_limited (100)"),
    (measured(FULL, failed=1),                              "invalid: 1 of 300 intents ended without SUCCESSFUL"),
    (measured(ONE, tally=tally_of(ONE, outcome="202 SUBMITTED", every=10)),
        "invalid: 30 of 300 answers were no 200 SUCCESSFUL: 202 SUBMITTED (30)"),
    (measured(STORM, tally=tally_of(STORM, outcome="503 overloaded", every=10)),
        "invalid: storm: 15 of 150 intents were refused: 503 overloaded (15)"),
])  # fmt: skip
def test_what_speaks_against_a_run_is_said(run: Measured, sentence: str) -> None:
    assert any(said.startswith(sentence) for said in judged(run, read_thresholds(DEFAULTS_PATH, "steady")))


@pytest.mark.parametrize("run", [
    measured(FULL),
    measured(ONE),
    measured(STEADY, tally=tally_of(STEADY, outcome="503 overloaded", phase="warm-up")),
    measured(STORM, tally=tally_of(STORM, outcome="409 idempotency_in_flight", every=10)),
    measured(RAMP, tally=tally_of(RAMP, outcome="503 overloaded", phase="80/s")),  # beyond the knee
])  # fmt: skip
def test_what_a_run_is_meant_to_meet_is_no_fault(run: Measured) -> None:
    assert run.faults == []


def test_a_run_that_was_watched_has_no_latency_but_what_the_client_saw() -> None:
    """The records begin behind the door; without the client's eyes nothing is known of the wait before it."""
    run = measured(STEADY, tally=tally_of(STEADY, seen=False))
    assert (run.p50_ms, run.phases[1].successful_p50_ms) == (0.0, 0.0)


def test_an_answer_that_came_before_the_end_is_in_the_latency_of_one_at_a_time() -> None:
    slow = tally_of(ONE, wait=0.02)
    slow.answered("nats", "202 SUBMITTED", "full speed", 0.0, 0.0, 20.0)
    assert measured(ONE, tally=slow).curves[0].quantiles_ms["1.0"] > 19_000


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
