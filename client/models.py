"""What the API answers, as values that cannot be changed.

- Fields and words that this version does not know are no error: fields are left out, words stay as they are written.
- Amounts are integers in minor units; balances may be wider than 64 bits.
- What an answer did not show is None or empty: an intent that was accepted without waiting shows no more than that."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Generic, Self, TypeVar

import msgspec
from msgspec import Struct, field

from zentra.client.fee_models import FeeLine, Fees, FeeSchedule, Quote
from zentra.client.ledger_models import AccountEntry, LedgerEntry, LedgerState
from zentra.client.reviewed import Review, ReviewCounts, ReviewStep
from zentra.client.term_models import Condition, Conversion, ConversionQuote, Leg, Price, Rate, Rates

__all__ = [
    "Account",
    "AccountEntry",
    "Addendum",
    "Approval",
    "AuditPacket",
    "Callback",
    "Case",
    "Command",
    "CommandRecord",
    "Condition",
    "Conversion",
    "ConversionQuote",
    "Delivery",
    "DeliveryAttempt",
    "Denial",
    "ErrorPage",
    "Event",
    "FeeLine",
    "FeeSchedule",
    "Fees",
    "Intent",
    "LedgerEntry",
    "LedgerState",
    "Leg",
    "Links",
    "Page",
    "Price",
    "Quote",
    "Rate",
    "Rates",
    "Reason",
    "Record",
    "Review",
    "ReviewCounts",
    "ReviewStep",
    "Stage",
    "Status",
    "StreamEvent",
    "Version",
    "WebhookEvent",
    "WebhookIntent",
]

T = TypeVar("T")


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
    balances: str = ""
    statement: str = ""
    changes: str = ""
    intent: str = ""
    deliveries: str = ""
    keys: str = ""


class Reason(Struct, frozen=True):
    """Why an intent failed or waits in review."""

    event: str
    code: str
    detail: str = ""


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


class Addendum(Struct, frozen=True):
    """What was sealed after the packet."""

    leaf_index: int
    records: int
    digest: str


class AuditPacket(Struct, frozen=True, kw_only=True):
    """Whether the packet is sealed, and where its leaf stands in the tenant's log."""

    sealed: bool
    sealed_at: datetime | None = None
    records: int | None = None
    digest: str | None = None
    leaf_index: int | None = None
    addenda: tuple[Addendum, ...] = ()
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
    boundary: str = ""
    actor: str = ""


class Callback(Struct, frozen=True, kw_only=True):
    """What a rail reported, and how often it came again."""

    rail: str
    event_id: str
    received_at: datetime
    digest: str
    repeats: int
    status: str | None = None
    trust: str | None = None
    same_as: str | None = None


class DeliveryAttempt(Struct, frozen=True, kw_only=True):
    """One attempt to deliver a webhook."""

    number: int
    trigger: str = ""
    at: datetime
    status_code: int | None = None
    error: str | None = None
    latency_ms: int = 0
    excerpt: str = ""
    actor: str = ""
    next_at: datetime | None = None


class Delivery(Struct, frozen=True, kw_only=True):
    """A webhook about an intent, with every attempt."""

    id: str
    webhook_id: str
    endpoint: str
    intent: str = ""
    intent_id: str = ""
    sequence: int | None = None
    event: str
    status: str
    created_at: datetime
    next_at: datetime | None = None
    attempts_made: int = 0
    attempts: tuple[DeliveryAttempt, ...] = ()
    payload: dict[str, Any] = {}


class Case(Struct, frozen=True, kw_only=True):
    """Something that somebody has to look into: about an intent, or a message that nobody could read."""

    id: str
    intent: str | None = None
    intent_id: str | None = None
    kind: str
    status: str
    detail: Any = None
    opened_at: datetime
    deadline: datetime | None = None
    operator: str | None = None
    resolution: Any = None
    resolved_at: datetime | None = None
    overdue: bool = False


class Approval(Struct, frozen=True, kw_only=True):
    """What needs a second person and is no intent; from `request` on, only a look shows more than the defaults."""

    id: str
    kind: str
    subject: str
    status: str
    request_hash: str
    request: dict[str, Any] | None = None
    reason: str = ""
    created_by: str | None = None
    role: str | None = None
    opened_at: datetime | None = None
    expires_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision: str | None = None
    links: Links = Links()


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
    money_model: str | None = None
    primitives: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    legs: tuple[Leg, ...] | None = None
    conditions: tuple[Condition, ...] | None = None
    effective_at: datetime | None = None
    corrects: str | None = None
    corrected_by: tuple[str, ...] = ()
    conversion: Conversion | None = None
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
        """Whether nothing more happens without somebody: settled, in review, held until a date, with an open case."""
        waits = self.status == Status.REVIEW or self.step == "held"
        return self.settled or waits or any(case.status == "open" for case in self.cases)


class Command(Struct, frozen=True, kw_only=True):
    """A command and where it stands: `accepted`, or `done` with its outcome. A refused one is an error instead.

    What it is about depends on its `kind`: an intent, a review, a case or a delivery."""

    command: str
    status: str
    kind: str
    intent_id: str | None = None
    intent: str | None = None
    review: str | None = None
    verdict: str | None = None
    assigned_to: str | None = None
    approval: str | None = None
    request_hash: str | None = None
    case: str | None = None
    resolution: str | None = None
    delivery: str | None = None
    endpoint: str | None = None
    outcome: str | None = None
    recovery: str | None = None
    detail: Any = None
    links: Links = Links()

    @property
    def done(self) -> bool:
        """Whether it has been carried out."""
        return self.status == "done"


class CommandRecord(Struct, frozen=True, kw_only=True):
    """A command as it was kept; `accepted` is None until it was decided."""

    id: str
    kind: str
    subject: str
    principal: str
    created_at: datetime
    accepted: bool | None = None
    code: str | None = None
    detail: Any = None
    decided_at: datetime | None = None


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
    book: str = "default"
    overdraft_limit: int | None = None
    posted: int | None = None
    pending: int | None = None
    available: int | None = None
    expired_holds: int | None = None
    spendable: int | None = None
    counters: dict[str, int] = {}
    explained: dict[str, str] = {}
    links: Links = Links()
    party: str | None = None


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list, newest first; `next_cursor` leads to the next."""

    data: tuple[T, ...]
    has_more: bool = False
    next_cursor: str | None = None


class Denial(Struct, frozen=True, kw_only=True):
    """A refusal, and how often it happened within its minute."""

    actor: str
    role: str
    action: str
    reason: str
    minute: datetime
    count: int
    first_at: datetime
    last_at: datetime
    request_id: str


class Version(Struct, frozen=True, kw_only=True):
    """Which version runs, and which schema it speaks."""

    version: str
    schema: str


class ErrorPage(Struct, frozen=True, kw_only=True):
    """What an error code means, and what to do about it."""

    code: str
    status: int
    retryable: bool
    title: str
    advice: str


class Record(Struct, frozen=True, kw_only=True):
    """One transition of an intent, as it is sealed: what event streams and feeds bring."""

    intent: str
    intent_id: str
    sequence: int
    event: str
    from_: str | None = field(name="from", default=None)
    to: str
    step: str | None = None
    at: datetime
    actor: str
    cause: str
    facts: dict[str, Any] = {}
    scope: str = ""
    tenant: str = ""
    trace: str = ""


class StreamEvent(Struct, frozen=True):
    """What a stream told: `id` is where to go on behind it, `event` the name, `record` what happened."""

    id: str
    event: str
    record: Record


class WebhookIntent(Struct, frozen=True, kw_only=True):
    """The intent of a webhook as it was then; `object_version` orders the events of one intent."""

    id: str
    intent_id: str
    object_version: int
    status: Status
    step: str | None = None
    kind: str
    amount: int
    currency: str
    source: str
    destination: str
    scope: str = ""
    metadata: dict[str, str] = {}
    trace_id: str = ""
    tracestate: str = ""
    hold: dict[str, str] | None = None
    fetch: str | None = None  # where the whole is, of an event that is told in short
    endpoint: dict[str, Any] | None = None  # of events about one: which, why, by whom, what it answered


class WebhookEvent(Struct, frozen=True, kw_only=True):
    """A verified webhook. `id` is the same however often it is sent: who has seen it has nothing more to do."""

    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]

    @property
    def intent(self) -> WebhookIntent:
        """The intent in `data`. Raises msgspec.ValidationError for an event that tells of something else."""
        return msgspec.convert(self.data, WebhookIntent, strict=False)
