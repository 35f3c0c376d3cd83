"""However often, by whichever door and after whichever loss a request comes: one intent, one reserve, one answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.scenarios.people import Answer, Books, Person, intent_body, nats_door
from zentra.gateway.installation.installation import Installation

pytestmark = [pytest.mark.service, pytest.mark.timeout(90)]

CROWD = 200
IN_FLIGHT = {"idempotency_in_flight"}


async def crowd(dev: Person, body: dict[str, Any], key: str) -> list[Answer]:
    """Send the same request two hundred times at once."""
    return await asyncio.gather(*(dev.post("/runtime/intents", body, key=key) for _ in range(CROWD)))


def given_answers(answers: list[Answer]) -> set[bytes]:
    """Return the distinct answers; whoever came while the first was under way may also have been told so."""
    assert {answer.status for answer in answers} <= {202, 409}
    assert {answer.code for answer in answers if answer.status == 409} <= IN_FLIGHT
    return {answer.body for answer in answers if answer.status == 202}


async def has_one_effect(dev: Person, books: Books, body: dict[str, Any], key: str) -> None:
    """Assert that the key made one intent, which reserved once and succeeded."""
    seen = await dev.get(f"/runtime/intents/{body['intent_id']}", wait=20)
    assert seen.json["status"] == "SUCCESSFUL"
    assert await books.intents_of(key) == 1
    assert [await books.postings_of(key, kind) for kind in ("reserve", "post", "settle")] == [1, 1, 1]


def flush_redis(installation: Installation) -> None:
    with redis.Redis.from_url(installation.redis_url) as client:
        client.flushall()


def restart_servers(installation: Installation) -> None:
    for server in (installation.servers.postgres, installation.servers.nats, installation.servers.redis):
        server.restart()


def crash_servers(installation: Installation) -> None:
    for server in (installation.servers.postgres, installation.servers.nats, installation.servers.redis):
        server.kill()
        server.restart()


def restart_everything(installation: Installation) -> None:
    restart_servers(installation)
    installation.restart_all()


async def test_two_hundred_requests_at_once_are_one_intent(dev: Person, books: Books) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    assert len(given_answers(await crowd(dev, body, key))) == 1
    await has_one_effect(dev, books, body, key)


# What happens between the first request and the crowd that repeats it.
LOSSES: list[tuple[str, Callable[[Installation], None]]] = [
    ("nothing", lambda installation: None),
    ("redis was emptied", flush_redis),
    ("gateway, worker and rail were restarted", Installation.restart_all),
    ("everything was restarted", restart_everything),
    ("the servers crashed", crash_servers),
]


@pytest.mark.parametrize("loss", [loss for _, loss in LOSSES], ids=[name for name, _ in LOSSES])
async def test_the_first_answer_is_the_answer_whatever_was_lost(
    dev: Person, books: Books, installation: Installation, loss: Callable[[Installation], None]
) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    first = await dev.post("/runtime/intents", body, key=key)
    assert (first.status, first.headers.get("idempotent-replayed")) == (202, None)
    await asyncio.to_thread(loss, installation)
    again = await recovered(dev, body, key)
    assert (again.headers["idempotent-replayed"], again.headers["x-original-request-id"]) == (
        "true", first.headers["x-request-id"],
    )  # fmt: skip
    assert given_answers(await crowd(dev, body, key)) == {first.body}
    await has_one_effect(dev, books, body, key)


async def recovered(dev: Person, body: dict[str, Any], key: str) -> Answer:
    """Ask until the gateway has found its stores again, as a client would: with the same key, while it is retryable."""
    while True:
        answer = await dev.post("/runtime/intents", body, key=key)
        if answer.status == 202:
            return answer
        assert answer.json["retryable"], answer.body


async def test_without_redis_a_crowd_is_one_intent(dev: Person, books: Books, installation: Installation) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    await asyncio.to_thread(installation.servers.redis.kill)
    try:
        answers = given_answers(await crowd(dev, body, key))
        assert len(answers) == 1
        assert given_answers(await crowd(dev, body, key)) == answers
        await has_one_effect(dev, books, body, key)
    finally:
        await asyncio.to_thread(installation.servers.redis.restart)
    assert given_answers(await crowd(dev, body, key)) == answers


async def test_redis_emptied_under_a_crowd_changes_nothing(
    dev: Person, books: Books, installation: Installation
) -> None:
    body, key, answers = intent_body(), uuid.uuid4().hex, list[Answer]()

    async def flushed() -> None:
        while len(answers) < CROWD:
            await asyncio.to_thread(flush_redis, installation)

    async def ask() -> None:
        answers.append(await dev.post("/runtime/intents", body, key=key))

    await asyncio.gather(flushed(), *(ask() for _ in range(CROWD)))
    assert len(given_answers(answers)) == 1
    await has_one_effect(dev, books, body, key)


async def test_both_doors_lead_to_one_intent(dev: Person, books: Books, installation: Installation) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    async with nats_door(installation) as ask:
        keyed = body | {"idempotency_key": key}
        heard, answers = await asyncio.gather(
            asyncio.gather(*(ask(keyed) for _ in range(CROWD))), crowd(dev, body, key)
        )
        last = await ask(keyed)
    assert {answer.code for answer in heard if answer.status != 202} <= IN_FLIGHT
    said = {bytes(answer.body) for answer in heard if answer.status == 202} | given_answers(answers)
    assert said == {bytes(last.body)}
    assert last.replayed
    await has_one_effect(dev, books, body, key)


CHANGES = [
    ({"amount": 125_001}, ["minor"]),
    ({"source": "customer-2"}, ["source"]),
    ({"metadata": {"a": "b"}}, ["metadata"]),
    ({"kind": "book_transfer", "amount": 1}, ["kind", "minor"]),
]


@pytest.mark.parametrize(("changes", "fields"), CHANGES)
async def test_a_key_used_for_something_else_is_refused_naming_what_differs(
    dev: Person, books: Books, installation: Installation, changes: dict[str, Any], fields: list[str]
) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    assert (await dev.post("/runtime/intents", body, key=key)).status == 202
    before = await books.count("select count(*) from intents")
    for forget in (False, True):
        if forget:
            flush_redis(installation)
        answer = await dev.post("/runtime/intents", body | changes, key=key)
        assert (answer.status, answer.code, answer.json["fields"]) == (422, "idempotency_key_reused", fields)
    async with nats_door(installation) as ask:
        heard = await ask(body | changes | {"idempotency_key": key})
    assert (heard.status, heard.code) == (422, "idempotency_key_reused")
    assert await books.count("select count(*) from intents") == before


async def test_the_spelling_of_a_request_is_no_change(dev: Person, books: Books) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    first = await dev.post("/runtime/intents", body, key=key)
    spelt = {"scope": "default", "kind": "transfer"} | dict(reversed(body.items())) | {"amount": str(body["amount"])}
    assert (await dev.post("/transfers", spelt, key=key)).body == first.body
    assert await books.intents_of(key) == 1


async def test_an_intent_id_is_one_intent_under_any_key(dev: Person, books: Books) -> None:
    body, keys = intent_body(), [uuid.uuid4().hex for _ in range(CROWD)]
    answers = await asyncio.gather(*(dev.post("/runtime/intents", body, key=key) for key in keys))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum([await books.intents_of(key) for key in keys]) == 1
    other = await dev.post("/runtime/intents", body | {"amount": 1})
    assert (other.status, other.code) == (409, "intent_id_conflict")
    repeated = await dev.post("/runtime/intents", body, key=keys[-1])
    assert repeated.headers["idempotent-replayed"] == "true"
    reused = await dev.post("/runtime/intents", intent_body(), key=keys[-1])
    assert (reused.status, reused.code) == (422, "idempotency_key_reused"), "the other key was stored too"


async def test_tenants_have_keys_and_ids_of_their_own(dev: Person, installation: Installation, books: Books) -> None:
    body, key = intent_body(), uuid.uuid4().hex
    theirs = Person(installation, dev.session, "globex", "dev")
    answers = [await dev.post("/runtime/intents", body, key=key), await theirs.post("/runtime/intents", body, key=key)]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, None]
    assert answers[0].json["id"] != answers[1].json["id"]
    assert await books.count("select count(*) from intents where key = $1", key) == 2


async def test_a_decline_stays_a_decline(dev: Person, books: Books) -> None:
    body, key = intent_body(source="payout-1"), uuid.uuid4().hex
    declined = (await dev.post("/runtime/intents", body, key=key, wait=20)).json
    assert (declined["status"], declined["reason"]["code"]) == ("FAILED", "insufficient_funds")
    funding = intent_body(kind="book_transfer", destination="payout-1", amount=1_000_000)
    assert (await dev.post("/runtime/intents", funding, wait=20)).json["status"] == "SUCCESSFUL"
    again = (await dev.post("/runtime/intents", body, key=key, wait=20)).json
    assert (again["status"], again["id"]) == ("FAILED", declined["id"])
    assert await books.postings_of(key, "reserve") == 0
