"""The gateway process: everything built from one frozen value, served, and drained in order.

- It refuses to start on a tenant role that could step around row security, without the TLS that the production profile
  demands, and where client certificates are demanded and would not be enforced.
- SIGTERM drains: unready, nobody waits any longer, what was taken is answered, what was committed is published, closed.
- What was opened is closed in reverse, whatever fails on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import uvicorn

from zentra.gateway.access.certificates import secured
from zentra.gateway.access.opening import open_access
from zentra.gateway.doors.admission import Admission
from zentra.gateway.doors.callbacks import CallbackIntake
from zentra.gateway.doors.commands import CommandDoor
from zentra.gateway.doors.intake import Intake
from zentra.gateway.doors.intents import IntentDoor
from zentra.gateway.doors.nats import NatsDoor
from zentra.gateway.doors.pressure import Pressure, PressureLimits
from zentra.gateway.http.app import Application, Route
from zentra.gateway.http.denials import Collected, Denials
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.sending import Sending
from zentra.gateway.http.streaming import Streams
from zentra.gateway.http.waiting import CommandWaiters, IntentWaiters
from zentra.gateway.listening import BACKLOG, Receive, Scope, Send, quiet_config
from zentra.gateway.metrics import Metrics
from zentra.gateway.outward.http import AddressGuard, AddressPolicy, OutwardHttp, webhook_policy_of
from zentra.gateway.outward.rail_secrets import RailSecrets
from zentra.gateway.production import assert_production, nats_tls
from zentra.gateway.quoting import Quotes
from zentra.gateway.routes.account_orders import AccountOrderRoutes
from zentra.gateway.routes.accounts import AccountRoutes
from zentra.gateway.routes.approvals import ApprovalRoutes, Asking
from zentra.gateway.routes.books import BookRoutes
from zentra.gateway.routes.callbacks import CallbackRoutes
from zentra.gateway.routes.corridors import CorridorRoutes
from zentra.gateway.routes.deliveries import DeliveryRoutes
from zentra.gateway.routes.deposits import DepositRoutes
from zentra.gateway.routes.description import DescriptionRoutes
from zentra.gateway.routes.events import EventRoutes, NatsEvents
from zentra.gateway.routes.evidence import EvidenceRoutes
from zentra.gateway.routes.evidence_keys import KeyRoutes
from zentra.gateway.routes.exports import ExportRoutes
from zentra.gateway.routes.fees import FeeRoutes
from zentra.gateway.routes.health import HealthRoutes
from zentra.gateway.routes.holds import HoldRoutes
from zentra.gateway.routes.intents import IntentRoutes
from zentra.gateway.routes.journals import JournalRoutes
from zentra.gateway.routes.operations import OperationRoutes
from zentra.gateway.routes.parties import PartyRoutes
from zentra.gateway.routes.policies import PolicyRoutes
from zentra.gateway.routes.reviews import ReviewRoutes
from zentra.gateway.routes.statements import StatementRoutes
from zentra.gateway.routes.webhooks import WebhookRoutes
from zentra.gateway.scorers import load_scorers
from zentra.gateway.sealing import Sealer
from zentra.gateway.settings import Settings
from zentra.gateway.signing import evidence_keys_of
from zentra.runtime.errors import Unavailable
from zentra.runtime.subjects import COMMANDS
from zentra.storage.idempotency import RedisIdempotency
from zentra.storage.intake.clock import DatabaseClock
from zentra.storage.intake.evidence_keys import stopped_signers
from zentra.storage.intake.personal import PersonalData
from zentra.storage.pool import Pool, assert_tenant_role, open_pool
from zentra.storage.reads import access as access_reads
from zentra.storage.reads import border as border_reads
from zentra.storage.reads import tenant as reads
from zentra.storage.reads.backlog import Backlog, read_backlog
from zentra.streams.connection import Connection, connect
from zentra.streams.feed import EventTail
from zentra.streams.load_tail import LoadTail
from zentra.streams.publisher import Publisher
from zentra.streams.topology import ensure_streams, stream_state

if TYPE_CHECKING:
    from zentra.gateway.spans import Spans

__all__ = ["GatewayApp", "run_gateway"]

_log = logging.getLogger(__name__)

NAME: Final = "zentra gateway"
DRAIN_SECONDS_MAX: Final = 10  # waiting clients are let go at once; the longest thing left is a commit


class Drained(Protocol):
    """A part that lets go of whoever waits for it."""

    def drain(self) -> None:
        """Let nobody wait any longer."""
        ...


class GatewayApp:
    """A gateway that is built and may serve; `opened` makes one. `application` is its ASGI callable."""

    def __init__(
        self,
        application: Application,
        metrics: Metrics,
        drained: Sequence[Drained],
        intent_waiters: IntentWaiters,
        settings: Settings,
    ) -> None:
        """`drained` are let go in this order."""
        self.application, self.metrics, self._settings = application, metrics, settings
        self._drained, self._intent_waiters = drained, intent_waiters

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings, spans: Spans | None = None) -> AsyncIterator[GatewayApp]:
        """Yield a gateway on the real stores, and close everything in order afterwards but `spans`.

        Raises SettingsError, Misconfigured, Unavailable or StreamError where it cannot be built."""
        settings.need("postgres_writer_url", "postgres_tenant_url", "nats_url", "redis_url", "secret")
        assert_production(settings)
        secured(quiet_config(_nobody), settings)
        async with AsyncExitStack() as stack:
            yield await _Builder(settings, stack, spans).build()

    def drain(self) -> None:
        """Be unready, and let nobody wait any longer."""
        for part in self._drained:
            part.drain()

    def statistics(self) -> Mapping[str, int]:
        """Return how much is waited for now."""
        return {"waiting_intents": self._intent_waiters.waiting}

    async def serve(
        self,
        host: str,
        port: int,
        *,
        signals: bool = True,
        on_ready: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Serve HTTP until SIGTERM, SIGINT or a cancellation, then finish what was taken.

        `on_ready` is told the base URL. Raises OSError where the address cannot be bound."""
        with socket.create_server((host, port), backlog=BACKLOG) as listener:
            config = secured(quiet_config(self.application), self._settings)
            config.timeout_graceful_shutdown = DRAIN_SECONDS_MAX
            server = _Server(config)
            with self._stopping(server) if signals else contextlib.nullcontext():
                running = asyncio.create_task(server.serve(sockets=[listener]))
                try:
                    await server.wait_started(running)
                    base = f"{'https' if config.is_ssl else 'http'}://{host}:{listener.getsockname()[1]}"
                    _log.info("gateway serves", extra={"url": base})
                    if on_ready is not None:
                        await on_ready(base)
                    await asyncio.shield(running)
                finally:
                    self.drain()
                    server.should_exit = True
                    await running

    @contextlib.contextmanager
    def _stopping(self, server: uvicorn.Server) -> Iterator[None]:
        """Drain on the first signal; a second one ends at once."""
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            _log.info("draining", extra={"signal": number})
            server.force_exit = server.should_exit
            server.should_exit = True
            self.drain()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, int(number))
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


async def run_gateway(
    settings: Settings,
    *,
    signals: bool = True,
    on_ready: Callable[[str], Awaitable[None]] | None = None,
    spans: Spans | None = None,
) -> None:
    """Build a gateway, serve on the host and port of the settings, drain. Raises what building and binding raise.

    `spans` makes one for every request; it stays open."""
    async with GatewayApp.opened(settings, spans) as gateway:
        await gateway.serve(settings.host, settings.port, signals=signals, on_ready=on_ready)


class _Builder:
    """Builds a gateway; what it opens is pushed onto the stack at once."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, spans: Spans | None) -> None:
        self.settings, self.stack, self.spans = settings, stack, spans
        self.metrics = Metrics()

    async def build(self) -> GatewayApp:
        settings, stack, metrics = self.settings, self.stack, self.metrics
        tenant_pool, writer_pool = await self._pools()
        client, publisher = await self._streams()
        cache = RedisIdempotency.open(settings.redis_url)
        stack.push_async_callback(cache.aclose)
        http = OutwardHttp(AddressPolicy(allow_private=settings.private_addresses))
        stack.push_async_callback(http.aclose)
        partitions = await border_reads.partitions(writer_pool)
        clock = DatabaseClock()
        denials = Denials(partial(_write_denials, writer_pool), metrics)
        stack.push_async_callback(denials.aclose)
        sending = Sending(writer_pool, publisher)
        stack.push_async_callback(sending.aclose)
        callback_intake = CallbackIntake(writer_pool, sending, partitions=partitions)
        pressure = await self._pressure(writer_pool, clock)
        admission = Admission()
        await self._listen_to(client, admission)
        intake = Intake(
            writer_pool, cache, publisher, clock, pressure, admission,
            partitions=partitions, waiting_max=settings.requests_max,
        )  # fmt: skip
        intent_waiters = IntentWaiters(partial(EventTail, client))
        command_waiters = CommandWaiters(partial(border_reads.command_outcomes, writer_pool))
        for part in (callback_intake, intake, intent_waiters, command_waiters):
            stack.push_async_callback(part.aclose)
        door = IntentDoor(intake, metrics, PersonalData(writer_pool, settings.secret_bytes()).commit)
        commands = CommandDoor(writer_pool, sending, command_waiters, metrics, partitions)
        callbacks = self._callbacks(writer_pool, http, callback_intake)
        stack.push_async_callback(callbacks.aclose)
        health = HealthRoutes(_probes(writer_pool, tenant_pool, client, cache), metrics)
        secret = settings.secret_bytes()
        lists, streams = Lists(secret), Streams()
        intents = IntentRoutes(tenant_pool, door, commands, intent_waiters, lists, Asking(writer_pool))
        routes = [
            *intents.routes(),
            *_evidence(tenant_pool, lists, settings),
            *EventRoutes(tenant_pool, streams, NatsEvents(client), intent_waiters, secret).routes(),
            *_books(tenant_pool, intents, Quotes(secret), lists, door, intent_waiters),
            *HoldRoutes(tenant_pool, commands, lists).routes(),
            *_desk(tenant_pool, writer_pool, commands, lists, denials),
            *PartyRoutes(tenant_pool, lists).routes(),
            *_ruled(tenant_pool, writer_pool, settings, lists),
            *_webhooks(tenant_pool, writer_pool, settings, commands, sending, lists, partitions),
            *callbacks.routes(),
            *health.routes(),
        ]
        routes += DescriptionRoutes(lambda: routes).routes()
        authenticator, limiter = open_access(settings, stack, tenant_pool, writer_pool, http, metrics)
        application = Application(
            routes, authenticator, limiter, on_denial=denials.add, observer=metrics,
            requests_max=settings.requests_max, spans=self.spans,
        )  # fmt: skip
        nats_door = NatsDoor(client, door, limiter, denials.add, self.spans)
        await nats_door.start()
        stack.push_async_callback(nats_door.aclose)
        self._show(intake, nats_door, cache, pressure, admission, streams)
        drained = (health, intake, streams, intent_waiters, command_waiters)
        return GatewayApp(application, metrics, drained, intent_waiters, settings)

    def _show(
        self,
        intake: Intake,
        nats_door: NatsDoor,
        cache: RedisIdempotency,
        pressure: Pressure,
        admission: Admission,
        streams: Streams,
    ) -> None:
        """Show in the metrics how these stand whenever somebody asks."""
        self.metrics.probe(lambda: {
            "event_streams": streams.count,
            "intents_waiting": intake.statistics().waiting,
            "nats_requests_unanswered": nats_door.unanswered,
            "redis_degraded": cache.statistics().degraded,
            "backlog_intents": pressure.waiting,
            "backlog_oldest_seconds": pressure.oldest_seconds,
            "intake_closed": pressure.closed,
            "intake_held_seconds": admission.held_seconds,
            "workers_waiting_events": admission.waiting,
        })  # fmt: skip

    async def _listen_to(self, client: Connection, admission: Admission) -> None:
        tail = LoadTail(client, admission.heard)
        await tail.start()
        self.stack.push_async_callback(tail.stop)

    async def _pressure(self, pool: Pool, clock: DatabaseClock) -> Pressure:
        """Return the gate of the doors, which sets the clock too whenever it looks at the store."""
        settings = self.settings

        async def read() -> Backlog:
            await clock.read(pool)
            return await read_backlog(
                pool, most=2 * settings.backlog_intents_max, late_seconds=settings.backlog_seconds_max
            )

        limits = PressureLimits(settings.backlog_intents_max, settings.backlog_seconds_max)
        pressure = Pressure(read, limits, instruments=self.metrics)
        await pressure.start()
        self.stack.push_async_callback(pressure.aclose)
        return pressure

    def _callbacks(self, writer_pool: Pool, http: OutwardHttp, intake: CallbackIntake) -> CallbackRoutes:
        read, secrets = partial(border_reads.rails, writer_pool), RailSecrets(self.settings.secret_bytes())
        return CallbackRoutes(read, http, intake, self.metrics, secrets.opened)

    async def _pools(self) -> tuple[Pool, Pool]:
        settings = self.settings
        most = settings.postgres_connections_max
        tenant_pool = await open_pool(settings.postgres_tenant_url, name=f"{NAME} reads", connections_max=most)
        self.stack.push_async_callback(tenant_pool.close)
        await assert_tenant_role(tenant_pool)
        writer_pool = await open_pool(settings.postgres_writer_url, name=f"{NAME} intake", connections_max=most)
        self.stack.push_async_callback(writer_pool.close)
        return tenant_pool, writer_pool

    async def _streams(self) -> tuple[Connection, Publisher]:
        client = await connect(self.settings.nats_url, name=NAME, tls=nats_tls(self.settings))
        self.stack.push_async_callback(client.close)
        await ensure_streams(client, replicas=self.settings.stream_replicas)
        publisher = Publisher(client)
        await publisher.start()
        self.stack.push_async_callback(publisher.close)
        return client, publisher


class _Server(uvicorn.Server):
    """A server that leaves signals to its owner and says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._started.set()

    async def wait_started(self, running: asyncio.Task[None]) -> None:
        """Return once it serves; raise what ended it before."""
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait((running, started), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if not self._started.is_set():
            await running
            raise OSError("the server ended before it was ready")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _evidence(tenant_pool: Pool, lists: Lists, settings: Settings) -> list[Route]:
    """Return the doors to evidence; without keys a gateway signs nothing by itself."""
    keys = evidence_keys_of(settings) if settings.evidence_key else ()
    return [
        *EvidenceRoutes(tenant_pool, lists, keys).routes(),
        *ExportRoutes(tenant_pool, lists).routes(),
        *KeyRoutes(tenant_pool).routes(),
    ]


def _books(
    tenant_pool: Pool, intents: IntentRoutes, quotes: Quotes, lists: Lists, door: IntentDoor, waiters: IntentWaiters
) -> list[Route]:
    """Return the routes of books and accounts, of money that comes in, and of what several postings at once and fees
    are about."""
    return [
        *AccountRoutes(tenant_pool, lists).routes(),
        *AccountOrderRoutes(tenant_pool, lists).routes(),
        *StatementRoutes(tenant_pool, lists).routes(),
        *BookRoutes(tenant_pool, lists).routes(),
        *DepositRoutes(tenant_pool, door, waiters).routes(),
        *JournalRoutes(tenant_pool, intents, quotes).routes(),
        *FeeRoutes(tenant_pool, lists).routes(),
    ]


def _webhooks(
    tenant_pool: Pool,
    writer_pool: Pool,
    settings: Settings,
    commands: CommandDoor,
    sending: Sending,
    lists: Lists,
    partitions: int,
) -> list[Route]:
    """Return the doors to endpoints and to what is sent to them."""
    endpoints = WebhookRoutes(
        tenant_pool, writer_pool, Sealer(settings.secret_bytes()), sending, AddressGuard(webhook_policy_of(settings)),
        partitions=partitions, endpoints_max=settings.endpoints_max,
    )  # fmt: skip
    return [*endpoints.routes(), *DeliveryRoutes(tenant_pool, commands, lists).routes()]


def _desk(
    tenant_pool: Pool, writer_pool: Pool, commands: CommandDoor, lists: Lists, denials: Denials
) -> list[Route]:  # fmt: skip
    """Return the routes of people who decide."""
    return [
        *ReviewRoutes(tenant_pool, commands, lists, denials.add).routes(),
        *ApprovalRoutes(tenant_pool, writer_pool, commands, lists).routes(),
        *OperationRoutes(tenant_pool, commands, lists).routes(),
    ]


def _ruled(tenant_pool: Pool, writer_pool: Pool, settings: Settings, lists: Lists) -> list[Route]:
    """Return the routes of what a tenant keeps in versions: its policy, and where its money goes."""
    return [
        *PolicyRoutes(tenant_pool, load_scorers(settings.risk_scorers), lists).routes(),
        *CorridorRoutes(tenant_pool, writer_pool, lists, settings.lease_seconds).routes(),
    ]


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nobody: for a look at a configuration."""


async def _write_denials(pool: Pool, collected: Sequence[Collected]) -> None:
    # The store counts equal rows; what is repeated here is a reference.
    rows = [row for one in collected for row in (one.first, *[one.latest] * (one.times - 1))]
    await reads.record_denials(pool, rows)


def _probes(
    writer_pool: Pool, tenant_pool: Pool, client: Connection, cache: RedisIdempotency
) -> Mapping[str, Callable[[], Awaitable[None]]]:
    async def postgres() -> None:
        await border_reads.partitions(writer_pool)
        await access_reads.find_key(tenant_pool, "-")

    async def redis() -> None:
        await cache.release([("-", "readyz")])  # one round trip that changes nothing
        if cache.statistics().degraded:
            raise Unavailable("redis does not answer")

    async def nats() -> None:
        await stream_state(client, COMMANDS)

    async def sealing() -> None:
        if await stopped_signers(writer_pool):
            raise Unavailable("a worker lacks the evidence key in force")

    return {"postgres": postgres, "redis": redis, "nats": nats, "sealing": sealing}
