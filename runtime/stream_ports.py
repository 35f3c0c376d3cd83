"""The ports to the command stream: what a worker publishes, what it receives, and how either side fails.

Invariants every implementation keeps:

- a source hands out the messages of one partition in the order of the stream, each at most once per `start`;
- a source never hands out a message at or below the position it was started with;
- a publisher answers every message, in the order given, with None (stored, now or earlier under the same id) or
  with the failure; it never raises for a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from zentra.runtime.messages import Load

__all__ = [
    "NOTHING_CONSUMED",
    "CommandSource",
    "EventPublisher",
    "Inbound",
    "LoadReports",
    "Loss",
    "Outgoing",
    "Position",
    "StreamError",
]


class StreamError(Exception):
    """The stream did not do what was asked; `retryable` says whether the same request may succeed later."""

    def __init__(self, sentence: str, *, retryable: bool) -> None:
        super().__init__(sentence)
        self.retryable = retryable


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message to publish; the stream drops a second message with the same id inside its dedupe window.

    `told` names the records, (intent, sequence), where the body is a JSON array of them and nothing else: the store has
    them already, so it keeps these names instead of the body. `kept`, where it is not empty, is what the store keeps of
    another body: the same events without what it has of them, for whoever has to send the message again."""

    subject: str
    body: bytes
    id: str
    told: tuple[tuple[str, int], ...] = ()
    kept: bytes = b""


class Inbound(msgspec.Struct, frozen=True, gc=False):
    """A command frame as it was stored: its place in the stream, its id, and its undecoded body."""

    partition: int
    stage: str
    sequence: int
    id: str
    body: bytes


class Position(msgspec.Struct, frozen=True, gc=False):
    """Everything of a partition up to this sequence is consumed.

    The id is that of the message stored there, which tells a store that lost its tail and reused the sequence.
    """

    sequence: int
    id: str


NOTHING_CONSUMED = Position(0, "")


class Loss(msgspec.Struct, frozen=True, gc=False):
    """What the streams may lack since a source last lost them, should they have been rolled back then.

    Of the commands of before, `left` is the last that is there; None where nothing tells. Events may be missing that
    were stored from `from_seconds` ago, which is infinite where nothing tells, until `to_seconds` ago: seconds, because
    no two machines' clocks agree on a time. `number` tells the losses of one source apart."""

    number: int
    left: Position | None
    from_seconds: float
    to_seconds: float


class EventPublisher(Protocol):
    """Writes messages into the streams."""

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        """One result per message, in order: None when it is stored, else why it is not known to be."""
        ...


class CommandSource(Protocol):
    """Delivers the command frames of the partitions one worker owns."""

    @property
    def last_delivered(self) -> Position | None:
        """Where the caller stands in the stream: everything of the owned partitions up to here was handed out.

        Any owned partition may be checkpointed here once everything handed out is committed, also one for which
        nothing arrived. None until something was handed out since `start`.
        """
        ...

    @property
    def at_end(self) -> bool:
        """Whether everything was handed out that the stream held for the owned partitions some seconds ago."""
        ...

    @property
    def frames_waiting(self) -> int:
        """How many frames wait to be taken: those that have arrived, and those that the stream held some time ago."""
        ...

    async def start(self, positions: Mapping[int, Position]) -> None:
        """Own exactly these partitions and deliver what lies behind their positions; forgets what was buffered."""
        ...

    def take_nowait(self, limit: int) -> list[Inbound]:
        """What has arrived, at most `limit` messages, in stream order; empty when nothing has."""
        ...

    async def wait_arrival(self) -> None:
        """Returns when something can be taken, or when `take_rolled_back` has something to say."""
        ...

    async def verify(self, positions: Mapping[int, Position]) -> list[int]:
        """The partitions, sorted, whose position is not what the store holds there: the store lost its tail.

        Raises StreamError when the store cannot be asked.
        """
        ...

    def take_rolled_back(self) -> set[int]:
        """The partitions found rolled back since the last call.

        While there are any the source delivers nothing: the caller rewinds those partitions and starts it again.
        """
        ...

    async def end(self) -> Position:
        """Where the stream ends now: everything whose publishing was answered before lies at or below it.

        Raises StreamError when the store cannot be asked."""
        ...

    async def loss(self) -> Loss:
        """What the streams may lack since this source last lost them, should they have been rolled back then.

        Raises StreamError when the store cannot be asked."""
        ...

    async def stop(self) -> None:
        """Delivers nothing any more; what was buffered is dropped."""
        ...


class LoadReports(Protocol):
    """Tells gateways how much waits at a worker. A report is kept nowhere and reaches whoever listens just then."""

    async def report(self, load: Load) -> None:
        """Tell it once. Raises StreamError when there is nobody to give it to; it is not sent later then."""
        ...
