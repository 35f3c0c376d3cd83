"""A backtest reads the past from the real store and finds what a version would have said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.gateway.backtesting import BEGAN, DOCUMENT, STRICTER, TENANT, make_past, rules_in, write_past
from tests.services import Database, database, database_template
from zentra.gateway.backtesting import run_backtest
from zentra.runtime.policy.scoring import RiskFacts
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool, open_pool
from zentra.storage.reads.decisions import past_intents

__all__ = ["database", "database_template"]

INTENTS = 1_200


@pytest.fixture(scope="module")
def past(database: Database) -> str:
    """The URL of a database with a past of many intents under version 1 of `DOCUMENT`."""

    async def make() -> None:
        async with await open_pool(database.admin_url, name="test", connections_max=2) as pool:
            await Administration(pool).create_tenant(TENANT, TENANT)
            await Administration(pool).create_tenant("globex", "globex")
            await write_past(pool, make_past(INTENTS, rules_in(DOCUMENT, 1)))

    asyncio.run(make())
    return database.admin_url


@pytest.fixture
async def pool(past: str) -> AsyncIterator[Pool]:
    """The owner's pool."""
    async with await open_pool(past, name="test", connections_max=2) as opened:
        yield opened


async def test_decisions_of_the_same_version_come_out_identical(pool: Pool) -> None:
    report = await run_backtest(pool, TENANT, rules_in(DOCUMENT, 1), scorers={})
    assert (report.decisions, report.identical, report.different, report.changed) == (INTENTS, INTENTS, 0, 0)


async def test_windows_that_are_counted_anew_from_the_beginning_lead_to_the_same_decisions(pool: Pool) -> None:
    """Another version with the same rules: nothing is taken from the records but fields."""
    report = await run_backtest(pool, TENANT, rules_in(DOCUMENT, 2), scorers={})
    assert (report.identical, report.changed, report.would_be) == (0, 0, report.was)


async def test_a_stricter_version_would_have_decided_another_way_and_says_why(pool: Pool) -> None:
    report = await run_backtest(pool, TENANT, rules_in(STRICTER, 2), scorers={})
    assert report.changed > 0
    assert report.reasons["window_count_exceeded"] > 0
    assert report.would_be["denied"] > report.was["denied"]
    assert {one.would_be for one in report.examples} <= {"denied", "review"}


async def test_a_rule_set_that_was_changed_under_its_number_is_different(pool: Pool) -> None:
    report = await run_backtest(pool, TENANT, rules_in(STRICTER, 1), scorers={})
    assert report.different > 0


async def test_plain_rules_are_tested_as_well(pool: Pool) -> None:
    rules = rules_in({"limits": {"NGN": {"daily_count_max": 1}}}, 5)
    report = await run_backtest(pool, TENANT, rules, scorers={})
    assert report.reasons["daily_count_exceeded"] > 0
    assert report.would_be.keys() == {"accepted", "denied"}


async def test_a_scorer_of_the_users_own_is_asked(pool: Pool) -> None:
    asked: list[RiskFacts] = []

    def score(facts: RiskFacts) -> int:
        asked.append(facts)
        return 100 if facts.pair_count else 0

    rules = rules_in({"risk": {"scorer": "mine", "review_min": 50}}, 6)
    report = await run_backtest(pool, TENANT, rules, scorers={"mine": score})
    assert len(asked) == INTENTS
    assert report.would_be["review"] == sum(1 for facts in asked if facts.pair_count) > 0


async def test_a_range_and_a_limit_choose_the_latest_of_that_time(pool: Pool) -> None:
    rules, until = rules_in(DOCUMENT, 1), BEGAN + timedelta(seconds=600)
    whole = await run_backtest(pool, TENANT, rules, until=until, scorers={})
    later = await run_backtest(pool, TENANT, rules, since=until, scorers={})
    assert whole.decisions + later.decisions == INTENTS
    assert 0 < whole.decisions < INTENTS
    found = [page async for page in past_intents(pool, TENANT, since=None, until=until, limit=5)]
    assert sum(len(page) for page in found) == 5
    last = max(past.at for page in found for intent in page for past in intent.decisions)
    assert last <= until.strftime("%Y-%m-%dT%H:%M:%S.99")


async def test_another_tenant_has_no_part_in_it(pool: Pool) -> None:
    report = await run_backtest(pool, "globex", rules_in(DOCUMENT, 1), scorers={})
    assert report.decisions == 0
