"""What the API answers about routes and rails, as values that cannot be changed; see `docs/routing.md`."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from zentra.client.versions import DocumentEvent, DocumentVersion

__all__ = [
    "Maintenance", "Rail", "RailLimits", "Route", "RouteAttempt", "RouteCorridor", "RouteDecision", "RouteRail",
    "RoutesEvent", "RoutesVersion",
]  # fmt: skip


RoutesEvent = DocumentEvent


class RoutesVersion(DocumentVersion, frozen=True, kw_only=True):
    """A version of a tenant's corridors; lists leave out its document, and only `get` brings its events."""


class RouteRail(Struct, frozen=True, kw_only=True):
    """A rail as a decision saw it: a word for why it was chosen or not, and what that means."""

    rail: str
    word: str
    means: str
    priority: int | None = None
    weight: int | None = None
    cost: str | None = None
    circuit: str | None = None
    calls: int | None = None
    bad: int | None = None


class RouteCorridor(Struct, frozen=True, kw_only=True):
    """A corridor, and why it does or does not carry the intent."""

    name: str
    word: str


class RouteDecision(Struct, frozen=True, kw_only=True):
    """One decision; `same` says whether it comes out the same when it is made again from its record."""

    sequence: int
    at: str
    event: str
    corridor: str
    version: int
    rail: str | None
    reason: str
    rails: tuple[RouteRail, ...]
    corridors: tuple[RouteCorridor, ...]
    same: bool | None
    until: str | None = None


class RouteAttempt(Struct, frozen=True, kw_only=True):
    """An attempt on a rail, and the last that was known of it; `trust`, `reason`, `event_id` and `digest` (of the raw
    bytes) are of the report that it is known by."""

    attempt: int
    rail: str
    reference: str
    started_at: str
    deadline: str
    outcome: str
    ended_at: str | None = None
    reports: int = 0
    trust: str | None = None
    reason: str | None = None
    event_id: str | None = None
    digest: str | None = None


class Route(Struct, frozen=True, kw_only=True):
    """The way of an intent; `ended` says why its hold was released, where it was."""

    intent_id: str
    id: str
    status: str
    decisions: tuple[RouteDecision, ...]
    attempts: tuple[RouteAttempt, ...]
    ended: str | None = None


class RailLimits(Struct, frozen=True, kw_only=True):
    """What a rail is asked at the most; 0 where there is no limit."""

    concurrency_max: int
    waiting_max: int
    rate_per_second: float
    burst: int


class Maintenance(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A time in which a rail is not asked."""

    from_: datetime
    until: datetime
    reason: str = ""


class Rail(Struct, frozen=True, kw_only=True):
    """How a rail does; `resting` says why nothing new is sent to it, if so."""

    name: str
    mode: str
    circuit: str
    workers: dict[str, int]
    bad_percent: float | None
    latency_ms: float | None
    waiting: int
    window_seconds: float
    limits: RailLimits
    draining: bool
    reason: str
    maintenance: tuple[Maintenance, ...]
    resting: str | None
