"""The rows of doors that come again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zentra.gateway.description import shapes
from zentra.gateway.description.door import Door, Media, Query, schema_of_fields
from zentra.gateway.http.fields import NOTHING, SCHEMAS, Check, Field
from zentra.gateway.http.lists import LIMIT_DEFAULT, LIMIT_MAX
from zentra.runtime.intents.command import intent_schema

__all__ = [
    "COMMAND_HEADERS", "INTENT_ANSWERS", "INTENT_CODES", "INTENT_HEADERS", "REPLAYED", "command_row", "intent_row",
    "list_row", "version_rows",
]  # fmt: skip

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


def version_rows(
    kind: str, of: str, draft: Mapping[str, Field], version: type, shown: type, versions: type, *, path: str, then: str
) -> dict[str, Door]:
    """Return the rows of what is kept in versions: `of` says of what they are versions, and `then` what may follow on a
    check of them."""
    tag, one = path.removeprefix("/"), f"{path}/{{version}}"

    def step(name: str, summary: str, *codes: str) -> Door:
        return Door(
            name=f"{name}_{kind}", tag=tag, summary=summary, answers={200: version}, takes=schema_of_fields(NOTHING),
            key="once", headers=REPLAYED, codes=("not_found", "policy_state_conflict", *codes),
        )  # fmt: skip

    return {
        f"POST {path}": Door(
            name=f"draft_{kind}", tag=tag, summary=f"Write the next version of the tenant's {of}, as a draft.",
            answers={201: version}, takes=schema_of_fields(draft), key="once", headers=("location", *REPLAYED),
        ),
        f"GET {path}": list_row(
            f"list_{tag}", tag, f"The versions of the tenant's {of}, the newest first.", versions, {}
        ),
        f"GET {one}": Door(
            name=f"show_{kind}", tag=tag, summary="A version, and who did what with it.", answers={200: shown},
            codes=("not_found",),
        ),
        f"POST {one}/validate": step("validate", f"Check a draft as a whole; then it can be {then}."),
        f"POST {one}/promote": step(
            "promote", "Put a validated version in force, from the next decision on.", "self_promotion"
        ),
        f"POST {one}/rollback": step(
            "roll_back", "Put a version in force again that was so before.", "self_promotion"
        ),
    }  # fmt: skip
