"""An operator of another tenant learns nothing about an intent that is not theirs, and each try is evidence."""

from __future__ import annotations

import uuid
from typing import Any

import aiohttp
import pytest

from tests.scenarios.people import Answer, Books, Person, intent_body, nats_door, until
from zentra.gateway.installation.installation import Installation

pytestmark = pytest.mark.service

DOORS = [
    ("GET", "/runtime/intents/{id}", None),
    ("GET", "/runtime/intents/{id}/evidence", None),
    ("POST", "/runtime/intents/{id}/cancel", {}),
    ("POST", "/runtime/intents/{id}/reversals", {"reason": "mine now"}),
]


@pytest.fixture
def stranger(installation: Installation, session: aiohttp.ClientSession) -> Person:
    """The developer of globex."""
    return Person(installation, session, "globex", "dev")


def without_its_own_ids(answer: Answer) -> tuple[int, dict[str, Any], set[str]]:
    """Return what an answer says: status, body without the ids of the request, names of its headers."""
    own = ("request_id", "trace_id", "instance")
    body = {name: value for name, value in answer.json.items() if name not in own}
    return answer.status, body, set(answer.headers) - {"date"}


@pytest.mark.parametrize(("method", "path", "body"), DOORS, ids=[f"{method} {path}" for method, path, _ in DOORS])
async def test_a_foreign_intent_is_as_unknown_as_none_and_every_try_is_kept(
    dev: Person, stranger: Person, books: Books, method: str, path: str, body: Any
) -> None:
    seen = await dev.made()
    await dev.packet(seen["intent_id"])
    action = f"{method} {path}"

    async def denials() -> list[Any]:
        return list(
            await books.pool.fetch(
                "select tenant, role, reason, minute, count, request_id from denials"
                " where actor = 'dev' and action = $1 order by minute",
                action,
            )
        )

    before, written = await denials(), await books.written()
    answers = []
    for given in [seen["intent_id"], seen["id"], "no-such-intent", "0" * 32]:
        answers.append(await stranger.ask(method, path.format(id=given), body))
    shown = [without_its_own_ids(answer) for answer in answers]
    assert shown[0][0] == 404
    assert all(one == shown[0] for one in shown), "somebody else's and nobody's are one answer"
    for answer in answers:
        assert seen["id"].encode() not in answer.body
        assert seen["intent_id"].encode() not in answer.body
    kept = await until(denials, lambda rows: sum(row["count"] for row in rows) == len(answers))
    assert before == []
    minutes = {row["minute"] for row in kept}
    assert len(kept) == len(minutes) <= 2, "one record, or two where the minute ended between the tries"
    assert {(row["tenant"], row["role"], row["reason"]) for row in kept} == {("globex", "developer", "not_found")}
    assert kept[-1]["request_id"] in {answer.headers["x-request-id"] for answer in answers}
    assert await books.written() == written


async def test_the_denial_is_the_callers_and_not_the_owners(dev: Person, ops: Person, stranger: Person) -> None:
    seen = await dev.made()
    request_id = f"tried-{seen['id']}"
    await stranger.ask("GET", f"/runtime/intents/{seen['id']}/evidence", headers={"x-request-id": request_id})
    foreign_ops = Person(stranger.installation, stranger.session, "globex", "ops")

    async def theirs() -> list[Any]:
        return list((await foreign_ops.get("/denials?limit=100")).json["data"])

    await until(theirs, lambda rows: any(row["request_id"] == request_id for row in rows))
    assert request_id not in (await ops.get("/denials?limit=100")).body.decode()


async def test_over_nats_the_connection_says_whose_the_intent_is(
    dev: Person, installation: Installation, books: Books
) -> None:
    seen, key = await dev.made(), uuid.uuid4().hex
    body = intent_body(intent_id=seen["intent_id"], amount=1, idempotency_key=key)
    async with nats_door(installation, "globex") as ask:
        heard = await ask(body)
        named = await ask(body | {"tenant": "acme", "idempotency_key": uuid.uuid4().hex})
    assert heard.status == 202, "somebody else's intent_id is free"
    assert (named.status, named.code) == (422, "validation_failed")
    rows = await books.pool.fetch("select tenant, principal from intents where key = $1", key)
    assert [tuple(row) for row in rows] == [("globex", "nats")]
    assert (await dev.get(f"/runtime/intents/{seen['id']}")).json["amount"] == seen["amount"]
