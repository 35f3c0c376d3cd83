"""The doors to accounts: open one, list them, see balances, page through entries.

Amounts are strings of digits, because sums may be wider than what every JSON reader takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import answered
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import (
    SCHEMAS,
    Field,
    Objection,
    account_identifier,
    account_type,
    currency,
    identifier,
    one_of,
    read_fields,
    text,
)
from zentra.gateway.http.lists import CREATED, Check, Lists, amount
from zentra.gateway.http.problems import Problem, refusals_answered
from zentra.gateway.routes.packets import find_intent
from zentra.runtime.errors import Refusal
from zentra.runtime.intents.command import digest_of
from zentra.runtime.intents.vocabulary import AccountType
from zentra.runtime.ledger.book import Balance
from zentra.runtime.ledger.monitors import figure
from zentra.runtime.ledger.names import DEFAULT_BOOK, SCHEMES, account_number, parse_number
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.configuration import NewAccount, create_account
from zentra.storage.pool import Pool
from zentra.storage.reads import accounts as account_reads
from zentra.storage.reads import lists as list_reads
from zentra.storage.reads import tenant as reads
from zentra.storage.reads.entries import EntryPlace, EntryView, entries
from zentra.storage.reads.lists import AccountPlace
from zentra.storage.reads.tenant import AccountView

__all__ = [
    "ACCOUNT", "ACCOUNT_FILTERS", "ENTRY_FILTERS", "FORMULAS", "AccountRoutes", "figures_shown",
    "number_name",
]  # fmt: skip


def number_name(value: Any) -> tuple[str, str]:
    """Return scheme and number that a text like `nuban:058-0123456789` says, in their one spelling."""
    said = parse_number(value) if isinstance(value, str) else None
    if said is None:
        raise Objection("scheme_unknown", f"a number behind its scheme and a colon: {', '.join(SCHEMES)}")
    try:
        return said[0], account_number(*said)
    except Refusal as refusal:
        raise Objection(refusal.reason, refusal.detail) from None


SCHEMAS[number_name] = {"type": "string", "pattern": f"^({'|'.join(SCHEMES)}):.{{1,64}}$"}
ACCOUNT: Final[Mapping[str, Field]] = {
    "account_id": Field(account_identifier),
    "owner": Field(text),
    "type": Field(account_type),
    "currency": Field(currency),
    "book": Field(identifier, DEFAULT_BOOK),
    "party": Field(identifier, ""),
}
POSTINGS: Final = (
    "reserve", "release", "post", "settle", "book", "reversal", "fee", "fee_reserve", "fee_release", "fee_refund",
    "conversion_fee", "spread", "forced_reversal",
)  # fmt: skip
ACCOUNT_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "type": one_of("account_type_unknown", *AccountType), "currency": currency, "owner": text,
    "status": one_of("status_unknown", "open", "frozen", "closed"), "book": identifier, "number": number_name,
}  # fmt: skip
ENTRY_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "intent": text, "kind": one_of("kind_unknown", *POSTINGS),
    "side": one_of("side_unknown", "debit", "credit"), "amount_min": amount, "amount_max": amount,
}  # fmt: skip
_COUNTERS: Final = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")


FORMULAS: Final[Mapping[str, Mapping[str, str]]] = {
    "credit": {
        "posted": "credits_posted - debits_posted",
        "pending": "credits_pending - debits_pending",
        "available": "posted - debits_pending + expired_holds",
        "spendable": "available + overdraft_limit",
    },
    "debit": {
        "posted": "debits_posted - credits_posted",
        "pending": "debits_pending - credits_pending",
        "available": "posted - credits_pending",
        "spendable": "available + overdraft_limit",
    },
}
"""How the figures of an account come from its counters, by its normal side: what is coming in is never available."""


class AccountRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists) -> None:
        self._pool, self._lists = pool, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/accounts", self.create, P.ACCOUNTS_CREATE, body="json"),
            Route("GET", "/accounts", self.accounts, P.ACCOUNTS_READ),
            Route("GET", "/accounts/{id}", self.show, P.ACCOUNTS_READ),
            Route("GET", "/accounts/{id}/entries", self.entries, P.ACCOUNTS_READ),
        ]

    async def create(self, request: Request) -> Reply:
        """Open an account."""
        values, in_body = read_fields(request.json, ACCOUNT)
        if not values["party"]:
            del values["party"]
        key, asker = request.idempotency_key(in_body), request.principal
        account_id = values["account_id"]
        link = f"/accounts/{account_id}"
        answer = msgspec.json.encode({**values, "status": "open", "created_by": asker.id, "links": {"self": link}})
        asked = dict(values)
        if values["book"] == DEFAULT_BOOK:
            del asked["book"]  # a request that names no book has the digest that it had before there were books
        digest = digest_of("account", asked)
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=f"account/{account_id}", status=201, answer=answer,
            request_id=request.request_id,
        )  # fmt: skip
        with refusals_answered():
            stored = await create_account(self._pool, keyed, NewAccount(**values, created_by=asker.id))
        return answered(keyed, stored, ((b"location", link.encode()),))

    async def show(self, request: Request) -> Reply:
        """An account, its balances and the counters they come from."""
        account = await reads.account(self._pool, request.principal.tenant, request.path_id)
        if account is None:
            raise Problem("not_found")
        return json_reply(200, _shown(account))

    async def accounts(self, request: Request) -> Reply:
        """The tenant's accounts, the newest first."""
        asked = self._lists.asked(request, ACCOUNT_FILTERS, AccountPlace)
        filters = dict(asked.filters)
        if "number" in filters:
            target = await account_reads.number_target(self._pool, asked.tenant, *filters["number"])
            if target is None:
                return asked.page([], None)
            filters["number"] = target.id
        found = await list_reads.accounts(self._pool, asked.tenant, filters, after=asked.after, limit=asked.limit)
        return asked.page([_shown(row) for row in found.rows], found.after)

    async def entries(self, request: Request) -> Reply:
        """A page of an account's entries, newest first, as of the first page."""
        asked = self._lists.asked(request, ENTRY_FILTERS, EntryPlace)
        account_id, filters = request.path_id, dict(asked.filters)
        if "intent" in filters:
            filters["intent"] = (await find_intent(self._pool, asked.tenant, filters["intent"])).id
        found = await entries(
            self._pool, asked.tenant, account_id, filters, after=asked.after, limit=asked.limit
        )  # fmt: skip
        if found is None:
            raise Problem("not_found")
        return asked.page([_entry(row) for row in found.rows], found.after)


def _shown(account: AccountView) -> dict[str, Any]:
    balance, link = Balance(*(getattr(account, name) for name in _COUNTERS)), f"/accounts/{account.account_id}"
    free = account.expired_unbooked if account.normal_side == "credit" else 0  # holds that are over keep nothing
    return {
        "account_id": account.account_id,
        "owner": account.owner,
        "party": account.party,
        "type": account.type,
        "currency": account.currency,
        "normal_side": account.normal_side,
        "status": account.status,
        "book": account.book,
        "overdraft_limit": str(account.overdraft_limit),
        "created_by": account.created_by,
        "created_at": account.created_at,
        **figures_shown(account.normal_side, balance, free),
        "expired_holds": str(free),
        "spendable": str(figure("available", account.normal_side, balance) + free + account.overdraft_limit),
        "explained": FORMULAS[account.normal_side],
        "links": {
            "self": link, "entries": f"{link}/entries", "balances": f"{link}/balances",
            "statement": f"{link}/statement", "changes": f"{link}/changes",
        },
    }  # fmt: skip


def figures_shown(normal_side: str, balance: Balance, free: int = 0) -> dict[str, Any]:
    """Return the figures of an account and the counters that they come from, as answers show them; `free` is what is
    held by what has run out, and is available again."""
    shown: dict[str, Any] = {
        name: str(figure(name, normal_side, balance) + (free if name == "available" else 0))
        for name in ("posted", "pending", "available")
    }
    shown["counters"] = {name: str(getattr(balance, name)) for name in _COUNTERS}
    return shown


def _entry(row: EntryView) -> dict[str, Any]:
    return {
        "entry_id": f"{row.intent}/{row.ordinal}",
        "intent": row.intent,
        "ordinal": row.ordinal,
        "at": row.at,
        "posting": row.kind,
        "side": row.side,
        "other": row.other,
        "currency": row.currency,
        "pending": str(row.pending),
        "posted": str(row.posted),
        "hash": row.hash.hex(),
        "effective_at": row.effective_at or row.at,
    }
