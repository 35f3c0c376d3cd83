"""What is told of deliveries one by one, what a recovery is asked for, and how health is counted."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.gateway.http.conftest import Api, intent_body
from tests.gateway.http.test_enumeration import webhook_of
from zentra.storage.pool import Pool

SINCE = "2026-01-01T00:00:00Z"


async def endpoint_of(api: Api) -> str:
    answer = await api.post("/webhooks/endpoints", {"url": "https://example.com/hook", "events": ["*"]})
    assert answer.status == 201
    return str(answer.json["id"])


async def delivery_to(
    pool: Pool, endpoint: str, intent: dict[str, Any], status: str | None, *, age: float = 120.0,
    trigger: str = "automatic", attempts: tuple[tuple[str, int | None], ...] = (), tenant: str = "acme",
) -> str:  # fmt: skip
    """Store a delivery that stands so; `attempts` are (trigger, status code), an answer of None being a timeout."""
    id, made = uuid.uuid4().hex, datetime.now(UTC) - timedelta(seconds=age)
    await pool.execute(
        "insert into zentra.deliveries values ($1, $2, $3, $4, 1, 'ledger.posted', $5, $6)",
        id, tenant, endpoint, intent["id"], webhook_of(intent), made,
    )  # fmt: skip
    if status is not None:
        await pool.execute(
            "insert into zentra.delivery_states (delivery, tenant, endpoint, status, attempts, tries, trigger, next_at,"
            " updated_at, actor) values ($1, $2, $3, $4, $5, 1, $6, null, now(), $7)",
            id, tenant, endpoint, status, len(attempts) or 1, trigger, "" if trigger == "automatic" else "ops",
        )  # fmt: skip
    for number, (started_by, code) in enumerate(attempts, 1):
        await pool.execute(
            "insert into zentra.delivery_attempts (delivery, number, tenant, trigger, at, status_code, error,"
            " latency_ms, excerpt, actor, request_headers, next_at) values ($1, $2, $3, $4, $5, $6, $7, 5, $8, $9,"
            " $10, $11)",
            id, number, tenant, started_by, made, code, None if code else "timeout", "said" if code else "",
            "" if started_by == "automatic" else "ops", '{"webhook-id":"msg_x","webhook-signature":"v1,abc"}',
            None if code == 200 else made + timedelta(seconds=5),
        )  # fmt: skip
    return id


async def test_an_attempt_is_shown_with_all_that_was_sent_and_came_back(api: Api, admin_pool: Pool) -> None:
    intent = (await api.post("/runtime/intents", intent_body())).json
    attempts = (("automatic", 503), ("automatic", None), ("manual", 200))
    endpoint = await endpoint_of(api)
    id = await delivery_to(admin_pool, endpoint, intent, "delivered", trigger="manual", attempts=attempts)
    shown = (await api.get(f"/webhooks/deliveries/{id}")).json
    assert (shown["webhook_id"], shown["status"], len(shown["attempts"])) == (f"msg_{id}", "delivered", 3)
    assert [(one["trigger"], one["actor"]) for one in shown["attempts"]][2] == ("manual", "ops")
    first = (await api.get(f"/webhooks/deliveries/{id}/attempts?limit=2")).json
    rest = (await api.get(f"/webhooks/deliveries/{id}/attempts?limit=2&cursor={first['next_cursor']}")).json
    rows = [*first["data"], *rest["data"]]
    assert [(row["number"], row["status_code"], row["error"]) for row in rows] == [
        (3, 200, None), (2, None, "timeout"), (1, 503, None),
    ]  # fmt: skip
    assert rows[0]["request_headers"] == {"webhook-id": "msg_x", "webhook-signature": "v1,abc"}
    assert (rows[2]["response_body"], rows[2]["next_at"] is None, rows[0]["next_at"]) == ("said", False, None)
    assert rest["has_more"] is False


async def test_a_recovery_is_asked_for_once_per_key(api: Api, admin_pool: Pool) -> None:
    operator, endpoint = api.as_("operator"), await endpoint_of(api)
    path, key = f"/webhooks/endpoints/{endpoint}/recover", uuid.uuid4().hex
    first = await operator.post(path, {"since": SINCE}, key=key, prefer="wait=0")
    again = await operator.post(path, {"since": SINCE}, key=key, prefer="wait=0")
    other = await operator.post(path, {"since": SINCE, "which": "any"}, key=key, prefer="wait=0")
    assert (first.status, again.status, other.code) == (202, 202, "idempotency_key_reused")
    assert first.json["recovery"] == again.json["recovery"] == first.json["command"]
    row = await admin_pool.fetchrow("select * from zentra.commands where id = $1", first.json["command"])
    assert row is not None
    assert (row["kind"], row["subject"], row["principal"]) == ("recover_deliveries", endpoint, "operator")
    assert msgspec.json.decode(row["body"])["which"] == "undelivered"
    assert first.json["links"]["subject"] == f"/webhooks/recoveries/{first.json['recovery']}"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/since", "field_missing"),
        ({"since": "yesterday"}, "/since", "time_malformed"),
        ({"since": "2026-01-01T00:00:00"}, "/since", "time_malformed"),
        ({"since": 5}, "/since", "time_malformed"),
        ({"since": SINCE, "which": "all"}, "/which", "which_unknown"),
        ({"since": SINCE, "events": []}, "/events", "field_type"),
        ({"since": SINCE, "events": ["Ledger"]}, "/events/0", "event_filter_malformed"),
        ({"since": SINCE, "dry_run": "yes"}, "/dry_run", "field_type"),
        ({"since": SINCE, "endpoint": "x"}, "/endpoint", "field_unknown"),
    ],
)
async def test_what_is_no_recovery_is_named(api: Api, body: dict[str, Any], pointer: str, code: str) -> None:
    answer = await api.as_("operator").post(f"/webhooks/endpoints/{await endpoint_of(api)}/recover", body)
    assert answer.status == 422
    assert {error["pointer"]: error["code"] for error in answer.json["errors"]} == {pointer: code}


async def test_recoveries_are_their_tenants_and_take_a_role(api: Api, admin_pool: Pool) -> None:
    endpoint, id = await endpoint_of(api), uuid.uuid4().hex
    await admin_pool.execute(
        "insert into zentra.recoveries values ($1, 'acme', $2, 'any', now(), now(), '{}', 'ops', false, 'running',"
        " 'deliveries', '', 7, 5, 0, 2, now(), now())",
        id, endpoint,
    )  # fmt: skip
    shown = (await api.get(f"/webhooks/recoveries/{id}")).json
    assert (shown["found"], shown["replayed"], shown["skipped"], shown["created_by"]) == (7, 5, 2, "ops")
    listed = (await api.get(f"/webhooks/recoveries?endpoint={endpoint}&status=running")).json["data"]
    assert [one["id"] for one in listed] == [id]
    assert (await api.as_("operator", "globex").get("/webhooks/recoveries")).json["data"] == []
    refused = await api.post(f"/webhooks/endpoints/{endpoint}/recover", {"since": SINCE})
    assert (refused.status, refused.code) == (403, "permission_denied")


# fmt: off
STANDS = [
    # status        age     trigger      attempts                                        due  delivered
    (None,          5.0,    "automatic", (),                                              0,   0),
    (None,          90.0,   "automatic", (),                                              1,   0),
    ("pending",     5.0,    "automatic", (),                                              0,   0),
    ("delivering",  5.0,    "automatic", (),                                              0,   0),
    ("delivered",   5.0,    "automatic", (("automatic", 200),),                           1,   1),
    ("retrying",    5.0,    "automatic", (("automatic", 503),),                           1,   0),
    ("exhausted",   90.0,   "automatic", (("automatic", 503),),                           1,   0),
    ("delivered",   90.0,   "manual",    (("automatic", 503), ("manual", 200)),           1,   0),
    ("delivered",   90.0,   "replay",    (("replay", 200),),                              1,   0),
    ("delivered",   90.0,   "manual",    (("automatic", 200), ("manual", 200)),           1,   1),
    ("retrying",    90.0,   "manual",    (("automatic", 200), ("manual", 503)),           1,   1),
    ("exhausted",   90_000, "automatic", (("automatic", 503),),                           0,   0),
]
# fmt: on


@pytest.mark.parametrize(("status", "age", "trigger", "attempts", "due", "delivered"), STANDS)
async def test_health_is_what_was_delivered_by_the_schedule_of_what_was_due(
    api: Api, admin_pool: Pool, status: str | None, age: float, trigger: str, attempts: Any, due: int, delivered: int
) -> None:
    intent = (await api.post("/runtime/intents", intent_body())).json
    endpoint = await endpoint_of(api)
    await delivery_to(admin_pool, endpoint, intent, status, age=age, trigger=trigger, attempts=attempts)
    answer = (await api.get("/webhooks/health")).json
    row = next(one for one in answer["endpoints"] if one["endpoint"] == endpoint)
    assert (row["due"], row["delivered"], row["complete"]) == (due, delivered, True)
    assert row["health"] == (delivered / due if due else None)
    assert answer["due"] >= due
    assert (await api.as_("operator", "globex").get("/webhooks/health")).json["due"] == 0


async def test_health_counts_the_newest_where_there_are_too_many(
    api: Api, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zentra.storage.reads.deliveries.COUNTED_MAX", 0)
    monkeypatch.setattr("zentra.storage.reads.deliveries.COUNTED_MIN", 2)
    intent = (await api.post("/runtime/intents", intent_body())).json
    endpoint = await endpoint_of(api)
    for age, status in ((300.0, "exhausted"), (200.0, "delivered"), (100.0, "delivered")):
        await delivery_to(admin_pool, endpoint, intent, status, age=age, attempts=(("automatic", 200),))
    row = next(one for one in (await api.get("/webhooks/health")).json["endpoints"] if one["endpoint"] == endpoint)
    assert (row["due"], row["health"], row["complete"]) == (2, 1.0, False)
    assert datetime.fromisoformat(row["counted_from"]) > datetime.now(UTC) - timedelta(seconds=250)


@pytest.mark.parametrize("sequence", ["1", "0", "2", "x", "-1", "9999999999", "1.0"])
async def test_a_body_is_that_of_an_event_that_endpoints_hear_of(api: Api, sequence: str) -> None:
    """There is no worker: the intent has its first record, which no endpoint hears of."""
    intent = (await api.post("/runtime/intents", intent_body())).json
    answer = await api.get(f"/runtime/intents/{intent['id']}/webhooks/{sequence}")
    assert (answer.status, answer.code) == (404, "not_found")
