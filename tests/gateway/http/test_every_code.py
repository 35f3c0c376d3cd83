"""Every code of the registry is raised: here, by asking a gateway for it, or by a test elsewhere that names it."""

from __future__ import annotations

import ast
import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import pytest
from msgspec import Struct

from tests.architecture import python_sources
from tests.gateway.asgi import Answer, call
from tests.gateway.http.conftest import Api, Keys, intent_body
from tests.gateway.http.test_callbacks import callback_body, deliver
from tests.gateway.http.test_decisions import REASON, answer_as_a_worker, open_case, open_review, seen
from zentra.actors.commands import COMMAND_CODES
from zentra.gateway.http.server import GatewayApp
from zentra.runtime.codes import CODES
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool

INTENTS, ACCOUNTS = "/runtime/intents", "/accounts"
# These go through the whole table of codes, so that they name one proves nothing.
LISTS: Final = frozenset({"tests/gateway/test_problems.py", "tests/gateway/test_description.py", "tests/catalogue.py"})


class World(Struct, frozen=True):
    """What a scenario may use."""

    gateway: GatewayApp
    api: Api
    keys: Keys
    pool: Pool

    @property
    def operator(self) -> Api:
        return self.api.as_("operator")


Scenario = Callable[[World], Awaitable[Answer]]


def sent(target: str, body: object, *, key: str | None = "", **headers: str) -> Scenario:
    async def scenario(world: World) -> Answer:
        return await world.operator.post(target, body, key=key, **headers)

    return scenario


def looked_at(target: str) -> Scenario:
    async def scenario(world: World) -> Answer:
        return await world.operator.get(target)

    return scenario


def asked_by(method: str, target: str, **headers: str) -> Scenario:
    async def scenario(world: World) -> Answer:
        return await call(world.gateway.application, method, target, headers=headers)

    return scenario


def streamed(last: str) -> Scenario:
    async def scenario(world: World) -> Answer:
        return await world.operator.get("/runtime/events", last_event_id=last)

    return scenario


async def revoked(world: World) -> Answer:
    headers = {"authorization": f"Bearer {world.keys.revoked}"}
    return await call(world.gateway.application, "GET", "/reviews", headers=headers)


async def expired(world: World) -> Answer:
    past = datetime.now(UTC) - timedelta(hours=1)
    key = await Administration(world.pool).create_api_key("acme", "developer", expires_at=past)
    return await call(world.gateway.application, "GET", "/reviews", headers={"authorization": f"Bearer {key.text}"})


async def forbidden(world: World) -> Answer:
    return await world.api.as_("finance").post(INTENTS, intent_body())


async def own_review(world: World) -> Answer:
    review = await open_review(world.pool, "operator")
    return await world.operator.post(f"/reviews/{review}/approve", REASON)


async def decided_already(world: World) -> Answer:
    review = await open_review(world.pool)
    await world.operator.post(f"/reviews/{review}/approve", await seen(world.operator, review), prefer="wait=0")
    return await world.api.as_("admin").post(f"/reviews/{review}/reject", REASON, prefer="wait=0")


async def key_reused(world: World) -> Answer:
    key = uuid.uuid4().hex
    await world.api.post(INTENTS, intent_body(), key=key)
    return await world.api.post(INTENTS, intent_body(), key=key)


async def id_taken(world: World) -> Answer:
    body = intent_body()
    await world.api.post(INTENTS, body)
    return await world.api.post(INTENTS, body | {"amount": 1})


async def account_taken(world: World) -> Answer:
    body = {"account_id": uuid.uuid4().hex, "owner": "o", "type": "customer", "currency": "NGN"}
    await world.api.post(ACCOUNTS, body)
    return await world.api.post(ACCOUNTS, body | {"owner": "p"})


async def not_sealed(world: World) -> Answer:
    made = await world.api.post(INTENTS, intent_body())
    return await world.api.get(f"{made.json['links']['evidence']}")


def called_back(**how: object) -> Scenario:
    async def scenario(world: World) -> Answer:
        return await deliver(world.gateway, callback_body("e"), **how)  # type: ignore[arg-type]  # a row of the table

    return scenario


async def unsigned(world: World) -> Answer:
    return await call(world.gateway.application, "POST", "/providers/sandbox_a/callbacks", b"{}")


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "body_malformed": sent(INTENTS, b"{"),
    "body_key_repeated": sent(INTENTS, b'{"a":1,"a":1}'),
    "body_too_deep": sent(INTENTS, b"[" * 9 + b"]" * 9),
    "body_too_large": sent(INTENTS, b'"' + b"x" * (1 << 18) + b'"'),
    "content_type_unsupported": sent(INTENTS, b"{}", content_type="text/plain"),
    "query_malformed": looked_at("/reviews?limit=0"),
    "event_id_malformed": streamed("x"),
    "cursor_malformed": looked_at("/accounts/settlement-ngn/entries?cursor=x"),
    "validation_failed": sent(INTENTS, {}),
    "route_not_found": looked_at("/nowhere"),
    "method_not_allowed": asked_by("PUT", ACCOUNTS),
    "version_unknown": sent(INTENTS, intent_body(), zentra_version="1999.01"),
    "batch_too_large": sent(f"{INTENTS}/bulk", [{}] * 1001, key=None),
    "authentication_required": asked_by("GET", "/reviews"),
    "key_invalid": asked_by("GET", "/reviews", authorization="Bearer x"),
    "key_revoked": revoked,
    "key_expired": expired,
    "permission_denied": forbidden,
    "self_approval": own_review,
    "not_found": looked_at("/reviews/nothing"),
    "idempotency_key_missing": sent(INTENTS, intent_body(), key=None),
    "idempotency_key_malformed": sent(INTENTS, intent_body(), key="a b"),
    "idempotency_key_ambiguous": sent(INTENTS, intent_body(idempotency_key="a"), key="b"),
    "idempotency_key_reused": key_reused,
    "intent_id_conflict": id_taken,
    "account_exists": account_taken,
    "review_already_decided": decided_already,
    "evidence_not_sealed": not_sealed,
    "checkpoint_unknown": looked_at("/evidence/checkpoint?size=100000"),
    "signature_missing": unsigned,
    "signature_invalid": called_back(secret="another"),
    "timestamp_out_of_tolerance": called_back(at=0.0),
}


@pytest.mark.parametrize("code", SCENARIOS)
async def test_a_code_is_answered_with_its_status_and_its_page(
    code: str, gateway: GatewayApp, api: Api, keys: Keys, admin_pool: Pool
) -> None:
    answer = await SCENARIOS[code](World(gateway, api, keys, admin_pool))
    row = CODES[code]
    assert (answer.code, answer.status) == (code, row.status)
    problem = answer.json
    assert (problem["title"], problem["retryable"]) == (row.title, row.retryable)
    assert problem["instance"] == f"urn:zentra:request:{problem['request_id']}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    page = await call(gateway.application, "GET", problem["type"])
    assert (page.status, page.json["code"], page.json["advice"]) == (200, code, row.advice)
    assert ("retry-after" in answer.headers) is row.retryable


DECIDED = [(kind, code) for kind, codes in COMMAND_CODES.items() for code in ("not_found", *codes)]


@pytest.mark.parametrize(("kind", "code"), DECIDED)
async def test_the_refusal_of_a_command_is_answered_with_its_code(
    kind: str, code: str, api: Api, admin_pool: Pool
) -> None:
    made = (await api.post(INTENTS, intent_body())).json
    operator, subject, body, target = api.as_("operator"), made["id"], {}, f"{made['links']['self']}/cancel"
    if kind == "reverse":
        body, target = REASON, f"{made['links']['self']}/reversals"
    elif kind == "capture_hold":
        body, target = {"amount": "full"}, f"/holds/{made['id']}/captures"
    elif kind == "void_hold":
        body, target = REASON, f"/holds/{made['id']}/void"
    elif kind == "decide_review":
        subject = await open_review(admin_pool)
        body, target = await seen(operator, subject), f"/reviews/{subject}/approve"
    elif kind.endswith("_review"):
        subject = await open_review(admin_pool)
        body = {"assign": {}, "comment": {"text": "x"}, "escalate": REASON}[kind.removesuffix("_review")]
        target = f"/reviews/{subject}/{'comments' if 'comment' in kind else kind.removesuffix('_review')}"
    elif kind == "resolve_case":
        subject, body = await open_case(admin_pool), REASON | {"resolution": "retry"}
        target = f"/cases/{subject}/resolve"
    elif kind == "replay_delivery":
        subject = await _delivery(admin_pool, made["id"])
        target = f"/webhooks/deliveries/{subject}/replay"
    elif kind == "recover_deliveries":
        subject = (await api.as_("admin").post("/webhooks/endpoints", {"url": "https://example.com/r"})).json["id"]
        body, target = {"since": "2026-01-01T00:00:00Z"}, f"/webhooks/endpoints/{subject}/recover"
    worker = asyncio.create_task(answer_as_a_worker(admin_pool, subject, code))
    answer = await operator.post(target, body)
    await worker
    assert (answer.code, answer.status) == (code, CODES[code].status)
    assert answer.json["command"]


async def _delivery(pool: Pool, intent: str) -> str:
    delivery = uuid.uuid4().hex
    endpoint = f"ep_{delivery}"
    await pool.execute(
        "insert into zentra.endpoints (id, tenant, url, events, secrets, created_by) values"
        " ($1, 'acme', 'https://example.com', '{*}', '{x}', 'developer')",
        endpoint,
    )
    await pool.execute(
        "insert into zentra.deliveries (id, tenant, endpoint, intent, sequence, event, body, created_at)"
        " values ($1, 'acme', $2, $3, 1, 'ledger.posted', '{}', now())",
        delivery, endpoint, intent,
    )  # fmt: skip
    return delivery


@cache
def _named() -> Mapping[str, set[str]]:
    """Return the files of tests by the codes that they name as a whole string."""
    named: dict[str, set[str]] = {}
    for source in python_sources():
        if source.folder == "tests" and source.path not in LISTS:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in CODES:
                    named.setdefault(node.value, set()).add(source.path)
    return named


@pytest.mark.parametrize("code", [code for code in CODES if code not in SCENARIOS])
def test_a_code_that_is_not_raised_here_is_named_by_a_test_elsewhere(code: str) -> None:
    assert _named().get(code, set()) - {f"tests/{__name__.removeprefix('tests.').replace('.', '/')}.py"}, (
        f"no test raises {code}"
    )


@pytest.mark.parametrize("code", sorted({code for codes in COMMAND_CODES.values() for code in codes}))
def test_what_a_command_is_refused_for_is_proved_where_it_is_decided(code: str) -> None:
    deciding = ("tests/actors/", "tests/runtime/", "tests/scenarios/")
    assert [path for path in _named().get(code, ()) if path.startswith(deciding)]
