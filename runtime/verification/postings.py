"""A posting as a verifier sees it: what is stored of it, its hash spelled out anew, and what it does to accounts.

Nothing here is shared with the code that writes postings: a fault there must not hide itself."""

from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple

__all__ = ["COUNTERS", "NOTHING", "AccountFacts", "Counters", "PostingRow", "added", "hash_of"]

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


def hash_of(posting: PostingRow, debit: str, credit: str) -> bytes:
    """Return the hash that a posting between these accounts has to have: SHA-256 over its fields, joined by bars."""
    intent, ordinal, tenant, kind, _, _, currency, pending, posted, _, _ = posting
    return sha256(
        f"{tenant}|{intent}|{ordinal}|{kind}|{debit}|{credit}|{currency}|{pending}|{posted}".encode()
    ).digest()


def added(one: Counters, other: Counters) -> Counters:
    """Return the sums, counter by counter."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])
