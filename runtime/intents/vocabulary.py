"""The words of the domain: states, facts, effects, topics and account types.

Every enumeration is closed and its values are stable: they stand in stored records, so they are never renamed."""

from enum import StrEnum
from typing import Final

__all__ = [
    "BOOKED",
    "COMPOSED",
    "PARTS",
    "SETTLED",
    "SYSTEM_ACCOUNT_TYPES",
    "AccountType",
    "Effect",
    "Fact",
    "IntentKind",
    "Lifecycle",
    "State",
    "Topic",
]


class Lifecycle(StrEnum):
    """Money truth, as people see it."""

    ACCEPTED = "ACCEPTED"
    PROCESSING = "PROCESSING"
    REVIEW = "REVIEW"
    AWAITING_PROVIDER = "AWAITING_PROVIDER"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    RECONCILED = "RECONCILED"
    REVERSED = "REVERSED"


class State(StrEnum):
    """A state of the transaction machine: the lifecycle and, behind a slash, the step inside it."""

    ACCEPTED = "ACCEPTED"
    JUDGING = "PROCESSING/judging"
    RESERVING = "PROCESSING/reserving"
    ROUTING = "PROCESSING/routing"
    HELD = "PROCESSING/held"
    REVIEW = "REVIEW"
    SUBMITTED = "AWAITING_PROVIDER/submitted"
    CONFIRMED = "AWAITING_PROVIDER/confirmed"
    REFUSED = "AWAITING_PROVIDER/refused"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    RECONCILED = "RECONCILED"
    REVERSED = "REVERSED"

    @property
    def lifecycle(self) -> Lifecycle:
        """Return the part before the slash."""
        return PARTS[self][0]

    @property
    def step(self) -> str | None:
        """Return the part behind the slash, or None."""
        return PARTS[self][1]


PARTS: Final = {state: (Lifecycle(state.partition("/")[0]), state.partition("/")[2] or None) for state in State}
SETTLED: Final = frozenset({State.SUCCESSFUL, State.FAILED, State.RECONCILED, State.REVERSED})


class Fact(StrEnum):
    """What can happen to a transaction."""

    JUDGING_BEGUN = "judging_begun"
    POLICY_ACCEPTED = "policy_accepted"
    POLICY_REFERRED = "policy_referred"
    POLICY_DENIED = "policy_denied"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ENDORSED = "endorsed"
    REVIEW_ASSIGNED = "review_assigned"
    REVIEW_COMMENTED = "review_commented"
    REVIEW_ESCALATED = "review_escalated"
    CANCELLED = "cancelled"
    RESERVED = "reserved"
    BOOKED = "booked"
    LEDGER_REFUSED = "ledger_refused"
    ROUTED = "routed"
    UNROUTABLE = "unroutable"
    FAILED_OVER = "failed_over"
    RAIL_CONFIRMED = "rail_confirmed"
    RAIL_DECLINED = "rail_declined"
    RAIL_REPEATED = "rail_repeated"
    RAIL_CONTRADICTED = "rail_contradicted"
    POSTED = "posted"
    RELEASED = "released"
    REVERSED_IN_PART = "reversed_in_part"
    REVERSED_IN_FULL = "reversed_in_full"
    STATEMENT_MATCHED = "statement_matched"
    CASE_OPENED = "case_opened"
    CASE_RESOLVED = "case_resolved"
    MONITOR_TRIPPED = "monitor_tripped"
    DELIVERED = "delivered"
    DELIVERY_RETRYING = "delivery_retrying"
    DELIVERY_EXHAUSTED = "delivery_exhausted"
    SYNCHRONIZED = "synchronized"
    SEALED = "sealed"
    AMENDED = "amended"
    HELD = "held"
    CAPTURED = "captured"
    CAPTURED_LAST = "captured_last"
    VOIDED = "voided"
    VOIDED_REST = "voided_rest"
    LAPSED = "lapsed"
    LAPSED_REST = "lapsed_rest"
    ROUTE_AWAITED = "route_awaited"
    RAIL_CLAIMED = "rail_claimed"
    RAIL_NOTED = "rail_noted"
    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_ENABLED = "endpoint_enabled"


class Effect(StrEnum):
    """What a move asks for. The engine performs it; the machine never does."""

    JUDGE = "judge"
    LEDGER = "ledger"
    ROUTE = "route"
    SUBMIT = "submit"
    OPEN_REVIEW = "open_review"
    CLOSE_REVIEW = "close_review"
    OPEN_CASE = "open_case"
    GIVE_BACK = "give_back"
    SETTLE = "settle"
    AUTO_REVERSE = "auto_reverse"


class Topic(StrEnum):
    """The name of an event as tenants see it."""

    INGRESS_ACCEPTED = "ingress.accepted"
    POLICY_STARTED = "policy.started"
    POLICY_ACCEPTED = "policy.accepted"
    POLICY_REVIEW = "policy.review"
    POLICY_DENIED = "policy.denied"
    REVIEW_APPROVED = "review.approved"
    REVIEW_REJECTED = "review.rejected"
    REVIEW_EXPIRED = "review.expired"
    REVIEW_ENDORSED = "review.endorsed"
    REVIEW_ASSIGNED = "review.assigned"
    REVIEW_COMMENTED = "review.commented"
    REVIEW_ESCALATED = "review.escalated"
    INTENT_CANCELLED = "intent.cancelled"
    LEDGER_RESERVED = "ledger.reserved"
    LEDGER_POSTED = "ledger.posted"
    LEDGER_RELEASED = "ledger.released"
    LEDGER_REFUSED = "ledger.refused"
    LEDGER_REVERSAL = "ledger.reversal"
    PROVIDER_ROUTED = "provider.routed"
    PROVIDER_FAILOVER = "provider.failover"
    PROVIDER_CALLBACK = "provider.callback"
    PROVIDER_AWAITED = "provider.awaited"
    RECONCILIATION_MATCHED = "reconciliation.matched"
    CASE_OPENED = "case.opened"
    CASE_RESOLVED = "case.resolved"
    BALANCE_CROSSED = "balance.crossed"
    WEBHOOK_DELIVERED = "webhook.delivered"
    WEBHOOK_RETRYING = "webhook.retrying"
    WEBHOOK_EXHAUSTED = "webhook.exhausted"
    SYNCHRONIZED = "money_runtime.synchronized"
    REVIEW_CLOSED = "review.closed"
    EVIDENCE_AMENDED = "evidence.amended"
    HOLD_CAPTURED = "hold.captured"
    HOLD_VOIDED = "hold.voided"
    HOLD_EXPIRED = "hold.expired"
    ENDPOINT_DISABLED = "webhook.endpoint_disabled"
    ENDPOINT_ENABLED = "webhook.endpoint_enabled"


class AccountType(StrEnum):
    """What an account is for; fixed when it is opened."""

    OPERATING = "operating"
    CUSTOMER = "customer"
    RESERVED = "reserved"
    SETTLEMENT = "settlement"
    MERCHANT = "merchant"
    PAYOUT = "payout"
    FEE = "fee"
    SUSPENSE = "suspense"
    LIQUIDITY = "liquidity"


# They have no floor, so their counters can live in stripes that no decision has to read.
SYSTEM_ACCOUNT_TYPES: Final = frozenset(
    {AccountType.SETTLEMENT, AccountType.FEE, AccountType.SUSPENSE, AccountType.LIQUIDITY}
)


class IntentKind(StrEnum):
    """What a client can ask for. What is only booked needs no rail: a book transfer moves money between two of the
    tenant's accounts, a journal between many, and a conversion sells one currency for another. A hold speaks for money
    until it is captured, voided or expired."""

    TRANSFER = "transfer"
    PAYMENT = "payment"
    BOOK_TRANSFER = "book_transfer"
    HOLD = "hold"
    JOURNAL = "journal"
    CONVERSION = "conversion"


COMPOSED: Final = frozenset({IntentKind.JOURNAL, IntentKind.CONVERSION})
"""Kinds of several postings, which are booked together and given back together."""
BOOKED: Final = COMPOSED | {IntentKind.BOOK_TRANSFER}
"""Kinds that no rail carries."""
