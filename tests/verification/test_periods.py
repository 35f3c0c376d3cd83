"""Periods: closed until a time, checked first, kept with what accounts stood at, reopened at the end alone."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from tests.verification.databases import asked, silent, spoil
from zentra.bench.twins.fleet import START
from zentra.runtime.errors import Refusal
from zentra.storage.pool import open_pool
from zentra.storage.verification.checking import Check
from zentra.storage.verification.periods import Period, close_period, list_periods, reopen_period
from zentra.storage.verification.trial import read_trial_balance

MIDDLE: Final = START + timedelta(seconds=300)
LATE: Final = START + timedelta(seconds=600)


def close(url: str, until: datetime, tenant: str = "acme", book: str = "default") -> tuple[Period, Check]:
    async def run() -> tuple[Period, Check]:
        async with await open_pool(url, name="test") as pool:
            return await close_period(pool, url, tenant, until, book=book, by="test", jobs=1, progress=silent)

    return asyncio.run(run())


def reopen(url: str, reason: str = "a mistake") -> Period:
    async def run() -> Period:
        async with await open_pool(url, name="test") as pool:
            return await reopen_period(pool, "acme", book="default", by="somebody", reason=reason)

    return asyncio.run(run())


def periods(url: str) -> list[Period]:
    async def run() -> list[Period]:
        async with await open_pool(url, name="test") as pool:
            return await list_periods(pool, "acme")

    return asyncio.run(run())


def trial(url: str, **asked_for: Any) -> Any:
    options = {"tenant": None, "book": None, "at": None, "by": "recorded"} | asked_for
    return asyncio.run(read_trial_balance(url, **options))[1]


KEPT: Final = """
select jsonb_object_agg(a.account_id, array[debits_pending, credits_pending, debits_posted, credits_posted])
from closing_balances c join accounts a on a.id = c.account
"""
FOLDED: Final = """
select jsonb_object_agg(account_id, sums) from (
    select a.account_id, array[sum(pending) filter (where debit = a.id), sum(pending) filter (where credit = a.id),
        sum(posted) filter (where debit = a.id), sum(posted) filter (where credit = a.id)] as sums
    from accounts a join postings p on a.id in (p.debit, p.credit)
    where a.tenant = 'acme' and coalesce(effective_at, at) < '{until}' group by a.account_id) folded
"""


def test_what_accounts_stood_at_is_kept_and_is_what_their_postings_come_to(copy: str) -> None:
    period, check = close(copy, MIDDLE)
    assert (check.clean, period.until, period.verified_at is not None) == (True, MIDDLE, True)
    folded = asked(copy, FOLDED.format(until=MIDDLE)).replace("null", "0")
    assert asked(copy, KEPT) == folded
    counted = f"select count(*) from postings where tenant = 'acme' and coalesce(effective_at, at) < '{MIDDLE}'"
    assert period.postings == asked(copy, counted)


def test_a_posting_counts_where_its_effective_date_says(copy: str) -> None:
    early = f"tenant = 'acme' and coalesce(effective_at, at) < '{MIDDLE}'"
    spoil(copy, f"update postings set effective_at = '{LATE}' where {early}")
    assert not close(copy, MIDDLE)[1].clean, "its hash and its record know of no such date"
    by = {which: trial(copy, tenant="acme", at=MIDDLE, by=which) for which in ("recorded", "effective")}
    assert sum(line.debits for line in by["recorded"].lines) > sum(line.debits for line in by["effective"].lines) == 0


def test_where_the_check_finds_something_the_period_is_open_again(copy: str) -> None:
    spoil(copy, "update balances set debits_posted = debits_posted + 1 where account = 1")
    period, check = close(copy, MIDDLE)
    assert (check.clean, period.reopened_by, period.reason) == (False, "test", "the check found 2 differences")
    assert asked(copy, "select count(*) from closing_balances") == 0


def test_periods_are_closed_and_reopened_at_their_end(copy: str) -> None:
    version = asked(copy, "select version from configuration_version")
    close(copy, MIDDLE)
    close(copy, LATE)
    assert asked(copy, "select version from configuration_version") > version, "ticks hear of it"
    for until in (MIDDLE, LATE, LATE - timedelta(1)):
        with pytest.raises(Refusal, match="period_closed"):
            close(copy, until)
    reopened = reopen(copy)
    assert (reopened.until, reopened.reopened_by, reopened.reason) == (LATE, "somebody", "a mistake")
    assert [(one.until, one.reopened_at is None) for one in periods(copy)] == [(LATE, False), (MIDDLE, True)]
    assert reopen(copy).until == MIDDLE
    with pytest.raises(Refusal, match="nothing_closed"):
        reopen(copy)
    assert close(copy, MIDDLE)[1].clean
    assert asked(copy, "select count(*) from closing_balances") > 0


def test_a_closing_that_was_interrupted_is_gone_on_with(copy: str) -> None:
    spoil(copy, f"insert into periods (tenant, until, closed_by) values ('acme', '{MIDDLE}', 'somebody')")
    period, check = close(copy, MIDDLE)
    assert (check.clean, period.closed_by, period.verified_at is not None) == (True, "somebody", True)
    assert len(periods(copy)) == 1


def test_what_is_archived_stays_closed(copy: str) -> None:
    close(copy, MIDDLE)
    spoil(copy, "update periods set archived_at = now()")
    with pytest.raises(Refusal, match="period_archived"):
        reopen(copy)


# fmt: off
REFUSED: list[tuple[str, datetime, str, str]] = [
    ("nobody", MIDDLE,                            "default", "tenant_unknown"),
    ("acme",   START + timedelta(days=100 * 365), "default", "until_in_future"),
]
# fmt: on


@pytest.mark.parametrize(("tenant", "until", "book", "reason"), REFUSED)
def test_what_cannot_be_closed_is_refused(copy: str, tenant: str, until: datetime, book: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        close(copy, until, tenant, book)
    assert asked(copy, "select count(*) from periods") == 0


def test_reopening_takes_a_reason(copy: str) -> None:
    close(copy, MIDDLE)
    with pytest.raises(Refusal, match="reason_missing"):
        reopen(copy, " ")


# The trial balance.


def test_the_columns_agree_now_and_at_any_time(ledger: str) -> None:
    now = trial(ledger)
    assert now.agrees
    assert {(total.tenant, total.currency) for total in now.totals} == {("acme", "NGN"), ("globex", "NGN")}
    assert all(total.debit_balances > 0 for total in now.totals)
    assert [line.type for line in now.lines if line.tenant == "acme"] == [
        "customer", "liquidity", "merchant", "settlement",
    ]  # fmt: skip
    assert trial(ledger, at=START + timedelta(days=1)) == now, "the postings say what the counters say"
    earlier = trial(ledger, tenant="acme", at=MIDDLE)
    assert earlier.agrees
    assert earlier.totals[0].debits < now.totals[0].debits
    assert trial(ledger, tenant="acme", at=START).totals[0].debits == 0


def test_a_counter_that_is_off_shows_in_the_columns(copy: str) -> None:
    spoil(copy, "update balances set debits_posted = debits_posted + 1 where account = 1")
    found = trial(copy)
    assert [total.agrees for total in found.totals] == [False, True]
    assert trial(copy, tenant="globex").agrees
    assert trial(copy, at=START + timedelta(days=1)).agrees
