"""Events and records cut into messages that the stream takes: few and large, but none that it would refuse."""

from typing import Final

from zentra.runtime.intents.transaction import Transition
from zentra.runtime.messages import Event, encode_frame

__all__ = ["FRAME_BYTES_MAX", "FRAME_EVENTS_MAX", "Told", "arrays_of", "frames_of"]

FRAME_EVENTS_MAX: Final = 256  # past some hundred a larger frame saves nothing and delays its first event
FRAME_BYTES_MAX: Final = 512 * 1024  # half of what the stream takes: a frame it refuses would be sent for ever

Told = tuple[tuple[str, int], ...]
"""The records, (intent, sequence), that a message tells of."""


def frames_of(events: list[Event]) -> list[bytes]:
    """Return the events in frames that the stream takes; one that is too large by itself stands alone."""
    if len(events) <= FRAME_EVENTS_MAX:
        body = encode_frame(events)
        if len(body) <= FRAME_BYTES_MAX or len(events) == 1:
            return [body]
    half = min(FRAME_EVENTS_MAX, (len(events) + 1) // 2)
    return frames_of(events[:half]) + frames_of(events[half:])


def arrays_of(transitions: list[Transition]) -> list[tuple[bytes, Told]]:
    """Return the records in JSON arrays that the stream takes, with their names; one that is too large stands alone."""
    if len(transitions) <= FRAME_EVENTS_MAX:
        body = b"[" + b",".join([transition.record for transition in transitions]) + b"]"
        if len(body) <= FRAME_BYTES_MAX or len(transitions) == 1:
            return [(body, tuple([(transition.intent, transition.sequence) for transition in transitions]))]
    half = min(FRAME_EVENTS_MAX, (len(transitions) + 1) // 2)
    return arrays_of(transitions[:half]) + arrays_of(transitions[half:])
