"""The terms of an intent as its owner sees them: legs, conditions, dates, corrections, and at what price it was booked.

A pure function of its sealed records; what is null is not part of the intent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["terms_of"]


def terms_of(records: Sequence[Mapping[str, Any]], corrected_by: Sequence[str]) -> dict[str, Any]:
    """Return the members of an intent that tell of its terms."""
    command = records[0]["facts"]["command"]
    legs, conditions, conversion = (command.get(name) for name in ("legs", "conditions", "conversion"))
    priced = next((record["facts"]["priced"] for record in records if "priced" in record["facts"]), None)
    return {
        "legs": None if legs is None else [
            {
                "source": leg["source"], "destination": leg["destination"], "amount": int(leg["minor"]),
                "currency": leg["currency"], "reference": leg.get("reference"),
            }
            for leg in legs
        ],
        "conditions": None if conditions is None else [
            {"account": one["account"], "of": one["of"], "min": one.get("min"), "max": one.get("max")}
            for one in conditions
        ],
        "effective_at": command.get("effective_at"),
        "corrects": command.get("corrects"),
        "corrected_by": list(corrected_by),
        "conversion": None if conversion is None else {
            "buy_currency": conversion["buy"], "quote": conversion.get("quote"),
            "price": None if priced is None else {**priced, "quote": priced.get("quote")},
        },
    }  # fmt: skip
