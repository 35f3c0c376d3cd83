"""Reading the events of one tenant from a place on: nothing is missed, nothing is kept for who does not ask."""

from __future__ import annotations

import asyncio

import pytest

from tests.streams.nats_server import NatsServer, fresh_streams
from tests.streams.test_feed import event
from zentra.streams.connection import Connection, connect
from zentra.streams.errors import StreamUnavailable
from zentra.streams.feed import EventReader, frame_at
from zentra.streams.publisher import Publisher
from zentra.streams.topology import stream_state

pytestmark = pytest.mark.service


@pytest.fixture
async def publisher(client: Connection) -> Publisher:
    made = Publisher(client)
    await made.start()
    return made


async def read(reader: EventReader, count: int) -> list[int]:
    return [int((await reader.next()).body) for _ in range(count)]


async def test_a_reader_begins_behind_its_place_and_goes_on_live(client: Connection, publisher: Publisher) -> None:
    await publisher.publish([event(1), event(2, "globex"), event(3), event(4)])
    reader = EventReader(client, "acme", 1)
    await reader.start()
    assert await read(reader, 2) == [3, 4]
    await publisher.publish([event(5, "globex"), event(6)])
    frame = await reader.next()
    assert (frame.sequence, frame.subject, frame.body) == (6, "ze.0.acme.intent-succeeded", b"6")
    await reader.stop()


async def test_who_does_not_ask_is_sent_little_and_misses_nothing(client: Connection, publisher: Publisher) -> None:
    await publisher.publish([event(n) for n in range(500)])
    reader = EventReader(client, "acme", 0, waiting_max=8)
    await reader.start()
    assert await read(reader, 1) == [0]
    assert reader.waiting <= 8 + 2 * 32
    assert await read(reader, 499) == list(range(1, 500))
    await reader.stop()


async def test_a_reader_outlives_its_server(own_server: NatsServer) -> None:
    client = await connect(own_server.url, name="test")
    await fresh_streams(client)
    publisher = Publisher(client)
    await publisher.start()
    await publisher.publish([event(1), event(2)])
    reader = EventReader(client, "acme", 0)
    await reader.start()
    assert await read(reader, 2) == [1, 2]
    back = asyncio.Event()
    client.add_hooks(on_reconnect=back.set)
    own_server.stop()
    own_server.start()
    await back.wait()
    assert await publisher.publish([event(3)]) == [None]
    assert await read(reader, 1) == [3]
    await reader.stop()
    await publisher.close()
    await client.close()


async def test_a_frame_is_found_by_its_place(client: Connection, publisher: Publisher) -> None:
    await publisher.publish([event(1), event(2)])
    last = (await stream_state(client, "ZE")).last
    frame = await frame_at(client, last)
    assert frame is not None
    assert (frame.sequence, frame.subject, frame.body) == (last, "ze.2.acme.intent-succeeded", b"2")
    assert await frame_at(client, last + 1) is None
    await client.ask("$JS.API.STREAM.DELETE.ZE")
    with pytest.raises(StreamUnavailable):
        await frame_at(client, last)
