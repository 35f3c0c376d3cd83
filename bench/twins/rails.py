"""The twin of a rail: the sandbox's own scenarios without a socket, in whatever time its clock tells.

The invariants kept here:

- It answers as the HTTP rail does; the contract suite in `tests/contracts` holds both to one text.
- It never waits: a submit that would hang is `unknown` at once, and callbacks lie ready until somebody takes them.
- Nothing in it is random, so a run is the same for the same calls.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import NamedTuple

from zentra.gateway.outward.rail_sandbox import (
    SANDBOX_DECLARATION,
    SIGNATURE_HEADER,
    STATUSES,
    TIMESTAMP_HEADER,
    sign_callback,
    verify_sandbox_callback,
)
from zentra.gateway.sandbox.scenarios import Order, Payment, PaymentBook, RailProfile, ReplyKind
from zentra.gateway.sandbox.server import callback_bytes
from zentra.runtime.rails.port import (
    UNKNOWN_CAUSE,
    Cause,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    RailSettings,
    Submission,
    Trust,
    Verdict,
    require_network,
)

__all__ = ["ScriptedCallback", "ScriptedRail"]


class ScriptedCallback(NamedTuple):
    """One callback as it would arrive: when, the raw bytes, and headers with lower-case names."""

    due: float
    raw: bytes
    headers: Mapping[str, str]


class ScriptedRail:
    """A rail without I/O. `outcomes` overrides what single references are answered, submit by submit."""

    def __init__(
        self,
        settings: RailSettings,
        clock: Callable[[], float],
        profile: RailProfile | None = None,
        outcomes: Mapping[str, tuple[OutcomeStatus, ...]] | None = None,
    ) -> None:
        """An override is consumed from the left; after its last status the scenario speaks again.

        Raises ValueError when the profile names a scenario that does not exist.
        """
        self._settings = settings
        self._clock = clock
        self._outcomes = {reference: list(script) for reference, script in (outcomes or {}).items()}
        self._due: list[tuple[float, int, ScriptedCallback]] = []
        self._order = count()
        self.book = PaymentBook(settings.name, profile or RailProfile(settings.secret))
        self.submits: Counter[str] = Counter()
        self.polls: Counter[str] = Counter()

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        return self._settings

    @property
    def declaration(self) -> Declaration:
        """What this adapter knows of the rail's ways."""
        return SANDBOX_DECLARATION

    @property
    def paid(self) -> dict[str, int]:
        """How often money has moved by now, for each reference that was paid at all."""
        now = self._clock()
        return {payment.order.reference: times for payment in self.book if (times := payment.paid(now))}

    async def submit(self, submission: Submission) -> RailOutcome:
        """Return what the scenario answers; where the HTTP rail would hang, `unknown`."""
        reference, now = submission.reference, self._clock()
        self.submits[reference] += 1
        script = self._outcomes.get(reference)
        if script:
            return self._outcome(reference, script.pop(0), "scripted", "direct")
        reply = self.book.submit(
            Order(
                reference=reference,
                amount=str(submission.minor),
                currency=submission.currency,
                destination=submission.destination,
                callback_url=self._settings.callback_url,
                scenario=submission.scenario,
            ),
            now,
        )
        if reply.kind is ReplyKind.TAKEN and reply.payment is not None:
            self._plan(reply.payment)
        if reply.hangs:
            return self._outcome(reference, OutcomeStatus.UNKNOWN, "timeout", "direct")
        match reply.kind:
            case ReplyKind.CONFLICT:
                return self._outcome(reference, OutcomeStatus.UNKNOWN, "http_409", "direct")
            case ReplyKind.MALFORMED | ReplyKind.UNAVAILABLE:
                return self._outcome(reference, OutcomeStatus.NOT_ACCEPTED, reply.kind.value, "direct")
            case _:
                assert reply.payment is not None
                reason = "rejected" if reply.kind is ReplyKind.REFUSED else None
                return self._stated(reply.payment, now, "direct", reason)

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Return the payment's status by now, or `not_found`."""
        now = self._clock()
        self.polls[reference] += 1
        payment = self.book.look_up(reference, now)
        if payment is None:
            return self._outcome(reference, OutcomeStatus.NOT_FOUND, None, "polled")
        return self._stated(payment, now, "polled", None)

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Return what an authentic callback says. Raises `CallbackRejected`."""
        require_network(self._settings, peer)
        return verify_sandbox_callback(self._settings.name, self._settings.secret, raw, headers, now)

    def ack(self, verdict: Verdict) -> None:
        """Return None: the sandbox reads the status alone."""

    async def aclose(self) -> None:
        """There is nothing to give back."""

    def next_callback_at(self) -> float | None:
        """Return when the earliest callback is due; None when none is left."""
        return self._due[0][0] if self._due else None

    def take_callbacks(self) -> list[ScriptedCallback]:
        """Return and forget every callback that is due by now, in the order of their times."""
        now, taken = self._clock(), []
        while self._due and self._due[0][0] <= now:
            taken.append(heapq.heappop(self._due)[2])
        return taken

    def _plan(self, payment: Payment) -> None:
        secret = self.book.profile.secret
        for notice in self.book.notices(payment):
            due = payment.taken_at + notice.delay
            raw, timestamp = callback_bytes(payment, notice), str(int(due))
            headers = {
                "content-type": "application/json",
                TIMESTAMP_HEADER: timestamp,
                SIGNATURE_HEADER: sign_callback(secret, timestamp, raw),
            }
            heapq.heappush(self._due, (due, next(self._order), ScriptedCallback(due, raw, headers)))

    def _outcome(self, reference: str, status: OutcomeStatus, reason: str | None, trust: Trust) -> RailOutcome:
        return RailOutcome(rail=self._settings.name, reference=reference, status=status, reason=reason, trust=trust)

    def _stated(self, payment: Payment, now: float, trust: Trust, reason: str | None) -> RailOutcome:
        return RailOutcome(
            rail=self._settings.name,
            reference=payment.order.reference,
            status=STATUSES[payment.status(now)],
            minor=int(payment.order.amount),
            currency=payment.order.currency,
            provider_reference=payment.provider_reference,
            reason=reason,
            trust=trust,
        )
