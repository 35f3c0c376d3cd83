"""Every error code of the product, in one table: what it means over HTTP and what a caller should do about it.

A code is never renamed and never reused for another meaning. `CODES` holds what a whole request can be answered with;
`FIELD_CODES` names what can be wrong with one field of it. A code is in one of the two, once; `retryable` says whether
the very same request may succeed later."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

__all__ = ["CODES", "FIELD_CODES", "ErrorCode"]


class ErrorCode(Struct, frozen=True):
    """One row of the table."""

    code: str
    status: int
    retryable: bool
    title: str
    advice: str


_NO, _YES = False, True

# A table is read down its columns.
# ruff: noqa: E501
# fmt: off
_ROWS: Final = (
    # What is asked cannot be read.
    ("body_malformed",              400, _NO,  "the body is not JSON",                                 "send one JSON document in UTF-8"),
    ("body_key_repeated",           400, _NO,  "an object in the body names a key twice",              "name every key once"),
    ("body_too_deep",               400, _NO,  "the body is nested too deeply",                        "flatten the body"),
    ("body_too_large",              413, _NO,  "the body is too large",                                "send at most 256 KiB"),
    ("body_too_slow",               408, _YES, "the body did not arrive in time",                      "send it at once, with the same key"),
    ("content_type_unsupported",    415, _NO,  "the body has to be JSON",                              "send content-type: application/json"),
    ("query_malformed",             400, _NO,  "a query parameter is malformed",                       "see errors for the parameter"),
    ("cursor_malformed",            400, _NO,  "the cursor is not one of ours",                        "pass next_cursor as it was given"),
    ("event_id_malformed",          400, _NO,  "the last event id is not one of this stream",           "send it as it was given, or leave it out"),
    ("events_gone",                 410, _NO,  "the events behind this id are not kept any more",       "read the lists, then begin without an id"),
    ("streams_too_many",            429, _YES, "too many event streams are open",                       "close one, or come back after retry-after"),
    ("validation_failed",           422, _NO,  "the request breaks rules",                             "see errors for every violation"),
    ("route_not_found",             404, _NO,  "there is no such route",                               "check the path"),
    ("method_not_allowed",          405, _NO,  "the route does not take this method",                  "see the allow header"),
    ("version_unknown",             400, _NO,  "there is no such version of the API",                 "name one of those in known, or none"),
    ("verb_unknown",                404, _NO,  "the door has no such verb",                            "use zentra.intents.create"),
    ("batch_too_large",             413, _NO,  "the request holds too many intents",                   "send at most 1,000 in one request"),
    # Who is asking.
    ("authentication_required",     401, _NO,  "there is no API key",                                  "send authorization: Bearer zk_test_..."),
    ("key_invalid",                 401, _NO,  "the API key is not valid",                             "check that the key was copied whole"),
    ("key_revoked",                 401, _NO,  "the API key was revoked",                              "use another key"),
    ("key_expired",                 401, _NO,  "the API key has expired",                              "use another key"),
    ("principal_disabled",          401, _NO,  "whoever is asking was disabled",                       "ask an operator of the installation"),
    ("network_refused",             403, _NO,  "the API key does not work from this address",          "ask from a network that the key allows"),
    ("token_too_large",             401, _NO,  "the token is too large",                               "send at most 8 KiB"),
    ("token_malformed",             401, _NO,  "the token cannot be read",                             "send a signed JWT with alg, kid and nothing critical"),
    ("token_issuer_unknown",        401, _NO,  "nobody here knows the issuer",                         "check iss: one text, exactly as configured"),
    ("token_algorithm_refused",     401, _NO,  "the issuer does not sign like this",                   "sign with an algorithm of the issuer's row, by a key made for it"),
    ("token_key_unknown",           401, _NO,  "the issuer has no such key",                           "check kid; a new key is known half a minute after its first use"),
    ("token_signature_invalid",     401, _NO,  "the signature does not fit",                           "sign with the key that kid names"),
    ("token_claims_malformed",      401, _NO,  "a claim is missing or malformed",                      "send sub, tenant, role, jti, exp and iat; see docs/access.md"),
    ("token_audience_wrong",        401, _NO,  "the token is for somebody else",                       "check aud"),
    ("token_expired",               401, _NO,  "the token has expired",                                "get a new one"),
    ("token_not_yet_valid",         401, _NO,  "the token is not in force yet",                        "check nbf, iat and the clocks"),
    ("token_tenant_refused",        401, _NO,  "the issuer does not speak for such a tenant",          "check the tenant claim"),
    ("token_role_refused",          401, _NO,  "the token's role is not one of its principal",         "check the role claim, and the principal's role here"),
    ("certificate_required",        401, _NO,  "there is no client certificate",                       "connect with a certificate that this installation's authority signed"),
    ("certificate_unknown",         401, _NO,  "the certificate's identity is nobody here",            "ask an operator of the installation to add it"),
    ("certificate_revoked",         401, _NO,  "the certificate's identity was revoked",               "use another one"),
    ("certificate_expired",         401, _NO,  "the certificate has expired since it connected",       "connect with a new one"),
    ("credentials_disagree",        401, _NO,  "certificate and key are of two tenants",               "send what belongs together"),
    ("permission_denied",           403, _NO,  "the role does not allow this",                         "ask somebody whose role does"),
    ("self_approval",               403, _NO,  "nobody decides on their own intent",                   "ask another operator"),
    ("self_promotion",              403, _NO,  "nobody puts their own policy in force",                "ask another operator"),
    ("not_found",                   404, _NO,  "there is nothing with this id",                        "check the id"),
    # Idempotency.
    ("idempotency_key_missing",     400, _NO,  "there is no idempotency key",                          "send x-idempotency-key, one per logical call"),
    ("idempotency_key_malformed",   400, _NO,  "the idempotency key is malformed",                     "send 1 to 255 visible ASCII characters"),
    ("idempotency_key_ambiguous",   400, _NO,  "the request has two idempotency keys",                 "send one key"),
    ("idempotency_in_flight",       409, _YES, "the first request with this key is under way",         "ask again after retry-after, with the same key"),
    ("idempotency_key_reused",      422, _NO,  "the key was used with another request",                "use a new key for a new request"),
    ("intent_id_conflict",          409, _NO,  "another intent has this intent_id",                    "use a new intent_id"),
    ("account_exists",              409, _NO,  "an account has this account_id",                       "use a new account_id"),
    ("party_exists",                409, _NO,  "a party has this party_id",                            "use a new party_id"),
    ("endpoint_exists",             409, _NO,  "an endpoint has this id",                              "use a new id"),
    # Commands on what exists.
    ("not_cancellable",             409, _NO,  "the intent went to a rail or has settled",             "ask for a reversal once it is SUCCESSFUL"),
    ("transaction_not_found",       409, _NO,  "nothing was posted that could be reversed",            "wait until it is SUCCESSFUL"),
    ("already_reversed",            409, _NO,  "everything was reversed already",                      "look at the intent"),
    ("exceeds_original",            422, _NO,  "more than is left would be reversed",                  "ask for less, or for full"),
    ("insufficient_funds",          422, _NO,  "the account has not enough",                           "fund the account and ask again with a new key"),
    ("amount_zero",                 422, _NO,  "an amount is at least one minor unit",                 "send a positive amount"),
    ("amount_negative",             422, _NO,  "an amount is at least one minor unit",                 "send a positive amount"),
    ("amount_overflow",             422, _NO,  "the amount does not fit",                              "stay below 2^63"),
    ("accounts_must_be_different",  422, _NO,  "money moves between two accounts",                     "name two accounts"),
    ("account_not_found",           422, _NO,  "an account does not exist",                            "open the account first"),
    ("account_closed",              422, _NO,  "an account is closed",                                 "use another account"),
    ("account_frozen",              422, _NO,  "an account is frozen",                                 "ask an operator"),
    ("currency_mismatch",           422, _NO,  "the accounts have another currency",                   "use accounts of one currency"),
    ("fee_changed",                 422, _NO,  "the fee is another one than was agreed to",            "ask for a new quote, and again with a new key"),
    ("hold_not_found",              409, _NO,  "there is no hold",                                     "look at the intent"),
    ("hold_already_posted",         409, _NO,  "the hold was captured to its end",                     "look at the hold"),
    ("hold_already_voided",         409, _NO,  "the hold was voided",                                  "place another hold"),
    ("hold_expired",                409, _NO,  "the time of the hold is over",                         "place another hold"),
    ("destination_missing",         422, _NO,  "neither the capture nor the hold names a destination", "name one"),
    ("exceeds_hold",                422, _NO,  "more than is held would be posted",                    "ask for less"),
    ("reversal_of_reversal",        409, _NO,  "what puts another intent right is not reversed",       "correct it with another journal"),
    ("reversal_indivisible",        422, _NO,  "several postings go back together",                    "ask for full"),
    ("force_not_approved",          403, _NO,  "somebody else has to approve that a limit is passed",  "let another person approve it"),
    ("balance_condition_failed",    422, _NO,  "a condition on a balance would not hold",              "see the detail, and ask again with a new key"),
    ("balance_condition_unreadable", 422, _NO, "an account without a limit has no balance to ask for", "set conditions on other accounts"),
    ("effective_at_in_future",      422, _NO,  "the effective date is in the future",                  "send now, or a time before"),
    ("period_closed",               422, _NO,  "the books of that time are closed",                    "use a later effective date"),
    ("corrected_not_found",         422, _NO,  "there is no such intent to correct",                   "check corrects: the intent_id of another intent"),
    ("rate_unknown",                422, _NO,  "nobody has set a rate for this pair",                  "ask an operator"),
    ("rate_stale",                  422, _NO,  "the rate of this pair is too old",                     "ask again with a new key once there is another"),
    ("rate_outdated",               409, _NO,  "a later rate is in force",                             "put the latest rate"),
    ("rate_of_the_future",          422, _NO,  "a rate is of now or of before",                        "check as_of and the clocks"),
    ("quote_invalid",               422, _NO,  "the quote is not one for this intent",                 "use intent_id, pair and amount of the quote"),
    ("quote_expired",               422, _NO,  "the quote has expired",                                "ask for another one"),
    ("conversion_too_small",        422, _NO,  "nothing would be bought",                              "convert more"),
    ("currencies_must_be_different", 422, _NO, "a conversion is between two currencies",               "name two currencies"),
    ("review_not_open",             409, _NO,  "the review is not open",                               "look at the review"),
    ("review_already_decided",      409, _NO,  "somebody else decided first",                          "look at the review"),
    ("review_changed",              409, _NO,  "the review is not the one that was looked at",         "look at it again and send its request_hash"),
    ("request_hash_missing",        428, _NO,  "it does not say what was looked at",                   "send request_hash as the review or approval shows it"),
    ("approval_repeated",           409, _NO,  "you have approved this already",                       "another person has to approve it too"),
    ("review_taken",                409, _YES, "somebody else has the review by now",                  "claim the next one, with a new key"),
    ("nothing_to_claim",            409, _YES, "no review waits that is nobody's",                     "come back later"),
    ("assignee_not_permitted",      422, _NO,  "they cannot decide on this review",                    "name somebody who may decide and did not create it"),
    ("review_notes_full",           409, _NO,  "the review holds as many notes as it may",             "decide it"),
    ("approval_not_open",           409, _NO,  "the approval is not open",                             "look at the approval"),
    ("approval_changed",            409, _NO,  "the approval is not the one that was looked at",       "look at it again and send its request_hash"),
    ("case_not_open",               409, _NO,  "the case is not open",                                 "look at the case"),
    ("not_awaiting_provider",       409, _NO,  "no rail owes an answer for this intent",               "resolve the case in another way"),
    ("nothing_to_retry",            409, _NO,  "nothing waits to be tried again",                      "resolve the case in another way"),
    ("delivery_under_way",          409, _YES, "the delivery is being sent right now",                 "ask again when the attempt has ended"),
    ("policy_state_conflict",       409, _NO,  "the version is not in a state for this",               "look at the version"),
    ("party_not_found",             404, _NO,  "the account's party does not exist",                   "create the party first"),
    ("kyc_move_refused",            409, _NO,  "the party does not go from its state to this one",     "look at the party"),
    ("evidence_not_sealed",         409, _YES, "the packet is not sealed yet",                         "ask again after retry-after"),
    # Provider callbacks; the reasons of zentra.runtime.rails.port.
    ("signature_missing",           401, _NO,  "the callback is not signed",                           "sign the raw body"),
    ("signature_invalid",           401, _NO,  "the signature does not fit the body",                  "check the secret and sign the raw body"),
    ("timestamp_out_of_tolerance",  401, _NO,  "the timestamp is not near the time",                   "sign every attempt anew"),
    # We cannot answer now.
    ("rate_limited",                429, _YES, "more was asked for than the limit allows",             "ask again after retry-after, with the same key"),
    ("overloaded",                  503, _YES, "too many requests are waiting",                        "ask again after retry-after, with the same key"),
    ("unavailable",                 503, _YES, "a store does not answer",                              "ask again, with the same key"),
    ("internal",                    500, _NO,  "something went wrong here",                            "report the request id"),
)
# fmt: on

CODES: Final[Mapping[str, ErrorCode]] = {row[0]: ErrorCode(*row) for row in _ROWS}
assert len(CODES) == len(_ROWS), "a code stands in the table once"

FIELD_CODES: Final = frozenset(
    {
        "account_type_unknown",
        "amount_invalid",
        "condition_field_unknown",
        "condition_list_unknown",
        "condition_malformed",
        "condition_operator_unknown",
        "condition_too_large",
        "condition_value_type",
        "name_malformed",
        "outcome_unknown",
        "policy_too_large",
        "risk_malformed",
        "rule_malformed",
        "rule_name_taken",
        "rule_not_waivable",
        "time_zone_unknown",
        "window_malformed",
        "body_not_object",
        "compliance_malformed",
        "conditions_malformed",
        "country_malformed",
        "hash_malformed",
        "digest_malformed",
        "fee_amount_malformed",
        "fee_band_empty",
        "fee_base_unknown",
        "fee_charged_unknown",
        "fee_currency_missing",
        "fee_match_unknown",
        "fee_name_malformed",
        "fee_name_repeated",
        "fee_rate_malformed",
        "fee_rules_too_many",
        "fee_terms_empty",
        "fee_tiers_malformed",
        "currency_unknown",
        "currency_unused",
        "duration_out_of_range",
        "event_filter_malformed",
        "event_unknown",
        "field_missing",
        "field_type",
        "field_unknown",
        "id_malformed",
        "kind_unknown",
        "legs_malformed",
        "limit_malformed",
        "metadata_malformed",
        "metadata_too_large",
        "money_model_unknown",
        "parameter_unknown",
        "order_unknown",
        "primitive_unknown",
        "quote_malformed",
        "rate_malformed",
        "resolution_unknown",
        "scope_malformed",
        "side_unknown",
        "status_unknown",
        "terms_misplaced",
        "text_malformed",
        "time_malformed",
        "url_malformed",
        "verdict_unknown",
        "wait_malformed",
    }
)
"""What can be wrong with one field; a field may also have a code of the table, like `amount_zero`."""
