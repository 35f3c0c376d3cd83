"""The worker process: builds a worker on real adapters and runs it until it is told to stop.

The wiring of the engine stands here and nowhere else; `actors` knows ports, not Postgres or NATS."""

import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from zentra.actors.engine import Engine
from zentra.actors.health import HealthExchange
from zentra.actors.memory import Memory
from zentra.actors.outward import Outward
from zentra.actors.relay import Relay
from zentra.actors.reporting import Reporter
from zentra.actors.supervisor import Supervisor
from zentra.actors.tick import Rules
from zentra.actors.worker import Worker, WorkerSettings
from zentra.gateway.anchoring import AnchorService
from zentra.gateway.exporting import ExportService
from zentra.gateway.feeding import copy_feeds
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp, webhook_policy_of
from zentra.gateway.outward.lookups import SharedLookups
from zentra.gateway.outward.rail_secrets import RailSecrets
from zentra.gateway.outward.rails import RailBook
from zentra.gateway.outward.webhooks import WebhookSender
from zentra.gateway.production import assert_production, nats_tls
from zentra.gateway.quoting import Quotes
from zentra.gateway.scorers import load_scorers
from zentra.gateway.screening import ScreeningService
from zentra.gateway.sealing import Sealer
from zentra.gateway.settings import Settings
from zentra.gateway.signing import SigningService, evidence_keys_of, signers_of
from zentra.gateway.upkeep import Upkeep
from zentra.runtime.instruments import SILENCE, Instruments
from zentra.runtime.partitions import partition_of
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.subjects import command_subject, dead_subject, event_subject
from zentra.storage.engine.store import PostgresStore
from zentra.storage.intake.evidence_keys import admit_keys
from zentra.storage.pool import Pool, open_pool
from zentra.streams.connection import connect
from zentra.streams.load import LoadReports
from zentra.streams.publisher import Publisher
from zentra.streams.source import CommandSource
from zentra.streams.topology import ensure_streams

if TYPE_CHECKING:
    from zentra.gateway.spans import Spans

__all__ = ["open_ways_out", "run_worker"]

logger = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 1024  # to rails, and as many to endpoints
LOOKUPS_MAX: Final = 64  # of names at once, each in a thread


def make_rules(settings: Settings, partitions: int) -> Rules:
    """Return what a worker of this installation is set up with."""
    signers = signers_of(evidence_keys_of(settings))
    return Rules(
        partition_of=partial(partition_of, partitions=partitions),
        command_subject=command_subject,
        event_subject=event_subject,
        dead_subject=dead_subject,
        sign_head=next(iter(signers.values())),
        open_secret=Sealer(settings.secret_bytes()).open,
        open_quote=Quotes(settings.secret_bytes()).open,
        scorers=load_scorers(settings.risk_scorers),
        signers=signers,
    )


def open_ways_out(
    policy: AddressPolicy,
    webhooks: AddressPolicy,
    rails: Callable[[], Mapping[str, RailSettings]],
    opened: AsyncExitStack,
    *,
    connections_max: int = CONNECTIONS_MAX,
    secrets: RailSecrets,
    spans: "Spans | None" = None,
    instruments: Instruments = SILENCE,
) -> tuple[RailBook, WebhookSender]:
    """Return the rails and the webhook sender, each with a policy and at most `connections_max` connections of its own:
    whatever endpoints do, no rail has to wait for a connection. What was opened is closed with `opened`."""
    # How many connections an endpoint may have its lane says; endpoints of several tenants may be behind one host.
    pools = [
        OutwardHttp(policy, connections_max=connections_max),
        OutwardHttp(
            webhooks, connections_max=connections_max, connections_per_host_max=0, resolver=SharedLookups(LOOKUPS_MAX)
        ),
    ]
    for pool in pools:
        opened.push_async_callback(pool.aclose)
    book = RailBook(rails, pools[0], spans, opened=secrets.opened, instruments=instruments)
    opened.push_async_callback(book.aclose)
    return book, WebhookSender(pools[1], spans=spans)


async def run_worker(
    settings: Settings,
    instruments: Instruments = SILENCE,
    *,
    on_ready: Callable[[Worker], Coroutine[Any, Any, None]] | None = None,
    signals: bool = True,
    spans: "Spans | None" = None,
) -> None:
    """Run a worker until SIGTERM or SIGINT (or cancellation), then drain; raise what its supervisor gave up on.

    `spans` makes one for every call to a rail or an endpoint; it stays open."""
    settings.need("postgres_writer_url", "nats_url", "secret", "evidence_key")
    async with AsyncExitStack() as opened:
        worker, supervisor = await _build(settings, instruments, opened, spans)
        async with anyio.create_task_group() as group:
            if signals:
                group.start_soon(_stop_on_signal, worker, supervisor)
            if on_ready is not None:
                group.start_soon(on_ready, worker)
            try:
                await supervisor.run()
            finally:
                group.cancel_scope.cancel()


async def _build(
    settings: Settings, instruments: Instruments, opened: AsyncExitStack, spans: "Spans | None"
) -> tuple[Worker, Supervisor]:
    """Return a worker on real adapters and its services; what was opened for it is closed with `opened`."""
    assert_production(settings)
    pool = await open_pool(
        settings.postgres_writer_url,
        name=f"zentra {settings.worker_name}",
        connections_max=settings.commits_max + 7,
        transaction_seconds_max=settings.lease_seconds / 2,
        lock_seconds_max=settings.lease_seconds / 2.5,
    )
    opened.push_async_callback(pool.close)
    await admit_keys(pool, evidence_keys_of(settings), by=settings.worker_name)
    client = await connect(settings.nats_url, name=settings.worker_name, tls=nats_tls(settings))
    opened.push_async_callback(client.close)
    await ensure_streams(client, replicas=settings.stream_replicas)
    publisher = Publisher(client)
    await publisher.start()
    opened.push_async_callback(publisher.close)
    store = PostgresStore(pool)
    partitions = await store.partitions()
    rules = make_rules(settings, partitions)
    memory = Memory(await store.configuration(), rules.partition_of)
    policy, webhooks = AddressPolicy(allow_private=settings.private_addresses), webhook_policy_of(settings)
    secrets, rails_now = RailSecrets(settings.secret_bytes()), lambda: memory.configuration.rails
    rails, sender = open_ways_out(
        policy, webhooks, rails_now, opened, secrets=secrets, spans=spans, instruments=instruments
    )
    outward = Outward(rails.adapter, sender, publisher, rules.partition_of, command_subject, instruments, memory.rails)
    relay = Relay(store, publisher, lambda: tuple(worker.leases), instruments)
    limits = WorkerSettings(
        settings.worker_name, lease_seconds=settings.lease_seconds, commits_max=settings.commits_max
    )
    source = CommandSource(client, partitions)
    worker = Worker(limits, Engine(memory, rules), store, source, relay, outward, instruments)
    supervisor = Supervisor()
    for name, run in (
        ("outward", outward.run), ("ticks", worker.run_ticks), ("listen", worker.listen),
        ("timers", worker.watch_timers), ("leases", worker.keep_leases),
        ("marking", relay.keep_marking), ("sweeping", relay.keep_sweeping),
    ):  # fmt: skip
        supervisor.add(name, run)
    supervisor.add("load reports", Reporter(limits.name, lambda: worker.waiting, LoadReports(client), instruments).run)
    exchange = HealthExchange(memory.rails, store, limits.name, limits.lease_seconds, instruments)
    supervisor.add("rail health", exchange.run)
    supervisor.add("feeds", partial(copy_feeds, settings, client, lambda: 0 in worker.leases))
    screening = ScreeningService(
        pool, store.shelf, lambda: memory.configuration, lambda: 0 in worker.leases, instruments
    )
    supervisor.add("screening", screening.run)
    signing = SigningService(pool, limits.name, rules.signers, lambda: memory.configuration, instruments)
    opened.push_async_callback(signing.leave)
    supervisor.add("signing", signing.run)
    anchor_http = OutwardHttp(webhooks, connections_max=16)
    opened.push_async_callback(anchor_http.aclose)
    supervisor.add("anchors", AnchorService(pool, anchor_http, lambda: 0 in worker.leases, instruments).run)
    supervisor.add("exports", _exports(settings, pool, instruments).run)
    supervisor.add("upkeep", Upkeep(worker, store, relay, client, instruments).run)
    return worker, supervisor


def _exports(settings: Settings, pool: Pool, instruments: Instruments) -> ExportService:
    return ExportService(settings.postgres_writer_url, pool, evidence_keys_of(settings), instruments)


async def _stop_on_signal(worker: Worker, supervisor: Supervisor) -> None:
    """Drain on the first signal; a second one ends at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            logger.info("draining", extra={"signal": int(number)})
            await worker.drain()
            supervisor.stop()
            return
