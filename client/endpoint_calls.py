"""The calls about webhook endpoints; see `zentra.client.calls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from zentra.client.calls import PageCall, pages
from zentra.client.core import Call, body_call, get_call, json_of
from zentra.client.endpoints import Endpoint
from zentra.client.models import Page

__all__ = [
    "amend_endpoint",
    "create_endpoint",
    "delete_endpoint",
    "get_endpoint",
    "list_endpoints",
    "rotate_endpoint",
    "switch_endpoint",
]


class _Deleted(Struct, frozen=True):
    id: str


_endpoint: Final = json_of(Endpoint)
_endpoints: Final = json_of(Page[Endpoint])
_deleted: Final = json_of(_Deleted)


def create_endpoint(said: Mapping[str, Any], idempotency_key: str | None) -> Call[Endpoint]:
    """Set up an endpoint."""
    return body_call(_endpoint, "webhooks", "endpoints", body=said, idempotency_key=idempotency_key)


def get_endpoint(id: str) -> Call[Endpoint]:
    """Look at an endpoint."""
    return get_call(_endpoint, "webhooks", "endpoints", id)


def list_endpoints() -> PageCall[Endpoint]:
    """List endpoints, which are few."""
    return pages(_endpoints, "webhooks", "endpoints", page_size=None, filters={})


def amend_endpoint(id: str, said: Mapping[str, Any], idempotency_key: str | None) -> Call[Endpoint]:
    """Change how an endpoint is set up."""
    return body_call(_endpoint, "webhooks", "endpoints", id, "amend", body=said, idempotency_key=idempotency_key)


def switch_endpoint(id: str, change: Literal["disable", "enable"], idempotency_key: str | None) -> Call[Endpoint]:
    """Disable an endpoint, or enable it."""
    return body_call(_endpoint, "webhooks", "endpoints", id, change, body={}, idempotency_key=idempotency_key)


def rotate_endpoint(
    id: str, signature: str, overlap_seconds: int | None, idempotency_key: str | None
) -> Call[Endpoint]:  # fmt: skip
    """Give an endpoint a new secret or key."""
    body = {"signature": signature, "overlap_seconds": overlap_seconds}
    return body_call(_endpoint, "webhooks", "endpoints", id, "rotate", body=body, idempotency_key=idempotency_key)


def delete_endpoint(id: str) -> Call[_Deleted]:
    """Take an endpoint away."""
    return msgspec.structs.replace(get_call(_deleted, "webhooks", "endpoints", id), method="DELETE")
