"""What is outside of the runtime: rails that keep their own books, endpoints that answer or do not, and the wire there.

Nothing in here knows what the runtime believes. What a rail has really paid is told to the auditor when it happens."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from zentra.bench.simulation.faults import Fault
from zentra.bench.simulation.setting import SECRET
from zentra.bench.twins.fleet import at_once
from zentra.bench.twins.rails import ScriptedRail
from zentra.bench.twins.transport import ScriptedEndpoints
from zentra.gateway.outward.rail_sandbox import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_callback
from zentra.gateway.sandbox.scenarios import SCENARIOS, Payment, RailProfile
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, RailSettings, Submission
from zentra.runtime.webhooks.standard import AttemptError, AttemptResult, WebhookCall

if TYPE_CHECKING:
    from zentra.bench.simulation.simulation import Simulation

__all__ = ["Callback", "Endpoints", "SimulatedRail", "signed"]


class Callback(Struct):
    """A callback that its rail still wants to make, from a time on."""

    rail: str
    raw: bytes
    due: float


def signed(raw: bytes, now: float) -> dict[str, str]:
    """Return the headers of a callback that is made now."""
    at = str(int(now))
    return {TIMESTAMP_HEADER: at, SIGNATURE_HEADER: sign_callback(SECRET, at, raw)}


class SimulatedRail:
    """A rail behind a wire. It hears, pays and tells by its own clock; what of it arrives is another matter."""

    def __init__(self, simulation: Simulation, settings: RailSettings, profile: RailProfile) -> None:
        self._simulation, self.settings = simulation, settings
        self._random: Random = simulation.random
        self.inner = ScriptedRail(settings, simulation.rail_time, profile)
        self.silent_until = self.refuses_until = self.slow_until = 0.0
        self._owed: dict[str, Payment] = {}  # by reference: what is still to be paid
        self._paid: dict[str, int] = {}  # by reference: how often it was paid

    def submit(self, submission: Submission) -> RailOutcome:
        """Return what the worker hears; whether the rail heard the worker is not the same question."""
        simulation = self._simulation
        simulation.auditor.asked(submission)
        self.inner.book.available = simulation.time >= self.refuses_until
        silent = simulation.time < self.silent_until
        unheard = RailOutcome(self.settings.name, submission.reference, OutcomeStatus.UNKNOWN, reason="timeout")
        if silent and self._random.random() < 0.5:
            return unheard
        outcome = at_once(self.inner.submit(submission))
        payment = self.inner.book.look_up(submission.reference, math.inf)
        if payment is not None and SCENARIOS[payment.scenario].ends == "succeeded":
            self._owed[submission.reference] = payment
            self.pay()
        return unheard if silent or simulation.swarm.strikes(Fault.RAIL_LATE) else outcome

    @property
    def seconds(self) -> float:
        """Return how long an answer takes now."""
        return 4.0 if self._simulation.time < self.slow_until else 0.2

    def poll(self, reference: str) -> RailOutcome:
        """Return what the worker hears."""
        if self._simulation.time < self.silent_until:
            return RailOutcome(self.settings.name, reference, OutcomeStatus.UNKNOWN, reason="timeout", trust="polled")
        return at_once(self.inner.poll(reference))

    def pay(self) -> None:
        """Move the money of payments that have come to their end."""
        now = self._simulation.rail_time()
        for reference in [key for key, payment in self._owed.items() if payment.ends_at <= now]:
            payment = self._owed.pop(reference)
            paid, told = payment.paid(now), self._paid.get(reference, 0)
            self._paid[reference] = paid
            for _ in range(paid - told):
                self._simulation.auditor.paid(self.settings.name, reference, int(payment.order.amount))

    def next_payment_at(self) -> float | None:
        """Return when the next payment is due."""
        return min((payment.ends_at for payment in self._owed.values()), default=None)

    def truth(self, reference: str) -> str | None:
        """Return how a payment has ended ("succeeded", "declined"), or None where nobody can say for good."""
        payment = self.inner.book.look_up(reference, math.inf)
        if payment is None:
            return None
        ends = SCENARIOS[payment.scenario].ends
        if ends is None:
            return "declined"  # the partner has given it up
        return ("succeeded" if ends == "succeeded" else "declined") if self._ended(payment) else None

    def lies(self, callback: Callback) -> bool:
        """Return whether what this rail tells of the payment contradicts itself."""
        payment = self.inner.book.look_up(msgspec.json.decode(callback.raw)["reference"], math.inf)
        return payment is not None and payment.scenario.startswith("contradictory")

    def _ended(self, payment: Payment) -> bool:
        return self._simulation.rail_time() >= payment.ends_at


class Endpoints:
    """The tenants' endpoints, some of them down for a time."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._inner = ScriptedEndpoints(simulation.rail_time)
        self.down_until: dict[str, float] = {}
        self.gone_until: dict[str, float] = {}

    def call(self, tenant: str, endpoint: str, call: WebhookCall) -> AttemptResult:
        """Return what the sender hears of one attempt."""
        simulation = self._simulation
        simulation.auditor.called(tenant, endpoint, call)
        if simulation.time < self.gone_until.get(call.url, 0.0):
            return AttemptResult(call.delivery, call.attempt, status=410, latency_ms=1)
        if simulation.time < self.down_until.get(call.url, 0.0):
            if simulation.random.random() < 0.5:
                return AttemptResult(call.delivery, call.attempt, error=AttemptError.TIMEOUT, latency_ms=1)
            return AttemptResult(call.delivery, call.attempt, status=500, latency_ms=1)
        result = at_once(self._inner.send(call))
        self._inner.received.clear()
        return result
