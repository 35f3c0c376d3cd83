"""The limit: the least durable work that an intent needs on this machine, done in one loop with nothing around it.

One process publishes intents into a stream; another takes them in batches and makes one Postgres transaction of each:
lock the accounts, move the money, write an intent row (unique by tenant and key), six transitions, four entries, a
leaf, and how far it has come. No rules, stages, fences, webhooks or HTTP: the runtime's rates are shares of this one.

- It runs on the embedded servers with the settings the runtime has there; nothing durable is turned off.
- A run whose rows or whose money do not come out exactly raises; it is never quoted.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import uvloop
from msgspec import Struct

from zentra.bench.measuring.sidecar import sidecar
from zentra.gateway.devstack.stack import DevStack
from zentra.storage.pool import Connection as Database
from zentra.storage.pool import open_pool
from zentra.streams.connection import connect

__all__ = ["LimitFailed", "LimitPlan", "LimitResult", "main", "measure_limit"]

WINDOW: Final = 1024  # unacknowledged messages of the publisher
FUNDS_MINOR: Final = 1_000_000_000_000
STREAM: Final = "LIMIT"
HOUSE: Final = 0  # every transfer passes through it; like any account without a floor it is not locked
STAGES: Final = 6
SECONDS_MAX: Final = 120.0

_TABLES: Final = """
create schema zentra;
create table zentra.accounts (
    id bigint primary key, posted bigint not null, version bigint not null default 0) with (fillfactor = 50);
create table zentra.intents (
    id uuid primary key, tenant text not null, key text not null, state smallint not null, body bytea not null,
    unique (tenant, key));
create table zentra.transitions (
    intent uuid not null, sequence integer not null, state smallint not null, at timestamptz not null,
    actor text not null, hash bytea not null, primary key (intent, sequence));
create table zentra.entries (
    id bigint generated always as identity primary key, intent uuid not null, account bigint not null,
    minor bigint not null, hash bytea not null);
create index entries_account on zentra.entries (account, id);
create table zentra.leaves (intent uuid primary key, packet bytea not null, hash bytea not null);
create table zentra.position (single boolean primary key default true, sequence bigint not null default 0);
insert into zentra.position default values;
"""
_LOCK: Final = "select id, posted from accounts where id = any($1::bigint[]) order by id for update"
_MOVE: Final = """
update accounts a set posted = n.posted, version = a.version + 1
from unnest($1::bigint[], $2::bigint[]) as n(id, posted) where a.id = n.id
"""
_ADVANCE: Final = "update position set sequence = sequence + $1"


class LimitFailed(Exception):
    """Raised where a run did not do all of its work, so that its rate means nothing."""


class LimitPlan(Struct, frozen=True, kw_only=True):
    """How much work; `hot` credits one account with every intent."""

    intents: int = 30_000
    batch: int = 500
    accounts: int = 2_000
    hot: bool = False


class LimitResult(Struct, frozen=True, kw_only=True):
    """The rate of one run."""

    intents: int
    hot: bool
    batch: int
    seconds: float
    limit_per_second: float


class _Order(Struct, frozen=True):
    """What one of the two processes has to know."""

    role: str
    nats: str
    postgres: str
    plan: LimitPlan


class _Intent(Struct, frozen=True):
    id: str
    tenant: str
    key: str
    source: int
    destination: int
    minor: int
    currency: str = "NGN"
    kind: str = "transfer"


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Intent).decode


async def measure_limit(plan: LimitPlan) -> LimitResult:
    """Return the limit of this machine now. Raises LimitFailed, SidecarFailed and DevStackError."""
    stack = await asyncio.to_thread(_started)
    try:
        return await _measure(plan, stack)
    finally:
        await asyncio.to_thread(stack.stop)


def _started() -> DevStack:
    stack = DevStack()
    stack.start()
    return stack


async def _measure(plan: LimitPlan, stack: DevStack) -> LimitResult:
    async with await open_pool(stack.postgres_url, name="limit", connections_max=1) as pool:
        await pool.execute(_TABLES)
        await pool.execute(
            "insert into accounts select n, $2 from generate_series(1, $1) n", plan.accounts, FUNDS_MINOR
        )
        client = await connect(stack.nats_url, name="limit")
        await client.call(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": ["limit.>"]}, dict[str, Any])
        await client.close()
        async with asyncio.timeout(SECONDS_MAX), sidecar("limit") as consumer, sidecar("limit") as publisher:
            for role, helper in (("consume", consumer), ("publish", publisher)):
                helper.say(_Order(role, stack.nats_url, stack.postgres_url, plan))
                await helper.hear()
            started = time.perf_counter()
            publisher.say("go")
            await consumer.hear()
            seconds = time.perf_counter() - started
        stored, total = await pool.fetchval("select count(*) from intents"), await pool.fetchval(
            "select sum(posted) from accounts"
        )  # fmt: skip
        entries = await pool.fetchval("select count(*) from entries")
    if (stored, int(total), entries) != (plan.intents, plan.accounts * FUNDS_MINOR, 4 * plan.intents):
        raise LimitFailed(f"the limit did not do its work: {stored} intents, {entries} entries, {total} in all")
    return LimitResult(
        intents=stored, hot=plan.hot, batch=plan.batch, seconds=round(seconds, 3),
        limit_per_second=round(stored / seconds),
    )  # fmt: skip


async def _publish(order: _Order) -> None:
    """Publish the intents, each with its key as message id, and return when the stream has acknowledged them all."""
    plan = order.plan
    client = await connect(order.nats, name="limit source")
    room, missing = asyncio.Semaphore(WINDOW), plan.intents
    done = asyncio.Event()

    async def acknowledged(message: Any) -> None:
        nonlocal missing
        if b'"error"' in message.data:
            raise LimitFailed(message.data.decode())
        missing -= 1
        room.release()
        if not missing:
            done.set()

    inbox = client.new_inbox()
    await client.subscribe(f"{inbox}.*", cb=acknowledged, pending_msgs_limit=0, pending_bytes_limit=0)
    _say("ready")
    await asyncio.to_thread(sys.stdin.buffer.readline)
    draw = random.Random(7)  # noqa: S311  # a load, not a secret
    half = plan.accounts // 2
    for number in range(plan.intents):
        destination = plan.accounts if plan.hot else draw.randrange(half, plan.accounts + 1)
        identifier = f"{draw.getrandbits(128):032x}"
        intent = _Intent(
            identifier, "acme", f"key-{number}", draw.randrange(1, half), destination, draw.randrange(1, 100_000)
        )
        await room.acquire()
        headers = {"Nats-Msg-Id": f"acme:{intent.key}"}
        await client.publish("limit.in", _encode(intent), f"{inbox}.{number}", headers=headers)
    await done.wait()
    await client.close()


class _Inflow:
    """What was pulled and not yet worked on; asks for more while less than a batch is on its way."""

    def __init__(self, client: Any, inbox: str, batch: int) -> None:
        self._client, self._inbox, self._batch = client, inbox, batch
        self._outstanding = 0
        self._arrived: deque[bytes] = deque()
        self._wake = asyncio.Event()

    async def ask(self) -> None:
        self._outstanding += self._batch
        request = b'{"batch":%d,"expires":60000000000}' % self._batch
        await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.limit", request, self._inbox)

    async def received(self, message: Any) -> None:
        if not message.reply:
            return
        self._arrived.append(message.data)
        self._outstanding -= 1
        self._wake.set()
        if self._outstanding < self._batch:
            await self.ask()

    async def take(self) -> list[_Intent]:
        while not self._arrived:
            self._wake.clear()
            await self._wake.wait()
        return [_decode(self._arrived.popleft()) for _ in range(min(self._batch, len(self._arrived)))]


async def _consume(order: _Order) -> None:
    """Take batches and commit them until every intent is stored."""
    plan = order.plan
    client = await connect(order.nats, name="limit sink")
    config = {"durable_name": "limit", "ack_policy": "none", "mem_storage": True, "deliver_policy": "all"}
    await client.call(
        f"CONSUMER.DURABLE.CREATE.{STREAM}.limit", {"stream_name": STREAM, "config": config}, dict[str, Any]
    )
    inflow = _Inflow(client, client.new_inbox(), plan.batch)
    await client.subscribe(inflow._inbox, cb=inflow.received, pending_msgs_limit=0, pending_bytes_limit=0)
    await inflow.ask()
    async with (
        await open_pool(order.postgres, name="limit sink", connections_max=1) as pool,
        pool.acquire() as database,
    ):
        await database.reset_type_codec("uuid", schema="pg_catalog")  # the driver's own is faster than ours
        _say("ready")
        committed = 0
        while committed < plan.intents:
            intents = await inflow.take()
            async with database.transaction():
                await _settle(database, intents)
            committed += len(intents)
        _say("done")
    await client.close()


async def _settle(database: Database, intents: Sequence[_Intent]) -> None:
    """Do one batch within the caller's transaction."""
    now = datetime.now(UTC)
    wanted = {account for intent in intents for account in (intent.source, intent.destination)}
    posted: dict[int, int] = {row[0]: row[1] for row in await database.fetch(_LOCK, sorted(wanted))}
    rows, transitions, entries, leaves = [], [], [], []
    for intent in intents:
        if posted[intent.source] < intent.minor:
            raise LimitFailed(f"account {intent.source} cannot pay")
        posted[intent.source] -= intent.minor
        posted[intent.destination] += intent.minor
        key, body, link = uuid.UUID(intent.id), _encode(intent), b""
        for sequence in range(STAGES):
            link = hashlib.sha256(link + body).digest()
            transitions.append((key, sequence, sequence, now, "svc_runtime", link))
        legs = ((intent.source, -1), (HOUSE, 1), (HOUSE, -1), (intent.destination, 1))
        entries += [(key, account, sign * intent.minor, link) for account, sign in legs]
        rows.append((key, intent.tenant, intent.key, STAGES - 1, body))
        leaves.append((key, body, link))
    await database.copy_records_to_table("intents", records=rows)
    await database.copy_records_to_table("transitions", records=transitions)
    await database.copy_records_to_table("entries", records=entries, columns=["intent", "account", "minor", "hash"])
    await database.copy_records_to_table("leaves", records=leaves)
    await database.execute(_MOVE, list(posted), list(posted.values()))
    await database.execute(_ADVANCE, len(intents))


def _say(word: str) -> None:
    sys.stdout.write(msgspec.json.encode({"said": word}).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    """Be the process that standard input asks for."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Order)
    uvloop.run(_publish(order) if order.role == "publish" else _consume(order))


if __name__ == "__main__":
    main()
