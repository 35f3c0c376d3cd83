"""The rows of the description: what a door is, and those of doors that come again and again."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from zentra.gateway.description import shapes
from zentra.gateway.http.fields import SCHEMAS, Check, Field
from zentra.gateway.http.lists import LIMIT_DEFAULT, LIMIT_MAX
from zentra.runtime.intents.command import KEY_PATTERN, intent_schema

__all__ = [
    "COMMAND_HEADERS", "INTENT_ANSWERS", "INTENT_CODES", "INTENT_HEADERS", "REPLAYED", "Door", "Media", "Query",
    "Schema", "command_row", "intent_row", "list_row", "schema_of_fields", "schema_of_type",
]  # fmt: skip

Schema = Mapping[str, Any]


class Media(Struct, frozen=True):
    """An answer that is not JSON of ours: its type and a sentence."""

    type: str
    description: str


class Query(Struct, frozen=True):
    """One query parameter."""

    name: str
    schema: Schema
    description: str


class Door(Struct, frozen=True, kw_only=True):
    """The row of one route. `answers` are the answers that are no problem; `key` says where the idempotency key goes;
    `waits` that `prefer: wait=N` is heard, `last_id` that `last-event-id` is; `headers` and `problem_headers` are those
    beyond what all answers have: the refusal of a command is an outcome that is replayed."""

    name: str
    tag: str
    summary: str
    answers: Mapping[int, type | UnionType | Media]
    media: Media | None = None  # another form of the first answer, for whoever accepts that
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


_KEY: Final = f"^{KEY_PATTERN.pattern.removesuffix(chr(92) + 'Z')}$"
REPLAYED: Final = ("idempotent-replayed", "idempotency-first-seen", "x-original-request-id")
_COMMAND_ANSWERS: Final = {200: shapes.CommandAnswer, 202: shapes.CommandAnswer}
COMMAND_HEADERS: Final = ("location", "preference-applied", *REPLAYED)
INTENT_ANSWERS: Final = {200: shapes.Intent, 202: shapes.Accepted | shapes.Intent}
INTENT_HEADERS: Final = ("location", "preference-applied", *REPLAYED)
INTENT_CODES: Final = ("idempotency_in_flight", "intent_id_conflict")
_CURSOR: Final = Query("cursor", {"type": "string"}, "`next_cursor` of the page before, with the same filters")
_LIMIT: Final = Query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    "how many rows at most",
)


def intent_row(name: str, summary: str, kinds: frozenset[str] | None) -> Door:
    """Return the row of a door that makes intents."""
    return Door(
        name=name, tag="intents", summary=summary, answers=INTENT_ANSWERS, takes=intent_schema(kinds), key="once",
        waits=True, headers=INTENT_HEADERS, codes=INTENT_CODES,
    )  # fmt: skip


def command_row(name: str, tag: str, summary: str, takes: Mapping[str, Field], *codes: str) -> Door:
    """Return the row of a door that gives commands."""
    return Door(
        name=name, tag=tag, summary=summary, answers=_COMMAND_ANSWERS, takes=schema_of_fields(takes), key="once",
        waits=True, headers=COMMAND_HEADERS, problem_headers=COMMAND_HEADERS[1:], codes=("not_found", *codes),
    )  # fmt: skip


def list_row(
    name: str, tag: str, summary: str, shape: type, filters: Mapping[str, Check], *codes: str,
    media: Media | None = None, more_headers: tuple[str, ...] = (),
) -> Door:  # fmt: skip
    """Return the row of a list: its filters are those that its handler reads; `media` is another form of the answer."""
    asked = [Query(one, SCHEMAS[check], "only those that fit") for one, check in filters.items()]
    return Door(
        name=name, tag=tag, summary=summary, answers={200: shape}, headers=("link", *more_headers), media=media,
        codes=("cursor_malformed", *codes), query=(_LIMIT, _CURSOR, *asked),
    )  # fmt: skip
