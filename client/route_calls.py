"""The calls for routes and rails, as values; see `zentra.client.calls`."""

from __future__ import annotations

from typing import Final

from zentra.client.calls import PageCall, pages
from zentra.client.core import Call, get_call, json_of
from zentra.client.models import Page
from zentra.client.routes import Rail, Route, RoutesVersion
from zentra.client.versions import VersionCalls

__all__ = ["ROUTES", "explain_route", "list_rails"]

ROUTES: Final = VersionCalls("routes", json_of(RoutesVersion), json_of(Page[RoutesVersion]))
_route: Final = json_of(Route)
_rails: Final = json_of(Page[Rail])


def explain_route(id: str) -> Call[Route]:
    """Ask why an intent went where it went."""
    return get_call(_route, "runtime", "intents", id, "route")


def list_rails() -> PageCall[Rail]:
    """Ask how rails do."""
    return pages(_rails, "rails", page_size=None, filters={})
