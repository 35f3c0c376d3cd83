"""Publishing what a commit has put into the outbox, so that nobody waits for the sweep.

A commit's answer never waits for this: what is not published or not marked here is published by the owner's sweep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from zentra.runtime.errors import Unavailable
from zentra.runtime.stream_ports import EventPublisher, Outgoing
from zentra.storage.outbox import mark_sent
from zentra.storage.pool import Pool

__all__ = ["Sending"]

_log = logging.getLogger(__name__)

MARK_SECONDS: Final = 0.2  # the sweep looks for rows unsent for a second
WAITING_MAX: Final = 10_000  # with a stream that hangs; the sweep has the rest


class Sending:
    """Sends and marks in the background; `aclose` waits for what is under way."""

    def __init__(self, pool: Pool, publisher: EventPublisher) -> None:
        self._pool, self._publisher = pool, publisher
        self._waiting: list[Outgoing] = []
        self._sent: list[str] = []
        self._publishing: asyncio.Task[None] | None = None
        self._marking: asyncio.Task[None] | None = None

    def send_nowait(self, messages: Sequence[Outgoing]) -> None:
        """Publish committed messages soon."""
        if len(self._waiting) + len(messages) > WAITING_MAX:
            return
        self._waiting += messages
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish(), name="publishing")

    async def aclose(self) -> None:
        """Return when nothing is under way any more."""
        for task in (self._publishing, self._marking):
            if task is not None:
                await asyncio.wait([task])

    async def _publish(self) -> None:
        while self._waiting:
            messages, self._waiting = self._waiting, []
            results = await self._publisher.publish(messages)
            self._sent += [one.id for one, failure in zip(messages, results, strict=True) if failure is None]
            if self._sent and (self._marking is None or self._marking.done()):
                self._marking = asyncio.create_task(self._mark(), name="marking")

    async def _mark(self) -> None:
        while self._sent:
            await asyncio.sleep(MARK_SECONDS)
            ids, self._sent = self._sent, []
            try:
                await mark_sent(self._pool, ids)
            except Unavailable as error:  # they are published once more by the sweep, and dropped as repeats
                _log.warning("frames are not marked as sent", extra={"error": str(error), "frames": len(ids)})
