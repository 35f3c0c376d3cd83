"""Every error code of the API: `error.code == Code.INSUFFICIENT_FUNDS`.

Made from `runtime/codes.py` of the server. Rewrite it with `.venv/bin/python -m tests.catalogue`.
A code that is newer than this package is the text that it is, and compares equal to nothing here."""

from enum import StrEnum
from typing import Final

__all__ = ["RETRYABLE", "Code"]


class Code(StrEnum):
    """What can be wrong with a request."""

    BODY_MALFORMED = "body_malformed"
    BODY_KEY_REPEATED = "body_key_repeated"
    BODY_TOO_DEEP = "body_too_deep"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    CONTENT_TYPE_UNSUPPORTED = "content_type_unsupported"
    QUERY_MALFORMED = "query_malformed"
    CURSOR_MALFORMED = "cursor_malformed"
    EVENT_ID_MALFORMED = "event_id_malformed"
    EVENTS_GONE = "events_gone"
    STREAMS_TOO_MANY = "streams_too_many"
    VALIDATION_FAILED = "validation_failed"
    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    VERSION_UNKNOWN = "version_unknown"
    VERB_UNKNOWN = "verb_unknown"
    BATCH_TOO_LARGE = "batch_too_large"
    AUTHENTICATION_REQUIRED = "authentication_required"
    KEY_INVALID = "key_invalid"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    PERMISSION_DENIED = "permission_denied"
    SELF_APPROVAL = "self_approval"
    NOT_FOUND = "not_found"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_KEY_MALFORMED = "idempotency_key_malformed"
    IDEMPOTENCY_KEY_AMBIGUOUS = "idempotency_key_ambiguous"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    INTENT_ID_CONFLICT = "intent_id_conflict"
    ACCOUNT_EXISTS = "account_exists"
    ENDPOINT_EXISTS = "endpoint_exists"
    NOT_CANCELLABLE = "not_cancellable"
    TRANSACTION_NOT_FOUND = "transaction_not_found"
    ALREADY_REVERSED = "already_reversed"
    EXCEEDS_ORIGINAL = "exceeds_original"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    AMOUNT_ZERO = "amount_zero"
    AMOUNT_NEGATIVE = "amount_negative"
    AMOUNT_OVERFLOW = "amount_overflow"
    ACCOUNTS_MUST_BE_DIFFERENT = "accounts_must_be_different"
    ACCOUNT_NOT_FOUND = "account_not_found"
    ACCOUNT_CLOSED = "account_closed"
    ACCOUNT_FROZEN = "account_frozen"
    CURRENCY_MISMATCH = "currency_mismatch"
    HOLD_NOT_FOUND = "hold_not_found"
    EXCEEDS_HOLD = "exceeds_hold"
    REVIEW_NOT_OPEN = "review_not_open"
    REVIEW_ALREADY_DECIDED = "review_already_decided"
    CASE_NOT_OPEN = "case_not_open"
    NOT_AWAITING_PROVIDER = "not_awaiting_provider"
    NOTHING_TO_RETRY = "nothing_to_retry"
    DELIVERY_UNDER_WAY = "delivery_under_way"
    EVIDENCE_NOT_SEALED = "evidence_not_sealed"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    TIMESTAMP_OUT_OF_TOLERANCE = "timestamp_out_of_tolerance"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


RETRYABLE: Final = frozenset(
    {
        Code.BODY_TOO_SLOW,
        Code.DELIVERY_UNDER_WAY,
        Code.EVIDENCE_NOT_SEALED,
        Code.IDEMPOTENCY_IN_FLIGHT,
        Code.OVERLOADED,
        Code.STREAMS_TOO_MANY,
        Code.UNAVAILABLE,
    }
)
"""After these the very same request, with the same idempotency key, may succeed later."""
