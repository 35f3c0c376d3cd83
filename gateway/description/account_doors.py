"""What is said of the routes to books and accounts: one row each; see `doors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zentra.gateway.description import account_shapes, pages
from zentra.gateway.description.door import Door, Media, Query, schema_of_fields
from zentra.gateway.description.rows import INTENT_ANSWERS, INTENT_CODES, INTENT_HEADERS, REPLAYED, list_row
from zentra.gateway.http.fields import SCHEMAS, Field
from zentra.gateway.routes.account_orders import LIMIT, MONITOR, NUMBER, STATUS
from zentra.gateway.routes.accounts import ACCOUNT, ACCOUNT_FILTERS, ENTRY_FILTERS
from zentra.gateway.routes.books import BOOK, CHART_FILTERS
from zentra.gateway.routes.deposits import DEPOSIT
from zentra.gateway.routes.statements import BALANCE_QUERY, STATEMENT_FILTERS

__all__ = ["ACCOUNT_DOORS"]


def _change(name: str, summary: str, takes: Mapping[str, Field], *codes: str, status: int = 200) -> Door:
    """The row of a change of an account."""
    return Door(
        name=name, tag="accounts", summary=summary, answers={status: account_shapes.AccountChanged},
        takes=schema_of_fields(takes), key="once", headers=REPLAYED,
        codes=("not_found", "account_is_system", "account_status_conflict", *codes),
    )  # fmt: skip


ACCOUNT_DOORS: Final[Mapping[str, Door]] = {
    "POST /accounts": Door(
        name="create_account", tag="accounts", summary="Open an account.", answers={201: account_shapes.AccountOpened},
        takes=schema_of_fields(ACCOUNT), key="once", headers=("location", *REPLAYED),
        codes=("account_exists", "book_not_found", "party_not_found"),
    ),
    **{
        f"POST /accounts/{{id}}/{change}": _change(f"{change}_account", summary, STATUS, *codes)
        for change, summary, codes in (
            ("freeze", "Let nothing in and nothing out, from the next commit on.", ()),
            ("unfreeze", "Let money move again.", ()),
            ("close", "Close an account that has no money on it and no holds.", ("account_not_empty",)),
            ("reopen", "Open a closed account again.", ()),
        )
    },
    "POST /accounts/{id}/limit": _change(
        "limit_account", "Say how far an account may be overdrawn.", LIMIT, "limit_below_use"
    ),
    "GET /accounts/{id}/changes": list_row(
        "list_account_changes", "accounts", "Who changed the account, when and why, the latest first.", pages.Changes,
        {}, "not_found",
    ),
    "POST /accounts/{id}/numbers": _change(
        "add_account_number", "Give a number to an account; a virtual one is made.", NUMBER, "number_taken",
        "numbers_too_many", status=201,
    ),
    "GET /accounts/{id}/numbers": Door(
        name="list_account_numbers", tag="accounts", summary="The numbers of an account.",
        answers={200: pages.Numbers}, codes=("not_found",),
    ),
    "DELETE /accounts/{id}/numbers/{number}": Door(
        name="retire_account_number", tag="accounts", summary="Let a number, `scheme:number`, mean nobody any more.",
        answers={200: account_shapes.TakenAway}, codes=("not_found",),
    ),
    "POST /accounts/{id}/monitors": _change(
        "add_account_monitor", "Be told whenever a balance comes to meet a condition.", MONITOR, "monitors_too_many",
        status=201,
    ),
    "GET /accounts/{id}/monitors": Door(
        name="list_account_monitors", tag="accounts", summary="The monitors of an account.",
        answers={200: pages.Monitors}, codes=("not_found",),
    ),
    "DELETE /accounts/{id}/monitors/{monitor}": Door(
        name="remove_account_monitor", tag="accounts", summary="Take a monitor away.",
        answers={200: account_shapes.TakenAway}, codes=("not_found", "account_is_system"),
    ),
    "GET /accounts/{id}/balances": Door(
        name="show_balance", tag="accounts", summary="The balance of an account at any moment.",
        answers={200: account_shapes.BalanceAt}, codes=("not_found",),
        query=(
            Query("at", SCHEMAS[BALANCE_QUERY["at"]], "everything before it counts; now unless given"),
            Query("by", SCHEMAS[BALANCE_QUERY["by"]], "when entries were recorded, or when they count"),
        ),
    ),
    "GET /accounts/{id}/statement": list_row(
        "show_statement", "accounts", "Opening, entries with the balance after each, closing; as CSV for `text/csv`.",
        pages.StatementPage, STATEMENT_FILTERS, "not_found",
        media=Media("text/csv", "the whole statement, for whoever accepts that rather than JSON"),
        more_headers=("content-disposition",),
    ),
    "POST /books": Door(
        name="create_book", tag="accounts", summary="Open a book.", answers={201: account_shapes.BookMade},
        takes=schema_of_fields(BOOK), key="once", headers=REPLAYED, codes=("book_exists",),
    ),
    "GET /books": Door(
        name="list_books", tag="accounts", summary="The tenant's books.", answers={200: pages.Books},
    ),
    "GET /chart": list_row(
        "show_chart", "accounts", "The tree that ids with colons make, added up per node and currency.", pages.Chart,
        CHART_FILTERS, "chart_too_large",
    ),
    "POST /deposits": Door(
        name="create_deposit", tag="intents", summary="Book money that has come in, to whom its number belongs.",
        answers=INTENT_ANSWERS, key="once", waits=True, headers=INTENT_HEADERS,
        takes={**schema_of_fields(DEPOSIT), "oneOf": [{"required": ["number"]}, {"required": ["account"]}]},
        codes=(*INTENT_CODES, "account_exists"),
    ),
    "GET /accounts/{id}": Door(
        name="show_account", tag="accounts", summary="An account and its balances.",
        answers={200: account_shapes.Account}, codes=("not_found",),
    ),
    "GET /accounts": list_row(
        "list_accounts", "accounts", "The tenant's accounts, the newest first.", pages.Accounts, ACCOUNT_FILTERS
    ),
    "GET /accounts/{id}/entries": list_row(
        "list_entries", "accounts", "A page of an account's entries, newest first.", pages.Entries, ENTRY_FILTERS,
        "not_found",
    ),
}  # fmt: skip
