"""Poison blocks nobody, is listed with its reason, and is tried once more when what broke it was repaired."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.scenarios.people import Books, Person, intent_body, until
from zentra.gateway.installation.installation import Installation
from zentra.gateway.settings import environment_of
from zentra.runtime.messages import Due, TimerFired, encode_frame
from zentra.runtime.partitions import partition_of
from zentra.runtime.subjects import command_subject
from zentra.storage.migrate import PARTITIONS
from zentra.streams.connection import Connection, connect

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(120)]

GARBAGE = b"\xc1 this is no frame"
CASE = "select operator, resolution, tenant, kind from cases where id = $1 and status = 'resolved'"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation of its own: a rail of it is broken for a while."""
    with Installation(sandbox=False) as running:
        yield running


@pytest.fixture
async def dev(installation: Installation) -> AsyncIterator[Person]:
    async with aiohttp.ClientSession() as session:
        yield Person(installation, session, "acme", "dev")


@pytest.fixture
async def books(installation: Installation) -> AsyncIterator[Books]:
    async with Books.opened(installation) as opened:
        yield opened


@pytest.fixture
async def runtime(installation: Installation) -> AsyncIterator[Connection]:
    """A connection with the rights of a worker."""
    client = await connect(installation.settings.nats_url, name="test")
    yield client
    await client.close()


async def zentra(installation: Installation, *arguments: str) -> tuple[int, Any]:
    """Run `zentra deadletters … --json` as an operator does; return its exit code and what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZENTRA_")}
    command = [sys.executable, "-m", "zentra.gateway", "deadletters", *arguments, "--json"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=clean | environment_of(installation.settings), capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr


async def letters(installation: Installation, least: int) -> list[dict[str, Any]]:
    """Return the letters once there are that many."""

    async def asked() -> list[dict[str, Any]]:
        code, rows = await zentra(installation, "list")
        assert code == 0, rows
        return list(rows)

    return await until(asked, lambda rows: len(rows) >= least)


async def append(client: Connection, subject: str, frame: bytes) -> str:
    name = uuid.uuid4().hex
    answer = await client.request(subject, frame, headers={"Nats-Msg-Id": name})
    assert "error" not in msgspec.json.decode(answer.data)
    return name


async def resolved(books: Books, case: str) -> dict[str, Any]:
    """Return a case once it is resolved."""
    rows = await until(lambda: books.pool.fetch(CASE, case), lambda rows: len(rows) == 1)
    return dict(rows[0])


def payment(**changes: Any) -> dict[str, Any]:
    return intent_body(amount=5, idempotency_key=uuid.uuid4().hex, **changes)


async def test_poison_is_listed_and_neighbours_complete_and_a_retry_happens_once(
    installation: Installation, dev: Person, books: Books, runtime: Connection
) -> None:
    first = (await dev.post("/payments", payment(), key=None, wait=20)).json
    place = partition_of(first["id"], PARTITIONS)
    bytes_cause = await append(runtime, command_subject(place, "policy"), GARBAGE)
    event_cause = await append(runtime, command_subject(place, "ledger"), encode_frame([Due(first["id"], "acme", 99)]))
    answers = await asyncio.gather(*(dev.post("/payments", payment(), key=None, wait=20) for _ in range(64)))
    assert {answer.json["status"] for answer in answers} == {"SUCCESSFUL"}, "poison blocks nobody"

    shown = {row["cause"]: row for row in await letters(installation, 2)}
    garbage, impossible = shown[bytes_cause], shown[event_cause]
    assert (garbage["status"], garbage["stage"], garbage["partition"], garbage["tenant"], garbage["event"]) == (
        "open", "policy", place, "-", "-",
    )  # fmt: skip
    assert "no event" in garbage["reason"]
    assert (impossible["stage"], impossible["tenant"], impossible["event"]) == ("ledger", "acme", "Due")
    assert impossible["reason"].startswith("VersionGap")

    said = ("--by", "ada", "--reason", "to see it fail again")
    assert await zentra(installation, "retry", str(garbage["id"]), *said) == (
        0, {"retried": [garbage["id"]], "by": "ada", "reason": "to see it fail again"},
    )  # fmt: skip
    code, again = await zentra(installation, "retry", str(garbage["id"]), *said)
    assert (code, again["retried"]) == (0, [])
    rows = await letters(installation, 3)
    assert [row["reason"] for row in rows].count(garbage["reason"]) == 2, "what fails again leaves one letter more"
    assert next(row for row in rows if row["id"] == garbage["id"])["status"] == "retried"
    assert next(row for row in rows if row["id"] == garbage["id"])["handled_by"] == "ada"
    case = await resolved(books, garbage["case"])
    assert (case["operator"], case["tenant"], case["kind"]) == ("ada", "-", "poison_message")
    assert json.loads(case["resolution"]) == {"resolution": "retry", "reason": "to see it fail again"}
    assert (await zentra(installation, "retry", "999999"))[0] == 1


async def test_a_poisoned_timer_is_retried_with_its_case(
    installation: Installation, books: Books, runtime: Connection
) -> None:
    """Timers fire again and again, so the case of one is not what its cause and bytes alone would say."""
    frame = encode_frame([TimerFired("moon", uuid.uuid4().hex, "state", "acme")])
    cause = await append(runtime, command_subject(3, "timer"), frame)

    async def listed() -> dict[str, Any]:
        return {row["cause"]: row for row in await letters(installation, 0)}

    letter = (await until(listed, lambda rows: cause in rows))[cause]
    assert (letter["stage"], letter["event"], letter["status"]) == ("timer", "TimerFired", "open")
    assert (await zentra(installation, "retry", str(letter["id"]), "--reason", "the moon has set"))[0] == 0
    case = await resolved(books, letter["case"])
    assert (case["tenant"], case["kind"]) == ("acme", "poison_message")


async def test_what_was_poisoned_by_a_broken_rail_is_done_after_its_repair(
    installation: Installation, dev: Person, books: Books
) -> None:
    known = {row["id"] for row in await letters(installation, 0)}
    sound = await books.pool.fetchval("select settings from rails where name = 'inline'")
    broken = json.dumps(json.loads(sound) | {"deadline_seconds": 1e13})  # no date lies that far ahead
    await books.pool.execute("update rails set settings = $1 where name = 'inline'", broken)
    made = (await dev.post("/payments", payment(), key=None)).json
    rows = [row for row in await letters(installation, len(known) + 1) if row["id"] not in known]
    assert [(row["stage"], row["tenant"], row["status"]) for row in rows] == [("route", "acme", "open")]
    assert rows[0]["reason"].startswith("OverflowError")
    await books.pool.execute("update rails set settings = $1 where name = 'inline'", sound)
    code, done = await zentra(installation, "retry", "--all", "--reason", "the deadline is a date again")
    assert code == 0
    assert rows[0]["id"] in done["retried"]
    path = f"/runtime/intents/{made['intent_id']}"
    await until(lambda: dev.get(path), lambda answer: answer.json["status"] == "SUCCESSFUL")
    case = await resolved(books, rows[0]["case"])
    assert json.loads(case["resolution"])["reason"] == "the deadline is a date again"
    audit = await books.audit()
    assert audit.clean, audit.breaches


async def test_an_operator_may_resolve_the_case_of_poison_that_names_an_intent(
    installation: Installation, dev: Person, books: Books, runtime: Connection
) -> None:
    first = (await dev.post("/payments", payment(), key=None, wait=20)).json
    place = partition_of(first["id"], PARTITIONS)
    cause = await append(runtime, command_subject(place, "ledger"), encode_frame([Due(first["id"], "acme", 77)]))

    async def listed() -> dict[str, Any]:
        return {row["cause"]: row for row in await letters(installation, 0)}

    letter = (await until(listed, lambda rows: cause in rows))[cause]
    ops = Person(installation, dev.session, "acme", "ops")
    answer = await ops.post(f"/cases/{letter['case']}/resolve", {"resolution": "dismissed", "reason": "a test"})
    assert (answer.status, answer.json["status"]) == (200, "done"), answer.body
    assert (await listed())[cause]["status"] == "resolved"
