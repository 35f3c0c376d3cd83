"""Fees at the doors: schedules in versions, quotes that change nothing, and what an intent may say of its fee."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.gateway.http.conftest import Api, intent_body
from zentra.storage.pool import Pool

NGN = {"currencies": ["NGN"]}
FLAT: dict[str, Any] = {"name": "flat", "model": "flat", "flat_minor": 500, "applies": NGN}
VAT = {"name": "vat", "model": "percentage", "rate_bps": "750", "of": ["flat"]}
DISCOUNT = {"name": "discount", "model": "percentage", "rate_bps": "100", "payer": "payee", "applies": NGN}


async def opened(api: Api) -> tuple[str, str]:
    """Return a customer and a merchant of their own."""
    names = (f"customer-{uuid.uuid4().hex}", f"merchant-{uuid.uuid4().hex}")
    for name in names:
        body = {"account_id": name, "owner": "o", "type": name.partition("-")[0], "currency": "NGN"}
        assert (await api.post("/accounts", body)).status == 201
    return names


def asked(source: str, destination: str, **changes: Any) -> dict[str, Any]:
    return {"amount": 125_000, "currency": "NGN", "source": source, "destination": destination, **changes}


async def test_a_schedule_is_put_once_and_every_version_is_kept(api: Api) -> None:
    admin = api.as_("admin", "globex")
    assert (await admin.get("/fee-schedules")).json["data"] == []
    key = uuid.uuid4().hex
    first = await admin.post("/fee-schedules", {"rules": [FLAT]}, key=key)
    assert (first.status, first.json["version"], first.json["new"], first.json["created_by"]) == (201, 1, True, "admin")
    again = await admin.post("/fee-schedules", {"rules": [FLAT]}, key=key)
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    reused = await admin.post("/fee-schedules", {"rules": []}, key=key)
    assert reused.code == "idempotency_key_reused"
    same = await admin.post("/fee-schedules", {"rules": [FLAT]})
    assert (same.json["version"], same.json["new"]) == (1, False)
    second = await admin.post("/fee-schedules", {"rules": [FLAT, VAT]})
    assert (second.json["version"], second.json["new"]) == (2, True)
    listed = (await admin.as_("auditor", "globex").get("/fee-schedules")).json["data"]
    assert [(row["version"], row["active"], len(row["rules"])) for row in listed] == [(2, True, 2), (1, False, 1)]
    one = (await admin.get("/fee-schedules/1")).json
    assert (one["rules"][0]["flat_minor"], one["active"]) == (500, False)
    for unknown in ("3", "0", "x", "1" * 20):
        assert (await admin.get(f"/fee-schedules/{unknown}")).code == "not_found"


async def test_versions_of_a_schedule_come_by_pages(api: Api) -> None:
    admin = api.as_("admin")
    for minor in (801, 802, 803):
        latest = (await admin.post("/fee-schedules", {"rules": [{**FLAT, "flat_minor": minor}]})).json["version"]
    first = (await admin.get("/fee-schedules?limit=2")).json
    assert [(row["version"], row["active"]) for row in first["data"]] == [(latest, True), (latest - 1, False)]
    second = (await admin.get(f"/fee-schedules?limit=1&cursor={first['next_cursor']}")).json
    assert (first["has_more"], second["data"][0]["version"]) == (True, latest - 2)
    assert (await admin.get("/fee-schedules?page=2")).code == "query_malformed"


async def test_two_who_put_schedules_at_once_make_two_versions(api: Api) -> None:
    admin = api.as_("admin")
    schedules = [{"rules": [{**FLAT, "flat_minor": minor}]} for minor in range(901, 907)]
    answers = await asyncio.gather(*(admin.post("/fee-schedules", body) for body in schedules))
    versions = sorted(answer.json["version"] for answer in answers)
    assert versions == list(range(versions[0], versions[0] + len(schedules)))


async def test_a_schedule_that_makes_no_sense_is_refused_with_every_place(api: Api) -> None:
    rules = [{**FLAT, "flat_minor": 0}, {**VAT, "of": ["nothing"]}, {**FLAT, "payer": "nobody"}]
    answer = await api.as_("admin").post("/fee-schedules", {"rules": rules[:2]})
    assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == [
        ("/rules/0/flat_minor", "fee_amount_malformed"),
        ("/rules/1/of/0", "fee_base_unknown"),
    ]
    answer = await api.as_("admin").post("/fee-schedules", {"rules": rules})
    assert answer.json["errors"][0]["pointer"] == "/rules/2/payer"


@pytest.mark.parametrize("role", ["developer", "operator", "support", "finance", "auditor"])
async def test_only_an_admin_changes_what_is_charged(api: Api, role: str) -> None:
    asker = api.as_(role)
    assert (await asker.post("/fee-schedules", {"rules": []})).code == "permission_denied"
    assert (await asker.get("/fee-schedules")).status == 200


async def test_a_quote_says_what_would_be_charged_and_changes_nothing(api: Api, admin_pool: Pool) -> None:
    await api.as_("admin").post("/fee-schedules", {"rules": [FLAT, VAT, DISCOUNT]})
    source, destination = await opened(api)
    tables = ("intents", "postings", "idempotency", "transitions")
    before = [await admin_pool.fetchval(f"select count(*) from zentra.{table}") for table in tables]
    answer = await api.post("/quotes", asked(source, destination), key=None)
    assert answer.status == 200
    quote = answer.json
    assert [(line["rule"], line["payer"], line["minor"]) for line in quote["lines"]] == [
        ("flat", "payer", "500"),
        ("vat", "payer", "38"),
        ("discount", "payee", "1250"),
    ]
    assert (quote["payer_pays"], quote["payee_gets"]) == ("125538", "123750")
    assert (await api.post("/quotes", asked(source, destination))).json["digest"] == quote["digest"]
    dearer = await api.post("/quotes", asked(source, destination, amount=125_100))
    assert dearer.json["digest"] != quote["digest"]
    after = [await admin_pool.fetchval(f"select count(*) from zentra.{table}") for table in tables]
    assert after == before


async def test_a_quote_for_accounts_that_are_not_there_is_refused_and_kept(api: Api, admin_pool: Pool) -> None:
    source, destination = await opened(api)
    stranger = api.as_("developer", "globex")
    for names in ((source, "nobody"), ("nobody", destination)):
        assert (await api.post("/quotes", asked(*names))).code == "not_found"
    foreign = await stranger.post("/quotes", asked(source, destination))
    unknown = await stranger.post("/quotes", asked("nobody", "nobody-else"))
    assert (foreign.code, foreign.json["detail"]) == (unknown.code, unknown.json["detail"])
    assert (await api.post("/quotes", asked(source, destination, currency="USD"))).code == "currency_mismatch"
    assert (await api.post("/quotes", asked(source, destination, scope="x"))).json["errors"][0]["pointer"] == "/scope"


async def test_an_intent_may_say_what_it_may_be_charged(api: Api) -> None:
    body = intent_body(fee={"max": "0500", "quote_digest": "a" * 64})
    key = uuid.uuid4().hex
    made = await api.post("/runtime/intents", body, key=key)
    assert made.status == 202
    event = (await api.get(f"/runtime/intents/{made.json['id']}")).json["event_stream"][0]
    assert event["facts"]["command"]["fee"] == {"max": "500", "quote_digest": "a" * 64}
    reused = await api.post("/runtime/intents", {**body, "fee": {"max": 501}}, key=key)
    assert (reused.code, reused.json["fields"]) == ("idempotency_key_reused", ["fee"])
    wrong = await api.post("/transfers", intent_body(fee={"max": -1, "quote_digest": "x", "more": 1}))
    assert sorted((error["pointer"], error["code"]) for error in wrong.json["errors"]) == [
        ("/fee/max", "amount_negative"),
        ("/fee/more", "field_unknown"),
        ("/fee/quote_digest", "digest_malformed"),
    ]
