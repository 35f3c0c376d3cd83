"""The Python client of Zentra; it needs msgspec and httpx2 and nothing of the server.

    from zentra.client.api import Zentra

    with Zentra() as client:  # ZENTRA_API_KEY, ZENTRA_BASE_URL
        intent = client.runtime.intents.create(
            amount=250_000, currency="NGN", source="customer-1", destination="merchant-1", wait=5
        )

What can go wrong is drawn as one tree in `zentra.client.errors`; what comes back is in `zentra.client.models`.
`AsyncZentra` is the same for asyncio, `NatsZentra` makes intents over NATS."""

from zentra.client.answers import Answer, RateLimit, RawResponse
from zentra.client.asynchronous.client import AsyncZentra
from zentra.client.blocking.client import Zentra
from zentra.client.bulk import BulkResult, NewIntent
from zentra.client.codes import Code
from zentra.client.deciding import DecisionResult, NewDecision
from zentra.client.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    FieldError,
    IdempotencyInFlightError,
    IdempotencyMismatchError,
    InternalServerError,
    MissingExtraError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
    WebhookVerificationError,
    ZentraError,
)
from zentra.client.evidence import PacketProblem, Verdict, verify_packet
from zentra.client.holds import Hold
from zentra.client.models import (
    Account,
    AccountEntry,
    Command,
    Condition,
    ConversionQuote,
    Intent,
    Leg,
    Page,
    Quote,
    Rate,
    Record,
    Status,
    StreamEvent,
    WebhookEvent,
)
from zentra.client.natsdoor import NatsZentra
from zentra.client.webhooks import verify_webhook

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "Account",
    "AccountEntry",
    "Answer",
    "AsyncZentra",
    "AuthenticationError",
    "BadRequestError",
    "BulkResult",
    "Code",
    "Command",
    "Condition",
    "ConflictError",
    "ConversionQuote",
    "DecisionResult",
    "FieldError",
    "Hold",
    "IdempotencyInFlightError",
    "IdempotencyMismatchError",
    "Intent",
    "InternalServerError",
    "Leg",
    "MissingExtraError",
    "NatsZentra",
    "NewDecision",
    "NewIntent",
    "NotFoundError",
    "PacketProblem",
    "Page",
    "PermissionDeniedError",
    "Quote",
    "Rate",
    "RateLimit",
    "RateLimitError",
    "RawResponse",
    "Record",
    "Status",
    "StreamEvent",
    "UnprocessableEntityError",
    "Verdict",
    "WebhookEvent",
    "WebhookVerificationError",
    "Zentra",
    "ZentraError",
    "verify_packet",
    "verify_webhook",
]
