"""The streams on a cluster of three servers: made by many processes at once, a replica on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from zentra.gateway.devstack.servers import NatsPorts, plain_nats_config
from zentra.gateway.devstack.stack import DevStack
from zentra.streams.connection import Connection, connect
from zentra.streams.topology import ensure_streams

pytestmark = pytest.mark.service

SMALL = {"command_bytes_max": 1024**2, "event_bytes_max": 1024**2, "dead_bytes_max": 1024**2}


def synced(ports: NatsPorts) -> str:
    return plain_nats_config(ports).replace("jetstream {", "jetstream { sync_interval: always,")


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[list[Connection]]:
    """A connection to each server of a cluster that has just come up."""
    elsewhere = {"postgres_url": "postgresql://elsewhere", "redis_url": "redis://elsewhere"}
    with DevStack(tmp_path, nats_config=synced, nats_nodes=3, **elsewhere) as stack:
        made = [await connect(f"nats://{address}", name="test") for address in stack.nats_addresses]
        yield made
        for client in made:
            await client.close()


async def test_streams_that_all_processes_ask_for_at_once_have_a_replica_everywhere(clients: list[Connection]) -> None:
    # The server leaves some of the requests that race to create one stream without an answer.
    await asyncio.gather(*(ensure_streams(client, replicas=3, **SMALL) for client in clients * 2))
    for stream in ("ZC", "ZE", "ZD"):
        info: dict[str, Any] = await clients[0].call(f"STREAM.INFO.{stream}", None, dict[str, Any])
        assert (info["config"]["num_replicas"], len(info["cluster"]["replicas"])) == (3, 2)
