"""What a conversion costs: exact integer arithmetic over a rate that is a decimal text.

    sold         the amount of the intent, in the currency that is sold
    fee          of it, in that currency
    at mid       (sold - fee) x mid rate, in minor units of what is bought, rounded down
    bought       (sold - fee) x mid rate x (1 - spread), rounded down: what the client gets
    spread       at mid - bought: what the client gets less than at the mid rate

Both roundings favour whoever provides the liquidity: it never gives more than the rate says. A mid rate is units of
what is bought for one unit of what is sold; minor units follow from the exponents of ISO 4217. There is no float
anywhere.

A rate holds until it is too old (`max_age_seconds`), by the time of the tick that books; a quote holds until it
expires, for the one intent that it was given for, whatever became of the rate since."""

import re
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from zentra.runtime.ledger.book import Objection
from zentra.runtime.ledger.money import MINOR_MAX, exponent

__all__ = ["BPS", "FxRate", "Price", "Quote", "is_rate", "price", "price_now", "price_of_quote"]

BPS: Final = 10_000
_RATE: Final = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?\Z", re.ASCII)


class FxRate(Struct, frozen=True):
    """A rate in one version: `mid` units of `buy` for one unit of `sell`."""

    tenant: str
    sell: str
    buy: str
    mid: str
    spread_bps: int
    fee_minor: int  # of what is sold
    as_of: datetime
    max_age_seconds: int
    source: str
    version: int = 0


class Quote(Struct, frozen=True):
    """A price that holds until `expires_at` for one intent, which has its id: so it is used once."""

    tenant: str
    intent_id: str
    sell: str
    buy: str
    minor: str
    mid: str
    spread_bps: int
    fee_minor: int
    version: int
    expires_at: datetime


class Price(Struct, frozen=True, gc=False):
    """What is sold and bought, in minor units of the currency of each, and what that rests on."""

    sold: int
    fee: int
    bought: int
    spread: int
    mid: str
    spread_bps: int
    version: int
    quote: str | None = None


def is_rate(text: str) -> bool:
    """Return whether `text` is a rate: a decimal above zero, at most 18 digits on either side of the point."""
    match = _RATE.match(text)
    return match is not None and any(digit != "0" for digit in text if digit != ".")


def price(
    sell: str, buy: str, minor: int, mid: str, spread_bps: int, fee_minor: int, version: int
) -> Price | Objection:
    """Return the price of selling `minor` of `sell` for `buy`, or `conversion_too_small` where nothing would be bought,
    `amount_overflow` where it would not fit.

    Raises ValueError for what is no rate and KeyError for what is no currency."""
    match = _RATE.match(mid)
    if match is None or not 0 <= spread_bps < BPS or fee_minor < 0:
        raise ValueError(f"no rate: {mid!r}, {spread_bps} bps, fee {fee_minor}")
    digits, fraction = match[1], match[2] or ""
    scale = exponent(buy) - exponent(sell) - len(fraction)
    given = minor - fee_minor
    if given <= 0:
        return Objection("conversion_too_small", f"the fee is {fee_minor}")
    numerator, denominator = given * int(digits + fraction), 1
    if scale >= 0:
        numerator *= 10**scale
    else:
        denominator = 10**-scale
    at_mid = numerator // denominator
    bought = numerator * (BPS - spread_bps) // (denominator * BPS)
    if bought == 0:
        return Objection("conversion_too_small", "it buys less than one minor unit")
    if at_mid > MINOR_MAX:
        return Objection("amount_overflow", "what is bought does not fit")
    return Price(minor, fee_minor, bought, at_mid - bought, mid, spread_bps, version)


def price_now(rate: FxRate | None, minor: int, now: datetime) -> Price | Objection:
    """Return the price by the rate in force, or `rate_unknown`, `rate_stale`, or what `price` objects to."""
    if rate is None:
        return Objection("rate_unknown", "nobody has set a rate for this pair")
    age = now - rate.as_of
    if age > timedelta(seconds=rate.max_age_seconds):
        return Objection("rate_stale", f"it is of {rate.as_of.isoformat()}, and good for {rate.max_age_seconds} s")
    return price(rate.sell, rate.buy, minor, rate.mid, rate.spread_bps, rate.fee_minor, rate.version)


def price_of_quote(
    quote: Quote | None, *, tenant: str, intent_id: str, sell: str, buy: str, minor: int, now: datetime
) -> Price | Objection:
    """Return the price that a quote holds, or `quote_invalid` (none of ours, or for something else),
    `quote_expired`."""
    asked = (tenant, intent_id, sell, buy, str(minor))
    if quote is None or (quote.tenant, quote.intent_id, quote.sell, quote.buy, quote.minor) != asked:
        return Objection("quote_invalid", "it was not given for this intent, pair and amount")
    if now >= quote.expires_at:
        return Objection("quote_expired", f"at {quote.expires_at.isoformat()}")
    made = price(quote.sell, quote.buy, minor, quote.mid, quote.spread_bps, quote.fee_minor, quote.version)
    if isinstance(made, Objection):
        return made
    return Price(
        made.sold, made.fee, made.bought, made.spread, made.mid, made.spread_bps, made.version, quote.intent_id
    )
