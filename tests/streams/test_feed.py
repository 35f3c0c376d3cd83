"""The tail of the events on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zentra.runtime.stream_ports import Outgoing
from zentra.streams.connection import Connection
from zentra.streams.feed import EventTail
from zentra.streams.publisher import Publisher

pytestmark = pytest.mark.service


class Heard:
    """What a tail handed over, and a way to wait for it."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes]] = []
        self._more = asyncio.Event()

    def __call__(self, frames: list[tuple[str, bytes]]) -> None:
        assert frames
        self.frames += frames
        self._more.set()

    async def bodies(self, count: int) -> list[bytes]:
        while len(self.frames) < count:
            self._more.clear()
            await self._more.wait()
        return [body for _, body in self.frames]


def event(n: int, tenant: str = "acme") -> Outgoing:
    return Outgoing(f"ze.{n % 3}.{tenant}.intent-succeeded", b"%d" % n, f"{tenant}{n}")


@pytest.fixture
async def publisher(client: Connection) -> Publisher:
    made = Publisher(client)
    await made.start()
    return made


async def test_only_what_comes_after_the_start_is_heard(client: Connection, publisher: Publisher) -> None:
    await publisher.publish([event(1)])
    heard = Heard()
    tail = EventTail(client, heard)
    assert not tail.running
    await tail.start()
    await tail.start()
    assert tail.running
    await publisher.publish([event(2), event(3)])
    assert await heard.bodies(2) == [b"2", b"3"]
    assert heard.frames[0][0] == "ze.2.acme.intent-succeeded"
    await tail.stop()
    await publisher.publish([event(4)])
    await tail.start()
    await publisher.publish([event(5)])
    assert await heard.bodies(3) == [b"2", b"3", b"5"]
    await tail.stop()


async def test_a_tail_may_hear_one_tenant(client: Connection, publisher: Publisher) -> None:
    heard = Heard()
    tail = EventTail(client, heard, subject_filter="ze.*.globex.*")
    await tail.start()
    await publisher.publish([event(1), event(2, "globex"), event(3), event(4, "globex")])
    assert await heard.bodies(2) == [b"2", b"4"]
    await tail.stop()


async def test_a_removed_consumer_costs_no_event(client: Connection, publisher: Publisher) -> None:
    heard = Heard()
    tail = EventTail(client, heard)
    await tail.start()
    await publisher.publish([event(n) for n in range(5)])
    await heard.bodies(5)
    answer: dict[str, Any] = await client.call("CONSUMER.NAMES.ZE", None, dict[str, Any])
    for name in answer["consumers"]:
        await client.call(f"CONSUMER.DELETE.ZE.{name}", None, dict[str, Any])
    await publisher.publish([event(n) for n in range(5, 10)])
    assert await heard.bodies(10) == [b"%d" % n for n in range(10)]
    await tail.stop()
