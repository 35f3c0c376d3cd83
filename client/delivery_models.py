"""What the API tells of deliveries one by one: attempts in full, recoveries, and the health of endpoints."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

__all__ = ["AttemptDetail", "EndpointHealth", "RecoveryState", "WebhookHealth"]


class AttemptDetail(Struct, frozen=True, kw_only=True):
    """One attempt with what was sent and what came back; signatures are shown, secrets never."""

    number: int
    trigger: str
    at: datetime
    actor: str = ""
    latency_ms: int = 0
    status_code: int | None = None
    error: str | None = None
    next_at: datetime | None = None
    request_headers: dict[str, str] = {}
    response_body: str = ""


class RecoveryState(Struct, frozen=True, kw_only=True):
    """What an endpoint is sent again, or for the first time: what was asked, and how far it is."""

    id: str
    endpoint: str
    which: str
    since: datetime
    before: datetime
    status: str
    dry_run: bool = False
    events: tuple[str, ...] = ()
    found: int = 0
    replayed: int = 0
    made: int = 0
    skipped: int = 0
    created_by: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None


class EndpointHealth(Struct, frozen=True, kw_only=True):
    """How an endpoint does: `health` is delivered / due, None where nothing was due."""

    endpoint: str
    status: str
    due: int
    delivered: int
    health: float | None = None
    retrying: int = 0
    exhausted: int = 0
    complete: bool = True
    counted_from: datetime | None = None


class WebhookHealth(Struct, frozen=True, kw_only=True):
    """How the endpoints of a tenant do over the last 24 hours."""

    due: int
    delivered: int
    health: float | None = None
    complete: bool = True
    endpoints: tuple[EndpointHealth, ...] = ()
