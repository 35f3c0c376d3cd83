"""A command stream that is full: what the relay cannot publish waits in order, and nobody spins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from tests.actors.world import configuration
from zentra.actors.relay import Relay
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.instruments import SILENCE
from zentra.runtime.stream_ports import NOTHING_CONSUMED, Outgoing
from zentra.streams.connection import Connection
from zentra.streams.publisher import Publisher
from zentra.streams.source import CommandSource
from zentra.streams.topology import purge_commands, stream_state

pytestmark = pytest.mark.service

PARTITIONS = 4
ROOM = 20


async def narrow(client: Connection) -> None:
    """Let the command stream take no more than `ROOM` messages."""
    info: dict[str, Any] = await client.call("STREAM.INFO.ZC", None, dict[str, Any])
    await client.call("STREAM.UPDATE.ZC", {**info["config"], "max_msgs": ROOM}, dict[str, Any])


async def test_what_a_full_stream_refuses_waits_in_order_and_asks_for_little(client: Connection) -> None:
    await narrow(client)
    publisher = Publisher(client)
    await publisher.start()
    store = StoreTwin(lambda: datetime.now(UTC), configuration(), PARTITIONS)
    relay = Relay(store, publisher, lambda: range(PARTITIONS), SILENCE)
    source = CommandSource(client, PARTITIONS)
    await source.start(dict.fromkeys(range(PARTITIONS), NOTHING_CONSUMED))
    committed: list[Outgoing] = []

    async def commit(count: int) -> None:
        """Commit rows and publish them, as a tick does."""
        start = len(committed)
        made = [
            store.put(n % PARTITIONS, f"zc.{n % PARTITIONS}.log", b"%d" % n, f"{n:032x}")
            for n in range(start, start + count)
        ]
        committed.extend(made)
        await relay.publish(made)

    await commit(50)
    assert (await stream_state(client, "ZC")).messages == ROOM
    asked = publisher.statistics().published
    arrived: list[tuple[int, str]] = []
    async with anyio.create_task_group() as group:
        group.start_soon(relay.keep_sweeping)
        group.start_soon(relay.keep_marking)
        while publisher.statistics().published < asked + 3 * PARTITIONS:  # three rounds of the sweep
            await commit(3)
            await anyio.sleep(0.1)
        assert publisher.statistics().published <= asked + 4 * PARTITIONS  # whatever was committed since
        with anyio.fail_after(30):
            while len(arrived) < len(committed):
                await source.wait_arrival()
                for message in source.take_nowait(7):
                    arrived.append((message.partition, message.id))
                    await purge_commands(client, message.sequence + 1)
                if len(committed) < 150:
                    await commit(4)  # there is room for these, and older ones wait
            # Nothing waits any more: what is committed now goes out at once.
            while relay.backed_up:
                await anyio.sleep(0.01)
        await commit(4)
        assert [m.body for m in await _take(source, 4)] == [message.body for message in committed[-4:]]
        group.cancel_scope.cancel()
    for partition in range(PARTITIONS):
        sent = [message.id for message in committed[:-4] if message.subject.startswith(f"zc.{partition}.")]
        assert [key for place, key in arrived if place == partition] == sent
    await source.stop()
    await publisher.close()


async def _take(source: CommandSource, count: int) -> list[Any]:
    taken: list[Any] = []
    while len(taken) < count:
        await source.wait_arrival()
        taken += source.take_nowait(count)
    return taken


async def test_marking_and_trimming_go_on_while_the_stream_is_full(client: Connection) -> None:
    await narrow(client)
    publisher = Publisher(client)
    await publisher.start()
    store = StoreTwin(lambda: datetime.now(UTC), configuration(), PARTITIONS)
    relay = Relay(store, publisher, lambda: range(PARTITIONS), SILENCE)
    rows = [store.put(0, "zc.0.log", b"%d" % n, f"{n:032x}") for n in range(ROOM + 5)]
    await relay.publish([*rows, store.put(0, "ze.0.acme.topic", b"[]", "f" * 32)])
    await relay.flush()
    unsent = [row.message.id for row in store.rows.outbox.values() if row.sent_at is None]
    assert unsent == [row.id for row in rows[ROOM:]]
    assert await relay.trim(datetime.now(UTC)) == 0
    for row in store.rows.outbox.values():
        row.sent_at = row.sent_at and datetime(2026, 1, 1, tzinfo=UTC)
    assert await relay.trim(datetime.now(UTC)) == 1  # the event; frames are for those who consume them
    assert len(store.rows.outbox) == ROOM + 5
    await publisher.close()
