"""Holds over HTTP with a worker behind: placed, looked at, listed, captured, voided, expired, given back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from tests.gateway.http.conftest import Api, intent_body
from tests.gateway.http.test_lifecycle import Client
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet
from zentra.storage.audit import audit_installation
from zentra.storage.pool import open_pool

# fmt: off
MALFORMED: list[tuple[dict[str, Any], str, str]] = [
    ({"hold": []},                                  "/hold",                    "field_type"),
    ({"hold": {"expires_in_seconds": "7"}},         "/hold/expires_in_seconds", "field_type"),
    ({"hold": {"expires_in_seconds": True}},        "/hold/expires_in_seconds", "field_type"),
    ({"hold": {"expires_in_seconds": 0}},           "/hold/expires_in_seconds", "duration_out_of_range"),
    ({"hold": {"expires_in_seconds": 2_678_401}},   "/hold/expires_in_seconds", "duration_out_of_range"),
    ({"hold": {"release_condition": ""}},           "/hold/release_condition",  "text_malformed"),
    ({"hold": {"release_condition": "x" * 513}},    "/hold/release_condition",  "text_malformed"),
    ({"hold": {"expires_at": "2030-01-01"}},        "/hold/expires_at",         "field_unknown"),
    ({"kind": "transfer"},                          "/kind",                    "kind_unknown"),
    ({"amount": 0},                                 "/amount",                  "amount_zero"),
    ({"amount": -1},                                "/amount",                  "amount_negative"),
    ({"amount": "full"},                            "/amount",                  "amount_invalid"),
]
# fmt: on


@pytest.mark.parametrize(("changes", "pointer", "code"), MALFORMED)
async def test_what_is_wrong_with_a_hold_is_named_by_its_place(
    api: Api, changes: dict[str, Any], pointer: str, code: str
) -> None:
    answer = await api.post("/holds", intent_body(**changes))
    assert answer.status == 422
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in answer.json["errors"]]


@pytest.mark.parametrize(
    ("target", "body", "pointer", "code"),
    [
        ("/runtime/intents", {"hold": {}}, "/hold", "terms_misplaced"),
        ("/runtime/intents", {"destination": ...}, "/destination", "field_missing"),
        ("/transfers", {"kind": "hold"}, "/kind", "kind_unknown"),
    ],
)
async def test_the_terms_of_a_hold_are_for_holds_alone(
    api: Api, target: str, body: dict[str, Any], pointer: str, code: str
) -> None:
    answer = await api.post(target, intent_body(**body))
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in answer.json["errors"]]


# fmt: off
CAPTURES: list[tuple[dict[str, Any], str, str]] = [
    ({},                                "/amount",      "field_missing"),
    ({"amount": 0},                     "/amount",      "amount_zero"),
    ({"amount": -5},                    "/amount",      "amount_negative"),
    ({"amount": 2**63},                 "/amount",      "amount_overflow"),
    ({"amount": "all"},                 "/amount",      "amount_invalid"),
    ({"amount": 1, "final": "yes"},     "/final",       "field_type"),
    ({"amount": 1, "destination": ""},  "/destination", "id_malformed"),
]
# fmt: on


@pytest.mark.parametrize(("body", "pointer", "code"), CAPTURES)
async def test_a_capture_says_how_much(api: Api, body: dict[str, Any], pointer: str, code: str) -> None:
    made = (await api.post("/holds", intent_body())).json
    answer = await api.post(f"/holds/{made['id']}/captures", body)
    assert answer.status == 422
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in answer.json["errors"]]


async def test_a_hold_without_terms_is_the_same_as_one_that_spells_the_defaults(api: Api) -> None:
    body, key = intent_body(destination=...), uuid.uuid4().hex
    first = await api.post("/holds", body, key=key)
    again = await api.post(
        "/runtime/intents", {**body, "kind": "hold", "hold": {"expires_in_seconds": 604_800}}, key=key
    )
    assert (first.status, again.body) == (202, first.body)
    other = await api.post("/holds", {**body, "hold": {"expires_in_seconds": 60}}, key=key)
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


async def test_a_transfer_is_no_hold(api: Api) -> None:
    made = (await api.post("/runtime/intents", intent_body())).json
    assert (await api.get(f"/holds/{made['id']}")).status == 404


async def test_a_hold_that_is_not_placed_yet_is_requested(api: Api) -> None:
    made = (await api.post("/holds", intent_body(hold={"release_condition": "goods delivered"}))).json
    seen = (await api.get(f"/holds/{made['id']}")).json
    assert (seen["status"], seen["remaining"], seen["placed_at"]) == ("requested", "0", None)
    assert seen["release_condition"] == "goods delivered"
    assert made["id"] not in [row["id"] for row in (await api.get("/holds")).json["data"]]


# With a worker behind -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def dev(installation: Installation, session: aiohttp.ClientSession) -> Client:
    return Client(installation.base_url, installation.keys["acme"]["dev"], session)


async def place(dev: Client, **changes: Any) -> Any:
    """Return a hold that stands."""
    made = await dev.post("/holds", intent_body(**changes), wait=20)
    assert (made.json["status"], made.json["step"]) == ("PROCESSING", "held"), made.body
    return (await dev.get(f"/holds/{made.json['intent_id']}")).json


async def available(dev: Client, account: str) -> int:
    return int((await dev.get(f"/accounts/{account}")).json["available"])


@pytest.mark.slow
async def test_a_hold_from_its_placing_to_its_packet(dev: Client, installation: Installation) -> None:
    funds = await available(dev, "customer-1")
    hold = await place(dev, amount=10_000, destination=..., hold={"expires_in_seconds": 3_600})
    where, captures = f"/holds/{hold['intent_id']}", f"/holds/{hold['intent_id']}/captures"
    assert (hold["status"], hold["remaining"], await available(dev, "customer-1")) == ("open", "10000", funds - 10_000)
    missing = await dev.post(captures, {"amount": 1})
    assert (missing.status, missing.json["code"]) == (422, "destination_missing")
    key = uuid.uuid4().hex
    part = await dev.post(captures, {"amount": 2_500, "destination": "merchant-1"}, key=key)
    assert (part.status, part.json["outcome"]) == (200, "done")
    again = await dev.post(captures, {"amount": 2_500, "destination": "merchant-1"}, key=key)
    assert (again.status, again.json["command"]) == (200, part.json["command"])
    over = await dev.post(captures, {"amount": 7_501, "destination": "merchant-1"})
    assert (over.status, over.json["code"]) == (422, "exceeds_hold")
    last = await dev.post(captures, {"amount": "500", "destination": "payout-1", "final": True, "reason": "shipped"})
    assert last.status == 200, last.body
    seen = (await dev.get(where)).json
    assert (seen["status"], seen["captured"], seen["remaining"]) == ("captured", "3000", "0")
    assert [one["destination"] for one in seen["captures"]] == ["merchant-1", "payout-1"]
    assert [event["event"] for event in seen["history"]][-1].startswith(("hold.", "review.", "webhook."))
    entries = [e["posting"] for event in seen["history"] for e in event["facts"].get("entries", [])]
    assert entries == ["reserve", "post", "settle", "post", "settle", "release"]
    assert await available(dev, "customer-1") == funds - 3_000
    late = await dev.post(f"{where}/void", {"reason": "too late"})
    assert (late.status, late.json["code"]) == (409, "hold_already_posted")
    back = await dev.post(f"/runtime/intents/{hold['id']}/reversals", {"amount": 600, "reason": "returned"})
    assert back.status == 200, back.body
    seen = (await dev.get(where)).json
    assert [one["given_back"] for one in seen["captures"]] == ["100", "500"]
    assert (await dev.get(f"/runtime/intents/{hold['id']}")).json["ledger_state"]["reversed"] == "600"
    await dev.sealed(hold["intent_id"])
    packet = await dev.get(f"/runtime/intents/{hold['id']}/evidence")
    verdict = verify_packet(packet.body, load_public_key(installation.public_key_path.read_bytes()))
    assert verdict.ok, verdict.problems


@pytest.mark.slow
async def test_a_void_and_an_expiry_give_back_what_was_held_and_say_which_it_was(dev: Client) -> None:
    funds = await available(dev, "customer-2")
    voided = await place(dev, amount=700, source="customer-2")
    short = await place(dev, amount=900, source="customer-2", hold={"expires_in_seconds": 1})
    done = await dev.post(f"/holds/{voided['id']}/void", {"reason": "changed her mind"})
    assert done.status == 200
    failed = (await dev.get(f"/runtime/intents/{voided['id']}")).json
    assert (failed["status"], failed["reason"]) == (
        "FAILED", {"event": "hold.voided", "code": "hold_voided", "detail": "changed her mind"},
    )  # fmt: skip
    async with asyncio.timeout(20):
        while (seen := (await dev.get(f"/holds/{short['id']}")).json)["status"] != "expired":
            await asyncio.sleep(0.01)
    assert (seen["ended_at"], seen["remaining"]) == (seen["expires_at"], "0")
    assert await available(dev, "customer-2") == funds  # at once: also where it is not booked yet
    late = await dev.post(f"/holds/{short['id']}/captures", {"amount": "full"})
    assert (late.status, late.json["code"]) == (409, "hold_expired")
    async with asyncio.timeout(20):
        while (await dev.get(f"/runtime/intents/{short['id']}")).json["status"] != "FAILED":
            await asyncio.sleep(0.01)
    for status, hold in (("voided", voided), ("expired", short)):
        rows = (await dev.get(f"/holds?account=customer-2&status={status}")).json["data"]
        assert [row["id"] for row in rows] == [hold["id"]]


@pytest.mark.slow
async def test_captures_at_once_never_take_more_than_is_held(dev: Client) -> None:
    hold = await place(dev, amount=10_000)
    captures = f"/holds/{hold['id']}/captures"
    answers = await asyncio.gather(*[dev.post(captures, {"amount": 3_000}) for _ in range(8)])
    assert sorted(answer.status for answer in answers) == [200] * 3 + [422] * 5
    assert {answer.json["code"] for answer in answers if answer.status == 422} == {"exceeds_hold"}
    key = uuid.uuid4().hex
    same = await asyncio.gather(*[dev.post(captures, {"amount": "full"}, key=key) for _ in range(5)])
    assert len({answer.json["command"] for answer in same}) == 1
    seen = (await dev.get(f"/holds/{hold['id']}")).json
    assert [one["amount"] for one in seen["captures"]] == ["3000", "3000", "3000", "1000"]


@pytest.mark.slow
async def test_what_an_expired_hold_kept_can_be_spent_as_soon_as_anybody_sees_it(dev: Client) -> None:
    account = f"purse-{uuid.uuid4().hex[:8]}"
    opened = {"account_id": account, "owner": "o", "type": "customer", "currency": "NGN"}
    assert (await dev.post("/accounts", opened)).status == 201
    move = {"kind": "book_transfer", "amount": 500}
    assert (await dev.post("/transfers", intent_body(**move, destination=account), wait=20)).status == 200
    for _ in range(3):
        hold = await place(dev, amount=500, source=account, hold={"expires_in_seconds": 1})
        spend = intent_body(**move, source=account, destination="customer-1")
        early = await dev.post("/transfers", spend | {"intent_id": uuid.uuid4().hex}, wait=20)
        assert early.json["reason"]["code"] == "insufficient_funds"
        async with asyncio.timeout(20):
            while await available(dev, account) == 0:
                await asyncio.sleep(0.001)
        spent = await dev.post("/transfers", spend, wait=20)
        assert spent.json["status"] == "SUCCESSFUL", spent.body
        assert (await dev.get(f"/holds/{hold['id']}")).json["status"] == "expired"
        assert (await dev.post("/transfers", intent_body(**move, destination=account), wait=20)).status == 200


@pytest.mark.slow
async def test_the_books_of_holds_are_clean(dev: Client, installation: Installation) -> None:
    await place(dev, amount=1)
    pool = await open_pool(installation.postgres_admin_url, name="audit", connections_max=1)
    try:
        assert (await audit_installation(pool)).breaches == ()
    finally:
        await pool.close()
