"""What answers look like, as types: the description of the API is made from these.

- They describe and are never instantiated on the way of a request: handlers encode what they have. Tests hold every
  answer of the HTTP suite to its shape, unknown members included, so a shape cannot differ from what is sent.
- Where a handler encodes a type of its own (a review, a case, a denial), that very type stands in the description.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from zentra.gateway.description.ledger_shapes import LedgerState
from zentra.gateway.description.term_shapes import ConditionShown, ConversionShown, LegShown
from zentra.gateway.description.words import Code, Digits, Hash, HoldStanding, Uuid
from zentra.runtime.intents.vocabulary import IntentKind, Lifecycle, Topic
from zentra.storage.reads.reviews import ReviewView
from zentra.storage.reads.work import AttemptView, CaseView, CommandView
from zentra.storage.versions import VersionEvent

__all__ = [
    "Accepted", "BulkAnswer", "BulkAnswers", "CallbackTaken", "CaseView", "CommandAnswer", "CommandView", "Delivery",
    "Digits", "ErrorPage", "Hash", "Intent", "IntentShown", "Live", "PolicyShown", "PolicySummary",
    "PolicyVersion", "ProblemDocument", "Readiness", "RecordShown", "ReviewView", "SelfLink", "Uuid", "VersionShown",
    "WebhookBody",
]  # fmt: skip


class Violation(Struct, frozen=True):
    """One thing that is wrong with a request: where (a JSON pointer into the body, or into the query as an object), a
    stable code, and what was expected."""

    pointer: Annotated[str, Meta(pattern=r"^(/[\s\S]*)?$")]
    code: Code
    detail: str


class ProblemDocument(Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). `type` leads to the page of the code; `errors` names every violation at once."""

    type: Annotated[str, Meta(pattern="^/problems/[a-z0-9_]+$")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    code: Code
    detail: str
    instance: Annotated[str, Meta(pattern="^urn:zentra:request:.+$")]
    retryable: bool
    request_id: str
    trace_id: str
    errors: list[Violation] | UnsetType = UNSET
    cause: Literal["requests", "backlog"] | UnsetType = UNSET
    command: Uuid | UnsetType = UNSET
    fields: list[str] | UnsetType = UNSET
    known: list[str] | UnsetType = UNSET
    retry_after_seconds: int | UnsetType = UNSET


class PolicyLinks(Struct, frozen=True):
    """Where the version is."""

    self: str


class PolicySummary(Struct, frozen=True, kw_only=True):
    """A version without its document."""

    version: int
    state: Literal["draft", "validated", "active", "retired"]
    digest: Hash
    note: str
    created_by: str
    created_at: datetime


class PolicyVersion(PolicySummary, frozen=True, kw_only=True):
    """A version; `violations` names what is wrong with a draft."""

    document: dict[str, Any]
    violations: list[Violation]
    links: PolicyLinks


class PolicyEvent(VersionEvent, frozen=True):
    """Who did what with a version, when."""


class PolicyShown(PolicyVersion, frozen=True, kw_only=True):
    """A version, and what was done with it, the last first."""

    events: list[PolicyEvent]


class IntentLinks(Struct, frozen=True):
    """Where to look next."""

    self: str
    evidence: str


class Accepted(Struct, frozen=True, kw_only=True):
    """An intent that is registered: the same bytes for ever under its key."""

    intent_id: str
    id: Uuid
    status: Lifecycle
    kind: IntentKind
    amount: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    currency: str
    created_at: datetime
    links: IntentLinks


class Reason(Struct, frozen=True):
    """Why an intent failed or waits: the event and the code behind it."""

    event: Topic
    code: str
    detail: str


class EventShown(Struct, frozen=True, kw_only=True):
    """One record of an intent; `hash` chains it to those before it."""

    sequence: int
    event: Topic
    from_: Lifecycle | None = field(name="from")
    to: Lifecycle
    step: str | None
    at: datetime
    actor: str
    cause: str
    facts: dict[str, Any]
    hash: Hash


class Addendum(Struct, frozen=True):
    """What was sealed after the packet."""

    leaf_index: int
    records: int
    digest: Hash


class AuditPacket(Struct, frozen=True, kw_only=True):
    """Whether the packet is sealed, and where its leaf stands in the tenant's log."""

    sealed: bool
    sealed_at: datetime | None
    records: int | None
    digest: Hash | None
    leaf_index: int | None
    addenda: list[Addendum]
    evidence: str | None


class StageShown(Struct, frozen=True, kw_only=True):
    """One of the six steps of the timeline."""

    stage: Literal["accepted", "controlled", "ledgered", "routed", "synchronized", "evidenced"]
    reached: bool
    reached_at: datetime | None
    sequence: int | None
    event: Topic | None
    state: str
    proof: str
    boundary: str
    actor: str


class CallbackShown(Struct, frozen=True, kw_only=True):
    """What a rail reported, and how often it came again."""

    rail: str
    event_id: str
    received_at: datetime
    digest: Hash
    repeats: int
    status: str | None = None
    trust: str | None = None
    same_as: str | None = None


class EndpointGone(Struct, frozen=True, kw_only=True):
    """An endpoint that was disabled, and what it answered to which delivery."""

    id: str
    reason: Literal["gone", "failing"]
    delivery: Uuid
    event: Topic
    attempts: int
    status_code: int | None
    error: str | None


class WebhookData(Struct, frozen=True, kw_only=True):
    """The intent as it was at this event; `object_version` orders the events of one intent."""

    id: Uuid
    intent_id: str
    object_version: int
    status: Lifecycle
    step: str | None
    kind: IntentKind
    amount: Digits
    currency: str
    source: str
    destination: str
    scope: str
    metadata: dict[str, str]
    trace_id: str
    tracestate: str | UnsetType = UNSET
    hold: HoldStanding | UnsetType = UNSET
    fetch: str | UnsetType = UNSET
    endpoint: EndpointGone | UnsetType = UNSET


class WebhookBody(Struct, frozen=True):
    """What an endpoint is sent; the bytes and `webhook-id` are the same on every attempt and replay."""

    type: Topic
    timestamp: datetime
    data: WebhookData


class Delivery(Struct, frozen=True, kw_only=True):
    """A webhook about an intent, with every attempt."""

    id: Uuid
    webhook_id: str
    endpoint: str
    intent: Uuid
    intent_id: str
    sequence: int
    event: Topic
    status: str
    created_at: datetime
    next_at: datetime | None
    attempts_made: int
    attempts: list[AttemptView]
    payload: WebhookBody


class Intent(Struct, frozen=True, kw_only=True):
    """An intent with everything around it."""

    id: Uuid
    intent_id: str
    status: Lifecycle
    step: str | None
    kind: IntentKind
    amount: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    currency: str
    source: str
    destination: str
    scope: str
    country: str | None
    money_model: str
    primitives: list[str]
    metadata: dict[str, str]
    legs: list[LegShown] | None
    conditions: list[ConditionShown] | None
    effective_at: datetime | None
    corrects: str | None
    corrected_by: list[str]
    conversion: ConversionShown | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    trace_id: str
    version: int
    reason: Reason | None
    ledger_state: LedgerState
    event_stream: list[EventShown]
    audit_packet: AuditPacket
    stages: list[StageShown]
    callbacks: list[CallbackShown]
    deliveries: list[Delivery]
    cases: list[CaseView]
    review: ReviewView | None
    links: IntentLinks


class BulkAnswer(Struct, frozen=True):
    """The answer to one intent of many."""

    status: int
    replayed: bool
    body: Accepted


class BulkAnswers(Struct, frozen=True):
    """One answer or problem per intent, in order."""

    results: list[Any]  # filled in by the description: msgspec has no union of untagged types


class CommandLinks(Struct, frozen=True):
    """Where to look for the outcome, and at what it is about."""

    self: str
    subject: str


class CommandAnswer(Struct, frozen=True, kw_only=True):
    """A command: `accepted`, or `done` with its outcome; a refused one is a problem. What it is about depends on it."""

    command: Uuid
    status: Literal["accepted", "done", "awaiting_approval"]
    kind: Literal[
        "cancel", "reverse", "decide_review", "assign_review", "comment_review", "escalate_review", "resolve_case",
        "replay_delivery", "recover_deliveries", "capture_hold", "void_hold",
    ]  # fmt: skip
    links: CommandLinks
    intent: Uuid | UnsetType = UNSET
    intent_id: str | UnsetType = UNSET
    verdict: Literal["approved", "rejected"] | UnsetType = UNSET
    review: Uuid | UnsetType = UNSET
    assigned_to: str | UnsetType | None = UNSET
    approval: Uuid | UnsetType = UNSET
    request_hash: Hash | UnsetType = UNSET
    case: Uuid | UnsetType = UNSET
    resolution: str | UnsetType = UNSET
    delivery: Uuid | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET
    recovery: Uuid | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    detail: Any | UnsetType = UNSET


class SelfLink(Struct, frozen=True):
    """Where to look next."""

    self: str


class IntentLink(Struct, frozen=True):
    """Where to look next."""

    self: str


class IntentShown(Struct, frozen=True, kw_only=True):
    """An intent as a list shows it: without history, which the intent itself has."""

    id: Uuid
    intent_id: str
    status: Lifecycle
    step: str | None
    kind: IntentKind
    amount: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    currency: str
    source: str
    destination: str
    scope: str
    metadata: dict[str, str]
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int
    links: IntentLink


class CallbackTaken(Struct, frozen=True):
    """A callback is committed; `new` is false for a repeat."""

    received: Literal[True]
    new: bool


class Live(Struct, frozen=True):
    """The process answers."""

    status: Literal["live"]


class Check(Struct, frozen=True):
    """Whether a store answered, and how fast."""

    ok: bool
    latency_ms: float


class Readiness(Struct, frozen=True):
    """Whether requests should be sent here."""

    status: Literal["ready", "degraded", "unready", "draining"]
    checks: dict[str, Check]


class VersionShown(Struct, frozen=True):
    """Which version runs, and which schema it speaks."""

    version: str
    schema: str


class ErrorPage(Struct, frozen=True):
    """What an error code means and what to do about it."""

    code: Code
    status: int
    retryable: bool
    title: str
    advice: str


class RecordShown(Struct, frozen=True, kw_only=True):
    """One transition as it is sealed: what the feed brings."""

    actor: str
    at: datetime
    cause: str
    event: Topic
    facts: dict[str, Any]
    from_: Lifecycle | None = field(name="from")
    intent: Uuid
    intent_id: str
    scope: str
    sequence: int
    step: str | None
    tenant: str
    to: Lifecycle
    trace: str
