"""Terms that only some kinds of intents have: frozen Structs in the canonical command, and how requests spell them.

- Each kind has one object of its own in the request (`hold`), so what a transfer needs is not in the way of a hold.
- A command without terms is spelled as it always was: its bytes and its digest do not know of them.
- What is left out and has a default is written down as the default, so both spellings ask for the same thing."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

__all__ = [
    "HOLD_SCHEMA",
    "HOLD_SECONDS_MAX",
    "HOLD_SECONDS_MIN",
    "Condition",
    "Conversion",
    "Finding",
    "HoldTerms",
    "Leg",
    "read_hold",
]

HOLD_SECONDS_MIN: Final = 1
HOLD_SECONDS_DEFAULT: Final = 7 * 86_400
HOLD_SECONDS_MAX: Final = 31 * 86_400  # the longest that card schemes let an authorisation stand
CONDITION_CHARACTERS_MAX: Final = 512

Finding = tuple[str, str, str]
"""What is wrong with a part of the terms: a JSON pointer from the terms on, a stable code, and a sentence."""


class HoldTerms(Struct, frozen=True, gc=False):
    """How long a hold lasts from the moment that it stands, and what it is to be released for, in words."""

    expires_in_seconds: int = HOLD_SECONDS_DEFAULT
    release_condition: str | UnsetType = UNSET


class Leg(Struct, frozen=True, kw_only=True, gc=False):
    """One movement of a journal."""

    source: str
    destination: str
    minor: str
    currency: str
    reference: str | UnsetType = UNSET


class Condition(Struct, frozen=True, kw_only=True, gc=False):
    """What a balance has to be once the intent is in the books; `of` is available, posted or pending."""

    account: str
    of: str
    min: str | UnsetType = UNSET
    max: str | UnsetType = UNSET


class Conversion(Struct, frozen=True, kw_only=True, gc=False):
    """What is bought for the amount of an intent, and the quote whose price it takes where there is one."""

    buy: str
    quote: str | UnsetType = UNSET


HOLD_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "of a hold, and of nothing else",
    "properties": {
        "expires_in_seconds": {
            "type": "integer", "minimum": HOLD_SECONDS_MIN, "maximum": HOLD_SECONDS_MAX,
            "default": HOLD_SECONDS_DEFAULT,
        },
        "release_condition": {
            "type": "string", "minLength": 1, "maxLength": CONDITION_CHARACTERS_MAX, "pattern": "^[^\\x00]*$",
        },
    },
    "additionalProperties": False,
}  # fmt: skip
"""What `read_hold` takes, as JSON Schema."""


def read_hold(value: object) -> tuple[HoldTerms | None, list[Finding]]:
    """Return the terms that a request spells, or None and everything that is wrong with them."""
    if not isinstance(value, dict):
        return None, [("", "field_type", "expected an object")]
    found: list[Finding] = [
        ("/" + str(name).replace("~", "~0").replace("/", "~1"), "field_unknown", "there is no such field")
        for name in value
        if name not in HoldTerms.__struct_fields__
    ]
    seconds = value.get("expires_in_seconds", HOLD_SECONDS_DEFAULT)
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        found.append(("/expires_in_seconds", "field_type", "expected an integer"))
    elif not HOLD_SECONDS_MIN <= seconds <= HOLD_SECONDS_MAX:
        bounds = f"{HOLD_SECONDS_MIN} to {HOLD_SECONDS_MAX} seconds"
        found.append(("/expires_in_seconds", "duration_out_of_range", bounds))
    condition = value.get("release_condition", UNSET)
    if condition is not UNSET and not isinstance(condition, str):
        found.append(("/release_condition", "field_type", "expected a string"))
    elif condition is not UNSET and (not 0 < len(condition) <= CONDITION_CHARACTERS_MAX or "\x00" in condition):
        detail = f"1 to {CONDITION_CHARACTERS_MAX} characters"
        found.append(("/release_condition", "text_malformed", detail))
    return (None, found) if found else (HoldTerms(seconds, condition), found)
