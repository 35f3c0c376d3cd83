"""Outward effects: what they report while the stream is away waits, and endpoints that hang hold up no rail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from msgspec import structs

from tests.actors.test_supervisor import in_virtual_time
from zentra.actors import outward as module
from zentra.actors.framing import FRAME_BYTES_MAX
from zentra.actors.lanes import ATTEMPT_LOST_AFTER
from zentra.actors.outward import BACKLOG_MAX, CALL_WAITS_MAX, CALLS_MAX, Outward
from zentra.actors.tick import Poll
from zentra.gateway.outward import rail_kinds
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.gateway.outward.rails import RailBook
from zentra.gateway.outward.webhooks import WebhookSender
from zentra.runtime.instruments import SILENCE, Instruments, Silence
from zentra.runtime.messages import AttemptReported, RailReported, decode_frame
from zentra.runtime.rails.port import UNKNOWN_CAUSE, Cause, OutcomeStatus, Rail, RailOutcome, RailSettings, Submission
from zentra.runtime.rails.routing import reference_of
from zentra.runtime.stream_ports import Outgoing, StreamError
from zentra.runtime.subjects import command_subject
from zentra.runtime.webhooks.standard import AttemptError, AttemptResult, WebhookCall, WebhookTransport

if TYPE_CHECKING:
    from zentra.gateway.outward.http import OutwardHttp

AWAY_SECONDS = 30.0


class AwayStream:
    """A stream that takes nothing for a while, and refuses some messages for ever."""

    def __init__(self, away_seconds: float, *, retryable: bool = True) -> None:
        self.back_at = anyio.current_time() + away_seconds
        self.retryable = retryable
        self.offered: list[str] = []
        self.taken: list[Outgoing] = []
        self._asked = anyio.Event()

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        self.offered += [message.id for message in messages]
        away = anyio.current_time() < self.back_at
        if not away:
            self.taken += messages
        self._asked.set()
        return [StreamError("away", retryable=self.retryable) if away else None for _ in messages]

    async def until(self, holds: Callable[[AwayStream], bool]) -> None:
        """Return when that holds; only an offer can make it."""
        with anyio.fail_after(2 * AWAY_SECONDS):
            while not holds(self):
                self._asked = anyio.Event()
                await self._asked.wait()

    @property
    def told(self) -> list[str]:
        events = [event for message in self.taken for event in decode_frame(message.body)]
        return [event.result.delivery for event in events if isinstance(event, AttemptReported)]


def was_offered(frames: int) -> Callable[[AwayStream], bool]:
    """Return what says whether a stream was offered so many frames."""
    return lambda stream: len(set(stream.offered)) == frames


class Endpoints:
    """A webhook transport that is always answered."""

    async def send(self, call: WebhookCall) -> AttemptResult:
        return AttemptResult(call.delivery, call.attempt, status=200, latency_ms=1)


class HangingEndpoints(Endpoints):
    """A webhook transport that is answered when it is told to."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.answer = anyio.Event()

    async def send(self, call: WebhookCall) -> AttemptResult:
        self.called.append(call.delivery)
        await self.answer.wait()
        return await super().send(call)


class HangingRail(InlineRail):
    """A rail that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(RailSettings("alpha", "sandbox"))
        self.answer = anyio.Event()

    async def submit(self, submission: Submission) -> RailOutcome:
        await self.answer.wait()
        return await super().submit(submission)


class Counts(Silence):
    """Instruments that count attempts by their outcome."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()

    def count(self, name: str, labels: Mapping[str, str] | None = None, by: int = 1) -> None:
        if name == "webhook_attempts" and labels is not None:
            self.attempts[labels["outcome"]] += by


def make_outward(
    stream: AwayStream,
    transport: WebhookTransport | None = None,
    rail: Rail | None = None,
    instruments: Instruments = SILENCE,
) -> Outward:
    return Outward(lambda name: rail, transport or Endpoints(), stream, lambda key: 0, command_subject, instruments)


def submission(number: int) -> Submission:
    return Submission("acme", "alpha", reference_of(f"{number:032x}", 1), 100, "NGN", "merchant", first=True)


async def passed(seconds: float) -> None:
    """Return when so much virtual time has passed."""
    await anyio.sleep_until(anyio.current_time() + seconds)


def call(name: str, endpoint: str = "hook", per_second: int = 0) -> tuple[str, str, WebhookCall]:
    made = WebhookCall("http://hook", f"msg_{name}", b"{}", (b"secret",), 1, name, per_second=per_second)
    return "acme", endpoint, made


@in_virtual_time
async def test_a_report_waits_for_a_stream_that_is_away() -> None:
    stream = AwayStream(AWAY_SECONDS)
    outward = make_outward(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call("d1"), call("d2")])
        await stream.until(lambda asked: len(asked.offered) > 5)
        assert not stream.taken
        outward.perform([], [], [call("d3")])
        await stream.until(lambda asked: len(asked.told) == 3)
        group.cancel_scope.cancel()
    assert sorted(stream.told) == ["d1", "d2", "d3"]
    assert {message.id for message in stream.taken} == set(stream.offered), "what is tried again has the same id"
    asked = max(Counter(stream.offered).values())
    assert asked < 15 * AWAY_SECONDS, "a stream that is away is not asked without a pause"


class Faults(Counts):
    """Instruments that count what failed by a fault of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: Counter[str] = Counter()

    def count(self, name: str, labels: Mapping[str, str] | None = None, by: int = 1) -> None:
        super().count(name, labels, by)
        if name == "outward_faults" and labels is not None:
            self.faults[labels["call"]] += by


class FaultyEndpoints(Endpoints):
    """A transport with a fault that some deliveries meet."""

    async def send(self, call: WebhookCall) -> AttemptResult:
        if call.delivery.startswith("bad"):
            raise OverflowError("date value out of range")
        return await super().send(call)


class Porter(InlineRail):
    """An adapter whose constructor has a fault."""

    def __init__(self, settings: RailSettings, http: object, spans: object) -> None:
        super().__init__(settings)
        self.port = int(settings.options["port"])


@pytest.mark.parametrize("how", ["submit", "poll"])
@in_virtual_time
async def test_an_adapter_that_cannot_be_made_ends_nothing_but_its_own_calls(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setitem(rail_kinds.BUILT_IN, "porter", rail_kinds.Kind(Porter.declaration, Porter))
    broken = RailSettings("alpha", "porter", options={"port": "five"})
    settings = {"alpha": broken, "beta": RailSettings("beta", "inline")}
    http = cast("OutwardHttp", None)  # no rail here makes calls
    book, stream = RailBook(lambda: settings, http, opened=lambda rail: rail), AwayStream(0.0)
    outward = Outward(book.adapter, Endpoints(), stream, lambda key: 0, command_subject, SILENCE)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        healthy = structs.replace(submission(2), rail="beta")
        if how == "submit":
            outward.perform([submission(1), healthy], [], [])
        else:
            outward.perform([healthy], [Poll("alpha", submission(1).reference, UNKNOWN_CAUSE)], [])
        await passed(1)
        assert outward.backlog == 0
        group.cancel_scope.cancel()
    events = [event for message in stream.taken for event in decode_frame(message.body)]
    told = {e.outcome.rail: e.outcome.reason or str(e.outcome.status) for e in events if isinstance(e, RailReported)}
    assert told == {"alpha": "adapter_unusable", "beta": "succeeded"}


class FaultyRail(InlineRail):
    """An adapter with faults: it raises, or answers for something that nobody has asked it."""

    def __init__(self, kind: str, fault: str) -> None:
        super().__init__(RailSettings("alpha", kind))
        self.fault, self.bad = fault, {submission(1).reference}

    async def submit(self, submission: Submission) -> RailOutcome:
        return self._spoilt(await super().submit(submission))

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        return self._spoilt(RailOutcome("alpha", reference, OutcomeStatus.SUCCEEDED, 100, "NGN"))

    def _spoilt(self, outcome: RailOutcome) -> RailOutcome:
        if outcome.reference not in self.bad:
            return outcome
        if self.fault == "raises":
            raise KeyError("status")
        return structs.replace(outcome, reference=self.fault)


@in_virtual_time
async def test_a_fault_in_one_attempt_is_told_and_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    stream, faults = AwayStream(0.0), Faults()
    outward = make_outward(stream, FaultyEndpoints(), instruments=faults)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call("bad"), call("d1")])
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call("d2")])
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    events = [event for message in stream.taken for event in decode_frame(message.body)]
    results = {event.result.delivery: event.result for event in events if isinstance(event, AttemptReported)}
    assert {name: result.error for name, result in results.items()} == {
        "bad": AttemptError.INTERNAL, "d1": None, "d2": None,
    }  # fmt: skip
    assert (faults.faults, faults.attempts) == ({"webhook": 1}, {"internal": 1, "200": 2})
    assert ["OverflowError" in (record.exc_text or str(record.exc_info)) for record in caplog.records] == [True]


@in_virtual_time
@pytest.mark.parametrize("fault", ["raises", "not a reference of ours", submission(2).reference])
@pytest.mark.parametrize(("kind", "how"), [("inline", "submit"), ("sandbox", "submit"), ("sandbox", "poll")])
async def test_a_fault_of_an_adapter_leaves_its_call_unknown_and_ends_no_other(
    caplog: pytest.LogCaptureFixture, kind: str, how: str, fault: str
) -> None:
    stream, faults = AwayStream(0.0), Faults()
    outward = make_outward(stream, rail=FaultyRail(kind, fault), instruments=faults)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        for number in (1, 3):
            asked = submission(number)
            if how == "submit":
                outward.perform([asked, submission(number + 1)], [], [])
            else:
                outward.perform(
                    [],
                    [
                        Poll(asked.rail, one, UNKNOWN_CAUSE)
                        for one in (asked.reference, submission(number + 1).reference)
                    ],
                    [],
                )
            await anyio.wait_all_tasks_blocked()
        assert outward.backlog == 0
        group.cancel_scope.cancel()
    events = [event for message in stream.taken for event in decode_frame(message.body)]
    outcomes = {event.outcome.reference: event.outcome for event in events if isinstance(event, RailReported)}
    assert outcomes.keys() == {submission(number).reference for number in (1, 2, 3, 4)}
    bad = outcomes.pop(submission(1).reference)
    assert (bad.status, bad.reason, bad.trust) == (
        OutcomeStatus.UNKNOWN, "internal", "direct" if how == "submit" else "polled",
    )  # fmt: skip
    assert OutcomeStatus.UNKNOWN not in {outcome.status for outcome in outcomes.values()}
    assert faults.faults == {how: 1}
    assert len(caplog.records) == 1


class Babbling(Endpoints):
    """Endpoints that answer with as much as is kept of an answer."""

    async def send(self, call: WebhookCall) -> AttemptResult:
        return AttemptResult(call.delivery, call.attempt, status=502, latency_ms=1, response_excerpt="x" * 16 * 1024)


@in_virtual_time
async def test_reports_of_long_answers_are_cut_into_messages_that_the_stream_takes() -> None:
    stream = AwayStream(0.0)
    outward = make_outward(stream, Babbling())
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call(f"d{number}") for number in range(200)])
        await stream.until(lambda asked: len(asked.told) == 200)
        group.cancel_scope.cancel()
    assert max(len(message.body) for message in stream.taken) <= FRAME_BYTES_MAX


@in_virtual_time
async def test_a_report_that_the_stream_never_takes_is_not_in_the_way_of_others() -> None:
    stream = AwayStream(AWAY_SECONDS, retryable=False)
    outward = make_outward(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call("d1")])
        await stream.until(lambda asked: len(asked.offered) == 1)
        stream.back_at = anyio.current_time()
        outward.perform([], [], [call("d2")])
        await stream.until(lambda asked: bool(asked.told))
        group.cancel_scope.cancel()
    assert stream.told == ["d2"]


@in_virtual_time
async def test_what_waits_is_bounded() -> None:
    stream = AwayStream(AWAY_SECONDS)
    outward = make_outward(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "UNSENT_MAX", 2)
            for number in range(4):
                outward.perform([], [], [call(f"d{number}")])
                await stream.until(was_offered(number + 1))
        await stream.until(lambda asked: len(asked.taken) == 2)
        group.cancel_scope.cancel()
    assert stream.told == ["d0", "d1"]


@in_virtual_time
async def test_endpoints_that_hang_hold_up_neither_a_rail_nor_what_arrives() -> None:
    stream, endpoints = AwayStream(0.0), HangingEndpoints()
    outward = make_outward(stream, endpoints, InlineRail(RailSettings("alpha", "sandbox")))
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call(f"d{number}") for number in range(BACKLOG_MAX + 10)])
        await anyio.wait_all_tasks_blocked()
        assert not outward.congested
        outward.perform([submission(1)], [], [])
        await anyio.wait_all_tasks_blocked()
        events = [event for message in stream.taken for event in decode_frame(message.body)]
        assert [event.outcome.reference for event in events if isinstance(event, RailReported)] == [
            submission(1).reference
        ]
        group.cancel_scope.cancel()


@in_virtual_time
async def test_a_rail_that_hangs_holds_up_what_arrives() -> None:
    rail = HangingRail()
    outward = make_outward(AwayStream(0.0), rail=rail)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(number) for number in range(BACKLOG_MAX)], [], [call("d1")])
        await anyio.wait_all_tasks_blocked()
        assert (outward.congested, outward.backlog) == (False, BACKLOG_MAX)
        outward.perform([submission(BACKLOG_MAX)], [], [])
        assert outward.congested
        rail.answer.set()
        await anyio.wait_all_tasks_blocked()
        assert (outward.congested, outward.backlog) == (False, 0)
        group.cancel_scope.cancel()


@in_virtual_time
async def test_past_so_many_calls_a_further_one_is_not_started_until_one_has_ended() -> None:
    stream, endpoints, counts = AwayStream(0.0), HangingEndpoints(), Counts()
    outward = make_outward(stream, endpoints, instruments=counts)
    names = [f"d{number}" for number in range(BACKLOG_MAX + 2)]
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call(name) for name in names[:-1]])
        outward.perform([], [], [call(names[-1])])
        await anyio.wait_all_tasks_blocked()
        assert sorted(endpoints.called) == sorted(names[: len(endpoints.called)])
        assert len(endpoints.called) < CALLS_MAX // 2, "one endpoint leaves room for others"
        assert (counts.attempts, outward.backlog) == ({"not_started": 2}, BACKLOG_MAX)
        assert not outward.waits_in(0), "nobody has to wait for a call that was not started"
        endpoints.answer.set()
        await anyio.wait_all_tasks_blocked()
        assert sorted(stream.told) == sorted(names[:BACKLOG_MAX])
        outward.perform([], [], [call(names[-1])])
        await anyio.wait_all_tasks_blocked()
        assert (stream.told[-1], outward.backlog) == (names[-1], 0)
        group.cancel_scope.cancel()


@in_virtual_time
@pytest.mark.parametrize("hanging", [1, 4, 20, 100])
async def test_however_many_endpoints_hang_another_one_is_called_at_once(hanging: int) -> None:
    endpoints = HangingEndpoints()
    outward = make_outward(AwayStream(0.0), endpoints)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        for number in range(hanging):
            outward.perform([], [], [call(f"h{number}-{place}", f"hook-{number}") for place in range(256)])
        await anyio.wait_all_tasks_blocked()
        assert len(endpoints.called) < CALLS_MAX
        outward.perform([], [], [call("other", "healthy")])
        await anyio.wait_all_tasks_blocked()
        assert endpoints.called[-1] == "other"
        group.cancel_scope.cancel()


@in_virtual_time
@pytest.mark.parametrize("per_second", [0, 6])
async def test_a_call_that_its_lane_is_about_to_send_again_is_not_started(per_second: int) -> None:
    """A wide lane has few places while many others hang: what came to no end in time is sent once, by the next try."""
    began: list[tuple[str, float]] = []

    class Slow(Endpoints):
        async def send(self, call: WebhookCall) -> AttemptResult:
            began.append((call.delivery, anyio.current_time()))
            await passed(2 if call.delivery.startswith("d") else 1_000)
            return await super().send(call)

    stream, counts = AwayStream(0.0), Counts()
    outward = make_outward(stream, Slow(), instruments=counts)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        for number in range(128):
            outward.perform([], [], [call(f"h{number}-{place}", f"hook-{number}") for place in range(4)])
        await anyio.wait_all_tasks_blocked()
        start = anyio.current_time()
        outward.perform([], [], [call(f"d{number}", "healthy", per_second) for number in range(256)])
        await passed(60)
        late = [name for name, at in began if at - start > CALL_WAITS_MAX]
        sent = [name for name, _ in began if name.startswith("d")]
        assert (late, sorted(sent)) == ([], sorted(stream.told))
        assert 0 < len(sent) == 256 - counts.attempts["not_started"] < 256
        assert outward.backlog == 128 * 4
        assert not outward.waits_in(0)
        answers = signature(WebhookSender).parameters["total_timeout_seconds"].default
        assert timedelta(seconds=CALL_WAITS_MAX + answers) < ATTEMPT_LOST_AFTER
        group.cancel_scope.cancel()


@in_virtual_time
async def test_an_endpoint_with_a_rate_is_called_no_more_often_and_holds_up_nobody() -> None:
    began: list[float] = []

    class Clocked(Endpoints):
        async def send(self, call: WebhookCall) -> AttemptResult:
            began.append(anyio.current_time())
            return await super().send(call)

    stream = AwayStream(0.0)
    outward = make_outward(stream, Clocked())
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        start = anyio.current_time()
        outward.perform([], [], [call(f"d{number}", per_second=4) for number in range(9)])
        await anyio.wait_all_tasks_blocked()
        assert not outward.waits_in(0), "a partition is given up over their heads"
        await passed(3)
        assert [round(at - start, 3) for at in began] == [number / 4 for number in range(9)]
        assert len(stream.told) == 9
        group.cancel_scope.cancel()


@in_virtual_time
async def test_a_call_that_was_cancelled_before_it_began_does_not_count_for_ever() -> None:
    outward = make_outward(AwayStream(0.0), HangingEndpoints(), HangingRail())
    for _ in range(2):
        async with anyio.create_task_group() as group:
            group.start_soon(outward.run)
            await anyio.wait_all_tasks_blocked()
            outward.perform([submission(1)], [], [call("d1")])
            group.cancel_scope.cancel()
        assert outward.backlog == 0
