"""What gateways hear of the load of workers, and what they pass over."""

from __future__ import annotations

import asyncio
import logging

import pytest

from zentra.runtime.messages import Load, encode_load
from zentra.runtime.subjects import load_subject
from zentra.streams.connection import Connection
from zentra.streams.load_tail import LoadTail


async def test_every_report_is_heard_until_nobody_listens(client: Connection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="zentra.streams.load_tail")
    heard: asyncio.Queue[Load] = asyncio.Queue()
    tail = LoadTail(client, heard.put_nowait)
    await tail.start()
    await client.publish(load_subject("a"), encode_load(Load("a", 7)))
    await client.publish(load_subject("b"), b"no report")
    await client.publish(load_subject("b.example.org"), encode_load(Load("b.example.org", 0)))
    async with asyncio.timeout(5):
        assert [await heard.get(), await heard.get()] == [Load("a", 7), Load("b.example.org", 0)]
    assert [record.message for record in caplog.records] == ["load report cannot be read"]
    await tail.stop()
    await client.publish(load_subject("a"), encode_load(Load("a", 8)))
    await client.flush()
    await client.flush()
    assert heard.empty()
    await tail.stop()  # a second time is nothing
