"""The streams as they stand on a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zentra.runtime.stream_ports import Outgoing
from zentra.streams.connection import Connection
from zentra.streams.errors import StreamRefused, StreamUnavailable
from zentra.streams.publisher import Publisher
from zentra.streams.topology import ensure_streams, purge_commands, stream_state

pytestmark = pytest.mark.service

SMALL = {"event_bytes_max": 1024**2, "dead_bytes_max": 1024**2}


async def configuration(client: Connection, stream: str) -> dict[str, Any]:
    info: dict[str, Any] = await client.call(f"STREAM.INFO.{stream}", None, dict[str, Any])
    config: dict[str, Any] = info["config"]
    return config


@pytest.mark.parametrize(
    ("stream", "subjects", "discard", "days"),
    [("ZC", "zc.>", "new", 7), ("ZE", "ze.>", "old", 30), ("ZD", "zd.>", "old", 90)],
)
async def test_each_stream_has_its_retention(
    client: Connection, stream: str, subjects: str, discard: str, days: int
) -> None:
    config = await configuration(client, stream)
    wanted = {
        "subjects": [subjects],
        "discard": discard,
        "max_age": days * 86_400 * 10**9,
        "retention": "limits",
        "storage": "file",
        "duplicate_window": 120 * 10**9,
        "deny_delete": True,
        "deny_purge": False,
        "allow_direct": True,
    }
    assert {name: config[name] for name in wanted} == wanted


async def test_ensuring_twice_at_once_or_with_other_limits_keeps_the_messages(client: Connection) -> None:
    publisher = Publisher(client)
    await publisher.start()
    await publisher.publish([Outgoing("zc.1.policy", b"frame", "a")])
    before = await stream_state(client, "ZC")
    await asyncio.gather(*(ensure_streams(client, command_bytes_max=2 * 1024**2, **SMALL) for _ in range(3)))
    assert (await configuration(client, "ZC"))["max_bytes"] == 2 * 1024**2
    assert await stream_state(client, "ZC") == before
    await publisher.close()


async def test_a_purge_keeps_the_message_at_the_checkpoint(client: Connection) -> None:
    publisher = Publisher(client)
    await publisher.start()
    await publisher.publish([Outgoing("zc.1.policy", b"frame", f"id{n}") for n in range(10)])
    await purge_commands(client, 0)
    assert (await stream_state(client, "ZC")).messages == 10
    await purge_commands(client, 6)
    state = await stream_state(client, "ZC")
    assert (state.first, state.last, state.messages) == (6, 10, 5)
    await publisher.close()


async def test_an_empty_stream_begins_behind_its_end(client: Connection) -> None:
    state = await stream_state(client, "ZC")
    assert (state.last, state.messages, state.bytes) == (0, 0, 0)
    assert state.created.startswith("20")


async def test_a_message_cannot_be_deleted_alone(client: Connection) -> None:
    publisher = Publisher(client)
    await publisher.start()
    await publisher.publish([Outgoing("zc.1.policy", b"frame", "a")])
    with pytest.raises(StreamRefused, match="not permitted"):
        await client.call("STREAM.MSG.DELETE.ZC", {"seq": 1}, dict[str, Any])
    await publisher.close()


async def test_a_stream_that_is_not_there_may_come(client: Connection) -> None:
    await client.call("STREAM.DELETE.ZC", None, dict[str, Any])
    with pytest.raises(StreamUnavailable, match="not found"):
        await stream_state(client, "ZC")
