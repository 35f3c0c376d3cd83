"""The events that stages send each other, the frames that carry them, and what workers say of their load.

A frame is a msgpack array of events of one partition and one stage. Events are frozen tagged Structs in array form: new
fields come last and have defaults, no field changes its type. An event that a transaction has to answer in one certain
state carries the version (sequence) it was sent at; the actor ignores those it has passed."""

from typing import Final

import msgspec
from msgspec import Struct

from zentra.runtime.intents.facts import Delivered
from zentra.runtime.rails.port import RailOutcome
from zentra.runtime.webhooks.standard import AttemptResult

__all__ = [
    "STAGES",
    "UNSENT",
    "AttemptReported",
    "CommandGiven",
    "DeliveryDue",
    "DeliverySettled",
    "Due",
    "Event",
    "LaneOpened",
    "LeafDue",
    "Load",
    "Opening",
    "RailReported",
    "TimerFired",
    "callback_cause",
    "decode_frame",
    "decode_load",
    "encode_frame",
    "encode_load",
]

STAGES: Final = ("policy", "ledger", "route", "callback", "command", "webhook", "sync", "evidence", "log")


UNSENT: Final = "unsent"
"""What the cause of a report begins with where the worker itself says that a first submission was not sent; the epoch
of its partition follows: as long as that is in force nobody else can have submitted it either."""


class Opening(Struct, frozen=True, gc=False, array_like=True):
    """The first record of an intent and its hash: enough to start its actor without asking the store."""

    record: bytes
    hash: bytes


class Due(Struct, frozen=True, gc=False, array_like=True, tag="due"):
    """A transaction stands at `version` and what its state asks for is due; the stage of the subject says where."""

    intent: str
    tenant: str
    version: int
    opening: Opening | None = None


class RailReported(Struct, frozen=True, gc=False, array_like=True, tag="rail"):
    """A rail said something about a reference: by callback, by poll or as the answer to a submission."""

    outcome: RailOutcome
    cause: str


def callback_cause(event_id: str) -> str:
    """Return what a callback is called as the cause of records: partners choose their ids, and none is ours."""
    return f"callback/{event_id}"


class CommandGiven(Struct, frozen=True, gc=False, array_like=True, tag="command"):
    """Somebody asks something of an existing object; committed as a fact before it was sent.

    `intent` is the intent that it may move where `subject` names something else."""

    command: str
    tenant: str
    kind: str
    subject: str
    principal: str
    role: str
    body: bytes
    intent: str = ""


class DeliveryDue(Struct, frozen=True, gc=False, array_like=True, tag="delivery"):
    """An event matched an endpoint; the body is fixed."""

    delivery: str
    tenant: str
    endpoint: str
    intent: str
    event: str
    body: bytes


class AttemptReported(Struct, frozen=True, gc=False, array_like=True, tag="attempt"):
    """An attempt to deliver a webhook has ended."""

    tenant: str
    endpoint: str
    result: AttemptResult


class DeliverySettled(Struct, frozen=True, gc=False, array_like=True, tag="settled"):
    """A delivery changed its standing; its transaction keeps that as a fact."""

    intent: str
    tenant: str
    topic: str
    facts: Delivered


class LeafDue(Struct, frozen=True, gc=False, array_like=True, tag="leaf"):
    """A packet was sealed: its leaf belongs into the tenant's log. One that is handed over `again` is there already,
    unless the frame that brought it was lost."""

    tenant: str
    intent: str
    data: bytes
    again: bool = False


class TimerFired(Struct, frozen=True, gc=False, array_like=True, tag="timer"):
    """A timer is due. The owner of the partition feeds it to its own tick; over a stream somebody else asks for a look
    at it: one that is not due arms itself again."""

    kind: str
    key: str
    name: str
    tenant: str


class LaneOpened(Struct, frozen=True, gc=False, array_like=True, tag="lane"):
    """A worker took over the partition of an endpoint and looks after its open deliveries. Never crosses a stream."""

    tenant: str
    endpoint: str


class Load(Struct, frozen=True, gc=False, array_like=True):
    """How many events wait for a tick of a worker. Advice and no event: whoever misses it loses speed and nothing else.

    Counted are those in its queues, in the buffer of its source, and, estimated, those that the stream has for it."""

    worker: str
    waiting: int


Event = (
    Due
    | RailReported
    | CommandGiven
    | DeliveryDue
    | AttemptReported
    | DeliverySettled
    | LeafDue
    | TimerFired
    | LaneOpened
)

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Event]).decode
_decode_load: Final = msgspec.msgpack.Decoder(Load).decode


def encode_frame(events: list[Event]) -> bytes:
    """Return the bytes of a frame."""
    return _encode(events)


def decode_frame(data: bytes) -> list[Event]:
    """Return the events of a frame; raise msgspec.DecodeError or ValidationError where the bytes hold none."""
    return _decode(data)


def encode_load(load: Load) -> bytes:
    """Return the bytes of a load report."""
    return _encode(load)


def decode_load(data: bytes) -> Load:
    """Return a load report; raise msgspec.DecodeError or ValidationError where the bytes hold none."""
    return _decode_load(data)
