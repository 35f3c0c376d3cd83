"""The calls about books, accounts and money that comes in; see `zentra.client.calls`."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

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
from zentra.client.answers import Answer
from zentra.client.calls import Filters, PageCall, pages
from zentra.client.core import Call, body_call, get_call, json_of
from zentra.client.models import Account, AccountEntry, Intent, Page
from zentra.client.terms import Time, spelled

__all__ = [
    "add_monitor",
    "add_number",
    "balance_at",
    "change_status",
    "create_account",
    "create_book",
    "create_deposit",
    "get_account",
    "get_chart",
    "get_statement",
    "get_statement_csv",
    "limit_account",
    "list_accounts",
    "list_books",
    "list_changes",
    "list_entries",
    "list_monitors",
    "list_numbers",
    "remove_monitor",
    "retire_number",
]

_account: Final = json_of(Account)
_accounts: Final = json_of(Page[Account])
_entries: Final = json_of(Page[AccountEntry])
_changed: Final = json_of(AccountChanged)
_taken: Final = json_of(TakenAway)
_changes: Final = json_of(Page[AccountChange])
_numbers: Final = json_of(Page[AccountNumber])
_monitors: Final = json_of(Page[AccountMonitor])
_balance: Final = json_of(BalanceAt)
_statement: Final = json_of(StatementPage)
_book: Final = json_of(Book)
_books: Final = json_of(Page[Book])
_chart: Final = json_of(ChartPage)
_intent: Final = json_of(Intent)


def create_account(
    *, account_id: str, owner: str, type: str, currency: str, book: str | None, party: str | None,
    idempotency_key: str | None,
) -> Call[Account]:  # fmt: skip
    """Open an account."""
    body = {
        "account_id": account_id, "owner": owner, "type": type, "currency": currency, "book": book, "party": party,
    }  # fmt: skip
    return body_call(_account, "accounts", body=body, idempotency_key=idempotency_key)


def get_account(id: str) -> Call[Account]:
    """Look at an account."""
    return get_call(_account, "accounts", id)


def list_accounts(page_size: int | None, filters: Filters) -> PageCall[Account]:
    """List accounts."""
    return pages(_accounts, "accounts", page_size=page_size, filters=filters)


def list_entries(id: str, page_size: int | None, filters: Filters) -> PageCall[AccountEntry]:
    """List the entries of an account."""
    return pages(_entries, "accounts", id, "entries", page_size=page_size, filters=filters)


def change_status(
    id: str, change: Literal["freeze", "unfreeze", "close", "reopen"], reason: str, idempotency_key: str | None
) -> Call[AccountChanged]:
    """Change the status of an account."""
    return body_call(_changed, "accounts", id, change, body={"reason": reason}, idempotency_key=idempotency_key)


def limit_account(id: str, overdraft_limit: int, reason: str, idempotency_key: str | None) -> Call[AccountChanged]:
    """Say how far an account may be overdrawn."""
    body = {"overdraft_limit": str(overdraft_limit), "reason": reason}
    return body_call(_changed, "accounts", id, "limit", body=body, idempotency_key=idempotency_key)


def list_changes(id: str, page_size: int | None) -> PageCall[AccountChange]:
    """List the changes of an account."""
    return pages(_changes, "accounts", id, "changes", page_size=page_size, filters={})


def add_number(
    id: str, scheme: str, number: str | None, reason: str | None, idempotency_key: str | None
) -> Call[AccountChanged]:  # fmt: skip
    """Give a number to an account."""
    body = {"scheme": scheme, "number": number, "reason": reason}
    return body_call(_changed, "accounts", id, "numbers", body=body, idempotency_key=idempotency_key)


def list_numbers(id: str) -> PageCall[AccountNumber]:
    """List the numbers of an account, which are few."""
    return pages(_numbers, "accounts", id, "numbers", page_size=None, filters={})


def retire_number(id: str, number: str) -> Call[TakenAway]:
    """Let a number mean nobody any more."""
    return _delete("accounts", id, "numbers", number)


def add_monitor(
    id: str, of: str, when: str, minor: int, reason: str | None, idempotency_key: str | None
) -> Call[AccountChanged]:  # fmt: skip
    """Set a monitor up."""
    body = {"of": of, "when": when, "minor": str(minor), "reason": reason}
    return body_call(_changed, "accounts", id, "monitors", body=body, idempotency_key=idempotency_key)


def list_monitors(id: str) -> PageCall[AccountMonitor]:
    """List the monitors of an account, which are few."""
    return pages(_monitors, "accounts", id, "monitors", page_size=None, filters={})


def remove_monitor(id: str, monitor: str) -> Call[TakenAway]:
    """Take a monitor away."""
    return _delete("accounts", id, "monitors", monitor)


def balance_at(id: str, at: Time | None, by: str | None) -> Call[BalanceAt]:
    """Ask for the balance of a moment."""
    return get_call(_balance, "accounts", id, "balances", query={"at": spelled(at), "by": by})


def get_statement(
    id: str, since: Time | None, until: Time | None, by: str | None, cursor: str | None, page_size: int | None
) -> Call[StatementPage]:  # fmt: skip
    """Fetch a page of a statement."""
    query = {"from": spelled(since), "to": spelled(until), "by": by, "cursor": cursor, "limit": page_size}
    return get_call(_statement, "accounts", id, "statement", query=query)


def get_statement_csv(id: str, since: Time | None, until: Time | None, by: str | None) -> Call[bytes]:
    """Fetch a statement as one file."""
    query = {"from": spelled(since), "to": spelled(until), "by": by}
    return get_call(_bytes, "accounts", id, "statement", query=query, headers={"accept": "text/csv"})


def create_book(book: str, name: str, idempotency_key: str | None) -> Call[Book]:
    """Open a book."""
    return body_call(_book, "books", body={"book": book, "name": name}, idempotency_key=idempotency_key)


def list_books() -> PageCall[Book]:
    """List books, which are few."""
    return pages(_books, "books", page_size=None, filters={})


def get_chart(
    prefix: str | None, depth: int | None, currency: str | None, book: str | None, cursor: str | None,
    page_size: int | None,
) -> Call[ChartPage]:  # fmt: skip
    """Fetch a page of the chart of accounts."""
    query = {"prefix": prefix, "depth": depth, "currency": currency, "book": book, "cursor": cursor, "limit": page_size}
    return get_call(_chart, "chart", query=query)


def create_deposit(
    *, reference: str, amount: int, currency: str, number: str | None, account: str | None,
    idempotency_key: str | None, wait: int | None,
) -> Call[Intent]:  # fmt: skip
    """Book money that has come in."""
    body = {"reference": reference, "amount": amount, "currency": currency, "number": number, "account": account}
    key = f"deposit:{reference}" if idempotency_key is None else idempotency_key
    return body_call(_intent, "deposits", body=body, idempotency_key=key, wait=wait)


def _bytes(answer: Answer) -> bytes:
    return answer.body


def _delete(*path: str) -> Call[TakenAway]:
    return msgspec.structs.replace(get_call(_taken, *path), method="DELETE")
