"""Rates on the real server: versions, what is refused, what the engine sees, and whose they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from zentra.runtime.errors import Refusal
from zentra.runtime.ledger.conversion import FxRate
from zentra.runtime.names import is_principal
from zentra.storage.administration import Administration
from zentra.storage.engine.store import PostgresStore
from zentra.storage.intake.rates import MAX_AGE_SECONDS_MAX, OWNER, is_jump, put_rate
from zentra.storage.pool import Pool
from zentra.storage.reads.rates import rate_now, rates

NOW = datetime.now(UTC).replace(microsecond=0)
RATE = FxRate("acme", "USD", "NGN", "1530.25", 50, 100, NOW - timedelta(minutes=5), 300, "desk")


@pytest.fixture
async def acme(admin_pool: Pool) -> Pool:
    administration = Administration(admin_pool)
    for tenant in ("acme", "globex"):
        await administration.create_tenant(tenant, tenant)
    await admin_pool.execute("delete from zentra.fx_rates")
    await admin_pool.execute("delete from zentra.fx_rate_versions")
    return admin_pool


async def test_each_rate_is_a_version_and_the_latest_is_in_force_for_the_next_tick(
    acme: Pool, writer_pool: Pool, tenant_pool: Pool
) -> None:
    store = PostgresStore(writer_pool)
    before = (await store.configuration()).version
    assert await put_rate(acme, RATE, created_by="desk") == 1
    later = structs.replace(RATE, mid="1531", as_of=NOW)
    assert await put_rate(acme, later, created_by="desk") == 2
    configuration = await store.configuration()
    assert configuration.version > before
    assert configuration.rates == {"acme": (structs.replace(later, version=2),)}
    assert await rates(tenant_pool, "acme") == [structs.replace(later, version=2)]
    assert await rates(tenant_pool, "globex") == []
    assert (await rate_now(tenant_pool, "acme", "USD", "NGN"))[0] == structs.replace(later, version=2)
    assert (await rate_now(tenant_pool, "acme", "NGN", "USD"))[0] is None
    kept = await acme.fetch("select version, mid from zentra.fx_rate_versions order by version")
    assert [tuple(row) for row in kept] == [(1, "1530.25"), (2, "1531")]


async def test_an_older_rate_than_the_one_in_force_is_refused(acme: Pool) -> None:
    await put_rate(acme, RATE, created_by="desk")
    with pytest.raises(Refusal) as refused:
        await put_rate(acme, structs.replace(RATE, as_of=RATE.as_of - timedelta(seconds=1)), created_by="desk")
    assert refused.value.reason == "rate_outdated"


# fmt: off
JUMPS: list[tuple[str, str, bool]] = [
    # before                   after                    is a jump
    ("100",                    "120",                   False),
    ("100",                    "120.000000000000000001", True),
    ("100",                    "80",                    False),
    ("100",                    "79.999999999999999999", True),
    ("0.00065",                "0.0005",                True),
    ("999999999999999999.9",   "999999999999999999.9",  False),
]
# fmt: on


@pytest.mark.parametrize(("before", "mid", "jumps"), JUMPS)
def test_a_jump_is_more_than_a_fifth(before: str, mid: str, jumps: bool) -> None:
    assert is_jump(before, mid) is jumps


def test_no_principal_has_the_owners_name() -> None:
    assert not is_principal(OWNER)


# fmt: off
REFUSED: list[tuple[dict[str, object], str]] = [
    ({"tenant": "nobody"},                       "tenant_unknown"),
    ({"sell": "XXX"},                            "currency_unknown"),
    ({"buy": "USD"},                             "currencies_must_be_different"),
    ({"mid": "0"},                               "rate_malformed"),
    ({"mid": "0.000"},                           "rate_malformed"),
    ({"mid": "-1"},                              "rate_malformed"),
    ({"mid": "1e3"},                             "rate_malformed"),
    ({"mid": "01"},                              "rate_malformed"),
    ({"spread_bps": 10_000},                     "rate_malformed"),
    ({"spread_bps": -1},                         "rate_malformed"),
    ({"fee_minor": -1},                          "rate_malformed"),
    ({"max_age_seconds": 0},                     "rate_malformed"),
    ({"max_age_seconds": MAX_AGE_SECONDS_MAX + 1}, "rate_malformed"),
    ({"as_of": NOW + timedelta(days=1)},         "rate_of_the_future"),
]
# fmt: on


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
async def test_what_is_no_rate_is_refused(acme: Pool, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        await put_rate(acme, structs.replace(RATE, **changes), created_by="desk")
    assert refused.value.reason == reason


async def test_a_pair_brings_the_accounts_that_it_goes_through(acme: Pool, writer_pool: Pool) -> None:
    await put_rate(acme, structs.replace(RATE, sell="GBP", buy="JPY"), created_by="desk")
    names = [("acme", f"@{kind}/{currency}") for kind in ("liquidity", "fee") for currency in ("GBP", "JPY")]
    assert set(await PostgresStore(writer_pool).accounts(names)) == set(names)
