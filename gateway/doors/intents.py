"""The one way a request becomes an intent, whichever door it came through: parse, key, intake, answer.

- Every violation is named at once, and nothing is registered then.
- The four outcomes of a key have one answer each, the same over HTTP and over NATS.
- Personal data is kept with the intent that has it, and nothing of a request that makes none. A repeat is known as one
  also after the erasure.
- Many intents in one request are many requests: each has its own key, answer and commit, and one answer holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from zentra.gateway.doors.intake import (
    SUBJECT_MOVED_RESULT,
    Intake,
    IntakeItem,
    IntakeOutcome,
    IntakeResult,
    Together,
)
from zentra.gateway.doors.pressure import Overloaded
from zentra.gateway.http.problems import Problem, document, of_error, of_violations
from zentra.gateway.http.reading import one_key
from zentra.runtime.errors import Unavailable
from zentra.runtime.evidence.personal import PERSONAL, SUBJECT, is_personal, nearly_personal
from zentra.runtime.idempotency import Answer
from zentra.runtime.instruments import Instruments
from zentra.runtime.intents.command import IntentCommand, Violation, parse_intent
from zentra.runtime.pointers import escaped
from zentra.storage.intake.personal import Personal

__all__ = ["BATCH_MAX", "LOOKS_MAX", "Asker", "BatchAnswer", "Created", "IntentDoor"]

BATCH_MAX: Final = 1_000  # two commits of the intake; and a request of that many stays below 1 MiB
RETRY_SECONDS: Final = 1  # a commit takes milliseconds, and this is the smallest a header can say


_CONFLICTS: Final = frozenset({IntakeOutcome.KEY_REUSED, IntakeOutcome.INTENT_ID_CONFLICT, IntakeOutcome.SUBJECT_MOVED})
LOOKS_MAX: Final = 8  # each time somebody else was first to name the subject, or it was erased

Commit: TypeAlias = Callable[
    [str, Mapping[str, str], str, str | None], Awaitable[tuple[dict[str, str], Personal | None]]
]
"""Tenant, metadata, key, intent_id -> metadata with commitments, and what is to be written with the intent."""


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
        """`personal` commits what is personal in metadata."""
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
        return await self._alone(item, asker)

    async def ask(self, command: IntentCommand, key: str, asker: Asker, request_id: str) -> Created:
        """Return the answer to a command that a door of its own has made; raises as `create` does."""
        self.check(asker.source)
        item = IntakeItem(
            tenant=asker.tenant, principal=asker.principal, role=asker.role, command=command, key=key,
            request_id=request_id, trace=asker.trace, intent_id=command.intent_id, tracestate=asker.tracestate,
        )  # fmt: skip
        return await self._alone(item, asker)

    async def _committed(self, item: IntakeItem, root: str = "") -> IntakeItem:
        """Return the request with commitments in the place of what is personal; raises Problem and Unavailable."""
        metadata = item.command.metadata
        if (near := nearly_personal(metadata)) is not None:
            detail = f"what is personal begins with {PERSONAL} in small letters; call it something else if it is not"
            raise of_violations([Violation(f"{root}/metadata/{escaped(near)}", "personal_name_malformed", detail)])
        if not is_personal(metadata):
            return item
        if not metadata.get(SUBJECT):
            detail = f"{SUBJECT}: whose data it is, in your own words, so that it can be erased"
            raise of_violations([Violation(f"{root}/metadata", "personal_subject_missing", detail)])
        command = item.command
        kept, personal = await self._personal(item.tenant, metadata, item.key, command.intent_id)
        return replace(item, command=replace(command, metadata=kept), personal=personal)

    async def _alone(self, plain: IntakeItem, asker: Asker) -> Created:
        item = await self._committed(plain) if plain.command.metadata else plain
        asked = Together(1)
        self._submit(item, asked, 0, asker.source)
        results = await asked.done
        if item.personal is not None:
            items: list[IntakeItem | None] = [item]
            await self._look_again({0: plain}, items, results, asker.source)
        (result,) = results
        if isinstance(result, Exception):
            raise result
        self._count(result.outcome)
        return self._created(item, result, asker.source)

    async def _look_again(
        self,
        plain: dict[int, IntakeItem],
        items: list[IntakeItem | None],
        results: list[IntakeResult | Exception],
        source: str,
    ) -> None:
        """Submit those with personal data again whose conflict may be one of commitments alone; change `results`.

        Who came first may have been committed after this one was looked up: then it is the same with the commitments of
        that one. `plain` are the requests as they came."""
        for _ in range(LOOKS_MAX):
            places = [place for place in plain if _may_be_same(items[place], results[place])]
            if not places:
                return
            asked = Together(len(places))
            for number, place in enumerate(places):
                try:
                    item, result = await self._committed(plain[place]), results[place]
                    if item.personal is None or result == SUBJECT_MOVED_RESULT:
                        items[place] = item
                        self._submit(item, asked, number, source)
                    else:
                        del plain[place]  # it is another command indeed
                        asked.settle(number, result)
                except Exception as error:  # it is this intent's alone
                    asked.settle(number, error)
            for place, result in zip(places, await asked.done, strict=True):
                results[place] = result
        for place, result in enumerate(results):
            if result == SUBJECT_MOVED_RESULT:
                results[place] = Unavailable("the subject of the personal data is named and erased over and over")

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
        plain: dict[int, IntakeItem] = {}
        items = [
            await self._begin(body, asker, f"{request_id}.{place}", asked, place, plain)
            for place, body in enumerate(bodies)
        ]
        results = await asked.done
        if plain:
            await self._look_again(plain, items, results, asker.source)
        outcomes = Counter([result.outcome for result in results if isinstance(result, IntakeResult)])
        for outcome, times in outcomes.items():
            self._count(outcome, times)
        return [
            self._end(item, result, asker, f"{request_id}.{place}")
            for place, (item, result) in enumerate(zip(items, results, strict=True))
        ]

    async def _begin(
        self, body: object, asker: Asker, request_id: str, asked: Together, place: int, plain: dict[int, IntakeItem]
    ) -> IntakeItem | None:
        """Submit one intent of many; what speaks against it is its result. With personal data it is kept in `plain`."""
        try:
            item = self._item(body, _own_key, asker, request_id, None, f"/{place}")
            if item.command.metadata:
                given, item = item, await self._committed(item, f"/{place}")
                if item.personal is not None:
                    plain[place] = given
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


def _may_be_same(item: IntakeItem | None, result: IntakeResult | Exception) -> bool:
    """Return whether the request could be one that is known, but for its commitments."""
    return (
        item is not None
        and item.personal is not None
        and isinstance(result, IntakeResult)
        and result.outcome in _CONFLICTS
    )


def _own_key(in_body: str | None) -> str:
    return one_key([], in_body)
