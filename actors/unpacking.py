"""Frames of the stream as inputs of a tick, what of them a tick takes, and which timers it was told of.

Invariant. Only the last event of a frame carries its place: what a tick has cut is taken again whole."""

from collections import deque
from collections.abc import Container, Mapping
from typing import NamedTuple

import msgspec

from zentra.actors.relay import row_of
from zentra.actors.tick import Input, Tick
from zentra.runtime.messages import TimerFired, decode_frame
from zentra.runtime.stream_ports import Inbound, Position

__all__ = ["Cut", "Waiting", "cut", "timers_told", "unpack"]

Waiting = tuple[Input, Position | None]
"""An event, and where it is the last of a frame, the place at which all of that is consumed."""


class Cut(NamedTuple):
    """What a tick takes: events, the places behind them, and the frames that end with them, by partition and row."""

    inputs: list[Input]
    positions: dict[int, Position]
    consumed: list[tuple[int, str]]


def unpack(message: Inbound) -> list[Waiting]:
    """Return the events of a frame; the last comes with the position at which all of it is consumed.

    A frame that is none, or holds nothing, is an event by itself: it is set aside, and its place is passed."""
    position = Position(message.sequence, message.id)
    try:
        events = decode_frame(message.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        events = []
    if not events:
        return [(Input(message.partition, message.stage, None, message.id, message.body), position)]
    last, partition, stage, cause = events.pop(), message.partition, message.stage, message.id
    waiting: list[Waiting] = [(Input(partition, stage, event, cause), None) for event in events]
    waiting.append((Input(partition, stage, last, cause), position))
    return waiting


def cut(queues: Mapping[int, deque[Waiting]], busy: Container[int], limit: int) -> Cut:
    """Take at most `limit` events out of the queues of partitions that are not `busy`."""
    inputs: list[Input] = []
    positions: dict[int, Position] = {}
    consumed: list[tuple[int, str]] = []
    for partition, queue in queues.items():
        if partition in busy:
            continue
        for _ in range(min(len(queue), limit - len(inputs))):
            entry, position = queue.popleft()
            inputs.append(entry)
            if position is not None:
                positions[partition] = position
                row = row_of(position.id)
                if row is not None:
                    consumed.append((partition, row))
        if len(inputs) >= limit:
            break
    return Cut(inputs, positions, consumed)


def timers_told(tick: Tick) -> list[tuple[int, tuple[str, str, str]]]:
    """Return the (partition, key) of the timers that a tick was told of, but for those it was refused."""
    return [
        (entry.partition, (entry.event.kind, entry.event.key, entry.event.name))
        for entry in tick.batch.inputs
        if isinstance(entry.event, TimerFired) and entry.partition not in tick.lost
    ]
