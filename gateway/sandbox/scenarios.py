"""The sandbox rail's rules: what each scenario answers, when money moves, and which callbacks follow.

It is a rail of its own, so it shares no state with the runtime; it has no clock and no socket, so the HTTP server and
the twin of the simulator play the same table. The invariants kept here:

- A reference that was accepted once is one payment for ever: a repeat counts a submit and pays nothing more (unless
  the rail is declared without idempotent references, which exists to catch a caller that submits twice).
- A rail that is unavailable still answers for what it took before; only unseen references are refused.
- The status of a payment is a function of the time asked; only `Scenario` says what that function is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

from zentra.runtime.rails.port import minor_from_text

__all__ = [
    "SCENARIOS",
    "Notice",
    "Order",
    "Payment",
    "PaymentBook",
    "RailProfile",
    "Reply",
    "ReplyKind",
    "Scenario",
    "Timings",
]

PAYMENTS_MAX = 200_000  # about 150 MB of payments, far more than a run looks back at

Moment = Literal["soon", "echo", "last", "late"]


class Planned(NamedTuple):
    """One callback of a scenario. Callbacks with one `event` label carry one event id."""

    moment: Moment
    status: str
    event: str
    extra_minor: int = 0
    stranger: bool = False  # names a reference that nobody submitted


class Scenario(NamedTuple):
    """How a payment goes: what submit says, how it ends, what is told of it."""

    hangs: bool  # submit gives no answer
    ends: str | None  # the true final status, or None where it never ends
    tells: tuple[Planned, ...]
    refuses: bool = False


# fmt: off
SCENARIOS: dict[str, Scenario] = {
    "success":              Scenario(False, "succeeded", (Planned("soon", "succeeded", "a"),)),
    "decline":              Scenario(False, "declined", (Planned("soon", "declined", "a"),)),
    "reject":               Scenario(False, "rejected", (), refuses=True),
    "timeout_then_success": Scenario(True, "succeeded", (Planned("late", "succeeded", "a"),)),
    "late_success":         Scenario(False, "succeeded", (Planned("late", "succeeded", "a"),)),
    "never_answers":        Scenario(True, None, ()),
    "silent":               Scenario(False, None, ()),
    "duplicate_callback":   Scenario(False, "succeeded", (Planned("soon", "succeeded", "a"),
                                                          Planned("echo", "succeeded", "a"),
                                                          Planned("last", "succeeded", "b"))),
    "out_of_order":         Scenario(False, "succeeded", (Planned("soon", "succeeded", "b"),
                                                          Planned("echo", "pending", "a"))),
    "contradictory_amount": Scenario(False, "succeeded", (Planned("soon", "succeeded", "a", extra_minor=1),)),
    "contradictory_status": Scenario(False, "succeeded", (Planned("soon", "succeeded", "a"),
                                                          Planned("echo", "declined", "b"))),
    "unknown_reference":    Scenario(False, "succeeded", (Planned("soon", "succeeded", "s", stranger=True),
                                                          Planned("echo", "succeeded", "a"))),
}
# fmt: on


class Timings(msgspec.Struct, frozen=True):
    """When the moments of a scenario come, in seconds after the submit."""

    soon_seconds: float = 0.02
    echo_seconds: float = 0.06
    last_seconds: float = 0.1
    late_seconds: float = 6.0  # beyond the 5 s that a submit waits by default
    hang_seconds: float = 30.0  # then even a submit that hangs is dropped

    def at(self, moment: Moment) -> float:
        """Return the delay of a moment after the submit."""
        match moment:
            case "soon":
                return self.soon_seconds
            case "echo":
                return self.echo_seconds
            case "last":
                return self.last_seconds
            case "late":
                return self.late_seconds


class RailProfile(msgspec.Struct, frozen=True):
    """How one rail of the sandbox behaves where a submit does not say otherwise."""

    secret: str
    scenario: str = "success"
    idempotent: bool = True
    not_found_seconds: float = 0.0  # for so long a lookup denies a payment that exists
    timings: Timings = Timings()


class Order(msgspec.Struct, frozen=True):
    """The body of a submit. `amount` is a string of minor units."""

    reference: str
    amount: str
    currency: str
    destination: str
    callback_url: str
    scenario: str | None = None


class Payment(msgspec.Struct):
    """One payment that this rail took; times are those of the caller's clock."""

    order: Order
    scenario: str
    provider_reference: str
    taken_at: float
    ends_at: float
    submits: int = 1
    payouts: int = 1  # how often the money would move when it moves

    def status(self, now: float) -> str:
        """Return the true status at `now`."""
        ends = SCENARIOS[self.scenario].ends
        return ends if ends is not None and now >= self.ends_at else "pending"

    def paid(self, now: float) -> int:
        """Return how often money has moved for this reference."""
        return self.payouts if self.status(now) == "succeeded" else 0


class Notice(NamedTuple):
    """One callback to be made `delay` seconds after the submit."""

    delay: float
    event_id: str
    reference: str
    status: str
    amount: str


class ReplyKind(StrEnum):
    """What a submit meets."""

    TAKEN = "taken"  # a new payment: its callbacks are to be planned
    REPEATED = "repeated"
    REFUSED = "refused"
    CONFLICT = "conflict"  # the reference is taken by another body
    UNAVAILABLE = "unavailable"
    MALFORMED = "malformed"


class Reply(NamedTuple):
    """The answer to one submit; `hangs` means that the caller must not hear it."""

    kind: ReplyKind
    payment: Payment | None = None
    hangs: bool = False


class PaymentBook:
    """All payments of one rail, bounded; the oldest finished one is dropped first."""

    def __init__(self, rail: str, profile: RailProfile, payments_max: int = PAYMENTS_MAX) -> None:
        """Raises ValueError when the profile names a scenario that does not exist."""
        if profile.scenario not in SCENARIOS:
            raise ValueError(f"no scenario {profile.scenario!r}")
        self.rail = rail
        self.profile = profile
        self.available = True
        self.scenario = profile.scenario
        self._payments: dict[str, Payment] = {}
        self._finished: deque[str] = deque()
        self._payments_max = payments_max
        self._taken = 0

    def __len__(self) -> int:
        return len(self._payments)

    def __iter__(self) -> Iterator[Payment]:
        return iter(self._payments.values())

    def submit(self, order: Order, now: float) -> Reply:
        """Return what the rail makes of an order; a new payment is in the book when it was taken or refused."""
        known = self._payments.get(order.reference)
        if known is not None:
            return self._repeat(known, order)
        name = order.scenario or self.scenario
        if name not in SCENARIOS or not minor_from_text(order.amount) or not order.reference:
            return Reply(ReplyKind.MALFORMED)
        if not self.available or not self._make_room():
            return Reply(ReplyKind.UNAVAILABLE)
        scenario = SCENARIOS[name]
        self._taken += 1
        payment = Payment(
            order=order,
            scenario=name,
            provider_reference=f"{self.rail}-{self._taken:09d}",
            taken_at=now,
            ends_at=now if scenario.refuses else now + self.profile.timings.soon_seconds,
        )
        self._payments[order.reference] = payment
        if not scenario.tells:
            self._finished.append(order.reference)
        return Reply(ReplyKind.REFUSED if scenario.refuses else ReplyKind.TAKEN, payment, scenario.hangs)

    def look_up(self, reference: str, now: float) -> Payment | None:
        """Return the payment under a reference; None where the rail does not know it, or does not admit it yet."""
        payment = self._payments.get(reference)
        if payment is None or now < payment.taken_at + self.profile.not_found_seconds:
            return None
        return payment

    def notices(self, payment: Payment) -> tuple[Notice, ...]:
        """Return every callback that a payment will cause, in the order in which they are made."""
        order, timings = payment.order, self.profile.timings
        return tuple(
            Notice(
                delay=timings.at(planned.moment),
                event_id=f"evt-{payment.provider_reference}-{planned.event}",
                reference=f"stranger-{order.reference}" if planned.stranger else order.reference,
                status=planned.status,
                amount=str(int(order.amount) + planned.extra_minor),
            )
            for planned in SCENARIOS[payment.scenario].tells
        )

    def finish(self, payment: Payment) -> None:
        """Note that no callback of a payment is left to make, so that it may be dropped when room is needed."""
        self._finished.append(payment.order.reference)

    def _repeat(self, known: Payment, order: Order) -> Reply:
        first = known.order
        if (first.amount, first.currency, first.destination) != (order.amount, order.currency, order.destination):
            return Reply(ReplyKind.CONFLICT, known)
        known.submits += 1
        if not self.profile.idempotent:
            known.payouts += 1
        scenario = SCENARIOS[known.scenario]
        if scenario.refuses:
            return Reply(ReplyKind.REFUSED, known)
        return Reply(ReplyKind.REPEATED, known, hangs=scenario.hangs and scenario.ends is None)

    def _make_room(self) -> bool:
        """A book full of unfinished payments takes no more of them."""
        while len(self._payments) >= self._payments_max and self._finished:
            self._payments.pop(self._finished.popleft(), None)
        return len(self._payments) < self._payments_max
