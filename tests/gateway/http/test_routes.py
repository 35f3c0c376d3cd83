"""The doors to a tenant's routes: a life in states, four eyes, keys; why an intent went by a rail; how rails do."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.gateway.http.conftest import Api, Keys, intent_body
from zentra.gateway.http.server import GatewayApp
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import advance, restore
from zentra.runtime.intents.vocabulary import Fact
from zentra.runtime.ports import RailCounts
from zentra.runtime.rails.health import Counts
from zentra.runtime.rails.operating import Maintenance
from zentra.storage.engine.store import PostgresStore
from zentra.storage.operations import drain_rail, set_maintenance
from zentra.storage.pool import Pool

CORRIDOR = {"name": "ng", "currency": "NGN", "kind": "transfer", "rails": [{"rail": "sandbox_a", "cost_minor": 10}]}
SOUND = {"document": {"corridors": [CORRIDOR]}, "note": "the first"}
BROKEN = {"document": {"corridors": [{**CORRIDOR, "currency": "NGX", "rails": [{"rail": "sandbox_a", "weight": -1}]}]}}


@pytest.fixture
def author(gateway: GatewayApp, keys: Keys) -> Api:
    return Api(gateway, keys, principal="operator")


@pytest.fixture
def other(gateway: GatewayApp, keys: Keys) -> Api:
    return Api(gateway, keys, principal="admin")


async def drafted(api: Api, body: Any = SOUND) -> int:
    answer = await api.post("/routes", body)
    assert answer.status == 201, answer.json
    return int(answer.json["version"])


async def in_force(author: Api, other: Api, body: Any = SOUND) -> int:
    version = await drafted(author, body)
    assert (await author.post(f"/routes/{version}/validate")).status == 200
    assert (await other.post(f"/routes/{version}/promote")).json["state"] == "active"
    return version


async def test_a_version_goes_from_draft_to_force_and_back_and_every_step_is_kept(author: Api, other: Api) -> None:
    first, second = await in_force(author, other), await in_force(author, other)
    states = {row["version"]: row["state"] for row in (await author.get("/routes")).json["data"]}
    assert (states[first], states[second]) == ("retired", "active")
    back = await other.post(f"/routes/{first}/rollback")
    assert (back.status, back.json["state"]) == (200, "active")
    shown = (await author.get(f"/routes/{first}")).json
    assert [(event["action"], event["principal"]) for event in shown["events"]] == [
        ("rolled_back", "admin"), ("retired", "admin"), ("promoted", "admin"), ("validated", "operator"),
        ("drafted", "operator"),
    ]  # fmt: skip
    assert shown["document"] == SOUND["document"]


async def test_nobody_promotes_their_own_and_only_in_order(author: Api, other: Api) -> None:
    version = await drafted(author)
    assert (await other.post(f"/routes/{version}/promote")).json["code"] == "policy_state_conflict"
    await author.post(f"/routes/{version}/validate")
    answer = await author.post(f"/routes/{version}/promote")
    assert (answer.status, answer.json["code"]) == (403, "self_promotion")


async def test_a_broken_draft_is_kept_and_says_what_is_wrong(author: Api) -> None:
    answer = await author.post("/routes", BROKEN)
    wrong = [("/corridors/0/currency", "currency_unknown"), ("/corridors/0/rails/0/weight", "route_malformed")]
    assert [(one["pointer"], one["code"]) for one in answer.json["violations"]] == wrong
    refused = await author.post(f"/routes/{answer.json['version']}/validate")
    assert (refused.status, refused.json["code"]) == (422, "validation_failed")
    assert [(one["pointer"], one["code"]) for one in refused.json["errors"]] == wrong


async def test_a_step_with_its_key_is_done_once_and_answered_alike(author: Api) -> None:
    key = uuid.uuid4().hex
    first, again = [await author.post("/routes", SOUND, key=key) for _ in range(2)]
    assert (first.body, first.headers["location"]) == (again.body, again.headers["location"])
    assert again.headers["idempotent-replayed"] == "true"
    changed = await author.post("/routes", {**SOUND, "note": "another"}, key=key)
    assert (changed.status, changed.json["code"]) == (422, "idempotency_key_reused")


async def test_versions_come_by_pages_without_their_documents(author: Api) -> None:
    latest = [await drafted(author) for _ in range(3)][-1]
    first = (await author.get("/routes?limit=2")).json
    assert ([row["version"] for row in first["data"]], first["has_more"]) == ([latest, latest - 1], True)
    second = (await author.get(f"/routes?limit=2&cursor={first['next_cursor']}")).json
    assert second["data"][0]["version"] == latest - 2


@pytest.mark.parametrize("target", ["/routes/x", "/routes/0", "/routes/999999", "/runtime/intents/nobody/route"])
async def test_what_is_not_there_is_not_found(author: Api, target: str) -> None:
    assert (await author.get(target)).json["code"] == "not_found"


@pytest.mark.parametrize(
    ("principal", "reads"), [("developer", True), ("support", True), ("auditor", True), ("finance", False)]
)
async def test_who_may_look_and_who_may_not_write(gateway: GatewayApp, keys: Keys, principal: str, reads: bool) -> None:
    api = Api(gateway, keys, principal=principal)
    for target in ("/routes", "/rails"):
        assert (await api.get(target)).status == (200 if reads else 403)
    assert (await api.post("/routes", SOUND)).json["code"] == "permission_denied"


async def test_the_way_of_an_intent_is_explained_by_its_records_and_their_version(
    author: Api, other: Api, admin_pool: Pool
) -> None:
    version = await in_force(author, other)
    made = (await author.post("/runtime/intents", intent_body())).json
    nothing = (await author.get(f"/runtime/intents/{made['id']}/route")).json
    assert (nothing["decisions"], nothing["attempts"], nothing["ended"]) == ([], [], None)
    rows = await admin_pool.fetch("select record, hash from zentra.transitions where intent = $1", made["id"])
    tx = restore([(row[0], row[1]) for row in rows])
    weighed = (f.Weighed("sandbox_a", "chosen", 1, 1, "10"),)
    routed = f.Routed(
        "ng", "sandbox_a", 1, f"{tx.id}01", "2026-04-01T00:00:00.000000Z", {"sandbox_a": "chosen"}, "first rail",
        version, weighed,
    )  # fmt: skip
    steps: list[tuple[Fact, f.Facts]] = [
        (Fact.POLICY_ACCEPTED, f.Judged("accepted", 0, "0" * 64, "none", {})), (Fact.RESERVED, f.Booked(())),
        (Fact.ROUTED, routed),
    ]  # fmt: skip
    for fact, facts in steps:
        t = advance(tx, fact, facts, actor="svc_routes", now=datetime.now(UTC), cause="test")
        await admin_pool.execute(
            "insert into zentra.transitions (intent, sequence, tenant, at, state, event, record, hash)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8)",
            t.intent, t.sequence, t.tenant, t.at, t.state, t.event, t.record, t.hash,
        )  # fmt: skip
    for name in (made["id"], made["intent_id"]):
        shown = (await author.get(f"/runtime/intents/{name}/route")).json
        (decision,) = shown["decisions"]
        assert (decision["version"], decision["rail"], decision["same"]) == (version, "sandbox_a", True)
        assert (decision["rails"][0]["word"], decision["rails"][0]["cost"]) == ("chosen", "10")
        assert [(one["rail"], one["outcome"]) for one in shown["attempts"]] == [("sandbox_a", "started")]
    assert (await author.as_("operator", "globex").get(f"/runtime/intents/{made['id']}/route")).status == 404


async def test_rails_are_shown_as_they_do_and_only_where_corridors_lead(
    author: Api, other: Api, admin_pool: Pool, writer_pool: Pool
) -> None:
    await in_force(author, other)
    (quiet,) = (await author.get("/rails")).json["data"]
    assert (quiet["name"], quiet["circuit"], quiet["bad_percent"], quiet["resting"]) == (
        "sandbox_a", "closed", None, None
    )  # fmt: skip
    store, now = PostgresStore(writer_pool), datetime.now(UTC)
    for name, circuit in (("w1", "open"), ("w2", "half_open")):
        await store.claim(name, 10)
        await store.exchange_health(name, [RailCounts(name, "sandbox_a", Counts(10, 4, 1, 2.5), circuit, 2)], 10)
    await drain_rail(admin_pool, "sandbox_a", draining=True, reason="moved", by="ada")
    await set_maintenance(admin_pool, "sandbox_a", Maintenance(now, now + timedelta(hours=1)), by="ada")
    try:
        (shown,) = (await author.get("/rails")).json["data"]
        assert (shown["circuit"], shown["workers"]) == ("open", {"closed": 0, "open": 1, "half_open": 1})
        assert (shown["bad_percent"], shown["latency_ms"], shown["waiting"]) == (50.0, 250.0, 4)
        assert (shown["resting"], shown["reason"], len(shown["maintenance"])) == ("draining", "moved", 1)
        assert "secret" not in msgspec.json.encode(shown).decode()
        assert (await author.as_("admin", "globex").get("/rails")).json["data"] == []
    finally:
        await drain_rail(admin_pool, "sandbox_a", draining=False, reason="", by="ada")
