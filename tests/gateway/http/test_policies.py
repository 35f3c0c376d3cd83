"""The doors to a tenant's policy: a life in states, four eyes, keys, and what is kept of it."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.gateway.http.conftest import Api, Keys, intent_body
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.routes import policies as routes
from zentra.runtime.errors import Unavailable
from zentra.runtime.policy.backtest import BacktestReport
from zentra.storage.administration import Administration
from zentra.storage.engine.store import PostgresStore
from zentra.storage.pool import Pool

RULE = {"name": "large", "when": {"field": "amount", "op": ">=", "value": 5000}, "outcome": "review", "reason": "large"}
SOUND = {"document": {"rules": [RULE]}, "note": "the first"}
BROKEN = {"document": {"rules": [{**RULE, "when": {"field": "amout", "op": ">=", "value": 1}}], "time_zone": "Nowhere"}}


async def drafted(api: Api, body: Any = SOUND) -> int:
    answer = await api.post("/policies", body)
    assert answer.status == 201, answer.json
    return int(answer.json["version"])


async def validated(api: Api) -> int:
    version = await drafted(api)
    assert (await api.post(f"/policies/{version}/validate")).status == 200
    return version


async def test_a_version_goes_from_draft_to_force_and_back_and_every_step_is_kept(
    gateway: GatewayApp, keys: Keys, writer_pool: Pool
) -> None:
    author, other = Api(gateway, keys, principal="operator"), Api(gateway, keys, principal="admin")
    first, second = await validated(author), await validated(author)
    for version in (first, second):
        answer = await other.post(f"/policies/{version}/promote")
        assert (answer.status, answer.json["state"]) == (200, "active")
    states = {row["version"]: row["state"] for row in (await author.get("/policies")).json["data"]}
    assert (states[first], states[second]) == ("retired", "active")
    back = await other.post(f"/policies/{first}/rollback")
    assert (back.status, back.json["state"]) == (200, "active")
    shown = (await author.get(f"/policies/{first}")).json
    assert [(event["action"], event["principal"]) for event in shown["events"]] == [
        ("rolled_back", "admin"), ("retired", "admin"), ("promoted", "admin"), ("validated", "operator"),
        ("drafted", "operator"),
    ]  # fmt: skip
    assert shown["document"] == SOUND["document"]
    rules = (await PostgresStore(writer_pool).configuration()).policies["acme"]
    assert (rules.version, [rule.name for rule in rules.rules], rules.unusable) == (first, ["large"], "")


async def test_nobody_promotes_their_own(gateway: GatewayApp, keys: Keys) -> None:
    author = Api(gateway, keys, principal="operator")
    version = await validated(author)
    answer = await author.post(f"/policies/{version}/promote")
    assert (answer.status, answer.json["code"]) == (403, "self_promotion")


async def test_a_broken_draft_is_kept_and_says_what_is_wrong(gateway: GatewayApp, keys: Keys) -> None:
    author = Api(gateway, keys, principal="operator")
    answer = await author.post("/policies", BROKEN)
    wrong = [("/time_zone", "time_zone_unknown"), ("/rules/0/when/field", "condition_field_unknown")]
    assert answer.status == 201
    assert [(one["pointer"], one["code"]) for one in answer.json["violations"]] == wrong
    refused = await author.post(f"/policies/{answer.json['version']}/validate")
    assert (refused.status, refused.json["code"]) == (422, "validation_failed")
    assert [(one["pointer"], one["code"]) for one in refused.json["errors"]] == wrong


async def test_what_was_wrong_with_a_draft_is_shown_as_it_was_found_then(
    gateway: GatewayApp, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Api(gateway, keys, principal="operator")
    found = (await author.post("/policies", BROKEN)).json

    def never(document: Any) -> Any:
        raise AssertionError("a document is judged again to be shown")

    monkeypatch.setattr("zentra.storage.policies.parse_policy", never)
    shown = (await author.get(f"/policies/{found['version']}")).json
    assert shown["violations"] == found["violations"] != []
    assert shown["events"][0]["detail"] == {"digest": found["digest"]}


async def test_a_name_that_the_installation_does_not_know_keeps_a_draft_from_being_validated(
    gateway: GatewayApp, keys: Keys
) -> None:
    author = Api(gateway, keys, principal="operator")
    body = {"document": {"risk": {"scorer": "mine"}, "compliance": {"lists": ["nobody.loaded.it"]}}}
    wrong = [("/risk/scorer", "scorer_unknown"), ("/compliance/lists/0", "screening_list_unknown")]
    draft = (await author.post("/policies", body)).json
    assert [(one["pointer"], one["code"]) for one in draft["violations"]] == wrong
    refused = await author.post(f"/policies/{draft['version']}/validate")
    assert [(one["pointer"], one["code"]) for one in refused.json["errors"]] == wrong


async def test_versions_come_by_pages_without_their_documents(gateway: GatewayApp, keys: Keys) -> None:
    author = Api(gateway, keys, principal="operator")
    latest = [await drafted(author) for _ in range(3)][-1]
    first = (await author.get("/policies?limit=2")).json
    assert ([row["version"] for row in first["data"]], first["has_more"]) == ([latest, latest - 1], True)
    assert set(first["data"][0]) == {"version", "state", "digest", "note", "created_by", "created_at"}
    second = (await author.get(f"/policies?limit=100&cursor={first['next_cursor']}")).json
    assert second["data"][0]["version"] == latest - 2
    assert (await author.get("/policies?cursor=x")).json["code"] == "cursor_malformed"


# fmt: off
STEPS = [
    # from         step        outcome
    ("draft",      "promote",  "policy_state_conflict"),
    ("draft",      "rollback", "policy_state_conflict"),
    ("validated",  "rollback", "policy_state_conflict"),
    ("active",     "validate", "policy_state_conflict"),
    ("active",     "promote",  "policy_state_conflict"),
    ("active",     "rollback", "policy_state_conflict"),
    ("retired",    "promote",  "policy_state_conflict"),
    ("retired",    "validate", "policy_state_conflict"),
    ("validated",  "validate", ""),
    ("retired",    "rollback", ""),
]
# fmt: on


@pytest.mark.parametrize(("state", "step", "code"), STEPS)
async def test_each_step_leads_on_from_its_own_states(
    gateway: GatewayApp, keys: Keys, state: str, step: str, code: str
) -> None:
    author, other = Api(gateway, keys, principal="operator"), Api(gateway, keys, principal="admin")
    version = await (drafted if state == "draft" else validated)(author)
    if state in ("active", "retired"):
        assert (await other.post(f"/policies/{version}/promote")).status == 200
    if state == "retired":
        assert (await other.post(f"/policies/{await validated(author)}/promote")).status == 200
    answer = await other.post(f"/policies/{version}/{step}")
    assert answer.json.get("code", "") == code


async def test_a_key_does_a_step_once(gateway: GatewayApp, keys: Keys) -> None:
    author, other = Api(gateway, keys, principal="operator"), Api(gateway, keys, principal="admin")
    key = uuid.uuid4().hex
    first, again = await author.post("/policies", SOUND, key=key), await author.post("/policies", SOUND, key=key)
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["idempotent-replayed"] == "true"
    reused = await author.post("/policies", {**SOUND, "note": "another"}, key=key)
    assert (reused.status, reused.json["code"]) == (422, "idempotency_key_reused")
    version, key = await validated(author), uuid.uuid4().hex
    first = await other.post(f"/policies/{version}/promote", key=key)
    again = await other.post(f"/policies/{version}/promote", key=key)
    assert (first.status, again.status, again.body) == (200, 200, first.body)


# fmt: off
MALFORMED: list[tuple[Any, str, str]] = [
    ({},                                            "/document", "field_missing"),
    ({"document": []},                              "/document", "field_type"),
    ({"document": {"x": "a\x00b"}},                 "/document", "text_malformed"),
    ({"document": {f"x{n}": 1 for n in range(4_097)}}, "/document", "policy_too_large"),
    ({"document": {"x": "y" * 70_000}},             "/document", "policy_too_large"),
    ({"document": {}, "more": 1},                   "/more",     "field_unknown"),
]
# fmt: on


@pytest.mark.parametrize(("body", "pointer", "code"), MALFORMED)
async def test_what_is_no_draft_is_not_stored(
    gateway: GatewayApp, keys: Keys, body: Any, pointer: str, code: str
) -> None:
    answer = await Api(gateway, keys, principal="operator").post("/policies", body)
    assert (answer.status, [(one["pointer"], one["code"]) for one in answer.json["errors"]]) == (422, [(pointer, code)])


async def test_a_developer_reads_and_neither_writes_nor_promotes(gateway: GatewayApp, keys: Keys) -> None:
    developer = Api(gateway, keys)
    version = await validated(Api(gateway, keys, principal="operator"))
    assert (await developer.get(f"/policies/{version}")).status == 200
    for target, body in (("/policies", SOUND), (f"/policies/{version}/promote", None)):
        assert (await developer.post(target, body)).json["code"] == "permission_denied"


async def test_a_backtest_changes_nothing_and_so_needs_no_key(gateway: GatewayApp, keys: Keys) -> None:
    author = Api(gateway, keys, principal="operator", tenant="globex")
    version = await drafted(author)
    report = await author.post(f"/policies/{version}/backtest", {"from": "2020-01-01T00:00:00Z", "limit": 10})
    assert (report.status, report.json["decisions"]) == (200, 0)
    shown = (await author.get(f"/policies/{version}")).json
    assert [event["action"] for event in shown["events"]] == ["drafted"]
    bad = await author.post(f"/policies/{version}/backtest", {"limit": 0, "from": "yesterday"})
    assert [one["code"] for one in bad.json["errors"]] == ["limit_malformed", "time_malformed"]


async def test_so_many_backtests_run_at_once_and_others_are_sent_away(
    gateway: GatewayApp, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    author, goes_on, running = Api(gateway, keys, principal="operator"), asyncio.Event(), asyncio.Semaphore(0)
    version = await drafted(author)

    async def slow(*_: Any, **__: Any) -> BacktestReport:
        running.release()
        await goes_on.wait()
        raise Unavailable("the store is away")

    monkeypatch.setattr(routes, "run_backtest", slow)
    first = [asyncio.create_task(author.post(f"/policies/{version}/backtest", {})) for _ in range(routes.BACKTESTS_MAX)]
    for _ in first:
        await running.acquire()
    third = await author.post(f"/policies/{version}/backtest", {})
    assert (third.status, third.json["code"], third.headers["retry-after"]) == (503, "overloaded", "5")
    goes_on.set()
    assert [(await one).status for one in first] == [503, 503]
    monkeypatch.undo()
    assert (await author.post(f"/policies/{version}/backtest", {})).status == 200, (
        "whatever came of it, a place is free"
    )


async def test_an_intent_on_which_nothing_was_decided_has_no_decisions(gateway: GatewayApp, keys: Keys) -> None:
    made = (await Api(gateway, keys).post("/runtime/intents", intent_body())).json
    for given in (made["id"], made["intent_id"]):
        answer = await Api(gateway, keys).get(f"/runtime/intents/{given}/decisions")
        assert (answer.status, answer.json["data"]) == (200, [])


async def test_rules_are_kept_as_they_were_written_whoever_asks(
    gateway: GatewayApp, keys: Keys, admin_pool: Pool
) -> None:
    await validated(Api(gateway, keys, principal="operator"))
    for statement in ("update zentra.policies set rules = '{}'", "delete from zentra.policies"):
        with pytest.raises(Exception, match="is kept as it is"):
            await admin_pool.execute(statement)


async def test_the_owner_of_the_installation_puts_rules_in_force_at_once(
    gateway: GatewayApp, keys: Keys, admin_pool: Pool
) -> None:
    from zentra.runtime.policy import Limits, PolicyRules

    administration = Administration(admin_pool)
    rules = PolicyRules(limits={"NGN": Limits(review_minor_min=uuid.uuid4().int % 10**9)})
    version = await administration.put_policy("acme", rules, created_by="root")
    assert await administration.put_policy("acme", rules, created_by="root") == version
    events = (await Api(gateway, keys, principal="operator").get(f"/policies/{version}")).json["events"]
    assert [(event["action"], event["principal"]) for event in events] == [("installed", "root")]
