"""Two banks' dialects, end to end: whatever a bank does, each intent ends as the bank's own books say, paid once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.scenarios.people import Person
from zentra.gateway.installation.installation import Installation
from zentra.runtime.rails.routing import Corridor
from zentra.storage.administration import Administration
from zentra.storage.pool import open_pool

pytestmark = pytest.mark.service

COUNTRIES = {"providus": "KE", "gtbank": "TZ"}
ENDS = {
    "success": "SUCCESSFUL",
    "decline": "FAILED",
    "reject": "FAILED",
    "error_after_taking": "SUCCESSFUL",
    "timeout_then_success": "SUCCESSFUL",
    "duplicate_callback": "SUCCESSFUL",
    "token_expired": "SUCCESSFUL",
}


@pytest.mark.parametrize("bank", sorted(COUNTRIES))
async def test_a_banks_intents_end_as_its_own_books_say(
    installation: Installation, session: aiohttp.ClientSession, dev: Person, bank: str
) -> None:
    async with await open_pool(installation.postgres_admin_url, name="test", connections_max=1) as pool:
        corridor = Corridor("acme", bank, "NGN", "transfer", (bank,), country=COUNTRIES[bank])
        await Administration(pool).put_corridor(corridor)
    made = await asyncio.gather(*(dev.made(scenario, country=COUNTRIES[bank]) for scenario in ENDS))
    assert dict(zip(ENDS, (intent["status"] for intent in made), strict=True)) == ENDS
    rails = {attempt["rail"] for intent in made for attempt in routed(intent)}
    assert rails == {bank}
    async with session.get(f"{installation.sandbox_url}/partners/{bank}/control") as answer:
        books = json.loads(await answer.read())
    trusted = {"direct", "polled", "body_signed"} if bank == "gtbank" else {"direct", "polled"}
    assert {decided(intent) for intent in made} <= trusted
    succeeded = sum(end == "SUCCESSFUL" for end in ENDS.values())
    assert (books["paid"], books["submits"]) == (succeeded, books["payments"])


def routed(intent: Any) -> list[dict[str, Any]]:
    return [event["facts"] for event in intent["event_stream"] if event["event"] == "provider.routed"]


def decided(intent: Any) -> str:
    """Return how far the word was trusted that settled an intent: a claim leaves the attempt as it was."""
    said = [event["facts"] for event in intent["event_stream"] if event["event"] == "provider.callback"]
    return str(next(facts["trust"] for facts in said if facts["status"] in ("succeeded", "declined", "not_accepted")))


async def test_the_banks_are_there_in_a_fresh_installation(dev: Person) -> None:
    intent = await dev.made("success", country="NG")
    assert [attempt["rail"] for attempt in routed(intent)] == ["providus"]
    assert decided(intent) == "polled"
    refused = await dev.made("reject", country="NG")
    assert (refused["status"], [attempt["rail"] for attempt in routed(refused)]) == ("FAILED", ["providus"])
