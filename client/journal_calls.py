"""The calls for journals, conversions and rates, as values; see `zentra.client.calls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from zentra.client.core import Call, body_call, get_call, json_of
from zentra.client.models import Condition, ConversionQuote, Intent, Leg, Rate, Rates
from zentra.client.terms import Time, conditions_body, legs_body, spelled

__all__ = ["create_conversion", "create_journal", "list_rates", "put_rate", "quote_conversion"]

_intent: Final = json_of(Intent)
_quote: Final = json_of(ConversionQuote)
_rate: Final = json_of(Rate)
_rates: Final = json_of(Rates)


def create_journal(
    legs: Sequence[Leg],
    *,
    currency: str | None,
    corrects: str | None,
    conditions: Sequence[Condition] | None,
    effective_at: Time | None,
    intent_id: str | None,
    scope: str | None,
    country: str | None,
    metadata: Mapping[str, str] | None,
    idempotency_key: str | None,
    wait: int | None,
) -> Call[Intent]:
    """Book many legs at once, or none of them."""
    body = {
        "kind": "journal", "legs": legs_body(legs), "currency": currency, "corrects": corrects,
        "conditions": conditions_body(conditions), "effective_at": spelled(effective_at), "intent_id": intent_id,
        "scope": scope, "country": country, "metadata": None if metadata is None else dict(metadata),
    }  # fmt: skip
    return body_call(_intent, "journals", body=body, idempotency_key=idempotency_key, wait=wait)


def create_conversion(
    *,
    amount: int,
    currency: str,
    buy_currency: str,
    source: str,
    destination: str,
    quote: str | None,
    conditions: Sequence[Condition] | None,
    intent_id: str | None,
    scope: str | None,
    country: str | None,
    metadata: Mapping[str, str] | None,
    idempotency_key: str | None,
    wait: int | None,
) -> Call[Intent]:
    """Sell one currency for another."""
    body = {
        "kind": "conversion", "amount": str(amount), "currency": currency, "buy_currency": buy_currency,
        "source": source, "destination": destination, "quote": quote, "conditions": conditions_body(conditions),
        "intent_id": intent_id, "scope": scope, "country": country,
        "metadata": None if metadata is None else dict(metadata),
    }  # fmt: skip
    return body_call(_intent, "conversions", body=body, idempotency_key=idempotency_key, wait=wait)


def quote_conversion(amount: int, currency: str, buy_currency: str, intent_id: str | None) -> Call[ConversionQuote]:
    """Ask for a price that holds."""
    query = {"amount": str(amount), "currency": currency, "buy_currency": buy_currency, "intent_id": intent_id}
    return get_call(_quote, "conversions", "quote", query=query)


def put_rate(
    *,
    sell: str,
    buy: str,
    mid: str,
    spread_bps: int | None,
    fee_minor: int | None,
    max_age_seconds: int,
    source: str,
    as_of: Time | None,
    idempotency_key: str | None,
) -> Call[Rate]:
    """Put the rate of a pair in force."""
    body = {
        "sell": sell, "buy": buy, "mid": mid, "spread_bps": spread_bps, "fee_minor": fee_minor,
        "max_age_seconds": max_age_seconds, "source": source, "as_of": spelled(as_of),
    }  # fmt: skip
    return body_call(_rate, "rates", body=body, idempotency_key=idempotency_key)


def list_rates() -> Call[Rates]:
    """List the rates in force."""
    return get_call(_rates, "rates")
