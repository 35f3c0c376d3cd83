"""The lean publisher: many messages on their way at once, a few microseconds each.

Acknowledgements come back on one subscription whose last subject token is a counter. A message costs no task, no
random id, no timer and no future of its own: a call has one future, and one sweep per quarter second fails what
passed its deadline. Messages of one call are written in order, calls one after the other. Nothing is written while
disconnected, and losing the server fails everything unacknowledged at once, because no late answer will come.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from zentra.runtime.stream_ports import Outgoing, StreamError
from zentra.streams.connection import Connection, Hook
from zentra.streams.errors import StreamUnavailable, failure_of_answer, failure_of_exception

__all__ = ["Publisher", "PublisherStatistics"]

# Enough to cover a round trip at 100,000 messages a second forty times over, small against the server's buffers.
_WINDOW = 4096
_DEADLINE_S = 2.0
_SWEEP_S = 0.25


class PublisherStatistics(msgspec.Struct, frozen=True):
    """Counts since the publisher was made, and what is unacknowledged now."""

    published: int
    duplicates: int
    failed: int
    in_flight: int


class _AckError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    error: _AckError | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


class _Call:
    """One `publish` on its way: the results so far and how many are missing."""

    __slots__ = ("done", "missing", "results")

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self.results: list[StreamError | None] = [None] * size
        self.missing = size
        self.done = done

    def settle(self, index: int, failure: StreamError | None) -> None:
        self.results[index] = failure
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class Publisher:
    """Publishes into the streams over one connection; `start` it first, `close` it last."""

    def __init__(self, client: Connection, *, window: int = _WINDOW, deadline_s: float = _DEADLINE_S) -> None:
        self._client = client
        self._window = window
        self._deadline_s = deadline_s
        # In the order written, hence also in the order of their deadlines.
        self._pending: dict[str, tuple[_Call, int, float]] = {}
        self._numbers = itertools.count()
        self._writing = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._subscription: Subscription | None = None
        self._remove_hooks: Hook | None = None
        self._inbox = ""
        self._prefix_length = 0
        self._published = self._duplicates = self._failed = 0

    async def start(self) -> None:
        """Subscribes to the acknowledgements. Raises StreamUnavailable when there is no connection."""
        self._inbox = self._client.new_inbox() + "."
        self._prefix_length = len(self._inbox)
        try:
            # Limit 0 is no limit: beyond nats-py's own, acknowledgements would be dropped. The window bounds them.
            self._subscription = await self._client.subscribe(
                self._inbox + "*", cb=self._acknowledged, pending_msgs_limit=0, pending_bytes_limit=0
            )
        except nats.errors.Error as error:
            raise failure_of_exception(error) from error
        self._remove_hooks = self._client.add_hooks(on_disconnect=self._disconnected)

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        """One result per message, in order: None when stored (now or earlier under this id), else the failure."""
        if not messages:
            return []
        call = _Call(len(messages), asyncio.get_running_loop().create_future())
        async with self._writing:
            await self._write(call, messages)
        if call.missing:
            await call.done
        return call.results

    async def close(self) -> None:
        """Fails what is unacknowledged and forgets the subscription; the connection stays open."""
        if self._remove_hooks is not None:
            self._remove_hooks()
            self._remove_hooks = None
        subscription, self._subscription = self._subscription, None
        self._fail_all("publisher closed")
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if subscription is not None and not self._client.is_closed:
            await subscription.unsubscribe()

    def statistics(self) -> PublisherStatistics:
        """What was published, how often the stream knew the id already, what failed, what is on its way."""
        return PublisherStatistics(self._published, self._duplicates, self._failed, len(self._pending))

    async def _write(self, call: _Call, messages: Sequence[Outgoing]) -> None:
        client, pending, inbox, publish = self._client, self._pending, self._inbox, self._client.publish
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline_s
        for index, message in enumerate(messages):
            if len(pending) >= self._window:
                await self._wait_room()
                deadline = loop.time() + self._deadline_s
            if self._subscription is None or not client.is_connected:
                self._failed += 1
                call.settle(index, StreamUnavailable("disconnected"))
                continue
            number = str(next(self._numbers))
            pending[number] = (call, index, deadline)
            try:
                await publish(message.subject, message.body, inbox + number, {"Nats-Msg-Id": message.id})
            except (nats.errors.Error, TimeoutError, OSError) as error:
                self._settle(number, failure_of_exception(error))
        self._published += len(messages)
        if pending and self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_S, self._expire)

    async def _wait_room(self) -> None:
        # The deadline sweep empties the window sooner or later, so this wait is bounded.
        while len(self._pending) >= self._window:
            loop = asyncio.get_running_loop()
            if self._sweep is None:
                self._sweep = loop.call_later(_SWEEP_S, self._expire)
            self._room = loop.create_future()
            await self._room

    async def _acknowledged(self, message: Msg) -> None:
        entry = self._pending.pop(message.subject[self._prefix_length :], None)
        if entry is None:
            return
        data = message.data
        failure: StreamError | None = None
        if not data:
            # The server itself answers without a body when nobody listens on the subject.
            failure = StreamUnavailable("no responders")
        elif b'"error"' in data:
            error = _decode_ack(data).error
            if error is not None:
                failure = failure_of_answer(error.code, error.err_code, error.description)
        elif b'"duplicate"' in data:
            self._duplicates += 1
        if failure is not None:
            self._failed += 1
        entry[0].settle(entry[1], failure)
        if self._room is not None and len(self._pending) <= self._window // 2:
            self._make_room()

    def _settle(self, number: str, failure: StreamError) -> None:
        entry = self._pending.pop(number, None)
        if entry is not None:
            self._failed += 1
            entry[0].settle(entry[1], failure)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for number, (_, _, deadline) in list(self._pending.items()):
            if deadline > now:
                break
            self._settle(number, StreamUnavailable("no acknowledgement in time"))
        self._make_room()
        self._sweep = loop.call_later(_SWEEP_S, self._expire) if self._pending else None

    def _disconnected(self) -> None:
        self._fail_all("disconnected")

    def _fail_all(self, reason: str) -> None:
        for number in list(self._pending):
            self._settle(number, StreamUnavailable(reason))
        self._make_room()

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
