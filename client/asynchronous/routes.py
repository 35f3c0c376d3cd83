"""A tenant's corridors in versions, why intents went where they went, and rails. Methods may raise APIError and
ValueError."""

from __future__ import annotations

from zentra.client import route_calls
from zentra.client.asynchronous.transport import AsyncPages, AsyncTransport
from zentra.client.asynchronous.versions import AsyncVersions
from zentra.client.routes import Rail, Route, RoutesVersion

__all__ = ["AsyncRails", "AsyncRoutes"]


class AsyncRoutes(AsyncVersions[RoutesVersion]):
    """Write a version, check it, put it in force, go back; and explain."""

    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__(transport, route_calls.ROUTES)

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
