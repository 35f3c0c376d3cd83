"""What lists answer, as types: a page, whether there is more, and the cursor of the next one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct, field

from zentra.gateway.description.account_shapes import (
    Account,
    AccountChange,
    AccountMonitor,
    AccountNumber,
    Book,
    ChartNode,
    Figures,
    StatementLine,
)
from zentra.gateway.description.holdings import HoldShown
from zentra.gateway.description.hook_shapes import Endpoint
from zentra.gateway.description.ledger_shapes import AccountEntry
from zentra.gateway.description.shapes import Delivery, IntentShown, PolicySummary
from zentra.runtime.policy.replay import Explanation
from zentra.storage.reads.approvals import ApprovalView
from zentra.storage.reads.border import DenialView
from zentra.storage.reads.deliveries import AttemptDetail, RecoveryState
from zentra.storage.reads.fees import ScheduleView
from zentra.storage.reads.reviews import ReviewView
from zentra.storage.reads.work import CaseView

__all__ = [
    "Accounts", "Approvals", "Books", "Cases", "Changes", "Chart", "Decisions", "Deliveries", "DeliveryAttempts",
    "Denials", "Endpoints", "Entries", "FeeSchedules", "Holds", "Intents", "Monitors", "Numbers", "Policies",
    "Recoveries", "Reviews", "StatementPage",
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


class Changes(Struct, frozen=True):
    """The changes of an account, the latest first."""

    data: list[AccountChange]
    has_more: bool
    next_cursor: str | None


class Numbers(Struct, frozen=True):
    """The numbers of an account, the oldest first."""

    data: list[AccountNumber]
    has_more: bool
    next_cursor: str | None


class Monitors(Struct, frozen=True):
    """The monitors of an account, the oldest first."""

    data: list[AccountMonitor]
    has_more: bool
    next_cursor: str | None


class Books(Struct, frozen=True):
    """The tenant's books."""

    data: list[Book]
    has_more: bool
    next_cursor: str | None


class Chart(Struct, frozen=True):
    """Nodes of the chart in order of their names."""

    book: str
    prefix: str
    depth: int
    data: list[ChartNode]
    has_more: bool
    next_cursor: str | None


class StatementPage(Struct, frozen=True):
    """A page of a statement: what the account began with, entries in order, what it ended with. Opening, closing and
    interval are the same on all pages."""

    account_id: str
    currency: str
    by: Literal["recorded", "effective"]
    from_: datetime = field(name="from")
    to: datetime
    opening: Figures
    closing: Figures
    data: list[StatementLine]
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

    data: list[Endpoint]
    has_more: bool
    next_cursor: str | None


class Deliveries(Struct, frozen=True):
    """Deliveries, newest first."""

    data: list[Delivery]
    has_more: bool
    next_cursor: str | None


class DeliveryAttempts(Struct, frozen=True):
    """The attempts of a delivery, the last one first."""

    data: list[AttemptDetail]
    has_more: bool
    next_cursor: str | None


class Recoveries(Struct, frozen=True):
    """Recoveries, newest first."""

    data: list[RecoveryState]
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
