"""The one way a request becomes an intent, whichever door it came through: parse, key, intake, answer.

- Every violation is named at once, and nothing is registered then.
- The four outcomes of a key have one answer each, the same over HTTP and over NATS.
- Many intents in one request are many requests: each has its own key, answer and commit, and one answer holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from zentra.gateway.doors.intake import Intake, IntakeItem, IntakeOutcome, IntakeResult, Together
from zentra.gateway.doors.pressure import Overloaded
from zentra.gateway.http.problems import Problem, document, of_error, of_violations
from zentra.gateway.http.reading import one_key
from zentra.runtime.evidence.personal import SUBJECT, is_personal
from zentra.runtime.idempotency import Answer
from zentra.runtime.instruments import Instruments
from zentra.runtime.intents.command import IntentCommand, Violation, parse_intent

__all__ = ["BATCH_MAX", "Asker", "BatchAnswer", "Created", "IntentDoor"]

BATCH_MAX: Final = 1_000  # two commits of the intake; and a request of that many stays below 1 MiB
RETRY_SECONDS: Final = 1  # a commit takes milliseconds, and this is the smallest a header can say


Commit: TypeAlias = Callable[[str, Mapping[str, str]], Awaitable[dict[str, str]]]
"""Tenant and metadata -> metadata with commitments, once the openings are kept."""


class Created(Struct, frozen=True):
    """The answer to give, and the uuid of the intent it tells of."""

    answer: Answer
    intent: str


class Asker(Struct, frozen=True, kw_only=True):
    """Who asks for intents, and through which door; `source` names it in the metrics."""

    tenant: str
    principal: str
    role: str
    trace: str
    source: str
    tracestate: str = ""


class BatchAnswer(Struct, frozen=True):
    """The answer to one intent of many."""

    status: int
    replayed: bool
    body: msgspec.Raw


class IntentDoor:
    """Creates intents, one or many."""

    def __init__(self, intake: Intake, instruments: Instruments, personal: Commit) -> None:
        """`personal` keeps what is personal in metadata beside, and returns metadata with commitments."""
        self._intake, self._instruments, self._personal = intake, instruments, personal

    async def create(
        self,
        body: object,
        key_of: Callable[[str | None], str],
        asker: Asker,
        request_id: str,
        kinds: frozenset[str] | None = None,
    ) -> Created:
        """Return the answer to a request whose decoded JSON is `body`; `key_of` chooses the key, given the body's.

        Raises Problem, Overloaded, Unavailable or DataError; after each of them the same request may be sent again."""
        self.check(asker.source)
        item = self._item(body, key_of, asker, request_id, kinds)
        return await self._alone(await self._committed(item) if item.command.metadata else item, asker)

    async def ask(self, command: IntentCommand, key: str, asker: Asker, request_id: str) -> Created:
        """Return the answer to a command that a door of its own has made; raises as `create` does."""
        self.check(asker.source)
        item = IntakeItem(
            tenant=asker.tenant, principal=asker.principal, role=asker.role, command=command, key=key,
            request_id=request_id, trace=asker.trace, intent_id=command.intent_id, tracestate=asker.tracestate,
        )  # fmt: skip
        return await self._alone(await self._committed(item) if item.command.metadata else item, asker)

    async def _committed(self, item: IntakeItem, root: str = "") -> IntakeItem:
        """Return the request with commitments in the place of what is personal; raises Problem and Unavailable."""
        metadata = item.command.metadata
        if not is_personal(metadata):
            return item
        if not metadata.get(SUBJECT):
            detail = f"{SUBJECT}: whose data it is, in your own words, so that it can be erased"
            raise of_violations([Violation(f"{root}/metadata", "personal_subject_missing", detail)])
        kept = await self._personal(item.tenant, metadata)
        return replace(item, command=replace(item.command, metadata=kept))

    async def _alone(self, item: IntakeItem, asker: Asker) -> Created:
        asked = Together(1)
        self._submit(item, asked, 0, asker.source)
        (result,) = await asked.done
        if isinstance(result, Exception):
            raise result
        self._count(result.outcome)
        return self._created(item, result, asker.source)

    async def create_many(self, bodies: object, asker: Asker, request_id: str) -> list[BatchAnswer | msgspec.Raw]:
        """Return the answers to intents in one request, in order: each has its key in its body, and an answer or a
        problem of its own. One that is refused harms no other.

        The pointers of a problem lead from the root of the whole request. Raises Problem where the request holds no
        array or too many intents, and Overloaded where none would be taken now."""
        self.check(asker.source)
        if not isinstance(bodies, list):
            raise of_violations([Violation("", "field_type", "the body is one JSON array of intents")])
        if len(bodies) > BATCH_MAX:
            raise Problem("batch_too_large", f"{len(bodies)} intents; send at most {BATCH_MAX} in one request")
        asked = Together(len(bodies))
        items = [
            await self._begin(body, asker, f"{request_id}.{place}", asked, place) for place, body in enumerate(bodies)
        ]
        results = await asked.done
        outcomes = Counter([result.outcome for result in results if isinstance(result, IntakeResult)])
        for outcome, times in outcomes.items():
            self._count(outcome, times)
        return [
            self._end(item, result, asker, f"{request_id}.{place}")
            for place, (item, result) in enumerate(zip(items, results, strict=True))
        ]

    async def _begin(
        self, body: object, asker: Asker, request_id: str, asked: Together, place: int
    ) -> IntakeItem | None:
        """Submit one intent of many; what speaks against it is its result."""
        try:
            item = self._item(body, _own_key, asker, request_id, None, f"/{place}")
            if item.command.metadata:
                item = await self._committed(item, f"/{place}")
            self._submit(item, asked, place, asker.source)
        except Exception as error:  # also what nobody foresaw: it is this intent's alone, and `_end` has it logged
            asked.settle(place, error)
            return None
        return item

    def _end(
        self, item: IntakeItem | None, result: IntakeResult | Exception, asker: Asker, request_id: str
    ) -> BatchAnswer | msgspec.Raw:
        try:
            if isinstance(result, Exception):
                raise result
            assert item is not None, "an intent without an item has a problem"
            answer = self._created(item, result, asker.source).answer
        except Exception as error:
            return msgspec.Raw(document(of_error(error), request_id, asker.trace))
        return BatchAnswer(answer.status, answer.replayed, msgspec.Raw(answer.body))

    def _item(
        self,
        body: object,
        key_of: Callable[[str | None], str],
        asker: Asker,
        request_id: str,
        kinds: frozenset[str] | None,
        root: str = "",
    ) -> IntakeItem:
        """Return the request as the intake takes it; raises Problem, with pointers that begin at `root`."""
        command, key_in_body, violations = parse_intent(body, kinds)
        if command is None:
            self._count("invalid")
            raise of_violations([replace(one, pointer=root + one.pointer) for one in violations])
        return IntakeItem(
            tenant=asker.tenant, principal=asker.principal, role=asker.role, command=command, key=key_of(key_in_body),
            request_id=request_id, trace=asker.trace, intent_id=command.intent_id, tracestate=asker.tracestate,
        )  # fmt: skip

    def _submit(self, item: IntakeItem, asked: Together, place: int, source: str) -> None:
        try:
            self._intake.submit_nowait(item, asked, place)
        except Overloaded as overloaded:
            self._shed(overloaded, source)
            raise

    def _created(self, item: IntakeItem, result: IntakeResult, source: str) -> Created:
        """Return the answer that a result is; raises the Problem that it is."""
        if result.answer is not None and result.intent is not None:
            if result.answer.replayed:
                self._instruments.count("idempotency_replays", {"source": source})
            return Created(result.answer, result.intent)
        if result.outcome is IntakeOutcome.IN_FLIGHT:
            # Also in the body: an answer over NATS, or one of many, has no headers.
            members = {"retry_after_seconds": RETRY_SECONDS}
            raise Problem("idempotency_in_flight", retry_after=RETRY_SECONDS, members=members)
        if result.outcome is IntakeOutcome.INTENT_ID_CONFLICT:
            raise Problem("intent_id_conflict", f"intent_id {item.command.intent_id} names another command")
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

    def _count(self, outcome: str, times: int = 1) -> None:
        self._instruments.count("intents", {"outcome": outcome}, times)


def _own_key(in_body: str | None) -> str:
    return one_key([], in_body)
