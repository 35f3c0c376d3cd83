"""The NATS door: the same intake and the same answers, for one intent or many, for whoever the server says it is."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from tests.gateway.http.conftest import intent_body
from tests.services import Database
from tests.streams.nats_server import NatsServer, run_nats_server
from zentra.gateway.devstack.servers import NatsPorts
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.runtime.limits import Per, Quota, RouteClass
from zentra.storage.administration import Administration
from zentra.storage.intake.personal import erase_subject
from zentra.storage.pool import Pool
from zentra.streams.accounts import render_config, runtime_password, tenant_password
from zentra.streams.connection import Connection, connect

SECRET = b"only for these tests"


def config(ports: NatsPorts) -> str:
    return render_config(
        listen=f"127.0.0.1:{ports.client}", http=f"127.0.0.1:{ports.monitor}", store_dir=str(ports.store_dir),
        tenants=["acme", "globex"], secret=SECRET,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with run_nats_server(tmp_path_factory.mktemp("door"), config) as running:
        yield running


def url_of(server: NatsServer, user: str, password: str) -> str:
    return f"nats://{user}:{password}@127.0.0.1:{server.process.port}"


@pytest.fixture
async def gateway(server: NatsServer, database: Database, redis_flushed: str) -> AsyncIterator[GatewayApp]:
    settings = Settings(
        postgres_writer_url=database.writer_url,
        postgres_tenant_url=database.tenant_url,
        nats_url=url_of(server, "runtime", runtime_password(SECRET)),
        redis_url=redis_flushed,
        secret="5e" * 32,
        postgres_connections_max=4,
    )
    async with GatewayApp.opened(settings) as opened:
        yield opened


@pytest.fixture
async def acme(server: NatsServer, gateway: GatewayApp) -> AsyncIterator[Connection]:
    """A client of the tenant acme; the gateway is there before it asks."""
    connection = await connect(url_of(server, "acme", tenant_password(SECRET, "acme")), name="acme")
    yield connection
    await connection.close()


async def ask(client: Connection, body: Any, verb: str = "create", **headers: str) -> Any:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.request(f"zentra.intents.{verb}", data, timeout=5, headers=named or None)
    return msgspec.json.decode(answer.data)


async def test_one_intent_is_registered_for_the_tenant_of_the_account(acme: Connection, admin_pool: Pool) -> None:
    trace = uuid.uuid4().hex
    body = intent_body(idempotency_key=uuid.uuid4().hex)
    answer = await ask(acme, body, traceparent=f"00-{trace}-{'1' * 16}-01")
    assert (answer["status"], answer["replayed"]) == (202, False)
    assert answer["body"]["intent_id"] == body["intent_id"]
    row = await admin_pool.fetchrow("select * from zentra.intents where intent_id = $1", body["intent_id"])
    assert row is not None
    assert (row["tenant"], row["principal"], row["role"], row["trace"]) == ("acme", "nats", "developer", trace)


@pytest.mark.parametrize("form", ["idempotency_key", "x_idempotency_key"])
async def test_a_replay_is_the_first_answer_again(acme: Connection, form: str) -> None:
    key, body = uuid.uuid4().hex, intent_body()
    first = await ask(acme, body, **{form: key})
    again = await ask(acme, body | {"idempotency_key": key})
    assert (again["replayed"], again["body"], again["status"]) == (True, first["body"], 202)


async def test_a_replay_after_an_erasure_is_the_first_answer_and_stores_nothing(
    acme: Connection, admin_pool: Pool
) -> None:
    if not await admin_pool.fetchval("select true from zentra.tenants where id = 'acme'"):
        await Administration(admin_pool).create_tenant("acme", "Acme")
    metadata = {"personal.subject": uuid.uuid4().hex, "personal.name": "Ada"}
    body = intent_body(idempotency_key=uuid.uuid4().hex, metadata=metadata)
    first = await ask(acme, body)
    subject = metadata["personal.subject"]
    await erase_subject(admin_pool, "acme", subject, actor="ada", reason="asked for", sign=bytes)
    for again in (await ask(acme, body), *await ask(acme, [body])):
        assert (again["status"], again["replayed"], again["body"]) == (202, True, first["body"])
    for table in ("personal_openings", "personal_subjects"):
        statement = f"select count(*) from zentra.{table} where subject = $1"
        assert await admin_pool.fetchval(statement, subject) == 0


async def test_in_an_array_every_intent_has_its_own_answer(acme: Connection) -> None:
    key = uuid.uuid4().hex
    sound = intent_body(idempotency_key=key)
    batch = [
        sound, intent_body(amount=0, idempotency_key="k"), intent_body(), 5,
        intent_body(idempotency_key=uuid.uuid4().hex),
    ]  # fmt: skip
    answers = await ask(acme, batch)
    assert [answer.get("code", answer["status"]) for answer in answers] == [
        202, "validation_failed", "idempotency_key_missing", "validation_failed", 202,
    ]  # fmt: skip
    assert [error["pointer"] for error in answers[1]["errors"]] == ["/1/amount"]
    [again] = await ask(acme, [sound])
    assert (again["replayed"], again["body"]) == (True, answers[0]["body"])
    reused = await ask(acme, intent_body(idempotency_key=key))
    assert (reused["code"], reused["status"]) == ("idempotency_key_reused", 422)


async def test_a_tenants_limit_holds_over_nats_and_its_refusals_are_kept(
    server: NatsServer, gateway: GatewayApp, admin_pool: Pool
) -> None:
    administration = Administration(admin_pool)
    await administration.create_tenant("globex", "Globex")
    await administration.put_rate_limit("globex", RouteClass.MONEY, Per.TENANT, Quota(3, 3600))
    client = await connect(url_of(server, "globex", tenant_password(SECRET, "globex")), name="globex")
    try:
        batch = [intent_body(idempotency_key=uuid.uuid4().hex) for _ in range(2)]
        assert [answer["status"] for answer in await ask(client, batch)] == [202, 202]
        refused = await ask(client, batch)
        assert (refused["code"], refused["retryable"]) == ("rate_limited", True)
        assert 1100 < refused["retry_after_seconds"] <= 1200, "each counts, and one more fills up in twenty minutes"
        assert (await ask(client, batch[0]))["replayed"] is True
        assert (await ask(client, batch[0]))["code"] == "rate_limited"
    finally:
        await client.close()
    statement = "select actor, role, action from denials where tenant = 'globex' and reason = 'rate_limited'"
    async with asyncio.timeout(5):
        while (row := await admin_pool.fetchrow(statement)) is None:
            await asyncio.sleep(0.01)
    assert tuple(row) == ("nats", "developer", "REQUEST zentra.intents.create")


async def test_a_thousand_intents_fit_into_one_request(acme: Connection, admin_pool: Pool) -> None:
    scope = f"s{uuid.uuid4().hex}"
    batch = [intent_body(idempotency_key=uuid.uuid4().hex, scope=scope) for _ in range(1000)]
    answers = await ask(acme, batch)
    assert {answer["status"] for answer in answers} == {202}
    count = await admin_pool.fetchval(
        "select count(*) from zentra.intents where command like $1", f'%"{scope}"%'.encode()
    )
    assert count == 1000


@pytest.mark.parametrize(
    ("body", "headers", "verb", "code"),
    [
        (b"{", {}, "create", "body_malformed"),
        (b'{"amount":1,"amount":2}', {}, "create", "body_key_repeated"),
        (b"[" + b",".join([b"1"] * 1001) + b"]", {}, "create", "batch_too_large"),
        (b"[{}]", {"idempotency_key": "k"}, "create", "idempotency_key_ambiguous"),
        (b"{}", {}, "destroy", "verb_unknown"),
        (b"{}", {}, "create.more", "verb_unknown"),
    ],
)
async def test_a_request_that_makes_no_sense_is_told_so(
    acme: Connection, body: bytes, headers: dict[str, str], verb: str, code: str
) -> None:
    answer = await ask(acme, body, verb, **headers)
    assert (answer["code"], answer["request_id"][:4]) == (code, "req_")


async def test_requests_pipeline(acme: Connection) -> None:
    bodies = [intent_body(idempotency_key=uuid.uuid4().hex) for _ in range(200)]
    answers = await asyncio.gather(*(ask(acme, body) for body in bodies))
    assert [answer["body"]["intent_id"] for answer in answers] == [body["intent_id"] for body in bodies]


async def test_a_request_without_a_reply_is_taken_too(acme: Connection, admin_pool: Pool) -> None:
    body = intent_body(idempotency_key=uuid.uuid4().hex)
    await acme.publish("zentra.intents.create", msgspec.json.encode(body))
    await acme.flush()
    query = "select count(*) from zentra.intents where intent_id = $1"
    while not await admin_pool.fetchval(query, body["intent_id"]):
        await asyncio.sleep(0)
