"""What is said of a route: the shape of a row, and what follows from what the route is; `doors` has the rows."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from zentra.gateway.http.app import Route
from zentra.gateway.http.fields import SCHEMAS, Field
from zentra.runtime.intents.command import KEY_PATTERN

__all__ = [
    "WITHOUT_ROUTE",
    "Door",
    "Media",
    "Query",
    "codes_of",
    "schema_of_change",
    "schema_of_fields",
    "schema_of_type",
]

Schema = Mapping[str, Any]
_KEY: Final = f"^{KEY_PATTERN.pattern.removesuffix(chr(92) + 'Z')}$"


class Media(Struct, frozen=True):
    """An answer that is not JSON of ours: its type and a sentence."""

    type: str
    description: str


class Query(Struct, frozen=True):
    """One query parameter."""

    name: str
    schema: Schema
    description: str
    required: bool = False


class Door(Struct, frozen=True, kw_only=True):
    """The row of one route. `answers` are the answers that are no problem; `key` says where the idempotency key goes;
    `waits` that `prefer: wait=N` is heard, `last_id` that `last-event-id` is; `headers` and `problem_headers` are those
    beyond what all answers have: the refusal of a command is an outcome that is replayed."""

    name: str
    tag: str
    summary: str
    answers: Mapping[int, type | UnionType | Media]
    media: Media | None = None  # another form of the first answer, for whoever accepts that
    forms: tuple[Media, ...] = ()  # further forms of the answer 200, for whoever asks for one by `format`
    takes: Schema | None = None
    key: Literal["", "once", "each"] = ""
    waits: bool = False
    last_id: bool = False
    query: tuple[Query, ...] = ()
    headers: tuple[str, ...] = ()
    problem_headers: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


def schema_of_fields(fields: Mapping[str, Field]) -> Schema:
    """Return what `read_fields` takes, as JSON Schema."""
    properties: dict[str, Any] = {}
    for name, field in fields.items():
        properties[name] = dict(SCHEMAS[field.check])
        if field.default not in (..., "", None):
            properties[name]["default"] = field.default
    properties["idempotency_key"] = {"type": "string", "pattern": _KEY}
    required = [name for name, field in fields.items() if field.default is ...]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def schema_of_change(fields: Mapping[str, Field], beside: str) -> dict[str, Any]:
    """Return the schema of a body that names at least one thing to change; `beside` changes nothing by itself."""
    return {**schema_of_fields(fields), "anyOf": [{"required": [name]} for name in fields if name != beside]}


def schema_of_type(kind: type, *without: str) -> Schema:
    """Return what converts to a type, as one JSON Schema: but for the fields `without`, and with a key in the body."""
    (whole,), components = msgspec.json.schema_components((kind,), ref_template="{name}")

    def inlined(schema: Any) -> Any:
        if isinstance(schema, dict):
            if "$ref" in schema:
                return inlined(components[schema["$ref"]])
            return {name: inlined(below) for name, below in schema.items()}
        return [inlined(below) for below in schema] if isinstance(schema, list) else schema

    found: dict[str, Any] = inlined(whole)
    fields = {name: below for name, below in found["properties"].items() if name not in without}
    return {**found, "properties": {**fields, "idempotency_key": {"type": "string", "pattern": _KEY}}}


def codes_of(route: Route, door: Door) -> list[str]:
    """Return every code that a route can be answered with, sorted; by what the route is, and by what its row says."""
    codes = {"internal", "unavailable", "version_unknown", *door.codes}
    if route.permission is not None:
        codes |= _GUARDED_CODES
    if route.body:
        codes |= {"body_too_large", "body_too_slow", "body_malformed", "overloaded"}
    if route.body.startswith("json"):
        codes |= {"body_key_repeated", "body_too_deep", "content_type_unsupported", "validation_failed"}
    if door.key:
        codes |= {"idempotency_key_ambiguous"}
    if door.key == "once":
        codes |= {"idempotency_key_missing", "idempotency_key_malformed", "idempotency_key_reused"}
    if door.query:
        codes |= {"query_malformed"}
    return sorted(codes)


WITHOUT_ROUTE: Final = frozenset({"route_not_found", "method_not_allowed"})
"""What is answered where there is no route."""

_GUARDED_CODES: Final = frozenset(
    {
        "authentication_required", "certificate_expired", "certificate_required", "certificate_revoked",
        "certificate_unknown", "credentials_disagree", "key_expired", "key_invalid", "key_revoked", "network_refused",
        "overloaded", "permission_denied", "principal_disabled", "rate_limited", "token_algorithm_refused",
        "token_audience_wrong", "token_claims_malformed", "token_expired", "token_issuer_unknown", "token_key_unknown",
        "token_malformed", "token_not_yet_valid", "token_role_refused", "token_signature_invalid",
        "token_tenant_refused", "token_too_large",
    }
)  # fmt: skip
"""What everybody may be answered with at a door that asks who comes."""
