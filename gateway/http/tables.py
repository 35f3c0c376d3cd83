"""Tables as an answer: CSV (RFC 4180), sent row by row, so that no table is ever whole in memory.

- The first rows are there before the answer begins, so what cannot be read is a problem and no half of a table.
- A table that breaks off ends without its last chunk: a client sees that it is not whole.
- No cell is a formula to a spreadsheet: text that begins like one begins with an apostrophe instead (OWASP, CSV
  injection). Numbers are numbers, below zero too.
"""

from __future__ import annotations

import asyncio
import csv
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from zentra.gateway.http.problems import Problem
from zentra.gateway.listening import Receive, Send
from zentra.runtime.errors import ZentraError
from zentra.runtime.spreadsheets import safe_cell

__all__ = ["CSV_TYPE", "Table", "wants_csv"]

_log = logging.getLogger(__name__)

CSV_TYPE: Final = b"text/csv; charset=utf-8"
SEND_SECONDS_MAX: Final = 10.0
CHECK_EVERY: Final = 8  # batches of rows

Row = Sequence[str]
Headers = Sequence[tuple[bytes, bytes]]


def wants_csv(accept: bytes | None) -> bool:
    """Return whether an accept header (RFC 9110, 12.5.1) prefers CSV to JSON."""
    weights = {"text/csv": 0.0, "application/json": 0.0}
    for part in (accept or b"").decode("latin-1").split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind in weights:
            weights[kind] = _quality(parameters)
    return weights["text/csv"] > weights["application/json"]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


class Table:
    """A table on its way; `first` is sent at once, the rest comes in batches from `more`."""

    def __init__(self, name: str, first: Sequence[Row], more: AsyncIterator[Sequence[Row]]) -> None:
        """`name` is the name of the file, letters, digits and hyphens."""
        self._name, self._first, self._more = name, first, more

    async def run(self, receive: Receive, send: Send, headers: Headers, check: Callable[[], Awaitable[object]]) -> None:
        """Send all rows; a reader that takes nothing for ten seconds is dropped."""
        try:
            await self._send_all(send, headers, check)
        except (ZentraError, Problem, TimeoutError) as error:
            _log.warning("a table broke off", extra={"error": str(error)})  # its last chunk is missing: that tells

    async def _send_all(self, send: Send, headers: Headers, check: Callable[[], Awaitable[object]]) -> None:
        disposition = f'attachment; filename="{self._name}.csv"'.encode()
        own = ((b"content-type", CSV_TYPE), (b"cache-control", b"no-store"), (b"content-disposition", disposition))
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, *own]})
        await _sent(send, _lines(self._first))
        batches = 0
        async for rows in self._more:
            batches += 1
            if batches % CHECK_EVERY == 0:
                await check()
            await _sent(send, _lines(rows))
        await _sent(send, b"", more=False)


async def _sent(send: Send, body: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(SEND_SECONDS_MAX):
        await send({"type": "http.response.body", "body": body, "more_body": more})


def _lines(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([[safe_cell(cell) for cell in row] for row in rows])
    return text.getvalue().encode()
