"""Reading the dead letters: what was set aside, why, and the frame as it was, in the order in which it happened.

- The stream forgets its oldest letters by age and size; a letter that cannot be read is still shown, without a frame.
- A letter is named by its place in the stream for people, and by its message id for everything that is derived from it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Final

import msgspec

from zentra.runtime.subjects import DEAD, DEAD_SUBJECTS, parse_dead_subject
from zentra.streams.connection import Connection
from zentra.streams.errors import StreamUnavailable

__all__ = ["DeadLetter", "dead_letter", "dead_letters"]

_NONE_FOUND: Final = ("404", "408")


class DeadLetter(msgspec.Struct, frozen=True):
    """One letter. `cause` is the id of the message that held the frame, `case` that of the case it opened (empty in
    letters from before it was told); an unreadable letter has an empty stage."""

    sequence: int
    id: str
    at: datetime
    partition: int
    stage: str
    reason: str
    cause: str
    frame: bytes
    case: str = ""


class _Body(msgspec.Struct):
    reason: str
    stage: str
    cause: str
    frame: str
    case: Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{32})?\Z")] = ""


async def dead_letters(client: Connection, after: int = 0) -> AsyncIterator[DeadLetter]:
    """Yield the letters behind a place in the stream, oldest first; raises StreamUnavailable."""
    while (letter := await _next(client, after + 1)) is not None:
        yield letter
        after = letter.sequence


async def dead_letter(client: Connection, sequence: int) -> DeadLetter | None:
    """Return the letter at this place, or None where there is none; raises StreamUnavailable."""
    letter = await _next(client, sequence)
    return letter if letter is not None and letter.sequence == sequence else None


async def _next(client: Connection, sequence: int) -> DeadLetter | None:
    """Return the first letter at or behind a place."""
    asked = msgspec.json.encode({"seq": sequence, "next_by_subj": DEAD_SUBJECTS})
    answer = await client.ask(f"$JS.API.DIRECT.GET.{DEAD}", asked)
    headers = answer.headers or {}
    if "Nats-Sequence" not in headers:
        status = headers.get("Status", "")
        if status in _NONE_FOUND:
            return None
        raise StreamUnavailable(f"direct get answered {status}")
    _, partition = parse_dead_subject(headers["Nats-Subject"])
    place = int(headers["Nats-Sequence"])
    at = msgspec.convert(headers["Nats-Time-Stamp"], datetime)
    name = headers.get("Nats-Msg-Id", f"{place}/{headers['Nats-Time-Stamp']}")
    try:
        body = msgspec.json.decode(answer.data, type=_Body)
        frame = bytes.fromhex(body.frame)
    except (msgspec.MsgspecError, ValueError):
        return DeadLetter(place, name, at, partition, "", "the letter itself cannot be read", "", b"")
    return DeadLetter(place, name, at, partition, body.stage, body.reason, body.cause, frame, body.case)
