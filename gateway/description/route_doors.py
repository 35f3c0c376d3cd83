"""What is said of the doors to corridors and rails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from zentra.gateway.description import shapes
from zentra.gateway.description.door import Door, schema_of_fields
from zentra.gateway.description.rows import REPLAYED, list_row
from zentra.gateway.routes.corridors import ROUTES_DRAFT
from zentra.gateway.routes.webhooks import NOTHING
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


def _step(name: str, summary: str, *codes: str) -> Door:
    return Door(
        name=name, tag="routes", summary=summary, answers={200: RoutesVersion}, takes=schema_of_fields(NOTHING),
        key="once", headers=REPLAYED, codes=("not_found", "policy_state_conflict", *codes),
    )  # fmt: skip


ROUTE_DOORS: Final[Mapping[str, Door]] = {
    "POST /routes": Door(
        name="draft_routes", tag="routes", summary="Write the next version of the tenant's corridors, as a draft.",
        answers={201: RoutesVersion}, takes=schema_of_fields(ROUTES_DRAFT), key="once",
        headers=("location", *REPLAYED),
    ),
    "GET /routes": list_row(
        "list_routes", "routes", "The versions of the tenant's corridors, the newest first.", RoutesVersions, {}
    ),
    "GET /routes/{version}": Door(
        name="show_routes", tag="routes", summary="A version, and who did what with it.",
        answers={200: RoutesShown}, codes=("not_found",),
    ),
    "POST /routes/{version}/validate": _step("validate_routes", "Check a draft as a whole; then it can be promoted."),
    "POST /routes/{version}/promote": _step(
        "promote_routes", "Put a validated version in force, from the next decision on.", "self_promotion"
    ),
    "POST /routes/{version}/rollback": _step(
        "roll_back_routes", "Put a version in force again that was so before.", "self_promotion"
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
