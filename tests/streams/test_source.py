"""What only a real server shows of the source: broken consumers, back-pressure, a server that is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tests.streams.nats_server import NatsServer, fresh_streams
from zentra.runtime.stream_ports import NOTHING_CONSUMED, Inbound, Outgoing, Position
from zentra.streams.connection import Connection, connect
from zentra.streams.errors import StreamUnavailable
from zentra.streams.publisher import Publisher
from zentra.streams.pull import Pull
from zentra.streams.source import CommandSource
from zentra.streams.topology import purge_commands

pytestmark = pytest.mark.service

PARTITIONS = 4
EVERYTHING = dict.fromkeys(range(PARTITIONS), NOTHING_CONSUMED)


def frames(count: int, prefix: str = "id", size: int = 5) -> list[Outgoing]:
    return [Outgoing(f"zc.{n % PARTITIONS}.policy", bytes(size), f"{prefix}{n}") for n in range(count)]


async def publish(client: Connection, messages: list[Outgoing]) -> None:
    publisher = Publisher(client)
    await publisher.start()
    assert await publisher.publish(messages) == [None] * len(messages)
    await publisher.close()


async def take(source: CommandSource, count: int) -> list[Inbound]:
    taken: list[Inbound] = []
    while len(taken) < count:
        await source.wait_arrival()
        taken += source.take_nowait(10)
    return taken


async def consumers(client: Connection) -> list[str]:
    answer: dict[str, Any] = await client.call("CONSUMER.NAMES.ZC", None, dict[str, Any])
    return answer["consumers"] or []


async def test_a_removed_consumer_is_replaced_without_a_repeat(client: Connection) -> None:
    source = CommandSource(client, PARTITIONS, batch=16)
    await source.start(EVERYTHING)
    await publish(client, frames(30, "a"))
    got = await take(source, 20)
    (name,) = await consumers(client)
    await client.call(f"CONSUMER.DELETE.ZC.{name}", None, dict[str, Any])
    await publish(client, frames(30, "b"))
    got += await take(source, 60 - len(got))
    assert [m.sequence for m in got] == list(range(1, 61))
    assert source.statistics().builds == 2
    await source.stop()


async def test_a_gap_is_noticed_and_nothing_lost(client: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    subscribe = client.subscribe
    callbacks = []

    async def tapped(subject: str, **options: Any) -> Subscription:
        callbacks.append(options["cb"])
        return await subscribe(subject, **options)

    monkeypatch.setattr(client, "subscribe", tapped)
    source = CommandSource(client, PARTITIONS, batch=16)
    await source.start(EVERYTHING)
    # The server lets no client write such a reply, so the ninth message is put in by hand before the first.
    await callbacks[-1](Msg(client, "zc.0.policy", "$JS.ACK.ZC.consumer.1.9.9.0.0", b""))
    await publish(client, frames(12))
    assert [m.sequence for m in await take(source, 12)] == list(range(1, 13))
    assert (source.statistics().gaps, source.statistics().builds) == (1, 2)
    await source.stop()


async def test_what_nobody_takes_stays_on_the_server(client: Connection) -> None:
    await publish(client, frames(400))
    source = CommandSource(client, PARTITIONS, batch=16, buffered_max=32)
    await source.start(EVERYTHING)
    await source.wait_arrival()
    while source.statistics().buffered < 32:
        await asyncio.sleep(0)
    # All that was asked for has arrived once a request of our own, asked later, is answered.
    await client.flush()
    assert source.statistics().buffered <= 32 + 2 * 16
    assert len(await take(source, 400)) == 400
    await source.stop()


async def test_silence_breaks_a_consumer_only_after_asking_again(client: Connection) -> None:
    broken = asyncio.Event()
    pull = Pull(
        client, "ZC", batch=8, deliver=lambda sequence, message: None, has_room=lambda: True, on_broken=broken.set
    )
    await pull.open(["zc.>"], 1)
    for _ in range(7):
        await pull.watch()
        assert pull.broken is None
    await pull.watch()
    assert pull.broken == "silence"
    assert broken.is_set()
    await pull.close()


async def test_what_was_pending_and_is_purged_is_waited_for_no_longer(client: Connection) -> None:
    await publish(client, frames(400))
    source = CommandSource(client, PARTITIONS, batch=16, buffered_max=32)
    await source.start(EVERYTHING)
    await source.wait_arrival()
    await purge_commands(client, 401)
    taken = 0
    while not source.at_end:
        taken += len(source.take_nowait(10))
        await asyncio.sleep(0)
    assert taken < 400
    await source.stop()


async def test_nothing_is_expected_of_a_consumer_nobody_asked(client: Connection) -> None:
    pull = Pull(
        client, "ZC", batch=8, deliver=lambda sequence, message: None, has_room=lambda: False, on_broken=pytest.fail
    )
    await pull.open(["zc.>"], 1)
    for _ in range(20):
        await pull.watch()
    assert pull.broken is None
    await pull.close()


async def test_stopping_removes_the_consumer_from_the_server(client: Connection) -> None:
    source = CommandSource(client, PARTITIONS)
    await source.start(EVERYTHING)
    assert len(await consumers(client)) == 1
    await source.stop()
    # Nobody waits for the answer to the removal, so it may still be on its way.
    while await consumers(client):
        await asyncio.sleep(0)


async def test_a_foreign_subject_in_the_stream_is_passed_over(client: Connection) -> None:
    strangers = [Outgoing("zc.1.policy.more", b"", "s1"), Outgoing("zc.x.policy", b"", "s2")]
    beyond = Outgoing(f"zc.{PARTITIONS}.policy", b"", "s3")
    await publish(client, [*strangers, beyond, *frames(2)])
    source = CommandSource(client, PARTITIONS)
    await source.start(EVERYTHING)
    assert [m.id for m in await take(source, 2)] == ["id0", "id1"]
    assert source.statistics().skipped == 3
    await source.stop()


async def test_a_source_started_without_a_server_begins_when_it_comes(own_server: NatsServer) -> None:
    lost = asyncio.Event()
    client = await connect(own_server.url, name="test", on_disconnect=lost.set)
    await fresh_streams(client)
    sent = frames(20)
    await publish(client, sent)
    await asyncio.to_thread(own_server.process.kill)
    await lost.wait()
    source = CommandSource(client, PARTITIONS)
    await source.start(dict.fromkeys(range(PARTITIONS), Position(8, sent[7].id)))
    with pytest.raises(StreamUnavailable):
        await source.verify({0: Position(8, sent[7].id)})
    assert source.take_nowait(10) == []
    await asyncio.to_thread(own_server.start)
    assert [m.sequence for m in await take(source, 12)] == list(range(9, 21))
    await source.stop()
    await client.close()


async def test_a_missing_stream_is_waited_for(client: Connection) -> None:
    await client.call("STREAM.DELETE.ZC", None, dict[str, Any])
    source = CommandSource(client, PARTITIONS)
    await source.start(EVERYTHING)
    assert source.take_nowait(10) == []
    await fresh_streams(client)
    await publish(client, frames(3))
    assert [m.sequence for m in await take(source, 3)] == [1, 2, 3]
    await source.stop()
