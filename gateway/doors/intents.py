"""The one way a request becomes an intent, whichever door it came through: parse, key, intake, answer.

- Every violation is named at once, and nothing is registered then.
- The four outcomes of a key have one answer each, the same over HTTP and over NATS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from zentra.gateway.doors.intake import Intake, IntakeItem, IntakeOutcome
from zentra.gateway.doors.pressure import Overloaded
from zentra.gateway.http.problems import Problem, of_violations
from zentra.runtime.idempotency import Answer
from zentra.runtime.instruments import Instruments
from zentra.runtime.intents.command import parse_intent

__all__ = ["Created", "IntentDoor"]

RETRY_SECONDS: Final = 1  # a commit takes milliseconds, and this is the smallest a header can say


class Created(Struct, frozen=True):
    """The answer to give, and the uuid of the intent it tells of."""

    answer: Answer
    intent: str


class IntentDoor:
    """Creates intents; `source` of each call names the door in the metrics."""

    def __init__(self, intake: Intake, instruments: Instruments) -> None:
        self._intake, self._instruments = intake, instruments

    async def create(
        self,
        body: object,
        key_of: Callable[[str | None], str],
        *,
        tenant: str,
        principal: str,
        role: str,
        request_id: str,
        trace: str,
        source: str,
        kinds: frozenset[str] | None = None,
    ) -> Created:
        """Return the answer to a request whose decoded JSON is `body`; `key_of` chooses the key, given the body's.

        Raises Problem, Overloaded, Unavailable or DataError; after each of them the same request may be sent again."""
        self.check(source)
        command, key_in_body, violations = parse_intent(body, kinds)
        if command is None:
            self._count("invalid")
            raise of_violations(violations)
        item = IntakeItem(
            tenant=tenant, principal=principal, role=role, command=command, key=key_of(key_in_body),
            request_id=request_id, trace=trace, intent_id=command.intent_id,
        )  # fmt: skip
        try:
            result = await self._intake.submit(item)
        except Overloaded as overloaded:
            self._shed(overloaded, source)
            raise
        self._count(result.outcome)
        if result.answer is not None and result.intent is not None:
            if result.answer.replayed:
                self._instruments.count("idempotency_replays", {"source": source})
            return Created(result.answer, result.intent)
        if result.outcome is IntakeOutcome.IN_FLIGHT:
            raise Problem("idempotency_in_flight", retry_after=RETRY_SECONDS)
        if result.outcome is IntakeOutcome.INTENT_ID_CONFLICT:
            raise Problem("intent_id_conflict", f"intent_id {command.intent_id} names another command")
        fields = list(result.fields)
        detail = (
            f"the first request differs in {', '.join(fields)}" if fields else "the first request was of another kind"
        )
        raise Problem("idempotency_key_reused", detail, members={"fields": fields})

    def check(self, source: str) -> None:
        """Return where a new request would be taken now, before any work is put into it; raises Overloaded."""
        try:
            self._intake.check()
        except Overloaded as overloaded:
            self._shed(overloaded, source)
            raise

    def _shed(self, overloaded: Overloaded, source: str) -> None:
        self._instruments.count("intents_shed", {"cause": overloaded.cause, "source": source})

    def _count(self, outcome: str) -> None:
        self._instruments.count("intents", {"outcome": outcome})
