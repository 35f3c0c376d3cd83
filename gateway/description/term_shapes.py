"""What answers look like around journals, conversions and rates, as types; see `zentra.gateway.description.shapes`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = ["ConditionShown", "ConversionShown", "LegShown", "QuoteGiven", "Rate", "RatePut", "Rates"]

Digits = Annotated[str, Meta(pattern="^-?[0-9]+$", description="minor units, as digits: sums may be wide")]


class LegShown(Struct, frozen=True, kw_only=True):
    """One movement of a journal."""

    source: str
    destination: str
    amount: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    currency: str
    reference: str | None


class ConditionShown(Struct, frozen=True, kw_only=True):
    """What a balance has to be once the intent is in the books."""

    account: str
    of: Literal["available", "posted", "pending"]
    min: Digits | None
    max: Digits | None


class PriceShown(Struct, frozen=True, kw_only=True):
    """At what price a conversion was booked; `fee` is of what is sold, `spread` of what is bought."""

    sold: Digits
    bought: Digits
    fee: Digits
    spread: Digits
    mid: str
    spread_bps: int
    rate_version: int
    quote: str | None


class ConversionShown(Struct, frozen=True, kw_only=True):
    """What is bought for the amount; the price stands once it is booked."""

    buy_currency: str
    quote: str | None
    price: PriceShown | None


class QuoteGiven(Struct, frozen=True, kw_only=True):
    """A price that is held until it expires, for the intent of this intent_id."""

    quote: str
    intent_id: str
    amount: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    currency: str
    buy_amount: Digits
    buy_currency: str
    fee: Digits
    spread: Digits
    mid: str
    spread_bps: int
    rate_version: int
    expires_at: datetime


class RatePut(Struct, frozen=True, kw_only=True):
    """A rate that was put in force: the same bytes for ever under its key."""

    sell: str
    buy: str
    mid: str
    spread_bps: int
    fee_minor: int
    max_age_seconds: int
    source: str
    as_of: datetime
    created_by: str


class Rate(Struct, frozen=True, kw_only=True):
    """The rate of a pair in force: `mid` units of `buy` for one unit of `sell`."""

    sell: str
    buy: str
    mid: str
    spread_bps: int
    fee_minor: int
    as_of: datetime
    max_age_seconds: int
    source: str
    version: int


class Rates(Struct, frozen=True):
    """The rates in force, by pair."""

    data: list[Rate]
