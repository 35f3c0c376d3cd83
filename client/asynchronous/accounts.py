"""Accounts, books and money that comes in. Methods raise APIError, and ValueError for what cannot be sent."""

from __future__ import annotations

from typing import Literal

from zentra.client import ledger_calls
from zentra.client.account_models import (
    AccountChange,
    AccountChanged,
    AccountMonitor,
    AccountNumber,
    BalanceAt,
    Book,
    ChartPage,
    StatementPage,
    TakenAway,
)
from zentra.client.asynchronous.transport import AsyncPages, AsyncTransport
from zentra.client.calls import Time
from zentra.client.models import Account, AccountEntry, Intent

__all__ = ["AsyncAccounts", "AsyncBooks", "AsyncDeposits"]


class AsyncAccounts:
    """Accounts: open, look, list, change, and what was on them at any time."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        account_id: str,
        owner: str,
        type: str,
        currency: str,
        book: str | None = None,
        idempotency_key: str | None = None,
        party: str | None = None,
    ) -> Account:
        """Open an account and return it, without balances; `party` is whose it is. Raises APIError and ValueError."""
        return await self._transport.send(
            ledger_calls.create_account(
                account_id=account_id,
                owner=owner,
                type=type,
                currency=currency,
                book=book,
                party=party,
                idempotency_key=idempotency_key,
            )
        )

    async def get(self, id: str) -> Account:
        """Return an account with its balances. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.get_account(id))

    def list(
        self,
        *,
        type: str | None = None,
        currency: str | None = None,
        owner: str | None = None,
        status: str | None = None,
        book: str | None = None,
        number: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> AsyncPages[Account]:
        """Return the accounts that fit, newest first, with their balances."""
        filters = {
            "type": type, "currency": currency, "owner": owner, "status": status, "book": book, "number": number,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return AsyncPages(self._transport, ledger_calls.list_accounts(page_size, filters))

    def entries(
        self,
        id: str,
        *,
        intent: str | None = None,
        kind: str | None = None,
        side: Literal["debit", "credit"] | None = None,
        amount_min: int | None = None,
        amount_max: int | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> AsyncPages[AccountEntry]:
        """Return the entries of an account that fit, newest first, as of the first page."""
        filters = {
            "intent": intent, "kind": kind, "side": side, "amount_min": amount_min, "amount_max": amount_max,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return AsyncPages(self._transport, ledger_calls.list_entries(id, page_size, filters))

    async def freeze(self, id: str, *, reason: str, idempotency_key: str | None = None) -> AccountChanged:
        """Let nothing in and nothing out, from the next commit of the ledger on. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.change_status(id, "freeze", reason, idempotency_key))

    async def unfreeze(self, id: str, *, reason: str, idempotency_key: str | None = None) -> AccountChanged:
        """Let money move again. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.change_status(id, "unfreeze", reason, idempotency_key))

    async def close(self, id: str, *, reason: str, idempotency_key: str | None = None) -> AccountChanged:
        """Close an account without money and holds.

        Raises APIError (ConflictError `account_not_empty` with the figures) and ValueError."""
        return await self._transport.send(ledger_calls.change_status(id, "close", reason, idempotency_key))

    async def reopen(self, id: str, *, reason: str, idempotency_key: str | None = None) -> AccountChanged:
        """Open a closed account again. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.change_status(id, "reopen", reason, idempotency_key))

    async def limit(
        self, id: str, overdraft_limit: int, *, reason: str, idempotency_key: str | None = None
    ) -> AccountChanged:
        """Say how far an account may be overdrawn, in minor units.

        Raises APIError (ConflictError `limit_below_use` where more is used) and ValueError."""
        return await self._transport.send(ledger_calls.limit_account(id, overdraft_limit, reason, idempotency_key))

    def changes(self, id: str, *, page_size: int | None = None) -> AsyncPages[AccountChange]:
        """Return who changed an account, when, why, from what and to what; the latest first."""
        return AsyncPages(self._transport, ledger_calls.list_changes(id, page_size))

    async def add_number(
        self,
        id: str,
        scheme: Literal["iban", "nuban", "virtual"],
        number: str | None = None,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> AccountChanged:
        """Give a number to an account; a virtual one is made by the server. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.add_number(id, scheme, number, reason, idempotency_key))

    def numbers(self, id: str) -> AsyncPages[AccountNumber]:
        """Return the numbers of an account, the oldest first."""
        return AsyncPages(self._transport, ledger_calls.list_numbers(id))

    async def retire_number(self, id: str, number: str) -> TakenAway:
        """Let a number, `scheme:number`, mean nobody any more. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.retire_number(id, number))

    async def add_monitor(
        self,
        id: str,
        of: Literal["available", "posted", "pending"],
        when: Literal["below", "at_most", "at_least", "above"],
        minor: int,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> AccountChanged:
        """Be told by `balance.crossed` whenever a figure comes to meet a condition. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.add_monitor(id, of, when, minor, reason, idempotency_key))

    def monitors(self, id: str) -> AsyncPages[AccountMonitor]:
        """Return the monitors of an account, the oldest first."""
        return AsyncPages(self._transport, ledger_calls.list_monitors(id))

    async def remove_monitor(self, id: str, monitor: str) -> TakenAway:
        """Take a monitor away. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.remove_monitor(id, monitor))

    async def balance(
        self, id: str, at: Time | None = None, by: Literal["recorded", "effective"] | None = None
    ) -> BalanceAt:
        """Return the balance as everything before a moment, or until now, left it. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.balance_at(id, at, by))

    async def statement(
        self,
        id: str,
        *,
        since: Time | None = None,
        until: Time | None = None,
        by: Literal["recorded", "effective"] | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
    ) -> StatementPage:
        """Return a page of the statement from `since` (included) to `until` (not included), with opening and closing.

        Pass `next_cursor` with the same arguments for the next page. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.get_statement(id, since, until, by, cursor, page_size))

    async def statement_csv(
        self,
        id: str,
        *,
        since: Time | None = None,
        until: Time | None = None,
        by: Literal["recorded", "effective"] | None = None,
    ) -> bytes:
        """Return the whole statement as the bytes of a CSV file. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.get_statement_csv(id, since, until, by))


class AsyncBooks:
    """Books, and the chart of accounts in them."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, book: str, name: str, *, idempotency_key: str | None = None) -> Book:
        """Open a book and return it. Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.create_book(book, name, idempotency_key))

    def list(self) -> AsyncPages[Book]:
        """Return the books."""
        return AsyncPages(self._transport, ledger_calls.list_books())

    async def chart(
        self,
        *,
        prefix: str | None = None,
        depth: int | None = None,
        currency: str | None = None,
        book: str | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
    ) -> ChartPage:
        """Return a page of the tree that ids with colons make, added up per node and currency.

        Raises APIError and ValueError."""
        return await self._transport.send(ledger_calls.get_chart(prefix, depth, currency, book, cursor, page_size))


class AsyncDeposits:
    """Money that has come in."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        reference: str,
        amount: int,
        currency: str,
        number: str | None = None,
        account: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Intent:
        """Book money to whom its `number` (or `account`) belongs, once per reference; return the intent.

        What cannot be booked there waits in suspense beside a case. Raises APIError and ValueError."""
        return await self._transport.send(
            ledger_calls.create_deposit(
                reference=reference,
                amount=amount,
                currency=currency,
                number=number,
                account=account,
                idempotency_key=idempotency_key,
                wait=wait,
            )
        )
