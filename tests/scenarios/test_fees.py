"""Fees on a running installation: quoted, agreed to, charged, given back, and all of it in books that balance."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.people import Books, Person
from zentra.runtime.fees.schedule import FeeMatch, FeeRule, FeeSchedule
from zentra.storage.intake.fees import put_schedule

pytestmark = pytest.mark.service

# Only what goes to Ghana is charged: the stories beside this one are not about fees.
GHANA = FeeMatch(currencies=("NGN",), countries=("GH",))
RULES = (
    FeeRule(name="transfer", model="percentage", rate_bps="150", max_minor=200_000, applies=GHANA),
    FeeRule(name="vat", model="percentage", rate_bps="750", of=("transfer",), on_reversal="full"),
    FeeRule(name="desk", model="flat", flat_minor=50, charged="on_submission", applies=GHANA),
    FeeRule(name="discount", model="percentage", rate_bps="100", payer="payee", applies=GHANA),
)


@pytest.fixture
async def schedule(books: Books) -> None:
    await put_schedule(books.pool, "acme", FeeSchedule(RULES), created_by="ops")


def asked(**changes: Any) -> dict[str, Any]:
    return {
        "amount": 125_000, "currency": "NGN", "source": "customer-1", "destination": "merchant-1", "country": "GH",
        **changes,
    }  # fmt: skip


async def counters(dev: Person, account: str) -> int:
    return int((await dev.get(f"/accounts/{account}")).json["posted"])


@pytest.mark.usefixtures("schedule")
async def test_what_was_quoted_is_charged_and_given_back_by_rule(dev: Person, books: Books) -> None:
    quote = (await dev.post("/quotes", asked())).json
    assert (quote["payer_pays"], quote["payee_gets"]) == (str(125_000 + 1_875 + 141 + 50), str(125_000 - 1_250))
    before = {name: await counters(dev, name) for name in ("customer-1", "merchant-1", "fee-ngn")}
    made = await dev.made(country="GH", fee={"quote_digest": quote["digest"], "max": quote["total_payer"]})
    assert made["status"] == "SUCCESSFUL"
    fees = made["ledger_state"]["fees"]
    assert (fees["held"], fees["posted"], fees["given_back"]) == ("0", "3316", "0")
    assert fees["lines"] == quote["lines"]
    after = {name: await counters(dev, name) - minor for name, minor in before.items()}
    assert after == {"customer-1": -127_066, "merchant-1": 123_750, "fee-ngn": 3_316}
    rows = (await dev.get(f"/accounts/customer-1/entries?kind=fee&intent={made['id']}")).json["data"]
    assert sorted((row["posting"], row["posted"]) for row in rows) == [("fee", "2016"), ("fee", "50")]
    half = await dev.post(
        f"/runtime/intents/{made['id']}/reversals", {"amount": "62500", "reason": "returned"}, wait=10
    )
    assert half.status == 200, half.body
    full = await dev.post(f"/runtime/intents/{made['id']}/reversals", {"reason": "returned"}, wait=10)
    assert full.status == 200, full.body
    back = (await dev.get(f"/runtime/intents/{made['id']}")).json
    assert (back["status"], back["ledger_state"]["fees"]["given_back"]) == ("REVERSED", "3316")
    assert {name: await counters(dev, name) for name in before} == before
    assert (await books.audit()).breaches == ()


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize(
    ("fee", "code"),
    [({"max": 2_065}, "fee_changed"), ({"quote_digest": "0" * 64}, "fee_changed"), ({"max": 2_066}, None)],
)
async def test_nothing_is_charged_that_was_not_agreed_to(dev: Person, fee: dict[str, Any], code: str | None) -> None:
    made = await dev.made(country="GH", fee=fee)
    assert made["status"] == ("FAILED" if code else "SUCCESSFUL")
    assert (made["reason"] or {}).get("code") == code
    assert bool(made["ledger_state"]["entries"]) is (code is None)


@pytest.mark.usefixtures("schedule")
async def test_a_declined_transfer_costs_nothing(dev: Person, books: Books) -> None:
    before = {name: await counters(dev, name) for name in ("customer-1", "fee-ngn")}
    made = await dev.made("decline", country="GH")
    assert (made["status"], made["ledger_state"]["fees"]["given_back"]) == ("FAILED", "50")
    assert {name: await counters(dev, name) for name in before} == before
    assert (await books.audit()).breaches == ()
