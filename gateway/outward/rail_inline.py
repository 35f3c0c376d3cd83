"""The inline rail: decides at once, inside the process, without HTTP.

It exists to measure the runtime without a network behind it and to play the simplest stories. The invariants kept here:

- A reference gives the same outcome however often it is submitted; it stands for one payment.
- It never calls back, so every callback in its name is refused.
- What it remembers for `poll` is bounded; the oldest reference is forgotten first.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from zentra.runtime.rails.port import (
    UNKNOWN_CAUSE,
    CallbackCode,
    CallbackRejected,
    Cause,
    Declaration,
    OutcomeStatus,
    RailOutcome,
    RailSettings,
    Submission,
    Verdict,
)

__all__ = ["InlineRail"]

REMEMBERED_MAX = 20_000  # about 9 MiB; what is forgotten and submitted again is answered alike

SCENARIOS = {
    None: OutcomeStatus.SUCCEEDED,
    "success": OutcomeStatus.SUCCEEDED,
    "decline": OutcomeStatus.DECLINED,
    "reject": OutcomeStatus.NOT_ACCEPTED,
    "silent": OutcomeStatus.PENDING,
}


class InlineRail:
    """A rail that answers from a table."""

    declaration = Declaration(callback_trust="none", idempotent_references=True)

    def __init__(self, settings: RailSettings, remembered_max: int = REMEMBERED_MAX) -> None:
        self._settings = settings
        self._remembered_max = remembered_max
        self._outcomes: dict[str, RailOutcome] = {}

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        return self._settings

    async def submit(self, submission: Submission) -> RailOutcome:
        """Return the outcome of the submission's scenario; a scenario it cannot play is not accepted."""
        reference = submission.reference
        known = self._outcomes.get(reference)
        if known is not None:
            return known
        status = SCENARIOS.get(submission.scenario)
        outcome = RailOutcome(
            rail=self._settings.name,
            reference=reference,
            status=status or OutcomeStatus.NOT_ACCEPTED,
            minor=submission.minor,
            currency=submission.currency,
            provider_reference=f"inline-{reference}",
            reason=None if status else "scenario_unknown",
        )
        while len(self._outcomes) >= self._remembered_max:
            del self._outcomes[next(iter(self._outcomes))]
        self._outcomes[reference] = outcome
        return outcome

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Return the remembered outcome, or `not_found`."""
        known = self._outcomes.get(reference)
        if known is None:
            return RailOutcome(
                rail=self._settings.name, reference=reference, status=OutcomeStatus.NOT_FOUND, trust="polled"
            )
        return msgspec.structs.replace(known, trust="polled")

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Raises `CallbackRejected` always: nobody can sign for this rail."""
        raise CallbackRejected(self._settings.name, CallbackCode.SIGNATURE_MISSING)

    def ack(self, verdict: Verdict) -> None:
        """Return None: nobody calls back."""

    async def aclose(self) -> None:
        """There is nothing to give back."""
