"""The six stories of the demo, each as a test, and the demo's own report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.scenarios.conftest import QUICK
from tests.scenarios.people import Books
from zentra.gateway.demo.receiver import Receiver
from zentra.gateway.demo.stories import STORIES, Stage, Story
from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import listening

pytestmark = pytest.mark.service

Play = Callable[[Stage, Story], Coroutine[Any, Any, None]]


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
        stage = Stage(installation, session, receiver, hook)
        await stage.prepare()
        yield stage


def ending(title: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the facts of a story have to say."""
    expected: dict[str, Any] = {"evidence": "verified"}
    match title:
        case "A transfer that goes well":
            expected |= {"status": "SUCCESSFUL"}
        case "Duplicate provider callback":
            expected |= {"status": "SUCCESSFUL", "moved": 40_000}
            assert sorted(facts["callbacks"].values()) == [1, 2], "one event came twice, the other once"
        case "High-value intent":
            expected |= {"status": "SUCCESSFUL"}
            assert facts["events"].index("review.approved") < facts["events"].index("ledger.reserved")
        case "Webhook consumer outage":
            expected |= {"status": "SUCCESSFUL"}
            assert facts["events"].index("webhook.retrying") < facts["events"].index("webhook.delivered")
        case "Funds reserved, payment never settles":
            expected |= {"status": "FAILED"}
            assert [e for e in facts["events"] if e.startswith(("case.", "ledger."))] == [
                "ledger.reserved", "case.opened", "case.resolved", "ledger.released",
            ]  # fmt: skip
        case "Operator outside their tenant":
            denial = facts["denial"]
            assert (denial["actor"], denial["role"], denial["reason"]) == ("ops", "operator", "not_found")
        case _:
            raise AssertionError(f"the story {title!r} has no expectations")
    return expected


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("title", "play"), STORIES, ids=[title for title, _ in STORIES])
async def test_a_story_ends_as_it_has_to(stage: Stage, title: str, play: Play) -> None:
    story = Story(title)
    await play(stage, story)
    expected = ending(title, story.facts)
    assert {name: story.facts[name] for name in expected} == expected
    async with Books.opened(stage.installation) as books:
        audit = await books.audit()
    assert audit.clean, audit.breaches


@pytest.mark.slow
def test_the_demo_reports_six_stories_and_no_broken_invariant() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zentra.gateway", "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(story["title"], story["ok"]) for story in report["stories"]] == [(title, True) for title, _ in STORIES]
    assert report["ok"]
    assert report["invariants"]["ok"]
    assert report["invariants"]["breaches"] == []
    assert report["invariants"]["records"] > 60
