"""Nothing of another tenant can be found by trying: every route that takes an id, with ids of every sort of thing.

A foreign id and one of nobody get the same answer but for the ids of the request itself, and each try is a denial.
How long both take `python -m tests.gateway.http.timing` says: a figure, and no test that a busy machine could fail."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from tests.catalogue import declared_routes
from tests.gateway.asgi import Answer
from tests.gateway.http.conftest import Api, Keys, intent_body
from zentra.gateway.http.app import Route
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.storage.pool import Pool

GUARDED = [route for route in declared_routes() if route.permission is not None and "{" in route.template]
BODIES: Mapping[str, Any] = {
    "POST /runtime/intents/{id}/reversals": {"reason": "x"},
    "POST /holds/{id}/captures": {"amount": "full"},
    "POST /holds/{id}/void": {"reason": "x"},
    "POST /reviews/{id}/approve": {"reason": "x"},
    "POST /reviews/{id}/reject": {"reason": "x"},
    "POST /reviews/{id}/assign": {},
    "POST /reviews/{id}/comments": {"text": "x"},
    "POST /reviews/{id}/escalate": {"reason": "x"},
    "POST /approvals/{id}/approve": {"reason": "x"},
    "POST /approvals/{id}/reject": {"reason": "x"},
    "POST /approvals/{id}/cancel": {"reason": "x"},
    "POST /cases/{id}/resolve": {"resolution": "retry", "reason": "x"},
    "POST /accounts/{id}/freeze": {"reason": "x"},
    "POST /accounts/{id}/unfreeze": {"reason": "x"},
    "POST /accounts/{id}/close": {"reason": "x"},
    "POST /accounts/{id}/reopen": {"reason": "x"},
    "POST /accounts/{id}/limit": {"overdraft_limit": 5, "reason": "x"},
    "POST /accounts/{id}/numbers": {"scheme": "virtual"},
    "POST /accounts/{id}/monitors": {"of": "available", "when": "below", "minor": 5},
    "POST /webhooks/endpoints/{id}/recover": {"since": "2026-01-01T00:00:00Z"},
    "POST /parties/{id}/amend": {"countries": ["XA"], "reason": "x"},
    "POST /parties/{id}/kyc": {"state": "approved", "reason": "x"},
    "POST /parties/{id}/rescreen": {"reason": "x"},
    "POST /webhooks/endpoints/{id}/amend": {"fifo": True},
}
OWN = ("request_id", "trace_id", "instance")
WRITTEN = (
    "intents", "idempotency", "commands", "review_decisions", "approvals", "accounts", "endpoints", "holds", "parties",
    "party_changes", "account_changes", "account_numbers", "account_monitors",
)  # fmt: skip
UNKNOWN = ("0" * 32, "no-such-thing")


def webhook_of(made: Mapping[str, Any]) -> bytes:
    """Return what an endpoint would be sent about an intent that was just made."""
    data = {name: made[name] for name in ("id", "intent_id", "status", "kind", "currency")} | {
        "object_version": 1, "step": None, "amount": str(made["amount"]), "source": "customer-1",
        "destination": "merchant-1", "scope": "default", "metadata": {}, "trace_id": "0" * 32,
    }  # fmt: skip
    return msgspec.json.encode({"type": "ledger.posted", "timestamp": made["created_at"], "data": data})


async def things_of(api: Api, admin_pool: Pool) -> dict[str, str]:
    """Return an id of everything that acme has, by what it is."""
    made = (await api.post("/runtime/intents", intent_body())).json
    command = await api.post(f"/runtime/intents/{made['id']}/cancel", prefer="wait=0")
    hold = (await api.post("/holds", intent_body())).json
    account, case, delivery = (uuid.uuid4().hex for _ in range(3))
    body = {"account_id": account, "owner": "o", "type": "customer", "currency": "NGN"}
    assert (await api.as_("admin").post("/accounts", body)).status == 201
    number = await api.as_("admin").post(f"/accounts/{account}/numbers", {"scheme": "virtual"})
    monitor = await api.as_("admin").post(f"/accounts/{account}/monitors", BODIES["POST /accounts/{id}/monitors"])
    party = {"party_id": f"p{account}", "kind": "person", "legal_name": "Ulrika Denholm"}
    assert (await api.as_("admin").post("/parties", party)).status == 201
    endpoint = await api.as_("admin").post("/webhooks/endpoints", {"url": f"https://example.com/{account}"})
    await admin_pool.execute(
        "insert into zentra.reviews (id, tenant, intent_id, created_by, rules, version, status, opened_at, expires_at)"
        " values ($1, 'acme', $2, 'developer', '[]', 1, 'open', now(), now() + interval '1 hour')",
        made["id"], made["intent_id"],
    )  # fmt: skip
    await admin_pool.execute(
        "insert into zentra.cases (id, tenant, intent, intent_id, kind, status, detail, opened_at, deadline)"
        " values ($1, 'acme', $2, $3, 'rail_silent', 'open', '{}', now(), now() + interval '1 hour')",
        case, made["id"], made["intent_id"],
    )  # fmt: skip
    await admin_pool.execute(
        "insert into zentra.deliveries (id, tenant, endpoint, intent, sequence, event, body, created_at)"
        " values ($1, 'acme', $2, $3, 1, 'ledger.posted', $4, now())",
        delivery, endpoint.json["id"], made["id"], webhook_of(made),
    )  # fmt: skip
    asked = {"kind": "configuration", "subject": "limits", "request": {"a": 1}, "reason": "x"}
    approval = (await api.post("/approvals", asked)).json["id"]
    return {
        "approval": approval,
        "intent": made["id"], "intent_id": made["intent_id"], "command": command.json["command"], "account": account,
        "hold": hold["id"], "review": made["id"], "case": case, "delivery": delivery, "endpoint": endpoint.json["id"],
        "number": f"virtual:{number.json['number']}", "monitor": monitor.json["monitor"],
        "party": party["party_id"],
    }  # fmt: skip


def said(answer: Answer) -> tuple[int, bytes, frozenset[tuple[str, str]]]:
    """Return what an answer says, without what is of the request itself or counts requests."""
    body = {name: value for name, value in answer.json.items() if name not in OWN}
    headers = frozenset(
        (name, value)
        for name, value in answer.headers.items()
        if name not in ("x-request-id", "content-length", "ratelimit")
    )
    return answer.status, msgspec.json.encode(body), headers


async def ask(api: Api, route: Route, given: str) -> Answer:
    target = re.sub(r"\{\w+\}", given, route.template)
    if route.method == "DELETE":
        return await api.delete(target)
    return await (api.get(target) if route.method == "GET" else api.post(target, BODIES.get(route.action, {})))


async def test_the_owner_finds_each_of_them(gateway: GatewayApp, keys: Keys, admin_pool: Pool) -> None:
    """Otherwise what is tried below would be unknown to everybody."""
    api = Api(gateway, keys)
    things = await things_of(api, admin_pool)
    for path, thing in (
        ("/runtime/intents/{}", "intent"), ("/runtime/intents/{}", "intent_id"), ("/runtime/commands/{}", "command"),
        ("/accounts/{}", "account"), ("/reviews/{}", "review"), ("/cases/{}", "case"), ("/approvals/{}", "approval"),
        ("/webhooks/endpoints/{}", "endpoint"),
        ("/holds/{}", "hold"), ("/parties/{}", "party"), ("/parties/{}/history", "party"),
    ):  # fmt: skip
        assert (await api.as_("admin").get(path.format(things[thing]))).status == 200, path
    deliveries = (await api.as_("admin").get(f"/webhooks/deliveries?intent={things['intent']}")).json["data"]
    assert [row["id"].replace("-", "") for row in deliveries] == [things["delivery"]]


async def test_every_route_answers_every_foreign_id_like_one_that_is_nobodys_and_keeps_the_try(
    settings: Settings, keys: Keys, admin_pool: Pool
) -> None:
    async with GatewayApp.opened(settings) as gateway:
        acme, stranger = Api(gateway, keys), Api(gateway, keys, "globex", "admin")
        things = await things_of(acme, admin_pool)
        before = {table: await admin_pool.fetchval(f"select count(*) from zentra.{table}") for table in WRITTEN}
        for route in GUARDED:
            unknown = {said(await ask(stranger, route, given)) for given in UNKNOWN}
            assert len(unknown) == 1, route.action
            assert {status for status, _, _ in unknown} == {404}, route.action
            for thing, given in things.items():
                answer = await ask(stranger, route, given)
                assert {said(answer)} == unknown, (route.action, thing)
                assert given.encode() not in answer.body
    rows = await admin_pool.fetch(
        "select action, sum(count)::int from denials"
        " where tenant = 'globex' and actor = 'admin' and reason = 'not_found' group by 1"
    )
    assert dict(map(tuple, rows)) == {route.action: len(things) + len(UNKNOWN) for route in GUARDED}
    after = {table: await admin_pool.fetchval(f"select count(*) from zentra.{table}") for table in WRITTEN}
    assert after == before, "nothing was written for a stranger"


async def test_a_party_of_others_behind_an_account_of_ones_own_is_nobodys_and_the_try_is_kept(
    settings: Settings, keys: Keys, admin_pool: Pool
) -> None:
    async with GatewayApp.opened(settings) as gateway:
        acme, stranger = Api(gateway, keys), Api(gateway, keys, "globex", "admin")
        party = (await things_of(acme, admin_pool))["party"]
        body = {"account_id": uuid.uuid4().hex, "owner": "o", "type": "customer", "currency": "NGN"}
        theirs, nobodys = [await stranger.post("/accounts", {**body, "party": one}) for one in (party, "nobody")]
        assert [answer.json["code"] for answer in (theirs, nobodys)] == ["party_not_found"] * 2
        status, told, headers = said(theirs)
        assert (status, told.replace(party.encode(), b"nobody"), headers) == said(nobodys)
    kept = await admin_pool.fetchval(
        "select sum(count)::int from denials where tenant = 'globex' and actor = 'admin'"
        " and action = 'POST /accounts' and reason = 'party_not_found'"
    )
    assert kept == 2


@pytest.mark.parametrize("listed", ["/webhooks/deliveries?intent={}", "/accounts/mine/entries?intent={}"])
async def test_a_filter_finds_nothing_of_others_either(api: Api, admin_pool: Pool, listed: str) -> None:
    things, stranger = await things_of(api, admin_pool), api.as_("admin", "globex")
    mine = {"account_id": "mine", "owner": "o", "type": "customer", "currency": "NGN"}
    await stranger.post("/accounts", mine)
    unknown = said(await stranger.get(listed.format(UNKNOWN[0])))
    assert unknown[0] == 404
    for thing in ("intent", "intent_id"):
        assert said(await stranger.get(listed.format(things[thing]))) == unknown
