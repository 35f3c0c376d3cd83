"""A tenant's corridors in versions, why intents went where they went, and rails. Methods may raise APIError and
ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from zentra.client import route_calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.blocking.versions import Versions
from zentra.client.routes import Rail, Route, RoutesVersion

__all__ = ["Rails", "Routes"]


class Routes(Versions[RoutesVersion]):
    """Write a version, check it, put it in force, go back; and explain."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, route_calls.ROUTES)

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
