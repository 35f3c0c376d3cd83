"""The doors to books, and to the chart of accounts that the ids in them make.

- No posting leaves a book: each has its own system accounts, and its balances sum to zero by themselves.
- Ids like `assets:cash:till-1` are a tree. A node adds up everything at it and below, one row per currency, credits
  positive: over a whole book that is zero in every currency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zentra.gateway.doors.commands import answered
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Check, Field, Objection, currency, identifier, read_fields, text
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import refusals_answered
from zentra.gateway.routes.accounts import figures_shown
from zentra.runtime.intents.command import digest_of
from zentra.runtime.ledger.book import Balance
from zentra.runtime.ledger.names import BOOK_PATTERN, DEFAULT_BOOK
from zentra.storage.intake.accounts import open_book
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.pool import Pool
from zentra.storage.reads import accounts as reads
from zentra.storage.reads.accounts import ChartNode, ChartPlace

__all__ = ["BOOK", "CHART_FILTERS", "BookRoutes"]

DEPTH_MAX: Final = 8


def _book(value: Any) -> str:
    if not isinstance(value, str) or not BOOK_PATTERN.match(value):
        raise Objection("id_malformed", "1 to 31 of a-z 0-9 -, a letter first")
    return value


def _depth(value: Any) -> int:
    if value not in _DEPTHS:
        raise Objection("limit_malformed", f"a number from 1 to {DEPTH_MAX}")
    return int(value)


_DEPTHS: Final = frozenset(str(depth) for depth in range(1, DEPTH_MAX + 1))
SCHEMAS[_book] = {"type": "string", "pattern": f"^{BOOK_PATTERN.pattern.removesuffix(chr(92) + 'Z')}$"}
SCHEMAS[_depth] = {"type": "integer", "minimum": 1, "maximum": DEPTH_MAX, "default": 1}
BOOK: Final[Mapping[str, Field]] = {"book": Field(_book), "name": Field(text)}
CHART_FILTERS: Final[Mapping[str, Check]] = {
    "prefix": identifier, "depth": _depth, "currency": currency, "book": _book,
}  # fmt: skip


class BookRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, lists: Lists) -> None:
        self._pool, self._lists = pool, lists

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        return [
            Route("POST", "/books", self.create, P.ACCOUNTS_MANAGE, body="json"),
            Route("GET", "/books", self.books, P.ACCOUNTS_READ),
            Route("GET", "/chart", self.chart, P.ACCOUNTS_READ),
        ]

    async def create(self, request: Request) -> Reply:
        """Open a book."""
        values, in_body = read_fields(request.json, BOOK)
        key, asker = request.idempotency_key(in_body), request.principal
        answer = msgspec.json.encode({**values, "created_by": asker.id})
        digest = digest_of("book", values)
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=f"book/{values['book']}", status=201, answer=answer,
            request_id=request.request_id,
        )  # fmt: skip
        with refusals_answered():
            stored = await open_book(self._pool, keyed, values["book"], values["name"], asker.id)
        return answered(keyed, stored)

    async def books(self, request: Request) -> Reply:
        """The tenant's books."""
        found = await reads.books(self._pool, request.principal.tenant)
        return json_reply(200, {"data": found, "has_more": False, "next_cursor": None})

    async def chart(self, request: Request) -> Reply:
        """The tree of accounts, added up."""
        asked = self._lists.asked(request, CHART_FILTERS, ChartPlace)
        filters = asked.filters
        book, prefix, depth = filters.get("book", DEFAULT_BOOK), filters.get("prefix", ""), filters.get("depth", 1)
        with refusals_answered():
            found = await reads.chart(
                self._pool, asked.tenant, book=book, prefix=prefix.rstrip(":"), depth=depth,
                currency=filters.get("currency"), after=asked.after, limit=asked.limit,
            )  # fmt: skip
        return asked.page([_node(row) for row in found.rows], found.after, book=book, prefix=prefix, depth=depth)


def _node(row: ChartNode) -> dict[str, Any]:
    balance = Balance(*(int(getattr(row, name)) for name in Balance.__struct_fields__))
    return {
        "node": row.node, "currency": row.currency, "accounts": row.accounts, "deeper": row.deeper,
        **figures_shown("credit", balance),
    }  # fmt: skip
