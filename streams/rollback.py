"""The rollback guard: does the store still hold what a position says was consumed?

A server that loses its unsynced tail (power loss, an old disk image) continues with sequences it has given out
before. A position is believed only when the message at its sequence carries the id consumed there, or when that
message was trimmed in the regular way. Replicas may lag behind, so a doubt raised by whichever server answered
first is put to the leader before it counts.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

import msgspec

from zentra.runtime.stream_ports import Position
from zentra.runtime.subjects import COMMANDS
from zentra.streams.connection import Connection
from zentra.streams.errors import StreamRefused, StreamUnavailable
from zentra.streams.topology import StreamState, stream_state

__all__ = ["partitions_rolled_back"]

_NO_MESSAGE_FOUND = 10037
_ID_HEADER = b"nats-msg-id:"


class _Stored(msgspec.Struct):
    hdrs: str = ""


class _StoredAnswer(msgspec.Struct):
    message: _Stored


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
