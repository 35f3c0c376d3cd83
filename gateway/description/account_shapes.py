"""What answers about books and accounts look like, as types; see `shapes`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from zentra.gateway.description.shapes import Digits, Hash, SelfLink, Uuid

__all__ = [
    "Account",
    "AccountChange",
    "AccountChanged",
    "AccountMonitor",
    "AccountNumber",
    "AccountOpened",
    "BalanceAt",
    "Book",
    "BookMade",
    "ChartNode",
    "Figures",
    "StatementLine",
    "TakenAway",
]  # fmt: skip


class AccountOpened(Struct, frozen=True, kw_only=True):
    """An account that was opened: the same bytes for ever under its key."""

    account_id: str
    owner: str
    type: str
    currency: str
    book: str
    status: Literal["open"]
    created_by: str
    links: SelfLink
    party: str | UnsetType = UNSET


class AccountLinks(Struct, frozen=True):
    """Where to look next."""

    self: str
    entries: str
    balances: str
    statement: str
    changes: str


class Counters(Struct, frozen=True):
    """The four counters that the balances come from."""

    debits_pending: Digits
    credits_pending: Digits
    debits_posted: Digits
    credits_posted: Digits


class Explained(Struct, frozen=True):
    """How the figures come from the counters: what is coming in is pending, and never available."""

    posted: str
    pending: str
    available: str
    spendable: str


class Account(Struct, frozen=True, kw_only=True):
    """An account and its balances: `posted` is settled, `pending` on its way in or out, `available` can be taken out
    now, and `spendable` is that with the overdraft."""

    account_id: str
    owner: str
    party: str | None
    type: str
    currency: str
    normal_side: Literal["debit", "credit"]
    status: Literal["open", "frozen", "closed"]
    book: str
    overdraft_limit: Digits
    created_by: str
    created_at: datetime
    posted: Digits
    pending: Digits
    available: Digits
    expired_holds: Digits
    spendable: Digits
    counters: Counters
    explained: Explained
    links: AccountLinks


class ChangeLinks(Struct, frozen=True):
    """Where to look next."""

    self: str
    changes: str


class AccountChanged(Struct, frozen=True, kw_only=True):
    """A change of an account: the same bytes for ever under its key."""

    account_id: str
    change: Literal["freeze", "unfreeze", "close", "reopen", "limit", "number_added", "monitor_added"]
    reason: str
    changed_by: str
    links: ChangeLinks
    status: Literal["open", "frozen", "closed"] | UnsetType = UNSET
    overdraft_limit: Digits | UnsetType = UNSET
    scheme: Literal["iban", "nuban", "virtual"] | UnsetType = UNSET
    number: str | UnsetType = UNSET
    monitor: Uuid | UnsetType = UNSET
    of: Literal["available", "posted", "pending"] | UnsetType = UNSET
    when: Literal["below", "at_most", "at_least", "above"] | UnsetType = UNSET
    minor: Digits | UnsetType = UNSET


class TakenAway(Struct, frozen=True, kw_only=True):
    """What an account has no more."""

    account_id: str
    change: Literal["number_retired", "monitor_removed"]
    number: str | UnsetType = UNSET
    monitor: Uuid | UnsetType = UNSET


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
    hash: Hash


class AccountNumber(Struct, frozen=True, kw_only=True):
    """A number of an account; once it is retired it means nobody."""

    scheme: Literal["iban", "nuban", "virtual"]
    number: str
    created_by: str
    created_at: datetime
    retired_at: datetime | None


class AccountMonitor(Struct, frozen=True, kw_only=True):
    """A monitor: the event `balance.crossed` tells whenever figure `of` comes to be `when` (below, ...) `minor`."""

    id: Uuid
    of: Literal["available", "posted", "pending"]
    when: Literal["below", "at_most", "at_least", "above"]
    minor: Digits
    created_by: str
    created_at: datetime


class Figures(Struct, frozen=True):
    """The figures of an account at one moment, and the counters that they come from."""

    posted: Digits
    pending: Digits
    available: Digits
    counters: Counters


class BalanceAt(Struct, frozen=True, kw_only=True):
    """The balance of an account as all entries before `at` leave it; where it is `final`, no entry can come before it
    any more."""

    account_id: str
    currency: str
    at: datetime
    by: Literal["recorded", "effective"]
    final: bool
    entries: int
    posted: Digits
    pending: Digits
    available: Digits
    counters: Counters


class RunningBalance(Struct, frozen=True):
    """The figures after an entry."""

    posted: Digits
    pending: Digits
    available: Digits


class StatementLine(Struct, frozen=True, kw_only=True):
    """One side of a posting, and the balance after it; `effective_at` is when it counts, `at` when it was recorded."""

    entry_id: str
    intent: Uuid
    intent_id: str | None
    ordinal: int
    at: datetime
    effective_at: datetime
    posting: str
    side: Literal["debit", "credit"]
    other: str
    pending: Digits
    posted: Digits
    hash: Hash
    balance: RunningBalance


class BookMade(Struct, frozen=True):
    """A book that was opened: the same bytes for ever under its key."""

    book: str
    name: str
    created_by: str


class Book(Struct, frozen=True, kw_only=True):
    """A book: no posting leaves it."""

    book: str
    name: str
    created_by: str
    created_at: datetime


class ChartNode(Struct, frozen=True, kw_only=True):
    """A node of the chart of accounts in one currency: the sums of the accounts at it and below, credits positive.
    `deeper` says that some lie below."""

    node: str
    currency: str
    accounts: int
    deeper: bool
    posted: Digits
    pending: Digits
    available: Digits
    counters: Counters
