"""The API over HTTP with a worker and a rail behind it: what a client sees from the request to the sealed packet."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis
from typer.testing import CliRunner

from tests.gateway.asgi import Answer
from tests.gateway.http.conftest import intent_body
from tests.gateway.http.described import assert_described
from zentra.gateway.cli import evidence_export, evidence_exports, standalone
from zentra.gateway.cli.evidence import evidence_app
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet

pytestmark = pytest.mark.slow

QUICK = {"submit_timeout_seconds": 1.0, "poll_after_seconds": 0.5, "deadline_seconds": 2.0}
REASON = {"reason": "checked"}
assert evidence_export.__all__ + evidence_exports.__all__  # it is there with its commands


class Said:
    """An answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, shown: Any) -> None:
        self.status, self.headers, self.body, self.json = status, headers, body, shown


class Client:
    """Somebody of a tenant with a connection."""

    def __init__(self, base: str, key: str, session: aiohttp.ClientSession) -> None:
        self.base, self.key, self.session = base, key, session

    async def ask(self, method: str, path: str, body: Any = None, *, wait: int | None = None, key: str = "") -> Said:
        headers = {"authorization": f"Bearer {self.key}"}
        if method == "POST":
            headers["x-idempotency-key"] = key or uuid.uuid4().hex
        if wait is not None:
            headers["prefer"] = f"wait={wait}"
        async with self.session.request(method, self.base + path, json=body, headers=headers) as answer:
            data = await answer.read()
            shown = await answer.json(content_type=None) if "json" in answer.content_type else None
            said = {name.lower(): value for name, value in answer.headers.items()}
            assert_described(method, path, Answer(answer.status, said, data))
            return Said(answer.status, said, data, shown)

    async def get(self, path: str, *, wait: int | None = None) -> Said:
        return await self.ask("GET", path, wait=wait)

    async def post(self, path: str, body: Any = None, *, wait: int | None = None, key: str = "") -> Said:
        return await self.ask("POST", path, body, wait=wait, key=key)

    async def create(self, scenario: str = "success", **changes: Any) -> Any:
        """Create an intent and return it once nothing more happens by itself."""
        body = intent_body(metadata={"sandbox_scenario": scenario}, **changes)
        made = await self.post("/runtime/intents", body, wait=20)
        assert made.status in (200, 202), made.body
        return made.json

    async def sealed(self, intent_id: str) -> Any:
        while True:
            seen = (await self.get(f"/runtime/intents/{intent_id}")).json
            if seen["audit_packet"]["leaf_index"] is not None:
                return seen
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation(rail_timing=QUICK) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def dev(installation: Installation, session: aiohttp.ClientSession) -> Client:
    return Client(installation.base_url, installation.keys["acme"]["dev"], session)


@pytest.fixture
def ops(installation: Installation, session: aiohttp.ClientSession) -> Client:
    return Client(installation.base_url, installation.keys["acme"]["ops"], session)


async def test_a_transfer_reaches_every_stage_and_its_packet_verifies(dev: Client, installation: Installation) -> None:
    seen = await dev.create()
    assert seen["status"] == "SUCCESSFUL"
    seen = await dev.sealed(seen["intent_id"])
    assert [stage["reached"] for stage in seen["stages"]] == [True] * 6
    times = [stage["reached_at"] for stage in seen["stages"]]
    assert times == sorted(times)
    assert [entry["posting"] for entry in seen["ledger_state"]["entries"]] == ["reserve", "post", "settle"]
    assert (seen["ledger_state"]["held"], seen["ledger_state"]["posted"]) == ("0", "125000")
    packet = await dev.get(f"/runtime/intents/{seen['id']}/evidence")
    verdict = verify_packet(packet.body, load_public_key(installation.public_key_path.read_bytes()))
    assert verdict.ok, verdict.problems
    assert packet.headers["content-type"] == "application/vnd.zentra.audit-packet+json"
    assert packet.body == (await dev.get(f"/runtime/intents/{seen['intent_id']}/evidence")).body


async def test_every_decision_is_explained_and_made_again(dev: Client) -> None:
    for minor in (125_000, 60_000_000, 20_000_000):
        made = await dev.create(amount=minor)
        decisions = (await dev.get(f"/runtime/intents/{made['id']}/decisions")).json["data"]
        assert [one["same"] for one in decisions] == [True]


async def test_a_wait_is_ended_by_the_event_and_not_by_the_clock(dev: Client) -> None:
    async with asyncio.timeout(10):
        assert (await dev.post("/transfers", intent_body(kind="book_transfer"), wait=30)).json["status"] == "SUCCESSFUL"


async def test_a_replay_with_redis_empty_is_the_same(dev: Client, installation: Installation) -> None:
    key, body = uuid.uuid4().hex, intent_body()
    first = await dev.post("/runtime/intents", body, key=key)
    with redis.Redis.from_url(installation.redis_url) as client:
        client.flushall()
    again = await dev.post("/runtime/intents", body, key=key)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (202, first.body, "true")


@pytest.mark.parametrize(
    ("changes", "status", "event", "code"),
    [
        ({"scenario": "decline"}, "FAILED", "ledger.released", None),
        ({"source": "payout-1"}, "FAILED", "ledger.refused", "insufficient_funds"),
        ({"source": "nobody"}, "FAILED", None, None),
        ({"amount": 60_000_000}, "FAILED", "policy.denied", None),
    ],
)
async def test_a_refusal_says_precisely_why_and_is_sticky(
    dev: Client, changes: dict[str, Any], status: str, event: str | None, code: str | None
) -> None:
    seen = await dev.create(**changes)
    assert seen["status"] == status
    assert event is None or seen["reason"]["event"] == event
    assert code is None or seen["reason"]["code"] == code
    assert seen["ledger_state"]["held"] == "0"


async def test_money_is_given_back_in_parts_and_never_more(dev: Client) -> None:
    path = f"/runtime/intents/{(await dev.create())['intent_id']}/reversals"
    key = uuid.uuid4().hex
    part = await dev.post(path, {"amount": 25_000, **REASON}, key=key)
    assert (part.status, part.json["status"]) == (200, "done")
    assert (await dev.post(path, {"amount": "25000", **REASON}, key=key)).json == part.json
    more = await dev.post(path, {"amount": 100_001, **REASON})
    assert (more.status, more.json["code"]) == (422, "exceeds_original")
    assert (await dev.post(path, REASON)).status == 200
    again = await dev.post(path, REASON)
    assert (again.status, again.json["code"]) == (409, "already_reversed")
    seen = (await dev.get(path.removesuffix("/reversals"))).json
    assert (seen["status"], seen["ledger_state"]["reversed"]) == ("REVERSED", "125000")


async def test_what_went_to_a_rail_cannot_be_cancelled(dev: Client) -> None:
    seen = await dev.create()
    answer = await dev.post(f"/runtime/intents/{seen['intent_id']}/cancel")
    assert (answer.status, answer.json["code"]) == (409, "not_cancellable")


async def test_a_review_waits_for_somebody_else(dev: Client, ops: Client) -> None:
    seen = await dev.create(amount=15_000_000)
    assert (seen["status"], seen["ledger_state"]["entries"]) == ("REVIEW", [])
    path = f"/reviews/{seen['review']['id']}"
    assert (await dev.post(f"{path}/approve", REASON)).json["code"] == "permission_denied"
    unseen = await ops.post(f"{path}/approve", REASON)
    assert (unseen.status, unseen.json["code"]) == (428, "request_hash_missing")
    looked = {**REASON, "request_hash": (await ops.get(path)).json["request_hash"]}
    assert (await ops.post(f"{path}/approve", looked)).status == 200
    second = await ops.post(f"{path}/reject", REASON)
    assert (second.status, second.json["code"]) == (409, "review_already_decided")
    seen = (await dev.get(f"/runtime/intents/{seen['id']}", wait=20)).json
    assert (seen["status"], seen["review"]["status"]) == ("SUCCESSFUL", "approved")


async def test_nobody_approves_their_own(ops: Client) -> None:
    seen = await ops.create(amount=15_000_000)
    answer = await ops.post(f"/reviews/{seen['review']['id']}/approve", REASON)
    assert (answer.status, answer.json["code"]) == (403, "self_approval")
    assert (await ops.post(f"/runtime/intents/{seen['id']}/cancel")).status == 200
    assert (await ops.get(f"/runtime/intents/{seen['id']}", wait=20)).json["status"] == "FAILED"


async def test_a_silent_rail_ends_in_a_case_that_a_person_resolves(dev: Client, ops: Client) -> None:
    seen = await dev.create("never_answers")
    assert (seen["status"], seen["ledger_state"]["held"]) == ("AWAITING_PROVIDER", "125000")
    [case] = seen["cases"]
    assert case["kind"] == "provider_outcome_unknown"
    path = f"/cases/{case['id']}/resolve"
    assert (await ops.post(path, {"resolution": "declined", **REASON})).status == 200
    again = await ops.post(path, {"resolution": "succeeded", **REASON})
    assert (again.status, again.json["code"]) == (409, "case_not_open")
    seen = (await dev.get(f"/runtime/intents/{seen['id']}", wait=20)).json
    assert (seen["status"], seen["ledger_state"]["held"]) == ("FAILED", "0")


async def test_entries_are_paged_newest_first_without_gap_or_repeat(dev: Client) -> None:
    for _ in range(3):
        await dev.create(source="customer-2", kind="book_transfer", amount=7)
    rows, cursor = [], ""
    while True:
        page = (await dev.get(f"/accounts/customer-2/entries?limit=2{cursor}")).json
        rows += page["data"]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(rows) >= 4
    assert len({row["entry_id"] for row in rows}) == len(rows)
    assert [row["at"] for row in rows] == sorted((row["at"] for row in rows), reverse=True)


async def test_what_is_exported_of_a_running_installation_verifies(
    dev: Client, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = await dev.sealed((await dev.create())["intent_id"])
    envelope = await dev.get(f"/runtime/intents/{seen['id']}/evidence?format=dsse")
    checkpoint = await dev.get("/evidence/checkpoint")
    for name, said in (("packet.dsse", envelope), ("kept", checkpoint)):
        (tmp_path / name).write_bytes(said.body)
    known = installation.settings
    monkeypatch.setenv("ZENTRA_POSTGRES_WRITER_URL", known.postgres_writer_url)
    monkeypatch.setenv("ZENTRA_EVIDENCE_KEY", known.evidence_key)
    bundle, key = str(tmp_path / "acme.tar"), str(installation.public_key_path)
    commands = [
        ["export", "--tenant", "acme", "--out", bundle, "--by", "ada"],
        ["verify", bundle, "--key", key, "--anchor", str(tmp_path / "kept")],
        ["verify", str(tmp_path / "packet.dsse"), "--key", key],
        ["render", bundle, "--out", str(tmp_path / "page.html")],
        ["consistency", "--tenant", "acme"],
        ["checkpoint", "--tenant", "acme"],
    ]
    for words in commands:
        done = await asyncio.to_thread(CliRunner().invoke, evidence_app, words)
        assert done.exit_code == 0, (words, done.output)
    assert standalone.main([bundle, key, "--anchor", str(tmp_path / "kept")]) == 0
    listed = await Client(installation.base_url, dev.key, dev.session).get("/evidence/exports")
    assert [(one["actor"], one["role"]) for one in listed.json["data"]] == [("ada", "shell")]


async def test_a_worker_makes_the_export_that_somebody_asks_for(
    dev: Client, installation: Installation, tmp_path: Path
) -> None:
    await dev.sealed((await dev.create())["intent_id"])
    words = ["exports", "ask", "--out", str(tmp_path / "b.tar"), "--url", installation.base_url, "--key", dev.key]
    done = await asyncio.to_thread(CliRunner().invoke, evidence_app, words)
    assert done.exit_code == 0, done.output
    assert ": done, " in done.output
    key = str(installation.public_key_path)
    assert standalone.main([str(tmp_path / "b.tar"), key]) in (0, 2)  # what is younger than 90 s may not be in it yet
    listed = await asyncio.to_thread(
        CliRunner().invoke, evidence_app, ["exports", "list", "--url", installation.base_url, "--key", dev.key]
    )
    assert (listed.exit_code, "done" in listed.output) == (0, True), listed.output
