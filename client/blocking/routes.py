"""A tenant's corridors in versions, why intents went where they went, and rails. Methods may raise APIError and
ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Mapping

from zentra.client import route_calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.routes import Rail, Route, RoutesVersion

__all__ = ["Rails", "Routes"]


class Routes:
    """Write a version, check it, put it in force, go back; and explain."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def draft(
        self, document: Mapping[str, object], *, note: str | None = None, idempotency_key: str | None = None
    ) -> RoutesVersion:
        """Write the next version and return it; `violations` says what keeps it from being validated."""
        return self._transport.send(route_calls.draft_routes(document, note, idempotency_key))

    def list(self, *, page_size: int | None = None) -> Pages[RoutesVersion]:
        """Return the versions, the newest first, without their documents."""
        return Pages(self._transport, route_calls.list_routes(page_size))

    def get(self, version: int) -> RoutesVersion:
        """Return a version with its document and its events, the last first."""
        return self._transport.send(route_calls.get_routes(version))

    def validate(self, version: int, *, idempotency_key: str | None = None) -> RoutesVersion:
        """Check a draft as a whole. Raises UnprocessableEntityError naming everything that is wrong with it."""
        return self._transport.send(route_calls.move_routes(version, "validate", idempotency_key))

    def promote(self, version: int, *, idempotency_key: str | None = None) -> RoutesVersion:
        """Put a validated version in force. Raises PermissionDeniedError `self_promotion` for its author."""
        return self._transport.send(route_calls.move_routes(version, "promote", idempotency_key))

    def roll_back(self, version: int, *, idempotency_key: str | None = None) -> RoutesVersion:
        """Put a version in force again. Raises PermissionDeniedError `self_promotion` for its author."""
        return self._transport.send(route_calls.move_routes(version, "rollback", idempotency_key))

    def explain(self, intent: str) -> Route:
        """Return why an intent, named by either id, went by its rail, each decision made again."""
        return self._transport.send(route_calls.explain_route(intent))


class Rails:
    """How the rails do that the tenant's corridors lead to."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Pages[Rail]:
        """Return the rails by name."""
        return Pages(self._transport, route_calls.list_rails())
