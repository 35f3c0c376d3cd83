"""Idempotency as a decision: a key meets what is known of it, and exactly one of four things is the answer.

    new         nobody knows the key: do it
    in flight   somebody else is doing it now: a conflict, ask again
    replay      it was done with the same command: the first answer again, byte for byte, marked as such
    reused      it was done with another command: an error of its own, naming the fields

What is stored counts before what is locked, because a lock may outlive the work it was taken for. The cache port below
may forget everything at any time; then the store below it decides, and it is always right."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct

__all__ = [
    "IN_FLIGHT",
    "Answer",
    "IdempotencyCache",
    "InFlight",
    "KeyOutcome",
    "KeyRef",
    "StoredKey",
    "Taken",
    "decide",
    "differing_fields",
    "replay_of",
]

KeyRef = tuple[str, str]
"""A tenant and the key it chose."""


class KeyOutcome(StrEnum):
    """What becomes of a request with a key."""

    NEW = "new"
    IN_FLIGHT = "in_flight"
    REPLAY = "replay"
    REUSED = "reused"


class StoredKey(Struct, frozen=True, array_like=True):
    """What is known of a key that was used: the digest of its command and the first answer to it."""

    digest: bytes
    status: int
    answer: bytes
    subject: str
    request_id: str
    first_seen: datetime


class Answer(Struct, frozen=True):
    """The answer to a request; `replayed` says that it is the first one's again."""

    status: int
    body: bytes
    replayed: bool
    first_seen: datetime
    request_id: str


InFlight = Literal["in_flight"]
IN_FLIGHT: Final = "in_flight"


class Taken(Struct, frozen=True):
    """What a cache says of a group: for each key an answer, somebody else's lock, or None where it is ours to try.

    `degraded` says that the cache could not be asked, so every None is a guess that only the store can settle."""

    found: Sequence[StoredKey | InFlight | None]
    degraded: bool = False


class IdempotencyCache(Protocol):
    """The lock and the answers of recent keys. No method raises: what cannot be had is as if it were not known."""

    async def take(self, keys: Sequence[KeyRef]) -> Taken:
        """Return what is known of each key, and lock those of which nothing is."""
        ...

    async def store(self, answers: Sequence[tuple[KeyRef, StoredKey]]) -> None:
        """Keep answers; each replaces the lock on its key."""
        ...

    async def release(self, keys: Sequence[KeyRef]) -> None:
        """Give up the locks on keys that led to nothing; those of others stay."""
        ...


def decide(digest: bytes, stored: StoredKey | None, *, in_flight: bool = False) -> KeyOutcome:
    """Return what becomes of a command with `digest` whose key has left `stored`."""
    if stored is not None:
        return KeyOutcome.REPLAY if stored.digest == digest else KeyOutcome.REUSED
    return KeyOutcome.IN_FLIGHT if in_flight else KeyOutcome.NEW


def replay_of(stored: StoredKey) -> Answer:
    """Return the first answer again."""
    return Answer(stored.status, stored.answer, True, stored.first_seen, stored.request_id)


def differing_fields(stored: bytes, given: bytes) -> tuple[str, ...]:
    """Return the names of the top-level fields in which two commands (canonical JSON objects) differ, sorted."""
    ours, theirs = msgspec.json.decode(stored), msgspec.json.decode(given)
    missing = object()
    names = ours.keys() | theirs.keys()
    return tuple(sorted(name for name in names if ours.get(name, missing) != theirs.get(name, missing)))
