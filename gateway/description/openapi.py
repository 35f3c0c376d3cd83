"""OpenAPI 3.1 of the HTTP API, made from the routes that are served, their rows in `doors`, and the registry of errors.

- Every route is in it with its parameters, its schemas, its security and every code it can be answered with.
- It is a pure function of code: the same routes give the same bytes, wherever it is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Any, Final, get_args
from zlib import crc32

import msgspec

from zentra.gateway.description import shapes
from zentra.gateway.description.doors import DOORS, WITHOUT_ROUTE, Door, Media, codes_of
from zentra.gateway.http.app import WAIT_SECONDS_MAX, Route
from zentra.gateway.http.versions import CURRENT, VERSIONS
from zentra.runtime.codes import CODES
from zentra.runtime.intents.command import KEY_PATTERN
from zentra.runtime.intents.vocabulary import Topic
from zentra.runtime.ledger.money import currencies
from zentra.runtime.webhooks.delivery import is_told

__all__ = ["REFERENCES", "components_of", "openapi", "rendered", "shared"]

REFERENCES: Final = "#/components/schemas/{name}"
PROBLEM_TYPE: Final = "application/problem+json"
_JSON: Final = "application/json"
_PARAMETER: Final = re.compile(r"{(\w+)}")
_KEY: Final = f"^{KEY_PATTERN.pattern.removesuffix(chr(92) + 'Z')}$"

_ABOUT: Final = """\
A financial intent becomes controlled, ledgered, routed and evidenced state, exactly once.

Amounts are integers in minor units. Every POST that changes something has an idempotency key: the same key gives the
same answer, marked `idempotent-replayed`. Errors are problem documents (RFC 9457) with a stable `code`; `retryable`
says whether the very same request may succeed later. JSON is read strictly: no unknown or repeated members, no floats
for money, at most 256 KiB (1 MiB in bulk) and eight levels. Where there is no route, the answer is one of:
{without_route}."""

_HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "x-request-id": {"description": "the client's where it is well-formed, else ours", "schema": {"type": "string"}},
    "zentra-version": {"description": "the version that was spoken", "schema": {"enum": sorted(VERSIONS)}},
    "content-disposition": {"description": "the name of the file", "schema": {"type": "string"}},
    "location": {"description": "where to look for what was made", "schema": {"type": "string"}},
    "link": {"description": "the next page, where there is one", "schema": {"type": "string"}},
    "x-content-type-options": {"description": "nosniff: it is what it says", "schema": {"type": "string"}},
    "etag": {"description": "names these very bytes", "schema": {"type": "string"}},
    "preference-applied": {"description": "how long the client was held at most", "schema": {"type": "string"}},
    "idempotent-replayed": {"description": "this is the answer of an earlier request", "schema": {"const": "true"}},
    "idempotency-first-seen": {
        "description": "when the first request came", "schema": {"type": "string", "format": "date-time"},
    },
    "x-original-request-id": {"description": "the id of the first request", "schema": {"type": "string"}},
    "retry-after": {
        "description": "seconds until it is worth asking again", "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "allow": {"description": "the methods that the route takes", "schema": {"type": "string"}},
    "ratelimit": {
        "description": "what is left of the leaner quota, and the seconds until it is full: `\"money-key\";r=99;t=1`",
        "schema": {"type": "string"},
    },
    "ratelimit-policy": {
        "description": "the quotas of this sort of request, the tenant's and the key's: q requests within w seconds",
        "schema": {"type": "string"},
    },
    "www-authenticate": {"description": "how to authenticate", "schema": {"type": "string"}},
}  # fmt: skip
_EVERY: Final = ("x-request-id", "zentra-version")
_LIMITS: Final = ("ratelimit", "ratelimit-policy")

_PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "version": {
        "name": "zentra-version", "in": "header", "schema": {"enum": sorted(VERSIONS)},
        "description": "the version of the API that the client speaks; without it, the one its tenant began with",
    },
    "request_id": {
        "name": "x-request-id", "in": "header", "schema": {"type": "string"},
        "description": "1 to 128 letters, digits and . _ : - are taken over, echoed and kept; else one is made",
    },
    "traceparent": {
        "name": "traceparent", "in": "header", "schema": {"type": "string"},
        "description": "W3C Trace Context: the trace goes on through every record of the intent",
    },
    "key": {
        "name": "x-idempotency-key", "in": "header", "schema": {"type": "string", "pattern": _KEY},
        "description": "one per logical call; or `idempotency-key`, bare or quoted, or `idempotency_key` in the body",
    },
    "prefer": {
        "name": "prefer", "in": "header", "schema": {"type": "string"},
        "description": f"`wait=N` holds the answer for N seconds, {WAIT_SECONDS_MAX:g} at most, until nothing more"
        " happens by itself; other preferences are ignored",
    },
    "last_id": {
        "name": "last-event-id", "in": "header", "schema": {"type": "string"},
        "description": "the id of the last event that the client has; the stream goes on behind it",
    },
    "none_match": {
        "name": "if-none-match", "in": "header", "schema": {"type": "string"},
        "description": "the etag that the client has; the same one is answered 304",
    },
}  # fmt: skip
_PATH: Final[Mapping[str, str]] = {
    "tenant": "the tenant",
    "id": "an id of this tenant; unknown ids and those of others are the same 404",
    "rail": "the name of the rail",
    "code": "an error code",
    "version": "the number of a version, of the policy, the routes or the fees",
    "number": "an account number behind its scheme and a colon, like `virtual:123456789015`",
    "monitor": "the id of a monitor",
    "sequence": "the version of an intent, as its records count",
}
_TAGS: Final[Mapping[str, str]] = {
    "intents": "what a client wants to happen with money, and what became of it",
    "events": "what happens, as it happens",
    "holds": "money that is spoken for, and what becomes of it",
    "accounts": "books and accounts, balances, entries, statements",
    "policies": "a tenant's rules in versions, and why a decision was what it was",
    "routes": "where money can go, in versions, by which rails, and why an intent went by one",
    "reviews": "what waits for a person",
    "approvals": "what needs a second person and is no intent",
    "cases": "what has gone wrong beside an intent",
    "denials": "what was refused, as evidence",
    "evidence": "what proves what happened, to whoever has the public key",
    "fees": "what is charged, and what a movement would cost",
    "webhooks": "where events go, and what became of each",
    "rails": "what providers call",
    "health": "what operators and their machines ask",
    "description": "what the API says of itself",
}


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document. Raises KeyError for a route without a row in `DOORS`."""
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(routes, key=lambda one: (one.template, one.method)):
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, DOORS[route.action])
    without = ", ".join(f"`{code}` ({CODES[code].status})" for code in sorted(WITHOUT_ROUTE))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Zentra", "version": CURRENT.name, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": _ABOUT.format(without_route=without),
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "webhooks": {str(topic): _webhook(topic) for topic in Topic if is_told(topic)},
        "components": {
            "schemas": dict(sorted((components_of(_types()) | _bodies(routes)).items())),
            "responses": _problems(routes),
            "parameters": {name: dict(parameter) for name, parameter in _PARAMETERS.items()},
            "headers": {name: dict(header) for name, header in _HEADERS.items()},
            "securitySchemes": {
                "apiKey": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "zk_test_… or zk_live_…",
                    "description": "an API key; what it may do is the role of its principal, or less",
                },
                "token": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "a token of an issuer that the installation knows",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "a client certificate whose identity the installation knows; alone, or beside a key"
                    " or token of the same tenant",
                },
            },
        },
    }  # fmt: skip


def rendered(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document, made to be read and compared."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def components_of(types: Sequence[Any]) -> dict[str, Any]:
    """Return the schemas of `types` and of all they hold, by name."""
    _, components = msgspec.json.schema_components(types, ref_template=REFERENCES)
    text = msgspec.json.encode(components).decode()
    # What a read of the store returns is called a view there; to clients it is the thing itself.
    text = re.sub(r'("title":"|#/components/schemas/)(\w+)View"', r'\1\2"', text)
    schemas: dict[str, Any] = msgspec.json.decode(text)
    schemas = {name.removesuffix("View"): schema for name, schema in schemas.items()}
    if "BulkAnswers" in schemas:
        problem, answer = (REFERENCES.format(name=name) for name in ("ProblemDocument", "BulkAnswer"))
        schemas["BulkAnswers"]["properties"]["results"]["items"] = {"anyOf": [{"$ref": answer}, {"$ref": problem}]}
    return dict(sorted(schemas.items()))


def _types() -> list[Any]:
    answers = [one for door in DOORS.values() for answer in door.answers.values() for one in _alternatives(answer)]
    return [*dict.fromkeys(answers), shapes.BulkAnswer, shapes.ProblemDocument, shapes.WebhookBody]


def _bodies(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the schemas of the bodies that routes take, and of what they share."""
    doors = [DOORS[route.action] for route in routes]
    bodies = {_body_name(door): shared(door.takes) for door in doors if door.takes is not None}
    return bodies | {"Currency": {"title": "Currency", "description": "ISO 4217", "enum": currencies()}}


def _body_name(door: Door) -> str:
    return "".join(word.capitalize() for word in door.name.split("_")) + "Body"


def shared(schema: Any) -> Any:
    """Return a schema in which the list of currencies is written once and referred to."""
    if isinstance(schema, Mapping):
        if schema.get("enum") == currencies():
            return {"$ref": REFERENCES.format(name="Currency")}
        return {name: shared(inner) for name, inner in schema.items()}
    return [shared(inner) for inner in schema] if isinstance(schema, list) else schema


def _alternatives(answer: Any) -> Sequence[Any]:
    if isinstance(answer, Media):
        return ()
    return get_args(answer) if isinstance(answer, UnionType) else (answer,)


def _operation(route: Route, door: Door) -> dict[str, Any]:
    codes = codes_of(route, door)
    operation: dict[str, Any] = {
        "operationId": door.name,
        "summary": door.summary,
        "tags": [door.tag],
        "parameters": _parameters(route, door),
        "responses": _responses(route, door, codes),
    }
    if route.body:
        schema = {} if door.takes is None else {"$ref": REFERENCES.format(name=_body_name(door))}
        media = _JSON if route.body != "raw" else "*/*"
        operation["requestBody"] = {"required": route.body == "json", "content": {media: {"schema": schema}}}
    if route.permission is not None:
        # OpenAPI 3.1 lets a scheme of any type name roles; here it is the permission that the role has to have.
        operation["security"] = [{name: [str(route.permission)]} for name in ("apiKey", "token", "certificate")]
    else:
        operation["security"] = []
    return operation


def _parameters(route: Route, door: Door) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": _PATH[name]}
        for name in _PARAMETER.findall(route.template)
    ]
    found += [
        {
            "name": query.name,
            "in": "query",
            **({"required": True} if query.required else {}),
            "schema": dict(query.schema),
            "description": query.description,
        }
        for query in door.query
    ]
    names = ["version", "request_id", "traceparent"]
    names += ["key"] if door.key == "once" else []
    names += ["prefer"] if door.waits else []
    names += ["last_id"] if door.last_id else []
    names += ["none_match"] if 304 in door.answers else []
    return found + [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _responses(route: Route, door: Door, codes: Sequence[str]) -> dict[str, Any]:
    responses: dict[int, dict[str, Any]] = {}
    for status, answer in door.answers.items():
        responses[status] = {"description": _said(answer, status), "headers": _headers(*_always(route), *door.headers)}
        if not isinstance(answer, Media):
            responses[status]["content"] = {_JSON: {"schema": _schema(answer)}}
            if door.media is not None:
                responses[status]["content"][door.media.type] = {"schema": {}}
        elif answer.type:
            responses[status]["content"] = {answer.type: {"schema": {}}}
        if status == 200:
            responses[status].setdefault("content", {}).update({form.type: {"schema": {}} for form in door.forms})
    for status, those in _by_status(codes).items():
        problem = _problem(status, those, route, door)
        if status not in responses:
            responses[status] = {"$ref": f"#/components/responses/{_response_name(status, those, route, door)}"}
        else:  # what says that a gateway is not ready may also be a problem
            mine = responses[status]
            mine["description"] += f"; or {problem['description']}"
            mine["headers"] |= problem["headers"]
            mine["content"] |= problem["content"]
    return {str(status): responses[status] for status in sorted(responses)}


def _problems(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the answers that are problems, by name: those of equal codes are one."""
    problems = {}
    for route in routes:
        door = DOORS[route.action]
        for status, those in _by_status(codes_of(route, door)).items():
            problems[_response_name(status, those, route, door)] = _problem(status, those, route, door)
    return dict(sorted(problems.items()))


def _by_status(codes: Sequence[str]) -> dict[int, list[str]]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].status, []).append(code)
    return by_status


def _always(route: Route) -> tuple[str, ...]:
    """Return the headers of every answer of a route; who asks without anybody knowing who it is has no limits."""
    return _EVERY if route.permission is None else (*_EVERY, *_LIMITS)


def _response_name(status: int, codes: Sequence[str], route: Route, door: Door) -> str:
    return f"{status}-{crc32(' '.join([*codes, *_problem_headers(status, codes, route, door)]).encode()):08x}"


def _problem_headers(status: int, codes: Sequence[str], route: Route, door: Door) -> tuple[str, ...]:
    retry = any(CODES[code].retryable for code in codes)
    return (
        *(_EVERY if status == 401 else _always(route)),
        *door.problem_headers,
        *(("www-authenticate",) if status == 401 else ()),
        *(("retry-after",) if retry else ()),
    )


def _problem(status: int, codes: Sequence[str], route: Route, door: Door) -> dict[str, Any]:
    told = {"properties": {"code": {"enum": list(codes)}, "status": {"const": status}}}
    return {
        "description": "; ".join(f"`{code}`: {CODES[code].title}" for code in codes),
        "headers": _headers(*_problem_headers(status, codes, route, door)),
        "content": {PROBLEM_TYPE: {"schema": {"allOf": [{"$ref": REFERENCES.format(name="ProblemDocument")}, told]}}},
    }


def _schema(answer: Any) -> dict[str, Any]:
    references = [{"$ref": REFERENCES.format(name=one.__name__.removesuffix("View"))} for one in _alternatives(answer)]
    return references[0] if len(references) == 1 else {"anyOf": references}


def _said(answer: Any, status: int) -> str:
    return answer.description if isinstance(answer, Media) else HTTPStatus(status).phrase.lower()


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _webhook(topic: Topic) -> dict[str, Any]:
    optional = {
        "zentra-version": "the version of the API that the endpoint is pinned to",
        "zentra-sequence": "the place of this event among all that the endpoint gets; whoever wants an order has one",
    }
    named = {
        "webhook-id": "the same on every attempt and replay: whoever has seen it has nothing more to do",
        "webhook-timestamp": "unix time of the attempt",
        "webhook-signature": "`v1,` and HMAC-SHA256 of `id.timestamp.body`; more while a secret rotates, and "
        "`v1a,` with Ed25519 where the endpoint asked for it",
    }
    return {
        "post": {
            "operationId": f"on_{topic.replace('.', '_')}",
            "summary": f"An intent had the event {topic}.",
            "tags": ["webhooks"],
            "security": [],
            "parameters": [
                {"name": name, "in": "header", "required": True, "schema": {"type": "string"}, "description": text}
                for name, text in named.items()
            ]
            + [
                {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
                for name, text in optional.items()
            ],
            "requestBody": {
                "required": True,
                "content": {_JSON: {"schema": {"$ref": REFERENCES.format(name="WebhookBody")}}},
            },
            "responses": {
                "2XX": {"description": "taken; anything else is tried again for three days"},
                "410": {"description": "the endpoint is gone and is disabled"},
            },
        }
    }
