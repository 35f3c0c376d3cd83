"""Keys, tokens and limits in front of a running gateway: what each opens, and what is kept of each refusal."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from tests.gateway.asgi import Answer, call
from tests.gateway.http.conftest import Api, Keys, intent_body
from zentra.gateway.http import auth
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.listening import listening
from zentra.gateway.settings import Settings, SettingsError
from zentra.runtime.limits import Per, Quota, RouteClass
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool

KEY = OKPKey.generate_key("Ed25519", {"kid": "ed"}, auto_kid=False)
KEY_SET = json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()


@pytest.fixture
async def administration(admin_pool: Pool, keys: Keys) -> Administration:
    return Administration(admin_pool)


async def look(gateway: GatewayApp, key: str, **scope: Any) -> Answer:
    """Ask for an intent that is not there: 404 is being let in."""

    async def app(given: Any, receive: Any, send: Any) -> None:
        await gateway.application({**given, **scope}, receive, send)

    return await call(app, "GET", "/runtime/intents/unknown", headers={"authorization": f"Bearer {key}"})


async def denial(admin_pool: Pool, reason: str) -> tuple[str, ...]:
    """Return the tenant, actor and role of the latest refusal for a reason, once it is written."""
    statement = "select tenant, actor, role from denials where reason = $1 order by last_at desc limit 1"
    async with asyncio.timeout(5):
        while (row := await admin_pool.fetchrow(statement, reason)) is None:
            await asyncio.sleep(0.01)
    return tuple(row)


async def test_a_key_does_what_its_scopes_allow(gateway: GatewayApp, administration: Administration) -> None:
    narrow = await administration.create_api_key("acme", "developer", scopes=["accounts:read"])
    assert (await look(gateway, narrow.text)).code == "permission_denied"
    wide = await administration.create_api_key("acme", "finance", scopes=["intents:read", "intents:create"])
    assert (await look(gateway, wide.text)).code == "not_found"
    headers = {"authorization": f"Bearer {wide.text}"}
    refused = await call(gateway.application, "POST", "/runtime/intents", intent_body(), headers)
    assert refused.code == "permission_denied", "no scope widens a role"


async def test_a_key_works_from_its_networks_only(
    gateway: GatewayApp, administration: Administration, admin_pool: Pool
) -> None:
    issued = await administration.create_api_key("acme", "developer", networks=["192.0.2.0/24", "2001:db8::/32"])
    for address, code in (
        ("192.0.2.7", "not_found"), ("2001:db8::1", "not_found"), ("198.51.100.1", "network_refused"),
        ("unreadable", "network_refused"),
    ):  # fmt: skip
        assert (await look(gateway, issued.text, client=(address, 1))).code == code
    assert (await look(gateway, issued.text)).code == "network_refused"
    assert await denial(admin_pool, "network_refused") == ("acme", "developer", "developer")


async def test_both_keys_work_while_they_overlap_and_then_the_new_one_alone(
    settings: Settings, administration: Administration
) -> None:
    old = await administration.create_api_key("acme", "developer")
    new = await administration.rotate_api_key("acme", old.id, overlap=timedelta(hours=1))
    async with GatewayApp.opened(settings) as gateway:
        assert [(await look(gateway, key.text)).status for key in (old, new)] == [404, 404]
    newer = await administration.rotate_api_key("acme", new.id, overlap=timedelta(0))
    async with GatewayApp.opened(settings) as gateway:
        assert (await look(gateway, new.text)).code == "key_expired"
        assert [(await look(gateway, key.text)).status for key in (old, newer)] == [404, 404]


async def test_a_revocation_reaches_every_gateway_within_five_seconds(
    settings: Settings, administration: Administration, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert auth.REMEMBERED_SECONDS_MAX == 5
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS_MAX", 0.5)
    issued = await administration.create_api_key("acme", "developer")
    async with GatewayApp.opened(settings) as first, GatewayApp.opened(settings) as second:
        assert [(await look(gateway, issued.text)).status for gateway in (first, second)] == [404, 404]
        await administration.revoke_api_key("acme", issued.id)
        began = time.monotonic()
        for gateway in (first, second):
            while (await look(gateway, issued.text)).status == 404:
                assert time.monotonic() - began < 5
        assert [(await look(gateway, issued.text)).code for gateway in (first, second)] == ["key_revoked"] * 2


async def test_a_revoked_key_gets_no_answer_again(settings: Settings, administration: Administration) -> None:
    """What a key was answered once is not its own for ever: the replay is behind the door like everything else."""
    issued = await administration.create_api_key("acme", "developer")
    headers = {"authorization": f"Bearer {issued.text}", "x-idempotency-key": uuid.uuid4().hex}
    body = intent_body()
    async with GatewayApp.opened(settings) as gateway:
        first, again = [await call(gateway.application, "POST", "/runtime/intents", body, headers) for _ in range(2)]
        assert (first.status, again.body) == (202, first.body)
    await administration.revoke_api_key("acme", issued.id)
    async with GatewayApp.opened(settings) as gateway:
        refused = await call(gateway.application, "POST", "/runtime/intents", body, headers)
    assert (refused.status, refused.code) == (401, "key_revoked")
    assert first.json["id"].encode() not in refused.body


async def test_who_is_disabled_opens_nothing(
    gateway: GatewayApp, administration: Administration, admin_pool: Pool
) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    await administration.create_principal("acme", name, name=name, role="developer")
    issued = await administration.create_api_key("acme", name)
    await administration.disable_principal("acme", name)
    assert (await look(gateway, issued.text)).code == "principal_disabled"
    assert await denial(admin_pool, "principal_disabled") == ("acme", name, "developer")


async def test_the_last_use_of_a_key_is_kept_when_the_gateway_ends(
    settings: Settings, administration: Administration
) -> None:
    issued = await administration.create_api_key("acme", "developer")
    before = datetime.now(UTC)
    async with GatewayApp.opened(settings) as gateway:
        await look(gateway, issued.text)
    used = {key.id: key.last_used_at for key in await administration.api_keys("acme")}[issued.id]
    assert used is not None
    assert before <= used <= datetime.now(UTC)


# Two worlds.


async def test_a_live_key_sees_nothing_of_the_test_world_and_a_test_key_nothing_of_the_live_one(
    gateway: GatewayApp, api: Api, administration: Administration
) -> None:
    await administration.create_tenant("acme-live", "Acme", mode="live")
    await administration.create_principal("acme-live", "admin", name="Admin", role="admin")
    live = (await administration.create_api_key("acme-live", "admin")).text
    test = api.keys.of("acme", "admin")
    assert (live[:8], test[:8]) == ("zk_live_", "zk_test_")

    async def ask(key: str, method: str, path: str, body: object = None) -> Answer:
        headers = {"authorization": f"Bearer {key}", "x-idempotency-key": uuid.uuid4().hex}
        return await call(gateway.application, method, path, body, headers)

    made = {}
    for world, key in (("test", test), ("live", live)):
        account = f"a-{uuid.uuid4().hex}"
        body = {"account_id": account, "owner": "o", "type": "customer", "currency": "NGN"}
        assert (await ask(key, "POST", "/accounts", body)).status == 201
        intent = (await ask(key, "POST", "/runtime/intents", intent_body())).json["intent_id"]
        endpoint = (await ask(key, "POST", "/webhooks/endpoints", {"url": "https://example.com/hooks"})).json["id"]
        made[world] = (account, intent, endpoint)
    for key, own, other in ((test, "test", "live"), (live, "live", "test")):
        for world, status in ((own, 200), (other, 404)):
            account, intent, _ = made[world]
            for path in (f"/accounts/{account}", f"/accounts/{account}/entries", f"/runtime/intents/{intent}"):
                assert (await ask(key, "GET", path)).status == status
        endpoints = {one["id"] for one in (await ask(key, "GET", "/webhooks/endpoints")).json["data"]}
        assert made[own][2] in endpoints
        assert made[other][2] not in endpoints


async def test_the_same_key_in_the_other_world_is_another_request(
    gateway: GatewayApp, api: Api, administration: Administration
) -> None:
    await administration.create_tenant("acme-live", "Acme", mode="live")
    await administration.create_principal("acme-live", "admin", name="Admin", role="admin")
    live = (await administration.create_api_key("acme-live", "admin")).text
    once, body = uuid.uuid4().hex, intent_body()
    answers = [
        await call(
            gateway.application, "POST", "/runtime/intents", body,
            {"authorization": f"Bearer {key}", "x-idempotency-key": once},
        )
        for key in (api.keys.of("acme", "admin"), live)
    ]  # fmt: skip
    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].json["id"] != answers[1].json["id"]
    assert "idempotent-replayed" not in answers[1].headers


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("zk_test_", "zk_live_"),
        lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
    ],
)
async def test_a_key_that_was_changed_is_no_key(gateway: GatewayApp, keys: Keys, change: Any) -> None:
    assert (await look(gateway, change(keys.of("acme", "developer")))).code == "key_invalid"


# Tokens.


def token(**changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "https://id.example", "aud": "zentra", "sub": "ada", "tenant": "acme", "role": "ops", "jti": "t",
        "iat": now, "exp": now + 300,
    } | changes  # fmt: skip
    return jwt.encode({"alg": "Ed25519", "kid": "ed"}, claims, KEY, algorithms=["Ed25519"])


def issuers(**changes: Any) -> str:
    issuer = {
        "issuer": "https://id.example", "audience": "zentra", "algorithms": ["Ed25519"], "tenants": ["acme"],
        "roles": {"ops": "operator", "look": "auditor"},
    }  # fmt: skip
    return msgspec.json.encode([issuer | changes]).decode()


@pytest.fixture(params=["file", "url"])
async def believing(
    request: pytest.FixtureRequest, settings: Settings, keys: Keys, tmp_path: Path
) -> AsyncIterator[GatewayApp]:
    """A gateway that believes one issuer, whose keys are in a file or behind a URL."""
    file = tmp_path / "jwks.json"
    file.write_bytes(KEY_SET)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": KEY_SET})
        else:
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})

    async with listening(serve) as base:
        place = {"jwks_file": str(file)} if request.param == "file" else {"jwks_url": f"{base}/jwks"}
        async with GatewayApp.opened(msgspec.structs.replace(settings, issuers=issuers(**place))) as gateway:
            yield gateway


async def test_a_token_is_somebody_of_a_tenant_and_its_intents_say_who(believing: GatewayApp, admin_pool: Pool) -> None:
    body = intent_body()
    headers = {"authorization": f"Bearer {token()}", "x-idempotency-key": uuid.uuid4().hex}
    assert (await call(believing.application, "POST", "/runtime/intents", body, headers)).status == 202
    row = await admin_pool.fetchrow(
        "select tenant, principal, role from intents where intent_id = $1", body["intent_id"]
    )
    assert row is not None
    assert tuple(row) == ("acme", "ada", "operator")
    assert (await look(believing, token(role="look"))).status == 404
    headers = {"authorization": f"Bearer {token(role='look')}", "x-idempotency-key": uuid.uuid4().hex}
    answer = await call(believing.application, "POST", "/runtime/intents", intent_body(), headers)
    assert answer.code == "permission_denied"


@pytest.mark.parametrize(
    ("changes", "code", "who"),
    [
        ({"exp": 1}, "token_expired", ("acme", "ada", "-")),
        ({"aud": "other"}, "token_audience_wrong", ("acme", "ada", "-")),
        ({"tenant": "globex"}, "token_tenant_refused", ("-", "ada", "-")),
        ({"role": "admin"}, "token_role_refused", ("acme", "ada", "-")),
        ({"iss": "https://evil.example"}, "token_issuer_unknown", ("-", "-", "-")),
    ],
)
async def test_a_worthless_token_is_a_denial(
    believing: GatewayApp, admin_pool: Pool, changes: Mapping[str, Any], code: str, who: tuple[str, ...]
) -> None:
    answer = await look(believing, token(**changes))
    assert (answer.status, answer.code, answer.headers["www-authenticate"]) == (401, code, 'Bearer realm="zentra"')
    assert await denial(admin_pool, code) == who


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "ZENTRA_ISSUERS"),
        (issuers(), "either jwks_url or jwks_file"),
        (issuers(jwks_file="/x", jwks_url="https://x"), "either jwks_url or jwks_file"),
        (issuers(jwks_url="ftp://x"), "https://"),
        (issuers(jwks_file="/x", algorithms=["HS256"]), "HS256"),
        (issuers(jwks_file="/x", algorithms=[]), "at least one"),
        (issuers(jwks_file="/x", roles={"ops": "king"}), "roles"),
        (issuers(jwks_file="/x", tenants=[]), "tenants"),
        (issuers(jwks_file="/x", audience=""), "audience"),
        (issuers(jwks_file="/x", leeway_seconds=600), "leeway"),
        (issuers(jwks_file="/x", tenant="acme"), "tenant"),
        (f"[{issuers(jwks_file='/x')[1:-1]},{issuers(jwks_file='/y')[1:-1]}]", "twice"),
    ],
)
async def test_an_issuer_that_is_described_wrongly_keeps_a_gateway_from_starting(
    settings: Settings, text: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        async with GatewayApp.opened(msgspec.structs.replace(settings, issuers=text)):
            raise AssertionError("it started")


# Limits.


async def limited_tenant(administration: Administration, quota: Quota, route_class: RouteClass) -> str:
    """Make a tenant with a limit of its own and return a key of it."""
    tenant = f"t{uuid.uuid4().hex[:8]}"
    await administration.create_tenant(tenant, tenant)
    await administration.create_principal(tenant, "dev", name="Dev", role="developer")
    await administration.put_rate_limit(tenant, route_class, Per.TENANT, quota)
    return (await administration.create_api_key(tenant, "dev")).text


async def test_beyond_the_limit_requests_are_told_when_to_come_back_and_kept(
    gateway: GatewayApp, administration: Administration, admin_pool: Pool
) -> None:
    key = await limited_tenant(administration, Quota(3, 3600), RouteClass.READ)
    answers = [await look(gateway, key) for _ in range(5)]
    assert [answer.status for answer in answers] == [404, 404, 404, 429, 429]
    assert answers[0].headers["ratelimit"] == '"read-tenant";r=2;t=1200'
    assert answers[0].headers["ratelimit-policy"] == '"read-tenant";q=3;w=3600, "read-key";q=100000;w=10'
    refused = answers[3]
    assert (refused.code, refused.json["retryable"]) == ("rate_limited", True)
    assert 1100 < int(refused.headers["retry-after"]) <= 1200
    assert refused.headers["ratelimit"].startswith('"read-tenant";r=0;t=')
    assert (await denial(admin_pool, "rate_limited"))[1:] == ("dev", "developer")
    body = {"account_id": "a", "owner": "o", "type": "customer", "currency": "NGN"}
    headers = {"authorization": f"Bearer {key}", "x-idempotency-key": uuid.uuid4().hex}
    assert (await call(gateway.application, "POST", "/accounts", body, headers)).status == 201, "another class"


async def test_of_many_intents_in_one_request_each_counts(gateway: GatewayApp, administration: Administration) -> None:
    key = await limited_tenant(administration, Quota(10, 3600), RouteClass.MONEY)

    async def send(count: int) -> Answer:
        body = [intent_body(idempotency_key=uuid.uuid4().hex) for _ in range(count)]
        return await call(
            gateway.application, "POST", "/runtime/intents/bulk", body, {"authorization": f"Bearer {key}"}
        )

    assert (await send(7)).status == 200
    assert (await send(7)).code == "rate_limited"


async def test_a_limit_that_cannot_be_read_keeps_a_gateway_from_starting(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="ZENTRA_RATE_MONEY"):
        async with GatewayApp.opened(msgspec.structs.replace(settings, rate_money="many")):
            raise AssertionError("it started")
