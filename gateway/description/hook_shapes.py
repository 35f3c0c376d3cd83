"""What answers about webhook endpoints look like, as types; `shapes` says how these are used."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

__all__ = ["Endpoint", "EndpointDeleted", "EndpointMade", "WebhookKeys"]


class EndpointLinks(Struct, frozen=True):
    """Where to look: the endpoint, what it was sent, and its public keys, which everybody may read."""

    self: str
    deliveries: str
    keys: str


class PublicKey(Struct, frozen=True):
    """A key that `v1a` signatures are verified with: 32 bytes in base64 behind `whpk_`."""

    key: str
    expires_at: datetime | None


class LiveSecret(Struct, frozen=True):
    """A secret that signs now."""

    expires_at: datetime | None


class Recovery(Struct, frozen=True):
    """Since when an endpoint was not called: what was made for it is kept, what was not can be asked for."""

    endpoint: str
    since: datetime


class Endpoint(Struct, frozen=True, kw_only=True):
    """A webhook endpoint. `secret` is there where one was made, once, and null in a replay."""

    id: str
    url: str
    events: list[str]
    status: Literal["enabled", "disabled"]
    version: int
    mode: Literal["full", "thin"]
    api_version: str
    fifo: bool
    signatures: list[Literal["v1", "v1a"]]
    schedule: list[int]
    concurrency: int
    per_second: int
    disable_after_seconds: int
    secrets: list[LiveSecret]
    public_keys: list[PublicKey]
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: Literal["asked", "gone", "failing"] | None
    disabled_by: str | None
    failing_since: datetime | None
    sequence: int
    links: EndpointLinks
    secret: str | UnsetType | None = UNSET
    recover: Recovery | UnsetType = UNSET


class EndpointMade(Struct, frozen=True, kw_only=True):
    """A webhook endpoint that was set up; `secret` is shown once, and null in a replay."""

    id: str
    url: str
    events: list[str]
    status: Literal["enabled"]
    created_by: str
    secret: str | None
    mode: Literal["full", "thin"]
    api_version: str
    fifo: bool
    signatures: list[Literal["v1", "v1a"]]
    schedule: list[int]
    concurrency: int
    per_second: int
    disable_after_seconds: int
    version: int
    public_keys: list[PublicKey]
    links: EndpointLinks


class EndpointDeleted(Struct, frozen=True):
    """An endpoint that is no more."""

    id: str
    status: Literal["deleted"]


class WebhookKeys(Struct, frozen=True):
    """The public keys of an endpoint, the newest first."""

    keys: list[PublicKey]
