"""What the API answers about books and accounts, as values that cannot be changed; see `zentra.client.models`."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field

from zentra.client.models import Page

__all__ = [
    "AccountChange",
    "AccountChanged",
    "AccountMonitor",
    "AccountNumber",
    "BalanceAt",
    "Book",
    "ChartNode",
    "ChartPage",
    "Figures",
    "RunningBalance",
    "StatementLine",
    "StatementPage",
    "TakenAway",
]


class AccountChanged(Struct, frozen=True, kw_only=True):
    """A change of an account that was made; what it does not concern is None."""

    account_id: str
    change: str
    reason: str
    changed_by: str
    status: str | None = None
    overdraft_limit: int | None = None
    scheme: str | None = None
    number: str | None = None
    monitor: str | None = None
    of: str | None = None
    when: str | None = None
    minor: int | None = None
    links: dict[str, str] = {}


class TakenAway(Struct, frozen=True, kw_only=True):
    """What an account has no more."""

    account_id: str
    change: str
    number: str | None = None
    monitor: str | None = None


class AccountChange(Struct, frozen=True, kw_only=True):
    """A record in the history of an account; `hash` chains it to those before it."""

    sequence: int
    at: datetime
    change: str
    before: dict[str, str]
    after: dict[str, str]
    reason: str
    actor: str
    role: str
    account_id: str
    tenant: str
    request_id: str
    hash: str


class AccountNumber(Struct, frozen=True, kw_only=True):
    """A number of an account; once it is retired it means nobody."""

    scheme: str
    number: str
    created_by: str
    created_at: datetime
    retired_at: datetime | None = None


class AccountMonitor(Struct, frozen=True, kw_only=True):
    """A monitor: the event `balance.crossed` tells whenever figure `of` comes to be `when` (below, ...) `minor`."""

    id: str
    of: str
    when: str
    minor: int
    created_by: str
    created_at: datetime


class RunningBalance(Struct, frozen=True, kw_only=True):
    """The figures after an entry."""

    posted: int
    pending: int
    available: int


class Figures(RunningBalance, frozen=True, kw_only=True):
    """The figures of an account at one moment, and the counters that they come from."""

    counters: dict[str, int] = {}


class BalanceAt(Figures, frozen=True, kw_only=True):
    """The balance of an account as all entries before `at` leave it; `final` says that none can come before it."""

    account_id: str
    currency: str
    at: datetime
    by: str
    final: bool
    entries: int


class StatementLine(Struct, frozen=True, kw_only=True):
    """One side of a posting, and the balance after it; `effective_at` is when it counts, `at` when it was recorded."""

    entry_id: str
    intent: str
    intent_id: str | None = None
    ordinal: int
    at: datetime
    effective_at: datetime
    posting: str
    side: str
    other: str
    pending: int
    posted: int
    hash: str
    balance: RunningBalance


class StatementPage(Page[StatementLine], frozen=True, kw_only=True):
    """A page of a statement; opening, closing and interval are the same on all pages."""

    account_id: str
    currency: str
    by: str
    from_: datetime = field(name="from")
    to: datetime
    opening: Figures
    closing: Figures


class Book(Struct, frozen=True, kw_only=True):
    """A book: no posting leaves it."""

    book: str
    name: str
    created_by: str
    created_at: datetime | None = None


class ChartNode(Figures, frozen=True, kw_only=True):
    """A node of the chart of accounts in one currency: sums of the accounts at it and below, credits positive."""

    node: str
    currency: str
    accounts: int
    deeper: bool


class ChartPage(Page[ChartNode], frozen=True, kw_only=True):
    """Nodes of the chart in order of their names."""

    book: str
    prefix: str
    depth: int
