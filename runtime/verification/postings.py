"""A posting as a verifier sees it: what is stored of it, its hash spelled out anew, and what it does to accounts.

Nothing here is shared with the code that writes postings: a fault there must not hide itself."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

__all__ = ["COUNTERS", "NOTHING", "AccountFacts", "Counters", "PostingRow", "added", "hash_of", "spelled"]

COUNTERS: Final = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")
"""The counters of an account, in the order in which they are kept here."""

Counters = tuple[int, int, int, int]
NOTHING: Final[Counters] = (0, 0, 0, 0)


class AccountFacts(NamedTuple):
    """What is fixed about an account, and its limit."""

    id: int
    tenant: str
    account_id: str
    type: str
    currency: str
    normal_side: str
    guarded: bool
    overdraft_limit: int


class PostingRow(NamedTuple):
    """A row of the ledger, as it is stored."""

    intent: str
    ordinal: int
    tenant: str
    kind: str
    debit: int
    credit: int
    currency: str
    pending: int
    posted: int
    at: datetime
    hash: bytes
    effective_at: datetime | None = None

    @property
    def counts_from(self) -> datetime:
        """Return when it counts from: when it was recorded, unless it says otherwise."""
        return self.effective_at or self.at


def hash_of(posting: PostingRow, debit: str, credit: str) -> bytes:
    """Return the hash that a posting between these accounts has to have: SHA-256 over its fields, joined by bars.

    One that counts from another time than that of its record has a 2 before its fields, and that time behind them."""
    intent, ordinal, tenant, kind, _, _, currency, pending, posted, _, _, effective_at = posting
    fields = f"{tenant}|{intent}|{ordinal}|{kind}|{debit}|{credit}|{currency}|{pending}|{posted}"
    if effective_at is not None:
        fields = f"2|{fields}|{spelled(effective_at)}"
    return sha256(fields.encode()).digest()


def spelled(at: datetime) -> str:
    """Return a time as records spell it: RFC 3339 in UTC with microseconds."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def added(one: Counters, other: Counters) -> Counters:
    """Return the sums, counter by counter."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])
