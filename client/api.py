"""The Python client of Zentra; it needs msgspec and httpx2 and nothing of the server.

    from zentra.client.api import Zentra

    with Zentra() as client:  # ZENTRA_API_KEY, ZENTRA_BASE_URL
        intent = client.runtime.intents.create(
            amount=250_000, currency="NGN", source="customer-1", destination="merchant-1", wait=5
        )

What can go wrong is drawn as one tree in `zentra.client.errors`; what comes back is in `zentra.client.models`."""

from zentra.client.asynchronous import AsyncZentra
from zentra.client.blocking import Zentra
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
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
    WebhookVerificationError,
    ZentraError,
)
from zentra.client.models import Account, AccountEntry, Command, Intent, Status, WebhookEvent
from zentra.client.webhooks import verify_webhook

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "Account",
    "AccountEntry",
    "AsyncZentra",
    "AuthenticationError",
    "BadRequestError",
    "Command",
    "ConflictError",
    "FieldError",
    "IdempotencyInFlightError",
    "IdempotencyMismatchError",
    "Intent",
    "InternalServerError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "Status",
    "UnprocessableEntityError",
    "WebhookEvent",
    "WebhookVerificationError",
    "Zentra",
    "ZentraError",
    "verify_webhook",
]
