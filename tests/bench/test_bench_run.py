"""One small run on a whole installation: the command prints figures that count, and the report can be looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zentra.bench.measuring.cli import bench_app

pytestmark = pytest.mark.timeout(120)


@pytest.mark.service
def test_three_hundred_intents_are_completed_and_proven(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    wide = tmp_path / "thresholds.toml"
    wide.write_text("[every]\nrefused_share_max = 0.0\n")
    words = ["--intents", "300", "--accounts", "20", "--thresholds", str(wide), "--html", str(report), "--json"]
    result = CliRunner().invoke(bench_app, words)
    figures = json.loads(result.stdout)
    assert (result.exit_code, figures["faults"], figures["breaches"]) == (0, [], [])
    assert (figures["intents"], figures["accepted"], figures["completed"]) == (300, 300, 300)
    assert figures["completed_per_second"] > 0
    assert {"ledger.posted", "review.closed"} <= set(figures["stages"])
    assert {"worker-1", "gateway-1", "postgres", "nats"} <= set(figures["memory_mib"])
    assert figures["generator_per_second_max"] > figures["accepted_per_second"]
    assert len(figures["checks"]) == 9
    assert "<svg" in report.read_text()


@pytest.mark.service
def test_repeats_over_both_doors_are_one_intent_each_with_its_own_entries() -> None:
    words = [
        "--transport",
        "both",
        "--repeats",
        "0.2",
        "--intents",
        "400",
        "--batch",
        "20",
        "--accounts",
        "20",
        "--json",
    ]
    result = CliRunner().invoke(bench_app, words)
    run = json.loads(result.stdout)
    assert (result.exit_code, run["faults"], run["breaches"]) == (0, [], [])
    found: dict[str, int] = {}
    for check in run["checks"]:
        found |= check["figures"]
    keys, repeated = found["distinct_keys"], run["repeats"]["sent"]
    assert (keys + repeated, run["accepted"], repeated > 40) == (400, 400, True)
    assert {found[name] for name in ("acknowledged_keys", "intents", "completed", "answered_first")} == {keys}
    assert (found["entries"], found["entries_expected"]) == (3 * keys, 3 * keys)
    assert found["moved_minor"] == found["moved_minor_expected"] > 0
    assert run["repeats"]["over_another_door"] > 0
    assert {how.partition(":")[0] for how in run["answers"]} == {"POST /runtime/intents", "zentra.intents.create"}


@pytest.mark.service
def test_a_load_goes_on_behind_a_history_and_everything_holds_over_both() -> None:
    words = ["--history", "500", "--intents", "200", "--accounts", "20", "--json"]
    result = CliRunner().invoke(bench_app, words)
    run = json.loads(result.stdout)
    assert (result.exit_code, run["faults"], run["breaches"]) == (0, [], [])
    found = {check["name"]: check["found"] for check in run["checks"]}
    funded = 10 + 4  # each customer once, and what both tenants are seeded with
    assert found["every invariant holds"].startswith(f"{500 + 200 + funded} intents")
    assert f"acme: {500 + 200 + 10 + 2} leaves" in found["the log holds every packet once, and its heads are signed"]
    assert run["bytes_each"]["table transitions"] > 1_000


@pytest.mark.parametrize(
    "words",
    [
        ["--of-knee", "0.5"],
        ["--nats-nodes", "2"],
        ["stedy"],
        ["--transport", "pigeon"],
        ["steady", "--rail", "none"],
        ["--repeats", "1"],
    ],
)
def test_a_wrong_word_starts_nothing(words: list[str]) -> None:
    assert CliRunner().invoke(bench_app, words).exit_code == 2


def test_a_side_is_given_as_its_options(tmp_path: Path) -> None:
    absent = str(tmp_path / "python")
    words = ["compare", "--intents 300 --hot", "limit", "--rounds", "1", "--python-a", absent]
    result = CliRunner().invoke(bench_app, words)
    assert (result.exit_code, "A cannot be run by" in result.stderr) == (1, True)


def test_the_profiles_are_listed() -> None:
    result = CliRunner().invoke(bench_app, ["profiles"])
    assert result.exit_code == 0
    assert "soak" in result.stdout
