"""Reviews with a worker behind them: from the referral to the packet that tells all of it to whoever was not there."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from tests.gateway.http.test_lifecycle import QUICK, Client
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet
from zentra.runtime.reviews import Approvals, ReviewRules
from zentra.storage.administration import Administration
from zentra.storage.audit import audit_installation
from zentra.storage.pool import open_pool
from zentra.storage.review_rules import put_review_rules

pytestmark = pytest.mark.slow

HIGH, TWO = 15_000_000, 30_000_000
PEOPLE = {"ola": "operator", "boss": "admin", "gone": "operator"}
RULES = ReviewRules(approvals={"NGN": Approvals(minor_min=TWO)})
As = Callable[[str], Client]


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation(rail_timing=QUICK) as running:
        yield running


@pytest.fixture(scope="module")
def keys(installation: Installation) -> Mapping[str, str]:
    """The keys of acme's people: those that seeding made, another operator, an admin, and somebody who leaves."""

    async def make() -> dict[str, str]:
        async with await open_pool(installation.postgres_admin_url, name="test", connections_max=1) as pool:
            administration = Administration(pool)
            for name, role in PEOPLE.items():
                await administration.create_principal("acme", name, name=name, role=role)
            made = {name: (await administration.create_api_key("acme", name)).text for name in PEOPLE}
            await put_review_rules(pool, "acme", RULES, by="test")
        return made

    return {**installation.keys["acme"], **asyncio.run(make())}


@pytest.fixture
async def as_(installation: Installation, keys: Mapping[str, str]) -> AsyncIterator[As]:
    """Return a client of somebody."""
    async with aiohttp.ClientSession() as session:
        yield lambda name: Client(installation.base_url, keys[name], session)


async def referred(as_: As, who: str = "dev", amount: int = HIGH, **changes: Any) -> Any:
    """Return the review of a new intent."""
    seen = await as_(who).create(amount=amount, **changes)
    assert seen["status"] == "REVIEW", seen
    return (await as_(who).get(f"/reviews/{seen['id']}")).json


def yes(review: Any, **changes: Any) -> dict[str, Any]:
    return {"reason": "checked", "request_hash": review["request_hash"], **changes}


async def test_the_whole_history_is_in_the_packet_and_verifies_offline(as_: As, installation: Installation) -> None:
    ops, ola, dev = as_("ops"), as_("ola"), as_("dev")
    review = await referred(as_)
    target = f"/reviews/{review['id']}"
    assert (await dev.post(f"{target}/comments", {"text": "invoice 4711 is attached"})).status == 200
    assert (await ola.post(f"{target}/assign", {"assignee": "me"})).json["outcome"] == "done"
    assert (await ola.post(f"{target}/escalate", {"reason": "above my limit"})).status == 200
    assert (await ops.post(f"{target}/approve", yes(review))).status == 200
    seen = (await dev.get(f"/runtime/intents/{review['id']}", wait=20)).json
    assert (seen["status"], seen["reason"]) == ("SUCCESSFUL", None), "what is over is no reason any more"
    shown = (await ops.get(target)).json
    told = [(step["event"], step["actor"], step["text"]) for step in shown["history"]]
    assert [step[:2] for step in told[:2]] == [("policy.review", "svc_policy"), ("review.assigned", "svc_policy")]
    assert told[2:] == [
        ("review.commented", "dev", "invoice 4711 is attached"), ("review.assigned", "ola", None),
        ("review.escalated", "ola", None), ("review.approved", "ops", None),
    ]  # fmt: skip
    assert (shown["comments"], shown["escalations"], shown["assigned_to"]) == (1, 1, "boss")
    await dev.sealed(seen["intent_id"])
    packet = (await ops.get(f"/runtime/intents/{seen['id']}/evidence")).body
    verdict = verify_packet(packet, load_public_key(installation.public_key_path.read_bytes()))
    assert verdict.ok, verdict.problems
    parts = json.loads(packet)
    records = [json.loads(record) for record in parts["records"]]
    digest = next(record["facts"]["digest"] for record in records if record["event"] == "review.commented")
    said = {one["sha256"]: one["content"] for one in parts["attachments"]}
    assert said[digest] == "invoice 4711 is attached"
    assert sha256(said[digest].encode()).hexdigest() == digest
    approved = next(record for record in records if record["event"] == "review.approved")
    assert approved["facts"]["request_hash"] == review["request_hash"]
    forged = packet.replace(b"invoice 4711 is attached", b"invoice 4712 is attached")
    assert not verify_packet(forged, load_public_key(installation.public_key_path.read_bytes())).ok


async def test_two_people_approve_what_is_large(as_: As) -> None:
    review = await referred(as_, amount=TWO)
    target = f"/reviews/{review['id']}/approve"
    assert (review["approvals"], review["approved_by"]) == (2, [])
    first = await as_("ops").post(target, yes(review))
    assert (first.status, (await as_("dev").get(f"/runtime/intents/{review['id']}")).json["status"]) == (200, "REVIEW")
    again = await as_("ops").post(target, yes(review))
    assert (again.status, again.json["code"]) == (409, "review_already_decided")
    assert (await as_("ola").post(target, yes(review))).status == 200
    seen = (await as_("dev").get(f"/runtime/intents/{review['id']}", wait=20)).json
    assert (seen["status"], seen["review"]["approved_by"]) == ("SUCCESSFUL", ["ops", "ola"])


async def test_many_decisions_are_carried_out_each_by_itself(as_: As) -> None:
    made = [await referred(as_) for _ in range(3)]
    own = await referred(as_, "ops")
    items = [
        {"id": one["id"], "verdict": word, **yes(one)}
        for one, word in zip([*made, own], ("approved", "rejected", "approved", "approved"), strict=True)
    ]
    answer = await as_("ops").post("/reviews/decisions", {"items": items})
    assert [one["status"] for one in answer.json["results"]] == [200, 200, 200, 403]
    ends = [(await as_("dev").get(f"/runtime/intents/{one['id']}", wait=20)).json["status"] for one in [*made, own]]
    assert ends == ["SUCCESSFUL", "FAILED", "SUCCESSFUL", "REVIEW"]


async def test_who_is_disabled_decides_nothing_although_their_key_is_still_believed(
    as_: As, installation: Installation
) -> None:
    review, gone = await referred(as_), as_("gone")
    target = f"/reviews/{review['id']}/approve"
    assert (await gone.get(f"/reviews/{review['id']}")).status == 200  # the gateway believes the key for seconds
    async with await open_pool(installation.postgres_admin_url, name="test", connections_max=1) as pool:
        assert await Administration(pool).disable_principal("acme", "gone")
    refused = await gone.post(target, yes(review))
    assert refused.json["code"] in ("permission_denied", "principal_disabled")
    assert (await as_("dev").get(f"/runtime/intents/{review['id']}")).json["status"] == "REVIEW"
    assert (await as_("ops").post(target, yes(review))).status == 200, "the seat is free again"


async def test_an_approval_may_still_meet_an_empty_account_and_a_limit_takes_a_second_person(as_: As) -> None:
    dev, ops = as_("dev"), as_("ops")
    name = f"thin-{id(as_)}"
    await dev.post("/accounts", {"account_id": name, "owner": "o", "type": "customer", "currency": "NGN"})
    review = await referred(as_, source=name)
    assert (await ops.post(f"/reviews/{review['id']}/approve", yes(review))).status == 200
    seen = (await dev.get(f"/runtime/intents/{review['id']}", wait=20)).json
    assert (seen["status"], seen["reason"]["code"]) == ("FAILED", "insufficient_funds")
    asked = await dev.post(
        "/approvals",
        {"kind": "account_limit", "subject": name, "request": {"overdraft_limit": HIGH}, "reason": "known customer"},
    )
    approval = (await ops.get(asked.json["links"]["self"])).json
    assert (await ops.post(f"/approvals/{approval['id']}/approve", yes(approval))).json["status"] == "approved"
    again = await dev.create(amount=100_000, source=name)
    assert again["status"] == "SUCCESSFUL", "the limit is in force for the very next commit"


async def test_a_forced_reversal_is_carried_out_once_by_its_approval(as_: As) -> None:
    dev, ops = as_("dev"), as_("ops")
    seen = await dev.create()
    path = f"/runtime/intents/{seen['intent_id']}"
    waits = await dev.post(f"{path}/reversals", {"amount": "25000", "reason": "paid twice", "force": True})
    assert (waits.status, waits.json["status"]) == (202, "awaiting_approval")
    approval = (await ops.get(f"/approvals/{waits.json['approval']}")).json
    assert (await dev.get(path)).json["ledger_state"]["reversed"] == "0"
    done = await ops.post(f"/approvals/{approval['id']}/approve", yes(approval))
    assert (done.status, done.json["outcome"], done.json["command"]) == (200, "done", waits.json["command"])
    after = (await dev.get(path)).json
    assert after["ledger_state"]["reversed"] == "25000"
    record = next(event for event in after["event_stream"] if event["event"] == "ledger.reversal")
    assert (record["actor"], record["cause"]) == ("dev", approval["id"])


async def test_what_its_payee_has_spent_comes_back_by_force_alone_and_by_two_people(
    as_: As, installation: Installation
) -> None:
    dev, ops = as_("dev"), as_("ops")
    payee = f"spent-{uuid.uuid4().hex[:8]}"
    opened = {"account_id": payee, "owner": "o", "type": "customer", "currency": "NGN"}
    assert (await dev.post("/accounts", opened)).status == 201
    seen = await dev.create(amount=50_000, destination=payee)
    assert (await dev.create(amount=49_000, source=payee))["status"] == "SUCCESSFUL"
    path = f"/runtime/intents/{seen['intent_id']}"
    plain = await dev.post(f"{path}/reversals", {"reason": "paid twice"})
    assert (plain.status, plain.json["code"]) == (422, "insufficient_funds")
    waits = await dev.post(f"{path}/reversals", {"reason": "paid twice", "force": True})
    target = f"/approvals/{waits.json['approval']}"
    approval = (await ops.get(target)).json
    own = await dev.post(f"{target}/approve", yes(approval))
    assert (own.status, own.json["code"]) == (403, "permission_denied")
    assert (await dev.get(path)).json["ledger_state"]["reversed"] == "0"
    done = await ops.post(f"{target}/approve", yes(approval))
    assert (done.status, done.json["outcome"]) == (200, "done"), done.body
    after = (await dev.get(path)).json
    record = next(event for event in after["event_stream"] if event["event"] == "ledger.reversal")
    assert (after["status"], record["facts"]["approved_by"]) == ("REVERSED", "ops")
    assert {entry["posting"] for entry in after["ledger_state"]["entries"][-2:]} == {"forced_reversal"}
    assert (await dev.get(f"/accounts/{payee}")).json["available"] == "-49000"
    refused = await dev.create(amount=1, source=payee)
    assert (refused["status"], refused["reason"]["code"]) == ("FAILED", "insufficient_funds")
    assert (await dev.create(amount=9_000, destination=payee))["status"] == "SUCCESSFUL", "it may receive"
    assert (await dev.get(f"/accounts/{payee}")).json["available"] == "-40000"
    async with await open_pool(installation.postgres_admin_url, name="test", connections_max=1) as pool:
        assert (await audit_installation(pool)).breaches == ()


async def test_the_queue_is_worked_off_on_the_command_line(
    as_: As, installation: Installation, keys: Mapping[str, str]
) -> None:
    review = await referred(as_)

    async def zentra(line: str) -> Any:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "zentra.gateway", *shlex.split(line), "--json"],
            env={"ZENTRA_BASE_URL": installation.base_url, "ZENTRA_API_KEY": keys["ola"], "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 else (done.returncode, done.stderr)

    listed = await zentra("reviews list --limit 1000")
    assert review["id"] in [one["id"] for one in listed]
    shown = await zentra(f"reviews show {review['id']}")
    assert shown["request_hash"] == review["request_hash"]
    assert (await zentra(f"reviews comment {review['id']} 'looks right'"))["outcome"] == "done"
    assert (await zentra(f"reviews assign {review['id']} --to me"))["assigned_to"] == "ola"
    assert (await zentra("reviews counts"))["mine"] >= 1
    code, said = await zentra(f"reviews approve {review['id']} --reason ok --hash {'0' * 64}")
    assert (code, "Traceback" in said) == (1, False)
    done = await zentra(f"reviews approve {review['id']} --reason ok --hash {shown['request_hash']}")
    assert (done["status"], done["verdict"]) == ("done", "approved")
