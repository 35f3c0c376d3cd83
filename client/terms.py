"""The terms of an intent as they are sent: times, conditions on balances, the legs of a journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias

from zentra.client.models import Condition, Leg

__all__ = ["Time", "conditions_body", "legs_body", "spelled"]

Time: TypeAlias = datetime | str
"""A time with its offset; as text it is RFC 3339."""


def spelled(time: Time | None) -> str | None:
    """Return a time as text, or None where there is none. Raises ValueError for one without its offset."""
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise ValueError("a time has its offset: datetime(..., tzinfo=UTC)")
    return time.isoformat()


def conditions_body(conditions: Sequence[Condition] | None) -> list[dict[str, Any]] | None:
    """Return conditions as they are sent: amounts as digits, without what is not said."""
    if conditions is None:
        return None
    found = [{"account": c.account, "of": c.of, "min": _digits(c.min), "max": _digits(c.max)} for c in conditions]
    return [{name: value for name, value in one.items() if value is not None} for one in found]


def legs_body(legs: Sequence[Leg]) -> list[dict[str, Any]]:
    """Return legs as they are sent: amounts as digits, without what is not said."""
    found = [
        {
            "source": leg.source, "destination": leg.destination, "amount": str(leg.amount), "currency": leg.currency,
            "reference": leg.reference,
        }
        for leg in legs
    ]  # fmt: skip
    return [{name: value for name, value in one.items() if value is not None} for one in found]


def _digits(amount: int | None) -> str | None:
    return None if amount is None else str(amount)
