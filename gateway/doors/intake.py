"""The intake: what clients ask for becomes committed intents, many of them in one commit.

- Requests that arrive while a commit runs ride the next one; a request that finds nothing running leaves at once, but
  where many arrive: there a small group waits for company.
- While workers have enough to do, groups wait in the queue here, which is bounded, and not in the store.
- An answer is given after the commit and never before. Its bytes are fixed then and are the same for every replay.
- Redis is asked first and Postgres decides. Publishing, marking and caching follow in the background: what is lost of
  them is made up for by the owner's sweep and by Postgres.
- One request that the store refuses harms no other: its group is halved until it stands alone.
- Too much is refused at once, before it costs memory: by the length of the queue here, by the backlog in the store.
- Times are the database's; a gateway's own clock is in nothing that is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.gateway.doors.admission import Admission
from zentra.gateway.doors.company import Company
from zentra.gateway.doors.pressure import Cause, Overloaded, Pressure
from zentra.runtime.errors import DataError, Unavailable, ZentraError
from zentra.runtime.evidence import canonical
from zentra.runtime.idempotency import (
    Answer,
    IdempotencyCache,
    InFlight,
    KeyOutcome,
    KeyRef,
    StoredKey,
    decide,
    differing_fields,
    replay_of,
)
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.machine import TIMEOUTS
from zentra.runtime.intents.transaction import register, timestamp
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.partitions import partition_of, payer_partition, steered
from zentra.runtime.ports import Timer
from zentra.runtime.stream_ports import EventPublisher, Outgoing
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake.clock import DatabaseClock
from zentra.storage.intake.personal import Personal
from zentra.storage.intake.registration import (
    IntentIdTaken,
    Registered,
    Registration,
    register_intents,
    stored_commands,
)
from zentra.storage.outbox import mark_sent
from zentra.storage.pool import Pool

__all__ = [
    "SUBJECT_MOVED_RESULT",
    "Intake",
    "IntakeItem",
    "IntakeOutcome",
    "IntakeResult",
    "IntakeStatistics",
    "Together",
    "digest_of_intent",
]

GROUP_MAX: Final = 500  # a larger commit is no cheaper per intent and makes everybody in it wait longer
WAITING_MAX: Final = 10_000  # some seconds of work: whoever would wait longer is told so at once
RETRY_SECONDS: Final = 2  # by then the queue has turned over
GROUPS_IN_FLIGHT_MAX: Final = 1  # two were measured: smaller groups, 10 % less throughput
PUBLISHING_MAX: Final = 64  # groups on their way to a stream that hangs; beyond that the sweep publishes
MARK_SECONDS: Final = 0.2  # the sweep looks for rows unsent for a second
ACCEPTED: Final = 202
_DUE: Final = timedelta(seconds=TIMEOUTS[State.ACCEPTED].seconds)


class IntakeItem(Struct, frozen=True, kw_only=True):
    """One request that was authenticated and checked. Without an `intent_id` it gets one.

    `personal` is what opens the commitments in the command, where it is not kept yet."""

    tenant: str
    principal: str
    role: str
    command: IntentCommand
    key: str
    request_id: str
    trace: str
    intent_id: str | None = None
    tracestate: str = ""
    personal: Personal | None = None


class IntakeOutcome(StrEnum):
    """What became of a request."""

    ACCEPTED = "accepted"
    REPLAYED = "replayed"
    IN_FLIGHT = "in_flight"
    KEY_REUSED = "idempotency_key_reused"
    INTENT_ID_CONFLICT = "intent_id_conflict"
    SUBJECT_MOVED = "subject_moved"  # commit what is personal again, and ask again: no answer for a client


class IntakeResult(Struct, frozen=True):
    """What became of a request: the answer to give where there is one, and the intent's uuid where it is known.

    `fields` are those in which the first command of a reused key differs; none where that made no intent."""

    outcome: IntakeOutcome
    answer: Answer | None = None
    intent: str | None = None
    fields: tuple[str, ...] = ()


class IntakeStatistics(Struct, frozen=True):
    """Counts since the start, and what is waiting or on its way now."""

    accepted: int
    replayed: int
    refused: int
    failed: int
    groups: int
    waiting: int
    degraded_groups: int
    unpublished: int


class _Links(Struct, frozen=True):
    self: str
    evidence: str


class _Accepted(Struct, frozen=True):
    """The body of the 202."""

    intent_id: str
    id: str
    status: str
    kind: str
    amount: int
    currency: str
    created_at: str
    links: _Links


class Together:
    """What became of requests that came together, by their places; `done` ends when every one has its result.

    One future for all of them: a batch of a thousand is woken once. Who gives up `done` hears nothing more."""

    __slots__ = ("_missing", "_results", "done")

    def __init__(self, size: int) -> None:
        self.done: asyncio.Future[list[IntakeResult | Exception]] = asyncio.get_running_loop().create_future()
        self._results: list[Any] = [None] * size
        self._missing = size
        if not size:
            self.done.set_result([])

    def settle(self, place: int, result: IntakeResult | Exception) -> bool:
        """Take in a result and return whether somebody waited for it; a second one for a place goes nowhere."""
        if self._results[place] is not None:
            return False
        self._results[place] = result
        self._missing -= 1
        heard = not self.done.done()  # the client may have gone
        if not self._missing and heard:
            self.done.set_result(self._results)
        return heard


class _Waiting(Struct, gc=False):
    item: IntakeItem
    digest: bytes
    command: bytes
    asked: Together
    place: int


_encode: Final = msgspec.json.Encoder().encode
IN_FLIGHT_RESULT: Final = IntakeResult(IntakeOutcome.IN_FLIGHT)
INTENT_ID_CONFLICT_RESULT: Final = IntakeResult(IntakeOutcome.INTENT_ID_CONFLICT)
SUBJECT_MOVED_RESULT: Final = IntakeResult(IntakeOutcome.SUBJECT_MOVED)


def digest_of_intent(command: bytes) -> bytes:
    """Return the digest of a command from its canonical bytes: `runtime.intents.digest_of("intent", command)`."""
    return hashlib.sha256(b"intent\n" + command).digest()


class Intake:
    """The door for new intents, one per process, made after any fork; `aclose` waits for what is under way."""

    def __init__(
        self,
        pool: Pool,
        cache: IdempotencyCache,
        publisher: EventPublisher,
        clock: DatabaseClock,
        pressure: Pressure,
        admission: Admission,
        *,
        partitions: int,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._pool = pool
        self._cache = cache
        self._publisher = publisher
        self._clock = clock
        self._pressure, self._admission, self._company = pressure, admission, Company()
        self._partitions = partitions
        self._waiting_max = waiting_max
        # Ids are in the order of time across gateways: the backlog is read along them.
        self._new_id = Uuid7(clock.milliseconds)
        self._queue: deque[_Waiting] = deque()
        self._running = self._arrived = 0
        self._background: set[asyncio.Task[None]] = set()
        self._sent: list[str] = []
        self._marking: asyncio.TimerHandle | None = None
        self._accepted = self._replayed = self._refused = self._failed = 0
        self._groups = self._degraded = self._unpublished = self._publishing = 0

    def check(self) -> None:
        """Return where a new request would be taken now; raises Overloaded."""
        waiting = len(self._queue)
        self._pressure.check(waiting)
        if waiting >= self._waiting_max:
            raise Overloaded(Cause.REQUESTS, RETRY_SECONDS)

    async def submit(self, item: IntakeItem) -> IntakeResult:
        """Return what became of the request, after its commit.

        Raises Overloaded where too much waits, Unavailable where the store does not answer, DataError where it refuses
        the request. Asking again with the same key is safe after each of them, and after a cancellation."""
        asked = Together(1)
        self.submit_nowait(item, asked, 0)
        (result,) = await asked.done
        if isinstance(result, Exception):
            raise result
        return result

    def submit_nowait(self, item: IntakeItem, asked: Together, place: int) -> None:
        """Take the request in; `asked` gets its result, or what `submit` raises, at `place`.

        Raises Overloaded where too much waits."""
        self.check()
        command = canonical.encode(item.command)
        self._queue.append(_Waiting(item, digest_of_intent(command), command, asked, place))
        self._arrived += 1
        if self._running < GROUPS_IN_FLIGHT_MAX:
            self._running += 1
            self._in_background(self._run())

    def drain(self) -> None:
        """Hold nothing back any more; what is submitted is answered as fast as the store takes it."""
        self._admission.open()

    async def aclose(self) -> None:
        """Wait until everything submitted is answered, published or given up, and marked."""
        self.drain()
        while self._background:
            await asyncio.wait(self._background)
        if self._marking is not None:
            self._marking.cancel()
            self._marking = None
            await self._mark()

    def statistics(self) -> IntakeStatistics:
        """Return the counts."""
        return IntakeStatistics(
            self._accepted, self._replayed, self._refused, self._failed, self._groups, len(self._queue), self._degraded,
            self._unpublished,
        )  # fmt: skip

    async def _run(self) -> None:
        queue = self._queue
        try:
            while queue:
                size = await self._admission.enter(await self._gather())
                group = [queue.popleft() for _ in range(size)]
                self._groups += 1
                try:
                    await self._take(group)
                except ZentraError as error:
                    self._fail(group, error)
                except BaseException as error:  # a bug or a cancelled runner: nobody may wait for ever
                    self._fail(group, Unavailable(f"the intake failed: {type(error).__name__}"))
                    raise
        finally:
            # Counted down before anybody else can run, so whoever finds the queue empty and no runner starts one.
            self._running -= 1

    async def _gather(self) -> int:
        """Return how many are in the next group, after a pause where company is about to come."""
        arrived, self._arrived = self._arrived, 0
        pause = self._company.pause(len(self._queue), arrived, asyncio.get_running_loop().time())
        if pause:
            await asyncio.sleep(pause)
        return min(len(self._queue), GROUP_MAX)

    async def _take(self, group: list[_Waiting]) -> None:
        """Settle a group: by what the cache knows, else by the store."""
        taken = await self._cache.take([(w.item.tenant, w.item.key) for w in group])
        self._degraded += taken.degraded
        fresh = []
        reused: list[tuple[_Waiting, StoredKey]] = []
        for waiting, found in zip(group, taken.found, strict=True):
            if found is None:
                fresh.append(waiting)
            else:
                self._settle_known(waiting, found, reused)
        if fresh:
            await self._register(fresh, reused, guess=not taken.degraded)
        if reused:
            await self._name_fields(reused)

    async def _register(self, group: list[_Waiting], reused: list[tuple[_Waiting, StoredKey]], *, guess: bool) -> None:
        items = self._registrations(group)
        try:
            done = await register_intents(self._pool, items, guess=guess)
        except DataError as error:
            if len(group) == 1:
                self._fail(group, error)
                self._in_background(self._cache.release([(w.item.tenant, w.item.key) for w in group]))
                return
            for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                await self._register(half, reused, guess=guess)
            return
        except ZentraError:
            self._in_background(self._cache.release([(w.item.tenant, w.item.key) for w in group]))
            raise
        registered = sum(isinstance(outcome, Registered) for outcome in done.outcomes)
        self._accepted += registered
        self._pressure.accepted(registered)
        self._admission.admitted(registered)
        known: list[tuple[KeyRef, StoredKey]] = []
        free: list[KeyRef] = []
        late: list[tuple[_Waiting, IntakeResult]] = []
        again = False  # who has personal data may come again with other commitments, and must not meet its own lock
        for waiting, item, outcome in zip(group, items, done.outcomes, strict=True):
            if isinstance(outcome, Registered):
                at = item.transition.at
                self._settle(waiting, IntakeResult(
                    IntakeOutcome.ACCEPTED, Answer(item.status, item.answer, False, at, item.request_id), item.intent
                ))  # fmt: skip
                known.append(
                    (
                        (item.tenant, item.key),
                        StoredKey(item.digest, item.status, item.answer, f"intent/{item.intent}", item.request_id, at),
                    )
                )
            elif isinstance(outcome, StoredKey):
                self._settle_known(waiting, outcome, reused)
                known.append(((item.tenant, item.key), outcome))
                again = again or item.personal is not None
            else:
                self._refused += 1
                taken = isinstance(outcome, IntentIdTaken)
                late.append((waiting, INTENT_ID_CONFLICT_RESULT if taken else SUBJECT_MOVED_RESULT))
                free.append((item.tenant, item.key))
                again = again or item.personal is not None
        self._in_background(self._publish(done.outgoing))
        if again:
            await self._remember(known, free)
        else:
            self._in_background(self._remember(known, free))
        for waiting, result in late:
            self._settle(waiting, result)

    def _registrations(self, group: list[_Waiting]) -> list[Registration]:
        at = self._clock.now()
        created, due, partitions, new_id = timestamp(at), at + _DUE, self._partitions, self._new_id
        registrations = []
        for waiting in group:
            item, command, digest = waiting.item, waiting.item.command, waiting.digest
            partition = payer_partition(item.tenant, command.source, partitions)
            intent = steered(new_id(), partition, partitions)
            intent_id = item.intent_id or command.intent_id or f"int_{intent}"
            transition = register(
                intent=intent, tenant=item.tenant, intent_id=intent_id, command=command, digest=digest, key=item.key,
                principal=item.principal, role=item.role, trace=item.trace, at=at, cause=item.request_id,
                tracestate=item.tracestate,
            )  # fmt: skip
            link = f"/runtime/intents/{intent_id}"
            answer = _encode(
                _Accepted(
                    intent_id, intent, "ACCEPTED", command.kind, command.amount, command.currency, created,
                    _Links(link, f"{link}/evidence"),
                )
            )  # fmt: skip
            registrations.append(
                Registration(
                    tenant=item.tenant, key=item.key, digest=digest, intent=intent, intent_id=intent_id,
                    command=waiting.command, principal=item.principal, role=item.role, trace=item.trace,
                    request_id=item.request_id, status=ACCEPTED, answer=answer, transition=transition,
                    timer=Timer("intent", intent, "state", partition_of(intent, partitions), item.tenant, due),
                    personal=item.personal,
                )
            )  # fmt: skip
        return registrations

    def _settle_known(
        self, waiting: _Waiting, found: StoredKey | InFlight, reused: list[tuple[_Waiting, StoredKey]]
    ) -> None:
        """Answer from what is stored or locked; a reused key waits until its fields are known."""
        if not isinstance(found, StoredKey):
            self._refused += 1
            self._settle(waiting, IN_FLIGHT_RESULT)
        elif decide(waiting.digest, found) is KeyOutcome.REUSED:
            self._refused += 1
            reused.append((waiting, found))
        else:
            self._replayed += 1
            self._settle(waiting, IntakeResult(IntakeOutcome.REPLAYED, replay_of(found), _intent_of(found)))

    async def _name_fields(self, reused: Sequence[tuple[_Waiting, StoredKey]]) -> None:
        refs = [(waiting.item.tenant, intent) for waiting, stored in reused if (intent := _intent_of(stored))]
        commands = await stored_commands(self._pool, refs) if refs else {}
        for waiting, stored in reused:
            first = commands.get(_intent_of(stored) or "")
            fields = differing_fields(first, waiting.command) if first is not None else ()
            self._settle(waiting, IntakeResult(IntakeOutcome.KEY_REUSED, fields=fields))

    def _settle(self, waiting: _Waiting, result: IntakeResult) -> None:
        waiting.asked.settle(waiting.place, result)

    def _fail(self, group: Sequence[_Waiting], error: ZentraError) -> None:
        for waiting in group:
            # Each waiter gets an exception of its own: raising one in many places would chain their tracebacks.
            again = DataError(str(error)) if isinstance(error, DataError) else Unavailable(str(error))
            again.__cause__ = error
            self._failed += waiting.asked.settle(waiting.place, again)

    # What follows a commit.

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _remember(self, known: list[tuple[KeyRef, StoredKey]], free: list[KeyRef]) -> None:
        await self._cache.store(known)
        await self._cache.release(free)

    async def _publish(self, outgoing: list[Outgoing]) -> None:
        if not outgoing:
            return
        if self._publishing >= PUBLISHING_MAX:
            self._unpublished += len(outgoing)
            return
        self._publishing += 1
        try:
            results = await self._publisher.publish(outgoing)
        finally:
            self._publishing -= 1
        sent = [message.id for message, failure in zip(outgoing, results, strict=True) if failure is None]
        self._unpublished += len(outgoing) - len(sent)
        self._sent += sent
        if self._marking is None and sent:
            loop = asyncio.get_running_loop()
            self._marking = loop.call_later(MARK_SECONDS, lambda: self._in_background(self._mark()))

    async def _mark(self) -> None:
        self._marking = None
        ids, self._sent = self._sent, []
        try:
            await mark_sent(self._pool, ids)
        except Unavailable:
            self._unpublished += len(ids)  # they are sent once more by the sweep, and dropped as repeats


def _intent_of(stored: StoredKey) -> str | None:
    kind, _, intent = stored.subject.partition("/")
    return intent if kind == "intent" else None
