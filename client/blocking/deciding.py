"""Reviews and approvals: what needs a person, or a second one. Every method may raise APIError and ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from zentra.client import deciding as calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.calls import Time
from zentra.client.deciding import DecisionResult, NewDecision
from zentra.client.models import Approval, Command, Review, ReviewCounts

__all__ = ["Approvals", "Reviews"]


class Reviews:
    """Reviews that a rule asked for; nobody decides on their own intent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: str | None = None,
        intent_id: str | None = None,
        assigned_to: str | None = None,
        overdue: bool | None = None,
        rule: str | None = None,
        kind: str | None = None,
        currency: str | None = None,
        amount_min: int | None = None,
        amount_max: int | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[Review]:
        """Return the reviews that fit, the last opened first; `assigned_to="me"` are one's own."""
        filters = {
            "status": status, "intent_id": intent_id, "assigned_to": assigned_to, "overdue": overdue, "rule": rule,
            "kind": kind, "currency": currency, "amount_min": amount_min, "amount_max": amount_max,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, calls.list_reviews(page_size, filters))

    def counts(self) -> ReviewCounts:
        """Return how many reviews are open, and how they stand."""
        return self._transport.send(calls.count_reviews())

    def get(self, id: str) -> Review:
        """Return a review with its history; its id is the uuid of its intent."""
        return self._transport.send(calls.get_review(id))

    def approve(
        self,
        id: str,
        *,
        reason: str,
        request_hash: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Command:
        """Let the intent go on; `request_hash` is that of the review as it was looked at, and the server wants it.

        Raises ConflictError `review_already_decided` for the second who decides, `review_changed` where the review is
        not the one that was looked at."""
        call = calls.decide_review(id, "approve", reason, request_hash, idempotency_key, wait)
        return self._transport.send(call)

    def reject(
        self,
        id: str,
        *,
        reason: str,
        request_hash: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Command:
        """End the intent. Raises ConflictError `review_already_decided` for the second who decides."""
        call = calls.decide_review(id, "reject", reason, request_hash, idempotency_key, wait)
        return self._transport.send(call)

    def decide_many(
        self, decisions: Sequence[NewDecision], *, idempotency_key: str | None = None, wait: int | None = None
    ) -> tuple[DecisionResult, ...]:
        """Make up to 100 decisions in one request; return what became of each, in order.

        One that is refused harms no other, and has its error in its result. Asking again with the same key is safe."""
        return self._transport.send(calls.decide_reviews(decisions, idempotency_key, wait))

    def claim(
        self,
        order: Literal["due", "age", "amount"] | None = None,
        *,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Command:
        """Take the next review that is nobody's: the first due, the oldest, or the largest.

        Raises ConflictError `nothing_to_claim`, and `review_taken` where somebody else was quicker."""
        return self._transport.send(calls.claim_review(order, idempotency_key, wait))

    def assign(
        self, id: str, assignee: str | None, *, idempotency_key: str | None = None, wait: int | None = None
    ) -> Command:
        """Make a review somebody's; None makes it nobody's, `"me"` one's own."""
        return self._transport.send(calls.assign_review(id, assignee, idempotency_key, wait))

    def comment(self, id: str, text: str, *, idempotency_key: str | None = None, wait: int | None = None) -> Command:
        """Say something about a review; its digest becomes part of the evidence."""
        return self._transport.send(calls.comment_review(id, text, idempotency_key, wait))

    def escalate(
        self,
        id: str,
        *,
        reason: str,
        assignee: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Command:
        """Pass a review on, to somebody or to whoever of the higher role has the least to do."""
        return self._transport.send(calls.escalate_review(id, reason, assignee, idempotency_key, wait))


class Approvals:
    """What needs a second person and is no intent: forced reversals, account limits, configuration."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: str | None = None,
        kind: str | None = None,
        subject: str | None = None,
        created_by: str | None = None,
        created_from: Time | None = None,
        created_before: Time | None = None,
        page_size: int | None = None,
    ) -> Pages[Approval]:
        """Return the approvals that fit, the last opened first."""
        filters = {
            "status": status, "kind": kind, "subject": subject, "created_by": created_by,
            "created_from": created_from, "created_before": created_before,
        }  # fmt: skip
        return Pages(self._transport, calls.list_approvals(page_size, filters))

    def get(self, id: str) -> Approval:
        """Return an approval."""
        return self._transport.send(calls.get_approval(id))

    def request(
        self,
        kind: Literal["account_limit", "configuration"],
        subject: str,
        request: dict[str, Any],
        *,
        reason: str,
        idempotency_key: str | None = None,
    ) -> Approval:
        """Ask for another person's approval, of `{"overdraft_limit": …}` for an account for example."""
        return self._transport.send(calls.request_approval(kind, subject, request, reason, idempotency_key))

    def approve(
        self,
        id: str,
        *,
        reason: str,
        request_hash: str | None = None,
        idempotency_key: str | None = None,
        wait: int | None = None,
    ) -> Approval | Command:
        """Agree, and let it happen; a forced reversal is answered as the command that it is.

        Raises ConflictError `approval_not_open` for the second who decides, `approval_changed` where `request_hash` is
        not that of the approval, which the server wants."""
        call = calls.close_approval(id, "approve", reason, request_hash, idempotency_key, wait)
        return self._transport.send(call)

    def reject(
        self, id: str, *, reason: str, request_hash: str | None = None, idempotency_key: str | None = None
    ) -> Approval | Command:
        """Refuse it. Raises ConflictError `approval_not_open` for the second who decides."""
        return self._transport.send(calls.close_approval(id, "reject", reason, request_hash, idempotency_key, None))

    def cancel(self, id: str, *, reason: str, idempotency_key: str | None = None) -> Approval | Command:
        """Take back what one has asked for."""
        return self._transport.send(calls.close_approval(id, "cancel", reason, None, idempotency_key, None))
