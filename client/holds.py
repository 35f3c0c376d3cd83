"""What the API answers about holds; see `models` for what holds of all such values."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from zentra.client.models import Event, Links, Reason

__all__ = ["Hold", "HoldCapture"]


class HoldCapture(Struct, frozen=True):
    """What one capture took, and what of it came back."""

    destination: str
    amount: int
    given_back: int = 0


class Hold(Struct, frozen=True, kw_only=True):
    """A hold as of now: one whose time is over has expired, whether or not that was booked. From `given_back` on, only
    what was looked up shows more than the defaults."""

    id: str
    intent_id: str
    status: str
    account: str
    currency: str
    amount: int
    remaining: int
    captured: int
    placed_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    links: Links
    given_back: int | None = None
    destination: str | None = None
    expires_in_seconds: int | None = None
    release_condition: str | None = None
    created_by: str | None = None
    created_at: datetime | None = None
    reason: Reason | None = None
    captures: tuple[HoldCapture, ...] = ()
    history: tuple[Event, ...] = ()
    metadata: dict[str, str] = {}
    version: int | None = None
