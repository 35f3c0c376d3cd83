"""What lists answer, as types: a page, whether there is more, and the cursor of the next one."""

from __future__ import annotations

from msgspec import Struct

from zentra.gateway.description.holdings import HoldShown
from zentra.gateway.description.shapes import (
    Account,
    AccountEntry,
    Delivery,
    IntentShown,
    PolicySummary,
)  # fmt: skip
from zentra.runtime.policy.replay import Explanation
from zentra.storage.reads.approvals import ApprovalView
from zentra.storage.reads.border import DenialView
from zentra.storage.reads.fees import ScheduleView
from zentra.storage.reads.reviews import ReviewView
from zentra.storage.reads.work import CaseView, EndpointView

__all__ = [
    "Accounts", "Approvals", "Cases", "Decisions", "Deliveries", "Denials", "Endpoints", "Entries", "FeeSchedules",
    "Holds", "Intents", "Policies", "Reviews",
]  # fmt: skip


class Intents(Struct, frozen=True):
    """Intents, newest first."""

    data: list[IntentShown]
    has_more: bool
    next_cursor: str | None


class Accounts(Struct, frozen=True):
    """Accounts, newest first."""

    data: list[Account]
    has_more: bool
    next_cursor: str | None


class Entries(Struct, frozen=True):
    """A page of entries, newest first."""

    data: list[AccountEntry]
    has_more: bool
    next_cursor: str | None


class Reviews(Struct, frozen=True):
    """Reviews, newest first."""

    data: list[ReviewView]
    has_more: bool
    next_cursor: str | None


class Approvals(Struct, frozen=True):
    """Approvals, newest first."""

    data: list[ApprovalView]
    has_more: bool
    next_cursor: str | None


class Cases(Struct, frozen=True):
    """Cases, newest first."""

    data: list[CaseView]
    has_more: bool
    next_cursor: str | None


class Denials(Struct, frozen=True):
    """Refusals, the latest first."""

    data: list[DenialView]
    has_more: bool
    next_cursor: str | None


class Endpoints(Struct, frozen=True):
    """The tenant's endpoints, without secrets."""

    data: list[EndpointView]
    has_more: bool
    next_cursor: str | None


class Deliveries(Struct, frozen=True):
    """Deliveries, newest first."""

    data: list[Delivery]
    has_more: bool
    next_cursor: str | None


class FeeSchedules(Struct, frozen=True):
    """Versions of the tenant's fees, newest first."""

    data: list[ScheduleView]
    has_more: bool
    next_cursor: str | None


class Policies(Struct, frozen=True):
    """Versions of a policy, the newest first."""

    data: list[PolicySummary]
    has_more: bool
    next_cursor: str | None


class Decisions(Struct, frozen=True):
    """The decisions on an intent, in order."""

    data: list[Explanation]
    has_more: bool
    next_cursor: str | None


class Holds(Struct, frozen=True):
    """Holds, the last placed first."""

    data: list[HoldShown]
    has_more: bool
    next_cursor: str | None
