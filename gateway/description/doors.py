"""What is said of every route beyond what the route itself says: one row each, by `METHOD /template`.

- A route without a row, and a row without a route, fail a test and the generator; so do an answer and a code of the
  HTTP suite that the row does not name.
- `codes` are those of the handler; what every route of its sort can answer (authentication, reading a body, a key, our
  own trouble) is added by `codes_of` from what the route is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from zentra.actors.commands import COMMAND_CODES
from zentra.gateway.description import fee_shapes, holdings, pages, people, reviewing, shapes, term_shapes
from zentra.gateway.description.account_doors import ACCOUNT_DOORS
from zentra.gateway.description.door import (
    WITHOUT_ROUTE,
    Door,
    Media,
    Query,
    codes_of,
    schema_of_change,
    schema_of_fields,
    schema_of_type,
)
from zentra.gateway.description.evidence_doors import EVIDENCE_DOORS
from zentra.gateway.description.hook_doors import HOOK_DOORS
from zentra.gateway.description.route_doors import ROUTE_DOORS
from zentra.gateway.description.rows import COMMAND_HEADERS as _COMMAND_HEADERS
from zentra.gateway.description.rows import REPLAYED as _REPLAYED
from zentra.gateway.description.rows import command_row as _command
from zentra.gateway.description.rows import intent_row as _create
from zentra.gateway.description.rows import list_row as _list
from zentra.gateway.description.rows import version_rows
from zentra.gateway.http.fields import NOTHING, SCHEMAS, Field, digest, identifier, text
from zentra.gateway.routes.approvals import APPROVAL, APPROVAL_FILTERS, CANCELLATION, LIMIT_SCHEMA
from zentra.gateway.routes.deliveries import DELIVERY_FILTERS, RECOVERY, RECOVERY_FILTERS
from zentra.gateway.routes.fees import quote_schema
from zentra.gateway.routes.holds import CAPTURE, HOLD_FILTERS, VOID
from zentra.gateway.routes.intents import CANCEL, HOLDS, INTENT_FILTERS, PAYMENTS, REVERSAL, TRANSFERS
from zentra.gateway.routes.journals import CONVERSIONS, JOURNALS, QUOTE, RATE
from zentra.gateway.routes.operations import CASE_FILTERS, DENIAL_FILTERS, RESOLUTION
from zentra.gateway.routes.parties import AMENDMENT, KYC, PARTY, PARTY_FILTERS, RESCREEN
from zentra.gateway.routes.policies import BACKTEST, DRAFT
from zentra.gateway.routes.reviews import ASSIGNMENT, CLAIM, COMMENT, DECISIONS_MAX, ESCALATION, REVIEW_FILTERS, VERDICT
from zentra.runtime.fees.schedule import FeeSchedule
from zentra.runtime.intents.command import intent_schema
from zentra.runtime.policy.backtest import BacktestReport
from zentra.runtime.rails.port import CallbackCode
from zentra.storage.reads.deliveries import RecoveryState, WebhookHealth

__all__ = ["DOORS", "WITHOUT_ROUTE", "Door", "Media", "Query", "codes_of", "schema_of_fields"]

_CALLBACK_CODES: Final = tuple(str(code) for code in CallbackCode)
_STREAM: Final = Media("text/event-stream", "server-sent events: the name of each is its topic, its data the record")
_CLOSING_CODES: Final = (
    "not_found", "self_approval", "approval_not_open", "approval_changed",
)  # fmt: skip

_QUOTED: Final[Mapping[str, str]] = {
    "amount": "what is sold, in minor units",
    "currency": "the currency that is sold",
    "buy_currency": "the currency that is bought",
    "intent_id": "of the intent that will name the quote; one is made where it is left out",
}


def _party(name: str, summary: str, takes: Mapping[str, Field], *codes: str) -> Door:
    return Door(
        name=name, tag="parties", summary=summary, answers={200: people.PartyDone}, takes=schema_of_fields(takes),
        key="once", headers=_REPLAYED, codes=("not_found", *codes),
    )  # fmt: skip


DOORS: Final[Mapping[str, Door]] = {
    "POST /runtime/intents": _create("create_intent", "Create an intent.", None),
    "POST /transfers": _create("create_transfer", "Create a transfer, between accounts or out to a rail.", TRANSFERS),
    "POST /payments": _create("create_payment", "Create a payment.", PAYMENTS),
    "POST /holds": _create("create_hold", "Speak for money until it is captured, voided or expired.", HOLDS),
    "GET /holds": _list("list_holds", "holds", "The tenant's holds, the last placed first.", pages.Holds, HOLD_FILTERS),
    "GET /holds/{id}": Door(
        name="show_hold", tag="holds", summary="A hold and everything that happened to it.",
        answers={200: holdings.Hold}, codes=("not_found",),
    ),
    "POST /holds/{id}/captures": _command(
        "capture_hold", "holds", "Take a part of what is held, or all of it.", CAPTURE, *COMMAND_CODES["capture_hold"]
    ),
    "POST /holds/{id}/void": _command(
        "void_hold", "holds", "Give back what is held still.", VOID, *COMMAND_CODES["void_hold"]
    ),
    "POST /journals": _create("create_journal", "Book many legs at once, or none of them.", JOURNALS),
    "POST /conversions": _create("create_conversion", "Sell one currency for another.", CONVERSIONS),
    "GET /conversions/quote": Door(
        name="quote_conversion", tag="conversions", summary="A price that holds for half a minute, for one intent.",
        answers={200: term_shapes.QuoteGiven},
        codes=("rate_unknown", "rate_stale", "conversion_too_small", "amount_overflow"),
        query=tuple(Query(name, SCHEMAS[check], _QUOTED[name], name != "intent_id") for name, check in QUOTE.items()),
    ),
    "POST /rates": Door(
        name="put_rate", tag="conversions", summary="Put the rate of a pair in force.",
        answers={201: term_shapes.RatePut},
        takes=schema_of_fields(RATE), key="once", headers=_REPLAYED,
        codes=("rate_outdated", "rate_jump", "rate_of_the_future", "currencies_must_be_different"),
    ),
    "GET /rates": Door(
        name="list_rates", tag="conversions", summary="The rates in force, by pair.", answers={200: term_shapes.Rates},
    ),
    "POST /runtime/intents/bulk": Door(
        name="create_intents", tag="intents", key="each", codes=("batch_too_large",),
        summary="Create up to a thousand intents, each with a key and an answer of its own.",
        answers={200: shapes.BulkAnswers},
        takes={"type": "array", "maxItems": 1000, "items": intent_schema(None)},
    ),
    "GET /runtime/intents": _list(
        "list_intents", "intents", "The tenant's intents, the newest first.", pages.Intents, INTENT_FILTERS
    ),
    "GET /runtime/events": Door(
        name="stream_events", tag="events", summary="What happens to the tenant's intents, from now on or an event on.",
        answers={200: _STREAM}, last_id=True, codes=("event_id_malformed", "events_gone", "streams_too_many"),
    ),
    "GET /runtime/intents/{id}/events": Door(
        name="stream_intent_events", tag="events", summary="What happened to an intent, and what will.",
        answers={200: _STREAM}, last_id=True, codes=("event_id_malformed", "streams_too_many", "not_found"),
    ),
    "GET /runtime/intents/{id}": Door(
        name="show_intent", tag="intents", summary="An intent with everything around it.", answers={200: shapes.Intent},
        waits=True, headers=("preference-applied",), codes=("not_found",),
    ),
    **EVIDENCE_DOORS,
    "POST /runtime/intents/{id}/cancel": _command(
        "cancel_intent", "intents", "Cancel before anything was sent to a rail.", CANCEL, *COMMAND_CODES["cancel"]
    ),
    "POST /runtime/intents/{id}/reversals": _command(
        "reverse_intent", "intents", "Give back all that is left, or a part.", REVERSAL, *COMMAND_CODES["reverse"]
    ),
    "GET /runtime/commands/{id}": Door(
        name="show_command", tag="intents", summary="What became of a command.",
        answers={200: shapes.CommandView}, codes=("not_found",),
    ),
    **ACCOUNT_DOORS,
    "GET /reviews": _list(
        "list_reviews", "reviews", "Reviews, the last opened first.", pages.Reviews, REVIEW_FILTERS
    ),
    "GET /reviews/{id}": Door(
        name="show_review", tag="reviews", summary="One review.", answers={200: reviewing.ReviewShown},
        codes=("not_found",),
    ),
    "GET /reviews/counts": Door(
        name="count_reviews", tag="reviews", summary="How many reviews are open, and how they stand.",
        answers={200: reviewing.ReviewCounts},
    ),
    "POST /reviews/{id}/approve": _command(
        "approve_review", "reviews", "Let the intent go on: `request_hash` says what was looked at.", VERDICT,
        "review_already_decided", "request_hash_missing", *COMMAND_CODES["decide_review"],
    ),
    "POST /reviews/{id}/reject": _command(
        "reject_review", "reviews", "End the intent.", VERDICT, "review_already_decided",
        *COMMAND_CODES["decide_review"],
    ),
    "POST /reviews/decisions": Door(
        name="decide_reviews", tag="reviews", key="once", waits=True, answers={200: reviewing.ReviewDecisions},
        summary="Decide up to a hundred reviews, each with an answer of its own.",
        takes={
            **schema_of_fields({}), "required": ["items"],
            "properties": {
                **schema_of_fields({})["properties"],
                "items": {
                    "type": "array", "minItems": 1, "maxItems": DECISIONS_MAX,
                    "items": {
                        "type": "object", "required": ["id", "verdict", "reason"], "additionalProperties": False,
                        "properties": {
                            "id": SCHEMAS[identifier], "verdict": {"type": "string", "enum": ["approved", "rejected"]},
                            "reason": SCHEMAS[text], "request_hash": SCHEMAS[digest],
                        },
                    },
                },
            },
        },
    ),
    "POST /reviews/claim": _command(
        "claim_review", "reviews", "Take the next review that is nobody's.", CLAIM, "nothing_to_claim",
        *COMMAND_CODES["assign_review"],
    ),
    "POST /reviews/{id}/assign": _command(
        "assign_review", "reviews", "Make the review somebody's; null makes it nobody's, `me` one's own.", ASSIGNMENT,
        *COMMAND_CODES["assign_review"],
    ),
    "POST /reviews/{id}/comments": _command(
        "comment_review", "reviews", "Say something about the review.", COMMENT, *COMMAND_CODES["comment_review"]
    ),
    "POST /reviews/{id}/escalate": _command(
        "escalate_review", "reviews", "Pass the review on, to somebody or to the higher role.", ESCALATION,
        *COMMAND_CODES["escalate_review"],
    ),
    "GET /approvals": _list(
        "list_approvals", "approvals", "Approvals, the last opened first.", pages.Approvals, APPROVAL_FILTERS
    ),
    "POST /approvals": Door(
        name="request_approval", tag="approvals", summary="Ask for another person's approval.", key="once",
        answers={201: reviewing.ApprovalAnswer}, headers=("location", *_REPLAYED),
        codes=("not_found", "account_is_system"),
        takes={
            **schema_of_fields(APPROVAL),
            "oneOf": [
                {"properties": {"kind": {"const": "account_limit"}, "request": LIMIT_SCHEMA}},
                {"properties": {"kind": {"const": "configuration"}}},
            ],
        },
    ),
    "GET /approvals/{id}": Door(
        name="show_approval", tag="approvals", summary="One approval.", answers={200: reviewing.ApprovalView},
        codes=("not_found",),
    ),
    "POST /approvals/{id}/approve": Door(
        name="approve_approval", tag="approvals", summary="Agree, and let it happen.", key="once", waits=True,
        answers={200: reviewing.ApprovalAnswer | shapes.CommandAnswer, 202: shapes.CommandAnswer},
        takes=schema_of_fields(VERDICT), headers=_COMMAND_HEADERS, problem_headers=_COMMAND_HEADERS[1:],
        codes=(
            *_CLOSING_CODES, "request_hash_missing", "account_closed", "account_is_system", "limit_below_use",
            *COMMAND_CODES["reverse"],
        ),
    ),
    "POST /approvals/{id}/reject": Door(
        name="reject_approval", tag="approvals", summary="Refuse it.", key="once",
        answers={200: reviewing.ApprovalAnswer}, takes=schema_of_fields(VERDICT), headers=_REPLAYED,
        codes=_CLOSING_CODES,
    ),
    "POST /approvals/{id}/cancel": Door(
        name="cancel_approval", tag="approvals", summary="Take back what one has asked for.", key="once",
        answers={200: reviewing.ApprovalAnswer}, takes=schema_of_fields(CANCELLATION), headers=_REPLAYED,
        codes=("not_found", "approval_not_open"),
    ),
    "GET /cases": _list("list_cases", "cases", "Cases, the last opened first.", pages.Cases, CASE_FILTERS),
    "GET /cases/{id}": Door(
        name="show_case", tag="cases", summary="One case.", answers={200: shapes.CaseView}, codes=("not_found",),
    ),
    "POST /cases/{id}/resolve": _command(
        "resolve_case", "cases", "End a case with a fact.", RESOLUTION, *COMMAND_CODES["resolve_case"]
    ),
    "POST /parties": Door(
        name="create_party", tag="parties", summary="Create a party: somebody behind accounts.",
        answers={201: people.PartyCreated}, takes=schema_of_fields(PARTY), key="once",
        headers=("location", *_REPLAYED), codes=("party_exists",),
    ),
    "GET /parties": _list(
        "list_parties", "parties", "The tenant's parties, the newest first.", people.Parties, PARTY_FILTERS
    ),
    "GET /parties/{id}": Door(
        name="show_party", tag="parties", summary="A party; its names for those who may see names.",
        answers={200: people.Party}, codes=("not_found",),
    ),
    "GET /parties/{id}/history": Door(
        name="show_party_history", tag="parties", summary="Every change of a party, by whom and why.",
        answers={200: people.PartyHistory}, codes=("not_found",),
    ),
    "POST /parties/{id}/amend": msgspec.structs.replace(
        _party("amend_party", "Change what is said of a party.", AMENDMENT),
        takes=schema_of_change(AMENDMENT, "reason"),
    ),
    "POST /parties/{id}/kyc": _party(
        "decide_kyc", "Move the KYC state of a party.", KYC, "self_approval", "kyc_move_refused",
        "expires_at_in_past",
    ),
    "POST /parties/{id}/rescreen": _party(
        "rescreen_party", "Have a party screened anew, a true match included.", RESCREEN, "self_approval"
    ),
    "GET /screening/lists": Door(
        name="list_screening_lists", tag="parties", summary="The lists that names are held against.",
        answers={200: people.Lists},
    ),
    "GET /denials": _list(
        "list_denials", "denials", "What the tenant's people were refused, the latest first.", pages.Denials,
        DENIAL_FILTERS,
    ),
    **version_rows(
        "policy", "policy", DRAFT, shapes.PolicyVersion, shapes.PolicyShown, pages.Policies, path="/policies",
        then="tested and promoted",
    ),
    "POST /policies/{version}/backtest": Door(
        name="backtest_policy", tag="policies", summary="What a version would have said of past intents.",
        answers={200: BacktestReport}, takes=schema_of_fields(BACKTEST), codes=("not_found", "overloaded"),
    ),
    "GET /runtime/intents/{id}/decisions": Door(
        name="explain_intent", tag="policies", summary="Why each decision on an intent was what it was, made again.",
        answers={200: pages.Decisions}, codes=("not_found",),
    ),
    **HOOK_DOORS,
    **ROUTE_DOORS,
    "GET /webhooks/deliveries": _list(
        "list_deliveries", "webhooks", "Deliveries, the newest first.", pages.Deliveries, DELIVERY_FILTERS,
        "not_found",
    ),
    "POST /webhooks/deliveries/{id}/replay": _command(
        "replay_delivery", "webhooks", "Send a delivery again: the same id, the same bytes.", NOTHING,
        *COMMAND_CODES["replay_delivery"],
    ),
    "GET /webhooks/deliveries/{id}": Door(
        name="show_delivery", tag="webhooks", summary="A delivery, how it stands, and its attempts in short.",
        answers={200: shapes.Delivery}, codes=("not_found",),
    ),
    "GET /webhooks/deliveries/{id}/attempts": _list(
        "list_delivery_attempts", "webhooks", "The attempts of a delivery in full, the last one first.",
        pages.DeliveryAttempts, {}, "not_found",
    ),
    "POST /webhooks/endpoints/{id}/recover": _command(
        "recover_deliveries", "webhooks", "Send an endpoint what it has not had since a time, or count it.", RECOVERY,
        *COMMAND_CODES["recover_deliveries"],
    ),
    "GET /webhooks/recoveries": _list(
        "list_recoveries", "webhooks", "Recoveries, the newest first.", pages.Recoveries, RECOVERY_FILTERS
    ),
    "GET /webhooks/recoveries/{id}": Door(
        name="show_recovery", tag="webhooks", summary="A recovery, and how far it is.", answers={200: RecoveryState},
        codes=("not_found",),
    ),
    "GET /webhooks/health": Door(
        name="webhook_health", tag="webhooks", summary="Delivered by the schedule / due, over 24 hours.",
        answers={200: WebhookHealth},
    ),
    "GET /runtime/intents/{id}/webhooks/{sequence}": Door(
        name="show_webhook_body", tag="webhooks", summary="One event of an intent as endpoints get it, byte for byte.",
        answers={200: shapes.WebhookBody}, codes=("not_found",),
    ),
    "POST /quotes": Door(
        name="quote", tag="fees", summary="What an intent would be charged now; nothing is changed.",
        answers={200: fee_shapes.QuoteShown}, takes=quote_schema(), codes=("not_found", "currency_mismatch"),
    ),
    "GET /fee-schedules": _list(
        "list_fee_schedules", "fees", "The versions of the tenant's fees, the newest first.", pages.FeeSchedules, {}
    ),
    "GET /fee-schedules/{version}": Door(
        name="show_fee_schedule", tag="fees", summary="One version of the tenant's fees.",
        answers={200: fee_shapes.ScheduleView}, codes=("not_found",),
    ),
    "POST /fee-schedules": Door(
        name="put_fee_schedule", tag="fees", summary="Put a schedule in force, as a new version.",
        answers={201: fee_shapes.FeeSchedulePut}, takes=schema_of_type(FeeSchedule, "version"), key="once",
        headers=_REPLAYED,
    ),
    "POST /providers/{rail}/callbacks": Door(
        name="take_callback", tag="rails", summary="Take a signed callback of a rail, in the rail's own format.",
        answers={200: shapes.CallbackTaken}, codes=("not_found", *_CALLBACK_CODES),
    ),
    "GET /livez": Door(
        name="live", tag="health", summary="The process answers.", answers={200: shapes.Live},
    ),
    "GET /readyz": Door(
        name="ready", tag="health", summary="Whether requests should be sent here.",
        answers={200: shapes.Readiness, 503: shapes.Readiness},
    ),
    "GET /metrics": Door(
        name="metrics", tag="health", summary="Everything that is counted.",
        answers={200: Media("text/plain", "the Prometheus text format")},
    ),
    "GET /version": Door(
        name="version", tag="health", summary="Which version runs, and which schema it speaks.",
        answers={200: shapes.VersionShown},
    ),
    "GET /problems/{code}": Door(
        name="show_problem", tag="description", summary="What an error code means: where `type` of a problem leads.",
        answers={200: shapes.ErrorPage}, codes=("route_not_found",),
    ),
    "GET /openapi.json": Door(
        name="openapi", tag="description", summary="This description.",
        answers={200: Media("application/json", "OpenAPI 3.1"), 304: Media("", "as the etag says")}, headers=("etag",),
    ),
    "GET /asyncapi.json": Door(
        name="asyncapi", tag="description", summary="The description of the doors over NATS.",
        answers={200: Media("application/json", "AsyncAPI 3.0"), 304: Media("", "as the etag says")}, headers=("etag",),
    ),
}  # fmt: skip
