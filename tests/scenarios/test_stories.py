"""Every incident that can be rehearsed, each as a test, the demo's own report, and rehearsals beside what runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import pytest_asyncio

from tests.scenarios.conftest import QUICK
from tests.scenarios.people import Books
from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import listening
from zentra.gateway.rehearsals.incidents import DEMO, INCIDENTS, Incident
from zentra.gateway.rehearsals.receiver import Receiver
from zentra.gateway.rehearsals.site import embedded_site
from zentra.gateway.rehearsals.story import Stage, Story

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation for the stories alone: a consumer that is gone afterwards would keep later packets open."""
    with Installation(rail_timing=QUICK) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    """The doors as the people of the stories use them, with one webhook consumer for all of them."""
    receiver = Receiver()
    async with listening(receiver, "127.0.0.1") as hook, aiohttp.ClientSession() as session:
        stage = Stage(embedded_site(installation), session, receiver, hook)
        await stage.prepare()
        yield stage


def ending(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the facts of a story have to say."""
    expected: dict[str, Any] = {"evidence": "verified"}
    events = [event for event in facts.get("events", ()) if event.startswith(("case.", "ledger."))]
    match name:
        case "happy":
            expected |= {"status": "SUCCESSFUL"}
        case "duplicate-callback":
            expected |= {"status": "SUCCESSFUL", "moved": 40_000}
            assert sorted(facts["callbacks"].values()) == [1, 2], "one event came twice, the other once"
        case "late-callback":
            expected |= {"status": "SUCCESSFUL", "moved": 45_000}
            assert events == ["ledger.reserved", "ledger.posted"]
        case "contradictory-callback":
            expected |= {"status": "SUCCESSFUL", "moved": 55_000, "cases": 1}
            assert events == ["ledger.reserved", "ledger.posted", "case.opened", "case.resolved"]
        case "rail-timeout":
            expected |= {"status": "SUCCESSFUL", "moved": 65_000, "submits": 1}
            assert "provider.failover" not in facts["events"]
        case "rail-failover":
            expected |= {"status": "SUCCESSFUL", "from": "sandbox_a", "to": "sandbox_b"}
        case "limit-breach":
            expected |= {"status": "SUCCESSFUL"}
            assert facts["events"].index("review.approved") < facts["events"].index("ledger.reserved")
        case "consumer-outage":
            expected |= {"status": "SUCCESSFUL"}
            assert facts["events"].index("webhook.retrying") < facts["events"].index("webhook.delivered")
        case "never-settles":
            expected |= {"status": "FAILED", "submits": 1}
            assert events == ["ledger.reserved", "case.opened", "case.resolved", "ledger.released"]
        case "redis-loss":
            expected |= {"status": "SUCCESSFUL", "moved": 35_000}
        case "worker-kill":
            expected |= {"status": "SUCCESSFUL", "moved": 20_000}
        case "cross-tenant":
            denial = facts["denial"]
            assert (denial["actor"], denial["role"], denial["reason"]) == ("ops", "operator", "not_found")
            assert denial["action"] == "GET /runtime/intents/{id}"
        case _:
            raise AssertionError(f"the story {name!r} has no expectations")
    return expected


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("incident", INCIDENTS.values(), ids=list(INCIDENTS))
async def test_an_incident_ends_as_it_has_to(stage: Stage, installation: Installation, incident: Incident) -> None:
    story = Story(incident.name, incident.title)
    await incident.play(stage, story)
    expected = ending(incident.name, story.facts)
    assert {name: story.facts[name] for name in expected} == expected
    async with Books.opened(installation) as books:
        audit = await books.audit()
    assert audit.clean, audit.breaches


@pytest.mark.asyncio(loop_scope="module")
async def test_the_record_of_an_attempt_is_that_of_the_attempt_and_of_no_other(stage: Stage) -> None:
    """Others are refused too, by the same doors and in the same minute."""
    earlier = await stage.call("GET", "/runtime/intents/of-somebody-else", "stranger")
    later = await stage.call("GET", f"/reviews/{'0' * 32}", "stranger")
    story = Story("cross-tenant", "")
    await INCIDENTS["cross-tenant"].play(stage, story)
    denial = story.facts["denial"]
    assert denial["request_id"] not in (earlier[1]["request_id"], later[1]["request_id"])
    assert any(denial["request_id"] in line and "GET /runtime/intents/{id}" in line for line in story.lines)
    told = [line for line in story.lines if line.startswith("  kept with the other tenant")]
    assert len(told) == 2, "the attempt, and the request that it is compared with"
    assert any(f"evidence of {story.facts['intent_id']}: verified" in line for line in story.lines)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_shown_is_what_is_verified(stage: Stage) -> None:
    story = Story("late-callback", "")
    await INCIDENTS["happy"].play(stage, story)
    assert any(f"verified ({len(story.facts['events'])} records" in line for line in story.lines)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zentra.gateway", *arguments], capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.slow
def test_the_demo_reports_six_stories_and_no_broken_invariant() -> None:
    done = command("demo", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(story["name"], story["ok"]) for story in report["stories"]] == [(name, True) for name in DEMO]
    assert report["ok"]
    assert report["invariants"]["ok"]
    assert report["invariants"]["breaches"] == []
    assert report["invariants"]["records"] > 60


@pytest.mark.asyncio(loop_scope="module")
async def test_a_rehearsal_beside_a_development_installation_breaks_its_worker_and_its_redis(
    installation: Installation,
) -> None:
    directory = str(installation.data_dir)
    done = await anyio.to_thread.run_sync(command, "rehearse", "redis-loss", "worker-kill", "--data-dir", directory)
    assert done.returncode == 0, done.stdout
    assert "worker-1 is started again" in done.stdout
    assert "2 of 2 stories ended as they have to" in done.stdout


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_running_installation_does_not_offer_is_left_out_and_named(
    installation: Installation, tmp_path: Path
) -> None:
    """By its URL alone nothing of an installation may be broken."""
    for name, who in (("creator", "dev"), ("operator", "ops")):
        (tmp_path / name).write_text(installation.keys["acme"][who] + "\n", encoding="utf-8")
    done = await anyio.to_thread.run_sync(  # this thread's consumer has to go on answering
        command, "rehearse", "duplicate-callback", "worker-kill", "cross-tenant", "rail-failover", "--json",
        "--url", installation.base_url, "--key", str(installation.public_key_path),
        "--creator-key", str(tmp_path / "creator"), "--operator-key", str(tmp_path / "operator"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["left_out"] == ["worker-kill", "cross-tenant", "rail-failover"]
    told = {story["name"]: (story["ok"], story["left_out"]) for story in report["stories"]}
    assert told.pop("duplicate-callback") == (True, "")
    assert {name: left_out.split("(")[1].split()[0].rstrip(",)") for name, (_, left_out) in told.items()} == {
        "worker-kill": "--data-dir", "cross-tenant": "--stranger-key", "rail-failover": "--sandbox-url",
    }  # fmt: skip
