"""Waiting: told by events for intents, by rows for commands; never late, never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest

from zentra.gateway.http.waiting import CommandWaiters, IntentWaiters
from zentra.runtime.errors import Unavailable

Frames = list[tuple[str, bytes]]


class CommandOutcome(msgspec.Struct, frozen=True):
    """An outcome row."""

    accepted: bool
    code: str


INTENT = "0" * 31 + "1"


class Feed:
    """A tail in the hand of the test."""

    def __init__(self, on_frames: Callable[[Frames], None]) -> None:
        self.tell = on_frames
        self.starts = self.stops = 0
        self.on_start: Callable[[], None] = lambda: None

    async def start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0)
        self.on_start()

    async def stop(self) -> None:
        self.stops += 1


class Intent:
    """An intent whose state the test sets; reading it is counted."""

    def __init__(self, idle_seconds: float = 60.0) -> None:
        self.feeds: list[Feed] = []
        self.waiters = IntentWaiters(self._make, idle_seconds=idle_seconds)
        self.state, self.reads = "PROCESSING", 0

    @property
    def feed(self) -> Feed:
        return self.feeds[0]

    def _make(self, on_frames: Callable[[Frames], None]) -> Feed:
        self.feeds.append(Feed(on_frames))
        return self.feeds[0]

    async def read(self) -> str:
        self.reads += 1
        await asyncio.sleep(0)
        return self.state

    async def wait(self, seconds: float = 10.0) -> str:
        return await self.waiters.wait(INTENT, self.read, lambda state: state == "SUCCESSFUL", seconds)

    def tell(self, *, intent: str = INTENT, event: str = "ledger.posted", to: str = "SUCCESSFUL") -> None:
        frame = msgspec.json.encode([{"intent": intent, "event": event, "to": to, "more": 1}])
        self.feed.tell([("ze.1.acme.x", frame)])


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_ready_is_returned_at_once() -> None:
    intent = Intent()
    intent.state = "SUCCESSFUL"
    assert await intent.wait() == "SUCCESSFUL"
    assert intent.reads == 1


async def test_an_event_between_registering_and_reading_is_not_missed() -> None:
    intent = Intent()

    def settle() -> None:
        intent.state = "SUCCESSFUL"
        intent.tell()

    intent.feed.on_start = settle
    assert await intent.wait() == "SUCCESSFUL"
    assert intent.reads == 1


async def test_an_event_wakes_everybody_who_waits_for_its_intent() -> None:
    intent = Intent()
    waiting = [asyncio.create_task(intent.wait()) for _ in range(3)]
    await turns()
    assert intent.reads == 3
    intent.state = "SUCCESSFUL"
    intent.tell()
    assert await asyncio.gather(*waiting) == ["SUCCESSFUL"] * 3
    assert (intent.reads, intent.feed.starts) == (6, 1)


@pytest.mark.parametrize(
    ("told", "reads"),
    [
        ({"intent": "f" * 32}, 1),
        ({"event": "provider.routed", "to": "AWAITING_PROVIDER"}, 1),
        ({"event": "policy.review", "to": "REVIEW"}, 2),
        ({"event": "case.opened", "to": "AWAITING_PROVIDER"}, 2),
    ],
)
async def test_only_news_is_looked_at(told: dict[str, str], reads: int) -> None:
    intent = Intent()
    waiting = asyncio.create_task(intent.wait())
    await turns()
    intent.tell(**told)
    await turns()
    assert intent.reads == reads
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_at_the_end_the_state_is_read_once_more() -> None:
    intent = Intent()
    waiting = asyncio.create_task(intent.wait(0.05))
    await turns()
    intent.state = "SUCCESSFUL"  # and no event ever tells of it
    assert await waiting == "SUCCESSFUL"
    assert intent.reads == 2


async def test_a_frame_that_cannot_be_read_harms_nobody() -> None:
    intent = Intent()
    waiting = asyncio.create_task(intent.wait())
    await turns()
    intent.state = "SUCCESSFUL"
    intent.feed.tell([("ze.1.acme.x", b"[{"), ("ze.1.acme.x", b"{}")])
    intent.tell()
    assert await waiting == "SUCCESSFUL"


async def test_the_tail_stops_when_nobody_has_waited_for_a_while_and_starts_again() -> None:
    intent = Intent(idle_seconds=0.0)
    await intent.wait(0.0)
    while intent.feed.stops == 0:
        await asyncio.sleep(0)
    assert not intent.waiters.live
    intent.state = "SUCCESSFUL"
    assert await intent.wait() == "SUCCESSFUL"
    assert intent.feed.starts == 2
    await intent.waiters.aclose()


class Outcomes:
    """Outcome rows in the hand of the test."""

    def __init__(self) -> None:
        self.rows: dict[str, CommandOutcome] = {}
        self.asked: list[list[tuple[str, str]]] = []
        self.down = False
        self.waiters = CommandWaiters(self.find, pause_seconds=0.001)

    async def find(self, commands: Sequence[tuple[str, str]]) -> dict[str, CommandOutcome]:
        self.asked.append(list(commands))
        if self.down:
            self.down = False
            raise Unavailable("away")
        return {command: self.rows[command] for _, command in commands if command in self.rows}


async def test_all_commands_are_asked_for_together() -> None:
    outcomes = Outcomes()
    waiting = [asyncio.create_task(outcomes.waiters.wait("acme", f"c{n}", 10.0)) for n in range(3)]
    while not outcomes.asked:
        await asyncio.sleep(0)
    assert outcomes.asked[0] == [("acme", "c0"), ("acme", "c1"), ("acme", "c2")]
    outcomes.rows = {f"c{n}": CommandOutcome(n != 1, "done" if n != 1 else "not_cancellable") for n in range(3)}
    assert [done.code for done in await asyncio.gather(*waiting) if done] == ["done", "not_cancellable", "done"]


async def test_nobody_is_asked_when_nobody_waits() -> None:
    outcomes = Outcomes()
    assert await outcomes.waiters.wait("acme", "c", 0.01) is None
    while outcomes.waiters.asking:
        await asyncio.sleep(0)
    outcomes.rows["c"] = CommandOutcome(True, "done")
    assert await outcomes.waiters.wait("acme", "c", 10.0) == CommandOutcome(True, "done")


async def test_a_drain_lets_everybody_go() -> None:
    outcomes, intent = Outcomes(), Intent()
    for_command = asyncio.create_task(outcomes.waiters.wait("acme", "c", 10.0))
    for_intent = asyncio.create_task(intent.wait())
    await turns()
    outcomes.waiters.drain()
    intent.waiters.drain()
    assert await for_command is None
    assert await for_intent == "PROCESSING"
    assert await intent.wait() == "PROCESSING"


async def test_a_store_that_is_away_for_a_moment_is_asked_again() -> None:
    outcomes = Outcomes()
    outcomes.down = True
    outcomes.rows["c"] = CommandOutcome(True, "done")
    assert await outcomes.waiters.wait("acme", "c", 10.0) == CommandOutcome(True, "done")
    await outcomes.waiters.aclose()
