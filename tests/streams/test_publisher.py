"""What only a real server shows of the publisher: the window, the deadline, losing the server."""

from __future__ import annotations

import asyncio

import pytest

from tests.streams.nats_server import NatsServer, fresh_streams
from zentra.runtime.stream_ports import Outgoing
from zentra.streams.connection import Connection, connect
from zentra.streams.errors import StreamUnavailable
from zentra.streams.publisher import Publisher
from zentra.streams.topology import stream_state

pytestmark = pytest.mark.service


def frames(count: int, prefix: str = "id") -> list[Outgoing]:
    return [Outgoing(f"zc.{n % 4}.policy", b"frame", f"{prefix}{n}") for n in range(count)]


async def test_a_small_window_still_carries_many_messages(client: Connection) -> None:
    publisher = Publisher(client, window=8)
    await publisher.start()
    assert await publisher.publish(frames(200)) == [None] * 200
    assert publisher.statistics().in_flight == 0
    assert (await stream_state(client, "ZC")).messages == 200
    await publisher.close()


async def test_calls_at_the_same_time_each_get_their_own_results(client: Connection) -> None:
    publisher = Publisher(client, window=8)
    await publisher.start()
    lost = Outgoing("zx.nobody", b"", "lost")
    results = await asyncio.gather(
        publisher.publish(frames(30, "a")), publisher.publish([lost]), publisher.publish(frames(30, "b"))
    )
    assert results[0] == [None] * 30
    assert [type(failure) for failure in results[1]] == [StreamUnavailable]
    assert results[2] == [None] * 30
    await publisher.close()


async def test_a_repeat_counts_as_stored_and_as_duplicate(client: Connection) -> None:
    publisher = Publisher(client)
    await publisher.start()
    await publisher.publish(frames(5))
    assert await publisher.publish(frames(7)) == [None] * 7
    statistics = publisher.statistics()
    assert (statistics.published, statistics.duplicates, statistics.failed) == (12, 5, 0)
    await publisher.close()


async def test_a_caller_that_gives_up_disturbs_nobody(client: Connection) -> None:
    publisher = Publisher(client, window=8)
    await publisher.start()
    impatient = asyncio.create_task(publisher.publish(frames(50, "impatient")))
    patient = asyncio.create_task(publisher.publish(frames(50, "patient")))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == [None] * 50
    assert publisher.statistics().in_flight == 0
    await publisher.close()


async def test_a_silent_server_fails_what_passed_its_deadline(own_server: NatsServer) -> None:
    client = await connect(own_server.url, name="test")
    await fresh_streams(client)
    publisher = Publisher(client, window=4, deadline_s=0.3)
    await publisher.start()
    own_server.freeze()
    results = await publisher.publish(frames(10))
    own_server.thaw()
    assert all(isinstance(failure, StreamUnavailable) for failure in results)
    assert await publisher.publish(frames(10)) == [None] * 10
    assert (await stream_state(client, "ZC")).messages == 10
    await publisher.close()
    await client.close()


async def test_losing_the_server_fails_everything_at_once_and_a_retry_stores_it_once(own_server: NatsServer) -> None:
    lost, regained = asyncio.Event(), asyncio.Event()
    client = await connect(own_server.url, name="test", on_disconnect=lost.set, on_reconnect=regained.set)
    await fresh_streams(client)
    # A deadline beyond the test's own: only the loss of the connection can end the call.
    publisher = Publisher(client, deadline_s=600)
    await publisher.start()
    assert await publisher.publish(frames(10)) == [None] * 10
    own_server.freeze()
    waiting = asyncio.create_task(publisher.publish(frames(20)))
    while publisher.statistics().in_flight < 20:
        await asyncio.sleep(0)
    await asyncio.to_thread(own_server.process.kill)
    assert [type(failure) for failure in await waiting] == [StreamUnavailable] * 20
    await lost.wait()
    refused = await publisher.publish(frames(3))
    assert [str(failure) for failure in refused] == ["stream is unavailable: disconnected"] * 3
    await asyncio.to_thread(own_server.start)
    await regained.wait()
    assert await publisher.publish(frames(20)) == [None] * 20
    assert (await stream_state(client, "ZC")).messages == 20
    await publisher.close()
    await client.close()


async def test_closing_fails_what_is_on_its_way(own_server: NatsServer) -> None:
    client = await connect(own_server.url, name="test")
    await fresh_streams(client)
    publisher = Publisher(client, deadline_s=600)
    await publisher.start()
    own_server.freeze()
    waiting = asyncio.create_task(publisher.publish(frames(2)))
    while publisher.statistics().in_flight < 2:
        await asyncio.sleep(0)
    await publisher.close()
    assert [str(failure) for failure in await waiting] == ["stream is unavailable: publisher closed"] * 2
    assert [type(failure) for failure in await publisher.publish(frames(1))] == [StreamUnavailable]
    own_server.thaw()
    await client.close()


async def test_no_server_is_an_error_within_the_deadline() -> None:
    with pytest.raises(StreamUnavailable, match="cannot connect"):
        await connect("nats://127.0.0.1:1", name="test", deadline_s=0.3)
