"""The doors to events: the stream of one intent, and that of everything that happens to a tenant's intents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from zentra.gateway.http.app import Reply, Request, Route
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.feeds import EventPlaces, EventStreamPort, Frame, FrameReader, IntentSource, TenantSource
from zentra.gateway.http.streaming import Source, Streams
from zentra.gateway.http.waiting import IntentWaiters
from zentra.gateway.routes.packets import find_intent
from zentra.runtime.errors import Unavailable
from zentra.runtime.stream_ports import StreamError
from zentra.runtime.subjects import EVENTS
from zentra.storage.pool import Pool
from zentra.storage.reads import tenant as reads
from zentra.streams.connection import Connection
from zentra.streams.feed import EventReader, frame_at
from zentra.streams.topology import stream_state

__all__ = ["EventRoutes", "NatsEvents"]

_LAST_ID: Final = b"last-event-id"


class NatsEvents:
    """The event stream of the installation."""

    def __init__(self, client: Connection) -> None:
        self._client = client

    async def bounds(self) -> tuple[int, int]:
        """Return the first and the last place that are kept. Raises Unavailable."""
        try:
            state = await stream_state(self._client, EVENTS)
        except StreamError as error:
            raise Unavailable(str(error)) from error
        return state.first, state.last

    async def frame(self, sequence: int) -> Frame | None:
        """Return the frame at a place, whoever's it is, or None. Raises Unavailable."""
        try:
            return await frame_at(self._client, sequence) if sequence else None
        except StreamError as error:
            raise Unavailable(str(error)) from error

    def reader(self, tenant: str, after: int) -> FrameReader:
        """Return a reader of the tenant's frames behind a place."""
        return EventReader(self._client, tenant, after)


class EventRoutes:
    """The handlers and their routes."""

    def __init__(
        self, pool: Pool, streams: Streams, stream: EventStreamPort, waiters: IntentWaiters, secret: bytes
    ) -> None:
        self._pool, self._streams, self._stream, self._waiters = pool, streams, stream, waiters
        self._places = EventPlaces(secret)

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        return [
            Route("GET", "/runtime/events", self.tenant, Permission.INTENTS_READ),
            Route("GET", "/runtime/intents/{id}/events", self.intent, Permission.INTENTS_READ),
        ]

    async def tenant(self, request: Request) -> Reply:
        """What happens to the tenant's intents from the `Last-Event-ID`, or from now on."""
        tenant = request.principal.tenant
        source = TenantSource(tenant, _last_id(request), self._stream, self._places, partial(self._read, tenant))
        return await self._reply(tenant, source)

    async def intent(self, request: Request) -> Reply:
        """What happened to an intent, from the beginning or the `Last-Event-ID`, and what will."""
        tenant = request.principal.tenant
        intent = (await find_intent(self._pool, tenant, request.params["id"])).id
        source = IntentSource(intent, _last_id(request), partial(self._read, tenant), self._waiters)
        return await self._reply(tenant, source)

    async def _reply(self, tenant: str, source: Source) -> Reply:
        return Reply(200, b"", stream=await self._streams.opened(tenant, source))

    async def _read(self, tenant: str, intent: str, after: int, limit: int) -> Sequence[bytes]:
        return await reads.records(self._pool, tenant, intent, after=after, limit=limit)


def _last_id(request: Request) -> str | None:
    given = request.headers.get(_LAST_ID)
    return given.decode("latin-1") if given else None
