"""What answers about holds look like, as types; see `shapes` for what they are for."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from zentra.gateway.description.shapes import EventShown, Reason
from zentra.gateway.description.words import Digits, Uuid

__all__ = ["Hold", "HoldCapture", "HoldShown"]


class HoldLinks(Struct, frozen=True):
    """Where to look next."""

    self: str
    intent: str


class HoldShown(Struct, frozen=True, kw_only=True):
    """A hold that was placed, as of now: one whose time is over has expired, whether or not that was booked."""

    id: Uuid
    intent_id: str
    status: Literal["open", "captured", "voided", "expired"]
    account: str
    currency: str
    amount: Digits
    remaining: Digits
    captured: Digits
    placed_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    links: HoldLinks


class HoldCapture(Struct, frozen=True):
    """What one capture took, and what of it came back."""

    destination: str
    amount: Digits
    given_back: Digits


class Hold(Struct, frozen=True, kw_only=True):
    """A hold with everything that happened to it: `requested` until it is placed, `failed` where it never was."""

    id: Uuid
    intent_id: str
    status: Literal["requested", "open", "captured", "voided", "expired", "failed"]
    account: str
    currency: str
    amount: Digits
    remaining: Digits
    captured: Digits
    given_back: Digits
    destination: str | None
    expires_in_seconds: int
    release_condition: str | None
    created_by: str
    created_at: datetime
    placed_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    reason: Reason | None
    captures: list[HoldCapture]
    history: list[EventShown]
    metadata: dict[str, str]
    version: int
    links: HoldLinks
