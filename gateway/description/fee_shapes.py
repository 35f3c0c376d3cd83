"""What answers about fees look like, as types."""

from __future__ import annotations

from msgspec import Struct

from zentra.gateway.description.words import Digits, Hash
from zentra.runtime.fees.schedule import FeeRule
from zentra.runtime.intents.facts import FeeLine
from zentra.storage.reads.fees import ScheduleView

__all__ = ["FeeSchedulePut", "FeesShown", "QuoteShown", "ScheduleView"]


class FeesShown(Struct, frozen=True, kw_only=True):
    """What an intent is charged: `lines` as the schedule of that version said when it was; null before and without."""

    held: Digits
    posted: Digits
    given_back: Digits
    version: int | None
    lines: list[FeeLine]


class QuoteShown(Struct, frozen=True, kw_only=True):
    """What an intent would be charged now. It has no expiry: an intent that names its digest is charged just this, or
    refused."""

    version: int
    digest: Hash
    currency: str
    amount: Digits
    total_payer: Digits
    total_payee: Digits
    payer_pays: Digits
    payee_gets: Digits
    lines: list[FeeLine]


class FeeSchedulePut(Struct, frozen=True, kw_only=True):
    """A schedule that is in force; `new` is false where it was before."""

    version: int
    rules: list[FeeRule]
    created_by: str
    new: bool
