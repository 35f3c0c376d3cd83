"""The calls of people who decide: reviews and approvals, and what became of many decisions.

What the caller leaves out is left out of the request: the defaults are the server's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field

from zentra.client.answers import Answer
from zentra.client.calls import COMMAND_SECONDS, Filters, PageCall, pages
from zentra.client.core import Call, body_call, get_call, json_of, new_key, problem_error
from zentra.client.errors import APIStatusError
from zentra.client.models import Approval, Command, Page, Review, ReviewCounts

__all__ = [
    "DecisionResult",
    "NewDecision",
    "assign_review",
    "claim_review",
    "close_approval",
    "comment_review",
    "count_reviews",
    "decide_review",
    "decide_reviews",
    "escalate_review",
    "get_approval",
    "get_review",
    "list_approvals",
    "list_reviews",
    "request_approval",
]

DECISIONS_MAX: Final = 100  # in one request
_review: Final = json_of(Review)
_counts: Final = json_of(ReviewCounts)
_command: Final = json_of(Command)
_reviews: Final = json_of(Page[Review])
_approval: Final = json_of(Approval)
_approvals: Final = json_of(Page[Approval])


class NewDecision(Struct, frozen=True, kw_only=True):
    """A decision to be made, one of many in a request; `request_hash` is that of the review as it was looked at."""

    id: str
    verdict: Literal["approved", "rejected"]
    reason: str
    request_hash: str | None = None


class DecisionResult(Struct, frozen=True, kw_only=True):
    """What became of one decision of many: where its command stands, or the error that it alone has."""

    request: NewDecision
    command: Command | None = None
    error: APIStatusError | None = None

    def unwrap(self) -> Command:
        """Return where the command stands. Raises the error where there is one."""
        if self.command is None:
            raise self.error or APIStatusError("no command and no error")
        return self.command


class _One(Struct):
    status: int
    body: msgspec.Raw = field(default_factory=msgspec.Raw)


class _Many(Struct):
    results: list[_One]


class _About(Struct):
    command: str | None = None


_about: Final = msgspec.json.Decoder(_About).decode
_many: Final = msgspec.json.Decoder(_Many).decode
_one: Final = msgspec.json.Decoder(Command, strict=False).decode


def list_reviews(page_size: int | None, filters: Filters) -> PageCall[Review]:
    """List reviews."""
    return pages(_reviews, "reviews", page_size=page_size, filters=filters)


def count_reviews() -> Call[ReviewCounts]:
    """Count the open reviews."""
    return get_call(_counts, "reviews", "counts")


def get_review(id: str) -> Call[Review]:
    """Look at a review and its history."""
    return get_call(_review, "reviews", id)


def decide_review(
    id: str,
    verdict: Literal["approve", "reject"],
    reason: str,
    request_hash: str | None,
    idempotency_key: str | None,
    wait: int | None,
) -> Call[Command]:
    """Let the intent go on, or end it."""
    body = {"reason": reason, "request_hash": request_hash}
    return _order("reviews", id, verdict, body=body, key=idempotency_key, wait=wait)


def decide_reviews(
    decisions: Sequence[NewDecision], idempotency_key: str | None, wait: int | None
) -> Call[tuple[DecisionResult, ...]]:  # fmt: skip
    """Decide many reviews in one request. Raises ValueError for too many."""
    if len(decisions) > DECISIONS_MAX:
        raise ValueError(f"{len(decisions)} decisions; a request holds at most {DECISIONS_MAX}")
    key = new_key() if idempotency_key is None else idempotency_key
    items = [{n: v for n, v in msgspec.structs.asdict(one).items() if v is not None} for one in decisions]

    def read(answer: Answer) -> tuple[DecisionResult, ...]:
        results = _many(answer.body).results
        if len(results) != len(decisions):
            raise msgspec.ValidationError(f"{len(results)} answers to {len(decisions)} decisions")
        return tuple(_result(asked, one, key) for asked, one in zip(decisions, results, strict=True))

    return body_call(
        read, "reviews", "decisions", body={"items": items}, idempotency_key=key, wait=wait,
        held_seconds=COMMAND_SECONDS,
    )  # fmt: skip


def _result(asked: NewDecision, answer: _One, key: str) -> DecisionResult:
    if answer.status >= 400:
        return DecisionResult(request=asked, error=problem_error(bytes(answer.body), key))
    return DecisionResult(request=asked, command=_one(answer.body))


def claim_review(order: str | None, idempotency_key: str | None, wait: int | None) -> Call[Command]:
    """Take the next review that is nobody's."""
    return _order("reviews", "claim", body={"order": order}, key=idempotency_key, wait=wait)


def assign_review(id: str, assignee: str | None, idempotency_key: str | None, wait: int | None) -> Call[Command]:
    """Make a review somebody's, or nobody's."""
    return _order("reviews", id, "assign", body={"assignee": assignee}, key=idempotency_key, wait=wait)


def comment_review(id: str, text: str, idempotency_key: str | None, wait: int | None) -> Call[Command]:
    """Say something about a review."""
    return _order("reviews", id, "comments", body={"text": text}, key=idempotency_key, wait=wait)


def escalate_review(
    id: str, reason: str, assignee: str | None, idempotency_key: str | None, wait: int | None
) -> Call[Command]:  # fmt: skip
    """Pass a review on."""
    body = {"reason": reason, "assignee": assignee}
    return _order("reviews", id, "escalate", body=body, key=idempotency_key, wait=wait)


def list_approvals(page_size: int | None, filters: Filters) -> PageCall[Approval]:
    """List approvals."""
    return pages(_approvals, "approvals", page_size=page_size, filters=filters)


def get_approval(id: str) -> Call[Approval]:
    """Look at an approval."""
    return get_call(_approval, "approvals", id)


def request_approval(
    kind: str, subject: str, request: dict[str, Any], reason: str, idempotency_key: str | None
) -> Call[Approval]:
    """Ask for another person's approval."""
    body = {"kind": kind, "subject": subject, "request": request, "reason": reason}
    return body_call(_approval, "approvals", body=body, idempotency_key=idempotency_key)


def close_approval(
    id: str,
    verdict: Literal["approve", "reject", "cancel"],
    reason: str,
    request_hash: str | None,
    idempotency_key: str | None,
    wait: int | None,
) -> Call[Approval | Command]:
    """Agree, refuse, or take back; what is carried out by a command is answered as one."""
    body = {"reason": reason, "request_hash": request_hash}
    return body_call(
        _closed, "approvals", id, verdict, body=body, idempotency_key=idempotency_key, wait=wait,
        held_seconds=COMMAND_SECONDS,
    )  # fmt: skip


def _closed(answer: Answer) -> Approval | Command:
    return _command(answer) if _about(answer.body).command is not None else _approval(answer)


def _order(*path: str, body: dict[str, Any], key: str | None, wait: int | None) -> Call[Command]:
    return body_call(_command, *path, body=body, idempotency_key=key, wait=wait, held_seconds=COMMAND_SECONDS)
