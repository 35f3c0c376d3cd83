"""Reviews and cases at the border: found by their tenant, never decided by the creator, decided once.

There is no worker here: rows stand where a worker would have put them, and outcomes are written by the test."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from tests.gateway.asgi import Answer
from tests.gateway.http.conftest import Api, intent_body
from zentra.runtime.messages import CommandGiven, decode_frame
from zentra.storage.pool import Pool

REASON = {"reason": "invoice 4711 checked"}


async def seen(api: Api, review: str) -> dict[str, str]:
    """Return the body of a decision by somebody who has looked at the review."""
    return {**REASON, "request_hash": (await api.get(f"/reviews/{review}")).json["request_hash"]}


async def open_review(pool: Pool, created_by: str = "developer") -> str:
    review = uuid.uuid4().hex
    await pool.execute(
        "insert into zentra.reviews (id, tenant, intent_id, created_by, rules, version, assigned_to, status, opened_at,"
        " expires_at) values ($1, 'acme', 'int-1', $2, '[\"review_minor_min\"]', 1, null, 'open', now(), now())",
        review, created_by,
    )  # fmt: skip
    return review


async def open_case(pool: Pool, intent: str | None = None, kind: str = "poison") -> str:
    case = uuid.uuid4().hex
    await pool.execute(
        "insert into zentra.cases (id, tenant, intent, kind, status, detail, opened_at, deadline)"
        " values ($1, 'acme', $2, $3, 'open', '{}', now(), now())",
        case, intent, kind,
    )  # fmt: skip
    return case


async def answer_as_a_worker(pool: Pool, subject: str, code: str) -> None:
    """Write the outcome of the first command on `subject` once it is there."""
    while True:
        command = await pool.fetchval("select id from zentra.commands where subject = $1", subject)
        if command is not None:
            break
        await asyncio.sleep(0)
    await pool.execute(
        "insert into zentra.command_outcomes (command, tenant, accepted, code, decided_at)"
        " values ($1, 'acme', $2, $3, now())",
        command, code == "done", code,
    )  # fmt: skip


async def test_a_review_is_listed_and_shown(api: Api, admin_pool: Pool) -> None:
    review = await open_review(admin_pool)
    listed = (await api.get("/reviews?status=open&limit=100")).json["data"]
    assert review in [one["id"] for one in listed]
    shown = (await api.get(f"/reviews/{review}")).json
    assert (shown["status"], shown["rules"], shown["created_by"]) == ("open", ["review_minor_min"], "developer")


async def test_nobody_decides_on_their_own_intent_and_leaves_no_trace(api: Api, admin_pool: Pool) -> None:
    review = await open_review(admin_pool, "operator")
    answer = await api.as_("operator").post(f"/reviews/{review}/approve", REASON)
    assert (answer.status, answer.code) == (403, "self_approval")
    assert await admin_pool.fetchval("select count(*) from zentra.review_decisions where review = $1", review) == 0


@pytest.mark.parametrize(
    ("code", "status"), [("done", 200), ("review_not_open", 409), ("not_found", 404), ("made_up", 500)]
)
async def test_a_decision_is_answered_by_its_outcome(api: Api, admin_pool: Pool, code: str, status: int) -> None:
    review, key = await open_review(admin_pool), uuid.uuid4().hex
    operator, target = api.as_("operator"), f"/reviews/{review}/approve"
    worker = asyncio.create_task(answer_as_a_worker(admin_pool, review, code))
    body = await seen(operator, review)
    first = await operator.post(target, body, key=key)
    await worker
    again = await operator.post(target, body, key=key)
    for answer in (first, again):
        assert answer.status == status
        if code == "done":
            assert (answer.json["status"], answer.json["outcome"], answer.json["verdict"]) == (
                "done",
                "done",
                "approved",
            )
        else:
            assert answer.code == (code if status != 500 else "internal")
    assert again.headers["idempotent-replayed"] == "true"


async def test_of_two_deciders_the_second_is_told(api: Api, admin_pool: Pool) -> None:
    review = await open_review(admin_pool)
    body = await seen(api, review)
    works = [
        api.as_(who).post(f"/reviews/{review}/{verdict}", body, prefer="wait=0")
        for who, verdict in (("operator", "approve"), ("admin", "reject"))
    ]
    answers: list[Answer] = await asyncio.gather(*works)
    assert sorted(answer.status for answer in answers) == [202, 409]
    loser = next(answer for answer in answers if answer.status == 409)
    assert loser.code == "review_already_decided"


async def test_a_case_is_resolved_with_a_word_and_a_reason(api: Api, admin_pool: Pool) -> None:
    case = await open_case(admin_pool)
    operator, target = api.as_("operator"), f"/cases/{case}/resolve"
    refused = await operator.post(target, {"resolution": "forget"})
    assert {error["pointer"]: error["code"] for error in refused.json["errors"]} == {
        "/resolution": "resolution_unknown", "/reason": "field_missing",
    }  # fmt: skip
    worker = asyncio.create_task(answer_as_a_worker(admin_pool, case, "done"))
    answer = await operator.post(target, {"resolution": "dismissed", **REASON})
    await worker
    assert (answer.status, answer.json["resolution"]) == (200, "dismissed")
    assert (await operator.get(f"/cases/{case}")).json["kind"] == "poison"


@pytest.mark.parametrize(
    ("who", "kind", "status"),
    [("developer", "rail_unknown", 403), ("operator", "rail_unknown", 403), ("operator", "poison_message", 200)],
)
async def test_whoever_made_an_intent_does_not_resolve_its_case(
    api: Api, admin_pool: Pool, who: str, kind: str, status: int
) -> None:
    made = (await api.as_("operator").post("/runtime/intents", intent_body())).json
    case = await open_case(admin_pool, made["id"], kind)
    worker = asyncio.create_task(answer_as_a_worker(admin_pool, case, "done")) if status == 200 else None
    answer = await api.as_(who).post(f"/cases/{case}/resolve", {"resolution": "dismissed", **REASON})
    if worker is not None:
        await worker
    codes = {("operator", 403): "self_approval", ("developer", 403): "permission_denied"}
    assert (answer.status, answer.code if status == 403 else None) == (status, codes.get((who, status)))


async def test_a_case_says_whether_its_deadline_has_passed(api: Api, admin_pool: Pool) -> None:
    late, soon = await open_case(admin_pool), await open_case(admin_pool)
    await admin_pool.execute("update zentra.cases set deadline = now() + interval '1 day' where id = $1", soon)
    listed = {one["id"]: one["overdue"] for one in (await api.get("/cases?status=open&limit=100")).json["data"]}
    assert (listed[late], listed[soon]) == (True, False)
    await admin_pool.execute("update zentra.cases set status = 'resolved' where id = $1", late)
    assert (await api.get(f"/cases/{late}")).json["overdue"] is False


@pytest.mark.parametrize(("kind", "told"), [("unknown_outcome", True), ("poison_message", False)])
async def test_a_resolution_names_the_intent_that_it_may_move(
    api: Api, admin_pool: Pool, kind: str, told: bool
) -> None:
    intent = uuid.uuid4().hex
    case = await open_case(admin_pool, intent, kind)
    worker = asyncio.create_task(answer_as_a_worker(admin_pool, case, "done"))
    await api.as_("operator").post(f"/cases/{case}/resolve", {"resolution": "dismissed", **REASON})
    await worker
    frames = await admin_pool.fetch("select body from zentra.outbox where subject like 'zc.%.command'")
    given = [event for row in frames for event in decode_frame(row[0]) if isinstance(event, CommandGiven)]
    assert [event.intent for event in given if event.subject == case] == [intent if told else ""]
