"""The contract of publisher and command source, held by the real streams and by the in-memory twin."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from tests.streams.nats_server import NatsServer, fresh_streams, run_nats_server
from zentra.bench.twins.stream import StreamTwin
from zentra.runtime.stream_ports import (
    NOTHING_CONSUMED,
    CommandSource,
    EventPublisher,
    Inbound,
    Outgoing,
    Position,
    StreamError,
)
from zentra.runtime.subjects import EVENTS
from zentra.streams.connection import Connection, connect
from zentra.streams.errors import StreamFull, StreamUnavailable
from zentra.streams.publisher import Publisher
from zentra.streams.source import CommandSource as JetStreamSource
from zentra.streams.topology import purge_commands

PARTITIONS = 4
COMMAND_BYTES_MAX = 256 * 1024
EVERYTHING = dict.fromkeys(range(PARTITIONS), NOTHING_CONSUMED)


class Rig(Protocol):
    """One implementation with its faults."""

    publisher: EventPublisher

    async def open(self) -> None: ...
    def source(self) -> CommandSource: ...
    async def purge(self, up_to: int) -> None: ...
    async def remember(self) -> None: ...
    async def lose_what_came_since(self) -> None: ...
    async def close(self) -> None: ...


class TwinRig:
    def __init__(self) -> None:
        self._stream = StreamTwin(command_bytes_max=COMMAND_BYTES_MAX, clock=time.monotonic)
        self.publisher: EventPublisher = self._stream.publisher()
        self._last = self._last_event = 0

    async def open(self) -> None:
        return

    def source(self) -> CommandSource:
        return self._stream.source()

    async def purge(self, up_to: int) -> None:
        self._stream.purge_commands(up_to)

    async def remember(self) -> None:
        self._last, self._last_event = self._stream.log().last, self._stream.log(EVENTS).last

    async def lose_what_came_since(self) -> None:
        self._stream.roll_back(self._last, events_to=self._last_event)

    async def close(self) -> None:
        return


class ServerRig:
    def __init__(self, server: NatsServer, client: Connection, publisher: Publisher) -> None:
        self._server = server
        self._client = client
        self._publisher = publisher
        self.publisher: EventPublisher = publisher
        self._sources: list[JetStreamSource] = []

    async def open(self) -> None:
        await fresh_streams(self._client, command_bytes_max=COMMAND_BYTES_MAX)
        await self._publisher.start()

    def source(self) -> CommandSource:
        source = JetStreamSource(self._client, PARTITIONS, batch=16, buffered_max=64)
        self._sources.append(source)
        return source

    async def purge(self, up_to: int) -> None:
        await purge_commands(self._client, up_to)

    async def remember(self) -> None:
        await self._around(self._server.copy_store)

    async def lose_what_came_since(self) -> None:
        await self._around(self._server.restore_copy)

    async def _around(self, restart: object) -> None:
        lost, regained = asyncio.Event(), asyncio.Event()
        remove = self._client.add_hooks(on_disconnect=lost.set, on_reconnect=regained.set)
        assert callable(restart)
        await asyncio.to_thread(restart)
        await lost.wait()
        await regained.wait()
        remove()

    async def close(self) -> None:
        for source in self._sources:
            await source.stop()
        await self._publisher.close()
        await self._client.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    directory: Path = tmp_path_factory.mktemp("contract-nats")
    with run_nats_server(directory) as running:
        yield running


@pytest.fixture(params=["twin", pytest.param("server", marks=pytest.mark.service)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made: Rig
    if request.param == "twin":
        made = TwinRig()
    else:
        running: NatsServer = request.getfixturevalue("server")
        client = await connect(running.url, name="contract")
        publisher = Publisher(client)
        made = ServerRig(running, client, publisher)
    try:
        await made.open()
        yield made
    finally:
        await made.close()


_numbers = itertools.count(1)


def command(partition: int, stage: str = "policy", *, body: bytes = b"frame", id: str | None = None) -> Outgoing:
    return Outgoing(f"zc.{partition}.{stage}", body, id or f"id{next(_numbers)}")


def event() -> Outgoing:
    return Outgoing("ze.0.acme.topic", b"[]", f"id{next(_numbers)}")


async def publish(rig: Rig, messages: Sequence[Outgoing]) -> None:
    assert await rig.publisher.publish(messages) == [None] * len(messages)


async def take(source: CommandSource, count: int, limit: int = 1000) -> list[Inbound]:
    """Takes until `count` messages came; more than that is for the caller to notice."""
    taken: list[Inbound] = []
    while len(taken) < count:
        await source.wait_arrival()
        taken += source.take_nowait(limit)
    return taken


async def nothing_more(rig: Rig, source: CommandSource) -> bool:
    """Whether nothing stands before a message published now."""
    last = command(0, "log")
    await publish(rig, [last])
    return [message.id for message in await take(source, 1)] == [last.id]


async def test_every_message_arrives_once_and_in_order(rig: Rig) -> None:
    source = rig.source()
    await source.start(EVERYTHING)
    sent = [command(n % PARTITIONS, body=b"%d" % n) for n in range(200)]
    await publish(rig, sent[:150])
    await publish(rig, sent[150:])
    got = await take(source, len(sent))
    assert [(m.id, m.body, m.partition, m.stage) for m in got] == [
        (m.id, m.body, n % PARTITIONS, "policy") for n, m in enumerate(sent)
    ]
    assert [m.sequence for m in got] == list(range(1, 201))
    assert await nothing_more(rig, source)


async def test_a_known_id_is_stored_once_and_answered_as_stored(rig: Rig) -> None:
    source = rig.source()
    await source.start(EVERYTHING)
    first = command(1, id="same")
    await publish(rig, [first, command(2, id="same"), command(3, id="other")])
    assert [m.id for m in await take(source, 2)] == ["same", "other"]
    assert await nothing_more(rig, source)


async def test_nothing_to_publish_is_no_result(rig: Rig) -> None:
    assert await rig.publisher.publish([]) == []


async def test_a_full_stream_refuses_what_does_not_fit_and_keeps_the_rest(rig: Rig) -> None:
    big = [command(0, body=bytes(60_000)) for _ in range(6)]
    results = await rig.publisher.publish(big)
    stored = results.count(None)
    assert 3 <= stored < 6
    assert results[:stored] == [None] * stored
    refusals = results[stored:]
    assert all(isinstance(refusal, StreamFull) and refusal.retryable for refusal in refusals)
    await rig.purge(stored)
    await publish(rig, [big[-1]])


async def test_a_subject_of_no_stream_is_a_failure_that_may_pass(rig: Rig) -> None:
    nobody, good = Outgoing("zx.1.policy", b"", "lost"), command(0)
    results = await rig.publisher.publish([nobody, good])
    assert isinstance(results[0], StreamUnavailable)
    assert results[0].retryable
    assert results[1] is None


async def test_a_body_over_the_limit_is_refused_for_good(rig: Rig) -> None:
    results = await rig.publisher.publish([command(0, body=bytes(1024 * 1024 + 1)), command(0)])
    assert isinstance(results[0], StreamError)
    assert not results[0].retryable
    assert results[1] is None


async def test_only_what_lies_behind_each_position_arrives(rig: Rig) -> None:
    sent = [command(n % 2) for n in range(10)]
    await publish(rig, sent)
    source = rig.source()
    await source.start({0: Position(3, sent[2].id), 1: Position(8, sent[7].id)})
    assert [m.sequence for m in await take(source, 4)] == [5, 7, 9, 10]
    assert await nothing_more(rig, source)


async def test_only_owned_partitions_arrive(rig: Rig) -> None:
    await publish(rig, [command(n % PARTITIONS) for n in range(12)])
    source = rig.source()
    await source.start({1: NOTHING_CONSUMED, 3: NOTHING_CONSUMED})
    assert [m.partition for m in await take(source, 6)] == [1, 3] * 3


async def test_a_source_without_partitions_has_nothing(rig: Rig) -> None:
    await publish(rig, [command(0)])
    source = rig.source()
    await source.start({})
    assert source.take_nowait(10) == []
    assert source.last_delivered is None


async def test_the_limit_holds_and_last_delivered_moves_with_what_was_taken(rig: Rig) -> None:
    sent = [command(n % 3) for n in range(7)]
    await publish(rig, sent)
    source = rig.source()
    await source.start(EVERYTHING)
    assert source.last_delivered is None
    seen: list[int] = []
    while len(seen) < len(sent):
        await source.wait_arrival()
        taken = source.take_nowait(3)
        assert 1 <= len(taken) <= 3
        assert source.last_delivered == Position(taken[-1].sequence, taken[-1].id)
        seen += [m.sequence for m in taken]
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert source.take_nowait(3) == []


async def test_more_than_the_buffer_arrives_as_it_is_taken(rig: Rig) -> None:
    sent = [command(n % PARTITIONS) for n in range(500)]
    await publish(rig, sent)
    source = rig.source()
    await source.start(EVERYTHING)
    assert [m.id for m in await take(source, 500, limit=7)] == [m.id for m in sent]


async def test_starting_again_delivers_again_what_the_positions_do_not_cover(rig: Rig) -> None:
    sent = [command(0) for _ in range(6)]
    await publish(rig, sent)
    source = rig.source()
    await source.start(EVERYTHING)
    await take(source, 6)
    await source.start({0: Position(4, sent[3].id)})
    assert source.last_delivered is None
    assert [m.sequence for m in await take(source, 2)] == [5, 6]


async def test_who_waits_is_woken_by_the_next_message(rig: Rig) -> None:
    source = rig.source()
    await source.start({2: NOTHING_CONSUMED})
    waiting = asyncio.create_task(source.wait_arrival())
    await publish(rig, [command(1)])
    assert not waiting.done()
    await publish(rig, [command(2)])
    await waiting
    assert [m.partition for m in source.take_nowait(10)] == [2]


async def test_a_source_is_at_its_end_once_everything_was_handed_out(rig: Rig) -> None:
    source = rig.source()
    assert not source.at_end
    await publish(rig, [command(1) for _ in range(40)] + [command(2)])
    await source.start({1: NOTHING_CONSUMED, 3: NOTHING_CONSUMED})
    await source.wait_arrival()
    assert len(source.take_nowait(1)) == 1
    assert not source.at_end
    await take(source, 39)
    assert source.at_end
    await source.stop()
    assert not source.at_end
    await source.start({3: NOTHING_CONSUMED})
    assert source.take_nowait(10) == []
    assert source.at_end


async def test_frames_that_wait_are_counted_wherever_they_wait(rig: Rig) -> None:
    source = rig.source()
    assert source.frames_waiting == 0
    await publish(rig, [command(1) for _ in range(150)] + [command(2)])
    await source.start({1: NOTHING_CONSUMED, 3: NOTHING_CONSUMED})
    assert source.frames_waiting == 150
    await take(source, 1, limit=1)
    assert source.frames_waiting == 149
    await take(source, 149)
    assert source.frames_waiting == 0
    await source.stop()
    assert source.frames_waiting == 0


async def test_a_stopped_source_has_nothing(rig: Rig) -> None:
    await publish(rig, [command(0)])
    source = rig.source()
    await source.start(EVERYTHING)
    await source.wait_arrival()
    await source.stop()
    assert source.take_nowait(10) == []


@pytest.mark.parametrize(
    ("sequence", "whose", "contradicted"),
    [
        (0, "", False),  # nothing consumed yet
        (5, "id of 5", False),
        (10, "id of 10", False),
        (5, "id of 6", True),  # the sequence was given to another message
        (11, "id of 11", True),  # behind the end
        (2, "id of 2", False),  # trimmed, as old messages are
    ],
)
async def test_a_position_is_believed_unless_the_store_contradicts_it(
    rig: Rig, sequence: int, whose: str, contradicted: bool
) -> None:
    sent = [command(0) for _ in range(10)]
    ids = {f"id of {n}": message.id for n, message in enumerate(sent, 1)}
    await publish(rig, sent)
    await rig.purge(4)
    source = rig.source()
    suspect = Position(sequence, ids.get(whose, whose))
    assert await source.verify({3: suspect, 1: Position(7, sent[6].id)}) == ([3] if contradicted else [])


async def test_an_interruption_repeats_nothing_and_loses_nothing(rig: Rig) -> None:
    before = [command(n % PARTITIONS) for n in range(40)]
    await publish(rig, before)
    source = rig.source()
    await source.start(EVERYTHING)
    got = await take(source, 25, limit=25)
    await rig.remember()
    await rig.lose_what_came_since()
    after = [command(n % PARTITIONS) for n in range(40)]
    await publish(rig, after)
    got += await take(source, 80 - len(got))
    assert [m.id for m in got] == [m.id for m in before + after]
    assert source.take_rolled_back() == set()


async def test_a_store_that_lost_its_tail_is_reported_and_nothing_delivered_until_rewound(rig: Rig) -> None:
    kept = [command(0), command(1)]
    await publish(rig, kept)
    await rig.remember()
    source = rig.source()
    await source.start(EVERYTHING)
    await publish(rig, [command(1), command(2)])
    await take(source, 4)
    await rig.lose_what_came_since()
    await publish(rig, [command(1) for _ in range(5)])
    await source.wait_arrival()
    assert source.take_rolled_back() == {1, 2}
    assert source.take_rolled_back() == set()
    assert source.take_nowait(100) == []
    await source.start({0: Position(1, kept[0].id), 1: NOTHING_CONSUMED, 2: NOTHING_CONSUMED, 3: NOTHING_CONSUMED})
    assert [m.sequence for m in await take(source, 6)] == [2, 3, 4, 5, 6, 7]


async def test_starting_at_a_position_the_store_lost_is_reported(rig: Rig) -> None:
    await publish(rig, [command(0), command(1)])
    source = rig.source()
    await source.start({0: Position(2, "another"), 1: NOTHING_CONSUMED})
    await source.wait_arrival()
    assert source.take_nowait(10) == []
    assert source.take_rolled_back() == {0}


async def test_the_end_is_the_last_message_also_of_a_stream_that_was_emptied(rig: Rig) -> None:
    source = rig.source()
    assert await source.end() == NOTHING_CONSUMED
    sent = [command(n) for n in range(3)]
    await publish(rig, sent)
    assert await source.end() == Position(3, sent[-1].id)
    assert await source.verify(dict.fromkeys(range(PARTITIONS), await source.end())) == []
    await rig.purge(4)
    assert (await source.end()).sequence == 3
    assert await source.verify({0: await source.end()}) == []
    await source.start({0: await source.end()})
    fresh = command(0)
    await publish(rig, [fresh])
    assert [m.id for m in await take(source, 1)] == [fresh.id]


async def test_a_rewound_partition_reads_what_is_published_behind_the_end_and_nothing_else(rig: Rig) -> None:
    """What was published between the loss and the end is published again, under an id that no dedupe knows."""
    await publish(rig, [command(0)])
    await rig.remember()
    source = rig.source()
    await source.start({0: NOTHING_CONSUMED})
    await publish(rig, [command(0), command(0)])
    await take(source, 3)
    await rig.lose_what_came_since()
    between = command(0)
    await publish(rig, [between])
    await source.wait_arrival()
    assert source.take_rolled_back() == {0}
    end = await source.end()
    assert (end.sequence, end.id) == (2, between.id)
    await publish(rig, [between])  # a sweep that is late
    again = Outgoing(between.subject, between.body, f"{between.id}-{end.sequence}")
    await publish(rig, [again])
    await source.start({0: end})
    assert [(m.id, m.sequence) for m in await take(source, 1)] == [(again.id, 3)]
    assert source.take_rolled_back() == set()


async def test_a_loss_tells_how_far_back_the_events_have_to_be_published_again(rig: Rig) -> None:
    before = time.monotonic()
    last = command(0)
    await publish(rig, [event(), command(3), last])
    left = time.monotonic()
    source = rig.source()
    assert msgspec.structs.astuple(await source.loss())[1:3] == (None, math.inf)  # it never stood
    await source.start({0: NOTHING_CONSUMED})
    await take(source, 1)
    await rig.remember()
    await publish(rig, [event(), command(0)])
    await take(source, 1)
    await rig.lose_what_came_since()
    await publish(rig, [event(), command(0)])  # an event of after the loss tells nothing of what was before
    await source.wait_arrival()
    assert source.take_rolled_back() == {0}
    asked = time.monotonic()
    loss = await source.loss()
    assert loss.left == Position(2, last.id)
    assert asked - left <= loss.from_seconds <= time.monotonic() - before
    assert 0 < loss.to_seconds < loss.from_seconds
    assert (await source.loss()).number == loss.number
