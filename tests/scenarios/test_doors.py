"""What the doors of a running installation say: every violation at once, nothing written; waits, cancels, reversals."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.scenarios.people import Answer, Books, Person, intent_body, nats_door, until
from zentra.gateway.installation.installation import Installation

pytestmark = pytest.mark.service

INTENTS = "/runtime/intents"
TOO_DEEP = b'{"metadata":' + b'{"a":' * 12 + b"1" + b"}" * 13

# What is asked, and every violation by its JSON pointer.
# fmt: off
VIOLATIONS: list[tuple[str, Any, dict[str, str]]] = [
    (INTENTS, [], {"": "body_not_object"}),
    (INTENTS, {}, {"/amount": "field_missing", "/currency": "field_missing", "/source": "field_missing",
                   "/destination": "field_missing"}),
    (INTENTS, intent_body(amount=0), {"/amount": "amount_zero"}),
    (INTENTS, intent_body(amount=-5), {"/amount": "amount_negative"}),
    (INTENTS, intent_body(amount=1.5), {"/amount": "amount_invalid"}),
    (INTENTS, intent_body(amount=True), {"/amount": "amount_invalid"}),
    (INTENTS, intent_body(amount="1e3"), {"/amount": "amount_invalid"}),
    (INTENTS, intent_body(amount=2**63), {"/amount": "amount_overflow"}),
    (INTENTS, intent_body(kind="gift", currency="XYZ", source="a b", destination=7, colour="red", country="ng",
                          scope="NO", primitives=["policy", "magic"], metadata={"a": 1}),
     {"/kind": "kind_unknown", "/currency": "currency_unknown", "/source": "id_malformed",
      "/destination": "field_type", "/colour": "field_unknown", "/country": "country_malformed",
      "/scope": "scope_malformed", "/primitives/1": "primitive_unknown", "/metadata": "field_type"}),
    (INTENTS, intent_body(**{"a/b~c": 1}), {"/a~1b~0c": "field_unknown"}),
    ("/transfers", intent_body(kind="payment"), {"/kind": "kind_unknown"}),
    ("/payments", intent_body(kind="transfer"), {"/kind": "kind_unknown"}),
    ("/accounts", {"account_id": "a b", "type": "vault", "currency": "ngn", "extra": 1},
     {"/account_id": "id_malformed", "/type": "account_type_unknown", "/currency": "currency_unknown",
      "/owner": "field_missing", "/extra": "field_unknown"}),
    ("/webhooks/endpoints", {"url": "ftp://x", "events": ["*", "no such"]},
     {"/url": "url_malformed", "/events/1": "event_filter_malformed"}),
    (f"{INTENTS}/any/reversals", {"amount": "all"}, {"/amount": "amount_invalid", "/reason": "field_missing"}),
    (f"/reviews/{'0' * 32}/approve", {"reason": ""}, {"/reason": "text_malformed"}),
    (f"/cases/{'0' * 32}/resolve", {"resolution": "ignore"},
     {"/resolution": "resolution_unknown", "/reason": "field_missing"}),
]
# fmt: on


@pytest.mark.parametrize(("path", "body", "errors"), VIOLATIONS)
async def test_a_bad_body_is_told_everything_at_once_and_writes_nothing(
    ops: Person, books: Books, path: str, body: Any, errors: dict[str, str]
) -> None:
    before = await books.written()
    answer = await ops.post(path, body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, answer.code, answer.errors) == (422, "validation_failed", errors)
    assert (answer.json["request_id"], answer.json["retryable"]) == (answer.headers["x-request-id"], False)
    assert await books.written() == before


# What is sent, under which headers, and the code that names what is wrong with it.
UNREADABLE: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", {}, 400, "body_malformed"),
    (b"{", {}, 400, "body_malformed"),
    (b'{"amount": NaN}', {}, 400, "body_malformed"),
    (b'{"currency": "\xff"}', {}, 400, "body_malformed"),
    (b'{"amount": 1, "amount": 2}', {}, 400, "body_key_repeated"),
    (TOO_DEEP, {}, 400, "body_too_deep"),
    (b'{"metadata": "' + b"x" * 300_000 + b'"}', {}, 413, "body_too_large"),
    (b"{}", {"content-type": "text/plain"}, 415, "content_type_unsupported"),
    (b"{}", {"authorization": "Bearer zk_test_nobody"}, 401, "key_invalid"),
]


@pytest.mark.parametrize(("body", "headers", "status", "code"), UNREADABLE)
async def test_what_cannot_be_read_is_named_and_writes_nothing(
    dev: Person, books: Books, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    before = await books.written()
    answer = await dev.post(INTENTS, body, headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert await books.written() == before


# Headers, the key in the body, and the code.
KEYS: list[tuple[dict[str, str], str | None, str]] = [
    ({}, None, "idempotency_key_missing"),
    ({"x-idempotency-key": "a", "idempotency-key": "b"}, None, "idempotency_key_ambiguous"),
    ({"x-idempotency-key": "a"}, "b", "idempotency_key_ambiguous"),
    ({"x-idempotency-key": "a b"}, None, "idempotency_key_malformed"),
    ({"x-idempotency-key": "k" * 256}, None, "idempotency_key_malformed"),
]


@pytest.mark.parametrize(("headers", "in_body", "code"), KEYS)
async def test_a_request_has_one_key(
    dev: Person, books: Books, headers: dict[str, str], in_body: str | None, code: str
) -> None:
    before = await books.written()
    body = intent_body() if in_body is None else intent_body(idempotency_key=in_body)
    answer = await dev.post(INTENTS, body, key=None, headers=headers)
    assert (answer.status, answer.code) == (400, code)
    assert await books.written() == before


async def test_equal_keys_in_every_place_are_one_key(dev: Person) -> None:
    key = uuid.uuid4().hex
    body = intent_body(idempotency_key=key)
    answer = await dev.post(INTENTS, body, key=None, headers={"x-idempotency-key": key, "idempotency-key": f'"{key}"'})
    assert answer.status == 202


OVER_NATS: list[tuple[Any, int, str, set[str]]] = [
    (b"{", 400, "body_malformed", set()),
    (b'{"amount": 1, "amount": 2}', 400, "body_key_repeated", set()),
    (intent_body(), 400, "idempotency_key_missing", set()),
    (intent_body(idempotency_key="a b"), 422, "validation_failed", {"/idempotency_key"}),
    (
        intent_body(amount=0, currency="XYZ", source=..., idempotency_key="k"),
        422, "validation_failed", {"/amount", "/currency", "/source"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "pointers"), OVER_NATS)
async def test_the_nats_door_refuses_in_the_same_words(
    installation: Installation, books: Books, body: Any, status: int, code: str, pointers: set[str]
) -> None:
    before = await books.written()
    async with nats_door(installation) as ask:
        heard = await ask(body)
    assert (heard.status, heard.code, {error["pointer"] for error in heard.errors}) == (status, code, pointers)
    assert await books.written() == before


async def test_in_a_batch_over_nats_a_bad_intent_harms_no_other(installation: Installation, books: Books) -> None:
    sound = [intent_body(idempotency_key=uuid.uuid4().hex) for _ in range(2)]
    async with nats_door(installation) as ask:
        heard = await ask.batch([sound[0], intent_body(amount=0, idempotency_key="bad"), [], sound[1]])
    assert [one.status for one in heard] == [202, 422, 422, 202]
    assert (
        await books.count("select count(*) from intents where key = any($1)", [s["idempotency_key"] for s in sound])
        == 2
    )


WRONG_ROLES = [
    ("POST", "/reviews/{id}/approve", {"reason": "x"}),
    ("POST", "/reviews/{id}/reject", {"reason": "x"}),
    ("POST", "/cases/{id}/resolve", {"resolution": "dismissed", "reason": "x"}),
    ("POST", "/webhooks/deliveries/{id}/replay", {}),
    ("GET", "/denials", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRONG_ROLES)
async def test_a_developer_does_not_do_an_operators_work(
    dev: Person, ops: Person, books: Books, method: str, path: str, body: Any
) -> None:
    before = await books.written()
    request_id = uuid.uuid4().hex
    answer = await dev.ask(method, path.format(id=uuid.uuid4().hex), body, headers={"x-request-id": request_id})
    assert (answer.status, answer.code) == (403, "permission_denied")
    assert await books.written() == before

    async def kept() -> list[Any]:
        return [row for row in (await ops.get("/denials?limit=100")).json["data"] if row["request_id"] == request_id]

    [denial] = await until(kept, bool)
    assert (denial["actor"], denial["action"], denial["reason"]) == ("dev", f"{method} {path}", "permission_denied")


async def test_a_wait_ends_with_the_intent_and_a_short_one_shows_it_as_it_is(dev: Person, ops: Person) -> None:
    began = time.monotonic()
    settled = await dev.post(INTENTS, intent_body(), wait=30)
    assert time.monotonic() - began < 10
    assert (settled.status, settled.json["status"]) == (200, "SUCCESSFUL")
    assert settled.headers["preference-applied"] == "wait=30"
    silent = await dev.post(INTENTS, intent_body(metadata={"sandbox_scenario": "silent"}), wait=1)
    assert (silent.status, silent.json["status"]) == (202, "AWAITING_PROVIDER")
    assert silent.headers["preference-applied"] == "wait=1"
    at_once = await dev.post(INTENTS, intent_body(), wait=0)
    assert (at_once.status, at_once.json["status"]) == (202, "ACCEPTED")
    await resolved(dev, ops, silent.json["intent_id"])


async def resolved(dev: Person, ops: Person, intent_id: str) -> None:
    """Take the open case of an intent off the books, so that no later test finds money reserved."""
    seen = (await dev.get(f"{INTENTS}/{intent_id}", wait=20)).json
    [case] = seen["cases"]
    answer = await ops.post(f"/cases/{case['id']}/resolve", {"resolution": "declined", "reason": "nothing was paid"})
    assert answer.status == 200, answer.body


async def test_a_wait_on_a_replay_shows_the_intent_as_it_is_by_now(dev: Person) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    first = await dev.post(INTENTS, body, key=key)
    waited = await dev.post(INTENTS, body, key=key, wait=20)
    assert (waited.status, waited.json["status"]) == (200, "SUCCESSFUL")
    assert waited.headers["idempotent-replayed"] == "true"
    assert (await dev.post(INTENTS, body, key=key)).body == first.body


async def test_an_intent_in_review_can_be_cancelled_once(dev: Person, books: Books) -> None:
    body, key = intent_body(amount=15_000_000), uuid.uuid4().hex
    seen = (await dev.post(INTENTS, body, key=key, wait=20)).json
    assert seen["status"] == "REVIEW"
    path = f"{INTENTS}/{seen['intent_id']}/cancel"
    answers = await asyncio.gather(*(dev.post(path, {"reason": "changed my mind"}) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
    assert {answer.code for answer in answers if answer.status == 409} == {"not_cancellable"}
    seen = (await dev.get(f"{INTENTS}/{seen['id']}", wait=20)).json
    assert (seen["status"], seen["review"]["status"], seen["ledger_state"]["entries"]) == ("FAILED", "cancelled", [])


async def test_what_was_paid_cannot_be_cancelled(dev: Person) -> None:
    seen = await dev.made()
    answer = await dev.post(f"{INTENTS}/{seen['intent_id']}/cancel")
    assert (answer.status, answer.code) == (409, "not_cancellable")


async def balances(dev: Person) -> dict[str, int]:
    shown = {name: (await dev.get(f"/accounts/{name}")).json for name in ("customer-2", "merchant-1")}
    return {name: int(account["posted"]) for name, account in shown.items()}


async def reversal(dev: Person, seen: Any, amount: int | str, *, key: str = "") -> Answer:
    body = {"amount": amount, "reason": "returned goods"}
    return await dev.post(f"{INTENTS}/{seen['intent_id']}/reversals", body, key=key)


async def test_a_full_reversal_restores_the_balances_once(dev: Person) -> None:
    before = await balances(dev)
    seen = await dev.made(source="customer-2")
    assert await balances(dev) != before
    answers = await asyncio.gather(*(reversal(dev, seen, "full") for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
    assert {answer.code for answer in answers if answer.status == 409} == {"already_reversed"}
    assert await balances(dev) == before
    shown = (await dev.get(f"{INTENTS}/{seen['id']}")).json
    assert (shown["status"], shown["ledger_state"]["reversed"]) == ("REVERSED", "125000")


async def test_partial_reversals_end_at_the_original(dev: Person) -> None:
    before = await balances(dev)
    seen = await dev.made(source="customer-2")
    key = uuid.uuid4().hex
    twice = await asyncio.gather(*(reversal(dev, seen, 100_000, key=key) for _ in range(2)))
    assert {(answer.status, answer.json["command"]) for answer in twice} == {(200, twice[0].json["command"])}
    reused = await reversal(dev, seen, 99_999, key=key)
    assert (reused.status, reused.code) == (422, "idempotency_key_reused")
    assert (await dev.get(f"{INTENTS}/{seen['id']}")).json["status"] == "SUCCESSFUL"
    refused = await reversal(dev, seen, 25_001)
    assert (refused.status, refused.code) == (422, "exceeds_original")
    # Two that fit alone and not together: one of them is first.
    raced = await asyncio.gather(reversal(dev, seen, 20_000), reversal(dev, seen, 15_000))
    assert sorted(answer.status for answer in raced) == [200, 422]
    assert (await reversal(dev, seen, "full")).status == 200
    assert await balances(dev) == before
    assert (await dev.get(f"{INTENTS}/{seen['id']}")).json["status"] == "REVERSED"


async def metrics(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_the_metrics_tell_of_the_stages_and_of_no_imbalance(
    dev: Person, installation: Installation, session: aiohttp.ClientSession, books: Books
) -> None:
    await dev.made()

    async def worker() -> str:
        return await metrics(session, installation.metrics_urls[0])

    shown = await until(worker, lambda text: "zentra_ledger_imbalance_minor_units " in text)
    assert re.search(r"^zentra_ledger_imbalance_minor_units 0\.0$", shown, re.M)
    for event in ("policy.accepted", "ledger.reserved", "provider.routed", "provider.callback", "ledger.posted"):
        count = re.search(rf'^zentra_stage_duration_seconds_count{{event="{re.escape(event)}"}} (\S+)$', shown, re.M)
        assert count is not None, event
        assert float(count[1]) >= 1
    border = await metrics(session, f"{installation.base_url}/metrics")
    assert 'route="/runtime/intents"' in border
    for secret in ("acme", "customer-1", *installation.keys["acme"].values()):
        assert secret not in shown + border, "labels are bounded and tell of no tenant"
    audit = await books.audit()
    assert audit.clean, audit.breaches


async def test_the_list_of_problem_codes_is_served(dev: Person) -> None:
    answer = await dev.post(INTENTS, {})
    page = await dev.get(answer.json["type"])
    assert (page.status, msgspec.json.decode(page.body)["code"]) == (200, "validation_failed")
