"""Who may do what, and what they learn about what is not theirs: nothing, on every route; and every refusal is kept."""

from __future__ import annotations

import uuid

import asyncpg
import msgspec
import pytest

from tests.gateway.asgi import call
from tests.gateway.http.conftest import ROLES, Api, Keys, intent_body
from zentra.gateway.http.auth import ROLES as PERMISSIONS
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.storage.pool import Pool

# Method, path with the id of something, body.
DOORS_TO_AN_INTENT = [
    ("GET", "/runtime/intents/{id}", None),
    ("GET", "/runtime/intents/{id}/events", None),
    ("GET", "/runtime/intents/{id}/evidence", None),
    ("POST", "/runtime/intents/{id}/cancel", {}),
    ("POST", "/runtime/intents/{id}/reversals", {"reason": "x"}),
    ("GET", "/webhooks/deliveries?intent={id}", None),
]
DOORS_TO_A_UUID = [
    ("GET", "/runtime/commands/{id}", None),
    ("GET", "/reviews/{id}", None),
    ("POST", "/reviews/{id}/approve", {"reason": "x"}),
    ("POST", "/reviews/{id}/reject", {"reason": "x"}),
    ("POST", "/reviews/{id}/assign", {}),
    ("POST", "/reviews/{id}/comments", {"text": "x"}),
    ("POST", "/reviews/{id}/escalate", {"reason": "x"}),
    ("GET", "/approvals/{id}", None),
    ("POST", "/approvals/{id}/approve", {"reason": "x"}),
    ("POST", "/approvals/{id}/reject", {"reason": "x"}),
    ("POST", "/approvals/{id}/cancel", {"reason": "x"}),
    ("GET", "/cases/{id}", None),
    ("POST", "/cases/{id}/resolve", {"resolution": "retry", "reason": "x"}),
    ("POST", "/webhooks/deliveries/{id}/replay", None),
    ("GET", "/evidence/exports/{id}", None),
    ("GET", "/evidence/exports/{id}/content", None),
    ("GET", "/accounts/{id}", None),
    ("GET", "/accounts/{id}/entries", None),
]


async def ask(api: Api, method: str, target: str, body: object) -> tuple[int, object]:
    answer = await (api.get(target) if method == "GET" else api.post(target, body))
    shown = answer.json
    for name in ("request_id", "trace_id", "instance"):
        del shown[name]
    return answer.status, shown


@pytest.mark.parametrize(("method", "target", "body"), DOORS_TO_AN_INTENT)
async def test_a_foreign_intent_is_as_unknown_as_none(api: Api, method: str, target: str, body: object) -> None:
    made = (await api.post("/runtime/intents", intent_body())).json
    stranger = api.as_("operator", "globex")
    given = [made["id"], made["intent_id"], uuid.uuid4().hex, "no-such-intent", "-", "%", "x" * 200]
    answers = [await ask(stranger, method, target.format(id=one), body) for one in given]
    assert {status for status, _ in answers} == {404}
    assert all(shown == answers[0][1] for _, shown in answers)


@pytest.mark.parametrize(("method", "target", "body"), DOORS_TO_A_UUID)
async def test_an_unknown_id_is_not_found_however_it_is_spelt(api: Api, method: str, target: str, body: object) -> None:
    given = [uuid.uuid4().hex, str(uuid.uuid4()), "no-such-thing", "x" * 200, "caf\xe9\x00"]
    answers = [await ask(api.as_("operator"), method, target.format(id=one), body) for one in given]
    assert {status for status, _ in answers} == {404}
    assert all(shown == answers[0][1] for _, shown in answers)


async def test_accounts_of_another_tenant_are_not_there(api: Api) -> None:
    account = f"a-{uuid.uuid4().hex}"
    body = {"account_id": account, "owner": "o", "type": "customer", "currency": "NGN"}
    assert (await api.post("/accounts", body)).status == 201
    stranger = api.as_("admin", "globex")
    assert (await stranger.get(f"/accounts/{account}")).code == "not_found"
    assert (await stranger.get(f"/accounts/{account}/entries")).code == "not_found"
    assert (await stranger.post("/accounts", body | {"currency": "USD"})).status == 201, "ids are per tenant"


async def test_lists_show_what_is_the_tenants(api: Api) -> None:
    made = await api.post("/webhooks/endpoints", {"url": "https://example.com/hooks"})
    theirs = (await api.as_("admin", "globex").get("/webhooks/endpoints")).json["data"]
    assert made.json["id"] not in [endpoint["id"] for endpoint in theirs]


DOORS = [
    ("POST", "/runtime/intents", "intents:create"),
    ("POST", "/transfers", "intents:create"),
    ("POST", "/payments", "intents:create"),
    ("GET", "/runtime/intents", "intents:read"),
    ("GET", "/runtime/events", "intents:read"),
    ("GET", "/runtime/intents/x", "intents:read"),
    ("GET", "/runtime/intents/x/events", "intents:read"),
    ("GET", "/runtime/intents/x/evidence", "evidence:read"),
    ("POST", "/runtime/intents/x/cancel", "intents:cancel"),
    ("POST", "/runtime/intents/x/reversals", "intents:reverse"),
    ("GET", "/runtime/commands/x", "intents:read"),
    ("POST", "/evidence/exports", "evidence:read"),
    ("GET", "/evidence/exports/jobs", "evidence:read"),
    ("GET", "/evidence/exports/x", "evidence:read"),
    ("GET", "/evidence/exports/x/content", "evidence:read"),
    ("POST", "/accounts", "accounts:create"),
    ("GET", "/accounts", "accounts:read"),
    ("GET", "/accounts/x", "accounts:read"),
    ("GET", "/accounts/x/entries", "accounts:read"),
    ("GET", "/reviews", "reviews:read"),
    ("GET", "/reviews/x", "reviews:read"),
    ("POST", "/reviews/x/approve", "reviews:decide"),
    ("POST", "/reviews/x/reject", "reviews:decide"),
    ("GET", "/reviews/counts", "reviews:read"),
    ("POST", "/reviews/claim", "reviews:decide"),
    ("POST", "/reviews/decisions", "reviews:decide"),
    ("POST", "/reviews/x/assign", "reviews:decide"),
    ("POST", "/reviews/x/comments", "reviews:comment"),
    ("POST", "/reviews/x/escalate", "reviews:decide"),
    ("GET", "/approvals", "approvals:read"),
    ("POST", "/approvals", "approvals:request"),
    ("GET", "/approvals/x", "approvals:read"),
    ("POST", "/approvals/x/approve", "approvals:decide"),
    ("POST", "/approvals/x/reject", "approvals:decide"),
    ("POST", "/approvals/x/cancel", "approvals:request"),
    ("GET", "/cases", "cases:read"),
    ("GET", "/cases/x", "cases:read"),
    ("POST", "/cases/x/resolve", "cases:resolve"),
    ("GET", "/denials", "denials:read"),
    ("POST", "/webhooks/endpoints", "endpoints:create"),
    ("GET", "/webhooks/endpoints", "endpoints:read"),
    ("GET", "/webhooks/endpoints/x", "endpoints:read"),
    *[
        ("POST", f"/webhooks/endpoints/x/{change}", "endpoints:create")
        for change in ("amend", "disable", "enable", "rotate")
    ],
    ("GET", "/webhooks/deliveries", "deliveries:read"),
    ("POST", "/webhooks/deliveries/x/replay", "deliveries:replay"),
]


async def test_every_role_enters_the_doors_of_its_row(api: Api) -> None:
    for role in ROLES:
        for method, target, permission in DOORS:
            somebody = api.as_(role)
            answer = await (somebody.get(target) if method == "GET" else somebody.post(target, b"[]"))
            assert (answer.status == 403) is (permission not in PERMISSIONS[role]), (role, method, target)


async def test_every_door_but_these_needs_a_key(gateway: GatewayApp) -> None:
    for method, target, _ in DOORS:
        assert (await call(gateway.application, method, target, b"{}")).status == 401
    for target in ("/livez", "/readyz", "/metrics", "/version", "/problems/not_found"):
        assert (await call(gateway.application, "GET", target)).status == 200


async def test_a_revoked_key_is_refused_by_name(gateway: GatewayApp, keys: Keys) -> None:
    headers = {"authorization": f"Bearer {keys.revoked}"}
    assert (await call(gateway.application, "GET", "/reviews", headers=headers)).code == "key_revoked"


async def denials_of(pool: Pool, tenant: str, request_id: str) -> list[tuple[str, str, str, str, int]]:
    rows = await pool.fetch(
        "select actor, role, action, reason, count from zentra.denials where tenant = $1 and request_id = $2",
        tenant, request_id,
    )  # fmt: skip
    return [tuple(row) for row in rows]


async def test_refusals_are_kept_and_counted_under_the_template(
    settings: Settings, keys: Keys, admin_pool: Pool
) -> None:
    last = uuid.uuid4().hex
    async with GatewayApp.opened(settings) as gateway:
        api = Api(gateway, keys, "globex", "support")
        for number in range(3):
            request_id = last if number == 2 else uuid.uuid4().hex
            await api.get(f"/runtime/intents/nothing-{number}", x_request_id=request_id)
            await api.post("/runtime/intents", {}, x_request_id=request_id)
        await call(gateway.application, "GET", "/denials", headers={"x-request-id": last, "authorization": "Bearer x"})
    # Closing the gateway has written everything.
    assert sorted(await denials_of(admin_pool, "globex", last)) == [
        ("support", "support", "GET /runtime/intents/{id}", "not_found", 3),
        ("support", "support", "POST /runtime/intents", "permission_denied", 3),
    ]
    assert await denials_of(admin_pool, "-", last) == [("-", "-", "GET /denials", "key_invalid", 1)]


async def test_a_tenant_sees_its_own_denials(api: Api) -> None:
    request_id = uuid.uuid4().hex
    await api.as_("finance").get("/webhooks/endpoints", x_request_id=request_id)
    auditor = api.as_("auditor")
    while True:
        rows = (await auditor.get("/denials?limit=100")).json["data"]
        if any(row["request_id"] == request_id for row in rows):
            break
    row = next(row for row in rows if row["request_id"] == request_id)
    assert (row["actor"], row["role"], row["action"], row["reason"], row["count"] > 0) == (
        "finance", "finance", "GET /webhooks/endpoints", "permission_denied", True,
    )  # fmt: skip
    others = (await api.as_("auditor", "globex").get("/denials?limit=100")).json["data"]
    assert request_id not in [row["request_id"] for row in others]


async def test_the_pools_role_sees_nothing_without_a_tenant(tenant_pool: Pool, api: Api) -> None:
    await api.post("/runtime/intents", intent_body())
    for table in ("intents", "transitions", "idempotency", "denials", "accounts", "endpoints", "commands", "callbacks"):
        assert await tenant_pool.fetch(f"select * from zentra.{table}") == [], table
    for table in ("api_keys", "outbox", "rails", "leases", "timers"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await tenant_pool.fetch(f"select * from zentra.{table}")


async def test_a_problem_page_says_what_a_code_means(gateway: GatewayApp) -> None:
    answer = await call(gateway.application, "GET", "/problems/not_cancellable")
    assert msgspec.json.decode(answer.body)["status"] == 409
    assert (await call(gateway.application, "GET", "/problems/x")).code == "route_not_found"
