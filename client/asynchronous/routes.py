"""A tenant's corridors in versions, why intents went where they went, and rails. Methods may raise APIError and
ValueError."""

from __future__ import annotations

from collections.abc import Mapping

from zentra.client import route_calls
from zentra.client.asynchronous.transport import AsyncPages, AsyncTransport
from zentra.client.routes import Rail, Route, RoutesVersion

__all__ = ["AsyncRails", "AsyncRoutes"]


class AsyncRoutes:
    """Write a version, check it, put it in force, go back; and explain."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def draft(
        self, document: Mapping[str, object], *, note: str | None = None, idempotency_key: str | None = None
    ) -> RoutesVersion:
        """Write the next version and return it; `violations` says what keeps it from being validated."""
        return await self._transport.send(route_calls.draft_routes(document, note, idempotency_key))

    def list(self, *, page_size: int | None = None) -> AsyncPages[RoutesVersion]:
        """Return the versions, the newest first, without their documents."""
        return AsyncPages(self._transport, route_calls.list_routes(page_size))

    async def get(self, version: int) -> RoutesVersion:
        """Return a version with its document and its events, the last first."""
        return await self._transport.send(route_calls.get_routes(version))

    async def validate(self, version: int, *, idempotency_key: str | None = None) -> RoutesVersion:
        """Check a draft as a whole. Raises UnprocessableEntityError naming everything that is wrong with it."""
        return await self._transport.send(route_calls.move_routes(version, "validate", idempotency_key))

    async def promote(self, version: int, *, idempotency_key: str | None = None) -> RoutesVersion:
        """Put a validated version in force. Raises PermissionDeniedError `self_promotion` for its author."""
        return await self._transport.send(route_calls.move_routes(version, "promote", idempotency_key))

    async def roll_back(self, version: int, *, idempotency_key: str | None = None) -> RoutesVersion:
        """Put a version in force again. Raises PermissionDeniedError `self_promotion` for its author."""
        return await self._transport.send(route_calls.move_routes(version, "rollback", idempotency_key))

    async def explain(self, intent: str) -> Route:
        """Return why an intent, named by either id, went by its rail, each decision made again."""
        return await self._transport.send(route_calls.explain_route(intent))


class AsyncRails:
    """How the rails do that the tenant's corridors lead to."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(self) -> AsyncPages[Rail]:
        """Return the rails by name."""
        return AsyncPages(self._transport, route_calls.list_rails())
