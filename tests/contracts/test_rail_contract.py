"""The contract of the rail port, held by the twin and by the HTTP adapter against the sandbox server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from zentra.bench.twins.rails import ScriptedRail
from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.gateway.outward.rail_sandbox import SandboxRail
from zentra.gateway.sandbox.scenarios import PaymentBook, RailProfile, Timings
from zentra.gateway.sandbox.server import SandboxServer
from zentra.runtime.rails.port import OutcomeStatus, Rail, RailOutcome, RailSettings, Submission

SECRET = "rail-secret"
TIMINGS = Timings(soon_seconds=0.02, echo_seconds=0.04, last_seconds=0.06, late_seconds=0.4, hang_seconds=20.0)
S = OutcomeStatus


class Stage(Protocol):
    """A rail, the book behind it, and the callbacks that it makes."""

    book: PaymentBook

    @property
    def rail(self) -> Rail: ...

    async def callbacks(self, count: int) -> list[RailOutcome]: ...

    def end(self) -> None: ...


class Inbox:
    """Takes callbacks as the gateway would."""

    def __init__(self) -> None:
        self.raw: asyncio.Queue[tuple[bytes, Mapping[str, str]]] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        raw = await read_body(receive, 65536)
        assert raw is not None
        self.raw.put_nowait((raw, {name.decode(): value.decode() for name, value in scope["headers"]}))
        await answer(send, 200, b"{}")


class RealStage:
    def __init__(self, rail: SandboxRail, book: PaymentBook, inbox: Inbox) -> None:
        self.rail, self.book, self._inbox = rail, book, inbox

    async def callbacks(self, count: int) -> list[RailOutcome]:
        arrived = [await self._inbox.raw.get() for _ in range(count)]
        assert self._inbox.raw.empty()
        return [self.rail.verify_callback(raw, headers, time.time()) for raw, headers in arrived]

    def end(self) -> None:
        for payment in self.book:
            payment.ends_at = min(payment.ends_at, time.time())


class TwinStage:
    def __init__(self, settings: RailSettings) -> None:
        self.now = 1_800_000_000.0
        self.rail = ScriptedRail(settings, lambda: self.now, RailProfile(SECRET, timings=TIMINGS))
        self.book = self.rail.book

    async def callbacks(self, count: int) -> list[RailOutcome]:
        self.now += 1.0
        taken = self.rail.take_callbacks()
        assert len(taken) == count
        assert self.rail.next_callback_at() is None
        return [self.rail.verify_callback(one.raw, one.headers, self.now) for one in taken]

    def end(self) -> None:
        self.now += 1.0


@pytest.fixture(params=["twin", "http"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    settings = RailSettings(name="sandbox", kind="sandbox", secret=SECRET, submit_timeout_seconds=0.2)
    if request.param == "twin":
        yield TwinStage(settings)
        return
    inbox = Inbox()
    server = SandboxServer({"sandbox": RailProfile(SECRET, timings=TIMINGS)})
    async with AsyncExitStack() as stack:
        inbox_url = await stack.enter_async_context(listening(inbox))
        server_url = await stack.enter_async_context(listening(server))
        rail = SandboxRail(
            RailSettings(
                name="sandbox",
                kind="sandbox",
                base_url=server_url,
                secret=SECRET,
                callback_url=f"{inbox_url}/callbacks",
                submit_timeout_seconds=0.2,
            )
        )
        stack.push_async_callback(rail.aclose)
        yield RealStage(rail, server.books["sandbox"], inbox)


def submission(scenario: str | None, reference: str = "ref-1", minor: int = 125_000) -> Submission:
    return Submission(
        tenant="acme",
        rail="sandbox",
        reference=reference,
        minor=minor,
        currency="NGN",
        destination="0123456789",
        scenario=scenario,
        trace="trace-1",
    )


# fmt: off
STORIES = [
    # scenario                submit           callbacks: status, minor above the order's                    poll
    (None,                    S.PENDING,       [(S.SUCCEEDED, 0)],                                S.SUCCEEDED),
    ("success",               S.PENDING,       [(S.SUCCEEDED, 0)],                                S.SUCCEEDED),
    ("decline",               S.PENDING,       [(S.DECLINED, 0)],                                 S.DECLINED),
    ("reject",                S.NOT_ACCEPTED,  [],                                                S.NOT_ACCEPTED),
    ("timeout_then_success",  S.UNKNOWN,       [(S.SUCCEEDED, 0)],                                S.SUCCEEDED),
    ("late_success",          S.PENDING,       [(S.SUCCEEDED, 0)],                                S.SUCCEEDED),
    ("never_answers",         S.UNKNOWN,       [],                                                S.PENDING),
    ("silent",                S.PENDING,       [],                                                S.PENDING),
    ("duplicate_callback",    S.PENDING,       [(S.SUCCEEDED, 0), (S.SUCCEEDED, 0), (S.SUCCEEDED, 0)],    S.SUCCEEDED),
    ("out_of_order",          S.PENDING,       [(S.SUCCEEDED, 0), (S.PENDING, 0)],                S.SUCCEEDED),
    ("contradictory_amount",  S.PENDING,       [(S.SUCCEEDED, 1)],                                S.SUCCEEDED),
    ("contradictory_status",  S.PENDING,       [(S.SUCCEEDED, 0), (S.DECLINED, 0)],               S.SUCCEEDED),
    ("unknown_reference",     S.PENDING,       [(S.SUCCEEDED, 0), (S.SUCCEEDED, 0)],              S.SUCCEEDED),
]
# fmt: on


@pytest.mark.parametrize(("scenario", "submitted", "told", "polled"), STORIES)
async def test_a_scenario_answers_calls_back_and_is_polled_as_its_table_says(
    stage: Stage,
    scenario: str | None,
    submitted: OutcomeStatus,
    told: list[tuple[OutcomeStatus, int]],
    polled: OutcomeStatus,
) -> None:
    answered = await stage.rail.submit(submission(scenario))
    assert (answered.status, answered.trust, answered.reference) == (submitted, "direct", "ref-1")
    callbacks = await stage.callbacks(len(told))
    assert [(one.status, (one.minor or 0) - 125_000) for one in callbacks] == told
    stage.end()
    found = await stage.rail.poll("ref-1")
    assert (found.status, found.trust, found.minor, found.currency) == (polled, "polled", 125_000, "NGN")
    assert {one.trust for one in callbacks} <= {"body_signed"}
    assert all(one.raw_digest and one.currency == "NGN" for one in callbacks)


async def test_duplicates_share_an_event_id_and_their_bytes_but_a_new_event_does_not(stage: Stage) -> None:
    await stage.rail.submit(submission("duplicate_callback"))
    first, second, third = await stage.callbacks(3)
    assert (first.event_id, first.raw_digest) == (second.event_id, second.raw_digest)
    assert third.event_id != first.event_id
    assert third.provider_reference == first.provider_reference


async def test_a_stranger_is_called_back_under_a_reference_nobody_submitted(stage: Stage) -> None:
    await stage.rail.submit(submission("unknown_reference"))
    stranger, ours = await stage.callbacks(2)
    assert (stranger.reference, ours.reference) == ("stranger-ref-1", "ref-1")
    assert (await stage.rail.poll(stranger.reference)).status is S.NOT_FOUND


async def test_a_reference_submitted_again_is_the_same_payment_and_is_paid_once(stage: Stage) -> None:
    first = await stage.rail.submit(submission("success"))
    again = await stage.rail.submit(submission("success"))
    assert again.provider_reference == first.provider_reference
    await stage.callbacks(1)
    (payment,) = stage.book
    assert (payment.submits, payment.paid(payment.ends_at)) == (2, 1)


async def test_a_timed_out_submit_made_again_meets_the_payment_it_made(stage: Stage) -> None:
    assert (await stage.rail.submit(submission("timeout_then_success"))).status is S.UNKNOWN
    stage.end()
    assert (await stage.rail.submit(submission("timeout_then_success"))).status is S.SUCCEEDED
    (payment,) = stage.book
    assert payment.paid(payment.ends_at) == 1


async def test_a_reference_with_another_body_is_unknown_and_pays_nothing_more(stage: Stage) -> None:
    await stage.rail.submit(submission("silent"))
    other = await stage.rail.submit(submission("silent", minor=1))
    assert (other.status, other.reason) == (S.UNKNOWN, "http_409")
    assert [payment.submits for payment in stage.book] == [1]


async def test_an_unavailable_rail_accepts_nothing_new_and_stands_by_what_it_took(stage: Stage) -> None:
    await stage.rail.submit(submission("silent"))
    stage.book.available = False
    refused = await stage.rail.submit(submission("success", reference="ref-2"))
    assert (refused.status, refused.reason) == (S.NOT_ACCEPTED, "unavailable")
    assert (await stage.rail.poll("ref-2")).status is S.NOT_FOUND
    assert (await stage.rail.submit(submission("silent"))).status is S.PENDING


async def test_a_scenario_nobody_wrote_is_not_accepted(stage: Stage) -> None:
    assert (await stage.rail.submit(submission("no_such_story"))).status is S.NOT_ACCEPTED
    assert len(stage.book) == 0


async def test_a_reference_never_submitted_is_not_found(stage: Stage) -> None:
    assert (await stage.rail.poll("nobody/knows%2Fme")).status is S.NOT_FOUND


async def test_closing_twice_does_no_harm(stage: Stage) -> None:
    await stage.rail.submit(submission("silent"))
    await stage.rail.aclose()
    await stage.rail.aclose()


@pytest.mark.parametrize(
    ("scenario", "submitted"),
    [
        (None, S.SUCCEEDED),
        ("success", S.SUCCEEDED),
        ("decline", S.DECLINED),
        ("reject", S.NOT_ACCEPTED),
        ("silent", S.PENDING),
        ("no_such_story", S.NOT_ACCEPTED),
    ],
)
async def test_the_inline_rail_decides_at_once_and_remembers(scenario: str | None, submitted: OutcomeStatus) -> None:
    rail = InlineRail(RailSettings(name="inline", kind="inline"), remembered_max=2)
    first = await rail.submit(submission(scenario))
    assert first.status is submitted
    assert await rail.submit(submission("success")) == first
    assert (await rail.poll("ref-1")).status is submitted
    for other in ("ref-2", "ref-3"):
        await rail.submit(submission(scenario, reference=other))
    assert (await rail.poll("ref-1")).status is S.NOT_FOUND
