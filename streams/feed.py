"""Reading the event stream: its tail, for gateways whose clients wait for an outcome, and all of it from a place on.

Neither keeps anything on the server. While one runs it loses nothing to a broken consumer, because the next one starts
behind the last event seen. The tail is a convenience: it hands out what arrives to whoever is there. A reader hands
out what it is asked for, and the server sends no more than there is room for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from abc import abstractmethod
from collections import deque
from collections.abc import Callable

import msgspec
from nats.aio.msg import Msg

from zentra.runtime.stream_ports import StreamError
from zentra.runtime.subjects import EVENTS, event_filter
from zentra.streams.connection import Connection, Hook
from zentra.streams.ending import ended
from zentra.streams.errors import StreamUnavailable
from zentra.streams.pull import Pull, wait_or_watch
from zentra.streams.topology import stream_state

__all__ = ["EventFrame", "EventReader", "EventTail", "frame_at"]

_log = logging.getLogger(__name__)

_BATCH = 512
_READ_BATCH = 32  # frames of up to 256 KiB each: a reader that takes nothing holds little
_PAUSE_MAX_S = 1.0
_random = secrets.SystemRandom()

Frames = list[tuple[str, bytes]]


class EventFrame(msgspec.Struct, frozen=True, gc=False):
    """Some events of one tenant and topic: their place in the stream, their subject and a JSON array of records."""

    sequence: int
    subject: str
    body: bytes


class _Following:
    """Follows the event stream with one consumer after another."""

    def __init__(self, client: Connection, subject_filter: str, *, after: int | None, batch: int) -> None:
        self._client = client
        self._filter, self._batch = subject_filter, batch
        self._after = self._seen = after
        self._task: asyncio.Task[None] | None = None
        self._pull: Pull | None = None
        self._look = asyncio.Event()
        self._remove_hooks: Hook | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._task is not None

    async def start(self) -> None:
        """Delivers what is published after this returns, or lies behind the place that it was made with; does nothing
        when it runs already.

        While the server is away it goes on trying by itself, and then begins when it first reaches it.
        """
        if self._task is not None:
            return
        self._seen = self._after
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
            await ended(task)
        await self._discard_pull()
        self._forget()

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
            batch=self._batch,
            deliver=self._delivered,
            has_room=self._has_room,
            on_broken=self._look.set,
        )
        await pull.open([self._filter], self._seen + 1)
        return pull

    async def _discard_pull(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.close()

    def _delivered(self, sequence: int, message: Msg) -> None:
        self._seen = sequence
        self._take(sequence, message)

    @abstractmethod
    def _take(self, sequence: int, message: Msg) -> None: ...

    @abstractmethod
    def _has_room(self) -> bool: ...

    @abstractmethod
    def _forget(self) -> None: ...


class EventTail(_Following):
    """Calls `on_frames` with (subject, body) of the events that arrive together; `on_frames` does not wait."""

    def __init__(
        self, client: Connection, on_frames: Callable[[Frames], None], *, subject_filter: str | None = None
    ) -> None:
        super().__init__(client, event_filter() if subject_filter is None else subject_filter, after=None, batch=_BATCH)
        self._on_frames = on_frames
        self._frames: Frames = []

    def _take(self, sequence: int, message: Msg) -> None:
        if not self._frames:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._frames.append((message.subject, message.data))

    def _has_room(self) -> bool:
        # What is handed over in the same turn of the loop needs no bound of its own.
        return True

    def _forget(self) -> None:
        self._frames = []

    def _hand_over(self) -> None:
        frames, self._frames = self._frames, []
        if frames:
            self._on_frames(frames)


class EventReader(_Following):
    """Hands out the frames of one tenant that lie behind a sequence, in the order of the stream, as they are asked for.

    At most `waiting_max` and two requests of the server's are kept meanwhile, however fast events are made."""

    def __init__(self, client: Connection, tenant: str, after: int, *, waiting_max: int = 2 * _READ_BATCH) -> None:
        super().__init__(client, event_filter(tenant), after=after, batch=_READ_BATCH)
        self._waiting_max = waiting_max
        self._frames: deque[EventFrame] = deque()
        self._arrived = asyncio.Event()

    async def next(self) -> EventFrame:
        """The next frame, when there is one."""
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        if self._pull is not None and len(self._frames) == self._waiting_max // 2:
            await self._pull.ask()
        return frame

    @property
    def waiting(self) -> int:
        """How many frames have arrived and were not asked for."""
        return len(self._frames)

    def _take(self, sequence: int, message: Msg) -> None:
        self._frames.append(EventFrame(sequence, message.subject, message.data))
        self._arrived.set()

    def _has_room(self) -> bool:
        return len(self._frames) < self._waiting_max

    def _forget(self) -> None:
        self._frames.clear()


async def frame_at(client: Connection, sequence: int) -> EventFrame | None:
    """The frame at this place of the stream, or None where it is not there, not any more or not yet.

    Raises StreamUnavailable without an answer."""
    message = await client.ask(f"$JS.API.DIRECT.GET.{EVENTS}", msgspec.json.encode({"seq": sequence}))
    headers = message.headers or {}
    match headers.get("Status"):
        case None:
            return EventFrame(sequence, headers.get("Nats-Subject", ""), message.data)
        case "404":
            return None
        case status:
            raise StreamUnavailable(f"{status} {headers.get('Description', '')}")
