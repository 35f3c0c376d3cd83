"""Journals, conversions and corrections on a whole installation: real servers, a gateway and a worker of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.scenarios.people import Books, Person, until
from zentra.runtime.ledger.conversion import FxRate
from zentra.storage.intake.rates import put_rate

pytestmark = pytest.mark.service


async def opened(person: Person, name: str, currency: str) -> None:
    body = {"account_id": name, "owner": "o", "type": "customer", "currency": currency}
    assert (await person.post("/accounts", body)).status == 201


async def balance(person: Person, name: str) -> tuple[str, str]:
    seen = (await person.get(f"/accounts/{name}")).json
    return seen["posted"], seen["available"]


async def journal(person: Person, *legs: tuple[str, str, int], **more: Any) -> Any:
    named = [dict(zip(("source", "destination", "amount"), leg, strict=True)) for leg in legs]
    answer = await person.post("/journals", {"legs": named, "currency": "NGN", **more}, wait=20)
    assert answer.status in (200, 202), answer.body
    return answer.json


async def test_a_journal_is_booked_dated_reversed_and_corrected(dev: Person, ops: Person, books: Books) -> None:
    for name in ("j-a", "j-b"):
        await opened(dev, name, "NGN")
    made = await journal(
        dev, ("customer-1", "j-a", 700), ("j-a", "j-b", 300), effective_at="2026-01-01T00:00:00Z",
        conditions=[{"account": "j-a", "of": "available", "min": 400, "max": 400}],
    )  # fmt: skip
    assert (made["status"], made["amount"], made["ledger_state"]["posted"]) == ("SUCCESSFUL", 1_000, "1000")
    assert (await balance(dev, "j-a"), await balance(dev, "j-b")) == (("400", "400"), ("300", "300"))
    (entry,) = (await dev.get("/accounts/j-b/entries")).json["data"]
    assert (entry["effective_at"], entry["at"][:4] > "2025") == ("2026-01-01T00:00:00Z", True)
    refused = await journal(dev, ("j-a", "j-b", 1), conditions=[{"account": "j-b", "of": "posted", "max": 300}])
    assert (refused["status"], refused["reason"]["code"]) == ("FAILED", "balance_condition_failed")
    path = f"/runtime/intents/{made['intent_id']}/reversals"
    part = await dev.post(path, {"amount": "300", "reason": "no"}, wait=20)
    assert (part.status, part.code) == (422, "reversal_indivisible")
    whole = await dev.post(path, {"reason": "wrong"}, wait=20)
    assert (whole.status, whole.json["outcome"]) == (200, "done")
    assert (await balance(dev, "j-a"), await balance(dev, "j-b")) == (("0", "0"), ("0", "0"))
    right = await journal(dev, ("customer-1", "j-a", 5), corrects=made["intent_id"])
    assert right["status"] == "REVIEW"
    seen = {"reason": "seen", "request_hash": (await ops.get(f"/reviews/{right['id']}")).json["request_hash"]}
    approved = await ops.post(f"/reviews/{right['id']}/approve", seen, wait=20)
    assert approved.status == 200
    seen = (await dev.get(f"/runtime/intents/{right['intent_id']}", wait=20)).json
    assert (seen["status"], seen["corrects"]) == ("SUCCESSFUL", made["intent_id"])
    assert (await dev.get(f"/runtime/intents/{made['id']}")).json["corrected_by"] == [right["intent_id"]]
    again = await dev.post(f"/runtime/intents/{right['intent_id']}/reversals", {"reason": "no"}, wait=20)
    assert again.code == "reversal_of_reversal"
    assert (await books.audit()).breaches == ()


async def test_a_conversion_takes_its_quote_or_the_rate_in_force(dev: Person, ops: Person, books: Books) -> None:
    await opened(dev, "c-usd", "USD")
    rate = {"sell": "NGN", "buy": "USD", "mid": "0.00065", "spread_bps": 50, "max_age_seconds": 600, "source": "desk"}
    unknown = {
        "amount": 2_000_000, "currency": "NGN", "buy_currency": "USD", "source": "customer-1", "destination": "c-usd",
    }  # fmt: skip
    answer = await dev.post("/conversions", unknown, wait=20)
    assert (answer.json["status"], answer.json["reason"]["code"]) == ("FAILED", "rate_unknown")
    assert (await ops.post("/rates", rate)).code == "rate_jump", "the first one is the owner's"
    owners = FxRate("acme", "NGN", "USD", "0.00065", 50, 0, datetime.now(UTC), 600, "owner")
    await put_rate(books.pool, owners)
    quote = (await dev.get("/conversions/quote?amount=2000000&currency=NGN&buy_currency=USD")).json
    assert (await ops.post("/rates", {**rate, "mid": "0.0006", "fee_minor": 7})).status == 201
    held = (await dev.post("/conversions", {**unknown, "quote": quote["quote"]}, wait=20)).json
    assert (held["status"], held["conversion"]["price"]["bought"]) == ("SUCCESSFUL", "1293")
    assert quote["buy_amount"] == "1293"
    twice = await dev.post("/conversions", {**unknown, "quote": quote["quote"], "amount": 2_000_001}, wait=20)
    assert (twice.status, twice.code) == (409, "intent_id_conflict")
    now = (await dev.post("/conversions", unknown, wait=20)).json
    price = now["conversion"]["price"]
    assert (price["fee"], price["rate_version"], price["mid"]) == ("7", 2, "0.0006")
    packet = await dev.packet(now["intent_id"])
    assert b"rate_version" in packet
    back = await dev.post(f"/runtime/intents/{now['intent_id']}/reversals", {"reason": "undo"}, wait=20)
    assert back.json["outcome"] == "done"
    assert (await balance(dev, "c-usd")) == ("1293", "1293")
    assert (await books.audit()).breaches == ()


async def test_what_a_worker_did_is_found_in_the_entries_of_the_tenants_own_accounts(dev: Person) -> None:
    async def seen() -> Any:
        return (await dev.get("/accounts/fee-usd/entries?kind=spread")).json["data"]

    entries = await until(seen, lambda found: len(found) > 0)
    assert {entry["posting"] for entry in entries} == {"spread"}
