"""The doors to journals, conversions and rates: what they take, what they make of it, and what they refuse."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway.http.conftest import Api
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.quoting import Quotes
from zentra.gateway.settings import Settings
from zentra.runtime.ledger.conversion import FxRate, Price, price
from zentra.storage.intake.rates import put_rate
from zentra.storage.pool import Pool

LEG = {"source": "customer-1", "destination": "merchant-1", "amount": 70}
SELL = {
    "amount": "10000", "currency": "USD", "buy_currency": "NGN", "source": "customer-1", "destination": "merchant-1",
}  # fmt: skip
RATE = {"sell": "USD", "buy": "NGN", "mid": "1530.25", "spread_bps": 50, "max_age_seconds": 300, "source": "desk"}


async def test_a_journal_shows_its_legs_and_goes_by_what_they_move_together(api: Api) -> None:
    body = {
        "legs": [LEG, {**LEG, "amount": "30", "reference": "rent"}, {**LEG, "amount": 5, "currency": "USD"}],
        "currency": "NGN", "conditions": [{"account": "customer-1", "of": "available", "min": 0}],
        "effective_at": "2026-01-01T01:00:00+01:00", "metadata": {"a": "b"},
    }  # fmt: skip
    made = await api.post("/journals", body)
    assert (made.status, made.json["kind"], made.json["amount"]) == (202, "journal", 100)
    seen = (await api.get(f"/runtime/intents/{made.json['id']}")).json
    assert [(leg["amount"], leg["currency"], leg["reference"]) for leg in seen["legs"]] == [
        (70, "NGN", None), (30, "NGN", "rent"), (5, "USD", None),
    ]  # fmt: skip
    assert seen["conditions"] == [{"account": "customer-1", "of": "available", "min": "0", "max": None}]
    assert seen["effective_at"] == "2026-01-01T00:00:00.000000Z"
    assert (seen["corrects"], seen["corrected_by"], seen["conversion"]) == (None, [], None)


async def test_the_typed_door_and_the_general_one_make_the_same_intent(api: Api) -> None:
    body = {"legs": [LEG], "currency": "NGN", "intent_id": f"j-{uuid.uuid4().hex}"}
    one = await api.post("/journals", body)
    other = await api.post("/runtime/intents", {**body, "kind": "journal"})
    assert one.json["id"] == other.json["id"]
    changed = await api.post("/journals", {**body, "legs": [{**LEG, "amount": 71}]})
    assert (changed.status, changed.code) == (409, "intent_id_conflict")


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"/legs": "field_missing"}),
        ({"legs": []}, {"/legs": "legs_malformed"}),
        ({"legs": [LEG] * 101, "currency": "NGN"}, {"/legs": "legs_malformed"}),
        ({"legs": [LEG]}, {"/legs/0/currency": "field_missing"}),
        ({"legs": [LEG, 5], "currency": "NGN"},
         {"/legs/1": "field_type"}),
        ({"legs": [{"amount": 5}], "currency": "NGN"},
         {"/legs/0/source": "field_missing", "/legs/0/destination": "field_missing"}),
        ({"legs": [{**LEG, "amount": 0}, {**LEG, "amount": -1}, {**LEG, "amount": 1.5}], "currency": "NGN"},
         {"/legs/0/amount": "amount_zero", "/legs/1/amount": "amount_negative", "/legs/2/amount": "amount_invalid"}),
        ({"legs": [{**LEG, "amount": 2**62}] * 3, "currency": "NGN"}, {"/legs": "amount_overflow"}),
        ({"legs": [{**LEG, "currency": "USD"}], "currency": "NGN"}, {"/currency": "currency_unused"}),
        ({"legs": [LEG], "currency": "NGN", "amount": 70, "source": "x"},
         {"/amount": "field_unknown", "/source": "field_unknown"}),
        ({"legs": [{**LEG, "source": "a b"}], "currency": "NGN", "corrects": "c d", "effective_at": "today"},
         {"/legs/0/source": "id_malformed", "/corrects": "id_malformed", "/effective_at": "time_malformed"}),
        ({"legs": [LEG], "currency": "NGN", "conditions": [{"account": "a", "of": "posted", "min": 5, "max": 4}]},
         {"/conditions/0": "condition_malformed"}),
        ({"legs": [LEG], "currency": "NGN", "kind": "transfer"}, {"/kind": "kind_unknown"}),
    ],
)  # fmt: skip
async def test_everything_that_is_wrong_with_a_journal_is_named(api: Api, body: Any, errors: dict[str, str]) -> None:
    answer = await api.post("/journals", body)
    assert (answer.status, answer.code) == (422, "validation_failed")
    found = {error["pointer"]: error["code"] for error in answer.json["errors"]}
    assert errors.items() <= found.items()


@pytest.fixture
async def rated(api: Api, admin_pool: Pool) -> None:
    """The first rate of the pair, put by the owner."""
    for table in ("fx_rates", "fx_rate_versions"):
        await admin_pool.execute(f"delete from zentra.{table}")
    now = datetime.now(UTC) - timedelta(minutes=1)
    await put_rate(admin_pool, FxRate("acme", "USD", "NGN", "1500", 50, 0, now, 300, "owner"))


@pytest.mark.usefixtures("rated")
async def test_rates_are_put_by_operators_and_shown_to_all(api: Api) -> None:
    refused = await api.post("/rates", RATE)
    assert (refused.status, refused.code) == (403, "permission_denied")
    key = uuid.uuid4().hex
    put = await api.as_("operator").post("/rates", RATE, key=key)
    assert (put.status, put.json["mid"], put.json["fee_minor"], put.json["created_by"]) == (
        201, "1530.25", 0, "operator",
    )  # fmt: skip
    again = await api.as_("operator").post("/rates", RATE, key=key)
    assert (again.json, again.headers["idempotent-replayed"]) == (put.json, "true")
    other = await api.as_("operator").post("/rates", {**RATE, "mid": "1"}, key=key)
    assert other.code == "idempotency_key_reused"
    (shown,) = (await api.get("/rates")).json["data"]
    assert (shown["mid"], shown["version"]) == ("1530.25", 2)
    assert (await api.as_("admin", "globex").get("/rates")).json == {"data": []}


@pytest.mark.usefixtures("rated")
async def test_nobody_moves_a_rate_far_however_many_steps_it_takes(api: Api, admin_pool: Pool) -> None:
    operator = api.as_("operator")
    first = await operator.post("/rates", {**RATE, "sell": "GBP"})
    assert (first.status, first.code) == (403, "rate_jump")
    answers = [(await operator.post("/rates", {**RATE, "mid": mid})) for mid in ("1800", "1801", "100000000", "1199")]
    assert [answer.json.get("code") for answer in answers] == [None, *["rate_jump"] * 3]
    await admin_pool.execute("update zentra.fx_rate_versions set created_at = now() - interval '25 hours'")
    assert (await operator.post("/rates", {**RATE, "mid": "2160"})).status == 201
    now = datetime.now(UTC)
    await put_rate(admin_pool, FxRate("acme", "USD", "NGN", "9000", 50, 0, now, 300, "owner"))
    assert (await operator.post("/rates", {**RATE, "mid": "8000"})).status == 201
    assert (await operator.post("/rates", {**RATE, "mid": "2160"})).code == "rate_jump"


@pytest.mark.usefixtures("rated")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mid": "0.0"}, "validation_failed"), ({"mid": 5}, "validation_failed"),
        ({"spread_bps": 10_000}, "validation_failed"), ({"max_age_seconds": 0}, "validation_failed"),
        ({"buy": "USD"}, "currencies_must_be_different"), ({"as_of": "2099-01-01T00:00:00Z"}, "rate_of_the_future"),
        ({"as_of": "2001-01-01T00:00:00Z"}, "rate_outdated"),
    ],
)  # fmt: skip
async def test_what_is_no_rate_is_refused(api: Api, changes: dict[str, Any], code: str) -> None:
    await api.as_("operator").post("/rates", RATE)
    answer = await api.as_("operator").post("/rates", {**RATE, **changes})
    assert (answer.status, answer.code) == (answer.json["status"], code)


@pytest.mark.usefixtures("rated")
async def test_a_quote_is_a_price_for_one_intent_that_only_this_installation_can_make(
    api: Api, settings: Settings
) -> None:
    await api.as_("operator").post("/rates", RATE)
    answer = await api.get("/conversions/quote?amount=10000&currency=USD&buy_currency=NGN")
    assert answer.status == 200
    due = price("USD", "NGN", 10_000, "1530.25", 50, 0, 1)
    assert isinstance(due, Price)
    assert (answer.json["buy_amount"], answer.json["spread"]) == (str(due.bought), str(due.spread))
    quotes = Quotes(settings.secret_bytes())
    opened = quotes.open(answer.json["quote"])
    assert opened is not None
    assert (opened.tenant, opened.intent_id, opened.minor) == ("acme", answer.json["intent_id"], "10000")
    assert Quotes(b"another secret of it").open(answer.json["quote"]) is None
    for place in range(0, len(answer.json["quote"]) - 1, 7):
        changed = list(answer.json["quote"])
        changed[place] = "A" if changed[place] != "A" else "B"
        assert quotes.open("".join(changed)) is None
    made = await api.post("/conversions", {**SELL, "quote": answer.json["quote"]})
    assert (made.status, made.json["intent_id"]) == (202, answer.json["intent_id"])
    seen = (await api.get(f"/runtime/intents/{made.json['id']}")).json["conversion"]
    assert seen == {"buy_currency": "NGN", "quote": answer.json["quote"], "price": None}


@pytest.mark.usefixtures("rated")
@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("amount=1&currency=USD", 400, "query_malformed"), ("", 400, "query_malformed"),
        ("amount=x&currency=USD&buy_currency=NGN", 400, "query_malformed"),
        ("amount=1&currency=USD&buy_currency=NGN&more=1", 400, "query_malformed"),
        ("amount=1&currency=GBP&buy_currency=NGN", 422, "rate_unknown"),
        ("amount=0&currency=USD&buy_currency=NGN", 422, "conversion_too_small"),
        ("amount=9223372036854775807&currency=USD&buy_currency=NGN", 422, "amount_overflow"),
    ],
)  # fmt: skip
async def test_what_has_no_price_has_no_quote(api: Api, query: str, status: int, code: str) -> None:
    await api.as_("operator").post("/rates", RATE)
    answer = await api.get(f"/conversions/quote?{query}")
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.usefixtures("rated")
async def test_an_old_rate_has_no_quote(api: Api, admin_pool: Pool) -> None:
    await api.as_("operator").post("/rates", RATE)
    await admin_pool.execute("update zentra.fx_rates set as_of = now() - interval '1 day', version = version + 1")
    answer = await api.get("/conversions/quote?amount=1&currency=USD&buy_currency=NGN")
    assert answer.code == "rate_stale"


async def test_a_correction_is_seen_from_what_it_corrects(api: Api, gateway: GatewayApp, admin_pool: Pool) -> None:
    wrong = (await api.post("/journals", {"legs": [LEG], "currency": "NGN"})).json
    right = (await api.post("/journals", {"legs": [LEG], "currency": "NGN", "corrects": wrong["intent_id"]})).json
    await admin_pool.execute(
        "insert into zentra.corrections (tenant, original, correction, at) values ('acme', $1, $2, now())",
        wrong["id"], right["id"],
    )  # fmt: skip
    assert (await api.get(f"/runtime/intents/{wrong['id']}")).json["corrected_by"] == [right["intent_id"]]
    assert (await api.get(f"/runtime/intents/{right['id']}")).json["corrects"] == wrong["intent_id"]
