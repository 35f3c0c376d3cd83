"""Turns at a rail: nobody waits too long for one, and what waited too long or has ended meanwhile is not sent."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest
from msgspec import structs

from tests.actors.test_outward import AwayStream, Endpoints, make_outward, passed, submission
from tests.actors.test_supervisor import in_virtual_time
from zentra.actors.health import RailBoard
from zentra.actors.limits import SHARES
from zentra.actors.outward import Outward
from zentra.actors.tick import Poll
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.runtime.instruments import SILENCE
from zentra.runtime.messages import RailReported, decode_frame
from zentra.runtime.rails.health import CircuitState
from zentra.runtime.rails.port import UNKNOWN_CAUSE, Cause, OutcomeStatus, RailOutcome, RailSettings, Submission
from zentra.runtime.subjects import command_subject


class PacedRail(InlineRail):
    """A rail with limits that keeps when it was asked what. It is reached over a socket, so its calls take turns."""

    def __init__(self, kind: str = "sandbox", **changes: float) -> None:
        super().__init__(structs.replace(RailSettings("alpha", kind), **changes))
        self.asked: list[tuple[str, float]] = []
        self.lasts = 0.0

    async def submit(self, submission: Submission) -> RailOutcome:
        self.asked.append((submission.reference, anyio.current_time()))
        await passed(self.lasts)
        return await super().submit(submission)

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        self.asked.append((f"poll {reference}", anyio.current_time()))
        return await super().poll(reference, cause)


def answers(stream: AwayStream) -> Counter[str]:
    """Return what was reported of rails, by status and reason."""
    events = [event for message in stream.taken for event in decode_frame(message.body)]
    told = [event for event in events if isinstance(event, RailReported)]
    assert all(event.cause.startswith(("submit/", "unsent/")) for event in told)
    assert all((event.outcome.reason == "not_sent") == event.cause.startswith("unsent/") for event in told)
    return Counter(event.outcome.reason or str(event.outcome.status) for event in told)


@pytest.mark.parametrize(("deadline", "lasts"), [(900.0, 60.0), (40.0, 10.0)])
@in_virtual_time
async def test_a_first_submission_that_would_wait_too_long_is_reported_unsent(deadline: float, lasts: float) -> None:
    rail, stream = PacedRail(rate_per_second=1, deadline_seconds=deadline), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        start = anyio.current_time()
        outward.perform([submission(number) for number in range(1200)], [], [])
        assert outward.backlog == 1200
        await passed(2 * lasts)
        assert outward.backlog == 0
        outward.perform([submission(2000)], [], [])
        await passed(1)
        group.cancel_scope.cancel()
    *sent, last = rail.asked
    assert lasts <= len(sent) <= lasts + 1
    assert max(at for _, at in sent) <= start + lasts
    assert last[1] - start < 2 * lasts + 1, "who was not sent takes no place of the rate"
    assert answers(stream) == {"succeeded": len(sent) + 1, "not_sent": 1200 - len(sent)}


@in_virtual_time
async def test_who_finds_no_place_in_time_is_not_sent_and_leaves_no_place_behind() -> None:
    rail, stream = PacedRail(concurrency_max=1), AwayStream(0.0)
    rail.lasts = 100.0
    outward = make_outward(stream, rail=rail)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(1)], [], [])
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(2)], [Poll("alpha", submission(9).reference, UNKNOWN_CAUSE)], [])
        await passed(61)
        assert answers(stream) == {"not_sent": 1}
        assert (outward.backlog, outward.waits_in(0)) == (1, False)
        await passed(60)
        outward.perform([submission(3)], [], [])
        await passed(101)
        group.cancel_scope.cancel()
    assert [reference for reference, _ in rail.asked] == [submission(1).reference, submission(3).reference]


@in_virtual_time
async def test_of_a_later_submission_that_waits_too_long_nothing_is_said() -> None:
    rail, stream = PacedRail(rate_per_second=0.001), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([structs.replace(submission(number), first=False) for number in range(2)], [], [])
        await passed(70)
        assert (answers(stream), outward.backlog) == ({"succeeded": 1}, 0)
        group.cancel_scope.cancel()


@in_virtual_time
async def test_nothing_else_is_asked_under_a_reference_that_waits_or_was_reported_unsent() -> None:
    rail, stream = PacedRail(concurrency_max=1), AwayStream(0.0)
    rail.lasts = 65.0
    outward, reference = make_outward(stream, rail=rail), submission(2).reference
    held = [True]

    async def permitted(place: int, reference: str) -> bool:
        return held[0]

    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(1)], [], [], permitted)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(2)], [], [], permitted)
        again = [structs.replace(submission(2), first=False)], [Poll("alpha", reference, UNKNOWN_CAUSE)]
        await passed(30)
        outward.perform(*again, [])
        assert outward.backlog == 2, "it waits"
        await passed(70)
        assert answers(stream) == {"succeeded": 1, "not_sent": 1}
        outward.perform(*again, [])
        await passed(70)
        assert answers(stream) == {"succeeded": 1, "not_sent": 2}, "the report may have been lost"
        held[0] = False
        outward.perform([], again[1], [])
        await passed(1)
        assert (outward.backlog, outward.waits_in(0)) == (0, False)
        group.cancel_scope.cancel()
    assert [name for name, _ in rail.asked] == [submission(1).reference, f"poll {reference}"], "others own it by now"


@pytest.mark.parametrize("kind", ["inline", "sandbox"])
@in_virtual_time
async def test_a_first_submission_whose_attempt_nobody_remembers_is_reported_unsent(kind: str) -> None:
    rail, stream = PacedRail(kind, rate_per_second=0.1), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    forgotten = [kind == "inline"]

    async def permitted(place: int, reference: str) -> bool | None:
        return None if reference and forgotten[0] else True

    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        later = structs.replace(submission(9), first=False)
        outward.perform([submission(number) for number in range(1, 7)], [], [], permitted)
        await passed(1)
        forgotten[0] = True
        await passed(60)
        sent = len(rail.asked)
        assert answers(stream) == Counter({"succeeded": sent, "not_sent": 6 - sent})
        assert (sent, outward.backlog, outward.waits_in(0)) == (kind != "inline", 0, False)
        asked = {reference for reference, _ in rail.asked}
        unsent = next(s.reference for s in map(submission, range(1, 7)) if s.reference not in asked)
        outward.perform([later], [Poll("alpha", unsent, UNKNOWN_CAUSE)], [], permitted)
        await passed(1)
        group.cancel_scope.cancel()
    assert len(rail.asked) == sent, "nothing was sent, and a poll is answered with that"
    assert answers(stream) == Counter({"succeeded": sent, "not_sent": 7 - sent})


@pytest.mark.parametrize("kind", ["inline", "sandbox"])
@in_virtual_time
async def test_an_attempt_that_ended_while_its_submission_waited_is_not_sent(kind: str) -> None:
    rail, stream = PacedRail(kind, rate_per_second=1), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    ended = submission(2).reference

    async def permitted(place: int, reference: str) -> bool:
        return reference != ended

    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(number) for number in range(1, 4)], [], [], permitted)
        await passed(5)
        assert (outward.backlog, outward.waits_in(0)) == (0, False)
        group.cancel_scope.cancel()
    assert {reference for reference, _ in rail.asked} == {submission(1).reference, submission(3).reference}
    assert answers(stream) == {"succeeded": 2}


@in_virtual_time
async def test_new_payments_are_sent_while_many_unknown_ones_are_polled_and_both_go_on() -> None:
    rail, stream = PacedRail(rate_per_second=1), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        for minute in range(5):
            outward.perform([], [Poll("alpha", submission(1000 + n).reference, UNKNOWN_CAUSE) for n in range(100)], [])
            await passed(2)
            outward.perform([submission(10 * minute + n) for n in range(5)], [], [])
            await passed(58)
        await passed(70)
        group.cancel_scope.cancel()
    polled = [name for name, _ in rail.asked if name.startswith("poll")]
    assert len(rail.asked) - len(polled) == 25, "each new payment was sent"
    assert len(polled) >= 250, "what submissions do not need is for polls"


@in_virtual_time
async def test_while_both_kinds_wait_turns_are_shared_out_and_polls_get_theirs() -> None:
    rail, stream = PacedRail(rate_per_second=1), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(number) for number in range(100)], [], [])
        outward.perform([], [Poll("alpha", submission(1000 + n).reference, UNKNOWN_CAUSE) for n in range(100)], [])
        await passed(40.5)
        polled = sum(name.startswith("poll") for name, _ in rail.asked)
        assert len(rail.asked) == 41
        assert polled == pytest.approx(41 * SHARES["poll"] / sum(SHARES.values()), abs=1)
        group.cancel_scope.cancel()


@in_virtual_time
async def test_the_payments_of_one_tenant_do_not_keep_those_of_another_waiting() -> None:
    rail, stream = PacedRail(rate_per_second=1), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(number) for number in range(200)], [], [])
        await passed(1.5)
        few = [structs.replace(submission(1000 + number), tenant="globex") for number in range(3)]
        outward.perform(few, [], [])
        await passed(7)
        assert {one.reference for one in few} <= {reference for reference, _ in rail.asked}
        assert len(rail.asked) == 9, "and the others go on"
        group.cancel_scope.cancel()


@in_virtual_time
async def test_what_waits_while_the_circuit_of_its_rail_opens_is_given_back_and_probes_go() -> None:
    rail, stream = PacedRail(rate_per_second=1, health_calls_min=1, open_seconds=5.0), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    outward.board = board = RailBoard(lambda: {"alpha": rail.settings})
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        again = [structs.replace(submission(100 + number), first=False) for number in range(10)]
        outward.perform([submission(number) for number in range(20)] + again, [], [])
        await passed(2.5)
        sent = len(rail.asked)
        bad = RailOutcome("alpha", submission(1).reference, OutcomeStatus.UNKNOWN)
        for _ in range(20):
            board.heard(bad, "submit", 1.0, anyio.current_time())
        await passed(6)
        board.look(anyio.current_time())
        assert board.circuit("alpha") is CircuitState.HALF_OPEN
        await passed(30)
        assert len(rail.asked) == sent, "what was chosen before the circuit opened is no probe"
        probe = submission(200)
        outward.perform([probe], [], [])
        await passed(1)
        group.cancel_scope.cancel()
    assert rail.asked[-1][0] == probe.reference
    told = answers(stream)
    assert told["succeeded"] == sent + 1
    assert told["not_sent"] == 20 - sum(reference in FIRST_TWENTY for reference, _ in rail.asked)


FIRST_TWENTY = {submission(number).reference for number in range(20)}


@in_virtual_time
async def test_a_submission_to_a_rail_without_an_adapter_lets_a_worker_drain() -> None:
    outward = Outward(lambda name: None, Endpoints(), AwayStream(0.0), lambda key: 0, command_subject, SILENCE)
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(1)], [Poll("alpha", submission(2).reference, UNKNOWN_CAUSE)], [])
        with anyio.fail_after(5):
            await outward.wait_begun()
        assert outward.backlog == 0
        group.cancel_scope.cancel()


@in_virtual_time
async def test_what_was_not_sent_says_nothing_of_the_rails_health() -> None:
    rail, stream = PacedRail(rate_per_second=0.001), AwayStream(0.0)
    outward = make_outward(stream, rail=rail)
    outward.board = RailBoard(lambda: {"alpha": rail.settings})
    async with anyio.create_task_group() as group:
        group.start_soon(outward.run)
        await anyio.wait_all_tasks_blocked()
        outward.perform([submission(1), submission(2)], [], [])
        await passed(1)
        assert answers(stream) == {"succeeded": 1, "not_sent": 1}
        [told] = outward.board.told("w", anyio.current_time())
        assert told.counts.calls == 1
        group.cancel_scope.cancel()
