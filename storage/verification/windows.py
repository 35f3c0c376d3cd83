"""Windows: a few hundred intents at a time, with everything that is stored of them.

- Windows follow one another along the keys and cover all of them: rows whose intent is unknown fall into one as well.
- A window holds so many rows at most, or one intent: what holds more is cut in two and read again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from zentra.runtime.verification.intents import HoldRow, IntentRow, RecordRow
from zentra.runtime.verification.logs import LeafRow
from zentra.runtime.verification.postings import AccountFacts, PostingRow
from zentra.storage.pool import Connection

__all__ = ["AccountCache", "Held", "Window", "read_windows", "whole_windows", "windows_since"]

INTENTS: Final = 1_000  # per window: enough to make round trips cheap
ROWS_MAX: Final = 100_000  # per window and table
ACCOUNTS_MAX: Final = 100_000  # that are remembered; they are asked for again then
_LAST: Final = 2**128 - 1

_CUTS: Final = """
select id from (
    select id, row_number() over (order by id) as place from intents where $1::text is null or tenant = $1
) numbered where place % {every} = 0 order by id
"""
_TOUCHED: Final = """
select distinct intent from (
    select intent from transitions where at >= $2 and ($1::text is null or tenant = $1)
    union all
    select intent from postings where at >= $2 and ($1::text is null or tenant = $1)
) touched order by intent
"""
_OF_TENANT: Final = " and tenant = $1"
_RANGE: Final = "{key} between $2::uuid and $3::uuid"
_NAMED: Final = "{key} = any($2::uuid[])"
_INTENTS: Final = "select id, tenant, intent_id, digest from intents where {which} order by id limit {limit}"
_RECORDS: Final = """
select intent, sequence, tenant, at, state, event, record, hash from transitions where {which}
order by intent, sequence limit {limit}
"""
_POSTINGS: Final = """
select intent, ordinal, tenant, kind, debit, credit, currency, pending, posted, at, hash, effective_at
from postings where {which} order by intent, ordinal limit {limit}
"""
_LEAVES: Final = """
select tenant, "index", intent, data, hash from log_leaves where {which} order by intent, "index" limit {limit}
"""
_HOLDS: Final = """
select intent, tenant, account, minor, remaining, captured, status from holds where {which} limit {limit}
"""
_ACCOUNTS: Final = """
select id, tenant, account_id, type, currency, normal_side, guarded, overdraft_limit from accounts
where id = any($1::bigint[])
"""


class Window(Struct, frozen=True):
    """Intents from `first` to `last`, both numbers of 128 bits; or, where they are named, these alone."""

    first: int = 0
    last: int = _LAST
    named: tuple[str, ...] | None = None

    def halves(self) -> tuple[Window, ...]:
        """Return the two halves, or nothing where there is one intent at most."""
        if self.named is not None:
            middle = len(self.named) // 2
            return (Window(named=self.named[:middle]), Window(named=self.named[middle:])) if middle else ()
        if self.first >= self.last:
            return ()
        middle = (self.first + self.last) // 2
        return Window(self.first, middle), Window(middle + 1, self.last)


class Held(Struct):
    """All rows of one intent, as far as they are of the tenant that is asked for; postings or leaves, as wanted."""

    row: IntentRow | None
    records: list[RecordRow]
    postings: list[PostingRow]
    leaves: list[LeafRow]
    hold: HoldRow | None = None


class AccountCache:
    """Accounts by number, as many as are remembered."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.known: dict[int, AccountFacts] = {}

    async def load(self, numbers: set[int]) -> None:
        """Make these accounts known, where they exist; raises Unavailable."""
        missing = numbers - self.known.keys()
        if len(self.known) + len(missing) > ACCOUNTS_MAX:
            self.known.clear()
            missing = numbers
        if missing:
            for row in await self._connection.fetch(_ACCOUNTS, sorted(missing)):
                self.known[row[0]] = AccountFacts._make(row)


async def whole_windows(connection: Connection, tenant: str | None) -> list[Window]:
    """Return windows over everything, in order; raises Unavailable."""
    cuts = [int(row[0], 16) for row in await connection.fetch(_CUTS.format(every=INTENTS), tenant)]
    firsts = [0, *cuts]
    lasts = [*(cut - 1 for cut in cuts), _LAST]
    return [Window(first, last) for first, last in zip(firsts, lasts, strict=True)]


async def windows_since(connection: Connection, tenant: str | None, since: datetime) -> list[Window]:
    """Return windows of the intents of which something was recorded at `since` or later; raises Unavailable."""
    windows, some = [], []
    async for row in connection.cursor(_TOUCHED, tenant, since, prefetch=10_000):
        some.append(row[0])
        if len(some) == INTENTS:
            windows.append(Window(named=tuple(some)))
            some = []
    return [*windows, Window(named=tuple(some))] if some else windows


async def read_windows(
    connection: Connection, windows: Sequence[Window], tenant: str | None, accounts: AccountCache | None
) -> AsyncIterator[list[Held]]:
    """Yield the intents of window after window, some at a time, each whole: with their postings, whose `accounts` are
    known then, or without these with their leaves.

    Raises Unavailable."""
    waiting = list(reversed(windows))
    while waiting:
        window = waiting.pop()
        held = await _read(connection, window, tenant, ledger=accounts is not None)
        if held is None:
            waiting += reversed(window.halves())
            continue
        if accounts is not None:
            numbers = {number for one in held for posting in one.postings for number in posting[4:6]}
            await accounts.load(numbers)
        yield held


async def _read(connection: Connection, window: Window, tenant: str | None, *, ledger: bool) -> list[Held] | None:
    """Return what a window holds, or None where that is too much and can be cut."""
    can_be_cut = bool(window.halves())
    values: list[Any] = [tenant]
    values += [f"{window.first:032x}", f"{window.last:032x}"] if window.named is None else [list(window.named)]
    held: dict[str, Held] = {}
    read = ((_INTENTS, "id"), (_RECORDS, "intent"), (_POSTINGS if ledger else _LEAVES, "intent"))
    for statement, key in (*read, (_HOLDS, "intent")) if ledger else read:
        which = (_RANGE if window.named is None else _NAMED).format(key=key)
        which += _OF_TENANT if tenant is not None else " and $1::text is null"
        limit = ROWS_MAX + 1 if can_be_cut else "all"
        rows = await connection.fetch(statement.format(which=which, limit=limit), *values)
        if len(rows) > ROWS_MAX and can_be_cut:
            return None
        if statement is _INTENTS:
            held = {row[0]: Held(IntentRow._make(row), [], [], []) for row in rows}
        elif statement is _RECORDS:
            for row in rows:
                _held(held, row[0]).records.append(RecordRow._make(row))
        elif statement is _POSTINGS:
            for row in rows:
                _held(held, row[0]).postings.append(PostingRow._make(row))
        elif statement is _HOLDS:
            for row in rows:
                _held(held, row[0]).hold = HoldRow._make(row)
        else:
            for row in rows:
                _held(held, row[2]).leaves.append(LeafRow._make(row))
    return list(held.values())


def _held(held: dict[str, Held], intent: str) -> Held:
    """Return where the rows of an intent are gathered, whether or not it is known."""
    one = held.get(intent)
    if one is None:
        one = held[intent] = Held(None, [], [], [])
    return one
