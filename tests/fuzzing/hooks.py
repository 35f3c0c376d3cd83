"""What a schema cannot say of the API: a call has one idempotency key, wherever it stands; only the server makes a
sound cursor, so a sound call has none; 5.0 is no integer here; an amount of nineteen digits may be too much; and fields
that bound each other: two currencies that differ, a minimum that is not above its maximum, a rate of the past, a
journal whose currency a leg has and whose sums fit; free objects without fractions or zero bytes at any depth; a number
of a bank with its check digits."""

from __future__ import annotations

import re
import uuid
from typing import Any

import schemathesis

_KEY = "x-idempotency-key"
_MINOR_MAX = 2**63 - 1
_SAFE = 2**53 - 1
_IBAN = "GB29NWBK60161331926819"  # of the registry: its check digits are right
_DIGITS = re.compile(r"[0-9]{19,128}\Z", re.ASCII)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Give a call that is meant to be sound the one key that it needs; what is broken on purpose stays broken."""
    meta = case.meta
    if meta is not None and not meta.generation.mode.is_positive:
        return
    case.body = _whole(case.body)
    if case.query and case.operation.get_parameter("cursor", "query") is not None:
        case.query.pop("cursor", None)
        if "number" in case.query:
            case.query["number"] = f"iban:{_IBAN}"
        if {"from", "to"} <= set(case.query):
            case.query["to"] = case.query["from"]
    if case.operation.get_parameter(_KEY, "header") is None:
        return
    if isinstance(case.body, dict):
        case.body.pop("idempotency_key", None)
        _agree(case.body, case.operation.path)
    case.headers[_KEY] = uuid.uuid4().hex


def _whole(value: Any) -> Any:
    """Return a body with integers where it has floats that JSON Schema takes for integers, and amounts that fit."""
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    if isinstance(value, str) and _DIGITS.match(value) and int(value) > _MINOR_MAX:
        return str(_MINOR_MAX)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _agree(body: dict[str, Any], path: str) -> None:
    """Make fields agree that are sound one by one."""
    if path == "/rates":
        _differ(body, "sell", "buy")
        if "as_of" in body:
            body["as_of"] = min(body["as_of"], "2025-01-01T00:00:00Z")
    elif path == "/approvals":
        body["request"] = _without_fractions(body["request"])
    elif path == "/accounts/{id}/numbers":
        if body["scheme"] == "virtual":
            body.pop("number", None)
        else:
            body |= {"scheme": "iban", "number": _IBAN}
    elif path == "/deposits" and "number" in body:
        body["number"] = f"iban:{_IBAN}"
        body.pop("account", None)
    elif path == "/accounts":
        body.pop("party", None)
        if "book" in body:
            body["book"] = "default"
    elif path == "/cases/{id}/resolve" and body["resolution"] in ("true_match", "false_positive"):
        body["resolution"] = "dismissed"  # those two are of possible matches, and nobody here is on a list
    elif path == "/policies":
        body["document"] = _without_zeros(body["document"])
    else:
        _differ(body, "currency", "buy_currency")
        for condition in body.get("conditions", ()):
            if "min" in condition and "max" in condition:
                low, high = sorted((condition["min"], condition["max"]), key=int)
                condition |= {"min": low, "max": high}
        if "legs" in body:
            _fit_legs(body)


def _differ(body: dict[str, Any], one: str, other: str) -> None:
    if other in body and body.get(one) == body[other]:
        body[other] = "NGN" if body[one] != "NGN" else "USD"


def _fit_legs(body: dict[str, Any]) -> None:
    legs = body["legs"]
    if sum(int(leg["amount"]) for leg in legs) > _MINOR_MAX:
        del legs[1:]
    if "currency" in body and all(leg.get("currency", body["currency"]) != body["currency"] for leg in legs):
        del legs[0]["currency"]


def _without_zeros(value: Any) -> Any:
    """Return a free object without zero bytes in its texts, which the store does not take."""
    if isinstance(value, dict):
        return {name.replace("\0", ""): _without_zeros(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_zeros(inner) for inner in value]
    return value.replace("\0", "") if isinstance(value, str) else value


def _without_fractions(value: Any) -> Any:
    """Return a free object that has a canonical form: one with integers below 2^53 and no other numbers."""
    if isinstance(value, dict):
        return {name: _without_fractions(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_fractions(inner) for inner in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return int(max(-_SAFE, min(_SAFE, value)))
