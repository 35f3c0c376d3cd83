"""The events that stages send each other, and the frames that carry them.

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
    "AttemptReported",
    "CommandGiven",
    "DeliveryDue",
    "DeliverySettled",
    "Due",
    "Event",
    "LaneOpened",
    "LeafDue",
    "Opening",
    "RailReported",
    "TimerFired",
    "decode_frame",
    "encode_frame",
]

STAGES: Final = ("policy", "ledger", "route", "callback", "command", "webhook", "sync", "evidence", "log")


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
    """A packet was sealed: its leaf belongs into the tenant's log."""

    tenant: str
    intent: str
    data: bytes


class TimerFired(Struct, frozen=True, gc=False, array_like=True, tag="timer"):
    """A timer is due. It never crosses a stream: the owner of the partition feeds it to its own tick."""

    kind: str
    key: str
    name: str
    tenant: str


class LaneOpened(Struct, frozen=True, gc=False, array_like=True, tag="lane"):
    """A worker took over the partition of an endpoint and looks after its open deliveries. Never crosses a stream."""

    tenant: str
    endpoint: str


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


def encode_frame(events: list[Event]) -> bytes:
    """Return the bytes of a frame."""
    return _encode(events)


def decode_frame(data: bytes) -> list[Event]:
    """Return the events of a frame; raise msgspec.DecodeError or ValidationError where the bytes hold none."""
    return _decode(data)
