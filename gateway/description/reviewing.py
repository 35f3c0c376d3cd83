"""What answers about reviews and approvals look like, as types; see `zentra.gateway.description.shapes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from zentra.gateway.description.shapes import SelfLink
from zentra.storage.reads.approvals import ApprovalView
from zentra.storage.reads.reviews import ReviewCounts, ReviewStep, ReviewView

__all__ = ["ApprovalAnswer", "ApprovalView", "ReviewCounts", "ReviewDecisions", "ReviewShown"]

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, hexadecimal")]
Uuid = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class ReviewShown(ReviewView, frozen=True, kw_only=True):
    """A review with what happened to it, in every round."""

    history: list[ReviewStep]


class ReviewDecision(Struct, frozen=True):
    """What became of one decision of many: the answer that it would have had alone."""

    id: str
    status: int
    body: Any


class ReviewDecisions(Struct, frozen=True):
    """One answer or problem per decision, in order."""

    results: list[ReviewDecision]


class ApprovalAnswer(Struct, frozen=True, kw_only=True):
    """An approval that was asked for or has been decided: the same bytes for ever under its key."""

    id: Uuid
    kind: Literal["forced_reversal", "account_limit", "configuration"]
    subject: str
    status: Literal["open", "approved", "rejected", "cancelled"]
    request_hash: Hash
    links: SelfLink
