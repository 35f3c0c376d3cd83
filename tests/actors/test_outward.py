"""What outward effects report while the stream is away: it waits, and is not lost."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from tests.actors.test_supervisor import in_virtual_time
from zentra.actors import outward as module
from zentra.actors.outward import Outward
from zentra.runtime.instruments import SILENCE
from zentra.runtime.messages import AttemptReported, decode_frame
from zentra.runtime.stream_ports import Outgoing, StreamError
from zentra.runtime.subjects import command_subject
from zentra.runtime.webhooks.standard import AttemptResult, WebhookCall

AWAY_SECONDS = 30.0


class AwayStream:
    """A stream that takes nothing for a while, and refuses some messages for ever."""

    def __init__(self, away_seconds: float, *, retryable: bool = True) -> None:
        self.back_at = anyio.current_time() + away_seconds
        self.retryable = retryable
        self.offered: list[str] = []
        self.taken: list[Outgoing] = []

    async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
        self.offered += [message.id for message in messages]
        if anyio.current_time() < self.back_at:
            return [StreamError("away", retryable=self.retryable) for _ in messages]
        self.taken += messages
        return [None] * len(messages)

    @property
    def told(self) -> list[str]:
        events = [event for message in self.taken for event in decode_frame(message.body)]
        return [event.result.delivery for event in events if isinstance(event, AttemptReported)]


class Endpoints:
    """A webhook transport that is always answered."""

    async def send(self, call: WebhookCall) -> AttemptResult:
        return AttemptResult(call.delivery, call.attempt, status=200, latency_ms=1)


def make_outward(stream: AwayStream) -> Outward:
    return Outward(lambda name: None, Endpoints(), stream, lambda key: 0, command_subject, SILENCE)


async def passed(seconds: float) -> None:
    """Return when so much virtual time has passed."""
    ends = anyio.current_time() + seconds
    while anyio.current_time() < ends:
        await anyio.sleep(0.1)


def call(name: str) -> tuple[str, str, WebhookCall]:
    return "acme", "hook", WebhookCall("http://hook", f"msg_{name}", b"{}", (b"secret",), 1, name)


@in_virtual_time
async def test_a_report_waits_for_a_stream_that_is_away() -> None:
    stream = AwayStream(AWAY_SECONDS)
    outward = make_outward(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call("d1"), call("d2")])
        await passed(AWAY_SECONDS / 2)
        outward.perform([], [], [call("d3")])
        with anyio.fail_after(AWAY_SECONDS):
            while len(stream.told) < 3:
                await anyio.sleep(0.1)
        group.cancel_scope.cancel()
    assert sorted(stream.told) == ["d1", "d2", "d3"]
    assert {message.id for message in stream.taken} == set(stream.offered), "what is tried again has the same id"
    assert len(stream.offered) < 20 * AWAY_SECONDS, "a stream that is away is not asked without a pause"


@in_virtual_time
async def test_a_report_that_the_stream_never_takes_is_not_in_the_way_of_others() -> None:
    stream = AwayStream(1.0, retryable=False)
    outward = make_outward(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([], [], [call("d1")])
        await passed(2.0)
        outward.perform([], [], [call("d2")])
        with anyio.fail_after(AWAY_SECONDS):
            while not stream.told:
                await anyio.sleep(0.1)
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
                await passed(2.0)
        with anyio.fail_after(2 * AWAY_SECONDS):
            while len(stream.taken) < 2:
                await anyio.sleep(0.1)
        group.cancel_scope.cancel()
    assert stream.told == ["d0", "d1"]
