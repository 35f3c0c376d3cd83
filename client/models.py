"""What the API answers, as values that cannot be changed.

- Fields and words that this version does not know are no error: fields are left out, words stay as they are written.
- Amounts are integers in minor units; balances may be wider than 64 bits.
- What an answer did not show is None or empty: an intent that was accepted without waiting shows no more than that."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from msgspec import Struct, field

__all__ = [
    "Account",
    "AccountEntry",
    "AuditPacket",
    "Callback",
    "Case",
    "Command",
    "Delivery",
    "DeliveryAttempt",
    "EntryPage",
    "Event",
    "Intent",
    "LedgerEntry",
    "LedgerState",
    "Links",
    "Reason",
    "Review",
    "Stage",
    "Status",
    "WebhookEvent",
]


class Status(StrEnum):
    """Where an intent stands; a status that is newer than this package is kept as it is written."""

    ACCEPTED = "ACCEPTED"
    PROCESSING = "PROCESSING"
    REVIEW = "REVIEW"
    AWAITING_PROVIDER = "AWAITING_PROVIDER"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    RECONCILED = "RECONCILED"
    REVERSED = "REVERSED"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member


SETTLED: Final = frozenset({Status.SUCCESSFUL, Status.FAILED, Status.RECONCILED, Status.REVERSED})


class Links(Struct, frozen=True):
    """Where to look next, as paths below the base URL."""

    self: str = ""
    evidence: str = ""
    entries: str = ""
    subject: str = ""


class Reason(Struct, frozen=True):
    """Why an intent failed or waits in review."""

    event: str
    code: str
    detail: str = ""


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One posting of an intent; `pending` and `posted` are its signed effects on each layer."""

    entry_id: str
    posting: str
    debit: str
    credit: str
    currency: str
    pending: int
    posted: int
    sequence: int
    at: datetime
    hash: str


class LedgerState(Struct, frozen=True, kw_only=True):
    """The entries of an intent and what they add up to."""

    held: int
    posted: int
    reversed: int
    entries: tuple[LedgerEntry, ...] = ()


class Event(Struct, frozen=True, kw_only=True):
    """One record of an intent; `hash` chains it to those before it."""

    sequence: int
    event: str
    from_: str | None = field(name="from", default=None)
    to: str
    step: str | None = None
    at: datetime
    actor: str
    cause: str
    facts: dict[str, Any] = {}
    hash: str


class AuditPacket(Struct, frozen=True, kw_only=True):
    """Whether the packet is sealed, and where its leaf stands in the tenant's log."""

    sealed: bool
    sealed_at: datetime | None = None
    records: int | None = None
    digest: str | None = None
    leaf_index: int | None = None
    evidence: str | None = None


class Stage(Struct, frozen=True, kw_only=True):
    """One of the six steps of the timeline."""

    stage: str
    reached: bool
    reached_at: datetime | None = None
    sequence: int | None = None
    event: str | None = None
    state: str = ""
    proof: str = ""


class Callback(Struct, frozen=True, kw_only=True):
    """What a rail reported, and how often it came again."""

    rail: str
    event_id: str
    received_at: datetime
    digest: str
    repeats: int


class DeliveryAttempt(Struct, frozen=True, kw_only=True):
    """One attempt to deliver a webhook."""

    number: int
    at: datetime
    status_code: int | None = None
    error: str | None = None
    latency_ms: int = 0


class Delivery(Struct, frozen=True, kw_only=True):
    """A webhook about an intent, with every attempt."""

    id: str
    webhook_id: str
    endpoint: str
    event: str
    status: str
    created_at: datetime
    next_at: datetime | None = None
    attempts_made: int = 0
    attempts: tuple[DeliveryAttempt, ...] = ()


class Case(Struct, frozen=True, kw_only=True):
    """Something about an intent that somebody has to look into."""

    id: str
    kind: str
    status: str
    opened_at: datetime
    deadline: datetime | None = None
    operator: str | None = None
    resolved_at: datetime | None = None


class Review(Struct, frozen=True, kw_only=True):
    """A review that a rule asked for."""

    id: str
    status: str
    opened_at: datetime
    expires_at: datetime
    assigned_to: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str | None = None


class Intent(Struct, frozen=True, kw_only=True):
    """An intent; from `source` on, only what was waited for or looked up shows more than the defaults."""

    id: str
    intent_id: str
    status: Status
    kind: str
    amount: int
    currency: str
    created_at: datetime
    links: Links
    source: str | None = None
    destination: str | None = None
    scope: str | None = None
    step: str | None = None
    country: str | None = None
    metadata: dict[str, str] = {}
    created_by: str | None = None
    updated_at: datetime | None = None
    trace_id: str | None = None
    version: int | None = None
    reason: Reason | None = None
    ledger_state: LedgerState | None = None
    event_stream: tuple[Event, ...] = ()
    audit_packet: AuditPacket | None = None
    stages: tuple[Stage, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    cases: tuple[Case, ...] = ()
    review: Review | None = None

    @property
    def settled(self) -> bool:
        """Whether the money is where it stays, unless somebody asks for something else."""
        return self.status in SETTLED

    @property
    def stable(self) -> bool:
        """Whether nothing more happens without somebody: settled, in review, or with an open case."""
        return self.settled or self.status == Status.REVIEW or any(case.status == "open" for case in self.cases)


class Command(Struct, frozen=True, kw_only=True):
    """A command and where it stands: `accepted`, or `done` with its outcome. A refused one is an error instead."""

    command: str
    status: str
    kind: str
    intent_id: str
    intent: str
    outcome: str | None = None
    detail: Any = None
    links: Links = Links()

    @property
    def done(self) -> bool:
        """Whether it has been carried out."""
        return self.status == "done"


class Account(Struct, frozen=True, kw_only=True):
    """An account; its balances are None in the answer that opened it."""

    account_id: str
    owner: str
    type: str
    currency: str
    status: str
    created_by: str
    created_at: datetime | None = None
    normal_side: str | None = None
    overdraft_limit: int | None = None
    posted: int | None = None
    pending: int | None = None
    available: int | None = None
    counters: dict[str, int] = {}
    links: Links = Links()


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


class EntryPage(Struct, frozen=True, kw_only=True):
    """One page of entries, newest first."""

    data: tuple[AccountEntry, ...]
    has_more: bool = False
    next_cursor: str | None = None


class WebhookEvent(Struct, frozen=True, kw_only=True):
    """A verified webhook. `id` is the same however often it is sent: who has seen it has nothing more to do."""

    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]
