"""JSON is read strictly on every route that takes it, and what is refused leaves nothing behind."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests.catalogue import declared_routes
from tests.gateway.asgi import Answer
from tests.gateway.http.conftest import Api, intent_body
from zentra.gateway.description.doors import DOORS
from zentra.gateway.http.app import Route
from zentra.storage.pool import Pool

ROUTES = [route for route in declared_routes() if route.body.startswith("json")]
SOUND: dict[str, dict[str, Any]] = {
    "POST /runtime/intents/{id}/cancel": {},
    "POST /runtime/intents/{id}/reversals": {"reason": "x"},
    "POST /holds/{id}/captures": {"amount": 1},
    "POST /holds/{id}/void": {"reason": "x"},
    "POST /accounts": {"account_id": "a", "owner": "o", "type": "customer", "currency": "NGN"},
    **{f"POST /accounts/{{id}}/{change}": {"reason": "x"} for change in ("freeze", "unfreeze", "close", "reopen")},
    "POST /accounts/{id}/limit": {"overdraft_limit": 5, "reason": "x"},
    "POST /accounts/{id}/numbers": {"scheme": "iban", "number": "GB82WEST12345698765432"},
    "POST /accounts/{id}/monitors": {"of": "posted", "when": "above", "minor": 5},
    "POST /books": {"book": "b", "name": "B"},
    "POST /deposits": {"reference": "r", "amount": 5, "currency": "NGN", "account": "a"},
    "POST /quotes": {"amount": 5, "currency": "NGN", "source": "a", "destination": "b"},
    "POST /fee-schedules": {"rules": []},
    "POST /policies": {"document": {}},
    **{f"POST /policies/{{version}}/{step}": {} for step in ("validate", "backtest", "promote", "rollback")},
    "POST /evidence/exports": {"since": "2026-01-01T00:00:00Z"},
    "POST /routes": {"document": {}},
    **{f"POST /routes/{{version}}/{step}": {} for step in ("validate", "promote", "rollback")},
    "POST /webhooks/endpoints/{id}/recover": {"since": "2026-01-01T00:00:00Z"},
    "POST /reviews/{id}/approve": {"reason": "x"},
    "POST /reviews/{id}/reject": {"reason": "x"},
    "POST /reviews/{id}/assign": {},
    "POST /reviews/{id}/comments": {"text": "x"},
    "POST /reviews/{id}/escalate": {"reason": "x"},
    "POST /approvals/{id}/approve": {"reason": "x"},
    "POST /approvals/{id}/reject": {"reason": "x"},
    "POST /approvals/{id}/cancel": {"reason": "x"},
    "POST /reviews/claim": {},
    "POST /reviews/decisions": {"items": [{"id": "x", "verdict": "rejected", "reason": "x"}]},
    "POST /approvals": {"kind": "configuration", "subject": "x", "request": {}, "reason": "x"},
    "POST /cases/{id}/resolve": {"resolution": "retry", "reason": "x"},
    "POST /journals": {"currency": "NGN", "legs": [{"source": "a", "destination": "b", "amount": 5}]},
    "POST /conversions": {"amount": 5, "currency": "USD", "buy_currency": "NGN", "source": "a", "destination": "b"},
    "POST /rates": {"sell": "USD", "buy": "NGN", "mid": "1.5", "max_age_seconds": 60, "source": "desk"},
    "POST /parties": {"party_id": "p", "kind": "person", "legal_name": "Ulrika Denholm"},
    "POST /parties/{id}/amend": {"countries": ["XA"], "reason": "x"},
    "POST /parties/{id}/kyc": {"state": "approved", "reason": "x"},
    "POST /parties/{id}/rescreen": {"reason": "x"},
    "POST /webhooks/endpoints": {"url": "https://example.com"},
    "POST /webhooks/endpoints/{id}/amend": {"fifo": True},
    **{f"POST /webhooks/endpoints/{{id}}/{change}": {} for change in ("disable", "enable", "rotate")},
    "POST /webhooks/deliveries/{id}/replay": {},
}

# What no route takes, whatever it is about; a word for the table, the bytes, the code.
# fmt: off
MALFORMED: list[tuple[str, bytes, str]] = [
    ("cut off",             b'{"a":',                                       "body_malformed"),
    ("trailing comma",      b'{"a":1,}',                                    "body_malformed"),
    ("trailing words",      b'{"a":1} x',                                   "body_malformed"),
    ("two documents",       b'{}{}',                                        "body_malformed"),
    ("single quotes",       b"{'a':1}",                                     "body_malformed"),
    ("comment",             b'{"a":1/*one*/}',                              "body_malformed"),
    ("not a number",        b'{"a":NaN}',                                   "body_malformed"),
    ("infinity",            b'{"a":-Infinity}',                             "body_malformed"),
    ("beyond floats",       b'{"a":1e999}',                                 "body_malformed"),
    ("leading zero",        b'{"a":01}',                                    "body_malformed"),
    ("plus",                b'{"a":+1}',                                    "body_malformed"),
    ("hexadecimal",         b'{"a":0x1}',                                   "body_malformed"),
    ("huge integer",        b'{"a":' + b"9" * 5_000 + b"}",                 "body_malformed"),
    ("huge, with colons",   b'{"b":"::","a":' + b"9" * 5_000 + b"}",        "body_malformed"),
    ("byte order mark",     b'\xef\xbb\xbf{"a":1}',                         "body_malformed"),
    ("UTF-16",              '{"a":1}'.encode("utf-16"),                     "body_malformed"),
    ("no UTF-8",            b'{"a":"\xff\xfe"}',                            "body_malformed"),
    ("overlong UTF-8",      b'{"a":"\xc0\xaf"}',                            "body_malformed"),
    ("surrogate in UTF-8",  b'{"a":"\xed\xa0\x80"}',                        "body_malformed"),
    ("lone high surrogate", b'{"a":"\\ud800"}',                             "body_malformed"),
    ("lone low surrogate",  b'{"a":"\\udc00"}',                             "body_malformed"),
    ("surrogate in a name", b'{"\\ud800":1}',                               "body_malformed"),
    ("control character",   b'{"a":"\n"}',                                  "body_malformed"),
    ("zero byte",           b'{"a":1}\x00',                                 "body_malformed"),
    ("unknown escape",      b'{"a":"\\x41"}',                               "body_malformed"),
    ("repeated member",     b'{"a":1,"a":1}',                               "body_key_repeated"),
    ("repeated by escape",  b'{"a":1,"\\u0061":1}',                         "body_key_repeated"),
    ("repeated below",      b'{"b":[{"c":{"a":1,"a":2}}]}',                 "body_key_repeated"),
    ("repeated, colons",    b'{"x":":::","a":1,"a":1}',                     "body_key_repeated"),
    ("nine objects deep",   b'{"a":' * 9 + b"1" + b"}" * 9,                 "body_too_deep"),
    ("nine arrays deep",    b"[" * 9 + b"]" * 9,                            "body_too_deep"),
    ("thousands deep",      b"[" * 50_000 + b"]" * 50_000,                  "body_malformed"),
    ("too large",           b'{"a":"' + b"x" * (1 << 20) + b'"}',           "body_too_large"),
]
# fmt: on
NOT_OBJECTS: list[bytes] = [b"5", b"null", b"true", b'"x"', b"1.5", b"[]", b"[5]"]
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, 2**53, 2**63, 2**64, -(2**63), "", " ", "x", "1", "1e3", "1.0", "0x1", "-1", "٣",
    "\x00", "a\x00b", "\x7f", "é", "x" * 2_000, [], [None], [[]], {}, {"a": {}}, {"x": "\x00"},
]  # fmt: skip


def sound(route: Route) -> Any:
    one = SOUND.get(route.action) or intent_body()
    if route.action == "POST /payments":
        one["kind"] = "payment"
    return [one | {"idempotency_key": "k"}] if route.template.endswith("/bulk") else dict(SOUND.get(route.action, one))


async def send(api: Api, route: Route, body: object) -> Answer:
    key = None if DOORS[route.action].key == "each" else ""
    target = route.template.replace("{id}", "0" * 32)
    return await api.as_("admin").post(target, body if isinstance(body, bytes) else msgspec.json.encode(body), key=key)


async def rows(pool: Pool) -> list[int]:
    tables = (
        "intents",
        "idempotency",
        "commands",
        "accounts",
        "endpoints",
        "parties",
        "postings",
        "transitions",
        "outbox",
    )
    return [await pool.fetchval(f"select count(*) from zentra.{table}") for table in tables]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.template)
async def test_what_is_no_sound_json_is_refused_by_name_and_leaves_nothing(
    api: Api, admin_pool: Pool, route: Route
) -> None:
    before = await rows(admin_pool)
    for word, body, code in MALFORMED:
        answer = await send(api, route, body)
        assert answer.code == code, word
        assert b"sys." not in answer.body, "what Python would advise helps no client"
    for body in NOT_OBJECTS:
        if not (route.template.endswith("/bulk") and body.startswith(b"[")):
            answer = await send(api, route, body)
            assert (answer.status, answer.code) == (422, "validation_failed"), body
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "multipart/mixed"):
        answer = await api.as_("admin").post(route.template, b"{}", content_type=content_type)
        assert answer.code == "content_type_unsupported"
    assert await rows(admin_pool) == before


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.template)
async def test_what_the_schema_of_a_field_refuses_is_refused_at_its_pointer(
    api: Api, admin_pool: Pool, route: Route
) -> None:
    before = await rows(admin_pool)
    many = route.template.endswith("/bulk")
    schema: Any = DOORS[route.action].takes
    fields: dict[str, Any] = (schema["items"] if many else schema)["properties"]
    tried = 0
    for name, field in {**fields, "no such/field~": False}.items():
        for value in ODD:
            if field is not False and jsonschema_rs.is_valid(field, value):
                continue
            if name == "idempotency_key" and isinstance(value, str):
                continue  # it is held against the one in the header, and has codes of its own
            whole = sound(route)
            (whole[0] if many else whole)[name] = value
            answer = await send(api, route, whole)
            problem = answer.json["results"][0] if many else answer.json
            pointer = ("/0" if many else "") + "/" + name.replace("~", "~0").replace("/", "~1")
            assert problem.get("code") == "validation_failed", (name, value, answer.body)
            assert all(error["pointer"].startswith(pointer) for error in problem["errors"]), (name, value)
            tried += 1
    assert tried > len(ODD)
    assert await rows(admin_pool) == before


async def test_every_violation_is_named_at_once(api: Api) -> None:
    body = {"amount": 1.5, "currency": "x", "source": "", "scope": "A", "metadata": {"a": 1}, "more": None}
    answer = await api.post("/runtime/intents", body)
    assert sorted(error["pointer"] for error in answer.json["errors"]) == [
        "/amount", "/currency", "/destination", "/metadata", "/more", "/scope", "/source",
    ]  # fmt: skip


@pytest.mark.parametrize("limit", ["01005", "0100999999999999999999", "1e2", "+5", " 5", "٣", "", "-1", "5.0"])
async def test_a_limit_is_a_number_from_1_to_100_however_it_is_written(api: Api, limit: str) -> None:
    for target in ("/accounts/settlement-ngn/entries", "/reviews", "/cases", "/webhooks/deliveries"):
        answer = await api.as_("operator").get(f"{target}?limit={limit}")
        assert (answer.status, answer.code) == (400, "query_malformed"), target
        assert [error["pointer"] for error in answer.json["errors"]] == ["/limit"]
