"""Postings as values, of an intent and of an account; see `zentra.client.models`, which has them all."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from zentra.client.fee_models import Fees

__all__ = ["AccountEntry", "LedgerEntry", "LedgerState"]


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One posting of an intent; `pending` and `posted` are its signed effects on each layer."""

    entry_id: str
    ordinal: int
    posting: str
    debit: str
    credit: str
    currency: str
    pending: int
    posted: int
    sequence: int
    at: datetime
    hash: str
    effective_at: datetime | None = None


class LedgerState(Struct, frozen=True, kw_only=True):
    """The entries of an intent and what they add up to."""

    held: int
    posted: int
    reversed: int
    fees: Fees | None = None
    entries: tuple[LedgerEntry, ...] = ()


class AccountEntry(Struct, frozen=True, kw_only=True):
    """One side of a posting: `side` is the account's own, `other` the account on the other side."""

    entry_id: str
    intent: str
    ordinal: int
    at: datetime
    posting: str
    side: str
    other: str
    currency: str
    pending: int
    posted: int
    hash: str
    effective_at: datetime | None = None
