"""Webhook endpoints over HTTP: how they are changed, switched off and on, how secrets rotate, and what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from tests.gateway.asgi import Answer, call
from tests.gateway.http.conftest import Api, Keys, intent_body
from tests.gateway.http.test_deliveries import delivery_to
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.outward.http import AddressGuard, AddressRefused, refusal_told, webhook_policy
from zentra.gateway.sealing import Sealer
from zentra.gateway.settings import Settings
from zentra.runtime.webhooks.delivery import TELL_OF_ENDPOINT, EndpointSwitched
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


async def test_who_disables_or_enables_an_endpoint_has_it_told_of_once_and_in_the_same_commit(
    api: Api, admin_pool: Pool
) -> None:
    intents = [(await api.post("/runtime/intents", intent_body())).json for _ in range(3)]
    endpoint = await made(api)
    ages = ((200.0, (("automatic", 200),)), (100.0, (("automatic", 503), ("automatic", None))), (1.0, ()))
    met = [
        await delivery_to(admin_pool, endpoint["id"], intent, "retrying", age=age, attempts=attempts)
        for intent, (age, attempts) in zip(intents, ages, strict=True)
    ]
    asked = [await order(api, endpoint, what) for what in ("disable", "enable")]
    assert [answer.status for answer in asked] == [200, 200]
    assert (await order(api, endpoint, "enable")).status == 409  # what is refused is not told of
    given = await admin_pool.fetch(
        "select subject, principal, role, body from zentra.commands"
        " where tenant = 'acme' and kind = $1 and convert_from(body, 'utf8') like $2 order by created_at",
        TELL_OF_ENDPOINT, f"%{endpoint['id']}%",
    )  # fmt: skip
    assert [(row["subject"], row["principal"], row["role"]) for row in given] == [
        (intents[1]["id"], "developer", "developer")
    ] * 2
    bodies = [msgspec.json.decode(row["body"], type=EndpointSwitched) for row in given]
    assert bodies == [
        EndpointSwitched(endpoint["id"], enabled, met[1], "ledger.posted", 2, None, "timeout")
        for enabled in (False, True)
    ]


async def test_an_endpoint_that_nothing_was_made_for_is_disabled_and_there_is_nothing_to_tell_of(
    api: Api, admin_pool: Pool
) -> None:
    endpoint = await made(api)
    assert (await order(api, endpoint, "disable")).json["disabled_by"] == "developer"
    told = "select count(*) from zentra.commands where convert_from(body, 'utf8') like $1"
    assert await admin_pool.fetchval(told, f"%{endpoint['id']}%") == 0


async def test_one_endpoint_too_many_is_refused_with_the_limit_and_the_way_out(api: Api, admin_pool: Pool) -> None:
    held = await admin_pool.fetchval(
        "select count(*) from zentra.endpoints where tenant = 'acme' and status <> 'deleted'"
    )
    for _ in range(100 - held):
        await made(api)
    answer = await api.post(ENDPOINTS, {"url": "https://example.com/one-more"})
    assert (answer.status, answer.json["code"]) == (409, "endpoints_too_many")
    assert "100 may be" in answer.json["detail"]
    assert "delete one" in answer.json["detail"]


@pytest.mark.parametrize(("url", "says"), [
    ("https://example.com:8080/hooks", "443 or 8443"),
    ("https://93.184.216.34/hooks", "ZENTRA_WEBHOOK_NETWORKS"),
    ("https://2130706433/hooks", "a name in the place of the address"),
    ("https://10.2.0.1/hooks", "private"),
    ("https://169.254.169.254/latest/meta-data", "link_local"),
    ("https://metadata.google.internal/", "metadata"),
])  # fmt: skip
async def test_a_url_that_no_attempt_may_call_is_refused_when_it_is_given(
    settings: Settings, keys: Keys, url: str, says: str
) -> None:
    live = msgspec.structs.replace(
        settings, private_addresses=False, webhook_networks="10.1.0.0/16", webhook_names="hooks.internal"
    )
    async with GatewayApp.opened(live) as gateway:
        api = Api(gateway, keys, "globex")
        endpoint = await made(api, url="https://hooks.internal:9000/x")
        assert (await made(api, url="https://10.1.2.3/x"))["status"] == "enabled"
        for answer in (await api.post(ENDPOINTS, {"url": url}), await order(api, endpoint, "amend", {"url": url})):
            (error,) = answer.json["errors"]
            assert (answer.code, error["pointer"], error["code"]) == ("validation_failed", "/url", "url_refused")
            assert says in error["detail"]


def test_where_only_https_is_called_the_refusal_says_so() -> None:
    with pytest.raises(AddressRefused) as caught:
        AddressGuard(webhook_policy(allow_private=False, https_only=True)).vet_url("http://example.com/hooks")
    assert "https only" in refusal_told(caught.value)
