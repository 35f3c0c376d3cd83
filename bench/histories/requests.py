"""What a request asks for and what is wrong with it, as far as a workload goes; written from the interface alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["KNOWN_CURRENCIES", "complaints", "content", "differing"]

KNOWN_CURRENCIES: Final = frozenset({"NGN", "USD", "EUR", "GBP", "KES", "GHS", "ZAR", "JPY", "KWD"})
MINOR_MAX: Final = 2**63 - 1
_REQUIRED: Final = ("amount", "currency", "source", "destination")
_DEFAULTS: Final[Mapping[str, Any]] = {
    "kind": "transfer",
    "scope": "default",
    "country": None,
    "intent_id": None,
    "money_model": "minor_units + ledger_currency",
    "primitives": ["policy", "ledger", "events"],
    "metadata": {},
}
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def content(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sound request or a stored command asks for: two that are equal ask for the same thing."""
    asked = {**_DEFAULTS, **body}
    if "amount" in asked:
        asked["minor"] = asked.pop("amount")
    asked["minor"] = str(int(asked["minor"]))
    asked["primitives"] = sorted(set(asked["primitives"]))
    return asked


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields in which two contents differ, sorted."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def complaints(body: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return (pointer, code) of all that is wrong with a request; none for a sound one.

    It knows the rules that a workload breaks on purpose: fields that miss or are unknown, amounts, currencies, ids."""
    found = {(f"/{name}", "field_missing") for name in _REQUIRED if name not in body}
    found |= {(f"/{name}", "field_unknown") for name in body if name not in _REQUIRED and name not in _DEFAULTS}
    if "amount" in body and (code := _amount(body["amount"])):
        found.add(("/amount", code))
    if body.get("currency", "NGN") not in KNOWN_CURRENCIES:
        found.add(("/currency", "currency_unknown"))
    found |= {
        (f"/{name}", "id_malformed")
        for name in ("source", "destination", "intent_id")
        if name in body and not _ID.fullmatch(body[name])
    }
    return frozenset(found)


def _amount(given: object) -> str:
    if isinstance(given, bool) or not isinstance(given, int | str):
        return "amount_invalid"
    if isinstance(given, str) and not re.fullmatch("-?[0-9]+", given, re.ASCII):
        return "amount_invalid"
    minor = int(given)
    if minor == 0:
        return "amount_zero"
    if minor < 0:
        return "amount_negative"
    return "amount_overflow" if minor > MINOR_MAX else ""
