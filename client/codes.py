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
    PRINCIPAL_DISABLED = "principal_disabled"
    NETWORK_REFUSED = "network_refused"
    TOKEN_TOO_LARGE = "token_too_large"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_ISSUER_UNKNOWN = "token_issuer_unknown"
    TOKEN_ALGORITHM_REFUSED = "token_algorithm_refused"
    TOKEN_KEY_UNKNOWN = "token_key_unknown"
    TOKEN_SIGNATURE_INVALID = "token_signature_invalid"
    TOKEN_CLAIMS_MALFORMED = "token_claims_malformed"
    TOKEN_AUDIENCE_WRONG = "token_audience_wrong"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    TOKEN_TENANT_REFUSED = "token_tenant_refused"
    TOKEN_ROLE_REFUSED = "token_role_refused"
    CERTIFICATE_REQUIRED = "certificate_required"
    CERTIFICATE_UNKNOWN = "certificate_unknown"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CREDENTIALS_DISAGREE = "credentials_disagree"
    PERMISSION_DENIED = "permission_denied"
    SELF_APPROVAL = "self_approval"
    SELF_PROMOTION = "self_promotion"
    NOT_FOUND = "not_found"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_KEY_MALFORMED = "idempotency_key_malformed"
    IDEMPOTENCY_KEY_AMBIGUOUS = "idempotency_key_ambiguous"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    INTENT_ID_CONFLICT = "intent_id_conflict"
    ACCOUNT_EXISTS = "account_exists"
    PARTY_EXISTS = "party_exists"
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
    FEE_CHANGED = "fee_changed"
    HOLD_NOT_FOUND = "hold_not_found"
    HOLD_ALREADY_POSTED = "hold_already_posted"
    HOLD_ALREADY_VOIDED = "hold_already_voided"
    HOLD_EXPIRED = "hold_expired"
    DESTINATION_MISSING = "destination_missing"
    EXCEEDS_HOLD = "exceeds_hold"
    REVIEW_NOT_OPEN = "review_not_open"
    REVIEW_ALREADY_DECIDED = "review_already_decided"
    REVIEW_CHANGED = "review_changed"
    REQUEST_HASH_MISSING = "request_hash_missing"
    APPROVAL_REPEATED = "approval_repeated"
    REVIEW_TAKEN = "review_taken"
    NOTHING_TO_CLAIM = "nothing_to_claim"
    ASSIGNEE_NOT_PERMITTED = "assignee_not_permitted"
    REVIEW_NOTES_FULL = "review_notes_full"
    APPROVAL_NOT_OPEN = "approval_not_open"
    APPROVAL_CHANGED = "approval_changed"
    CASE_NOT_OPEN = "case_not_open"
    NOT_AWAITING_PROVIDER = "not_awaiting_provider"
    NOTHING_TO_RETRY = "nothing_to_retry"
    DELIVERY_UNDER_WAY = "delivery_under_way"
    POLICY_STATE_CONFLICT = "policy_state_conflict"
    PARTY_NOT_FOUND = "party_not_found"
    KYC_MOVE_REFUSED = "kyc_move_refused"
    EVIDENCE_NOT_SEALED = "evidence_not_sealed"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    TIMESTAMP_OUT_OF_TOLERANCE = "timestamp_out_of_tolerance"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


RETRYABLE: Final = frozenset(
    {
        Code.BODY_TOO_SLOW,
        Code.DELIVERY_UNDER_WAY,
        Code.EVIDENCE_NOT_SEALED,
        Code.IDEMPOTENCY_IN_FLIGHT,
        Code.NOTHING_TO_CLAIM,
        Code.OVERLOADED,
        Code.RATE_LIMITED,
        Code.REVIEW_TAKEN,
        Code.STREAMS_TOO_MANY,
        Code.UNAVAILABLE,
    }
)
"""After these the very same request, with the same idempotency key, may succeed later."""
