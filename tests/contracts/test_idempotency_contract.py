"""What every idempotency cache does, held against the twin and against Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from zentra.bench.twins.idempotency import IdempotencyServer, IdempotencyTwin
from zentra.runtime.idempotency import IN_FLIGHT, IdempotencyCache, StoredKey
from zentra.storage.idempotency import RedisIdempotency

Open = Callable[[], IdempotencyCache]
ANSWER = StoredKey(
    b"\x00digest", 202, b'{"status":"ACCEPTED"}', "intent/0", "req_1", datetime(2026, 1, 1, 12, tzinfo=UTC)
)
A, B, C = ("acme", "a"), ("acme", "b"), ("globex", "a")


@pytest.fixture(params=["twin", "redis"])
async def open_cache(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Return a function that opens one process's view of one empty server."""
    if request.param == "twin":
        server = IdempotencyServer()
        yield lambda: IdempotencyTwin(server)
        return
    url = request.getfixturevalue("redis_flushed")
    async with AsyncExitStack() as stack:

        def open_redis() -> IdempotencyCache:
            cache = RedisIdempotency.open(url)
            stack.push_async_callback(cache.aclose)
            return cache

        yield open_redis


async def test_a_new_key_is_ours(open_cache: Open) -> None:
    taken = await open_cache().take([A, B, C])
    assert list(taken.found) == [None, None, None]
    assert not taken.degraded


async def test_nothing_asked_is_nothing_answered(open_cache: Open) -> None:
    assert list((await open_cache().take([])).found) == []


async def test_another_process_finds_the_key_in_flight(open_cache: Open) -> None:
    ours, theirs = open_cache(), open_cache()
    await ours.take([A])
    assert list((await theirs.take([A, B])).found) == [IN_FLIGHT, None]
    assert list((await ours.take([A, B])).found) == [None, IN_FLIGHT]


async def test_a_key_twice_in_a_group_is_ours_twice(open_cache: Open) -> None:
    assert list((await open_cache().take([A, A])).found) == [None, None]


async def test_an_answer_replaces_the_lock_for_everybody(open_cache: Open) -> None:
    ours, theirs = open_cache(), open_cache()
    await ours.take([A, B])
    await ours.store([(A, ANSWER)])
    assert list((await theirs.take([A, B, C])).found) == [ANSWER, IN_FLIGHT, None]
    assert list((await ours.take([A, C])).found) == [ANSWER, IN_FLIGHT]


async def test_the_same_key_of_another_tenant_is_another_key(open_cache: Open) -> None:
    cache = open_cache()
    await cache.store([(A, ANSWER)])
    assert list((await cache.take([C])).found) == [None]


async def test_a_released_lock_is_free(open_cache: Open) -> None:
    ours, theirs = open_cache(), open_cache()
    await ours.take([A])
    await ours.release([A])
    assert list((await theirs.take([A])).found) == [None]


async def test_release_touches_neither_answers_nor_locks_of_others(open_cache: Open) -> None:
    ours, theirs = open_cache(), open_cache()
    await ours.take([A])
    await ours.store([(B, ANSWER)])
    await theirs.release([A, B])
    assert list((await theirs.take([A, B])).found) == [IN_FLIGHT, ANSWER]
