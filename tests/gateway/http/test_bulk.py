"""Many intents in one request: each has its own key, answer and problem, as if it had come alone."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.gateway.http.conftest import Api, intent_body
from zentra.gateway.doors.intake import Intake, IntakeItem, Together
from zentra.gateway.doors.pressure import Cause, Overloaded
from zentra.gateway.routes.intents import BULK_BYTES_MAX
from zentra.storage.pool import Pool

BULK = "/runtime/intents/bulk"


def keyed(**changes: Any) -> dict[str, Any]:
    return intent_body(**{"idempotency_key": uuid.uuid4().hex, **changes})


async def test_every_intent_has_the_answer_that_it_would_have_alone(api: Api) -> None:
    known, key = keyed(), uuid.uuid4().hex
    first = await api.post("/runtime/intents", known, key=None)
    sound = keyed()
    batch = [
        sound, keyed(amount=0), intent_body(), 5, known, keyed(intent_id=known["intent_id"], amount=1),
        known | {"amount": 1}, keyed(idempotency_key="a b"), keyed(idempotency_key=key),
    ]  # fmt: skip
    answer = await api.post(BULK, batch, key=None, x_request_id="bulk-1")
    assert (answer.status, answer.headers["x-request-id"]) == (200, "bulk-1")
    results = answer.json["results"]
    assert [(one["status"], one.get("code")) for one in results] == [
        (202, None), (422, "validation_failed"), (400, "idempotency_key_missing"), (422, "validation_failed"),
        (202, None), (409, "intent_id_conflict"), (422, "idempotency_key_reused"), (422, "validation_failed"),
        (202, None),
    ]  # fmt: skip
    assert [one["replayed"] for one in results if "replayed" in one] == [False, True, False]
    assert results[4]["body"] == first.json
    assert results[6]["fields"] == ["minor"]
    alone = await api.post("/runtime/intents", sound, key=None)
    assert (alone.headers["idempotent-replayed"], alone.headers["x-original-request-id"]) == ("true", "bulk-1.0")
    assert alone.json == results[0]["body"]


async def test_a_problem_points_into_the_whole_request_and_names_the_intents_own_request(api: Api) -> None:
    answer = await api.post(BULK, [keyed(), keyed(amount=0, currency="ngn"), 5], key=None, x_request_id="bulk-2")
    _, wrong, number = answer.json["results"]
    assert {(one["pointer"], one["code"]) for one in wrong["errors"]} == {
        ("/1/amount", "amount_zero"), ("/1/currency", "currency_unknown"),
    }  # fmt: skip
    assert [(one["pointer"], one["code"]) for one in number["errors"]] == [("/2", "body_not_object")]
    assert (wrong["request_id"], number["request_id"]) == ("bulk-2.1", "bulk-2.2")


async def test_a_key_that_comes_twice_in_one_request_makes_one_intent(api: Api) -> None:
    body = keyed()
    results = (await api.post(BULK, [body, keyed(), body], key=None)).json["results"]
    assert [one["status"] for one in results] == [202, 202, 202]
    assert sorted(results[place]["replayed"] for place in (0, 2)) == [False, True]
    assert results[0]["body"] == results[2]["body"]


async def test_a_thousand_intents_fit_into_one_request(api: Api, admin_pool: Pool) -> None:
    batch = [keyed() for _ in range(1_000)]
    answer = await api.post(BULK, batch, key=None)
    assert [one["body"]["intent_id"] for one in answer.json["results"]] == [one["intent_id"] for one in batch]
    count = "select count(*) from zentra.intents where intent_id = any($1)"
    assert await admin_pool.fetchval(count, [one["intent_id"] for one in batch]) == 1_000


@pytest.mark.parametrize(("body", "headers", "status", "code"), [
    ([{}] * 1_001,                              {},                            413, "batch_too_large"),
    ({},                                        {},                            422, "validation_failed"),
    ([{}],                                      {"x_idempotency_key": "k"},    400, "idempotency_key_ambiguous"),
    ([{}],                                      {"idempotency_key": "k"},      400, "idempotency_key_ambiguous"),
    (b"[{}",                                    {},                            400, "body_malformed"),
    (b'[{"amount":1,"amount":2}]',              {},                            400, "body_key_repeated"),
    (b"[" + b" " * BULK_BYTES_MAX + b"]",       {},                            413, "body_too_large"),
])  # fmt: skip
async def test_a_request_that_makes_no_sense_is_refused_whole(
    api: Api, admin_pool: Pool, body: object, headers: dict[str, str], status: int, code: str
) -> None:
    before = await admin_pool.fetchval("select count(*) from zentra.intents")
    answer = await api.post(BULK, body, key=None, **headers)
    assert (answer.status, answer.code, "results" in answer.json) == (status, code, False)
    assert await admin_pool.fetchval("select count(*) from zentra.intents") == before


async def test_the_limits_are_said(api: Api) -> None:
    large = await api.post(BULK, b"[" + b" " * BULK_BYTES_MAX + b"]", key=None)
    assert large.json["detail"] == "send at most 1024 KiB"
    many = await api.post(BULK, [{}] * 1_001, key=None)
    assert many.json["detail"] == "1001 intents; send at most 1000 in one request"
    assert (await api.post(BULK, [], key=None)).json == {"results": []}


async def test_more_than_a_single_intent_may_have_fits_here_and_nowhere_else(api: Api) -> None:
    padding = b" " * 300_000
    assert (await api.post(BULK, b"[" + padding + b"]", key=None)).status == 200
    assert (await api.post("/runtime/intents", b"{" + padding + b"}", key=None)).code == "body_too_large"


async def test_only_who_may_create_one_may_create_many(api: Api) -> None:
    answer = await api.as_("auditor").post(BULK, [keyed()], key=None)
    assert (answer.status, answer.code) == (403, "permission_denied")


async def test_where_none_is_taken_the_request_is_sent_away_whole_and_later_ones_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def full(self: Intake) -> None:
        nonlocal asked
        asked += 1
        if asked > room:
            raise Overloaded(Cause.REQUESTS, 2)

    monkeypatch.setattr(Intake, "check", full)
    room = 0
    whole = await api.post(BULK, [keyed(), keyed()], key=None)
    assert (whole.status, whole.code, whole.headers["retry-after"]) == (503, "overloaded", "2")
    asked, room = 0, 2  # the request and its first intent
    results = (await api.post(BULK, [keyed(), keyed()], key=None)).json["results"]
    assert [(one["status"], one.get("retry_after_seconds")) for one in results] == [(202, None), (503, 2)]


async def test_a_client_that_goes_before_its_answer_finds_each_intent_once(
    api: Api, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, submitted, submit = [keyed() for _ in range(50)], asyncio.Event(), Intake.submit_nowait

    def noted(self: Intake, item: IntakeItem, asked: Together, place: int) -> None:
        if item.key == batch[-1]["idempotency_key"]:
            submitted.set()
        submit(self, item, asked, place)

    monkeypatch.setattr(Intake, "submit_nowait", noted)
    asking = asyncio.create_task(api.post(BULK, batch, key=None))
    await submitted.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    again = batch
    while again:  # a key whose first request is under way is to be asked for again
        results = (await api.post(BULK, again, key=None)).json["results"]
        assert {one["status"] for one in results} <= {202, 409}
        again = [body for body, one in zip(again, results, strict=True) if one["status"] == 409]
    count = "select count(*) from zentra.intents where intent_id = any($1)"
    assert await admin_pool.fetchval(count, [one["intent_id"] for one in batch]) == 50
