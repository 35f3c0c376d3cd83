"""Creating intents and looking at them: four outcomes of a key, every violation, no id of anybody else's."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

import pytest

from tests.gateway.http.conftest import Api, intent_body


async def test_a_new_intent_is_accepted_and_can_be_seen(api: Api) -> None:
    body = intent_body(metadata={"order": "7"})
    answer = await api.post("/runtime/intents", body, x_request_id="req-1")
    assert answer.status == 202
    assert answer.headers["x-request-id"] == "req-1"
    assert answer.headers["zentra-version"] == "2026.04"
    made = answer.json
    assert (made["intent_id"], made["status"], made["amount"]) == (body["intent_id"], "ACCEPTED", 125_000)
    for target in (answer.headers["location"], f"/runtime/intents/{body['intent_id']}"):
        seen = (await api.get(target)).json
        assert (seen["id"], seen["intent_id"], seen["status"], seen["step"]) == (
            made["id"],
            body["intent_id"],
            "ACCEPTED",
            None,
        )
        assert (seen["amount"], seen["currency"], seen["metadata"]) == (125_000, "NGN", {"order": "7"})
        assert (seen["created_by"], seen["version"]) == ("developer", 1)
        nothing: dict[str, Any] = {"held": "0", "posted": "0", "given_back": "0", "version": None, "lines": []}
        assert seen["ledger_state"] == {
            "held": "0", "posted": "0", "reversed": "0", "fees": nothing, "entries": [],
        }  # fmt: skip
        assert [(event["sequence"], event["event"], event["cause"]) for event in seen["event_stream"]] == [
            (1, "ingress.accepted", "req-1")
        ]
        assert re.fullmatch("[0-9a-f]{64}", seen["event_stream"][0]["hash"])
        assert seen["audit_packet"]["sealed"] is False
        assert [(stage["stage"], stage["reached"]) for stage in seen["stages"]] == [
            ("accepted", True), ("controlled", False), ("ledgered", False), ("routed", False),
            ("synchronized", False), ("evidenced", False),
        ]  # fmt: skip
        assert (seen["deliveries"], seen["cases"], seen["review"]) == ([], [], None)


async def test_the_trace_of_the_caller_is_the_traces_of_the_intent(api: Api) -> None:
    trace = uuid.uuid4().hex
    made = await api.post("/runtime/intents", intent_body(), traceparent=f"00-{trace}-{'1' * 16}-01")
    assert (await api.get(made.headers["location"])).json["trace_id"] == trace


async def test_an_intent_without_an_id_gets_one(api: Api) -> None:
    made = (await api.post("/runtime/intents", intent_body(intent_id=...))).json
    assert made["intent_id"] == f"int_{made['id']}"
    assert (await api.get(f"/runtime/intents/{made['intent_id']}")).status == 200


@pytest.mark.parametrize("form", ["header", "standard", "quoted", "body"])
async def test_a_replay_is_the_first_answer_again(api: Api, form: str) -> None:
    key, body = uuid.uuid4().hex, intent_body()
    first = await api.post("/runtime/intents", body, key=key, x_request_id="first")
    headers = {"standard": {"idempotency_key": key}, "quoted": {"idempotency_key": f'"{key}"'}}.get(form, {})
    again = body | {"idempotency_key": key} if form == "body" else body
    second = await api.post("/runtime/intents", again, key=key if form == "header" else None, **headers)
    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-original-request-id"] == "first"
    assert second.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers


async def test_many_at_once_are_one_intent(api: Api) -> None:
    key, body = uuid.uuid4().hex, intent_body()
    answers = await asyncio.gather(*(api.post("/runtime/intents", body, key=key) for _ in range(30)))
    assert {answer.status for answer in answers} <= {202, 409}
    assert len({answer.body for answer in answers if answer.status == 202}) == 1
    for refused in (answer for answer in answers if answer.status == 409):
        assert (refused.code, refused.headers["retry-after"]) == ("idempotency_in_flight", "1")


async def test_the_spelling_of_a_body_does_not_matter(api: Api) -> None:
    key, body = uuid.uuid4().hex, intent_body(kind="transfer", scope="default")
    first = await api.post("/runtime/intents", body, key=key)
    same = dict(reversed({**body, "amount": "125000"}.items()))
    assert (await api.post("/transfers", same, key=key)).body == first.body


async def test_a_key_used_for_something_else_names_the_fields(api: Api) -> None:
    key, body = uuid.uuid4().hex, intent_body()
    await api.post("/runtime/intents", body, key=key)
    answer = await api.post("/runtime/intents", body | {"amount": 1, "destination": "x"}, key=key)
    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert answer.json["fields"] == ["destination", "minor"]


@pytest.mark.parametrize(
    ("target", "other"),
    [
        ("/payments", intent_body(kind=...)),
        ("/accounts", {"account_id": "a-1", "owner": "o", "type": "customer", "currency": "NGN"}),
        ("/webhooks/endpoints", {"url": "https://example.com/hooks"}),
        ("/runtime/intents/{id}/cancel", {}),
        ("/runtime/intents/{id}/reversals", {"reason": "x"}),
    ],
)
async def test_a_key_of_one_route_is_no_key_of_another(api: Api, target: str, other: dict[str, Any]) -> None:
    key, somebody = uuid.uuid4().hex, api.as_("admin")
    made = await somebody.post("/runtime/intents", intent_body(), key=key)
    assert made.status == 202
    answer = await somebody.post(target.format(id=made.json["id"]), other, key=key)
    assert (answer.status, answer.code) == (422, "idempotency_key_reused")


async def test_another_key_with_the_same_intent_is_the_same_intent(api: Api) -> None:
    body = intent_body()
    first = await api.post("/runtime/intents", body)
    assert (await api.post("/runtime/intents", body)).body == first.body


async def test_an_intent_id_is_taken_for_ever(api: Api) -> None:
    body = intent_body()
    await api.post("/runtime/intents", body)
    answer = await api.post("/runtime/intents", body | {"amount": 1})
    assert (answer.status, answer.code) == (409, "intent_id_conflict")


async def test_tenants_do_not_share_keys_or_ids(api: Api) -> None:
    key, body = uuid.uuid4().hex, intent_body()
    ours = await api.post("/runtime/intents", body, key=key)
    theirs = await api.as_("developer", "globex").post("/runtime/intents", body | {"amount": 5}, key=key)
    assert (ours.status, theirs.status) == (202, 202)
    assert ours.json["id"] != theirs.json["id"]


async def test_every_violation_is_named_at_once(api: Api) -> None:
    body = {"amount": 0.5, "currency": "ngn", "source": 5, "metadata": {"a": 1}, "colour/x": "red"}
    answer = await api.post("/runtime/intents", body)
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert {(error["pointer"], error["code"]) for error in answer.json["errors"]} == {
        ("/colour~1x", "field_unknown"), ("/amount", "amount_invalid"), ("/currency", "currency_unknown"),
        ("/source", "field_type"), ("/destination", "field_missing"), ("/metadata", "field_type"),
    }  # fmt: skip


async def test_nothing_refused_is_kept_with_its_key(api: Api) -> None:
    key = uuid.uuid4().hex
    assert (await api.post("/runtime/intents", intent_body(amount=0), key=key)).status == 422
    assert (await api.post("/runtime/intents", intent_body(), key=key)).status == 202


@pytest.mark.parametrize(
    ("target", "kind", "status"),
    [
        ("/transfers", "transfer", 202),
        ("/transfers", "book_transfer", 202),
        ("/transfers", "payment", 422),
        ("/payments", "payment", 202),
        ("/payments", ..., 202),
        ("/payments", "transfer", 422),
        ("/runtime/intents", "payment", 202),
    ],
)
async def test_a_typed_door_takes_its_kinds(api: Api, target: str, kind: Any, status: int) -> None:
    answer = await api.post(target, intent_body(kind=kind))
    assert answer.status == status
    if kind is ...:
        assert answer.json["kind"] == "payment"


async def test_a_key_is_needed(api: Api) -> None:
    assert (await api.post("/runtime/intents", intent_body(), key=None)).code == "idempotency_key_missing"
    two = intent_body(idempotency_key="other")
    assert (await api.post("/runtime/intents", two, key="one")).code == "idempotency_key_ambiguous"


async def test_waiting_without_a_worker_ends_and_shows_the_state(api: Api) -> None:
    body = intent_body()
    answer = await api.post("/runtime/intents", body, prefer="wait=1")
    assert (answer.status, answer.json["status"]) == (202, "ACCEPTED")
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.json["event_stream"][0]["event"] == "ingress.accepted"
    seen = await api.get(answer.headers["location"], prefer="wait=1")
    assert (seen.status, seen.json["status"]) == (200, "ACCEPTED")


async def test_evidence_is_not_given_out_before_it_is_sealed(api: Api) -> None:
    made = await api.post("/runtime/intents", intent_body())
    answer = await api.get(f"{made.headers['location']}/evidence")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (409, "evidence_not_sealed", "2")


async def test_a_command_that_nobody_answers_in_time_can_be_looked_at_later(api: Api) -> None:
    made = await api.post("/runtime/intents", intent_body())
    target, key = f"{made.headers['location']}/cancel", uuid.uuid4().hex
    first = await api.post(target, key=key, prefer="wait=0")
    assert (first.status, first.json["status"], first.json["kind"]) == (202, "accepted", "cancel")
    again = await api.post(target, {}, key=key, prefer="wait=0")
    assert (again.status, again.json["command"]) == (202, first.json["command"])
    assert again.headers["idempotent-replayed"] == "true"
    reused = await api.post(f"{made.headers['location']}/reversals", {"reason": "x"}, key=key, prefer="wait=0")
    assert (reused.status, reused.code) == (422, "idempotency_key_reused")
    seen = (await api.get(first.headers["location"])).json
    assert (seen["id"], seen["kind"], seen["accepted"]) == (first.json["command"], "cancel", None)


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({}, {"/reason": "field_missing"}),
        ({"amount": 0, "reason": ""}, {"/amount": "amount_zero", "/reason": "text_malformed"}),
        ({"amount": "all", "reason": "a\nb"}, {"/amount": "amount_invalid", "/reason": "text_malformed"}),
        ({"amount": "full", "reason": 5, "x": 1}, {"/reason": "field_type", "/x": "field_unknown"}),
        ([], {"": "body_not_object"}),
    ],
)
async def test_a_reversal_says_how_much_and_why(api: Api, body: object, codes: dict[str, str]) -> None:
    made = await api.post("/runtime/intents", intent_body())
    answer = await api.post(f"{made.headers['location']}/reversals", body)
    assert answer.code == "validation_failed"
    assert {error["pointer"]: error["code"] for error in answer.json["errors"]} == codes
