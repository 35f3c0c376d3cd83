"""The review queue at the border, without a worker: who is shown what, what is refused before it is stored, and many
decisions in one request."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.gateway.http.conftest import Api, Keys, intent_body
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.runtime.messages import CommandGiven, decode_frame
from zentra.storage.pool import Pool

REASON = {"reason": "invoice 4711 checked"}
NOW = datetime.now(UTC)


async def waiting(api: Api, pool: Pool, **changes: Any) -> str:
    """Return the review of a new intent, as a worker would have opened it."""
    made = (await api.post("/runtime/intents", intent_body(amount=changes.pop("amount", 125_000)))).json
    row = {
        "id": made["id"], "tenant": api.tenant, "intent_id": made["intent_id"], "created_by": api.principal,
        "rules": '["review_threshold"]', "version": 1, "assigned_to": None, "status": "open", "opened_at": NOW,
        "expires_at": NOW + timedelta(hours=72), "due_at": NOW + timedelta(hours=4), "approvals": 1,
        "kind": "transfer", "currency": "NGN", "minor": made["amount"], **changes,
    }  # fmt: skip
    names, places = ", ".join(row), ", ".join(f"${place + 1}" for place in range(len(row)))
    await pool.execute(f"insert into zentra.reviews ({names}) values ({places})", *row.values())
    return str(made["id"])


async def hash_of(api: Api, review: str) -> str:
    return str((await api.get(f"/reviews/{review}")).json["request_hash"])


async def given(pool: Pool, subject: str) -> list[Any]:
    """Return the bodies of the commands that were registered for a review."""
    rows = await pool.fetch("select body from zentra.outbox where subject like 'zc.%.command' order by created_at, id")
    events = [event for row in rows for event in decode_frame(row[0]) if isinstance(event, CommandGiven)]
    return [msgspec.json.decode(event.body) for event in events if event.subject == subject]


# Looking --------------------------------------------------------------------------------------------------------------


async def test_a_review_shows_what_a_decision_is_bound_to(api: Api, admin_pool: Pool) -> None:
    review = await waiting(api, admin_pool)
    shown = (await api.get(f"/reviews/{review}")).json
    listed = next(one for one in (await api.get("/reviews?limit=100")).json["data"] if one["id"] == review)
    seen = (await api.get(f"/runtime/intents/{review}")).json["review"]
    assert len(shown["request_hash"]) == 64
    assert shown["request_hash"] == listed["request_hash"] == seen["request_hash"]
    await admin_pool.execute("update zentra.reviews set round = 2 where id = $1", review)
    assert await hash_of(api, review) != shown["request_hash"]


# fmt: off
FILTERS = [
    ("assigned_to=me",            {"mine", "late"}),
    ("assigned_to=admin",         {"other"}),
    ("overdue=true",              {"late"}),
    ("overdue=false&status=open", {"mine", "other", "free", "large"}),
    ("rule=sanctions",            {"other"}),
    ("amount_min=500000",         {"large"}),
    ("amount_max=499999&status=open", {"mine", "late", "other", "free"}),
    ("kind=payment",              {"free"}),
    ("currency=NGN&status=open",  {"mine", "late", "other", "free", "large"}),
    ("currency=USD",              set()),
]
# fmt: on


async def test_a_queue_is_looked_through_by_what_people_ask(api: Api, admin_pool: Pool) -> None:
    dev = api.as_("developer", "globex")
    names = {
        await waiting(dev, admin_pool, assigned_to="operator"): "mine",
        await waiting(dev, admin_pool, assigned_to="operator", due_at=NOW - timedelta(hours=1)): "late",
        await waiting(dev, admin_pool, assigned_to="admin", rules='["sanctions"]'): "other",
        await waiting(dev, admin_pool, kind="payment"): "free",
        await waiting(dev, admin_pool, amount=500_000): "large",
    }
    ops = api.as_("operator", "globex")
    for query, expected in FILTERS:
        found = (await ops.get(f"/reviews?limit=100&{query}")).json["data"]
        assert {names[one["id"]] for one in found} == expected, query
    counted = (await ops.get("/reviews/counts")).json
    assert [counted[name] for name in ("open", "overdue", "unassigned", "mine", "escalated")] == [5, 1, 2, 2, 0]


@pytest.mark.parametrize(("query", "code"), [("overdue=yes", "field_type"), ("kind=x", "kind_unknown")])
async def test_a_filter_that_is_none_is_refused(api: Api, query: str, code: str) -> None:
    answer = await api.get(f"/reviews?{query}")
    assert (answer.status, [error["code"] for error in answer.json["errors"]]) == (400, [code])


# Deciding -------------------------------------------------------------------------------------------------------------


# fmt: off
UNSTORED = [
    ("by its creator",      "developer", "approve", {"request_hash": "seen"},   403, "permission_denied"),
    ("without having seen", "operator",  "approve", {},                         428, "request_hash_missing"),
    ("having seen another", "operator",  "approve", {"request_hash": "0" * 64}, 409, "review_changed"),
    ("rejecting another",   "operator",  "reject",  {"request_hash": "0" * 64}, 409, "review_changed"),
    ("no hash at all",      "operator",  "approve", {"request_hash": "x"},      422, "validation_failed"),
]
# fmt: on


@pytest.mark.parametrize(
    ("who", "word", "more", "status", "code"), [r[1:] for r in UNSTORED], ids=[r[0] for r in UNSTORED]
)
async def test_what_is_refused_at_the_door_takes_nobodys_seat(
    api: Api, admin_pool: Pool, who: str, word: str, more: dict[str, str], status: int, code: str
) -> None:
    review = await waiting(api, admin_pool)
    body = {**REASON, **more}
    if body.get("request_hash") == "seen":
        body["request_hash"] = await hash_of(api, review)
    answer = await api.as_(who).post(f"/reviews/{review}/{word}", body)
    assert (answer.status, answer.code) == (status, code)
    assert await admin_pool.fetchval("select count(*) from zentra.review_decisions where review = $1", review) == 0
    assert await given(admin_pool, review) == []


async def test_a_decision_carries_what_was_seen_to_the_engine(api: Api, admin_pool: Pool) -> None:
    review = await waiting(api, admin_pool)
    bound = await hash_of(api, review)
    answer = await api.as_("operator").post(
        f"/reviews/{review}/approve", {**REASON, "request_hash": bound}, prefer="wait=0"
    )
    assert answer.status == 202
    [body] = await given(admin_pool, review)
    assert (body["request_hash"], body["round"], body["verdict"]) == (bound, 1, "approved")
    kept = await admin_pool.fetchrow(
        "select seat, principal, request_hash from zentra.review_decisions where review = $1", review
    )
    assert kept is not None
    assert tuple(kept) == (1, "operator", bound)


async def test_a_replay_is_answered_also_when_the_review_is_another_by_now(api: Api, admin_pool: Pool) -> None:
    review, key = await waiting(api, admin_pool), uuid.uuid4().hex
    body, ops = {**REASON, "request_hash": await hash_of(api, review)}, api.as_("operator")
    first = await ops.post(f"/reviews/{review}/approve", body, key=key, prefer="wait=0")
    await admin_pool.execute("update zentra.reviews set round = 2 where id = $1", review)
    again = await ops.post(f"/reviews/{review}/approve", body, key=key, prefer="wait=0")
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (202, first.body, "true")
    other = await ops.post(f"/reviews/{review}/approve", {**body, "reason": "b"}, key=key, prefer="wait=0")
    assert other.code == "idempotency_key_reused"


async def test_a_seat_is_left_for_the_second_of_two_approvals(api: Api, admin_pool: Pool) -> None:
    review = await waiting(api, admin_pool, approvals=2)
    body, target = {**REASON, "request_hash": await hash_of(api, review)}, f"/reviews/{review}/approve"
    codes = [
        (await api.as_(who).post(target, body, prefer="wait=0")).status for who in ("operator", "operator", "admin")
    ]
    assert codes == [202, 409, 202]


# Many -----------------------------------------------------------------------------------------------------------------


async def test_a_key_of_many_decisions_is_for_these_alone(api: Api, admin_pool: Pool) -> None:
    ops, key = api.as_("operator"), uuid.uuid4().hex
    first, second = [await waiting(api, admin_pool) for _ in range(2)]
    item = {"id": first, "verdict": "rejected", **REASON}
    assert (await ops.post("/reviews/decisions", {"items": [item]}, key=key, prefer="wait=0")).status == 200
    others = [[{**item, "id": second}], [item, {**item, "id": second}], [{**item, "reason": "b"}]]
    answers = [await ops.post("/reviews/decisions", {"items": items}, key=key, prefer="wait=0") for items in others]
    answers.append(await ops.post(f"/reviews/{second}/reject", REASON, key=key, prefer="wait=0"))
    assert {(one.status, one.code) for one in answers} == {(422, "idempotency_key_reused")}
    assert [len(await given(admin_pool, review)) for review in (first, second)] == [1, 0]


async def test_each_of_many_decisions_is_answered_as_if_it_were_alone(
    settings: Settings, keys: Keys, admin_pool: Pool
) -> None:
    async with GatewayApp.opened(settings) as gateway:
        api = Api(gateway, keys)
        ops, key = api.as_("operator"), uuid.uuid4().hex
        sound, own, stale, rejected = [await waiting(api, admin_pool) for _ in range(4)]
        await admin_pool.execute("update zentra.reviews set created_by = 'operator' where id = $1", own)
        foreign = await waiting(api.as_("developer", "globex"), admin_pool)
        items = [
            {"id": sound, "verdict": "approved", **REASON, "request_hash": await hash_of(ops, sound)},
            {"id": own, "verdict": "approved", **REASON, "request_hash": "0" * 64},
            {"id": stale, "verdict": "approved", **REASON, "request_hash": "0" * 64},
            {"id": rejected, "verdict": "rejected", **REASON},
            {"id": foreign, "verdict": "rejected", **REASON},
            {"id": "no-such-review", "verdict": "rejected", **REASON},
        ]
        first = await ops.post("/reviews/decisions", {"items": items}, key=key, prefer="wait=0")
        assert [one["id"] for one in first.json["results"]] == [item["id"] for item in items]
        assert [one["status"] for one in first.json["results"]] == [202, 403, 409, 202, 404, 404]
        assert [one["body"].get("code") for one in first.json["results"]] == [
            None, "self_approval", "review_changed", None, "not_found", "not_found",
        ]  # fmt: skip
        again = await ops.post("/reviews/decisions", {"items": items}, key=key, prefer="wait=0")
        commands = [one["body"].get("command") for one in first.json["results"]]
        assert [one["body"].get("command") for one in again.json["results"]] == commands
        assert [len(await given(admin_pool, review)) for review in (sound, own, stale, rejected)] == [1, 0, 0, 1]
    kept = await admin_pool.fetch(
        "select reason, sum(count)::int from zentra.denials where actor = 'operator' and tenant = 'acme'"
        " and action = 'POST /reviews/decisions' group by 1 order by 1"
    )
    assert [tuple(row) for row in kept] == [("not_found", 4), ("self_approval", 2)], "a gateway keeps them as it ends"


async def test_a_review_that_stands_twice_among_many_is_decided_once(api: Api, admin_pool: Pool) -> None:
    review = await waiting(api, admin_pool)
    item = {"id": review, "verdict": "rejected", **REASON}
    answer = await api.as_("operator").post(
        "/reviews/decisions", {"items": [item, item, {**item, "reason": "another"}]}, prefer="wait=0"
    )
    statuses = [one["status"] for one in answer.json["results"]]
    assert sorted(statuses) in ([202, 202, 422], [202, 422, 422])
    assert len(await given(admin_pool, review)) == 1


# fmt: off
MALFORMED: list[tuple[Any, dict[str, str]]] = [
    ([],                                                   {"/items": "field_type"}),
    ([{"id": "a", "verdict": "rejected", **REASON}] * 101, {"/items": "field_type"}),
    ([{"id": "a", "verdict": "maybe", **REASON}],          {"/items/0/verdict": "verdict_unknown"}),
    ([{"id": "a", "verdict": "rejected", **REASON}, {}],   {"/items/1/id": "field_missing",
                                                            "/items/1/verdict": "field_missing",
                                                            "/items/1/reason": "field_missing"}),
]
# fmt: on


@pytest.mark.parametrize(("items", "errors"), MALFORMED)
async def test_many_decisions_are_read_before_the_first_is_made(api: Api, items: Any, errors: dict[str, str]) -> None:
    answer = await api.as_("operator").post("/reviews/decisions", {"items": items})
    assert {error["pointer"]: error["code"] for error in answer.json["errors"]} == errors


# Claiming -------------------------------------------------------------------------------------------------------------


async def test_a_claim_takes_what_comes_first_and_its_replay_the_same(api: Api, admin_pool: Pool) -> None:
    await admin_pool.execute("delete from zentra.reviews where tenant = 'globex'")
    dev, ops = api.as_("developer", "globex"), api.as_("operator", "globex")
    nothing = await ops.post("/reviews/claim", {})
    assert (nothing.status, nothing.code) == (409, "nothing_to_claim")
    hour = timedelta(hours=1)
    by_age = await waiting(dev, admin_pool, opened_at=NOW - 2 * hour, due_at=NOW + 3 * hour)
    by_due = await waiting(dev, admin_pool, opened_at=NOW - hour, due_at=NOW + hour)
    by_amount = await waiting(dev, admin_pool, amount=900_000)
    await waiting(ops, admin_pool, opened_at=NOW - 9 * hour, due_at=NOW, amount=9_000_000)  # the claimer's own
    await waiting(dev, admin_pool, opened_at=NOW - 9 * hour, due_at=NOW, assigned_to="admin")
    for order, first in (("age", by_age), ("due", by_due), ("amount", by_amount), (None, by_due)):
        key = uuid.uuid4().hex
        body = {} if order is None else {"order": order}
        claimed = await ops.post("/reviews/claim", body, key=key, prefer="wait=0")
        assert (claimed.json["review"], claimed.json["assigned_to"]) == (first, "operator"), order
        await admin_pool.execute("update zentra.reviews set assigned_to = 'admin' where id = $1", first)
        again = await ops.post("/reviews/claim", body, key=key, prefer="wait=0")
        assert again.body == claimed.body, "although it is somebody's by now"
        await admin_pool.execute("update zentra.reviews set assigned_to = null where id = $1", first)
    assert (await given(admin_pool, by_age))[0] == {"round": 1, "to": "operator", "unassigned": True}


async def test_me_is_whoever_asks(api: Api, admin_pool: Pool) -> None:
    review = await waiting(api, admin_pool)
    taken = await api.as_("operator").post(f"/reviews/{review}/assign", {"assignee": "me"}, prefer="wait=0")
    given_back = await api.as_("operator").post(f"/reviews/{review}/assign", {"assignee": None}, prefer="wait=0")
    assert (taken.json["assigned_to"], given_back.json["assigned_to"]) == ("operator", None)
