"""Journals, conversions and rates. Methods raise APIError, and ValueError for what cannot be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zentra.client import journal_calls as calls
from zentra.client.asynchronous.transport import AsyncTransport
from zentra.client.models import Condition, ConversionQuote, Intent, Leg, Rate
from zentra.client.terms import Time

__all__ = ["AsyncConversions", "AsyncJournals", "AsyncRates"]


class AsyncJournals:
    """Transactions of many legs, and corrections."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        legs: Sequence[Leg],
        currency: str | None = None,
        corrects: str | None = None,
        conditions: Sequence[Condition] | None = None,
        effective_at: Time | None = None,
        intent_id: str | None = None,
        scope: str | None = None,
        country: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Intent:
        """Book 1 to 100 legs, all or none; return the intent as `runtime.intents.create` does.

        `currency` is that of legs which name none. A journal that `corrects` another intent waits for a person."""
        return await self._transport.send(
            calls.create_journal(
                legs,
                currency=currency,
                corrects=corrects,
                conditions=conditions,
                effective_at=effective_at,
                intent_id=intent_id,
                scope=scope,
                country=country,
                metadata=metadata,
                idempotency_key=idempotency_key,
                wait=wait,
            )
        )


class AsyncConversions:
    """Selling one currency for another."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        amount: int,
        currency: str,
        buy_currency: str,
        source: str,
        destination: str,
        quote: str | None = None,
        conditions: Sequence[Condition] | None = None,
        intent_id: str | None = None,
        scope: str | None = None,
        country: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Intent:
        """Sell `amount` minor units of `currency`; return the intent as `runtime.intents.create` does.

        With a `quote` the price is that of the quote, without one that of the rate in force when it is booked."""
        return await self._transport.send(
            calls.create_conversion(
                amount=amount,
                currency=currency,
                buy_currency=buy_currency,
                source=source,
                destination=destination,
                quote=quote,
                conditions=conditions,
                intent_id=intent_id,
                scope=scope,
                country=country,
                metadata=metadata,
                idempotency_key=idempotency_key,
                wait=wait,
            )
        )

    async def quote(
        self, *, amount: int, currency: str, buy_currency: str, intent_id: str | None = None
    ) -> ConversionQuote:  # fmt: skip
        """Return a price that holds until it expires, for one intent. Raises APIError and ValueError."""
        return await self._transport.send(calls.quote_conversion(amount, currency, buy_currency, intent_id))


class AsyncRates:
    """The rates that conversions go by."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def put(
        self,
        *,
        sell: str,
        buy: str,
        mid: str,
        max_age_seconds: int,
        source: str,
        spread_bps: int | None = None,
        fee_minor: int | None = None,
        as_of: Time | None = None,
        idempotency_key: str | None = None,
    ) -> Rate:
        """Put the rate of a pair in force: `mid` units of `buy`, as a decimal text, for one of `sell`."""
        return await self._transport.send(
            calls.put_rate(
                sell=sell,
                buy=buy,
                mid=mid,
                spread_bps=spread_bps,
                fee_minor=fee_minor,
                max_age_seconds=max_age_seconds,
                source=source,
                as_of=as_of,
                idempotency_key=idempotency_key,
            )
        )

    async def in_force(self) -> tuple[Rate, ...]:
        """Return the rates in force, by pair. Raises APIError and ValueError."""
        return (await self._transport.send(calls.list_rates())).data
