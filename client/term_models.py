"""Journals, conversions and rates as values; see `zentra.client.models`, which has them all."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

__all__ = ["Condition", "Conversion", "ConversionQuote", "Leg", "Price", "Rate", "Rates"]


class Leg(Struct, frozen=True, kw_only=True):
    """One movement of a journal; without a currency it is that of the journal."""

    source: str
    destination: str
    amount: int
    currency: str | None = None
    reference: str | None = None


class Condition(Struct, frozen=True, kw_only=True):
    """What a balance has to be once the intent is in the books; `of` is available, posted or pending."""

    account: str
    of: str
    min: int | None = None
    max: int | None = None


class Price(Struct, frozen=True, kw_only=True):
    """At what price a conversion was booked; `fee` is of what is sold, `spread` of what is bought."""

    sold: int
    bought: int
    fee: int
    spread: int
    mid: str
    spread_bps: int
    rate_version: int
    quote: str | None = None


class Conversion(Struct, frozen=True, kw_only=True):
    """What is bought for the amount of an intent; the price stands once it is booked."""

    buy_currency: str
    quote: str | None = None
    price: Price | None = None


class ConversionQuote(Struct, frozen=True, kw_only=True):
    """A price that is held until it expires, for the intent of this intent_id."""

    quote: str
    intent_id: str
    amount: int
    currency: str
    buy_amount: int
    buy_currency: str
    fee: int
    spread: int
    mid: str
    spread_bps: int
    rate_version: int
    expires_at: datetime


class Rate(Struct, frozen=True, kw_only=True):
    """The rate of a pair: `mid` units of `buy` for one unit of `sell`."""

    sell: str
    buy: str
    mid: str
    spread_bps: int
    fee_minor: int
    as_of: datetime
    max_age_seconds: int
    source: str
    version: int | None = None
    created_by: str | None = None


class Rates(Struct, frozen=True, kw_only=True):
    """The rates in force, by pair."""

    data: tuple[Rate, ...]
