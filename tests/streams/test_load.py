"""Load reports over a real server: who listens hears them, and without a server they are refused."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from tests.streams.nats_server import NatsServer
from zentra.runtime.messages import Load, decode_load
from zentra.runtime.subjects import LOAD_SUBJECTS
from zentra.streams.connection import Connection, connect
from zentra.streams.errors import StreamUnavailable
from zentra.streams.load import LoadReports

pytestmark = pytest.mark.service


async def test_who_listens_hears_every_worker(client: Connection) -> None:
    heard: asyncio.Queue[Load] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        heard.put_nowait(decode_load(message.data))

    subscription = await client.subscribe(LOAD_SUBJECTS, cb=hear)
    sent = [Load("worker-1", 3), Load("w.example.org", 0)]
    for load in sent:
        await LoadReports(client).report(load)
    async with asyncio.timeout(5):
        assert [await heard.get() for _ in sent] == sent
    await subscription.unsubscribe()


async def test_without_a_server_nothing_is_sent_later(own_server: NatsServer) -> None:
    client = await connect(own_server.url, name="load")
    lost = asyncio.Event()
    client.add_hooks(on_disconnect=lost.set)
    own_server.stop()
    await lost.wait()
    with pytest.raises(StreamUnavailable):
        await LoadReports(client).report(Load("w", 1))
    await client.close()
