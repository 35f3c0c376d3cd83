"""One nats-server of a test's own, which may be killed, restarted and robbed of its last writes."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from zentra.gateway.devstack.directory import free_port
from zentra.gateway.devstack.processes import ServerProcess
from zentra.gateway.devstack.servers import NatsPorts, nats_spec, plain_nats_config
from zentra.streams.connection import Connection
from zentra.streams.errors import StreamUnavailable
from zentra.streams.topology import ensure_streams

__all__ = ["NatsServer", "fresh_streams", "run_nats_server"]


class NatsServer:
    """A running server and its store."""

    def __init__(self, process: ServerProcess, store: Path) -> None:
        self.process = process
        self.store = store
        self.url = f"nats://127.0.0.1:{process.port}"

    def stop(self) -> None:
        self.process.request_stop()
        self.process.wait_stopped()

    def start(self) -> None:
        self.process.spawn()
        self.process.wait_ready()

    def freeze(self) -> None:
        """Stops the process in its tracks; returns when it stands still. `thaw` lets it go on."""
        pid = self.process.pid
        assert pid is not None
        self.process.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)

    def copy_store(self) -> None:
        """Keeps the store as it is now; the server restarts for it."""
        self.stop()
        shutil.copytree(self.store, self.store.with_suffix(".copy"))
        self.start()

    def restore_copy(self) -> None:
        """Crashes and comes back with the store as it was copied: what was acknowledged since is lost."""
        self.process.kill()
        shutil.rmtree(self.store)
        self.store.with_suffix(".copy").rename(self.store)
        self.start()


@contextmanager
def run_nats_server(directory: Path, config: Callable[[NatsPorts], str] = plain_nats_config) -> Iterator[NatsServer]:
    """A server that ends with the block."""
    client = free_port(None, ())
    with ThreadPoolExecutor(1) as spawner:
        process = ServerProcess(nats_spec(directory, client, free_port(None, (client,)), config), spawner, _nothing)
        server = NatsServer(process, directory / "nats")
        try:
            server.start()
            yield server
        finally:
            server.stop()


async def fresh_streams(client: Connection, *, command_bytes_max: int = 64 * 1024**2) -> None:
    """The three streams, empty and small."""
    for stream in ("ZC", "ZE", "ZD"):
        await client.ask(f"$JS.API.STREAM.DELETE.{stream}")
    while True:
        try:
            await ensure_streams(
                client, command_bytes_max=command_bytes_max, event_bytes_max=64 * 1024**2, dead_bytes_max=1024**2
            )
        except StreamUnavailable:
            # The server is still removing the files of the old streams.
            continue
        return


def _nothing() -> None:
    return
