"""The doors to what was: the balance of an account at any moment, and its statement over any interval.

- `by=recorded` goes by when entries were written, `by=effective` by when they count; both intervals have their
  beginning and not their end.
- A statement is JSON in pages, or one CSV file for whoever prefers `text/csv`; both are cut from one snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import Check, one_of
from zentra.gateway.http.lists import Lists, checked_query, time
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.tables import Table, wants_csv
from zentra.gateway.routes.accounts import figures_shown
from zentra.runtime.intents.command import Violation
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.ledger.book import Balance
from zentra.runtime.ledger.monitors import figure
from zentra.storage.pool import Pool
from zentra.storage.reads.balances import balance_at
from zentra.storage.reads.statements import Statement, StatementEntry, StatementPlace, statement

__all__ = ["BALANCE_QUERY", "STATEMENT_FILTERS", "StatementRoutes"]

CSV_ROWS: Final = 1_000  # in one transaction, and in memory
by: Final = one_of("by_unknown", "recorded", "effective")
BALANCE_QUERY: Final[Mapping[str, Check]] = {"at": time, "by": by}
STATEMENT_FILTERS: Final[Mapping[str, Check]] = {"from": time, "to": time, "by": by}
_COLUMNS: Final = (
    "at", "effective_at", "posting", "side", "other", "intent", "intent_id", "ordinal", "currency", "pending", "posted",
    "balance_posted", "balance_pending", "balance_available",
)  # fmt: skip
_FIGURES: Final = ("posted", "pending", "available")


class StatementRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists) -> None:
        self._pool, self._lists = pool, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("GET", "/accounts/{id}/balances", self.balances, P.ACCOUNTS_READ),
            Route("GET", "/accounts/{id}/statement", self.statement, P.ACCOUNTS_READ),
        ]

    async def balances(self, request: Request) -> Reply:
        """The balance of an account as everything before a moment left it."""
        asked = checked_query(request, BALANCE_QUERY)
        order = asked.get("by", "recorded")
        found = await balance_at(self._pool, request.principal.tenant, request.path_id, asked.get("at"), order)
        if found is None:
            raise Problem("not_found")
        return json_reply(200, {
            "account_id": found.account_id, "currency": found.currency, "at": found.at, "by": order,
            "final": found.final, "entries": found.entries, **figures_shown(found.normal_side, found.balance),
        })  # fmt: skip

    async def statement(self, request: Request) -> Reply:
        """What an account began with, every entry with the balance after it, and what it ended with."""
        asked = self._lists.asked(request, STATEMENT_FILTERS, StatementPlace)
        since, until = asked.filters.get("from"), asked.filters.get("to")
        if since is not None and until is not None and since > until:
            raise Problem("query_malformed", errors=[Violation("/to", "time_malformed", "not before `from`")])
        order, table = asked.filters.get("by", "recorded"), wants_csv(request.headers.get(b"accept"))

        async def page(after: StatementPlace | None, limit: int) -> Statement:
            found = await statement(
                self._pool, asked.tenant, request.path_id, since=since, until=until, by=order, after=after,
                limit=limit,
            )  # fmt: skip
            if found is None:
                raise Problem("not_found")
            return found

        if table:
            first = await page(asked.after, CSV_ROWS)
            name = f"statement-{_safe(first.account_id)}"
            rows = [_COLUMNS, _edge(first, "opening", first.since, first.opening), *_rows(first)]
            return Reply(200, b"", stream=Table(name, rows, _more(first, page)))
        found = await page(asked.after, asked.limit)
        return asked.page(
            [_entry(found, row) for row in found.entries], found.after, account_id=found.account_id,
            currency=found.currency, by=order, **{"from": found.since, "to": found.until},
            opening=figures_shown(found.normal_side, found.opening),
            closing=figures_shown(found.normal_side, found.closing),
        )  # fmt: skip


async def _more(first: Statement, page: Any) -> AsyncIterator[Sequence[Sequence[str]]]:
    """Yield the rows behind the first page, and the closing balance at last."""
    found = first
    while found.after is not None:
        found = await page(found.after, CSV_ROWS)
        yield _rows(found)
    yield [_edge(found, "closing", found.until, found.closing)]


def _entry(found: Statement, row: StatementEntry) -> dict[str, Any]:
    return {
        "entry_id": f"{row.intent}/{row.ordinal}",
        "intent": row.intent,
        "intent_id": row.intent_id,
        "ordinal": row.ordinal,
        "at": row.at,
        "effective_at": row.effective_at or row.at,
        "posting": row.kind,
        "side": row.side,
        "other": row.other,
        "pending": str(row.pending),
        "posted": str(row.posted),
        "hash": row.hash.hex(),
        "balance": {name: str(figure(name, found.normal_side, row.balance)) for name in _FIGURES},
    }


def _rows(found: Statement) -> list[tuple[str, ...]]:
    return [
        (
            timestamp(row.at), timestamp(row.effective_at or row.at), row.kind, row.side, row.other, row.intent,
            row.intent_id or "", str(row.ordinal), found.currency, str(row.pending), str(row.posted),
            *_figures(found, row.balance),
        )
        for row in found.entries
    ]  # fmt: skip


def _edge(found: Statement, name: str, at: datetime, balance: Balance) -> tuple[str, ...]:
    moment = timestamp(at.astimezone(UTC))
    return (moment, moment, name, *[""] * 5, found.currency, "", "", *_figures(found, balance))


def _figures(found: Statement, balance: Balance) -> tuple[str, ...]:
    return tuple(str(figure(name, found.normal_side, balance)) for name in _FIGURES)


def _safe(account_id: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in account_id)
