"""Server-sent events, read as they come in pieces (WHATWG HTML, 9.2.6); nothing here waits or opens a socket.

- Lines end with a line feed, a carriage return or both, also where a piece ends in between.
- An event without data is an id to remember and is told as such; comments are not told.
- What cannot be an event of ours, because it never ends, is refused before it fills the memory."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from zentra.client.errors import APIResponseError
from zentra.client.models import Record, StreamEvent

__all__ = ["EventParser", "ServerEvent", "stream_event"]

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX = 2.0, 60.0
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_record: Final = msgspec.json.Decoder(Record, strict=False).decode


class ServerEvent(NamedTuple):
    """One event; without data it only tells the id to go on behind."""

    id: str
    name: str
    data: bytes


class EventParser:
    """Reads one answer; `retry_seconds` is how long to wait before coming back when it breaks off."""

    def __init__(self, last_id: str | None) -> None:
        self.retry_seconds = RETRY_SECONDS_FIRST
        self._id, self._told = last_id or "", last_id or ""
        self._name, self._data = "", list[bytes]()
        self._rest, self._size, self._begun = b"", 0, False

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Return the events that are complete with this piece. Raises APIResponseError for one without end."""
        data = self._rest + piece
        if not self._begun and len(data) >= len(_BOM):
            self._begun, data = True, data.removeprefix(_BOM)
        events: list[ServerEvent] = []
        start = 0
        for end in _LINE_END.finditer(data):
            if end[0] == b"\r" and end.end() == len(data):
                break  # its line feed may be in the next piece
            self._line(data[start : end.start()], events)
            start = end.end()
        self._rest = data[start:]
        if self._size + len(self._rest) > EVENT_BYTES_MAX:
            raise APIResponseError("an event of the stream does not end")
        return events

    def _line(self, line: bytes, events: list[ServerEvent]) -> None:
        if not line:
            if self._data or self._id != self._told:
                events.append(ServerEvent(self._id, self._name, b"\n".join(self._data)))
            self._told, self._name, self._size = self._id, "", 0
            self._data.clear()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(line)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry_seconds = min(int(value[:9]) / 1000, RETRY_SECONDS_MAX)


def stream_event(event: ServerEvent) -> StreamEvent:
    """Return what an event with data tells. Raises APIResponseError for one that is not ours."""
    try:
        record = _record(event.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise APIResponseError(f"an event of the stream is not a record: {error}") from error
    return StreamEvent(event.id, event.name or record.event, record)
