"""Reviews as they are answered: what waits, how much of it there is, and what happened to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

__all__ = ["Review", "ReviewCounts", "ReviewStep"]


class ReviewStep(Struct, frozen=True, kw_only=True):
    """A record about a review; `text` is what somebody said, whose SHA-256 is `facts["digest"]`."""

    sequence: int
    event: str
    at: datetime
    actor: str
    facts: dict[str, Any] = {}
    text: str | None = None


class Review(Struct, frozen=True, kw_only=True):
    """A review that a rule asked for; `id` is the uuid of its intent."""

    id: str
    round: int | None = None
    intent_id: str = ""
    created_by: str = ""
    rules: Any = None
    version: int | None = None
    status: str
    opened_at: datetime
    expires_at: datetime
    assigned_to: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str | None = None
    due_at: datetime | None = None
    overdue: bool = False
    escalations: int = 0
    approvals: int = 1
    approved_by: tuple[str, ...] = ()
    comments: int = 0
    kind: str | None = None
    currency: str | None = None
    amount: int | None = None
    request_hash: str | None = None
    history: tuple[ReviewStep, ...] = ()


class ReviewCounts(Struct, frozen=True, kw_only=True):
    """How the open reviews stand, at most 10,000 of them; `mine` are those of whoever asks."""

    open: int
    overdue: int = 0
    unassigned: int = 0
    mine: int = 0
    escalated: int = 0
    oldest_at: datetime | None = None
