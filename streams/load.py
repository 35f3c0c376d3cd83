"""Load reports over the core of NATS: no stream keeps them, and who is not listening misses them."""

from __future__ import annotations

import nats.errors

from zentra.runtime.messages import Load, encode_load
from zentra.runtime.subjects import load_subject
from zentra.streams.connection import Connection
from zentra.streams.errors import StreamUnavailable, failure_of_exception

__all__ = ["LoadReports"]


class LoadReports:
    """Publishes load reports over one connection."""

    def __init__(self, client: Connection) -> None:
        self._client = client

    async def report(self, load: Load) -> None:
        """Tells whoever listens. Raises StreamError where the server is away; nothing is sent later then."""
        if not self._client.is_connected:
            raise StreamUnavailable("disconnected")
        try:
            await self._client.publish(load_subject(load.worker), encode_load(load))
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise failure_of_exception(error) from error
