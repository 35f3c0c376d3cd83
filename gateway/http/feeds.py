"""Where streams of events come from: the records of one intent, and everything that happens to a tenant's intents.

An intent's stream is read from the store, which is complete and in order; the tail of the event stream only says when
to look, and should it be lost there is a look at every heartbeat. Its ids are the sequences of the records.

A tenant's stream is read from the event stream, where the place of each frame is an order of everything that is made.
Its ids are such places, sealed like the cursors of lists. Whoever comes back begins some frames earlier, without being
told of them again, to know which records of an intent come next.

- Nothing between the last id and what is live is missed. Where that cannot be promised any more, because the event
  stream has forgotten the place or lost its end, the answer is `events_gone`: read the lists, then begin anew.
- A reader that begins at a place costs the server one consumer, and nobody anything when there is none.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from zlib import crc32

import msgspec
from msgspec import Raw, Struct

from zentra.gateway.http.lists import Cursors
from zentra.gateway.http.ordering import Order, Turn
from zentra.gateway.http.problems import Problem
from zentra.gateway.http.streaming import HEARTBEAT_SECONDS, StreamEvent
from zentra.gateway.http.waiting import IntentWaiters
from zentra.runtime.errors import Unavailable

__all__ = ["EventPlaces", "FeedPlace", "Frame", "FrameReader", "IntentSource", "TenantSource"]

_log = logging.getLogger(__name__)

RECORDS_AT_ONCE: Final = 100
REWOUND_FRAMES: Final = 500  # of all tenants; the frames of one tick lie side by side, and are some dozens
EVENTS_AT_ONCE: Final = 512  # two frames at their largest
_SEQUENCE: Final = re.compile(r"[0-9]{1,9}\Z")
_PATH: Final = "/runtime/events"
_ALL: Final = 2**31 - 1  # records of a frame

ReadRecords = Callable[[str, int, int], Awaitable[Sequence[bytes]]]
"""The records of an intent of the tenant: those after a sequence, at most so many, in order."""


class _Head(Struct):
    """What has to be known of a record to tell it."""

    intent: str
    sequence: int
    event: str


_head: Final = msgspec.json.Decoder(_Head).decode
_records: Final = msgspec.json.Decoder(list[Raw]).decode


def _told(id: str, record: bytes) -> StreamEvent:
    return StreamEvent(id, _head(record).event, record)


class IntentSource:
    """The records of one intent, those that there are and those to come."""

    def __init__(self, intent: str, last_id: str | None, read: ReadRecords, waiters: IntentWaiters) -> None:
        """`last_id` is the `Last-Event-ID` given. Raises Problem `event_id_malformed` for one that is no sequence."""
        if last_id is not None and not _SEQUENCE.match(last_id):
            raise Problem("event_id_malformed")
        self._intent, self._read, self._waiters = intent, read, waiters
        self._last = int(last_id or 0)
        self._news: asyncio.Event | None = None

    async def open(self) -> list[StreamEvent]:
        """Begin with nothing: what there is comes first."""
        self._news = await self._waiters.watch(self._intent)
        return []

    async def next(self) -> list[StreamEvent]:
        """Return the records behind the last that was told, when there are any."""
        assert self._news is not None, "only a source that was opened is read"
        while True:
            self._news.clear()
            records = await self._read(self._intent, self._last, RECORDS_AT_ONCE)
            if records:
                events = [StreamEvent(str((head := _head(record)).sequence), head.event, record) for record in records]
                self._last = int(events[-1].id)
                return events
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue  # the tail may have lost its server: the store has not

    async def aclose(self) -> None:
        """Wait no longer."""
        if self._news is not None:
            self._waiters.unwatch(self._intent, self._news)
            self._news = None


class FeedPlace(Struct, frozen=True, array_like=True):
    """All frames before this one were told, and of it the first `told` records; `check` tells frames apart."""

    sequence: int
    told: int
    check: int


class Frame(Protocol):
    """A frame of the event stream."""

    @property
    def sequence(self) -> int:
        """Its place."""
        ...

    @property
    def body(self) -> bytes:
        """A JSON array of records."""
        ...


class FrameReader(Protocol):
    """Hands out the frames of a tenant behind a place."""

    async def start(self) -> None:
        """Begin to read."""
        ...

    async def next(self) -> Frame:
        """Wait for the next frame."""
        ...

    async def stop(self) -> None:
        """Read no more."""
        ...


class EventStreamPort(Protocol):
    """The event stream, as streams.feed and streams.topology have it."""

    async def bounds(self) -> tuple[int, int]:
        """Return the first and the last place that are kept. Raises Unavailable."""
        ...

    async def frame(self, sequence: int) -> Frame | None:
        """Return the frame at a place, whoever's it is, or None. Raises Unavailable."""
        ...

    def reader(self, tenant: str, after: int) -> FrameReader:
        """Return a reader of the tenant's frames behind a place."""
        ...


class EventPlaces:
    """Seals the places of tenants' streams into ids."""

    def __init__(self, installation_secret: bytes) -> None:
        self._cursors = Cursors(installation_secret)

    def seal(self, tenant: str, place: FeedPlace) -> str:
        """Return the id of a place in the tenant's stream."""
        return self._cursors.seal(tenant, _PATH, {}, place)

    def open(self, tenant: str, id: str) -> FeedPlace:
        """Return the place; raise Problem `event_id_malformed` for what is no id of the tenant's."""
        try:
            return self._cursors.open(tenant, _PATH, {}, id, FeedPlace)
        except Problem:
            raise Problem("event_id_malformed") from None


class TenantSource:
    """Everything that happens to the intents of a tenant, from a place or from now on."""

    def __init__(
        self, tenant: str, last_id: str | None, stream: EventStreamPort, places: EventPlaces, read: ReadRecords
    ) -> None:
        """`last_id` is the `Last-Event-ID` given. Raises Problem `event_id_malformed`."""
        self._tenant, self._stream, self._places, self._read = tenant, stream, places, read
        self._from = None if last_id is None else places.open(tenant, last_id)
        self._order = Order()
        self._reader: FrameReader | None = None

    async def open(self) -> list[StreamEvent]:
        """Begin; where the client named no place, tell it the one that it begins at.

        Raises Problem `events_gone` and Unavailable."""
        first, last = await self._stream.bounds()
        place = self._from
        if place is None:
            frame = await self._stream.frame(last) if last >= first else None
            await self._start(last)
            return [StreamEvent(self._places.seal(self._tenant, FeedPlace(last, _ALL, _check(frame))))]
        if not first - 1 <= place.sequence <= last or _check(await self._stream.frame(place.sequence)) != place.check:
            raise Problem("events_gone")
        await self._start(max(first - 1, place.sequence - REWOUND_FRAMES))
        return []

    async def next(self) -> list[StreamEvent]:
        """Return the events of the next frame that has any to tell."""
        assert self._reader is not None, "only a source that was opened is read"
        while True:
            events = await self._told(await self._reader.next())
            if events:
                return events

    async def aclose(self) -> None:
        """Read no more."""
        if self._reader is not None:
            await self._reader.stop()
            self._reader = None

    async def _start(self, after: int) -> None:
        self._reader = self._stream.reader(self._tenant, after)
        await self._reader.start()

    async def _told(self, frame: Frame) -> list[StreamEvent]:
        try:
            records = [bytes(record) for record in _records(frame.body)]
            heads = [_head(record) for record in records]
        except msgspec.MsgspecError:
            _log.error("event frame cannot be read", extra={"tenant": self._tenant, "sequence": frame.sequence})
            return []
        check, events = _check(frame), list[StreamEvent]()
        if self._from is not None and frame.sequence > self._from.sequence:
            self._from = None  # from here on all is new, also should the stream lose its end and number anew
        start = self._from
        for number, (head, record) in enumerate(zip(heads, records, strict=True)):
            if start is not None and (frame.sequence, number) < (start.sequence, start.told):
                self._order.note(head.intent, head.sequence)
                continue
            turn, before = self._order.turn(head.intent, head.sequence)
            if turn is Turn.FILL:
                id = self._places.seal(self._tenant, FeedPlace(frame.sequence, number, check))
                events += await self._between(id, head.intent, before, head.sequence)
            if turn is not Turn.DROP:
                id = self._places.seal(self._tenant, FeedPlace(frame.sequence, number + 1, check))
                events.append(StreamEvent(id, head.event, record))
        return events

    async def _between(self, id: str, intent: str, after: int, before: int) -> list[StreamEvent]:
        """Return the records in between, under the id of the place before the one that called for them."""
        missing = await self._read(intent, after, before - after - 1)
        if len(missing) != before - after - 1:
            raise Unavailable("records are not to be seen yet")  # the client comes back to the same place
        return [_told(id, record) for record in missing]


def _check(frame: Frame | None) -> int:
    return 0 if frame is None else crc32(frame.body)
