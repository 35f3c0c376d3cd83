"""The nested terms of an intent: frozen Structs that stand in the canonical command where a client gives them.

What is left out is left out of the canonical bytes too, so the digest of a command says nothing of terms that it does
not use."""

import re
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from zentra.runtime.errors import Refusal
from zentra.runtime.ledger.money import MINOR_MAX, parse_minor

__all__ = ["FEE_SCHEMA", "FeeTerms", "Objections", "fee_terms"]

Objections = list[tuple[str, str, str]]
"""What is wrong with nested terms: where below them (a JSON pointer), a stable code, a sentence."""


class FeeTerms(Struct, frozen=True, kw_only=True, gc=False):
    """What a client agrees to pay: the digest of the quote that it was shown, the most that is charged on top of the
    amount (a string of digits, for sealed JSON), or both."""

    max: str | UnsetType = UNSET
    quote_digest: str | UnsetType = UNSET


FEE_SCHEMA: Final[dict[str, Any]] = {
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


def fee_terms(value: object) -> tuple[FeeTerms, Objections]:
    """Return the fee terms that decoded JSON says, and every objection to it."""
    if not isinstance(value, dict):
        return FeeTerms(), [("", "field_type", "expected `object`")]
    found: Objections = [
        (f"/{name.replace('~', '~0').replace('/', '~1')}", "field_unknown", "there is no such field")
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
