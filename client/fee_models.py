"""What the API answers about fees: see `zentra.client.models`, which has these too."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

__all__ = ["FeeLine", "FeeSchedule", "Fees", "Quote"]


class FeeLine(Struct, frozen=True, kw_only=True):
    """What one rule charges one side: `payer` on top of the amount, `payee` out of it."""

    rule: str
    payer: str
    minor: int
    charged: str
    on_failure: str
    on_reversal: str


class Fees(Struct, frozen=True, kw_only=True):
    """What an intent is charged, and by which version of the schedule."""

    held: int
    posted: int
    given_back: int
    version: int | None
    lines: tuple[FeeLine, ...]


class Quote(Struct, frozen=True, kw_only=True):
    """What an intent would be charged now. Give its digest with the intent to be charged just this, or nothing."""

    version: int
    digest: str
    currency: str
    amount: int
    total_payer: int
    total_payee: int
    payer_pays: int
    payee_gets: int
    lines: tuple[FeeLine, ...]


class FeeSchedule(Struct, frozen=True, kw_only=True):
    """One version of a tenant's fees; rules are as they are written in `docs/fees.md`."""

    version: int
    rules: tuple[dict[str, Any], ...]
    created_by: str
    active: bool | None = None
    created_at: datetime | None = None
    new: bool | None = None
