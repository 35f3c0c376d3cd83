"""A policy from draft to force on a whole installation: what it lets pass, why, and what it would have said before."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.scenarios.people import Person
from zentra.gateway.installation.installation import Installation
from zentra.storage.administration import Administration
from zentra.storage.pool import open_pool

pytestmark = pytest.mark.slow

DOCUMENT = {
    "windows": {"minute": {"by": "counterparty", "rolling_seconds": 86_400, "buckets": 24, "limits": {
        "NGN": {"count_max": 2}}}},
    "lists": {"embargoed": ["KP"]},
    "rules": [
        {"name": "embargo", "when": {"all": [{"field": "country", "op": "present"},
                                             {"field": "country", "op": "in", "list": "embargoed"}]},
         "outcome": "deny", "reason": "country_embargoed"},
        {"name": "large", "when": {"field": "amount", "op": ">=", "value": 9_000}, "outcome": "review",
         "reason": "large", "lane": "fraud_desk"},
    ],
    "risk": {"review_min": None, "deny_min": 99},
}  # fmt: skip
STRICTER = {**DOCUMENT, "rules": [{"name": "none", "when": {"field": "amount", "op": ">", "value": 0},
                                   "outcome": "deny", "reason": "closed_for_today"}]}  # fmt: skip


async def _second_operator(installation: Installation) -> str:
    pool = await open_pool(installation.postgres_admin_url, name="test", connections_max=1)
    try:
        administration = Administration(pool)
        await administration.create_principal("globex", "grace", name="Grace", role="operator")
        return (await administration.create_api_key("globex", "grace")).text
    finally:
        await pool.close()


def _zentra(installation: Installation, *line: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "zentra.gateway", "policy", *line],
        env={**os.environ, "ZENTRA_POSTGRES_ADMIN_URL": installation.postgres_admin_url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


class Operator:
    """Somebody of globex with a key."""

    def __init__(self, base: str, key: str, session: aiohttp.ClientSession) -> None:
        self._base, self._key, self._session = base, key, session

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {self._key}", "x-idempotency-key": uuid.uuid4().hex, "prefer": "wait=20"}
        async with self._session.request(method, self._base + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def in_force(self, document: Any, other: Operator) -> int:
        _, drafted = await self.ask("POST", "/policies", {"document": document})
        version = drafted["version"]
        assert (await self.ask("POST", f"/policies/{version}/validate"))[0] == 200
        assert (await other.ask("POST", f"/policies/{version}/promote"))[0] == 200
        return int(version)

    async def pay(self, minor: int, **more: Any) -> Any:
        body = {"amount": minor, "currency": "NGN", "source": "customer-1", "destination": "merchant-1",
                "intent_id": uuid.uuid4().hex, **more}  # fmt: skip
        return (await self.ask("POST", "/transfers", body))[1]


async def test_a_policy_is_promoted_decides_is_explained_tested_and_taken_back(
    installation: Installation, session: aiohttp.ClientSession
) -> None:
    ops = Operator(installation.base_url, installation.keys["globex"]["ops"], session)
    grace = Operator(installation.base_url, await _second_operator(installation), session)
    before = next(row for row in (await ops.ask("GET", "/policies"))[1]["data"] if row["state"] == "active")
    version = await ops.in_force(DOCUMENT, grace)

    paid = [await ops.pay(100), await ops.pay(200)]
    third, embargoed, large = await ops.pay(300), await ops.pay(100, country="KP"), await ops.pay(9_500)
    assert [one["status"] for one in (*paid, third, embargoed)] == ["SUCCESSFUL", "SUCCESSFUL", "FAILED", "FAILED"]
    told = [(await ops.ask("GET", f"/runtime/intents/{one['intent_id']}/decisions"))[1]["data"] for one in
            (*paid, third, embargoed, large)]  # fmt: skip
    assert all(one["same"] and one["version"] == version for decisions in told for one in decisions)
    assert [one[0]["reasons"] for one in told] == [
        [], [], ["window_count_exceeded"], ["window_count_exceeded", "country_embargoed"],
        ["window_count_exceeded", "large"],
    ]  # fmt: skip
    (window,) = [answer for answer in told[2][0]["answers"] if answer["rule"] == "window.minute"]
    assert window["inputs"] == {"count": 2, "minor": "300", "count_max": 2, "minor_max": None}

    code, out = await asyncio.to_thread(_zentra, installation, "explain", "globex", third["intent_id"])
    assert (code, "same answer: yes" in out) == (0, True), out

    _, report = await ops.ask("POST", f"/policies/{version}/backtest", {"limit": 100})
    assert (report["identical"], report["different"]) == (5, 0)
    _, drafted = await ops.ask("POST", "/policies", {"document": STRICTER})
    code, out = await asyncio.to_thread(
        _zentra, installation, "backtest", "globex", "--version", str(drafted["version"]), "--json"
    )
    found = json.loads(out)
    assert (code, found["would_be"], found["reasons"]["closed_for_today"]) == (
        0, {"denied": found["decisions"]}, found["changed"],
    )  # fmt: skip

    assert (await grace.ask("POST", f"/policies/{before['version']}/rollback"))[0] == 200
    assert (await ops.pay(400))["status"] == "SUCCESSFUL"


async def test_an_explanation_of_a_record_that_was_changed_does_not_come_out_the_same(
    installation: Installation, session: aiohttp.ClientSession, dev: Person
) -> None:
    ops = Operator(installation.base_url, installation.keys["globex"]["ops"], session)
    made = await ops.pay(150)
    connection = await asyncpg.connect(installation.postgres_admin_url)
    try:
        row = await connection.fetchrow(
            "select t.intent, t.sequence, t.record from zentra.transitions t join zentra.intents i on i.id = t.intent"
            " where i.intent_id = $1 and t.event = 'policy.accepted'",
            made["intent_id"],
        )
        assert row is not None
        changed = row["record"].replace(b'"outcome":"accepted"', b'"outcome":"denied"')
        await connection.execute(
            "update zentra.transitions set record = $3 where intent = $1 and sequence = $2",
            row["intent"], row["sequence"], changed,
        )  # fmt: skip
        code, out = await asyncio.to_thread(_zentra, installation, "explain", "globex", made["intent_id"])
        assert (code, "same answer: NO" in out) == (1, True), out
        await connection.execute(
            "update zentra.transitions set record = $3 where intent = $1 and sequence = $2",
            row["intent"], row["sequence"], row["record"],
        )  # fmt: skip
    finally:
        await connection.close()
