"""The calls for routes and rails, as values; see `zentra.client.calls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from zentra.client.calls import PageCall, pages
from zentra.client.core import Call, body_call, get_call, json_of
from zentra.client.models import Page
from zentra.client.routes import Rail, Route, RoutesVersion

__all__ = ["draft_routes", "explain_route", "get_routes", "list_rails", "list_routes", "move_routes"]

_version: Final = json_of(RoutesVersion)
_versions: Final = json_of(Page[RoutesVersion])
_route: Final = json_of(Route)
_rails: Final = json_of(Page[Rail])


def draft_routes(
    document: Mapping[str, object], note: str | None, idempotency_key: str | None
) -> Call[RoutesVersion]:  # fmt: skip
    """Write the next version."""
    return body_call(_version, "routes", body={"document": document, "note": note}, idempotency_key=idempotency_key)


def list_routes(page_size: int | None) -> PageCall[RoutesVersion]:
    """List versions, the newest first."""
    return pages(_versions, "routes", page_size=page_size, filters={})


def get_routes(version: int) -> Call[RoutesVersion]:
    """Look at a version."""
    return get_call(_version, "routes", str(version))


def move_routes(
    version: int, step: Literal["validate", "promote", "rollback"], idempotency_key: str | None
) -> Call[RoutesVersion]:  # fmt: skip
    """Take a version one step on."""
    return body_call(_version, "routes", str(version), step, body={}, idempotency_key=idempotency_key)


def explain_route(id: str) -> Call[Route]:
    """Ask why an intent went where it went."""
    return get_call(_route, "runtime", "intents", id, "route")


def list_rails() -> PageCall[Rail]:
    """Ask how rails do."""
    return pages(_rails, "rails", page_size=None, filters={})
