"""The doors to journals and conversions, and to the rates that conversions go by.

- A journal and a conversion are intents like any other: these doors make the command that the general one would make.
- A quote is a price that is held for one intent, for half a minute; nothing is stored for it.
- Rates are put by operators and are in force from the next commit of the engine on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import answered
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Check, Field, Objection, currency, identifier, read_fields, text
from zentra.gateway.http.lists import amount
from zentra.gateway.http.problems import Problem, refusals_answered
from zentra.gateway.quoting import Quotes
from zentra.gateway.routes.intents import IntentRoutes
from zentra.runtime.intents.command import Violation, digest_of
from zentra.runtime.intents.reading import moment_of
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger import book
from zentra.runtime.ledger.conversion import BPS, FxRate, Quote, is_rate, price_now
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.rates import MAX_AGE_SECONDS_MAX, put_rate_once
from zentra.storage.pool import Pool
from zentra.storage.reads import rates as rate_reads

__all__ = ["CONVERSIONS", "JOURNALS", "QUOTE", "RATE", "JournalRoutes"]

JOURNALS: Final = frozenset({IntentKind.JOURNAL.value})
CONVERSIONS: Final = frozenset({IntentKind.CONVERSION.value})
QUOTE_LASTS: Final = timedelta(seconds=30)
FEE_MAX: Final = 10**15


def rate(value: Any) -> str:
    """Return a rate: a decimal above zero."""
    if not isinstance(value, str):
        raise Objection("field_type", "expected a string")
    if not is_rate(value):
        raise Objection("rate_malformed", "a decimal above zero, at most 18 digits on either side of the point")
    return value


def moment(value: Any) -> datetime:
    """Return a time with its offset, as RFC 3339 spells it."""
    found = moment_of(value)
    if found is None:
        raise Objection("time_malformed", "a time of RFC 3339 with its offset, like 2026-04-01T12:00:00Z")
    return found


def _whole(least: int, most: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Objection("field_type", "expected an integer")
        if not least <= value <= most:
            raise Objection("rate_malformed", f"{least} to {most}")
        return value

    SCHEMAS[check] = {"type": "integer", "minimum": least, "maximum": most}
    return check


SCHEMAS[moment] = {"type": "string", "format": "date-time"}
SCHEMAS[rate] = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?$", "not": {"pattern": "^[0.]*$"}}
RATE: Final[Mapping[str, Field]] = {
    "sell": Field(currency),
    "buy": Field(currency),
    "mid": Field(rate),
    "spread_bps": Field(_whole(0, BPS - 1), 0),
    "fee_minor": Field(_whole(0, FEE_MAX), 0),
    "max_age_seconds": Field(_whole(1, MAX_AGE_SECONDS_MAX)),
    "source": Field(text),
    "as_of": Field(moment, None),
}
QUOTE: Final[Mapping[str, Check]] = {
    "amount": amount, "currency": currency, "buy_currency": currency, "intent_id": identifier,
}  # fmt: skip


class JournalRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, intents: IntentRoutes, quotes: Quotes) -> None:
        self._pool, self._intents, self._quotes = pool, intents, quotes
        self._new_id = Uuid7()

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/journals", self.create_journal, P.INTENTS_CREATE, body="json"),
            Route("POST", "/conversions", self.create_conversion, P.INTENTS_CREATE, body="json"),
            Route("GET", "/conversions/quote", self.quote, P.RATES_READ),
            Route("POST", "/rates", self.put_rate, P.RATES_WRITE, body="json"),
            Route("GET", "/rates", self.rates, P.RATES_READ),
        ]

    async def create_journal(self, request: Request) -> Reply:
        """The door for transactions of many legs, and for corrections."""
        return await self._intents.make(request, JOURNALS)

    async def create_conversion(self, request: Request) -> Reply:
        """The door for conversions; one that names a quote has the quote's intent_id unless it says another."""
        body = request.json
        if isinstance(body, dict) and isinstance(body.get("quote"), str) and "intent_id" not in body:
            quote = self._quotes.open(body["quote"])
            if quote is not None:
                request.json = {**body, "intent_id": quote.intent_id}
        return await self._intents.make(request, CONVERSIONS)

    async def quote(self, request: Request) -> Reply:
        """A price that holds for half a minute, for one intent."""
        tenant, asked = request.principal.tenant, _read_query(request, QUOTE, "amount", "currency", "buy_currency")
        found, now = await rate_reads.rate_now(self._pool, tenant, asked["currency"], asked["buy_currency"])
        price = price_now(found, asked["amount"], now)
        if isinstance(price, book.Objection):
            raise Problem(price.code, price.detail)
        expires_at = now + QUOTE_LASTS
        intent_id = asked.get("intent_id") or self._new_id()
        quote = Quote(
            tenant, intent_id, asked["currency"], asked["buy_currency"], str(price.sold), price.mid, price.spread_bps,
            price.fee, price.version, expires_at,
        )  # fmt: skip
        shown = {
            "quote": self._quotes.seal(quote), "intent_id": intent_id, "amount": price.sold,
            "currency": quote.sell, "buy_amount": str(price.bought), "buy_currency": quote.buy, "fee": str(price.fee),
            "spread": str(price.spread), "mid": price.mid, "spread_bps": price.spread_bps,
            "rate_version": price.version, "expires_at": expires_at,
        }  # fmt: skip
        return json_reply(200, shown)

    async def put_rate(self, request: Request) -> Reply:
        """Put the rate of a pair in force."""
        values, in_body = read_fields(request.json, RATE)
        key, asker = request.idempotency_key(in_body), request.principal
        digest = digest_of("rate", {**values, "as_of": str(values["as_of"] or "")})
        as_of = values.pop("as_of") or datetime.now(UTC)
        answer = msgspec.json.encode({**values, "as_of": as_of, "created_by": asker.id})
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=f"rate/{values['sell']}/{values['buy']}", status=201,
            answer=answer, request_id=request.request_id,
        )  # fmt: skip
        put = FxRate(tenant=asker.tenant, as_of=as_of, **values)
        with refusals_answered():
            stored = await put_rate_once(self._pool, keyed, put, created_by=asker.id)
        return answered(keyed, stored)

    async def rates(self, request: Request) -> Reply:
        """The rates in force, by pair."""
        found = await rate_reads.rates(self._pool, request.principal.tenant)
        names = ("sell", "buy", "mid", "spread_bps", "fee_minor", "as_of", "max_age_seconds", "source", "version")
        return json_reply(200, {"data": [{name: getattr(one, name) for name in names} for one in found]})


def _read_query(request: Request, checks: Mapping[str, Check], *required: str) -> dict[str, Any]:
    """Return the checked parameters of a query; raise Problem `query_malformed` with every violation."""
    query, values, violations = request.query(), {}, []
    for name, given in query.items():
        if name not in checks:
            violations.append(Violation(f"/{name[:64]}", "parameter_unknown", f"one of {', '.join(sorted(checks))}"))
            continue
        try:
            values[name] = checks[name](given)
        except Objection as objection:
            violations.append(Violation(f"/{name}", objection.code, objection.detail))
    violations += [Violation(f"/{name}", "field_missing", "it is required") for name in required if name not in query]
    if violations:
        raise Problem("query_malformed", errors=violations)
    return values
