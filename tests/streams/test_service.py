"""The accounts and the door behind them: whom a tenant may claim to be, reach, and answer to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import nats.errors
import pytest
from nats.aio.msg import Msg

from tests.streams.nats_server import NatsServer, fresh_streams, run_nats_server
from zentra.gateway.devstack.servers import NatsPorts
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.subjects import feed_subject
from zentra.streams.accounts import account_name, render_config, runtime_password, system_password, tenant_password
from zentra.streams.connection import Connection, connect
from zentra.streams.publisher import Publisher
from zentra.streams.service import IntentService, ServiceRequest
from zentra.streams.topology import stream_state

SECRET = b"only for these tests"
OVERLOADED = b"overloaded"


def config(ports: NatsPorts) -> str:
    return render_config(
        listen=f"127.0.0.1:{ports.client}",
        http=f"127.0.0.1:{ports.monitor}",
        store_dir=str(ports.store_dir),
        tenants=["globex", "acme", "acme-2", "acme"],
        secret=SECRET,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with run_nats_server(tmp_path_factory.mktemp("accounts"), config) as running:
        yield running


async def connect_as(server: NatsServer, user: str, password: str) -> Connection:
    return await connect(f"nats://{user}:{password}@127.0.0.1:{server.process.port}", name=user)


@pytest.fixture
async def core(server: NatsServer) -> AsyncIterator[Connection]:
    connection = await connect_as(server, "runtime", runtime_password(SECRET))
    try:
        await fresh_streams(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def acme(server: NatsServer) -> AsyncIterator[Connection]:
    connection = await connect_as(server, "acme", tenant_password(SECRET, "acme"))
    yield connection
    await connection.close()


class Door:
    """A service whose requests wait here until a test answers them; a request that says `bad` breaks its handler."""

    def __init__(self, client: Connection) -> None:
        self.service = IntentService(client, overloaded_answer=OVERLOADED, unanswered_max=2)
        self.requests: asyncio.Queue[ServiceRequest] = asyncio.Queue()

    def take(self, requests: list[ServiceRequest]) -> None:
        for request in requests:
            if request.body == b"bad":
                raise RuntimeError("handler bug")
            self.requests.put_nowait(request)

    async def next(self) -> ServiceRequest:
        return await self.requests.get()


@pytest.fixture
async def door(core: Connection) -> AsyncIterator[Door]:
    made = Door(core)
    await made.service.start(made.take)
    yield made
    # The server notices a closed connection later than the next test begins, and would send it requests.
    await made.service.stop()


async def test_the_tenant_is_who_connected(door: Door, server: NatsServer) -> None:
    for tenant in ("acme", "globex", "acme-2"):
        client = await connect_as(server, tenant, tenant_password(SECRET, tenant))
        asked = asyncio.create_task(client.request("zentra.intents.create", b"body", timeout=5))
        request = await door.next()
        assert (request.tenant, request.verb, request.body) == (tenant, "create", b"body")
        await door.service.respond(request, b"answer for " + tenant.encode())
        assert (await asked).data == b"answer for " + tenant.encode()
        await client.close()
    assert door.service.statistics().unanswered == 0


async def test_only_trace_and_idempotency_key_come_through(door: Door, acme: Connection) -> None:
    hostile = {"Nats-Msg-Id": "globex:1", "Nats-Schedule": "@every 1s", "X-Else": "x"}
    kept = {"traceparent": "00-1-2-03", "X-Idempotency-Key": "k1"}
    asked = asyncio.create_task(acme.request("zentra.intents.cancel.now", b"", timeout=5, headers={**hostile, **kept}))
    request = await door.next()
    assert request.verb == "cancel.now"
    assert request.headers == {"traceparent": "00-1-2-03", "idempotency-key": "k1"}
    await door.service.respond(request, b"ok")
    assert (await asked).headers is None


async def test_a_foreign_subject_is_unreachable(door: Door, core: Connection, acme: Connection) -> None:
    for subject in ("zentra.api.globex.create", "zentra.api.acme.create", "zc.1.policy", "$JS.API.STREAM.LIST"):
        with pytest.raises((nats.errors.NoRespondersError, nats.errors.TimeoutError)):
            await acme.request(subject, b"", timeout=0.2)
    await acme.publish("zentra.intents.create", b"mine")
    assert (await door.next()).body == b"mine"
    assert door.requests.empty()
    assert (await stream_state(core, "ZC")).messages == 0


async def test_a_hostile_reply_subject_is_neutralised(door: Door, core: Connection, acme: Connection) -> None:
    await acme.publish("zentra.intents.create", b"", reply="$JS.API.STREAM.DELETE.ZC")
    await acme.publish("zentra.intents.create", b"", reply="zc.1.policy")
    for _ in range(2):
        request = await door.next()
        assert request.reply.startswith("_R_.")
        await door.service.respond(request, b"{}")
    await core.flush()
    await acme.flush()
    assert (await stream_state(core, "ZC")).messages == 0


async def test_a_request_that_came_past_the_import_is_refused(door: Door, core: Connection) -> None:
    await core.publish("zentra.api.acme.create", b"", reply="zc.1.policy")
    await core.publish("zentra.api.acme.create", b"second")
    assert (await door.next()).body == b"second"
    assert door.service.statistics().refused == 1


async def test_fire_and_forget_is_handed_over_and_needs_no_answer(door: Door, acme: Connection) -> None:
    await acme.publish("zentra.intents.create", b"body")
    request = await door.next()
    assert request.reply == ""
    assert door.service.statistics().unanswered == 1
    await door.service.respond(request, b"nobody hears")
    await door.service.respond(request, b"nor this")
    assert door.service.statistics().unanswered == 0


async def test_above_the_bound_the_answer_is_immediate(door: Door, acme: Connection) -> None:
    waiting = [asyncio.create_task(acme.request("zentra.intents.create", b"%d" % n, timeout=5)) for n in range(2)]
    held = [await door.next() for _ in waiting]
    assert (await acme.request("zentra.intents.create", b"third", timeout=5)).data == OVERLOADED
    for request in held:
        await door.service.respond(request, b"done")
    assert [(await answer).data for answer in waiting] == [b"done"] * 2
    assert door.service.statistics().overloaded == 1


async def test_without_a_gateway_the_tenant_knows_at_once(door: Door, core: Connection, acme: Connection) -> None:
    await door.service.stop()
    with pytest.raises(nats.errors.NoRespondersError):
        await acme.request("zentra.intents.create", b"", timeout=5)


async def test_a_failing_handler_leaves_the_door_open(door: Door, core: Connection, acme: Connection) -> None:
    await acme.publish("zentra.intents.create", b"bad")
    await acme.flush()
    await core.flush()
    await acme.publish("zentra.intents.create", b"good")
    assert (await door.next()).body == b"good"
    assert door.service.statistics().unanswered == 1


@pytest.mark.parametrize("subject", ["zentra.feed.>", "zentra.feed.ledger.posted.*", "zentra.feed.*.posted.>"])
async def test_each_tenant_hears_its_own_feed(core: Connection, acme: Connection, subject: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def note(message: Msg) -> None:
        heard.put_nowait(message.subject)

    await acme.subscribe(subject, cb=note)
    await acme.flush()
    # The server may learn a moment after its answer to the flush that the import has a reader: publish until heard.
    while heard.empty():
        for tenant in ("globex", "acme-2", "acme"):
            await core.publish(feed_subject(tenant, "ledger.posted", tenant), b"event")
        await core.flush()
        await acme.flush()
    assert {heard.get_nowait() for _ in range(heard.qsize())} == {"zentra.feed.ledger.posted.acme"}


@pytest.mark.parametrize("subject", [
    "zentra.feed.globex.>", "zentra.api.>", "ze.>", "zc.>", "zl.*", "$JS.>", "$SYS.>", ">", "_R_.>",
])  # fmt: skip
async def test_what_is_not_its_own_a_tenant_never_hears(
    core: Connection, acme: Connection, server: NatsServer, subject: str
) -> None:
    """Whatever it subscribes to, and whether the server refuses the subscription or has nothing for it."""
    heard: list[str] = []

    async def note(message: Msg) -> None:
        heard.append(message.subject)

    await acme.subscribe(subject, cb=note)
    await acme.flush()
    publisher = Publisher(core)
    await publisher.start()
    await publisher.publish([Outgoing("ze.0.globex.ledger-posted", b"[]", "globex-1")])
    for published in ("zentra.feed.globex.ledger.posted.x", "zl.worker-1", "zentra.api.globex.create"):
        await core.publish(published, b"theirs")
    await core.flush()
    await acme.flush()
    await acme.flush()
    await publisher.close()
    assert heard == []


async def stored(core: Connection) -> list[int]:
    return [(await stream_state(core, stream)).messages for stream in ("ZC", "ZE", "ZD")]


HOSTILE_HEADERS: list[dict[str, str]] = [
    {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "zc.1.policy"},
    {"Nats-Scheduler": "globex", "Nats-Schedule-Next": "purge"},
    {"Nats-Msg-Id": "globex:k7"},
    {"Nats-Rollup": "all"}, {"Nats-Expected-Last-Sequence": "0"}, {"Nats-TTL": "1s"}, {"Nats-Batch-Id": "b"},
]  # fmt: skip


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=lambda headers: next(iter(headers)))
async def test_headers_of_a_tenant_reach_no_stream(
    door: Door, core: Connection, acme: Connection, headers: dict[str, str]
) -> None:
    """Schedules into others' subjects, purged schedules, guessed message ids: the door sees none of it."""
    before = await stored(core)
    asked = asyncio.create_task(acme.request("zentra.intents.create", b"body", timeout=5, headers=headers))
    request = await door.next()
    assert request.headers == {}
    await door.service.respond(request, b"ok")
    await asked
    assert await stored(core) == before


async def test_a_guessed_message_id_drops_nobody_elses_message(core: Connection, acme: Connection) -> None:
    for subject in ("ze.0.globex.ledger-posted", "zc.1.policy", "zentra.intents.create"):
        await acme.publish(subject, b"forged", headers={"Nats-Msg-Id": "globex-k7"})
    await acme.flush()
    assert await stored(core) == [0, 0, 0]
    publisher = Publisher(core)
    await publisher.start()
    assert await publisher.publish([Outgoing("ze.0.globex.ledger-posted", b"[]", "globex-k7")]) == [None]
    assert (publisher.statistics().duplicates, await stored(core)) == (0, [0, 1, 0])
    await publisher.close()


@pytest.mark.parametrize("subject", [
    "zc.1.policy", "ze.0.acme.ledger-posted", "ze.0.globex.ledger-posted", "zd.poison.1", "zl.worker-1",
    "zentra.feed.acme.ledger.posted.x", "zentra.feed.globex.ledger.posted.x", "zentra.feed.x",
    "zentra.api.globex.create", "$JS.API.STREAM.PURGE.ZC", "$JS.API.STREAM.DELETE.ZE",
    "$JS.API.CONSUMER.DELETE.ZE.feed-globex-a", "$JS.ACK.ZE.x", "$SYS.REQ.SERVER.PING.SUBSZ", "_R_.x", "_INBOX.x",
])  # fmt: skip
async def test_a_tenant_publishes_nowhere_but_to_its_door(
    door: Door, core: Connection, acme: Connection, server: NatsServer, subject: str
) -> None:
    heard: list[str] = []
    globex = await connect_as(server, "globex", tenant_password(SECRET, "globex"))

    async def note(message: Msg) -> None:
        heard.append(message.subject)

    # In the runtime's account what can be heard is what went past the streams; a stream's own traffic is not.
    for listened in ("zc.>", "ze.>", "zd.>", "zl.*", "zentra.>"):
        await core.subscribe(listened, cb=note)
    await core.flush()
    await globex.subscribe("zentra.feed.>", cb=note)
    await globex.flush()
    before = await stored(core)
    await acme.publish(subject, b"forged")
    await acme.publish(subject, b"forged", reply="zc.1.policy")
    await acme.flush()
    await globex.flush()
    await core.flush()
    assert (heard, await stored(core), door.requests.empty()) == ([], before, True)
    await globex.close()


def test_a_password_is_its_owners_alone() -> None:
    owners = [tenant_password(SECRET, tenant) for tenant in ("acme", "globex", "runtime", "system")]
    passwords = {*owners, runtime_password(SECRET), system_password(SECRET), runtime_password(SECRET + b"!")}
    assert len(passwords) == 7
    assert all(len(password) == 32 and password.isalnum() for password in passwords)
    assert tenant_password(SECRET, "acme") == tenant_password(SECRET, "acme")


@pytest.mark.parametrize("tenant", ["", "A", "acme_2", "acme.globex", "*", "2acme", "a" * 40, "acme\n"])
def test_a_name_that_is_no_tenant_never_reaches_the_configuration(tenant: str) -> None:
    with pytest.raises(ValueError, match="not a tenant"):
        render_config(listen="127.0.0.1:4222", store_dir="/data", tenants=[tenant], secret=SECRET)
    with pytest.raises(ValueError, match="not a tenant"):
        account_name(tenant)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        runtime_password(b"short")


@pytest.mark.parametrize("sync_always", [True, False])
def test_durability_is_a_choice_of_the_configuration(sync_always: bool) -> None:
    text = render_config(listen="127.0.0.1:4222", store_dir="/data", tenants=[], secret=SECRET, sync_always=sync_always)
    assert ("sync_interval: always" in text) is sync_always
