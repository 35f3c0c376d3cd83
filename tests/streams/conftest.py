"""One server for the folder, streams emptied for each test; a server of its own for a test that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.streams.nats_server import NatsServer, fresh_streams, run_nats_server
from zentra.streams.connection import Connection, connect


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server nobody stops."""
    with run_nats_server(tmp_path_factory.mktemp("shared-nats")) as server:
        yield server


@pytest.fixture
async def client(shared_server: NatsServer) -> AsyncIterator[Connection]:
    """A connection to the shared server, its streams empty."""
    connection = await connect(shared_server.url, name="test")
    try:
        await fresh_streams(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server this test may stop and damage."""
    with run_nats_server(tmp_path) as server:
        yield server
