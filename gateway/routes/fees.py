"""The doors to fees: what is in force, what was, what shall be; and what a movement would cost.

- A quote changes nothing and has no expiry: it holds as long as the fee is the same. An intent that carries its digest
  is charged just that, or refused.
- A schedule is put in force whole, as a new version, or not at all.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import Problem, of_violations
from zentra.runtime.fees.quoting import FeeFacts, FeeQuote, quote
from zentra.runtime.fees.schedule import parse_schedule
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation, digest_of, intent_schema, parse_intent
from zentra.runtime.intents.terms import CHARGEABLE_KINDS
from zentra.runtime.pointers import escaped
from zentra.runtime.rails import routing
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.fees import put_schedule_once
from zentra.storage.pool import Pool
from zentra.storage.reads import fees as reads

__all__ = ["FeeRoutes", "quote_schema"]

_KINDS: Final = frozenset(CHARGEABLE_KINDS)
_ASKED: Final = ("kind", "amount", "currency", "source", "destination", "country")  # all that a fee can depend on
_VERSION_DIGITS_MAX: Final = 9


class FeeRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists) -> None:
        self._pool, self._lists = pool, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/quotes", self.quote, P.FEES_READ, body="json"),
            Route("GET", "/fee-schedules", self.schedules, P.FEES_READ),
            Route("GET", "/fee-schedules/{version}", self.schedule, P.FEES_READ),
            Route("POST", "/fee-schedules", self.put, P.FEES_MANAGE, body="json"),
        ]

    async def quote(self, request: Request) -> Reply:
        """What an intent would be charged now."""
        body = request.json
        asked = {name: body[name] for name in _ASKED if name in body} if isinstance(body, dict) else body
        command, _, violations = parse_intent(asked, _KINDS)
        if isinstance(body, dict):
            unknown = [f"/{escaped(name)}" for name in body if name not in _ASKED]
            violations = [*(Violation(p, "field_unknown", "there is no such field") for p in unknown), *violations]
        if command is None or violations:
            raise of_violations(violations)
        ground = await reads.quote_ground(
            self._pool, request.principal.tenant, command.source, command.destination
        )  # fmt: skip
        source, destination = (ground.accounts.get(name) for name in (command.source, command.destination))
        if source is None or destination is None:
            raise Problem("not_found", f"there is no {'source' if source is None else 'destination'} of this id")
        if {source[1], destination[1]} != {command.currency}:
            raise Problem("currency_mismatch", f"the accounts are in {source[1]} and {destination[1]}")
        corridor = routing.find_corridor(ground.corridors, command)
        facts = FeeFacts(
            str(command.kind), command.amount, command.currency, command.country,
            "" if corridor is None else corridor.name, source[0], destination[0],
        )  # fmt: skip
        return json_reply(200, shown(quote(ground.schedule, facts)))

    async def schedules(self, request: Request) -> Reply:
        """A page of the versions of the tenant's fees, the newest first; that one is in force."""
        asked = self._lists.asked(request, {}, int)
        rows = await reads.schedules(self._pool, asked.tenant, before=asked.after, limit=asked.limit + 1)
        page = rows[: asked.limit]
        return asked.page(page, page[-1].version if len(rows) > len(page) else None)

    async def schedule(self, request: Request) -> Reply:
        """One version."""
        given = request.params["version"]
        if not (given.isascii() and given.isdigit() and len(given) <= _VERSION_DIGITS_MAX):
            raise Problem("not_found")
        found = await reads.schedule(self._pool, request.principal.tenant, int(given))
        if found is None:
            raise Problem("not_found")
        return json_reply(200, found)

    async def put(self, request: Request) -> Reply:
        """Put a schedule in force as a new version; one that charges the same as the present one is that one."""
        body, in_body = request.json, None
        if isinstance(body, dict) and "idempotency_key" in body:
            in_body = body["idempotency_key"]
            body = {name: value for name, value in body.items() if name != "idempotency_key"}
            if not isinstance(in_body, str):
                raise of_violations([Violation("/idempotency_key", "field_type", "expected `str`")])
        schedule, violations = parse_schedule(body)
        if schedule is None:
            raise of_violations(violations)
        key, asker = request.idempotency_key(in_body), request.principal
        rules = msgspec.to_builtins(schedule.rules)
        digest = digest_of("fee_schedule", {"rules": msgspec.json.encode(rules).decode()})
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject="", status=201, answer=b"",
            request_id=request.request_id,
        )  # fmt: skip
        told = {"rules": rules, "created_by": asker.id}
        done = await put_schedule_once(self._pool, keyed, schedule, told, created_by=asker.id)
        return replayed(digest, done) if isinstance(done, StoredKey) else Reply(201, done)


def quote_schema() -> dict[str, Any]:
    """Return what a quote is asked with, as JSON Schema: those fields of an intent that a fee can depend on."""
    whole = intent_schema(_KINDS)
    return {**whole, "properties": {name: whole["properties"][name] for name in _ASKED}}


def shown(quoted: FeeQuote) -> dict[str, Any]:
    """Return a quote as JSON-ready values: amounts as digits, as everywhere in answers about the ledger."""
    return {
        "version": quoted.version,
        "digest": quoted.digest,
        "currency": quoted.currency,
        "amount": str(quoted.minor),
        "total_payer": str(quoted.total_payer),
        "total_payee": str(quoted.total_payee),
        "payer_pays": str(quoted.minor + quoted.total_payer),
        "payee_gets": str(quoted.minor - quoted.total_payee),
        "lines": quoted.lines,
    }
