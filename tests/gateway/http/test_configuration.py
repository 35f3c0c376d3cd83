"""Accounts and webhook endpoints: made once per key, shown to their tenant, secrets shown once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.gateway.http.conftest import Api
from zentra.gateway.sealing import Sealer
from zentra.gateway.settings import Settings
from zentra.runtime.webhooks.standard import parse_secret
from zentra.storage.pool import Pool


def account_body(**changes: Any) -> dict[str, Any]:
    body = {"account_id": f"a-{uuid.uuid4().hex}", "owner": "Ada Obi", "type": "customer", "currency": "NGN"}
    return body | changes


async def test_an_account_is_opened_once_and_begins_empty(api: Api) -> None:
    body, key = account_body(), uuid.uuid4().hex
    first = await api.post("/accounts", body, key=key)
    assert (first.status, first.headers["location"]) == (201, f"/accounts/{body['account_id']}")
    again = await api.post("/accounts", dict(reversed(body.items())), key=key)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (201, first.body, "true")
    seen = (await api.get(first.headers["location"])).json
    assert {name: seen[name] for name in body} == body
    assert (seen["posted"], seen["pending"], seen["available"]) == ("0", "0", "0")
    assert seen["counters"] == dict.fromkeys(
        ("debits_pending", "credits_pending", "debits_posted", "credits_posted"), "0"
    )
    assert (seen["status"], seen["normal_side"], seen["created_by"]) == ("open", "credit", "developer")


async def test_a_key_and_an_account_id_mean_one_thing(api: Api) -> None:
    body, key = account_body(), uuid.uuid4().hex
    await api.post("/accounts", body, key=key)
    assert (await api.post("/accounts", body | {"owner": "x"}, key=key)).code == "idempotency_key_reused"
    assert (await api.post("/accounts", body)).code == "account_exists"
    assert (await api.post("/runtime/intents", {"amount": 1, "currency": "NGN", "source": "a", "destination": "b"},
                           key=key)).code == "idempotency_key_reused"  # fmt: skip


async def test_an_account_in_a_new_currency_brings_its_system_accounts(api: Api) -> None:
    assert (await api.post("/accounts", account_body(currency="KES"))).status == 201
    settlement = (await api.get("/accounts/settlement-kes")).json
    assert (settlement["type"], settlement["owner"]) == ("settlement", "system")


async def test_the_violations_of_an_account_are_named_at_once(api: Api) -> None:
    body = {"account_id": " x", "owner": "", "type": "settlement", "currency": "ngn", "limit": 5}
    answer = await api.post("/accounts", body)
    assert {error["pointer"]: error["code"] for error in answer.json["errors"]} == {
        "/account_id": "id_malformed", "/owner": "text_malformed", "/type": "account_type_unknown",
        "/currency": "currency_unknown", "/limit": "field_unknown",
    }  # fmt: skip


async def test_a_new_account_has_an_empty_page_of_entries(api: Api) -> None:
    body = account_body()
    await api.post("/accounts", body)
    answer = await api.get(f"/accounts/{body['account_id']}/entries")
    assert answer.json == {"data": [], "has_more": False, "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "query_malformed"), ("limit=101", "query_malformed"), ("limit=x", "query_malformed"),
        ("limit=99999999999999999999", "query_malformed"), ("cursor=x", "cursor_malformed"),
        ("cursor=%00", "cursor_malformed"), ("cursor=WyJhIiwxLDJd", "cursor_malformed"),
    ],
)  # fmt: skip
async def test_a_page_is_asked_for_in_order(api: Api, query: str, code: str) -> None:
    body = account_body()
    await api.post("/accounts", body)
    assert (await api.get(f"/accounts/{body['account_id']}/entries?{query}")).code == code


async def test_a_secret_is_shown_once_and_kept_sealed(api: Api, settings: Settings, admin_pool: Pool) -> None:
    key, body = uuid.uuid4().hex, {"url": "https://example.com/hooks", "events": ["ledger.*"]}
    first = await api.post("/webhooks/endpoints", body, key=key)
    assert first.status == 201
    secret = parse_secret(first.json["secret"])
    again = await api.post("/webhooks/endpoints", body, key=key)
    assert (again.status, again.json) == (201, first.json | {"secret": None})
    sealed = await admin_pool.fetchval("select secrets[1] from zentra.endpoints where id = $1", first.json["id"])
    assert secret not in sealed
    assert Sealer(settings.secret_bytes()).open(sealed) == secret
    stored = await admin_pool.fetchval("select answer from zentra.idempotency where key = $1", key)
    assert b"whsec_" not in stored
    shown = (await api.get("/webhooks/endpoints")).json["data"]
    assert [one["events"] for one in shown if one["id"] == first.json["id"]] == [["ledger.*"]]
    assert "secret" not in shown[0]


async def test_an_endpoint_gets_the_usual_events_unless_it_says(api: Api) -> None:
    answer = await api.post("/webhooks/endpoints", {"url": "http://127.0.0.1:9/hooks"})
    assert answer.json["events"] == [
        "ledger.posted", "ledger.released", "ledger.reversal", "policy.review", "policy.denied",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"/url": "field_missing"}),
        ({"url": "ftp://x/"}, {"/url": "url_malformed"}),
        ({"url": "https://user@x/"}, {"/url": "url_malformed"}),
        ({"url": "https://"}, {"/url": "url_malformed"}),
        ({"url": "https://x:99999/"}, {"/url": "url_malformed"}),
        ({"url": "https://x/ y"}, {"/url": "url_malformed"}),
        ({"url": "https://a..b/"}, {"/url": "url_malformed"}),
        ({"url": f"https://{'a' * 64}.b/"}, {"/url": "url_malformed"}),
        ({"url": "https://x/", "events": []}, {"/events": "field_type"}),
        ({"url": "https://x/", "events": ["a", "Ledger"]}, {"/events/1": "event_filter_malformed"}),
        ({"url": "https://x/", "events": "*"}, {"/events": "field_type"}),
    ],
)
async def test_an_endpoint_has_a_url_and_filters(api: Api, body: object, errors: dict[str, str]) -> None:
    answer = await api.post("/webhooks/endpoints", body)
    assert answer.code == "validation_failed"
    assert {error["pointer"]: error["code"] for error in answer.json["errors"]} == errors


async def test_empty_lists_are_lists(api: Api) -> None:
    operator = api.as_("operator", "globex")
    for target in ("/reviews", "/reviews?status=open", "/cases?status=resolved&limit=1", "/webhooks/deliveries"):
        assert (await operator.get(target)).json == {"data": [], "has_more": False, "next_cursor": None}
    for target in ("/reviews?status=x", "/cases?status=approved", "/denials?limit=x"):
        assert (await operator.get(target)).code == "query_malformed"
