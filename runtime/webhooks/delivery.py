"""The webhook delivery actor: one event on its way to one endpoint.

Theory of operation. A delivery waits (`pending`), is under way (`delivering`: committed before the socket opens), waits
for its next try (`retrying`), and ends `delivered` or `exhausted`. An attempt whose result was lost is still
`delivering` after a takeover and is sent again: a webhook is delivered at least once, under one id and with the same
bytes. A replay starts the schedule anew from either end.

What is for an endpoint that is disabled waits, as `pending` or as `retrying` without a next time: nothing ends for it
but what it was sent already. It goes on when the endpoint is enabled, and is given up when the endpoint is deleted."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct

from zentra.runtime.errors import IllegalFact

__all__ = [
    "ENDPOINT_DISABLED",
    "ENDPOINT_ENABLED",
    "OF_ENDPOINTS",
    "OPEN",
    "TELL_OF_ENDPOINT",
    "UNTOLD",
    "Delivery",
    "DeliveryFact",
    "DeliveryState",
    "EndpointSwitched",
    "is_told",
    "move",
]


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERING = "delivering"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"


class DeliveryFact(StrEnum):
    """What can happen to a delivery."""

    STARTED = "started"
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    GIVEN_UP = "given_up"
    REPLAYED = "replayed"


S, F = DeliveryState, DeliveryFact
# They tell of deliveries and packets themselves: an endpoint that got them would be told of being told. And whoever
# asked for an intent was answered that it is accepted.
UNTOLD: Final = ("webhook.", "money_runtime.", "evidence.", "review.closed", "ingress.")
ENDPOINT_DISABLED: Final = "webhook.endpoint_disabled"
ENDPOINT_ENABLED: Final = "webhook.endpoint_enabled"
OF_ENDPOINTS: Final = (ENDPOINT_DISABLED, ENDPOINT_ENABLED)  # what the tenant's other endpoints have to hear of
OPEN: Final = frozenset({S.PENDING, S.DELIVERING, S.RETRYING})

# A table is read down its columns.
# fmt: off
MOVES: Final[Mapping[tuple[DeliveryState, DeliveryFact], DeliveryState]] = {
    (S.PENDING,    F.STARTED):      S.DELIVERING,
    (S.RETRYING,   F.STARTED):      S.DELIVERING,
    (S.DELIVERING, F.STARTED):      S.DELIVERING,   # the result of the attempt before was lost
    (S.DELIVERING, F.ACKNOWLEDGED): S.DELIVERED,
    (S.DELIVERING, F.FAILED):       S.RETRYING,
    (S.DELIVERING, F.GIVEN_UP):     S.EXHAUSTED,
    (S.PENDING,    F.REPLAYED):     S.PENDING,
    (S.RETRYING,   F.REPLAYED):     S.PENDING,
    (S.DELIVERED,  F.REPLAYED):     S.PENDING,
    (S.EXHAUSTED,  F.REPLAYED):     S.PENDING,
}
# fmt: on


class Delivery(Struct, kw_only=True):
    """The data of a delivery; a tick works on a copy."""

    id: str
    tenant: str
    endpoint: str
    intent: str
    event: str
    body: bytes
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0  # over the whole life, so attempt numbers never repeat
    tries: int = 0  # since it was made or last replayed: the place in the schedule
    trigger: str = "automatic"  # what started the schedule: automatic, manual (one was asked for), replay (many were)
    begun: bool = True  # False where only the body is stored: its lane has not taken it in
    actor: str = ""  # who has asked for it to be sent again
    sequence: int = 0  # its place among all that its endpoint gets; 0 before its lane has taken it in
    next_at: datetime | None = None  # before that it is not tried again; None where it is not waiting for a time


TELL_OF_ENDPOINT: Final = "tell_of_endpoint"
"""The command, on the intent that the endpoint was last told of, that tells of what somebody did to the endpoint."""


class EndpointSwitched(Struct, frozen=True):
    """The body of that command: the endpoint, whether it is called now, and what it last met, of which delivery."""

    endpoint: str
    enabled: bool
    delivery: str
    event: str
    attempts: int
    status_code: int | None = None
    error: str | None = None


def is_told(topic: str) -> bool:
    """Return whether endpoints hear of events of this topic."""
    return not topic.startswith(UNTOLD) or topic in OF_ENDPOINTS


def move(state: DeliveryState, fact: DeliveryFact) -> DeliveryState:
    """Return the state that `fact` leads to; raise IllegalFact for a pair that the table does not hold."""
    after = MOVES.get((state, fact))
    if after is None:
        raise IllegalFact(state, fact)
    return after
