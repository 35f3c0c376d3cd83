"""Approvals of what is no intent: asked for by one person, decided by another, carried out in one transaction."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec
import pytest

from tests.gateway.http.conftest import Api, intent_body
from tests.gateway.http.test_accounts import funded
from zentra.runtime.messages import CommandGiven, decode_frame
from zentra.storage.intake import approvals as intake
from zentra.storage.pool import Pool
from zentra.storage.reads.approvals import is_approved

REASON = {"reason": "looked at"}


async def account(api: Api) -> str:
    name = f"account-{uuid.uuid4().hex}"
    body = {"account_id": name, "owner": "o", "type": "customer", "currency": "NGN"}
    assert (await api.post("/accounts", body)).status == 201
    return name


async def asked(api: Api, kind: str = "configuration", subject: str = "limits", **request: Any) -> Any:
    """Ask for an approval; return it as it is shown."""
    body = {"kind": kind, "subject": subject, "request": request or {"a": "1"}, "reason": "why not"}
    made = await api.post("/approvals", body)
    assert made.status == 201, made.body
    shown = (await api.get(f"/approvals/{made.json['id']}")).json
    assert shown["request_hash"] == made.json["request_hash"]
    return shown


def yes(shown: Any) -> dict[str, str]:
    return {**REASON, "request_hash": shown["request_hash"]}


async def limit_of(pool: Pool, name: str) -> int:
    return int(await pool.fetchval("select overdraft_limit from zentra.accounts where account_id = $1", name))


async def commands_of(pool: Pool, subject: str) -> list[CommandGiven]:
    rows = await pool.fetch("select body from zentra.outbox where subject like 'zc.%.command'")
    events = [event for row in rows for event in decode_frame(row[0]) if isinstance(event, CommandGiven)]
    return [event for event in events if event.subject == subject]


# Who, which verdict, what is changed of a sound body, and the first objection.
# fmt: off
OBJECTIONS: list[tuple[str, str, str, dict[str, Any], int, str]] = [
    ("whoever asked",        "developer", "approve", {},                         403, "permission_denied"),
    ("the operator's own",   "operator",  "approve", {},                         403, "self_approval"),
    ("without having seen",  "admin",     "approve", {"request_hash": ...},      428, "request_hash_missing"),
    ("having seen another",  "admin",     "approve", {"request_hash": "0" * 64}, 409, "approval_changed"),
    ("rejecting another",    "admin",     "reject",  {"request_hash": "0" * 64}, 409, "approval_changed"),
    ("cancelling another's", "admin",     "cancel",  {"request_hash": ...},      403, "permission_denied"),
]
# fmt: on


@pytest.mark.parametrize(
    ("who", "word", "changes", "status", "code"), [row[1:] for row in OBJECTIONS], ids=[row[0] for row in OBJECTIONS]
)
async def test_the_first_objection_is_the_answer_and_changes_nothing(
    api: Api, admin_pool: Pool, who: str, word: str, changes: dict[str, Any], status: int, code: str
) -> None:
    shown = await asked(api.as_("operator"), "account_limit", await account(api), overdraft_limit=100)
    body = {name: value for name, value in (yes(shown) | changes).items() if value is not ...}
    answer = await api.as_(who).post(f"/approvals/{shown['id']}/{word}", body)
    assert (answer.status, answer.code) == (status, code)
    assert (await api.get(f"/approvals/{shown['id']}")).json["status"] == "open"
    assert await limit_of(admin_pool, shown["subject"]) == 0


async def test_a_limit_is_raised_with_its_approval(api: Api, admin_pool: Pool) -> None:
    name, key = await account(api), uuid.uuid4().hex
    shown = await asked(api, "account_limit", name, overdraft_limit="250000")
    assert (shown["created_by"], shown["status"], shown["request"]) == (
        "developer", "open", {"overdraft_limit": "250000"},
    )  # fmt: skip
    version = await admin_pool.fetchval("select version from zentra.configuration_version")
    target = f"/approvals/{shown['id']}/approve"
    first = await api.as_("operator").post(target, yes(shown), key=key)
    again = await api.as_("operator").post(target, yes(shown), key=key)
    assert (first.status, first.json["status"], again.body) == (200, "approved", first.body)
    assert again.headers["idempotent-replayed"] == "true"
    assert await limit_of(admin_pool, name) == 250_000
    assert await admin_pool.fetchval("select version from zentra.configuration_version") > version, "workers know of it"
    decided = (await api.get(f"/approvals/{shown['id']}")).json
    assert (decided["decided_by"], decided["decision"]) == ("operator", "looked at")
    late = await api.as_("admin").post(f"/approvals/{shown['id']}/reject", REASON)
    assert (late.status, late.code) == (409, "approval_not_open")


async def test_a_limit_below_what_is_used_is_not_approved(api: Api, admin_pool: Pool) -> None:
    name, operator = await account(api), api.as_("operator")
    await admin_pool.execute(
        "update zentra.accounts set overdraft_limit = 500 where tenant = 'acme' and account_id = $1", name
    )
    await funded(admin_pool, name, debits_posted=300, debits_pending=100)
    low = await asked(api, "account_limit", name, overdraft_limit="399")
    refused = await operator.post(f"/approvals/{low['id']}/approve", yes(low))
    assert (refused.status, refused.code) == (409, "limit_below_use")
    assert "400 or more" in refused.json["detail"]
    assert ((await api.get(f"/approvals/{low['id']}")).json["status"], await limit_of(admin_pool, name)) == (
        "open",
        500,
    )
    enough = await asked(api, "account_limit", name, overdraft_limit="400")
    assert (await operator.post(f"/approvals/{enough['id']}/approve", yes(enough))).status == 200
    (change,) = (await api.get(f"/accounts/{name}/changes")).json["data"]
    assert (change["change"], change["actor"], change["after"]) == ("limit", "developer", {"overdraft_limit": "400"})
    assert enough["id"] in change["reason"]


async def test_the_runtimes_own_accounts_have_no_limit_to_approve(api: Api, admin_pool: Pool) -> None:
    body = {"kind": "account_limit", "subject": "settlement-ngn", "request": {"overdraft_limit": 1}, "reason": "x"}
    assert (await api.post("/approvals", body)).code == "account_is_system"
    shown = await asked(api, "account_limit", await account(api), overdraft_limit=1)
    await admin_pool.execute(
        "update zentra.approvals set subject = 'settlement-ngn' where id = $1", shown["id"]
    )  # one from before
    assert (await api.as_("operator").post(f"/approvals/{shown['id']}/approve", yes(shown))).status == 409


async def test_of_two_who_decide_one_does(api: Api) -> None:
    shown = await asked(api)
    works = [
        api.as_(who).post(f"/approvals/{shown['id']}/{word}", yes(shown))
        for who, word in (("operator", "approve"), ("admin", "reject"))
    ]
    assert sorted(answer.status for answer in await asyncio.gather(*works)) == [200, 409]


async def test_what_cannot_be_carried_out_is_not_approved(api: Api, admin_pool: Pool) -> None:
    shown = await asked(api, "account_limit", await account(api), overdraft_limit="5")
    await admin_pool.execute("update zentra.accounts set status = 'closed' where account_id = $1", shown["subject"])
    answer = await api.as_("operator").post(f"/approvals/{shown['id']}/approve", yes(shown))
    assert (answer.status, answer.code) == (422, "account_closed")
    assert (await api.get(f"/approvals/{shown['id']}")).json["status"] == "open"


@pytest.mark.parametrize("change", ["role = 'support'", "disabled_at = now()"])
async def test_who_decides_is_looked_at_when_it_is_decided(api: Api, admin_pool: Pool, change: str) -> None:
    """The key is believed for seconds; the transaction that approves believes nobody."""
    shown, admin = await asked(api), api.as_("admin")
    assert (await admin.get("/approvals")).status == 200
    before = "update zentra.principals set role = 'admin', disabled_at = null where tenant = 'acme' and id = 'admin'"
    try:
        await admin_pool.execute(f"update zentra.principals set {change} where tenant = 'acme' and id = 'admin'")
        answer = await admin.post(f"/approvals/{shown['id']}/approve", yes(shown))
    finally:
        await admin_pool.execute(before)
    assert (answer.status, answer.code) == (403, "permission_denied")
    assert (await api.get(f"/approvals/{shown['id']}")).json["status"] == "open"


async def test_who_asked_takes_it_back(api: Api) -> None:
    shown = await asked(api)
    assert (await api.post(f"/approvals/{shown['id']}/cancel", REASON)).json["status"] == "cancelled"
    late = await api.as_("operator").post(f"/approvals/{shown['id']}/approve", yes(shown))
    assert late.code == "approval_not_open"


async def test_what_has_run_out_is_expired_at_once(api: Api, admin_pool: Pool) -> None:
    shown = await asked(api)
    await admin_pool.execute("update zentra.approvals set expires_at = now() where id = $1", shown["id"])
    assert (await api.get(f"/approvals/{shown['id']}")).json["status"] == "expired"
    listed = (await api.get("/approvals?status=expired&limit=100")).json["data"]
    assert shown["id"] in [one["id"] for one in listed]
    late = await api.as_("operator").post(f"/approvals/{shown['id']}/approve", yes(shown))
    assert late.code == "approval_not_open"


async def test_a_configuration_is_approved_as_exactly_what_was_asked(api: Api, tenant_pool: Pool) -> None:
    shown = await asked(api, "configuration", "policy-7", digest="0a" * 32)
    assert not await is_approved(tenant_pool, "acme", shown["id"], shown["request_hash"])
    await api.as_("operator").post(f"/approvals/{shown['id']}/approve", yes(shown))
    assert await is_approved(tenant_pool, "acme", shown["id"], shown["request_hash"])
    assert not await is_approved(tenant_pool, "acme", shown["id"], "0" * 64)
    assert not await is_approved(tenant_pool, "globex", shown["id"], shown["request_hash"])


# fmt: off
MALFORMED: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"kind": "forced_reversal"},                     {"/kind": "kind_unknown"}),
    ({"request": []},                                 {"/request": "field_type"}),
    ({"request": {}, "kind": "account_limit"},        {"/request/overdraft_limit": "amount_invalid"}),
    ({"request": {"overdraft_limit": -1}, "kind": "account_limit"}, {"/request/overdraft_limit": "amount_negative"}),
    ({"request": {"overdraft_limit": 1, "more": 1}, "kind": "account_limit"}, {"/request/more": "field_unknown"}),
]
# fmt: on


@pytest.mark.parametrize(("changes", "errors"), MALFORMED)
async def test_what_is_asked_for_is_read_first(api: Api, changes: dict[str, Any], errors: dict[str, str]) -> None:
    body = {"kind": "configuration", "subject": "x", "request": {"a": 1}, "reason": "x"} | changes
    answer = await api.post("/approvals", body)
    assert {error["pointer"]: error["code"] for error in answer.json["errors"]} == errors


async def test_a_limit_is_of_an_account_that_there_is(api: Api) -> None:
    body = {"kind": "account_limit", "subject": "nobody", "request": {"overdraft_limit": 1}, "reason": "x"}
    answer = await api.post("/approvals", body)
    assert (answer.status, answer.code) == (404, "not_found")


# Forced reversals -----------------------------------------------------------------------------------------------------


async def forced(api: Api, key: str = "") -> tuple[Any, Any]:
    """Ask for a forced reversal; return the intent and the answer."""
    made = (await api.post("/runtime/intents", intent_body())).json
    body = {"amount": "50", "force": True, "reason": "paid twice"}
    answer = await api.post(f"/runtime/intents/{made['id']}/reversals", body, key=key or uuid.uuid4().hex)
    assert answer.status == 202, answer.body
    return made, answer


async def test_a_forced_reversal_waits_and_is_given_with_its_approval(api: Api, admin_pool: Pool) -> None:
    made, waits = await forced(api)
    command = waits.json["command"]
    assert (waits.json["status"], waits.json["approval"]) == ("awaiting_approval", command)
    assert await commands_of(admin_pool, made["id"]) == []
    assert (await api.get(f"/runtime/commands/{command}")).status == 404
    shown = (await api.get(f"/approvals/{command}")).json
    assert (shown["kind"], shown["subject"], shown["request"]["amount"]) == ("forced_reversal", made["id"], "50")
    key, target = uuid.uuid4().hex, f"/approvals/{command}/approve"
    first = await api.as_("operator").post(target, yes(shown), key=key, prefer="wait=0")
    again = await api.as_("operator").post(target, yes(shown), key=key, prefer="wait=0")
    late = await api.as_("admin").post(target, yes(shown), prefer="wait=0")
    assert (first.status, first.json["command"], again.body) == (202, command, first.body)
    assert (late.status, late.code) == (409, "approval_not_open")
    [given] = await commands_of(admin_pool, made["id"])
    assert (given.command, given.kind, given.principal, given.role) == (command, "reverse", "developer", "developer")
    body = msgspec.json.decode(given.body)
    assert (body["force"], body["approved_by"], body["approval"], body["amount"]) == (True, "operator", command, "50")


async def test_a_forced_reversal_is_asked_for_once(api: Api, admin_pool: Pool) -> None:
    made = (await api.post("/runtime/intents", intent_body())).json
    target, key = f"/runtime/intents/{made['id']}/reversals", uuid.uuid4().hex
    body = {"force": True, "reason": "paid twice"}
    first, again = [await api.post(target, body, key=key) for _ in range(2)]
    assert (first.body, again.headers["idempotent-replayed"]) == (again.body, "true")
    assert (await api.post(target, {"reason": "paid twice"}, key=key)).code == "idempotency_key_reused"
    count = "select count(*) from zentra.approvals where subject = $1"
    assert await admin_pool.fetchval(count, made["id"]) == 1


@pytest.mark.parametrize("place", ["after the approval", "before the commit"])
async def test_an_approval_and_its_command_are_committed_together_or_not_at_all(
    api: Api, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """What dies on the way leaves neither: the second try finds the approval open and gives the command once."""
    made, waits = await forced(api)
    shown = (await api.get(f"/approvals/{waits.json['approval']}")).json
    target, key = f"/approvals/{shown['id']}/approve", uuid.uuid4().hex

    async def dies(*_: Any) -> None:
        raise ConnectionResetError("killed")

    from zentra.storage.intake import commands

    with monkeypatch.context() as patched:
        if place == "before the commit":
            patched.setattr(commands, "write_outbox", dies)
        else:
            patched.setattr(
                commands, "command_frames", lambda *_: (_ for _ in ()).throw(ConnectionResetError("killed"))
            )
        assert (await api.as_("operator").post(target, yes(shown), key=key, prefer="wait=0")).status >= 500
    assert (await api.get(f"/approvals/{shown['id']}")).json["status"] == "open"
    assert await commands_of(admin_pool, made["id"]) == []
    assert (await api.as_("operator").post(target, yes(shown), key=key, prefer="wait=0")).status == 202
    assert len(await commands_of(admin_pool, made["id"])) == 1


def test_kinds_are_those_of_the_table() -> None:
    assert intake.APPROVAL_KINDS == ("forced_reversal", "account_limit", "configuration")
