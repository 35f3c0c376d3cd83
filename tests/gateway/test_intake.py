"""Many requests are one commit; the same request is one intent with one answer, with Redis or without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import msgspec
import pytest
import redis

from tests.gateway.intaking import Publisher, item, open_intake
from zentra.bench.twins.idempotency import IdempotencyServer, IdempotencyTwin
from zentra.gateway.doors import admission as admission_module
from zentra.gateway.doors import intake as module
from zentra.gateway.doors.admission import Admission
from zentra.gateway.doors.intake import Intake, IntakeOutcome, IntakeResult, digest_of_intent
from zentra.gateway.doors.pressure import Cause, Overloaded
from zentra.runtime.errors import DataError, Unavailable
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import digest_of
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.messages import Load
from zentra.storage.idempotency import RedisIdempotency
from zentra.storage.pool import Pool
from zentra.storage.reads.backlog import read_backlog


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
async def redis_cache(redis_flushed: str) -> AsyncIterator[RedisIdempotency]:
    cache = RedisIdempotency.open(redis_flushed)
    yield cache
    await cache.aclose()


@pytest.fixture
async def intake(writer_pool: Pool, redis_cache: RedisIdempotency, publisher: Publisher) -> AsyncIterator[Intake]:
    made = await open_intake(writer_pool, redis_cache, publisher)
    yield made
    await made.aclose()


def _body(result: IntakeResult) -> bytes:
    assert result.answer is not None
    return result.answer.body


async def test_an_answer_says_what_was_accepted(intake: Intake) -> None:
    result = await intake.submit(item("answer", intent_id="order-1"))
    assert result.outcome is IntakeOutcome.ACCEPTED
    assert result.answer is not None
    assert (result.answer.status, result.answer.replayed) == (202, False)
    body = msgspec.json.decode(result.answer.body)
    assert body.pop("created_at").endswith("Z")
    assert body == {
        "intent_id": "order-1", "id": result.intent, "status": "ACCEPTED", "kind": "payment", "amount": 5,
        "currency": "NGN",
        "links": {"self": "/runtime/intents/order-1", "evidence": "/runtime/intents/order-1/evidence"},
    }  # fmt: skip


async def test_an_intent_without_an_id_gets_one(intake: Intake) -> None:
    result = await intake.submit(item("nameless"))
    assert msgspec.json.decode(_body(result))["intent_id"] == f"int_{result.intent}"


async def test_fifty_at_once_with_one_key_are_one_intent(intake: Intake, writer_pool: Pool, redis_flushed: str) -> None:
    """And again after Redis has forgotten everything, and again at once."""
    bodies: set[bytes] = set()
    outcomes: list[str] = []
    for _ in range(2):
        results = await asyncio.gather(*[intake.submit(item("fifty")) for _ in range(50)])
        bodies |= {_body(result) for result in results}
        outcomes += [result.outcome for result in results]
        with redis.Redis.from_url(redis_flushed) as client:
            client.flushall()
    assert len(bodies) == 1
    assert outcomes.count(IntakeOutcome.ACCEPTED) == 1
    assert outcomes.count(IntakeOutcome.REPLAYED) == 99
    assert await writer_pool.fetchval("select count(*) from intents where key = 'fifty'") == 1


async def test_a_replay_from_redis_and_one_from_postgres_are_equal(
    writer_pool: Pool, redis_cache: RedisIdempotency, publisher: Publisher, redis_flushed: str
) -> None:
    intake = await open_intake(writer_pool, redis_cache, publisher)
    first = await intake.submit(item("equal"))
    await intake.aclose()  # the answer is in Redis now
    cached = await intake.submit(item("equal"))
    with redis.Redis.from_url(redis_flushed) as client:
        client.flushall()
    stored = await intake.submit(item("equal"))
    assert cached == stored
    assert first.answer is not None
    assert stored.answer == msgspec.structs.replace(first.answer, replayed=True)
    assert stored.intent == first.intent
    await intake.aclose()


@pytest.mark.parametrize("flush", [False, True])
async def test_a_key_with_another_command_is_reused_and_names_the_field(
    intake: Intake, redis_flushed: str, flush: bool
) -> None:
    await intake.submit(item(f"reused-{flush}"))
    await intake.aclose()
    if flush:
        with redis.Redis.from_url(redis_flushed) as client:
            client.flushall()
    result = await intake.submit(item(f"reused-{flush}", minor=6))
    assert result == IntakeResult(IntakeOutcome.KEY_REUSED, fields=("minor",))


async def test_another_key_for_the_same_intent_replays_for_ever(intake: Intake) -> None:
    first = await intake.submit(item("first-key", intent_id="order-2"))
    for key in ("second-key", "second-key", "first-key"):
        result = await intake.submit(item(key, intent_id="order-2"))
        assert result.outcome is IntakeOutcome.REPLAYED
        assert _body(result) == _body(first)


async def test_an_intent_id_with_another_command_is_a_conflict_and_the_key_stays_free(
    intake: Intake, writer_pool: Pool, redis_flushed: str
) -> None:
    await intake.submit(item("owner", intent_id="order-3"))
    conflict = await intake.submit(item("late", intent_id="order-3", minor=6))
    assert conflict == IntakeResult(IntakeOutcome.INTENT_ID_CONFLICT)
    await intake.aclose()
    assert not await writer_pool.fetchval("select count(*) from idempotency where key = 'late'")
    with redis.Redis.from_url(redis_flushed) as client:
        assert not client.exists("gateway:idempotency:acme:late")
    assert (await intake.submit(item("late", intent_id="order-4"))).outcome is IntakeOutcome.ACCEPTED


async def test_what_another_process_is_doing_is_in_flight(intake: Intake, redis_flushed: str) -> None:
    other = RedisIdempotency.open(redis_flushed)
    await other.take([("acme", "elsewhere")])
    assert (await intake.submit(item("elsewhere"))).outcome is IntakeOutcome.IN_FLIGHT
    await other.release([("acme", "elsewhere")])
    assert (await intake.submit(item("elsewhere"))).outcome is IntakeOutcome.ACCEPTED
    await other.aclose()


async def test_two_processes_without_redis_make_one_intent(writer_pool: Pool, publisher: Publisher) -> None:
    server = IdempotencyServer()
    server.down = True
    async with AsyncExitStack() as stack:
        both = [await open_intake(writer_pool, IdempotencyTwin(server), publisher) for _ in range(2)]
        for one in both:
            stack.push_async_callback(one.aclose)
        results = await asyncio.gather(*[both[n % 2].submit(item(f"dark-{n // 10}")) for n in range(100)])
        assert len({_body(result) for result in results}) == 10
        assert [result.outcome for result in results].count(IntakeOutcome.ACCEPTED) == 10
        assert all(one.statistics().degraded_groups for one in both)


async def test_requests_that_arrive_during_a_commit_ride_the_next(intake: Intake) -> None:
    results = await asyncio.gather(*[intake.submit(item(f"ride-{n}")) for n in range(300)])
    assert {result.outcome for result in results} == {IntakeOutcome.ACCEPTED}
    assert intake.statistics().groups == 1
    ids = [result.intent for result in results]
    assert ids == sorted(ids, key=str)
    await intake.submit(item("alone"))
    assert intake.statistics().groups == 2


async def test_every_request_is_answered_whenever_it_comes(intake: Intake) -> None:
    """A request that arrives in the moment in which the last group ends must not be forgotten."""

    async def client(number: int) -> None:
        for step in range(20):
            assert (await intake.submit(item(f"steady-{number}-{step}"))).outcome is IntakeOutcome.ACCEPTED

    await asyncio.gather(*[client(number) for number in range(10)])


async def test_one_refused_request_harms_no_other(intake: Intake) -> None:
    items = [item(f"good-{n}") for n in range(7)]
    poison = msgspec.structs.replace(item("poison"), trace="\x00")
    results = await asyncio.gather(*[intake.submit(one) for one in (*items, poison)], return_exceptions=True)
    assert [one.outcome for one in results if isinstance(one, IntakeResult)] == [IntakeOutcome.ACCEPTED] * 7
    assert isinstance(results[-1], DataError)
    await intake.aclose()
    assert (await intake.submit(item("poison"))).outcome is IntakeOutcome.ACCEPTED


async def test_what_was_published_is_marked_and_the_rest_is_left_to_the_sweep(
    intake: Intake, publisher: Publisher, writer_pool: Pool
) -> None:
    unsent = "select count(*) from outbox where sent_at is null"
    await intake.aclose()
    before = await writer_pool.fetchval(unsent)
    await intake.submit(item("published"))
    await intake.aclose()
    assert len(publisher.messages) == 2
    assert await writer_pool.fetchval(unsent) == before
    publisher.failing = True
    await intake.submit(item("unpublished"))
    await intake.aclose()
    assert await writer_pool.fetchval(unsent) == before + 2
    assert intake.statistics().unpublished == 2


async def test_a_store_that_does_not_answer_is_said_so_and_the_key_stays_free(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(pool: object, items: object, *, guess: bool) -> None:
        raise Unavailable("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(module, "register_intents", gone)
        with pytest.raises(Unavailable, match="connection refused"):
            await intake.submit(item("unlucky"))
    assert (await intake.submit(item("unlucky"))).outcome is IntakeOutcome.ACCEPTED
    assert intake.statistics().failed == 1


async def test_a_full_queue_says_when_to_come_back(writer_pool: Pool, publisher: Publisher) -> None:
    intake = await open_intake(writer_pool, IdempotencyTwin(IdempotencyServer()), publisher, waiting_max=3)
    results = await asyncio.gather(*[intake.submit(item(f"full-{n}")) for n in range(5)], return_exceptions=True)
    refused = [one for one in results if isinstance(one, Overloaded)]
    assert [one.cause for one in refused] == [Cause.REQUESTS] * 2
    assert all(one.retry_after_seconds >= 1 for one in refused)
    await intake.aclose()


async def test_while_workers_have_enough_to_do_requests_wait_here_and_not_in_the_store(
    writer_pool: Pool, publisher: Publisher
) -> None:
    admission = Admission(1_000)
    intake = await open_intake(
        writer_pool, IdempotencyTwin(IdempotencyServer()), publisher, waiting_max=700, admission=admission
    )
    admission.heard(Load("worker-1", 2_000))
    asked = [asyncio.create_task(intake.submit(item(f"held-{n}"))) for n in range(700)]
    await asyncio.wait(asked, timeout=0.1)
    assert (intake.statistics().waiting, intake.statistics().accepted) == (700, 0)
    with pytest.raises(Overloaded) as refused:
        await intake.submit(item("held-one-too-many"))
    assert refused.value.cause is Cause.REQUESTS
    admission.heard(Load("worker-1", 700))
    await asyncio.wait(asked, timeout=0.2)  # less than a hold may last
    assert (intake.statistics().waiting, intake.statistics().accepted) == (400, 300), "as many as there is room for"
    admission.heard(Load("worker-1", 0))
    results = await asyncio.gather(*asked)
    assert {result.outcome for result in results} == {IntakeOutcome.ACCEPTED}
    assert admission.held_seconds >= 0.1
    await intake.aclose()


@pytest.mark.parametrize("ending", ["drain", "aclose"])
async def test_a_gateway_that_ends_answers_what_it_was_holding(
    writer_pool: Pool, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(admission_module, "HOLD_SECONDS_MAX", 3_600.0)
    admission = Admission(1_000)
    intake = await open_intake(writer_pool, IdempotencyTwin(IdempotencyServer()), publisher, admission=admission)
    admission.heard(Load("worker-1", 2_000))
    asked = [asyncio.create_task(intake.submit(item(f"ending-{ending}-{n}"))) for n in range(20)]
    await asyncio.wait(asked, timeout=0.05)
    assert intake.statistics().waiting == 20
    if ending == "drain":
        intake.drain()
        await asyncio.gather(*asked)
    await intake.aclose()
    assert {(await one).outcome for one in asked} == {IntakeOutcome.ACCEPTED}


async def test_many_who_come_one_by_one_share_commits(writer_pool: Pool, publisher: Publisher) -> None:
    intake = await open_intake(writer_pool, IdempotencyTwin(IdempotencyServer()), publisher)
    asked = []
    for n in range(400):
        asked.append(asyncio.create_task(intake.submit(item(f"one-by-one-{n}"))))
        await _pass(0.0005)
    await asyncio.gather(*asked)
    assert intake.statistics().groups <= 100
    await intake.aclose()


async def _pass(seconds: float) -> None:
    """Let others run for that long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        await asyncio.sleep(0)


async def test_what_is_accepted_closes_the_doors_before_the_backlog_is_read_again(
    writer_pool: Pool, publisher: Publisher
) -> None:
    intake = await open_intake(writer_pool, IdempotencyTwin(IdempotencyServer()), publisher, backlog_max=3)
    for number in range(3):
        await intake.submit(item(f"backlog-{number}"))
    with pytest.raises(Overloaded) as refused:
        await intake.submit(item("backlog-3"))
    assert refused.value.cause is Cause.BACKLOG
    await intake.aclose()
    assert await writer_pool.fetchval("select count(*) from intents where key like 'backlog-%'") == 3


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_gateway_whose_clock_is_an_hour_off_registers_at_the_time_of_the_database(
    writer_pool: Pool, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    wall = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: wall() + hours * 3_600_000_000_000)
    monkeypatch.setattr(time, "time", lambda: wall() / 1e9 + hours * 3_600)
    intake = await open_intake(writer_pool, IdempotencyTwin(IdempotencyServer()), publisher)
    before = await writer_pool.fetchval("select clock_timestamp()")
    result = await intake.submit(item(f"clock{hours}"))
    row = await writer_pool.fetchrow(
        "select i.created_at, t.at, t.record, d.due_at, k.first_seen, clock_timestamp() as now from intents i"
        " join transitions t on t.intent = i.id join timers d on d.key = i.id"
        " join idempotency k on k.tenant = i.tenant and k.key = i.key where i.id = $1",
        result.intent,
    )
    assert row is not None
    assert result.answer is not None
    assert before - timedelta(milliseconds=50) <= row["created_at"] <= row["now"]
    assert row["at"] == row["created_at"] == row["first_seen"] == row["due_at"] - timedelta(seconds=15)
    told = timestamp(row["created_at"])
    assert msgspec.json.decode(row["record"])["at"] == msgspec.json.decode(result.answer.body)["created_at"] == told
    assert result.intent is not None
    assert abs(int(result.intent[:12], 16) / 1000 - row["now"].timestamp()) < 5, "ids are in the order of that time"
    await intake.aclose()


async def test_the_backlog_is_what_no_worker_has_looked_at(writer_pool: Pool, publisher: Publisher) -> None:
    intake = await open_intake(writer_pool, IdempotencyTwin(IdempotencyServer()), publisher)
    before = (await read_backlog(writer_pool, most=10_000, late_seconds=30.0)).waiting
    made = [await intake.submit(item(f"look-{n}")) for n in range(10)]
    await intake.aclose()
    ids = [one.intent for one in made]
    seen = await read_backlog(writer_pool, most=10_000, late_seconds=0.0)
    assert seen.waiting == before + 10
    assert seen.late == seen.waiting
    assert 0 < seen.oldest_seconds < 60
    assert (await read_backlog(writer_pool, most=10_000, late_seconds=60.0)).late == 0
    await writer_pool.execute(
        "insert into transitions (intent, sequence, tenant, at, state, event, record, hash)"
        " select unnest($1::uuid[]), 2, 'acme', now(), 'RESERVING', 'policy.accepted', '', ''", ids[:6],
    )  # fmt: skip
    assert (await read_backlog(writer_pool, most=10_000, late_seconds=30.0)).waiting == before + 4
    await writer_pool.execute(
        "insert into cases (id, tenant, intent, kind, status, detail, opened_at, deadline)"
        " values (gen_random_uuid(), 'acme', $1, 'poison_message', 'open', '{}', now(), now())", ids[9],
    )  # fmt: skip
    assert (await read_backlog(writer_pool, most=10_000, late_seconds=30.0)).waiting == before + 3


async def test_a_client_that_goes_away_harms_nobody(intake: Intake) -> None:
    leaving = asyncio.create_task(intake.submit(item("leaving")))
    staying = asyncio.create_task(intake.submit(item("staying")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).outcome is IntakeOutcome.ACCEPTED
    assert (await intake.submit(item("leaving"))).outcome in (IntakeOutcome.REPLAYED, IntakeOutcome.ACCEPTED)


def test_the_digest_is_the_one_of_the_runtime() -> None:
    command = item("k").command
    assert digest_of_intent(canonical.encode(command)) == digest_of("intent", command)
