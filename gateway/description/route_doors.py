"""What is said of the doors to corridors and rails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from zentra.gateway.description import shapes
from zentra.gateway.description.door import Door
from zentra.gateway.description.rows import version_rows
from zentra.gateway.routes.corridors import ROUTES_DRAFT
from zentra.gateway.routing import RailShown
from zentra.runtime.rails.explaining import RouteShown
from zentra.storage.versions import VersionEvent

__all__ = ["ROUTE_DOORS"]


class RoutesVersion(shapes.PolicySummary, frozen=True, kw_only=True):
    """A version of a tenant's routes; `violations` names what is wrong with a draft."""

    document: dict[str, Any]
    violations: list[shapes.Violation]
    links: shapes.PolicyLinks


class RoutesShown(RoutesVersion, frozen=True, kw_only=True):
    """A version, and what was done with it, the last first."""

    events: list[VersionEvent]


class RoutesVersions(Struct, frozen=True):
    """Versions of a tenant's routes, the newest first."""

    data: list[shapes.PolicySummary]
    has_more: bool
    next_cursor: str | None


class Rails(Struct, frozen=True):
    """The rails that the tenant's corridors lead to, by name."""

    data: list[RailShown]
    has_more: bool
    next_cursor: str | None


ROUTE_DOORS: Final[Mapping[str, Door]] = {
    **version_rows(
        "routes", "corridors", ROUTES_DRAFT, RoutesVersion, RoutesShown, RoutesVersions, path="/routes",
        then="promoted",
    ),
    "GET /runtime/intents/{id}/route": Door(
        name="explain_route", tag="routes", summary="Why an intent went by this rail, each decision made again.",
        answers={200: RouteShown}, codes=("not_found",),
    ),
    "GET /rails": Door(
        name="list_rails", tag="routes", summary="How the rails do that the tenant's corridors lead to.",
        answers={200: Rails},
    ),
}  # fmt: skip
