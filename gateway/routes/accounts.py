"""The doors to accounts: open one, list them, see balances, page through entries.

Amounts are strings of digits, because sums may be wider than what every JSON reader takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import replay_headers, reused
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import (
    Field,
    account_type,
    currency,
    identifier,
    one_of,
    read_fields,
    text,
)  # fmt: skip
from zentra.gateway.http.lists import CREATED, Check, Lists, amount
from zentra.gateway.http.problems import Problem
from zentra.gateway.routes.packets import find_intent
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import KeyOutcome, decide
from zentra.runtime.intents.command import digest_of
from zentra.runtime.intents.vocabulary import AccountType
from zentra.runtime.ledger.book import AccountRef, Balance, available
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.configuration import NewAccount, create_account
from zentra.storage.pool import Pool
from zentra.storage.reads import lists as list_reads
from zentra.storage.reads import tenant as reads
from zentra.storage.reads.entries import EntryPlace, EntryView, entries
from zentra.storage.reads.lists import AccountPlace
from zentra.storage.reads.tenant import AccountView

__all__ = ["ACCOUNT", "ACCOUNT_FILTERS", "ENTRY_FILTERS", "AccountRoutes"]

ACCOUNT: Final[Mapping[str, Field]] = {
    "account_id": Field(identifier),
    "owner": Field(text),
    "type": Field(account_type),
    "currency": Field(currency),
    "party": Field(identifier, ""),
}
POSTINGS: Final = (
    "reserve", "release", "post", "settle", "book", "reversal", "fee", "fee_reserve", "fee_release", "fee_refund",
    "conversion_fee", "spread", "forced_reversal",
)  # fmt: skip
ACCOUNT_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "type": one_of("account_type_unknown", *AccountType), "currency": currency, "owner": text,
    "status": one_of("status_unknown", "open", "frozen", "closed"),
}  # fmt: skip
ENTRY_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "intent": text, "kind": one_of("kind_unknown", *POSTINGS),
    "side": one_of("side_unknown", "debit", "credit"), "amount_min": amount, "amount_max": amount,
}  # fmt: skip
_COUNTERS: Final = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")


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
        digest = digest_of("account", values)
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=f"account/{account_id}", status=201, answer=answer,
            request_id=request.request_id,
        )  # fmt: skip
        try:
            stored = await create_account(self._pool, keyed, NewAccount(**values, created_by=asker.id))
        except Refusal as refusal:
            raise Problem(refusal.reason, refusal.detail) from None
        location = (b"location", link.encode())
        if stored is None:
            return Reply(201, answer, (location,))
        if decide(digest, stored) is KeyOutcome.REUSED:
            raise reused()
        return Reply(stored.status, stored.answer, (location, *replay_headers(stored)))

    async def show(self, request: Request) -> Reply:
        """An account, its balances and the counters they come from."""
        account = await reads.account(self._pool, request.principal.tenant, _id_of(request))
        if account is None:
            raise Problem("not_found")
        return json_reply(200, _shown(account))

    async def accounts(self, request: Request) -> Reply:
        """The tenant's accounts, the newest first."""
        asked = self._lists.asked(request, ACCOUNT_FILTERS, AccountPlace)
        found = await list_reads.accounts(
            self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit
        )  # fmt: skip
        return asked.page([_shown(row) for row in found.rows], found.after)

    async def entries(self, request: Request) -> Reply:
        """A page of an account's entries, newest first, as of the first page."""
        asked = self._lists.asked(request, ENTRY_FILTERS, EntryPlace)
        account_id, filters = _id_of(request), dict(asked.filters)
        if "intent" in filters:
            filters["intent"] = (await find_intent(self._pool, asked.tenant, filters["intent"])).id
        found = await entries(
            self._pool, asked.tenant, account_id, filters, after=asked.after, limit=asked.limit
        )  # fmt: skip
        if found is None:
            raise Problem("not_found")
        return asked.page([_entry(row) for row in found.rows], found.after)


def _id_of(request: Request) -> str:
    given = request.params["id"]
    if not given.isascii() or not given.isprintable():
        raise Problem("not_found")
    return given


def _shown(account: AccountView) -> dict[str, Any]:
    balance = Balance(*(getattr(account, name) for name in _COUNTERS))
    ref = AccountRef(
        account.id, "", account.account_id, account.type, account.currency, account.normal_side, account.guarded
    )
    sign = 1 if account.normal_side == "credit" else -1
    free = account.expired_unbooked if account.normal_side == "credit" else 0  # holds that are over keep nothing
    return {
        "account_id": account.account_id,
        "owner": account.owner,
        "party": account.party,
        "type": account.type,
        "currency": account.currency,
        "normal_side": account.normal_side,
        "status": account.status,
        "overdraft_limit": str(account.overdraft_limit),
        "created_by": account.created_by,
        "created_at": account.created_at,
        "posted": str(sign * (account.credits_posted - account.debits_posted)),
        "pending": str(sign * (account.credits_pending - account.debits_pending)),
        "available": str(available(ref, balance) + free),
        "counters": {name: str(getattr(account, name)) for name in _COUNTERS},
        "links": {"self": f"/accounts/{account.account_id}", "entries": f"/accounts/{account.account_id}/entries"},
    }


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
