"""Outward effects: submissions and polls to rails, webhook calls. They run beside the ticks and report as events.

Each effect was committed as started before it comes here. Its result goes to the owner of its object as an event, and
waits here while the stream is away. A result that is lost with its process leaves the effect started, and the timer of
its object says what then: a rail is polled, a webhook is sent again. What calls to rails come to, and how long they
take, is told to the `board`. Concurrency is bounded per rail (`limits.py`) and, by the width of its lane, per endpoint.

Endpoints are other people's and may all be slow at once, so they hold nothing up, each other included: only what is
asked of rails holds the worker back. Half of the calls that may be under way are shared: one endpoint has at most a
quarter as many as are free of them. The other half is for endpoints that have few, so it takes more than a hundred that
hang to hold up one that does not. What finds no place waits; past `BACKLOG_MAX` calls, or after `CALL_WAITS_MAX`, it is
not started, as if its report was lost: its lane is about to have it sent again, and both would be.

A transport or an adapter that raises has a fault, and whoever it calls may know how to meet it. So that is told, and
ends its own call only: an attempt has failed, a rail's answer is unknown.

Nothing is asked of anybody for an object that this worker may have lost: an effect that had to wait is performed only
where `permitted` says, at the last moment, that its partition is still held. What a worker was stopped over is its
successor's, which polls before it does anything; a late first submission would reach a rail that was given up. So a
worker that gives a partition up in good order looks first whether anything `waits_in` it.

What was committed about an endpoint may have changed while its call waited, and a secret may have leaked. So whoever
committed it says at the last moment, by `renew`, where the call goes and what signs it, or that there is none any more.

Nor is a submission begun for an attempt that has ended meanwhile, or whose transaction is not remembered any more, or
one that has waited for `limits.wait_max`, or whose rail's circuit has opened since. Of a first one whose attempt is not
known to have ended, it is known that nothing was sent, and that is reported (`UNSENT`): it was not accepted. For that
to be true, nothing else is asked of a rail under a reference whose first submission waits here; later, a poll has it
reported again."""

import hashlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import anyio
import anyio.abc

from zentra.actors.framing import frames_of
from zentra.actors.health import RailBoard
from zentra.actors.limits import How, RailGate, wait_max
from zentra.actors.tick import Poll
from zentra.runtime.instruments import Instruments
from zentra.runtime.messages import UNSENT, AttemptReported, Event, RailReported
from zentra.runtime.partitions import lane_key
from zentra.runtime.rails.port import OutcomeStatus, Rail, RailOutcome, Submission, Trust
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.stream_ports import EventPublisher, Outgoing
from zentra.runtime.webhooks.standard import AttemptError, AttemptResult, WebhookCall, WebhookTransport

__all__ = ["Outward", "Permitted"]

logger = logging.getLogger(__name__)

BACKLOG_MAX: Final = 4096  # effects on rails under way or waiting for theirs; past it the worker takes no new events
CALLS_MAX: Final = 1024  # webhook calls under way: as many as there are connections for them
CALLS_ASSURED: Final = 4  # of an endpoint, whatever others do, as long as there are any at all
CALLS_SHARED_MAX: Final = CALLS_MAX // 2  # under way, past which no endpoint gets more than it is assured of
CALL_WAITS_MAX: Final = 40.0  # seconds for a place; with those of the transport less than `lanes.ATTEMPT_LOST_AFTER`
FREE_SHARE: Final = 4  # below that one may have as many as a quarter of what is free
TURNS_MAX: Final = 4096  # endpoints with a rate of their own that are remembered
PUBLISH_TRIES: Final = 3
AGAIN_SECONDS: Final = 0.25  # between two tries of what a stream that is away did not take
NEVER_BEGUN_MAX: Final = 4 * BACKLOG_MAX  # references that are remembered to be unknown to their rails
UNSENT_MAX: Final = 4096  # frames of reports that wait for the stream; past it they are lost as with their process

Permitted = Callable[[int, str], Awaitable[bool | None]]
"""Whether an effect of a partition may begin; of a submission the reference is named, of others none is (""). None:
the partition is held, and nothing is remembered of what the reference names."""
Lane = tuple[str, str]
Renew = Callable[[WebhookCall], Awaitable[WebhookCall | None]]
"""A call as its endpoint is set up now, or None where it takes none."""
Asking = Callable[[Rail], Awaitable[RailOutcome]]


async def _submitted(submission: Submission, rail: Rail) -> RailOutcome:
    return await rail.submit(submission)


async def _always(_: int, __: str) -> bool:
    return True


async def _as_committed(call: WebhookCall) -> WebhookCall | None:
    return call


class Outward:
    """Performs the outward effects of committed ticks. `run` has to be running."""

    def __init__(
        self,
        rail_of: Callable[[str], Rail | None],
        transport: WebhookTransport,
        publisher: EventPublisher,
        partition_of: Callable[[str], int],
        command_subject: Callable[[int, str], str],
        instruments: Instruments,
        board: RailBoard | None = None,
    ) -> None:
        self.board = board or RailBoard(dict)
        self.renew: Renew = _as_committed
        self._gate = RailGate(lambda: self.board.workers, self._wait_for)
        self.board.room = self._gate.room
        self._rail_of, self._transport = rail_of, transport
        self._publisher, self._instruments = publisher, instruments
        self._partition_of, self._command_subject = partition_of, command_subject
        self._reports: list[tuple[int, str, Event]] = []
        self._reported = anyio.Event()
        self._unsent: list[Outgoing] = []
        self._group: anyio.abc.TaskGroup | None = None
        self._serial = 0
        self._waiting: Counter[int] = Counter()  # effects by partition that were not yet allowed to begin
        self._begun = anyio.Event()
        self._firsts: set[str] = set()  # references whose first submission has not begun yet
        self._never_begun: dict[str, tuple[Permitted, int]] = {}  # those whose first never will, with its epoch
        self._asking = self._calling = 0  # effects on rails, and webhook calls, that wait or are under way
        self._open = 0  # calls that are under way
        self._called: Counter[Lane] = Counter()  # calls under way by endpoint
        self._queues: dict[Lane, deque[tuple[WebhookCall, Permitted, float]]] = {}  # calls that found no place
        self._turns: dict[Lane, float] = {}  # when an endpoint with a rate lets the next call begin

    @property
    def backlog(self) -> int:
        """Return how many effects wait or are under way."""
        return self._asking + self._calling

    @property
    def congested(self) -> bool:
        """Return whether so much is asked of rails, or to be reported, that taking more events would only pile up."""
        return self._asking + len(self._unsent) > BACKLOG_MAX

    def waits_in(self, partition: int) -> bool:
        """Return whether effects of a partition were committed as started and have not begun."""
        return self._waiting[partition] > 0

    async def wait_begun(self) -> None:
        """Return when no effect waits any more."""
        while any(self._waiting.values()):
            self._begun = anyio.Event()
            await self._begun.wait()

    async def run(self) -> None:
        """Perform effects and send their reports until cancelled."""
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                while True:
                    if self._unsent:
                        await anyio.sleep(AGAIN_SECONDS)
                    else:
                        await self._reported.wait()
                    self._reported = anyio.Event()
                    reports, self._reports = self._reports, []
                    await self._send(reports)
        finally:
            self._group = None
            self._asking = self._calling = self._open = 0  # who was cancelled before it could begin has not said so
            for counted in (self._waiting, self._called, self._queues, self._firsts):
                counted.clear()

    def perform(
        self,
        submissions: Sequence[Submission],
        polls: Sequence[Poll],
        calls: Sequence[tuple[str, str, WebhookCall]],
        permitted: Permitted = _always,
    ) -> None:
        """Start the effects of a committed tick; what cannot be started, or is not `permitted` in the end, is left to
        the timers."""
        group = self._group
        if group is None:
            return
        submissions = [submission for submission in submissions if self._may_wait(submission)]
        polls = [poll for poll in polls if poll.reference not in self._firsts]
        self._asking += len(submissions) + len(polls)
        immediate = []
        for submission in submissions:
            place = self._wait_in(submission.reference)
            if self._is_inline(submission.rail):
                immediate.append((submission, place))
            else:
                group.start_soon(self._submit, submission, place, permitted)
        if immediate:
            group.start_soon(self._submit_inline, immediate, permitted)
        for poll in polls:
            group.start_soon(self._poll, poll, self._wait_in(poll.reference), permitted)
        refused, until = 0, anyio.current_time() + CALL_WAITS_MAX
        for tenant, endpoint, call in calls:
            lane = (tenant, endpoint)
            if lane not in self._queues and self._has_place(lane):
                self._start_call(group, lane, call, permitted, until)
            elif self._calling < BACKLOG_MAX:
                self._queues.setdefault(lane, deque()).append((call, permitted, until))
            else:
                refused += 1
                continue
            self._calling += 1
        if refused:
            self._not_started(refused)

    def _not_started(self, calls: int = 1) -> None:
        self._instruments.count("webhook_attempts", {"outcome": "not_started"}, by=calls)

    def _has_place(self, lane: Lane) -> bool:
        """Return whether one more call of an endpoint may be under way."""
        share = max(CALLS_ASSURED, (CALLS_SHARED_MAX - self._open) // FREE_SHARE)
        return self._open < CALLS_MAX and self._called[lane] < share

    def _start_call(
        self, group: anyio.abc.TaskGroup, lane: Lane, call: WebhookCall, permitted: Permitted, until: float
    ) -> None:
        self._called[lane] += 1
        self._open += 1
        place = self._partition_of(lane_key(*lane))
        if not call.per_second:
            self._waiting[place] += 1
        group.start_soon(self._call, lane, call, place, permitted, until)

    def _call_ended(self, lane: Lane) -> None:
        """Give the place of a call back, and let those begin that have waited for one."""
        self._calling -= 1
        self._open -= 1
        self._called[lane] -= 1
        if not self._called[lane]:
            del self._called[lane]
        for waiting in list(self._queues):
            queue = self._queues[waiting]
            while queue and self._group is not None and self._has_place(waiting):
                self._start_call(self._group, waiting, *queue.popleft())
            if not queue:
                del self._queues[waiting]

    async def _wait_turn(self, lane: Lane, per_second: int, until: float) -> None:
        """Return when an endpoint lets the next call begin: they are spread evenly, so no second has more of them.
        What comes after `until` will not be made, and takes no turn."""
        now = anyio.current_time()
        if now > until:
            return
        at = max(now, self._turns.pop(lane, now))
        self._turns[lane] = at + 1 / per_second
        if len(self._turns) > TURNS_MAX:
            del self._turns[next(iter(self._turns))]  # the one that has had no turn for longest
        await anyio.sleep(at - now)

    def _wait_for(self, rail: str, how: How, more: int) -> None:
        self.board.waits(rail, how, more, anyio.current_time())

    def _wait_in(self, reference: str) -> int:
        """Count an effect as waiting in the partition of its reference, and return that."""
        named = parse_reference(reference)
        if named is None:
            raise ValueError("a submission or a poll names a reference that is not ours")
        place = self._partition_of(named[0])
        self._waiting[place] += 1
        return place

    def _may_wait(self, submission: Submission) -> bool:
        """Return whether no other submission under its reference waits here, or was reported never to begin."""
        reference = submission.reference
        if reference in self._firsts or reference in self._never_begun:
            return False
        if submission.first:
            self._firsts.add(reference)
        return True

    async def _begins(self, place: int, permitted: Permitted, reference: str = "") -> bool | None:
        """Return whether an effect may begin; it waits no more, either way."""
        try:
            return await permitted(place, reference)
        finally:
            self._waits_no_more(place)

    def _waits_no_more(self, place: int) -> None:
        self._waiting[place] -= 1
        self._begun.set()

    def _is_inline(self, rail: str) -> bool:
        adapter = self._rail_of(rail)
        return adapter is not None and adapter.settings.kind == "inline"

    async def _submit_inline(self, submissions: list[tuple[Submission, int]], permitted: Permitted) -> None:
        """Ask a rail that answers without I/O, in one task for the whole tick."""
        try:
            for submission, place in submissions:
                rail = self._rail_of(submission.rail)
                begins = await self._begins(place, permitted, submission.reference)
                self._firsts.discard(submission.reference)
                if begins is None and submission.first:
                    self._never_begins(submission, permitted)
                elif begins and rail is not None:
                    asked = partial(_submitted, submission)
                    self._report_rail(await self._answer(rail, submission.reference, "submit", asked), "submit")
        finally:
            self._asking -= len(submissions)

    async def _submit(self, submission: Submission, place: int, permitted: Permitted) -> None:
        reference = submission.reference
        try:
            asked = partial(_submitted, submission)
            named = (submission.rail, reference)
            unsent = await self._ask(named, place, permitted, "submit", asked, submission.tenant)
            if unsent and submission.first:
                self._never_begins(submission, permitted)
        finally:
            self._firsts.discard(reference)

    def _never_begins(self, submission: Submission, permitted: Permitted) -> None:
        """Report a first submission that was not sent, and remember that: the report may be lost."""
        self._never_begun[submission.reference] = permitted, submission.epoch
        if len(self._never_begun) > NEVER_BEGUN_MAX:
            del self._never_begun[next(iter(self._never_begun))]
        self._report_unsent(submission.rail, submission.reference, submission.epoch)

    async def _poll(self, poll: Poll, place: int, permitted: Permitted) -> None:
        first = self._never_begun.get(poll.reference)
        if first is not None and await self._reported_again(poll, *first, place):
            self._asking -= 1
            self._waits_no_more(place)
            return
        named = (poll.rail, poll.reference)
        await self._ask(named, place, permitted, "poll", lambda rail: rail.poll(poll.reference, poll.cause))

    async def _reported_again(self, poll: Poll, first: Permitted, epoch: int, place: int) -> bool:
        """Answer a poll of what was not sent, of which the report may have been lost; return whether that holds."""
        if await first(place, poll.reference) is False:
            self._never_begun.pop(poll.reference, None)
            return False
        self._report_unsent(poll.rail, poll.reference, epoch)
        return True

    async def _ask(
        self, named: tuple[str, str], place: int, permitted: Permitted, how: How, ask: Asking, tenant: str = ""
    ) -> bool:
        """Ask a rail about a reference when it has a place free, and report what it says; return whether nothing was
        sent although the attempt may wait for it: it was too late for that, or nobody remembers."""
        name, reference = named
        submits = how == "submit"
        try:
            rail = self._rail_of(name)
            if rail is None:
                logger.error("no adapter for a rail", extra={"rail": name})
                self._waits_no_more(place)
                return False
            until, trips = anyio.current_time() + wait_max(rail.settings), self.board.trips(name)
            async with self._gate.turn(rail.settings, until, how, tenant) as given:
                begins = await self._begins(place, permitted, reference if submits else "")
                if not begins:
                    return begins is None
                started = anyio.current_time()
                if not given or started > until or (submits and self.board.tripped(name, trips)):
                    return True
                if submits:
                    self._firsts.discard(reference)
                outcome = await self._answer(rail, reference, how, ask)
                seconds = anyio.current_time() - started
            self._instruments.rail(name, how, seconds)
            self._report_rail(outcome, how, seconds)
            return False
        finally:
            self._asking -= 1

    async def _answer(self, rail: Rail, reference: str, how: str, ask: Asking) -> RailOutcome:
        """Return what a rail says of a reference; `unknown` where its adapter has a fault."""
        try:
            outcome = await ask(rail)
            if outcome.reference == reference:
                return outcome
            raise ValueError(f"the answer is about {outcome.reference!r}")
        except Exception:
            self._fault(how, rail=rail.settings.name, reference=reference)
        trust: Trust = "polled" if how == "poll" else "direct"
        return RailOutcome(rail.settings.name, reference, OutcomeStatus.UNKNOWN, reason="internal", trust=trust)

    def _fault(self, call: str, **about: str) -> None:
        """Tell of what was raised where nothing may be."""
        logger.exception("an outward call has met a fault of this program", extra={"call": call, **about})
        self._instruments.count("outward_faults", {"call": call})

    async def _send_call(self, lane: Lane, call: WebhookCall) -> AttemptResult:
        try:
            return await self._transport.send(call)
        except Exception:
            self._fault("webhook", tenant=lane[0], endpoint=lane[1], delivery=call.delivery)
            return AttemptResult(call.delivery, call.attempt, error=AttemptError.INTERNAL)

    async def _call(self, lane: Lane, call: WebhookCall, place: int, permitted: Permitted, until: float) -> None:
        try:
            if call.per_second:  # who waits for its turn keeps no partition from being given up: a successor sends it
                await self._wait_turn(lane, call.per_second, until)
                self._waiting[place] += 1
            current = await self.renew(call)
            if not await self._begins(place, permitted):
                return
            if current is None or anyio.current_time() > until:
                self._not_started()
                return
            result = await self._send_call(lane, current)
            self._instruments.count("webhook_attempts", {"outcome": str(result.error or result.status)})
            self._report(place, "webhook", AttemptReported(*lane, result))
        finally:
            self._call_ended(lane)

    def _report_unsent(self, rail: str, reference: str, epoch: int) -> None:
        """Report that nothing was sent under a reference; it says nothing of the rail's health."""
        self._instruments.count("rail_calls", {"rail": rail, "outcome": "not_sent"})
        outcome = RailOutcome(rail, reference, OutcomeStatus.NOT_ACCEPTED, reason="not_sent")
        self._report_outcome(outcome, f"{UNSENT}/{epoch}")

    def _report_rail(self, outcome: RailOutcome, how: str, seconds: float = 0.0) -> None:
        self.board.heard(outcome, how, seconds, anyio.current_time())
        self._instruments.count("rail_calls", {"rail": outcome.rail, "outcome": str(outcome.status)})
        self._report_outcome(outcome, how)

    def _report_outcome(self, outcome: RailOutcome, how: str) -> None:
        named = parse_reference(outcome.reference)
        if named is None:
            raise ValueError(f"rail {outcome.rail} answered for a reference that is not ours")
        self._serial += 1
        cause = f"{how}/{outcome.reference}/{self._serial}"
        self._report(self._partition_of(named[0]), "callback", RailReported(outcome, cause))

    def _report(self, partition: int, stage: str, event: Event) -> None:
        self._reports.append((partition, stage, event))
        self._reported.set()

    async def _send(self, reports: list[tuple[int, str, Event]]) -> None:
        """Publish reports in frames, behind those that wait for the stream.

        The id of a frame follows from its bytes, so a second try is dropped by the stream."""
        waited = {message.id for message in self._unsent}
        messages, refused = self._unsent + self._frames(reports), 0
        for _ in range(PUBLISH_TRIES):
            failures = await self._publisher.publish(messages)
            failed = [(message, why) for message, why in zip(messages, failures, strict=True) if why is not None]
            refused += sum(not why.retryable for _, why in failed)
            messages = [message for message, why in failed if why.retryable]
            if not messages:
                break
        self._unsent, lost = messages[:UNSENT_MAX], refused + len(messages[UNSENT_MAX:])
        if any(message.id not in waited for message in self._unsent):
            logger.warning("reports wait for the stream", extra={"frames": len(self._unsent)})
        if lost:
            logger.warning("reports were lost; their objects will ask again", extra={"frames": lost})

    def _frames(self, reports: list[tuple[int, str, Event]]) -> list[Outgoing]:
        frames: dict[tuple[int, str], list[Event]] = {}
        for partition, stage, event in reports:
            frames.setdefault((partition, stage), []).append(event)
        messages = []
        for (partition, stage), events in frames.items():
            for body in frames_of(events):  # endpoints answer with long pages of errors, and many at once
                digest = hashlib.sha256(body).hexdigest()[:32]
                messages.append(Outgoing(self._command_subject(partition, stage), body, digest))
        return messages
