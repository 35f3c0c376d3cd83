"""A door that dies, hangs or is asked a day later, at exactly the moments that matter: one intent, one answer.

A door that dies runs in a process of its own and ends itself with SIGKILL; another is asked with the same key."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid

import msgspec
import pytest
import redis

from tests.gateway.intaking import Publisher, item, open_intake
from tests.services import PARTITIONS, Database
from zentra.gateway.doors.intake import IntakeItem, IntakeOutcome, IntakeResult
from zentra.storage.idempotency import PREFIX, RedisIdempotency
from zentra.storage.pool import Pool

pytestmark = pytest.mark.service

DOOR = f"""
import asyncio, os, signal, sys
import msgspec
from zentra.gateway.doors import intake as module
from zentra.gateway.doors.admission import Admission
from zentra.gateway.doors.pressure import Pressure, PressureLimits
from zentra.storage.idempotency import RedisIdempotency
from zentra.storage.intake import registration
from zentra.storage.intake.clock import DatabaseClock
from zentra.storage.pool import open_pool
from zentra.storage.reads.backlog import Backlog

_, writer_url, redis_url, moment, item = sys.argv

async def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

async def nothing():
    return Backlog(0, 0, 0.0)

async def main():
    pool, cache, clock = await open_pool(writer_url, name="door"), RedisIdempotency.open(redis_url), DatabaseClock()
    await clock.read(pool)
    write = registration._Group.write
    async def write_and_die(group, connection):
        await write(group, connection)
        await die()
    if moment == "before the commit":
        registration._Group.write = write_and_die
        registration.FEW_ITEMS = 0
    else:
        cache.store = die
    pressure = Pressure(nothing, PressureLimits(1000, 30.0))
    door = module.Intake(pool, cache, None, clock, pressure, Admission(), partitions={PARTITIONS})
    await door.submit(msgspec.json.decode(item, type=module.IntakeItem))
    await door.aclose()

asyncio.run(main())
"""


async def die_with(request: IntakeItem, moment: str, database: Database, redis_url: str) -> None:
    """Ask a door of its own and return when it has been killed."""
    words = (database.writer_url, redis_url, moment, msgspec.json.encode(request).decode())
    door = await asyncio.create_subprocess_exec(sys.executable, "-c", DOOR, *words)
    assert await door.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("moment", "kept", "outcome"),
    [("before the commit", 0, IntakeOutcome.ACCEPTED), ("after the commit", 1, IntakeOutcome.REPLAYED)],
)
async def test_a_door_that_was_killed_has_made_an_intent_or_none_and_the_key_makes_one(
    writer_pool: Pool, database: Database, redis_flushed: str, moment: str, kept: int, outcome: IntakeOutcome
) -> None:
    request = item(uuid.uuid4().hex)
    await die_with(request, moment, database, redis_flushed)
    count = "select count(*) from intents where key = $1"
    assert await writer_pool.fetchval(count, request.key) == kept
    cache = RedisIdempotency.open(redis_flushed)
    door = await open_intake(writer_pool, cache, Publisher())
    assert (await door.submit(request)).outcome is IntakeOutcome.IN_FLIGHT, "the lock of the dead holds for its time"
    with redis.Redis.from_url(redis_flushed) as client:
        assert 0 < client.pttl(f"{PREFIX}acme:{request.key}") <= 10_000
        client.delete(f"{PREFIX}acme:{request.key}")  # as if its time were over
    answers: list[IntakeResult] = await asyncio.gather(*(door.submit(request) for _ in range(200)))
    assert {answer.outcome for answer in answers[1:]} == {IntakeOutcome.REPLAYED}
    assert answers[0].outcome is outcome
    assert len({answer.answer.body for answer in answers if answer.answer is not None}) == 1
    assert await writer_pool.fetchval(count, request.key) == 1
    await door.aclose()
    await cache.aclose()


async def test_a_lock_that_ends_before_its_slow_holder_lets_nobody_in_twice(
    writer_pool: Pool, admin_pool: Pool, redis_flushed: str
) -> None:
    """Two gateways hold one key, because the commit of the first took longer than its lock: the store settles it."""
    request, caches = item(uuid.uuid4().hex), [RedisIdempotency.open(redis_flushed) for _ in range(2)]
    first, second = [await open_intake(writer_pool, cache, Publisher()) for cache in caches]
    waiting = (
        "select count(*) from pg_stat_activity where application_name = 'test-writer' and wait_event_type = 'Lock'"
    )
    async with admin_pool.acquire() as slow, slow.transaction():
        await slow.execute("lock table zentra.idempotency in exclusive mode")
        asked = [asyncio.create_task(first.submit(request))]
        while await admin_pool.fetchval(waiting) < 1:
            await asyncio.sleep(0)
        with redis.Redis.from_url(redis_flushed) as client:
            assert client.delete(f"{PREFIX}acme:{request.key}") == 1, "as if its time were over"
        asked.append(asyncio.create_task(second.submit(request)))
        while await admin_pool.fetchval(waiting) < 2:
            await asyncio.sleep(0)
    answers = await asyncio.gather(*asked)
    assert sorted(answer.outcome for answer in answers) == [IntakeOutcome.ACCEPTED, IntakeOutcome.REPLAYED]
    assert answers[0].answer is not None
    assert answers[1].answer is not None
    assert answers[0].answer.body == answers[1].answer.body
    assert await writer_pool.fetchval("select count(*) from intents where key = $1", request.key) == 1
    for door, cache in zip((first, second), caches, strict=True):
        await door.aclose()
        await cache.aclose()


async def test_a_day_later_the_first_answer_is_still_the_answer(
    writer_pool: Pool, admin_pool: Pool, redis_flushed: str
) -> None:
    request, cache = item(uuid.uuid4().hex), RedisIdempotency.open(redis_flushed)
    door = await open_intake(writer_pool, cache, Publisher())
    first = await door.submit(request)
    await door.aclose()
    await admin_pool.execute(
        "update zentra.idempotency set first_seen = first_seen - interval '25 hours' where key = $1", request.key
    )
    with redis.Redis.from_url(redis_flushed) as client:
        assert 0 < client.pttl(f"{PREFIX}acme:{request.key}") <= 24 * 3_600_000
        client.pexpire(f"{PREFIX}acme:{request.key}", 0)  # what Redis does after a day
    again = await door.submit(request)
    assert again.outcome is IntakeOutcome.REPLAYED
    assert first.answer is not None
    assert again.answer is not None
    assert again.answer.body == first.answer.body
    await door.aclose()
    await cache.aclose()
