"""What the API says of itself: every route, every code, valid schemas; and what breaks a client is found."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests.catalogue import PROMISED, asyncapi_page, declared_routes, openapi_page
from zentra.actors.commands import COMMAND_CODES, ON_TRANSACTION
from zentra.actors.webhooks import _data, _encoded
from zentra.gateway.description.changes import breaking
from zentra.gateway.description.doors import DOORS, WITHOUT_ROUTE, codes_of, schema_of_fields
from zentra.gateway.description.openapi import openapi
from zentra.gateway.description.shapes import RecordShown, WebhookBody, WebhookData
from zentra.gateway.doors.nats import NATS_CODES
from zentra.gateway.http.fields import SCHEMAS, Field, Objection
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.versions import CURRENT, Version, version_of
from zentra.gateway.routes.accounts import ACCOUNT
from zentra.gateway.routes.approvals import APPROVAL
from zentra.gateway.routes.holds import CAPTURE, VOID
from zentra.gateway.routes.intents import CANCEL, REVERSAL
from zentra.gateway.routes.operations import RESOLUTION
from zentra.gateway.routes.parties import PARTY
from zentra.gateway.routes.reviews import ASSIGNMENT, CLAIM, COMMENT, ESCALATION, VERDICT
from zentra.gateway.routes.webhooks import ENDPOINT
from zentra.runtime.codes import CODES
from zentra.runtime.intents.command import _Request, intent_schema, parse_intent
from zentra.runtime.intents.reading import TERM_FIELDS
from zentra.runtime.intents.transaction import Record

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    return openapi(declared_routes())


# What is described.


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert sorted(route.action for route in declared_routes()) == sorted(DOORS)


def test_a_route_without_a_row_is_not_described() -> None:
    route = declared_routes()[0]
    route.action = "GET /nowhere"
    with pytest.raises(KeyError):
        openapi([route])


def test_every_code_is_described_where_it_is_answered() -> None:
    answered = {code for route in declared_routes() for code in codes_of(route, DOORS[route.action])}
    assert not answered - CODES.keys()
    assert not NATS_CODES - CODES.keys()
    # shown as the reason of a failure
    of_intents = {
        "balance_condition_failed", "balance_condition_unreadable", "effective_at_in_future", "period_closed",
        "corrected_not_found", "quote_invalid", "quote_expired", "fee_changed",
    }  # fmt: skip
    assert CODES.keys() - answered - NATS_CODES - WITHOUT_ROUTE == of_intents


def test_every_command_says_what_it_may_be_refused_for() -> None:
    assert COMMAND_CODES.keys() == {*ON_TRANSACTION, "resolve_case", "replay_delivery", "recover_deliveries"}


def test_operations_have_names_of_their_own(document: Document) -> None:
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    names += [item["post"]["operationId"] for item in document["webhooks"].values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("page", [openapi_page, asyncapi_page])
def test_every_reference_leads_somewhere_and_every_schema_is_one(page: Any) -> None:
    whole = msgspec.json.decode(page())
    for reference in _references(whole):
        place: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    for schema in whole["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_doors_that_need_a_key_say_so_and_the_others_do_not(document: Document) -> None:
    for route in declared_routes():
        operation = document["paths"][route.template][route.method.lower()]
        known_by = () if route.permission is None else ("apiKey", "token", "certificate")
        assert operation["security"] == [{name: [str(route.permission)]} for name in known_by]
        assert ("requestBody" in operation) is bool(route.body)
        assert (DOORS[route.action].takes is not None) is route.body.startswith("json")


def test_every_door_that_changes_something_takes_a_key() -> None:
    keyed = {route.action for route in declared_routes() if DOORS[route.action].key}
    changing = {route.action for route in declared_routes() if route.method != "GET"}
    taken_away = {action for action in changing if action.startswith("DELETE ")}  # twice is once by itself
    assert len(taken_away) == 3
    reckoning = {"POST /quotes", "POST /policies/{version}/backtest"}  # they change nothing
    assert changing - keyed - taken_away == {"POST /providers/{rail}/callbacks", *reckoning}


# The schemas of what clients send say what the parsers do.

INTENT: Document = {"amount": 5, "currency": "NGN", "source": "a", "destination": "b"}
JOURNAL: Document = {"kind": "journal", "amount": ..., "source": ..., "destination": ...}
LEG: Document = {"source": "a", "destination": "b", "amount": 5}
# Changes to a sound intent, and whether it is sound with them; ... leaves the member out.
# fmt: off
INTENTS: list[tuple[Document, bool]] = [
    ({}, True),
    ({"amount": "125000"}, True),
    ({"amount": "007"}, True),
    ({"amount": 2**63 - 1}, True),
    ({"amount": 2**63}, False),
    ({"amount": 0}, False),
    ({"amount": -1}, False),
    ({"amount": 1.5}, False),
    ({"amount": True}, False),
    ({"fee": {"max": 0}}, True),
    ({"fee": {"max": "00"}}, True),
    ({"fee": {"max": 500, "quote_digest": "0" * 64}}, True),
    ({"fee": {}}, False),
    ({"fee": None}, False),
    ({"fee": {"max": -1}}, False),
    ({"fee": {"max": False}}, False),
    ({"fee": {"max": 2**63}}, False),
    ({"fee": {"max": "x"}}, False),
    ({"fee": {"most": 1}}, False),
    ({"fee": {"quote_digest": "0" * 63}}, False),
    ({"fee": {"quote_digest": "A" * 64}}, False),
    ({"amount": None}, False),
    ({"amount": "1e3"}, False),
    ({"amount": "+1"}, False),
    ({"amount": "000"}, False),
    ({"amount": ...}, False),
    ({"currency": "ngn"}, False),
    ({"currency": "XXX"}, False),
    ({"source": ""}, False),
    ({"source": "a b"}, False),
    ({"source": "x" * 128}, True),
    ({"source": "x" * 129}, False),
    ({"kind": "payment"}, True),
    ({"kind": "gift"}, False),
    ({"country": None}, True),
    ({"country": "NG"}, True),
    ({"country": "ng"}, False),
    ({"scope": "a/b"}, True),
    ({"scope": "A"}, False),
    ({"intent_id": "i-1"}, True),
    ({"intent_id": None}, False),
    ({"money_model": "floats"}, False),
    ({"primitives": []}, True),
    ({"primitives": ["policy", "policy"]}, True),
    ({"primitives": ["magic"]}, False),
    ({"metadata": {"a": "é"}}, True),
    ({"metadata": {"é": "a"}}, False),
    ({"metadata": {"a": 1}}, False),
    ({"metadata": {"a": "x" * 512}}, True),
    ({"metadata": {"a": "x" * 513}}, False),
    ({"metadata": {"a": "\x00"}}, False),
    ({"metadata": {str(n): "" for n in range(32)}}, True),
    ({"metadata": {str(n): "" for n in range(33)}}, False),
    ({"idempotency_key": "k"}, True),
    ({"idempotency_key": "k k"}, False),
    ({"more": 1}, False),
    ({"conditions": [{"account": "a", "of": "available", "min": -5, "max": "7"}]}, True),
    ({"conditions": [{"account": "a", "of": "balance", "min": 1}]}, False),
    ({"conditions": [{"account": "a", "of": "posted", "min": "x"}]}, False),
    ({"conditions": [{"account": "a", "of": "posted"}]}, False),
    ({"conditions": []}, False),
    ({"effective_at": "2026-04-01T09:00:00Z"}, False),  # of a transfer, which a rail carries
    ({"kind": "book_transfer", "effective_at": "2026-04-01T09:00:00+01:00"}, True),
    ({"legs": [LEG]}, False),
    ({**JOURNAL, "legs": [LEG]}, True),
    ({**JOURNAL, "currency": ..., "legs": [{**LEG, "currency": "USD"}]}, True),
    ({**JOURNAL, "currency": ..., "legs": [{**LEG, "currency": "USD"}, LEG]}, False),
    ({**JOURNAL, "legs": [LEG, {**LEG, "amount": 0}]}, False),
    ({**JOURNAL, "legs": [{**LEG, "more": 1}]}, False),
    ({**JOURNAL, "legs": [{**LEG, "reference": "rent"}], "corrects": "i-1"}, True),
    ({**JOURNAL, "legs": [LEG] * 100}, True),
    ({**JOURNAL, "legs": [LEG] * 101}, False),
    ({**JOURNAL, "legs": []}, False),
    ({**JOURNAL, "legs": ...}, False),
    ({**JOURNAL, "legs": [LEG], "amount": 5}, False),
    ({**JOURNAL, "legs": [LEG], "buy_currency": "USD"}, False),
    ({"kind": "conversion", "buy_currency": "USD"}, True),
    ({"kind": "conversion", "buy_currency": "USD", "quote": "a.b"}, True),
    ({"kind": "conversion", "buy_currency": "USD", "quote": "a b"}, False),
    ({"kind": "conversion"}, False),
]
# fmt: on


@pytest.mark.parametrize(("changes", "sound"), INTENTS)
def test_the_schema_of_an_intent_takes_what_the_parser_takes(changes: Document, sound: bool) -> None:
    body = {name: value for name, value in (INTENT | changes).items() if value is not ...}
    assert (not parse_intent(body)[2]) is sound
    assert jsonschema_rs.is_valid(intent_schema(), body) is sound


def test_the_schema_of_an_intent_has_its_fields_and_defaults() -> None:
    fields = {field.name: field for field in msgspec.structs.fields(_Request)}
    schema = intent_schema()
    assert list(schema["properties"]) == [*fields, *TERM_FIELDS]
    for name, field in fields.items():
        told = schema["properties"][name].get("default")
        assert told is None or told == field.default or field.default is msgspec.UNSET, name


# A check by its field, values that it takes, values that it does not.
FIELDS: list[tuple[Field, list[Any], list[Any]]] = [
    (ACCOUNT["account_id"], ["a", "A-1.b_c:d"], ["", " ", "-a", "x" * 129, 5, None]),
    (ACCOUNT["owner"], ["Ada", "é" * 1000], ["", "x" * 1001, "a\x00", "a\x1f", "\x7f", 5]),
    (ACCOUNT["type"], ["customer"], ["settlement", "Customer", 1]),
    (ACCOUNT["currency"], ["NGN"], ["ngn", "XXX", 5]),
    (REVERSAL["amount"], ["full", 1, "1", 2**63 - 1], ["", "Full", 0, -1, 1.5, True, None, 2**63]),
    (CANCEL["reason"], ["x"], [""]),
    (CAPTURE["final"], [True, False], ["true", 1, None]),
    (VERDICT["reason"], ["x"], ["", 0]),
    (RESOLUTION["resolution"], ["retry", "dismissed"], ["forget"]),
    (VERDICT["request_hash"], ["0a" * 32], ["0A" * 32, "0a", "", 5, None]),
    (REVERSAL["force"], [True, False], ["true", 1, None]),
    (ASSIGNMENT["assignee"], ["ops", "me", None], ["", "a b", 5]),
    (CLAIM["order"], ["age", "due", "amount"], ["", "name"]),
    (APPROVAL["request"], [{}, {"a": ["1", None, {"b": 2}]}], [[], "x", None]),
    (PARTY["legal_name"], ["Ada", " é"], ["", "  ", "\u2003", "a\n", 5]),
    (ENDPOINT["url"], ["https://example.com/a?b=c", "http://127.0.0.1:8080"], ["ftp://x", "x", 5]),
    (ENDPOINT["events"], [["*"], ["ledger.*", "policy.denied"]], [[], ["A"], [5], "*", ["*"] * 65]),
]


@pytest.mark.parametrize(("field", "taken", "refused"), FIELDS)
def test_the_schema_of_a_field_takes_what_its_check_takes(field: Field, taken: list[Any], refused: list[Any]) -> None:
    for value in taken:
        field.check(value)
        assert jsonschema_rs.is_valid(SCHEMAS[field.check], value), value
    for value in refused:
        with pytest.raises(Objection):
            field.check(value)
        assert not jsonschema_rs.is_valid(SCHEMAS[field.check], value), value


def test_every_check_of_a_body_has_a_schema() -> None:
    for fields in (
        ACCOUNT,
        REVERSAL,
        CANCEL,
        CAPTURE,
        VOID,
        VERDICT,
        RESOLUTION,
        ENDPOINT,
        ASSIGNMENT,
        CLAIM,
        COMMENT,
        ESCALATION,
        APPROVAL,
    ):
        schema = schema_of_fields(fields)
        assert schema["properties"].keys() == {*fields, "idempotency_key"}


LIMIT = {"kind": "account_limit", "subject": "x", "reason": "x"}
# A door, a body, and whether it is sound as a whole.
BODIES: list[tuple[str, Document, bool]] = [
    ("POST /parties/{id}/amend", {"reason": "x"}, False),
    ("POST /parties/{id}/amend", {"reason": "x", "legal_name": "Ada"}, True),
    ("POST /parties/{id}/amend", {"reason": "x", "aliases": []}, True),
    ("POST /parties/{id}/amend", {"reason": "x", "identifiers": {}}, True),
    ("POST /approvals", LIMIT | {"kind": "configuration", "request": {"a": 1}}, True),
    ("POST /approvals", LIMIT | {"request": {}}, False),
    ("POST /approvals", LIMIT | {"request": {"overdraft_limit": 0}}, True),
    ("POST /approvals", LIMIT | {"request": {"overdraft_limit": "0"}}, True),
    ("POST /approvals", LIMIT | {"request": {"overdraft_limit": 5}}, True),
    ("POST /approvals", LIMIT | {"request": {"overdraft_limit": -1}}, False),
    ("POST /approvals", LIMIT | {"request": {"overdraft_limit": None}}, False),
    ("POST /approvals", LIMIT | {"request": {"overdraft_limit": 5, "more": 1}}, False),
]


@pytest.mark.parametrize(("door", "body", "sound"), BODIES)
def test_the_schema_of_a_body_says_which_fields_go_together(door: str, body: Document, sound: bool) -> None:
    assert jsonschema_rs.is_valid(dict(DOORS[door].takes or {}), body) is sound


# The shapes of what clients get are those of what is sent.


def test_the_feed_and_the_webhooks_bring_what_is_described() -> None:
    assert sorted(RecordShown.__struct_encode_fields__) == sorted(Record.__struct_encode_fields__)
    names = {
        frozenset(constant)
        for function in (_data, _encoded)
        for constant in function.__code__.co_consts
        if isinstance(constant, tuple)
    }  # the members of the two objects, as the compiler keeps them
    now_and_then = {"metadata", "tracestate", "hold", "fetch", "endpoint"}
    assert {
        frozenset(WebhookData.__struct_fields__) - now_and_then,
        frozenset(WebhookBody.__struct_fields__),
    } <= names


# What breaks a client.


def _set(path: str, value: object) -> Any:
    def change(document: Document) -> None:
        *steps, last = path.split("|")
        place: Any = document
        for step in steps:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


SCHEMA = "components|schemas|"
CREATE = "paths|/runtime/intents|post|"
# What is changed, and what is found.
CHANGES: list[tuple[Any, str]] = [
    (_set("paths|/accounts/{id}", ...), "GET /accounts/{id}: the route is gone"),
    (_set("paths|/new", {"get": {}}), ""),
    (_set(CREATE + "operationId", "make"), "POST /runtime/intents: the operation has another name"),
    (_set("paths|/livez|get|security", [{"apiKey": []}]), "GET /livez: it needs a key now"),
    (_set(CREATE + "responses|202", ...), "POST /runtime/intents: 202 is gone"),
    (_set(CREATE + "responses|202|headers|location", ...), "202 has no header location any more"),
    (_set(CREATE + "responses|299", {"description": ""}), ""),
    (_set("paths|/accounts/{id}/entries|get|parameters", []), "the query parameter limit is gone"),
    (_set("components|parameters|key|required", True), "the header parameter x-idempotency-key is required now"),
    (_set("components|parameters|version|schema|enum", ["2027.01"]), "zentra-version: takes fewer words"),
    (_set("components|parameters|version|schema|enum", ["2026.04", "2027.01"]), ""),
    (_set(SCHEMA + "CreateTransferBody|required", ["amount", "currency", "destination", "source", "scope"]),
     "body: scope is required now"),
    (_set(SCHEMA + "CreateTransferBody|required", ["amount"]), ""),
    (_set(SCHEMA + "CreateIntentBody|properties|country", ...), "body: country is not taken any more"),
    (_set(SCHEMA + "CreateIntentBody|properties|note", {"type": "string"}), ""),
    (_set(SCHEMA + "CreateIntentBody|properties|scope|pattern", "^x$"), "body/scope: pattern is another"),
    (_set(SCHEMA + "CreateIntentBody|properties|metadata|maxProperties", 5), "body/metadata: maxProperties is lower"),
    (_set(SCHEMA + "CreateIntentBody|properties|metadata|maxProperties", 50), ""),
    (_set(SCHEMA + "CreateIntentBody|properties|amount", {"type": "string"}), "body/amount: alternative 0 is not"),
    (_set(SCHEMA + "CreateIntentBody|properties|kind|enum", ["transfer"]), "body/kind: takes fewer words"),
    (_set(SCHEMA + "CreateAccountBody|properties|owner|minLength", 5), "body/owner: minLength is higher"),
    (_set(SCHEMA + "Currency|enum", ["NGN"]), "body/currency: takes fewer words"),
    (_set(SCHEMA + "Intent|properties|amount|type", "string"), "200/amount: may be string now"),
    (_set(SCHEMA + "Intent|properties|amount", ...), "200: amount is gone"),
    (_set(SCHEMA + "Intent|properties|more", {"type": "string"}), ""),
    (_set(SCHEMA + "Account|required", []), "200: available may be missing now"),
    (_set(SCHEMA + "Account|properties|posted|pattern", "^x$"), "200/posted: pattern is another"),
    (_set(SCHEMA + "Lifecycle|enum", ["ACCEPTED", "NEW"]), ""),
    (_set(SCHEMA + "ReviewView", {}), ""),
    (_set("paths|/runtime/intents|post|requestBody|content", {}), "it does not take application/json any more"),
    (_set("paths|/webhooks/deliveries/{id}/replay|post|requestBody|required", True), "the body is required now"),
    (_set("paths|/livez|get|requestBody", {"required": True, "content": {}}), "GET /livez: it needs a body now"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_a_change_that_breaks_a_client_is_found(document: Document, change: Any, told: str) -> None:
    changed = copy.deepcopy(document)
    change(changed)
    found = breaking(document, changed)
    assert any(told in one for one in found) if told else found == []


def test_nothing_breaks_what_the_last_release_promised(document: Document) -> None:
    promised = msgspec.json.decode(PROMISED.read_bytes())
    assert promised["info"]["version"] == CURRENT.name
    assert breaking(promised, document) == [], "a breaking change needs a version of its own"


# Versions.


@pytest.mark.parametrize(
    ("given", "known"), [(None, True), (b"2026.04", True), (b"2026-04", False), (b"", False), (b"\xff", False)]
)
def test_a_request_speaks_a_version_that_there_is(given: bytes | None, known: bool) -> None:
    if known:
        assert version_of(given) is CURRENT
    else:
        with pytest.raises(Problem, match="version_unknown") as refused:
            version_of(given)
        assert refused.value.members == {"known": [CURRENT.name]}


def test_the_newest_version_needs_no_translation() -> None:
    assert (CURRENT.request, CURRENT.answer) == (None, None)
    assert Version("x") == Version("x", None, None)
