"""The worker process: builds a worker on real adapters and runs it until it is told to stop.

The wiring of the engine stands here and nowhere else; `actors` knows ports, not Postgres or NATS."""

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import anyio

from zentra.actors.engine import Engine
from zentra.actors.memory import Memory
from zentra.actors.outward import Outward
from zentra.actors.relay import Relay
from zentra.actors.supervisor import Supervisor
from zentra.actors.tick import Rules
from zentra.actors.worker import Worker, WorkerSettings
from zentra.gateway.outward_http import AddressPolicy, OutwardHttp
from zentra.gateway.rails import RailBook
from zentra.gateway.sealing import Sealer
from zentra.gateway.settings import Settings
from zentra.gateway.webhook_sender import WebhookSender
from zentra.runtime.errors import Unavailable
from zentra.runtime.heads import load_private_key, sign_head
from zentra.runtime.instruments import SILENCE, Instruments
from zentra.runtime.partitions import partition_of
from zentra.runtime.stream_ports import StreamError
from zentra.runtime.subjects import COMMANDS, command_subject, dead_subject, event_subject
from zentra.runtime.transaction import timestamp
from zentra.storage.engine_store import PostgresStore
from zentra.storage.pool import open_pool
from zentra.streams.connection import Connection, connect
from zentra.streams.publisher import Publisher
from zentra.streams.source import CommandSource
from zentra.streams.topology import ensure_streams, purge_commands, stream_state

__all__ = ["run_worker"]

logger = logging.getLogger(__name__)

MAINTENANCE_SECONDS: Final = 5.0
PURGE_SECONDS: Final = 60.0


def make_rules(settings: Settings, partitions: int) -> Rules:
    """Return what a worker of this installation is set up with."""
    key = load_private_key(settings.evidence_key.encode())

    def signed(tenant: str, size: int, root: bytes, at: datetime) -> tuple[str, bytes]:
        head = sign_head(key, tenant=tenant, size=size, root=root, at=timestamp(at))
        return head.key_id, bytes.fromhex(head.signature)

    return Rules(
        partition_of=partial(partition_of, partitions=partitions),
        command_subject=command_subject,
        event_subject=event_subject,
        dead_subject=dead_subject,
        sign_head=signed,
        open_secret=Sealer(settings.secret_bytes()).open,
    )


async def run_worker(
    settings: Settings,
    instruments: Instruments = SILENCE,
    *,
    on_ready: Callable[[Worker], Coroutine[Any, Any, None]] | None = None,
    signals: bool = True,
) -> None:
    """Run a worker until SIGTERM or SIGINT (or cancellation), then drain; raise what its supervisor gave up on."""
    settings.need("postgres_writer_url", "nats_url", "secret", "evidence_key")
    pool = await open_pool(
        settings.postgres_writer_url,
        name=f"zentra {settings.worker_name}",
        connections_max=settings.commits_max + 6,
        transaction_seconds_max=settings.lease_seconds / 2,
        lock_seconds_max=settings.lease_seconds / 2.5,
    )
    client = await connect(settings.nats_url, name=settings.worker_name)
    http = OutwardHttp(AddressPolicy(allow_private=settings.private_addresses))
    publisher = Publisher(client)
    try:
        await ensure_streams(client)
        await publisher.start()
        store = PostgresStore(pool)
        rules = make_rules(settings, await store.partitions())
        memory = Memory(await store.configuration(), rules.partition_of)
        rails = RailBook(lambda: memory.configuration.rails, http)
        outward = Outward(
            rails.adapter, WebhookSender(http), publisher, rules.partition_of, command_subject, instruments
        )
        source = CommandSource(client, await store.partitions())
        relay = Relay(store, publisher, lambda: tuple(worker.leases), instruments)
        worker = Worker(
            WorkerSettings(
                settings.worker_name, lease_seconds=settings.lease_seconds, commits_max=settings.commits_max
            ),
            Engine(memory, rules),
            store,
            source,
            relay,
            outward,
            instruments,
        )
        supervisor = Supervisor()
        for name, service in (
            ("outward", outward.run),
            ("ticks", worker.run_ticks),
            ("listen", worker.listen),
            ("timers", worker.watch_timers),
            ("leases", worker.keep_leases),
            ("marking", relay.keep_marking),
            ("sweeping", relay.keep_sweeping),
            ("maintenance", partial(_maintain, worker, store, relay, client, instruments)),
        ):
            supervisor.add(name, service)
        async with anyio.create_task_group() as group:
            if signals:
                group.start_soon(_stop_on_signal, worker, supervisor)
            if on_ready is not None:
                group.start_soon(on_ready, worker)
            try:
                await supervisor.run()
            finally:
                group.cancel_scope.cancel()
    finally:
        await publisher.close()
        await rails.aclose()
        await http.aclose()
        await client.close()
        await pool.close()


async def _stop_on_signal(worker: Worker, supervisor: Supervisor) -> None:
    """Drain on the first signal; a second one ends at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            logger.info("draining", extra={"signal": int(number)})
            await worker.drain()
            supervisor.stop()
            return


async def _maintain(
    worker: Worker, store: PostgresStore, relay: Relay, client: Connection, instruments: Instruments
) -> None:
    """Report gauges, purge consumed commands and trim the outbox; the owner of partition 0 purges for all."""
    consumed: deque[tuple[datetime, int]] = deque()  # (time, what the stream held then)
    purged_at = time.monotonic()
    while True:
        await anyio.sleep(MAINTENANCE_SECONDS)
        try:
            state = await stream_state(client, COMMANDS)
        except StreamError as error:
            logger.warning("the stream does not answer", extra={"error": str(error)})
            continue
        lowest = min((lease.position.sequence for lease in worker.leases.values()), default=0)
        for name, value in worker.statistics().items():
            instruments.gauge(name, value)
        instruments.gauge("checkpoint_lag_messages", max(0, state.last - lowest))
        if 0 in worker.leases:
            try:
                for name, value in (await store.statistics()).items():
                    instruments.gauge(name, value)
            except Unavailable as error:
                logger.warning("the store does not answer", extra={"error": str(error)})
                continue
        if time.monotonic() - purged_at < PURGE_SECONDS:
            continue
        purged_at = time.monotonic()
        consumed.append((datetime.now(UTC), state.last))
        while consumed and consumed[0][1] <= lowest:
            passed_at, _ = consumed.popleft()
            await relay.trim(passed_at)
        if 0 in worker.leases:
            everywhere = await store.leases(range(await store.partitions()))
            passed = min(lease.position.sequence for lease in everywhere.values())
            await purge_commands(client, passed)
