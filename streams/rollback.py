"""The rollback guard: does the store still hold what a position says was consumed?

A server that loses its unsynced tail (power loss, an old disk image) continues with sequences it has given out
before. A position is believed only when the message at its sequence carries the id consumed there, or when that
message was trimmed in the regular way. Replicas may lag behind, so a doubt raised by whichever server answered
first is put to the leader before it counts.

What a loss left is told by the time that every message carries: it ends with the last one stored by the moment when
the stream was known to be whole, however many were added since. Both times are the server's.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from zentra.runtime.stream_ports import Position
from zentra.runtime.subjects import COMMAND_SUBJECTS, COMMANDS
from zentra.streams.connection import Connection
from zentra.streams.errors import StreamRefused, StreamUnavailable
from zentra.streams.topology import StreamState, stream_state

__all__ = ["end_of_commands", "last_stored", "partitions_rolled_back"]

_NO_MESSAGE_FOUND = 10037
_ID_HEADER = b"nats-msg-id:"


class _Stored(msgspec.Struct):
    seq: int = 0
    hdrs: str = ""


class _StoredAnswer(msgspec.Struct):
    message: _Stored


class _State(msgspec.Struct):
    first_seq: int
    last_seq: int


class _Info(msgspec.Struct):
    """The part of what is said of a stream that is read here; `ts` is the server's time."""

    ts: datetime
    state: _State


async def partitions_rolled_back(client: Connection, positions: Mapping[int, Position]) -> list[int]:
    """The partitions, sorted, whose position the store contradicts.

    Raises StreamError when the store cannot be asked.
    """
    distinct = {position for position in positions.values() if position.sequence > 0}
    confirmed = await asyncio.gather(*(_is_stored(client, position) for position in distinct))
    doubted = [position for position, stored in zip(distinct, confirmed, strict=True) if not stored]
    if not doubted:
        return []
    state = await stream_state(client, COMMANDS)
    contradicted = {position for position in doubted if await _is_contradicted(client, position, state)}
    return sorted(partition for partition, position in positions.items() if position in contradicted)


async def end_of_commands(client: Connection) -> Position:
    """The last message of the command stream as its leader sees it; without one, the last sequence given out.

    Raises StreamError when the store cannot be asked.
    """
    while True:
        try:
            answer = await client.call(f"STREAM.MSG.GET.{COMMANDS}", {"last_by_subj": COMMAND_SUBJECTS}, _StoredAnswer)
        except StreamRefused as refusal:
            if refusal.code != _NO_MESSAGE_FOUND:
                raise
            state = await stream_state(client, COMMANDS)
            if state.messages:  # one has come meanwhile
                continue
            return Position(state.last, "")
        return Position(answer.message.seq, _id_of(answer.message))


async def last_stored(client: Connection, stream: str, whole_seconds: float) -> tuple[Position, float]:
    """The last message of those that were there `whole_seconds` ago, and how many seconds ago it was stored.

    Without one the position is before the first message and its time infinitely far. Raises StreamError when the store
    cannot be asked.
    """
    info = await client.call(f"STREAM.INFO.{stream}", None, _Info)
    whole = info.ts - timedelta(seconds=whole_seconds)
    low, high = info.state.first_seq, info.state.last_seq  # below low it is known to be of then, above high of later
    position, seconds = Position(max(0, low - 1), ""), math.inf
    while low <= high:
        middle = (low + high) // 2
        found = await _stored_at(client, stream, middle)
        if found is not None and found[0] > whole:
            high = middle - 1
            continue
        low = middle + 1
        if found is not None:  # else the stream has forgotten it since: it was among the oldest
            position, seconds = Position(middle, found[1]), (info.ts - found[0]).total_seconds()
    return position, seconds


async def _stored_at(client: Connection, stream: str, sequence: int) -> tuple[datetime, str] | None:
    """When a message was stored, and its id; None where there is none."""
    answer = await client.ask(f"$JS.API.DIRECT.GET.{stream}", b'{"seq":%d}' % sequence)
    headers = answer.headers or {}
    if "Nats-Time-Stamp" in headers:
        return msgspec.convert(headers["Nats-Time-Stamp"], datetime), headers.get("Nats-Msg-Id", "")
    status = headers.get("Status", "")
    if status == "404":
        return None
    raise StreamUnavailable(f"direct get answered {status}")


async def _is_stored(client: Connection, position: Position) -> bool:
    answer = await client.ask(f"$JS.API.DIRECT.GET.{COMMANDS}", b'{"seq":%d}' % position.sequence)
    headers = answer.headers or {}
    if "Nats-Sequence" in headers:
        return headers.get("Nats-Msg-Id", "") == position.id
    status = headers.get("Status", "")
    if status == "404":
        return False
    raise StreamUnavailable(f"direct get answered {status}")


async def _is_contradicted(client: Connection, position: Position, state: StreamState) -> bool:
    if position.sequence > state.last:
        return True
    if position.sequence < state.first:
        return False
    try:
        answer = await client.call(f"STREAM.MSG.GET.{COMMANDS}", {"seq": position.sequence}, _StoredAnswer)
    except StreamRefused as refusal:
        if refusal.code != _NO_MESSAGE_FOUND:
            raise
        # Between the two ends and yet not there. It may have been trimmed since the state was read.
        return position.sequence >= (await stream_state(client, COMMANDS)).first
    return _id_of(answer.message) != position.id


def _id_of(message: _Stored) -> str:
    for line in base64.b64decode(message.hdrs).split(b"\r\n"):
        if line.lower().startswith(_ID_HEADER):
            return line[len(_ID_HEADER) :].strip().decode()
    return ""
