"""The feed of a tenant on a real server with accounts: complete while somebody listens, nothing while nobody does."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import nats.errors
import pytest
from nats.aio.msg import Msg

from tests.streams.nats_server import NatsServer, fresh_streams, run_nats_server
from tests.streams.test_service import SECRET, config, connect_as
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.tracing import traceparent
from zentra.streams.accounts import render_config, runtime_password, system_password, system_url, tenant_password
from zentra.streams.connection import Connection, connect
from zentra.streams.ending import ended
from zentra.streams.errors import StreamUnavailable
from zentra.streams.publisher import Publisher
from zentra.streams.tenant_feed import FeedInterest, FeedWorker
from zentra.streams.topology import stream_state

pytestmark = pytest.mark.service

INTENT, TRACE = "0190" + "a" * 28, "7" * 32
QUICK = 0.02
FLUSH_SECONDS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with run_nats_server(tmp_path_factory.mktemp("feeds"), config) as running:
        yield running


@pytest.fixture
async def core(server: NatsServer) -> AsyncIterator[Connection]:
    connection = await connect_as(server, "runtime", runtime_password(SECRET))
    try:
        await fresh_streams(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def publisher(core: Connection) -> AsyncIterator[Publisher]:
    made = Publisher(core)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def interest(server: NatsServer) -> AsyncIterator[FeedInterest]:
    system = await connect_as(server, "sys", system_password(SECRET))
    yield FeedInterest(system, gather_seconds=QUICK)
    await system.close()


class Listener:
    """A tenant's connection that notes what its feed brings."""

    def __init__(self, client: Connection) -> None:
        self.client = client
        self.heard: list[Msg] = []
        self._more = asyncio.Event()

    async def note(self, message: Msg) -> None:
        self.heard.append(message)
        self._more.set()

    @property
    def sequences(self) -> list[int]:
        return [json.loads(message.data)["sequence"] for message in self.heard]

    async def until(self, sequence: int) -> list[int]:
        while sequence not in self.sequences:
            self._more.clear()
            await self._more.wait()
        return self.sequences


@asynccontextmanager
async def listening(server: NatsServer, tenant: str, subject: str = "zentra.feed.>") -> AsyncIterator[Listener]:
    client = await connect_as(server, tenant, tenant_password(SECRET, tenant))
    listener = Listener(client)
    try:
        await client.subscribe(subject, cb=listener.note)
        await client.flush(FLUSH_SECONDS)
        yield listener
    finally:
        await client.close()


@asynccontextmanager
async def working(
    core: Connection, interest: FeedInterest, owns: list[bool] | None = None
) -> AsyncIterator[FeedWorker]:
    worker = FeedWorker(core, interest, lambda: (owns or [True])[0], poll_seconds=QUICK)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await ended(running)


async def until_copied(worker: FeedWorker, *tenants: str) -> None:
    while worker.tenants != set(tenants):
        await asyncio.sleep(QUICK)


async def consumers(core: Connection) -> int:
    return len((await core.call("CONSUMER.NAMES.ZE", {}, dict[str, object]))["consumers"] or ())  # type: ignore[arg-type]


async def until_reading(core: Connection) -> None:
    while not await consumers(core):
        await asyncio.sleep(QUICK)


def frame(*sequences: int, tenant: str = "acme", topic: str = "ledger.posted") -> Outgoing:
    records = [{"intent": INTENT, "sequence": n, "event": topic, "trace": TRACE, "tenant": tenant} for n in sequences]
    subject = f"ze.0.{tenant}.{topic.replace('.', '-')}"
    return Outgoing(subject, json.dumps(records).encode(), f"{tenant}-{topic}-{sequences}")


async def test_every_record_is_a_message_with_its_trace_and_a_stable_id(
    server: NatsServer, core: Connection, publisher: Publisher, interest: FeedInterest
) -> None:
    async with listening(server, "acme") as acme, working(core, interest):
        await until_reading(core)
        await publisher.publish([frame(1, 2), frame(3, topic="case.opened"), frame(1, tenant="globex")])
        assert await acme.until(3) == [1, 2, 3]
    first, last = acme.heard[0], acme.heard[-1]
    assert (first.subject, last.subject) == (f"zentra.feed.ledger.posted.{INTENT}", f"zentra.feed.case.opened.{INTENT}")
    assert first.headers == {"Nats-Msg-Id": f"{INTENT}-1", "traceparent": traceparent(TRACE, INTENT, 1)}
    assert {json.loads(message.data)["tenant"] for message in acme.heard} == {"acme"}


async def test_without_a_listener_nothing_is_read_and_nothing_is_copied(
    core: Connection, publisher: Publisher, interest: FeedInterest
) -> None:
    copied: list[str] = []

    async def note(message: Msg) -> None:
        copied.append(message.subject)

    async with working(core, interest) as worker:
        await publisher.publish([frame(n) for n in range(1, 20)])
        await interest.heard()
        await interest.heard()
        assert (await consumers(core), worker.tenants) == (0, frozenset())
        subscription = await core.subscribe("zentra.feed.>", cb=note)
        await subscription.unsubscribe()
    assert copied == []


async def test_who_comes_back_gets_what_was_missed_and_maybe_the_last_again(
    server: NatsServer, core: Connection, publisher: Publisher, interest: FeedInterest
) -> None:
    async with working(core, interest) as worker:
        async with listening(server, "acme") as acme:
            await until_reading(core)
            await publisher.publish([frame(1), frame(2)])
            await acme.until(2)
        await until_copied(worker)
        await publisher.publish([frame(3), frame(4)])
        async with listening(server, "acme") as acme:
            assert sorted(set(await acme.until(4)) | {1, 2}) == [1, 2, 3, 4]
            assert acme.sequences == sorted(acme.sequences), "in order, whatever comes again"


async def test_a_worker_takes_over_where_the_last_one_stood(
    server: NatsServer, core: Connection, publisher: Publisher, interest: FeedInterest
) -> None:
    async with listening(server, "acme") as acme:
        async with working(core, interest):
            await until_reading(core)
            await publisher.publish([frame(1)])
            await acme.until(1)
        await publisher.publish([frame(2)])
        async with working(core, interest):
            await acme.until(2)
            await publisher.publish([frame(3)])
            heard = await acme.until(3)
        assert heard == sorted(heard)
        assert set(heard) == {1, 2, 3}
        assert await consumers(core) == 1


async def test_what_was_told_and_counted_is_not_told_again(
    server: NatsServer, core: Connection, publisher: Publisher, interest: FeedInterest
) -> None:
    async with listening(server, "acme") as acme:
        async with working(core, interest):
            await until_reading(core)
            await publisher.publish([frame(1), frame(2)])
            await acme.until(2)
            while (await floor_of(core)) < (await stream_state(core, "ZE")).last:
                await asyncio.sleep(QUICK)
        async with working(core, interest):
            await publisher.publish([frame(3)])
            assert await acme.until(3) == [1, 2, 3]


async def floor_of(core: Connection) -> int:
    answer = await core.ask("$JS.API.CONSUMER.INFO.ZE.feed-acme-a")
    return int(json.loads(answer.data)["ack_floor"]["stream_seq"])


async def test_only_the_owner_copies(
    server: NatsServer, core: Connection, publisher: Publisher, interest: FeedInterest
) -> None:
    owns = [True]
    async with listening(server, "acme"), working(core, interest, owns) as worker:
        await until_copied(worker, "acme")
        owns[0] = False
        await until_copied(worker)


async def test_a_new_tenant_is_heard_after_a_reload_and_nobody_is_disturbed(
    server: NatsServer, core: Connection, publisher: Publisher, interest: FeedInterest
) -> None:
    """No restart: the connections of before are still there, and so is what they listen to."""
    path = server.store.parent / "nats.conf"
    before = path.read_text()
    # Only the tenants differ: the rest is how this server was started.
    grown = render_config(listen="x:1", store_dir="x", tenants=["globex", "acme", "acme-2", "initech"], secret=SECRET)
    accounts = grown[grown.index("accounts {") :]
    async with listening(server, "acme") as acme, working(core, interest) as worker:
        await until_reading(core)
        path.write_text(before[: before.index("accounts {")] + accounts)
        server.process.signal(signal.SIGHUP)
        while True:
            try:
                async with listening(server, "initech") as initech:
                    await until_copied(worker, "acme", "initech")
                    await publisher.publish([frame(1), frame(1, tenant="initech")])
                    await acme.until(1)
                    while not initech.heard:
                        await publisher.publish([frame(2 + len(initech.heard), tenant="initech")])
                        await asyncio.sleep(QUICK)
                    assert {json.loads(m.data)["tenant"] for m in initech.heard} == {"initech"}
                    break
            except (StreamUnavailable, nats.errors.Error):  # it cuts off whoever comes while it loads
                continue
        assert not core.stats["reconnects"]
        assert not acme.client.stats["reconnects"]


async def test_interest_is_told_by_the_system_account_alone(server: NatsServer, core: Connection) -> None:
    url = system_url(f"nats://runtime:x@127.0.0.1:{server.process.port}", SECRET)
    system = await connect(url, name="sys")
    async with listening(server, "acme"), listening(server, "globex", "zentra.feed.ledger.>"):
        asked = FeedInterest(system)
        while (await asked.heard()).keys() != {"acme", "globex"}:
            continue  # a server that is still loading has let go of imports, and takes them up again
    with pytest.raises(StreamUnavailable):
        await FeedInterest(core, gather_seconds=QUICK).heard()
    await system.close()
    with pytest.raises(StreamUnavailable):
        await FeedInterest(system).heard()
