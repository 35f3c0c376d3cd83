"""The shapes of postings, of an intent and of an account."""

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from zentra.gateway.description.fee_shapes import FeesShown
from zentra.gateway.description.words import Digits, Hash, Uuid

__all__ = ["AccountEntry", "LedgerEntry", "LedgerState"]


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One posting; `pending` and `posted` are its signed effects on each layer."""

    entry_id: str
    ordinal: int
    posting: Literal[
        "reserve", "release", "post", "settle", "book", "reversal", "fee", "fee_reserve", "fee_release", "fee_refund",
        "conversion_fee", "spread", "forced_reversal",
    ]  # fmt: skip
    debit: str
    credit: str
    currency: str
    pending: Digits
    posted: Digits
    hash: Hash
    sequence: int
    at: datetime
    effective_at: datetime | UnsetType = UNSET


class LedgerState(Struct, frozen=True):
    """The entries of an intent and what they add up to."""

    held: Digits
    posted: Digits
    reversed: Digits
    fees: FeesShown
    entries: list[LedgerEntry]


class AccountEntry(Struct, frozen=True, kw_only=True):
    """One side of a posting: `side` is the account's own, `other` the account on the other side."""

    entry_id: str
    intent: Uuid
    ordinal: int
    at: datetime
    posting: str
    side: Literal["debit", "credit"]
    other: str
    currency: str
    pending: Digits
    posted: Digits
    hash: Hash
    effective_at: datetime
