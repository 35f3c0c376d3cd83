"""What a tick is given: the events of the frames that arrived, and what it was told of timers.

Invariant. The place of a frame comes with the last of its events, so nothing is consumed in part."""

import msgspec

from zentra.actors.tick import Input, Tick
from zentra.runtime.messages import TimerFired, decode_frame
from zentra.runtime.stream_ports import Inbound, Position

__all__ = ["told_of", "unpack"]


def unpack(message: Inbound) -> list[tuple[Input, Position | None]]:
    """Return the events of a frame; the last comes with the position at which all of it is consumed.

    A frame that is none, or holds nothing, is an event by itself: it is set aside, and its place is passed."""
    position = Position(message.sequence, message.id)
    try:
        events = decode_frame(message.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        events = []
    if not events:
        return [(Input(message.partition, message.stage, None, message.id, message.body), position)]
    last = len(events) - 1
    return [
        (Input(message.partition, message.stage, event, message.id), position if number == last else None)
        for number, event in enumerate(events)
    ]


def told_of(tick: Tick) -> list[tuple[int, tuple[str, str, str]]]:
    """Return the (partition, key) of the timers that a tick was told of, but for those it was refused."""
    return [
        (entry.partition, (entry.event.kind, entry.event.key, entry.event.name))
        for entry in tick.batch.inputs
        if isinstance(entry.event, TimerFired) and entry.partition not in tick.lost
    ]
