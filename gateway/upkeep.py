"""Upkeep of an installation, done by its workers: gauges, the purge of consumed commands, the trim of the outbox.

Every worker reports its own gauges and trims the outbox of its own partitions. What concerns all is done by the owner
of partition 0: the gauges of the store, and the purge behind the lowest checkpoint."""

import logging
from collections import deque
from datetime import UTC, datetime
from typing import Final

import anyio

from zentra.actors.relay import Relay
from zentra.actors.worker import Worker
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import Instruments
from zentra.runtime.stream_ports import StreamError
from zentra.runtime.subjects import COMMANDS
from zentra.storage.engine.store import PostgresStore
from zentra.streams.connection import Connection
from zentra.streams.topology import purge_commands, stream_state

__all__ = ["Upkeep"]

logger = logging.getLogger(__name__)

GAUGES_SECONDS: Final = 5.0
PURGE_SECONDS: Final = 60.0


class Upkeep:
    """The upkeep that one worker does."""

    def __init__(
        self, worker: Worker, store: PostgresStore, relay: Relay, client: Connection, instruments: Instruments
    ) -> None:
        self._worker, self._store, self._relay = worker, store, relay
        self._client, self._instruments = client, instruments
        self._held: deque[tuple[datetime, int]] = deque()  # (time, last sequence of the stream then)
        self._purged_at = anyio.current_time()

    async def run(self) -> None:
        """Look after things until cancelled; a server that is away is looked at again the next time."""
        while True:
            await anyio.sleep(GAUGES_SECONDS)
            try:
                await self._once()
            except (StreamError, Unavailable) as error:
                logger.warning("upkeep waits for a server", extra={"error": str(error)})

    async def _once(self) -> None:
        worker, instruments = self._worker, self._instruments
        for name, value in worker.statistics().items():
            instruments.gauge(name, value)
        last = (await stream_state(self._client, COMMANDS)).last
        consumed = min((lease.position.sequence for lease in worker.leases.values()), default=last)
        instruments.gauge("checkpoint_lag_messages", max(0, last - consumed))
        if 0 in worker.leases:
            for name, value in (await self._store.statistics()).items():
                instruments.gauge(name, value)
        if anyio.current_time() - self._purged_at >= PURGE_SECONDS:
            self._purged_at = anyio.current_time()
            await self._purge(last, consumed)

    async def _purge(self, last: int, consumed: int) -> None:
        """Trim outbox rows whose frames were consumed long ago, and purge the stream behind everybody."""
        self._held.append((datetime.now(UTC), last))
        while self._held and self._held[0][1] <= consumed:
            passed_at, _ = self._held.popleft()
            await self._relay.trim(passed_at)
        if 0 in self._worker.leases:
            leases = await self._store.leases(range(await self._store.partitions()))
            positions = {partition: lease.position for partition, lease in leases.items()}
            if await self._worker.source.verify(positions):  # of a stream that is gone: they say nothing of this one
                logger.warning("nothing is purged: the stream contradicts checkpoints")
                return
            await purge_commands(self._client, min(position.sequence for position in positions.values()))
