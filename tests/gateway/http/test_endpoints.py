"""Webhook endpoints over HTTP: how they are changed, switched off and on, how secrets rotate, and what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.gateway.asgi import Answer, call
from tests.gateway.http.conftest import Api
from zentra.gateway.sealing import Sealer
from zentra.gateway.settings import Settings
from zentra.runtime.webhooks.standard import DELAYS_SECONDS, parse_secret, public_key_text
from zentra.storage.engine.store import PostgresStore
from zentra.storage.pool import Pool

ENDPOINTS = "/webhooks/endpoints"


async def made(api: Api, **changes: Any) -> dict[str, Any]:
    answer = await api.post(ENDPOINTS, {"url": f"https://example.com/{uuid.uuid4().hex}", **changes})
    assert answer.status == 201, answer.json
    return dict(answer.json)


async def order(api: Api, endpoint: dict[str, Any], what: str, body: dict[str, Any] | None = None) -> Answer:
    return await api.post(f"{ENDPOINTS}/{endpoint['id']}/{what}", body or {})


async def test_an_endpoint_is_as_it_says_and_otherwise_as_usual(api: Api) -> None:
    usual = await made(api)
    shown = (await api.get(f"{ENDPOINTS}/{usual['id']}")).json
    assert (shown["mode"], shown["fifo"], shown["signatures"], shown["version"]) == ("full", False, ["v1"], 1)
    assert (shown["schedule"], shown["disable_after_seconds"]) == (list(DELAYS_SECONDS), 432_000)
    assert (shown["status"], shown["disabled_at"], shown["failing_since"], shown["sequence"]) == (
        "enabled", None, None, 0,
    )  # fmt: skip
    said = {"mode": "thin", "fifo": True, "schedule": [0, 30], "concurrency": 4, "per_second": 10,
            "disable_after_seconds": 0, "events": ["ledger.*", "webhook.endpoint_disabled"]}  # fmt: skip
    own = (await api.get(f"{ENDPOINTS}/{(await made(api, **said))['id']}")).json
    assert {name: own[name] for name in said} == said


@pytest.mark.parametrize(("body", "errors"), [
    ({"events": ["no.such.topic"]}, {"/events/0": "event_unknown"}),
    ({"events": ["ledger.*", "ledgers.*"]}, {"/events/1": "event_unknown"}),
    ({"events": ["webhook.delivered"]}, {"/events/0": "event_unknown"}),
    ({"mode": "slim"}, {"/mode": "mode_unknown"}),
    ({"api_version": "2025.01"}, {"/api_version": "api_version_unknown"}),
    ({"fifo": 1}, {"/fifo": "field_type"}),
    ({"signatures": ["v1a"]}, {"/signatures": "signature_unknown"}),
    ({"schedule": [0, -1]}, {"/schedule/1": "number_out_of_range"}),
    ({"schedule": [0] * 21}, {"/schedule": "field_type"}),
    ({"concurrency": 257}, {"/concurrency": "number_out_of_range"}),
    ({"per_second": True}, {"/per_second": "number_out_of_range"}),
    ({"disable_after_seconds": 60}, {"/disable_after_seconds": "number_out_of_range"}),
])  # fmt: skip
async def test_what_no_endpoint_can_be_is_refused_by_name(api: Api, body: dict[str, Any], errors: Any) -> None:
    endpoint = await made(api)
    for answer in (
        await api.post(ENDPOINTS, {"url": "https://x.test/", **body}),
        await order(api, endpoint, "amend", body),
    ):
        assert answer.code == "validation_failed"
        assert {one["pointer"]: one["code"] for one in answer.json["errors"]} == errors


async def test_an_endpoint_is_changed_once_per_key_and_only_as_it_was_seen(api: Api) -> None:
    endpoint, key = await made(api, mode="thin"), uuid.uuid4().hex
    target, change = (
        f"{ENDPOINTS}/{endpoint['id']}/amend",
        {"url": "https://example.com/new", "per_second": 5, "version": 1},
    )
    first = await api.post(target, change, key=key)
    again = await api.post(target, change, key=key)
    assert (first.status, first.json["url"], first.json["version"]) == (200, change["url"], 2)
    assert (first.json["mode"], first.json["per_second"]) == ("thin", 5)
    assert again.json == first.json
    assert (await api.post(target, {"fifo": True}, key=key)).code == "idempotency_key_reused"
    assert (await api.post(target, {"fifo": True, "version": 1})).code == "endpoint_changed"
    assert (await api.get(f"{ENDPOINTS}/{endpoint['id']}")).json["fifo"] is False
    assert (await api.post(target, {"fifo": True, "version": 2})).json["fifo"] is True
    assert (await api.post(target, {"version": 3})).code == "validation_failed"


async def test_an_endpoint_is_disabled_and_enabled_and_says_since_when(api: Api, writer_pool: Pool) -> None:
    endpoint = await made(api)
    store, name = PostgresStore(writer_pool), ("acme", endpoint["id"])
    assert (await order(api, endpoint, "enable")).code == "endpoint_status_conflict"
    disabled = (await order(api, endpoint, "disable")).json
    assert (disabled["status"], disabled["disabled_reason"], disabled["disabled_by"]) == (
        "disabled",
        "asked",
        "developer",
    )
    found = await store.configuration()
    assert name in found.endpoints_held
    assert endpoint["id"] not in {one.id for one in found.endpoints.get("acme", ())}
    assert (await order(api, endpoint, "disable")).code == "endpoint_status_conflict"
    enabled = (await order(api, endpoint, "enable")).json
    assert (enabled["status"], enabled["disabled_at"]) == ("enabled", None)
    assert enabled["recover"] == {"endpoint": endpoint["id"], "since": disabled["disabled_at"]}
    found = await store.configuration()
    assert name not in found.endpoints_held
    assert endpoint["id"] in {one.id for one in found.endpoints["acme"]}


async def test_a_rotated_secret_signs_for_a_while_and_three_at_the_most(
    api: Api, settings: Settings, writer_pool: Pool
) -> None:
    endpoint, sealer = await made(api), Sealer(settings.secret_bytes())
    secrets = [parse_secret(endpoint["secret"])]
    for live in (2, 3):
        answer = (await order(api, endpoint, "rotate", {"overlap_seconds": 600})).json
        secrets.insert(0, parse_secret(answer["secret"]))
        assert [one["expires_at"] is None for one in answer["secrets"]] == [True, *[False] * (live - 1)]
    assert (await order(api, endpoint, "rotate")).code == "secrets_too_many"
    stored = {one.id: one for one in (await PostgresStore(writer_pool).configuration()).endpoints["acme"]}[
        endpoint["id"]
    ]
    assert [sealer.open(one) for one in stored.secrets] == secrets
    assert len(set(stored.secrets_until)) == 3, "each has the end that it was given first"
    key = uuid.uuid4().hex
    target = f"{ENDPOINTS}/{endpoint['id']}/rotate"
    leaked = await api.post(target, {"overlap_seconds": 0}, key=key)
    assert len(leaked.json["secrets"]) == 1
    assert (await api.post(target, {"overlap_seconds": 0}, key=key)).json == leaked.json | {"secret": None}


async def test_a_public_key_stands_where_everybody_may_read_it(api: Api, settings: Settings, writer_pool: Pool) -> None:
    plain, signed = await made(api), await made(api, signatures=["v1", "v1a"])
    path = signed["links"]["keys"]
    assert path == f"/.well-known/webhook-keys/acme/{signed['id']}"
    open_to_all = await call(api.gateway.application, "GET", path)
    assert open_to_all.json["keys"] == signed["public_keys"]
    found = {one.id: one for one in (await PostgresStore(writer_pool).configuration()).endpoints["acme"]}
    seed = Sealer(settings.secret_bytes()).open(found[signed["id"]].keys[0])
    assert [one["key"] for one in signed["public_keys"]] == [public_key_text(seed)]
    rotated = (await order(api, signed, "rotate", {"signature": "v1a"})).json
    assert rotated["secret"] is None
    assert len((await call(api.gateway.application, "GET", path)).json["keys"]) == 2
    for nobody in (plain["links"]["keys"], path.replace("acme", "globex"), path.replace("acme", "No!"), path + "x"):
        assert (await call(api.gateway.application, "GET", nobody)).status == 404
    turned = (await order(api, plain, "amend", {"signatures": ["v1", "v1a"]})).json
    assert len(turned["public_keys"]) == 1


async def test_a_deleted_endpoint_is_gone_with_its_secrets(api: Api, admin_pool: Pool, writer_pool: Pool) -> None:
    endpoint = await made(api, signatures=["v1", "v1a"])
    target = f"{ENDPOINTS}/{endpoint['id']}"
    for _ in range(2):
        assert (await api.delete(target)).json == {"id": endpoint["id"], "status": "deleted"}
    assert (await api.get(target)).status == 404
    for what in ("amend", "disable", "enable", "rotate"):
        assert (await order(api, endpoint, what, {"fifo": True} if what == "amend" else {})).status == 404
    assert endpoint["id"] not in [one["id"] for one in (await api.get(ENDPOINTS)).json["data"]]
    (row,) = await admin_pool.fetch("select secrets, keys from zentra.endpoints where id = $1", endpoint["id"])
    assert (row["secrets"], row["keys"]) == ([b""], [])
    found = await PostgresStore(writer_pool).configuration()
    assert ("acme", endpoint["id"]) not in found.endpoints_held
