"""Terms that only some intents have: frozen Structs in the canonical command, and how requests spell them.

- Each has one object of its own in the request (`hold`, `fee`), so what a transfer needs is not in the way of a hold.
- A command without terms is spelled as it always was: its bytes and its digest do not know of them.
- What is left out and has a default is written down as the default, so both spellings ask for the same thing."""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from zentra.runtime.errors import Refusal
from zentra.runtime.ledger.money import MINOR_MAX, parse_minor
from zentra.runtime.names import (
    COUNTRY_PATTERN,
    LEGAL_CHARACTERS_MAX,
    LEGAL_KINDS,
    LEGAL_NAME_SCHEMA,
    is_legal_name,
)
from zentra.runtime.pointers import escaped

__all__ = [
    "CHARGEABLE_KINDS",
    "COUNTERPARTY_SCHEMA",
    "FEE_SCHEMA",
    "HOLD_SCHEMA",
    "HOLD_SECONDS_MAX",
    "HOLD_SECONDS_MIN",
    "Condition",
    "Conversion",
    "Counterparty",
    "Deposit",
    "FeeTerms",
    "Finding",
    "HoldTerms",
    "Leg",
    "read_counterparty",
    "read_fee",
    "read_hold",
]

HOLD_SECONDS_MIN: Final = 1
HOLD_SECONDS_DEFAULT: Final = 7 * 86_400
HOLD_SECONDS_MAX: Final = 31 * 86_400  # the longest that card schemes let an authorisation stand
CONDITION_CHARACTERS_MAX: Final = 512

Finding = tuple[str, str, str]
"""What is wrong with a part of the terms: a JSON pointer from the terms on, a stable code, and a sentence."""


class Deposit(Struct, frozen=True, gc=False):
    """Money that has come in from outside: it is booked, if not to whom it was sent then as unmatched. No request holds
    this term: the door of deposits adds it.

    `reference` is the sender's, unique per tenant; `number` the account number that the money was sent to."""

    reference: str
    number: str | None = None


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
        (f"/{escaped(str(name))}", "field_unknown", "there is no such field")
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


CHARGEABLE_KINDS: Final = ("transfer", "payment", "book_transfer")
"""The kinds of intent that fees are charged on; holds, journals and conversions carry their own or none."""


class FeeTerms(Struct, frozen=True, kw_only=True, gc=False):
    """What a client agrees to pay: the digest of the quote that it was shown, the most that is charged on top of the
    amount (a string of digits, for sealed JSON), or both."""

    max: str | UnsetType = UNSET
    quote_digest: str | UnsetType = UNSET


FEE_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "what may be charged: the digest of a quote, the most on top of the amount in minor units, or both",
    "properties": {
        "max": {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MINOR_MAX},
                {"type": "string", "pattern": "^[0-9]{1,19}$"},
            ]
        },
        "quote_digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
    "minProperties": 1,
    "additionalProperties": False,
}
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


def read_fee(value: object) -> tuple[FeeTerms, list[Finding]]:
    """Return the fee terms that decoded JSON says, and every objection to it."""
    if not isinstance(value, dict):
        return FeeTerms(), [("", "field_type", "expected `object`")]
    found: list[Finding] = [
        (f"/{escaped(name)}", "field_unknown", "there is no such field")
        for name in value
        if name not in ("max", "quote_digest")
    ]
    given: dict[str, str] = {}
    if "max" in value:
        try:
            # nothing at all is a bound like any other, and no amount
            most = value["max"]
            free = type(most) in (int, str) and not str(most).strip("0") and most != ""
            given["max"] = "0" if free else str(parse_minor(most))
        except Refusal as refusal:
            found.append(("/max", refusal.reason, "0 or more minor units, an integer or a string of digits"))
    if "quote_digest" in value:
        digest = value["quote_digest"]
        if isinstance(digest, str) and _DIGEST.match(digest):
            given["quote_digest"] = digest
        else:
            found.append(("/quote_digest", "digest_malformed", "64 hex digits, as a quote says"))
    if not value:
        found.append(("", "fee_terms_empty", "name max, quote_digest, or both"))
    return FeeTerms(**given), found


_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,63}\Z", re.ASCII)


class Counterparty(Struct, frozen=True, gc=False):
    """Whoever gets the money outside of the tenant, as the client names them."""

    name: str
    country: str | UnsetType = UNSET
    account: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET


COUNTERPARTY_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "whoever gets the money outside of the tenant; screened where the tenant's rules demand it",
    "properties": {
        "name": LEGAL_NAME_SCHEMA,
        "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "account": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,63}$"},
        "kind": {"enum": list(LEGAL_KINDS)},
    },
    "required": ["name"],
    "additionalProperties": False,
}  # fmt: skip


def read_counterparty(value: object) -> tuple[Counterparty, list[Finding]]:
    """Return the counterparty that decoded JSON names, and every objection to it."""
    if not isinstance(value, dict):
        return Counterparty(""), [("", "field_type", "expected an object")]
    found: list[Finding] = []
    given: dict[str, str] = {}
    for name, text in value.items():
        fits = _FITS.get(name)
        if fits is None:
            found.append((f"/{escaped(str(name))}", "field_unknown", "there is no such field"))
        elif not isinstance(text, str):
            found.append((f"/{name}", "field_type", "expected a string"))
        elif not fits[0](text):
            found.append((f"/{name}", *fits[1:]))
        else:
            given[name] = text
    if "name" not in value:
        found.append(("/name", "field_missing", "this field is required"))
    return (Counterparty(""), found) if found else (Counterparty(**given), found)


_FITS: Final[Mapping[str, tuple[Any, str, str]]] = {
    "name": (is_legal_name, "text_malformed", f"1 to {LEGAL_CHARACTERS_MAX} characters, no control characters"),
    "country": (COUNTRY_PATTERN.match, "country_malformed", "two capital letters, ISO 3166-1"),
    "account": (_ACCOUNT.match, "id_malformed", "1 to 64 letters, digits, spaces and . _ : / -"),
    "kind": (LEGAL_KINDS.__contains__, "kind_unknown", f"one of {', '.join(LEGAL_KINDS)}"),
}
