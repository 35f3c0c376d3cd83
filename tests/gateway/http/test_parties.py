"""Parties over HTTP: what goes in, who sees what of it, who may decide, and what a case of a match does."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from tests.gateway.http.conftest import Api
from zentra.storage.pool import Pool

BORN = "1961-05-03"


def party_body(**changes: Any) -> dict[str, Any]:
    body = {"party_id": f"p-{uuid.uuid4().hex}", "kind": "person", "legal_name": "Ulrika Denholm"}
    return {name: value for name, value in (body | changes).items() if value is not ...}


async def made(api: Api, **changes: Any) -> str:
    body = party_body(**changes)
    answer = await api.post("/parties", body)
    assert answer.status == 201, answer.body
    return str(body["party_id"])


async def test_a_party_is_created_once_and_its_answer_holds_no_name(api: Api, admin_pool: Pool) -> None:
    body = party_body(
        aliases=["U. Denholm", "Уль Денхольм"], born=BORN, countries=["XA"], identifiers={"passport": "X1"}
    )
    key = uuid.uuid4().hex
    first = await api.post("/parties", body, key=key)
    again = await api.post("/parties", body, key=key)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert again.headers["idempotent-replayed"] == "true"
    assert "enholm" not in first.body.decode()
    assert (await api.post("/parties", body)).json["code"] == "party_exists"
    assert (await api.post("/parties", {**body, "kind": "organisation"}, key=key)).json["code"] == (
        "idempotency_key_reused"
    )
    shown = (await api.get(f"/parties/{body['party_id']}")).json
    assert {name: shown[name] for name in body} == body
    assert (shown["kyc_state"], shown["screening_state"], shown["version"]) == ("not_started", "not_screened", 1)
    stored = await admin_pool.fetch("select answer from zentra.idempotency")
    assert not any(b"enholm" in row["answer"] for row in stored)


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"kind": "ship"}, "/kind", "kind_unknown"),
        ({"legal_name": "  "}, "/legal_name", "text_malformed"),
        ({"legal_name": "x" * 301}, "/legal_name", "text_malformed"),
        ({"legal_name": ...}, "/legal_name", "field_missing"),
        ({"aliases": "x"}, "/aliases", "field_type"),
        ({"aliases": ["x", 1]}, "/aliases/1", "field_type"),
        ({"born": "1961-5-3"}, "/born", "time_malformed"),
        ({"countries": ["xa"]}, "/countries/0", "country_malformed"),
        ({"identifiers": {"a": ""}}, "/identifiers/a", "text_malformed"),
        ({"nickname": "x"}, "/nickname", "field_unknown"),
    ],
)
async def test_what_is_wrong_is_told_by_field(api: Api, changes: dict[str, Any], pointer: str, code: str) -> None:
    answer = await api.post("/parties", party_body(**changes))
    assert answer.status == 422
    assert [(one["pointer"], one["code"]) for one in answer.json["errors"]] == [(pointer, code)]


@pytest.mark.parametrize(
    ("role", "sees"),
    [
        ("developer", True),
        ("operator", True),
        ("auditor", True),
        ("admin", True),
        ("support", False),
        ("finance", False),
    ],
)
async def test_states_are_seen_by_everybody_and_names_by_some(api: Api, role: str, sees: bool) -> None:
    party = await made(api, aliases=["U. Denholm"], born=BORN, identifiers={"passport": "X1"}, countries=["XA"])
    shown = (await api.as_(role).get(f"/parties/{party}")).json
    assert (shown["kyc_state"], shown["countries"]) == ("not_started", ["XA"])
    assert [shown[name] is not None for name in ("legal_name", "aliases", "born", "identifiers")] == [sees] * 4
    listed = await api.as_(role).get("/parties?limit=1")
    assert (listed.json["data"][0]["legal_name"] is not None) is sees
    history = await api.as_(role).get(f"/parties/{party}/history")
    assert b"enholm" not in history.body


async def test_a_list_of_parties_is_filtered_by_state(api: Api) -> None:
    denied, other = await made(api, legal_name="Sandbox Denied"), await made(api)
    found = (await api.get("/parties?kyc_state=denied&limit=100")).json["data"]
    assert denied in [row["party_id"] for row in found]
    assert other not in [row["party_id"] for row in found]
    assert (await api.get("/parties?kyc_state=happy")).json["errors"][0]["code"] == "status_unknown"


async def test_an_identity_is_decided_by_somebody_else_along_the_table(api: Api) -> None:
    operator = api.as_("operator")
    mine, theirs = await made(operator), await made(api)
    approve = {"state": "approved", "reason": "seen the passport", "expires_at": "2036-01-01T00:00:00Z"}
    assert (await api.post(f"/parties/{theirs}/kyc", approve)).json["code"] == "permission_denied"
    assert (await operator.post(f"/parties/{mine}/kyc", approve)).json["code"] == "self_approval"
    assert (await operator.post(f"/parties/{mine}/kyc", {"state": "pending_review", "reason": "x"})).status == 200
    late = await operator.post(f"/parties/{theirs}/kyc", {**approve, "expires_at": "2020-01-01T00:00:00Z"})
    assert (late.status, late.json["code"]) == (422, "expires_at_in_past")
    key = uuid.uuid4().hex
    done = await operator.post(f"/parties/{theirs}/kyc", approve, key=key)
    assert (done.status, done.json["state"]) == (200, "approved")
    assert (await operator.post(f"/parties/{theirs}/kyc", approve, key=key)).body == done.body
    wrong = await operator.post(f"/parties/{theirs}/kyc", {"state": "awaiting_documents", "reason": "x"})
    assert (wrong.status, wrong.json["code"]) == (409, "kyc_move_refused")
    history = (await operator.get(f"/parties/{theirs}/history")).json["data"]
    assert [(one["what"], one["after"], one["actor"], one["reason"]) for one in history] == [
        ("kyc", "approved", "operator", "seen the passport"),
        ("created", "not_started/not_screened", "developer", "created"),
    ]


async def test_an_amended_party_is_looked_at_anew_and_something_has_to_be_amended(api: Api) -> None:
    party = await made(api, legal_name="Sandbox Approved")
    assert (await api.get(f"/parties/{party}")).json["screening_state"] == "clear"
    nothing = await api.post(f"/parties/{party}/amend", {"reason": "x"})
    assert nothing.json["errors"][0]["code"] == "field_missing"
    assert (await api.post(f"/parties/{party}/amend", {"reason": "moved", "countries": ["XB"]})).status == 200
    shown = (await api.get(f"/parties/{party}")).json
    assert (shown["kyc_state"], shown["screening_state"]) == ("pending_review", "not_screened")
    assert (await api.post(f"/parties/{party}/amend", {"reason": "married", "legal_name": "U. Holt"})).status == 200
    shown = (await api.get(f"/parties/{party}")).json
    assert (shown["screening_state"], shown["legal_name"], shown["version"]) == ("not_screened", "U. Holt", 3)


async def test_a_possible_match_is_a_case_for_somebody_else(api: Api, admin_pool: Pool) -> None:
    operator = api.as_("operator")
    party = await made(api, legal_name="Sandbox Possible Match")
    own = await made(operator, legal_name="Sandbox Possible Match")
    cases = (await operator.get("/cases?kind=screening_match&status=open")).json["data"]
    by_party = {row["detail"]["party"]: row["id"] for row in cases}
    case = by_party[party]
    assert (await operator.get(f"/cases/{case}")).json["detail"]["hits"] == []

    async def resolve(which: str, resolution: str) -> Any:
        return await operator.post(f"/cases/{which}/resolve", {"resolution": resolution, "reason": "looked"})

    assert (await resolve(case, "dismissed")).json["errors"][0]["code"] == "resolution_unknown"
    assert (await resolve(by_party[own], "false_positive")).json["code"] == "self_approval"
    done = await resolve(case, "true_match")
    assert (done.status, done.json["status"], done.json["outcome"]) == (200, "done", "done")
    command = (await operator.get(done.json["links"]["self"])).json
    assert (command["kind"], command["accepted"], command["principal"]) == ("resolve_case", True, "operator")
    assert (await resolve(case, "false_positive")).json["code"] == "case_not_open"
    assert (await operator.get(f"/parties/{party}")).json["screening_state"] == "true_match"
    seen = (await operator.get(f"/cases/{case}")).json
    assert (seen["status"], seen["operator"], seen["resolution"]["resolution"]) == (
        "resolved",
        "operator",
        "true_match",
    )
    again = await operator.post(f"/parties/{party}/rescreen", {"reason": "a court said so"})
    assert (again.status, again.json["state"]) == (200, "not_screened")


async def test_a_case_of_money_knows_nothing_of_matches(api: Api, admin_pool: Pool) -> None:
    case = uuid.uuid4().hex
    await admin_pool.execute(
        "insert into zentra.cases (id, tenant, kind, status, detail, opened_at, deadline)"
        " values ($1, 'acme', 'poison_message', 'open', '{}', now(), now())", case,
    )  # fmt: skip
    body = {"resolution": "true_match", "reason": "x"}
    answer = await api.as_("operator").post(f"/cases/{case}/resolve", body)
    assert answer.json["errors"][0]["code"] == "resolution_unknown"


async def test_an_account_names_its_party(api: Api) -> None:
    party, account = await made(api), uuid.uuid4().hex
    body = {"account_id": account, "owner": "o", "type": "customer", "currency": "NGN"}
    assert (await api.post("/accounts", {**body, "party": "nobody"})).json["code"] == "party_not_found"
    assert (await api.post("/accounts", {**body, "party": party})).json["party"] == party
    assert (await api.get(f"/accounts/{account}")).json["party"] == party
    assert (await api.get("/accounts?limit=1")).json["data"][0]["party"] == party
    without = (await api.post("/accounts", {**body, "account_id": uuid.uuid4().hex})).json
    assert "party" not in without, "what has no party is answered as ever"


async def test_the_lists_are_shown_with_their_age(api: Api, admin_pool: Pool) -> None:
    await admin_pool.execute(
        "insert into zentra.screening_lists (name, version, digest, format, source, fetched_at, entries, names, status)"
        " values ('shown', 3, 'd', 'ftm', 'f', now(), 2, 3, 'active'),"
        " ('hidden', 1, 'd', 'ftm', 'f', now(), 2, 3, 'staged')"
    )
    found = (await api.as_("support").get("/screening/lists")).json["data"]
    assert [(row["name"], row["version"], row["entries"]) for row in found if row["name"] in ("shown", "hidden")] == [
        ("shown", 3, 2)
    ]


@pytest.mark.parametrize(
    ("counterparty", "errors"),
    [
        ({"name": "Jorunn Voransky", "country": "XA", "kind": "person", "account": "DE 12"}, []),
        ({}, [("/counterparty/name", "field_missing")]),
        ({"name": "  "}, [("/counterparty/name", "text_malformed")]),
        ({"name": 1, "kind": "ship", "x/y": 1}, [
            ("/counterparty/name", "field_type"), ("/counterparty/kind", "kind_unknown"),
            ("/counterparty/x~1y", "field_unknown"),
        ]),
        ("Jorunn", [("/counterparty", "field_type")]),
    ],
)  # fmt: skip
async def test_an_intent_may_name_its_counterparty(
    api: Api, counterparty: Any, errors: list[tuple[str, str]], admin_pool: Pool
) -> None:
    body = {
        "intent_id": uuid.uuid4().hex, "amount": 1, "currency": "NGN", "source": "a", "destination": "b",
        "counterparty": counterparty,
    }  # fmt: skip
    answer = await api.post("/transfers", body, prefer="wait=0")
    assert [(one["pointer"], one["code"]) for one in answer.json.get("errors", ())] == errors
    if not errors:
        command = await admin_pool.fetchval(
            "select command from zentra.intents where intent_id = $1", body["intent_id"]
        )
        assert msgspec.json.decode(command)["counterparty"] == counterparty
