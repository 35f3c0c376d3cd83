"""Rate limits, held by the memory of one process and by Redis: the same arithmetic, the same answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from zentra.runtime.limits import Ask, LocalBuckets, Quota, RateLimitStore
from zentra.storage.limits import RedisLimits


class Setting:
    """A store, and names that nobody used."""

    def __init__(self, store: RateLimitStore) -> None:
        self.store = store

    def name(self) -> str:
        return f"acme:{uuid4().hex}"

    async def take(self, name: str, quota: Quota, wanted: int, least: int = 1) -> tuple[int, int, float, float]:
        grants = await self.store.take([Ask(name, quota, wanted, least)])
        assert grants is not None
        return grants[0]


@pytest.fixture(params=["memory", "redis"])
async def limits(request: pytest.FixtureRequest) -> AsyncIterator[Setting]:
    if request.param == "memory":
        yield Setting(LocalBuckets(time.monotonic))
        return
    store = RedisLimits.open(request.getfixturevalue("redis_flushed"))
    yield Setting(store)
    await store.aclose()


SLOW = Quota(10, 3600)  # so slow that nothing fills up while a test runs
EACH = 360.0


async def test_a_bucket_gives_its_quota_at_once_and_then_nothing(limits: Setting) -> None:
    name = limits.name()
    assert (await limits.take(name, SLOW, 4))[:2] == (4, 6)
    assert (await limits.take(name, SLOW, 4))[:2] == (4, 2)
    assert (await limits.take(name, SLOW, 4))[:2] == (2, 0)
    assert (await limits.take(name, SLOW, 4))[:2] == (0, 0)


async def test_an_empty_bucket_says_when_it_has_one_more_and_when_it_is_full(limits: Setting) -> None:
    name = limits.name()
    tokens, left, next_seconds, full_seconds = await limits.take(name, SLOW, 10)
    assert (tokens, left) == (10, 0)
    assert next_seconds == pytest.approx(EACH, abs=2)
    assert full_seconds == pytest.approx(10 * EACH, abs=2)


async def test_less_than_the_least_is_nothing_and_takes_nothing(limits: Setting) -> None:
    name = limits.name()
    await limits.take(name, SLOW, 6)
    tokens, left, next_seconds, _ = await limits.take(name, SLOW, 7, least=7)
    assert (tokens, left) == (0, 4)
    assert next_seconds == pytest.approx(3 * EACH, abs=2)
    assert (await limits.take(name, SLOW, 7, least=4))[:2] == (4, 0)


async def test_a_bucket_that_has_more_is_ready(limits: Setting) -> None:
    assert (await limits.take(limits.name(), SLOW, 1))[2] == 0


async def test_a_bucket_fills_evenly(limits: Setting) -> None:
    name, quick = limits.name(), Quota(1000, 1)
    assert (await limits.take(name, quick, 1000))[0] == 1000
    began = time.monotonic()
    got = 0
    while got < 50:
        await asyncio.sleep(0)
        got += (await limits.take(name, quick, 1000))[0]
    elapsed = time.monotonic() - began
    assert got <= 1000 * elapsed + 2, "never more than the time that passed is worth"
    assert elapsed < 5


async def test_a_lowered_quota_makes_up_for_what_was_taken(limits: Setting) -> None:
    name = limits.name()
    await limits.take(name, SLOW, 10)
    tokens, left, _, _ = await limits.take(name, Quota(2, 3600), 1)
    assert (tokens, left) == (0, 0)


async def test_many_buckets_are_asked_at_once_and_know_nothing_of_each_other(limits: Setting) -> None:
    names = [limits.name() for _ in range(3)]
    grants = await limits.store.take([Ask(name, SLOW, place) for place, name in enumerate(names, 1)])
    assert grants is not None
    assert [grant.tokens for grant in grants] == [1, 2, 3]
    assert [grant.left for grant in grants] == [9, 8, 7]
    assert await limits.store.take([]) == []


@pytest.mark.parametrize(
    "quota", [Quota(1, 1), Quota(1, 86_400), Quota(10_000_000, 1), Quota(7, 3), Quota(100_000, 10)]
)
async def test_a_fresh_bucket_gives_exactly_its_quota(limits: Setting, quota: Quota) -> None:
    grant = await limits.take(limits.name(), quota, 20_000_000)
    assert grant[:2] == (quota.quota, 0)
