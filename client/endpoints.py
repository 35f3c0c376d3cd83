"""What the API answers about webhook endpoints; see `models` for what holds of all such values."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from zentra.client.models import Links

__all__ = ["Endpoint", "LiveSecret", "PublicKey", "Recovery"]


class LiveSecret(Struct, frozen=True, kw_only=True):
    """A secret that signs now, and until when; it has no end until another takes its place."""

    expires_at: datetime | None


class PublicKey(Struct, frozen=True, kw_only=True):
    """A key that `v1a` signatures are verified with, `whpk_` and base64, and until when it is used."""

    key: str
    expires_at: datetime | None


class Recovery(Struct, frozen=True, kw_only=True):
    """Since when an endpoint was not called."""

    endpoint: str
    since: datetime


class Endpoint(Struct, frozen=True, kw_only=True):
    """A webhook endpoint; `secret` is shown in the answer that made it, and never again.

    `recover` is there in the answer to `enable`: since when the endpoint was not called."""

    id: str
    url: str
    events: tuple[str, ...]
    status: str
    created_by: str
    created_at: datetime | None = None
    secret: str | None = None
    version: int = 1
    mode: str = "full"
    api_version: str = ""
    fifo: bool = False
    signatures: tuple[str, ...] = ("v1",)
    schedule: tuple[int, ...] = ()
    concurrency: int = 0
    per_second: int = 0
    disable_after_seconds: int = 0
    secrets: tuple[LiveSecret, ...] = ()
    public_keys: tuple[PublicKey, ...] = ()
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    disabled_by: str | None = None
    failing_since: datetime | None = None
    sequence: int = 0
    recover: Recovery | None = None
    links: Links = Links()
