"""The limiter: leases, what two gateways let in together, and what holds while Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import pytest

from zentra.gateway.access.limits import LEASE_SHARE, Limiter, Quotas
from zentra.gateway.http.problems import Caller, Problem
from zentra.runtime.errors import Unavailable
from zentra.runtime.limits import Ask, Grant, LocalBuckets, Per, Quota, RouteClass
from zentra.storage.limits import RedisLimits

DEV = Caller("acme", "dev", "developer")
MONEY, READ = RouteClass.MONEY, RouteClass.READ


def quotas(tenant: Quota, key: Quota | None = None) -> Quotas:
    """The same for every class."""
    return {(one, per): tenant if per is Per.TENANT else key or tenant for one in RouteClass for per in Per}


class Shared:
    """A store that several limiters share, and that can be away; time is a number."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.buckets = LocalBuckets(lambda: self.time)
        self.calls: list[list[Ask]] = []
        self.away = False
        self.own: dict[str, Quotas] = {}
        self.readings = 0

    async def take(self, asks: Sequence[Ask]) -> list[Grant] | None:
        self.calls.append(list(asks))
        await asyncio.sleep(0)
        return None if self.away else await self.buckets.take(asks)

    async def read(self, tenant: str) -> Quotas:
        self.readings += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        return self.own.get(tenant, {})

    def limiter(self, defaults: Quotas) -> Limiter:
        return Limiter(self, self.read, defaults, monotonic=lambda: self.time)


async def admitted(limiter: Limiter, times: int, *, key: str = "k", caller: Caller = DEV, weight: int = 1) -> int:
    """Ask one after the other; return how many were let in."""
    let_in = 0
    for _ in range(times):
        with contextlib.suppress(Problem):
            if weight != 1 or limiter.spend_nowait(key, MONEY) is None:
                await limiter.spend(caller, key, MONEY, weight)
            let_in += 1
    return let_in


async def test_a_quota_is_let_in_and_no_more() -> None:
    shared = Shared()
    limiter = shared.limiter(quotas(Quota(100, 60)))
    assert await admitted(limiter, 150) == 100
    shared.time += 0.6
    assert await admitted(limiter, 5) == 1


async def test_under_load_one_question_serves_many() -> None:
    shared = Shared()
    limiter = shared.limiter(quotas(Quota(100_000, 10)))
    for _ in range(5000):
        shared.time += 0.0002  # five thousand a second
        assert await admitted(limiter, 1) == 1
    assert len(shared.calls) < 60
    assert {ask.name for call in shared.calls for ask in call} == {"acme:money:100000/10", "acme:money:k:100000/10"}


async def test_who_comes_together_shares_the_question() -> None:
    shared = Shared()
    limiter = shared.limiter(quotas(Quota(100, 60)))
    await asyncio.gather(*(limiter.spend(DEV, "k", MONEY) for _ in range(50)))
    assert len(shared.calls) <= 2


async def test_two_gateways_never_let_in_more_than_the_quota_and_miss_a_lease_at_most() -> None:
    shared = Shared()
    quota = Quota(1000, 3600)
    first, second = shared.limiter(quotas(quota)), shared.limiter(quotas(quota))
    total = 0
    for _ in range(1500):
        shared.time += 0.0005
        total += await admitted(first, 1) + await admitted(second, 1)
    filled = int(1500 * 0.0005 * 1000 / 3600) + 1
    assert 1000 - 2 * 1000 // LEASE_SHARE <= total <= 1000 + filled


async def test_an_idle_gateway_keeps_nothing_from_the_others() -> None:
    shared = Shared()
    quota = Quota(100, 3600)
    first, second = shared.limiter(quotas(quota)), shared.limiter(quotas(quota))
    assert await admitted(first, 1) == 1
    assert await admitted(second, 200) >= 98


async def test_a_key_has_a_bucket_of_its_own_within_its_tenants() -> None:
    limiter = Shared().limiter(quotas(Quota(10, 3600), Quota(6, 3600)))
    assert await admitted(limiter, 10, key="a") == 6
    assert await admitted(limiter, 10, key="b") == 4, "what the tenant has left"
    assert await admitted(limiter, 10, key="c", caller=Caller("globex", "dev", "developer")) == 6


async def test_classes_do_not_use_each_other_up() -> None:
    limiter = Shared().limiter(quotas(Quota(3, 3600)))
    assert await admitted(limiter, 5) == 3
    await limiter.spend(DEV, "k", READ)


async def test_of_many_at_once_each_counts_and_all_or_none_are_let_in() -> None:
    limiter = Shared().limiter(quotas(Quota(100, 3600)))
    assert await admitted(limiter, 1, weight=70) == 1
    with pytest.raises(Problem) as refused:
        await limiter.spend(DEV, "k", MONEY, 40)
    headers = dict(refused.value.headers)
    assert headers[b"retry-after"] == b"360", "ten more take six minutes"
    assert await admitted(limiter, 40) == 30, "those who want less are not kept waiting by it"


async def test_a_weight_above_the_quota_waits_for_a_full_bucket() -> None:
    shared = Shared()
    limiter = shared.limiter(quotas(Quota(10, 10)))
    assert await admitted(limiter, 1, weight=1000) == 1
    assert await admitted(limiter, 1, weight=1000) == 0
    shared.time += 9
    assert await admitted(limiter, 1, weight=1000) == 0
    shared.time += 1
    assert await admitted(limiter, 1, weight=1000) == 1


async def test_an_answer_says_the_policy_and_what_is_left() -> None:
    limiter = Shared().limiter(quotas(Quota(100, 60), Quota(10, 60)))
    headers = dict(await limiter.spend(DEV, "k", MONEY))
    assert headers[b"ratelimit-policy"] == b'"money-tenant";q=100;w=60, "money-key";q=10;w=60'
    assert headers[b"ratelimit"] == b'"money-key";r=9;t=6'


async def test_a_refusal_says_when_to_come_back_and_whose_it_was() -> None:
    limiter = Shared().limiter(quotas(Quota(1, 60)))
    await limiter.spend(DEV, "k", MONEY)
    with pytest.raises(Problem) as refused:
        await limiter.spend(DEV, "k", MONEY)
    problem = refused.value
    assert (problem.row.status, problem.row.retryable, problem.denied, problem.caller) == (429, True, True, DEV)
    headers = dict(problem.headers)
    assert headers[b"retry-after"] == b"60"
    assert headers[b"ratelimit"] == b'"money-tenant";r=0;t=60'
    assert problem.members == {"retry_after_seconds": 60}


async def test_who_is_refused_again_asks_nobody() -> None:
    shared = Shared()
    limiter = shared.limiter(quotas(Quota(1, 60)))
    await admitted(limiter, 2)
    calls = len(shared.calls)
    assert await admitted(limiter, 100) == 0
    assert len(shared.calls) == calls


async def test_without_redis_each_gateway_holds_the_quota_by_itself() -> None:
    shared = Shared()
    shared.away = True
    limiters = [shared.limiter(quotas(Quota(20, 3600))) for _ in range(2)]
    assert [await admitted(limiter, 50) for limiter in limiters] == [20, 20]


async def test_a_tenants_own_quota_counts_from_its_first_request_and_a_new_one_within_ten_seconds() -> None:
    shared = Shared()
    shared.own["acme"] = {(MONEY, Per.TENANT): Quota(2, 3600)}
    limiter = shared.limiter(quotas(Quota(100, 3600)))
    assert await admitted(limiter, 10) == 2
    assert shared.readings == 1
    shared.own["acme"] = {(MONEY, Per.TENANT): Quota(50, 3600)}
    shared.time += 10
    await admitted(limiter, 1)
    await limiter.aclose()
    assert shared.readings == 2
    assert await admitted(limiter, 10) == 10


async def test_what_is_remembered_of_credentials_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from zentra.gateway.access import limits as module

    monkeypatch.setattr(module, "PAIRS_MAX", 5)
    limiter = Shared().limiter(quotas(Quota(1000, 3600)))
    for number in range(50):
        assert await admitted(limiter, 1, key=str(number)) == 1
        assert len(limiter._pairs[MONEY]) <= 5


# Over Redis.


async def test_two_gateways_over_redis_let_in_the_quota_and_no_more(redis_flushed: str) -> None:
    quota = Quota(400, 3600)
    stores = [RedisLimits.open(redis_flushed) for _ in range(2)]

    async def none(tenant: str) -> Quotas:
        return {}

    limiters = [Limiter(store, none, quotas(quota)) for store in stores]

    async def keep_asking(limiter: Limiter) -> int:
        return sum([await admitted(limiter, 50) for _ in range(10)])

    began = time.monotonic()
    got = await asyncio.gather(*(keep_asking(limiter) for limiter in limiters for _ in range(4)))
    filled = int((time.monotonic() - began) * 400 / 3600) + 1
    assert 400 - 2 * 400 // LEASE_SHARE <= sum(got) <= 400 + filled
    for limiter, store in zip(limiters, stores, strict=True):
        await limiter.aclose()
        await store.aclose()


async def test_a_redis_that_does_not_answer_is_left_alone_for_a_second_and_the_limit_holds() -> None:
    store = RedisLimits.open("redis://127.0.0.1:1/0")

    async def none(tenant: str) -> Quotas:
        return {}

    limiter = Limiter(store, none, quotas(Quota(20, 3600)))
    assert await admitted(limiter, 50) == 20
    assert store.degraded
    await limiter.aclose()
    await store.aclose()
