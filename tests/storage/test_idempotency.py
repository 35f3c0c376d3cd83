"""Redis may hang, die, restart or be emptied; keys then come back unknown, quickly, and nobody sees an error."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import redis
from redis.asyncio import Redis

from zentra.runtime.idempotency import IN_FLIGHT, StoredKey
from zentra.storage import idempotency
from zentra.storage.caching import TIMEOUT_SECONDS_MAX
from zentra.storage.idempotency import PREFIX, RedisIdempotency

ANSWER = StoredKey(b"digest", 202, b"{}", "intent/0", "req_1", datetime(2026, 1, 1, tzinfo=UTC))
A, B = ("acme", "a"), ("acme", "b")


@pytest.fixture
async def cache(redis_flushed: str) -> AsyncIterator[RedisIdempotency]:
    opened = RedisIdempotency.open(redis_flushed)
    yield opened
    await opened.aclose()


async def test_keys_carry_the_tenant_and_end_by_themselves(cache: RedisIdempotency, redis_flushed: str) -> None:
    await cache.take([A, B])
    await cache.store([(A, ANSWER)])
    client = Redis.from_url(redis_flushed)
    assert sorted(await client.keys("*")) == [b"gateway:idempotency:acme:a", b"gateway:idempotency:acme:b"]
    assert 23 * 3600 < await client.ttl(f"{PREFIX}acme:a") <= idempotency.ANSWER_SECONDS
    assert 0 < await client.pttl(f"{PREFIX}acme:b") <= idempotency.LOCK_SECONDS_MAX * 1000
    await client.aclose()


async def test_an_emptied_server_knows_nothing_and_works(cache: RedisIdempotency, redis_flushed: str) -> None:
    await cache.store([(A, ANSWER)])
    with redis.Redis.from_url(redis_flushed) as client:
        client.flushall()
        client.script_flush()
    taken = await cache.take([A])
    assert list(taken.found) == [None]
    assert not taken.degraded


async def test_a_value_of_another_version_is_as_if_it_were_not_there(
    cache: RedisIdempotency, redis_flushed: str
) -> None:
    with redis.Redis.from_url(redis_flushed) as client:
        client.set(f"{PREFIX}acme:a", b"A\xc1")
    assert list((await cache.take([A])).found) == [None]


async def test_a_dead_server_degrades_and_is_then_left_alone() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        cache = RedisIdempotency.open(f"redis://127.0.0.1:{unused.getsockname()[1]}/0")
        taken = await cache.take([A, B])
        assert taken.degraded
        assert list(taken.found) == [None, None]
        await cache.store([(A, ANSWER)])
        await cache.release([B])
        statistics = cache.statistics()
        assert (statistics.degraded, statistics.failures, statistics.skipped) == (True, 1, 2)
        await cache.aclose()


async def test_a_server_that_hangs_costs_one_short_timeout() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    cache = RedisIdempotency.open(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    began = time.monotonic()
    for _ in range(100):
        assert (await cache.take([A])).degraded
    assert time.monotonic() - began < 5 * TIMEOUT_SECONDS_MAX
    await cache.aclose()
    server.close()
    await server.wait_closed()


async def test_a_server_that_comes_back_is_used_again(cache: RedisIdempotency, redis_flushed: str) -> None:
    other = RedisIdempotency.open(redis_flushed)
    await other.take([A])
    cache._silent_until = time.monotonic() + 60
    assert (await cache.take([A])).degraded
    cache._silent_until = 0.0
    assert list((await cache.take([A])).found) == [IN_FLIGHT]
    await other.aclose()
