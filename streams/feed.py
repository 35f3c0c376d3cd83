"""The tail of the event stream: what is published from now on, for gateways whose clients wait for an outcome.

It is a convenience, never a record: nothing is kept, and a reader that needs every event asks Postgres. While the
tail runs it loses nothing to a broken consumer, because the next one starts behind the last event seen.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from nats.aio.msg import Msg

from zentra.runtime.stream_ports import StreamError
from zentra.runtime.subjects import EVENTS, event_filter
from zentra.streams.connection import Connection, Hook
from zentra.streams.pull import Pull, wait_or_watch
from zentra.streams.topology import stream_state

__all__ = ["EventTail"]

_log = logging.getLogger(__name__)

_BATCH = 512
_PAUSE_MAX_S = 1.0
_random = secrets.SystemRandom()

Frames = list[tuple[str, bytes]]


class EventTail:
    """Calls `on_frames` with (subject, body) of the events that arrive together; `on_frames` does not wait."""

    def __init__(
        self, client: Connection, on_frames: Callable[[Frames], None], *, subject_filter: str | None = None
    ) -> None:
        self._client = client
        self._on_frames = on_frames
        self._filter = event_filter() if subject_filter is None else subject_filter
        self._frames: Frames = []
        self._seen: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._pull: Pull | None = None
        self._look = asyncio.Event()
        self._remove_hooks: Hook | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._task is not None

    async def start(self) -> None:
        """Delivers what is published after this returns; does nothing when it runs already.

        While the server is away it goes on trying by itself, and then begins when it first reaches it.
        """
        if self._task is not None:
            return
        self._seen = None
        attempted = asyncio.Event()
        self._remove_hooks = self._client.add_hooks(on_reconnect=self._look.set)
        self._task = asyncio.create_task(self._supervise(attempted), name="event tail")
        self._task.add_done_callback(lambda _: attempted.set())
        await attempted.wait()

    async def stop(self) -> None:
        """Delivers nothing any more."""
        if self._remove_hooks is not None:
            self._remove_hooks()
            self._remove_hooks = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._discard_pull()
        self._frames = []

    async def _supervise(self, attempted: asyncio.Event) -> None:
        while True:
            self._look.clear()
            try:
                pull = await self._build()
            except StreamError as error:
                _log.warning("event tail not built", extra={"error": str(error)})
                attempted.set()
                await self._discard_pull()
                await asyncio.sleep(_random.uniform(0, _PAUSE_MAX_S))
                continue
            attempted.set()
            while pull.broken is None:
                await wait_or_watch(self._look)
                self._look.clear()
                await pull.watch()
            _log.warning("event tail broken", extra={"reason": pull.broken})
            await self._discard_pull()

    async def _build(self) -> Pull:
        last = (await stream_state(self._client, EVENTS)).last
        # A last sequence below what was seen is a store that lost its tail: begin at its end.
        self._seen = last if self._seen is None else min(self._seen, last)
        pull = self._pull = Pull(
            self._client,
            EVENTS,
            batch=_BATCH,
            deliver=self._deliver,
            has_room=_always,
            on_broken=self._look.set,
        )
        await pull.open([self._filter], self._seen + 1)
        return pull

    async def _discard_pull(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.close()

    def _deliver(self, sequence: int, message: Msg) -> None:
        self._seen = sequence
        if not self._frames:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._frames.append((message.subject, message.data))

    def _hand_over(self) -> None:
        frames, self._frames = self._frames, []
        if frames:
            self._on_frames(frames)


def _always() -> bool:
    # What is handed over in the same turn of the loop needs no bound of its own.
    return True
