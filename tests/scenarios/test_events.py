"""What happens is heard: over streams that go on anywhere, over the tenant's NATS account, and under one trace."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec import Struct
from nats.aio.msg import Msg

from tests.scenarios.people import Books, Person, intent_body, nats_door, until
from zentra.gateway.installation.installation import Installation
from zentra.gateway.listening import Message, Receive, Scope, Send, listening, read_body
from zentra.gateway.outward.rail_secrets import RailSecrets, put_rail
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor
from zentra.runtime.tracing import traceparent
from zentra.storage.administration import Administration
from zentra.storage.pool import open_pool
from zentra.streams.connection import connect

pytestmark = pytest.mark.service

INTENTS, EVENTS = "/runtime/intents", "/runtime/events"
LAST = "review.closed"  # of an intent without webhooks: the packet is sealed


class Event(Struct, frozen=True):
    """One event as a client of a stream gets it."""

    id: str
    name: str
    record: Any


class Listening:
    """An open stream; `next` waits for an event and `retry` and comments are passed over."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.place = ""

    async def next(self) -> Event:
        fields: dict[str, str] = {}
        async for line in self.answer.content:
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(": ")
                fields[name] = value
                continue
            self.place = fields.get("id", self.place)
            if "data" in fields:
                return Event(fields["id"], fields["event"], msgspec.json.decode(fields["data"]))
            if "id" in fields:
                return Event(fields["id"], "", None)
            fields = {}
        raise EOFError

    async def until(self, name: str, times: int = 1) -> list[Event]:
        """Return the events up to the one of this name that comes as often."""
        events: list[Event] = []
        while sum(event.name == name for event in events) < times:
            events.append(await self.next())
        return events


@asynccontextmanager
async def stream(person: Person, path: str, last_id: str | None = None) -> AsyncIterator[Listening]:
    headers = {"authorization": f"Bearer {person.installation.keys[person.tenant][person.name]}"}
    if last_id is not None:
        headers["last-event-id"] = last_id
    async with person.session.get(person.installation.base_url + path, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream"), await answer.read()
        assert answer.headers["x-accel-buffering"] == "no"
        yield Listening(answer)


async def records_of(books: Books, intent: str) -> list[Any]:
    rows = await books.pool.fetch("select record from transitions where intent = $1 order by sequence", intent)
    return [msgspec.json.decode(row[0]) for row in rows]


@pytest.fixture
def stranger(installation: Installation, session: aiohttp.ClientSession) -> Person:
    return Person(installation, session, "globex", "dev")


async def test_an_intent_is_followed_from_its_first_record_to_its_last(dev: Person, books: Books) -> None:
    made = (await dev.post(INTENTS, intent_body())).json
    async with stream(dev, f"{INTENTS}/{made['intent_id']}/events") as live:
        events = await live.until(LAST)
    assert [event.id for event in events] == [str(n) for n in range(1, len(events) + 1)]
    assert [event.record for event in events] == await records_of(books, made["id"])
    assert [event.name for event in events] == [event.record["event"] for event in events]


async def test_an_intents_stream_goes_on_behind_any_of_its_events(dev: Person) -> None:
    made = (await dev.post(INTENTS, intent_body())).json
    path = f"{INTENTS}/{made['id']}/events"
    async with stream(dev, path) as live:
        whole = await live.until(LAST)
    for place in range(len(whole) - 1):
        async with stream(dev, path, last_id=whole[place].id) as live:
            assert await live.until(LAST) == whole[place + 1 :]


@pytest.mark.parametrize("path", [f"{INTENTS}/{{id}}/events"])
async def test_a_foreign_stream_is_as_unknown_as_none(dev: Person, stranger: Person, books: Books, path: str) -> None:
    made = (await dev.post(INTENTS, intent_body())).json
    request_id = uuid.uuid4().hex
    for given in (made["intent_id"], made["id"], "no-such-intent"):
        answer = await stranger.ask("GET", path.format(id=given), headers={"x-request-id": request_id})
        assert (answer.status, answer.code) == (404, "not_found")

    async def kept() -> int:
        return await books.count(
            "select coalesce(sum(count), 0) from denials where tenant = 'globex' and action = $1", f"GET {path}"
        )

    assert await until(kept, lambda count: count >= 3)


@pytest.mark.parametrize(
    ("path", "last_id"), [(f"{INTENTS}/{{id}}/events", "x"), (f"{INTENTS}/{{id}}/events", "-1"), (EVENTS, "5")]
)
async def test_an_id_that_is_none_of_the_streams_is_refused(dev: Person, path: str, last_id: str) -> None:
    made = (await dev.post(INTENTS, intent_body())).json
    answer = await dev.ask("GET", path.format(id=made["id"]), headers={"last-event-id": last_id})
    assert (answer.status, answer.code) == (400, "event_id_malformed")


async def test_a_place_is_the_tenants_own(dev: Person, stranger: Person) -> None:
    async with stream(dev, EVENTS) as live:
        begin = await live.next()
    answer = await stranger.ask("GET", EVENTS, headers={"last-event-id": begin.id})
    assert (answer.status, answer.code) == (400, "event_id_malformed")


async def test_a_tenants_stream_is_complete_and_in_order_wherever_it_is_broken_off(
    dev: Person, stranger: Person, books: Books
) -> None:
    """Clients that hang up after every few events and come back with the last id get what one gets that stays."""
    count = 6
    async with stream(dev, EVENTS) as staying:
        begin = await staying.next()
        assert (begin.name, begin.record) == ("", None)
        others = asyncio.gather(*(stranger.post(INTENTS, intent_body()) for _ in range(3)))
        made = await asyncio.gather(*(dev.post(INTENTS, intent_body()) for _ in range(count)))
        whole = await staying.until(LAST, count)
        await others
    ours = {answer.json["id"] for answer in made}
    for every in (1, 5):
        told: list[Event] = []
        last_id = begin.id
        while len(told) < len(whole):
            async with stream(dev, EVENTS, last_id) as live:
                for _ in range(min(every, len(whole) - len(told))):
                    told.append(await live.next())
                last_id = live.place
        assert [event.record for event in told] == [event.record for event in whole]
    by_intent: defaultdict[str, list[Any]] = defaultdict(list)
    for event in whole:
        assert event.record["tenant"] == "acme"
        by_intent[event.record["intent"]].append(event.record)
    for intent in ours:
        assert by_intent[intent] == (await records_of(books, intent))[: len(by_intent[intent])]


async def test_a_key_is_one_key_over_both_doors(dev: Person, installation: Installation, books: Books) -> None:
    async with nats_door(installation) as ask:
        for first_over_http in (True, False):
            body, key = intent_body(), uuid.uuid4().hex
            if first_over_http:
                first = (await dev.post(INTENTS, body, key=key)).body
                again = await ask(body | {"idempotency_key": key})
                assert (again.status, again.replayed, bytes(again.body)) == (202, True, first)
            else:
                heard = await ask(body | {"idempotency_key": key})
                answer = await dev.post(INTENTS, body, key=key)
                assert (answer.status, answer.body) == (202, bytes(heard.body))
                assert answer.headers["idempotent-replayed"] == "true"
            assert await books.intents_of(key) == 1
            reused = await ask(body | {"idempotency_key": key, "amount": 1})
            assert (reused.status, reused.code) == (422, "idempotency_key_reused")


@asynccontextmanager
async def feed(installation: Installation, tenant: str) -> AsyncIterator[list[Msg]]:
    """What a tenant's own NATS connection hears; the first message is waited for by whoever makes intents."""
    client = await connect(installation.nats_url(tenant), name="test")
    heard: list[Msg] = []

    async def note(message: Msg) -> None:
        heard.append(message)

    await client.subscribe("zentra.feed.>", cb=note)
    await client.flush()
    yield heard
    await client.close()


async def told(heard: list[Msg], intent: str) -> list[Any]:
    async def seen() -> list[Any]:
        records = [msgspec.json.decode(message.data) for message in heard]
        return sorted((r for r in records if r["intent"] == intent), key=lambda record: record["sequence"])

    return await until(seen, lambda records: any(record["event"] == LAST for record in records))


async def copied(books: Books, dev: Person, heard: list[Msg]) -> None:
    """Return when the copy is on its way: make intents until one is heard of."""
    while not heard:
        await dev.made()


async def test_a_tenant_hears_its_events_over_nats(dev: Person, installation: Installation, books: Books) -> None:
    async with feed(installation, "acme") as acme, feed(installation, "globex") as globex:
        await copied(books, dev, acme)
        made = await dev.made()
        assert await told(acme, made["id"]) == await records_of(books, made["id"])
    assert globex == []


async def test_a_new_tenant_has_its_door_and_its_feed_without_a_restart(
    installation: Installation, dev: Person, books: Books
) -> None:
    tenant = f"t-{uuid.uuid4().hex[:8]}"
    async with feed(installation, "acme") as acme:
        await copied(books, dev, acme)
        async with await open_pool(installation.postgres_admin_url, name="test", connections_max=1) as pool:
            await Administration(pool).create_tenant(tenant, tenant)
        assert tenant in await asyncio.to_thread(installation.reload_nats)
        async with feed(installation, tenant) as heard, nats_door(installation, tenant) as ask:
            while not heard:  # without accounts every intent fails, which is told like everything else
                answer = await ask(intent_body(idempotency_key=uuid.uuid4().hex))
                assert answer.status == 202
            assert {msgspec.json.decode(message.data)["tenant"] for message in heard} == {tenant}
        made = await dev.made()
        assert len(await told(acme, made["id"])) > 3, "nobody else was disturbed"


class Outside:
    """A rail that pays at once, and a consumer of webhooks: it notes the headers of whatever it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = msgspec.json.decode(await read_body(receive, 65_536) or b"{}")
        self.asked.append((scope["path"], headers, body))
        paid = {"accepted": True, "status": "succeeded", "provider_reference": "p-1"}
        paid |= {name: body[name] for name in ("reference", "amount", "currency") if name in body}
        start: Message = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": msgspec.json.encode(paid)})

    def at(self, path: str, intent: str) -> list[tuple[dict[str, str], Any]]:
        return [(headers, body) for where, headers, body in self.asked if path in where and intent in str(body)]


async def test_one_trace_leads_from_the_request_to_everything_that_followed(
    installation: Installation, dev: Person, books: Books
) -> None:
    trace, state = uuid.uuid4().hex, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    outside = Outside()
    async with listening(outside) as url, feed(installation, "acme") as heard:
        async with await open_pool(installation.postgres_admin_url, name="test", connections_max=1) as pool:
            administration = Administration(pool)
            rail = RailSettings(name="outside", kind="sandbox", base_url=url, secret="s")
            await put_rail(administration, rail, RailSecrets(installation.settings.secret_bytes()))
            await administration.put_corridor(Corridor("acme", "zz", "NGN", "transfer", ("outside",), country="ZZ"))
        hook = (await dev.post("/webhooks/endpoints", {"url": f"{url}/hook", "events": ["ledger.posted"]})).json
        await copied(books, dev, heard)
        headers = {"traceparent": f"00-{trace}-{'1' * 16}-01", "tracestate": state}
        made = (await dev.post(INTENTS, intent_body(country="ZZ"), headers=headers, wait=20)).json
        assert (made["status"], made["trace_id"]) == ("SUCCESSFUL", trace)
        intent = made["id"]
        records = {record["event"]: record for record in await told(heard, intent)}

        async def called() -> list[tuple[dict[str, str], Any]]:
            return outside.at("/hook", intent)

        [(sent, event)] = await until(called, bool)
        [(paid, _)] = outside.at("/payments", intent)
        posted, routed = (records[name]["sequence"] for name in ("ledger.posted", "provider.routed"))
        assert (sent["traceparent"], sent["tracestate"]) == (traceparent(trace, intent, posted), state)
        assert (event["data"]["trace_id"], event["data"]["object_version"]) == (trace, posted)
        assert (paid["traceparent"], paid["tracestate"]) == (traceparent(trace, intent, routed), state)
        assert {record["trace"] for record in records.values()} == {trace}
        assert records["ingress.accepted"]["facts"]["tracestate"] == state
        spans = {m.headers["traceparent"] for m in heard if m.headers and intent in m.subject}
        assert spans == {traceparent(trace, intent, record["sequence"]) for record in records.values()}
        packet = msgspec.json.decode(await dev.packet(made["intent_id"]))
        sealed = [msgspec.json.decode(record) for record in packet["records"]]
        assert {record["trace"] for record in sealed} == {trace}
        assert sealed[0]["facts"]["tracestate"] == state
        async with await open_pool(installation.postgres_admin_url, name="test", connections_max=1) as pool:
            await pool.execute("update endpoints set status = 'disabled' where id = $1", hook["id"])
            await pool.execute("delete from corridors where name = 'zz'")


async def test_the_nats_door_takes_a_trace_too(installation: Installation, books: Books) -> None:
    trace, body = uuid.uuid4().hex, intent_body(idempotency_key=uuid.uuid4().hex)
    client = await connect(installation.nats_url("acme"), name="test")
    headers = {"traceparent": f"00-{trace}-{'1' * 16}-01", "tracestate": "a=1"}
    await client.request("zentra.intents.create", msgspec.json.encode(body), timeout=10, headers=headers)
    await client.close()
    row = await books.pool.fetchrow("select id, trace from intents where intent_id = $1", body["intent_id"])
    assert row is not None
    [first, *_] = await records_of(books, row["id"])
    assert (row["trace"], first["trace"], first["facts"]["tracestate"]) == (trace, trace, "a=1")


@pytest.mark.parametrize(("query", "status"), [("wait=10", 200), ("wait=0", 200), ("wait=soon", 400), ("wait=-1", 400)])
async def test_a_look_may_wait_in_its_query(dev: Person, query: str, status: int) -> None:
    answer = await dev.post(INTENTS, intent_body())
    assert (answer.status, answer.headers["location"]) == (202, f"{INTENTS}/{answer.json['id']}")
    seen = await dev.get(f"{answer.headers['location']}?{query}")
    assert seen.status == status
    assert "preference-applied" not in seen.headers
    if query == "wait=10":
        assert seen.json["status"] == "SUCCESSFUL"
