"""Balances and statements of any moment, against the plain sum of all postings; marks change nothing about them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import pytest

from zentra.runtime.ledger.book import Balance
from zentra.storage.pool import Pool
from zentra.storage.reads import balances as module
from zentra.storage.reads.balances import By, balance_at, fold, leave_marks
from zentra.storage.reads.statements import StatementPlace, statement

DAY = datetime(2026, 4, 1, tzinfo=UTC)
KINDS = ("reserve", "release", "post", "settle", "book", "reversal")


class Made(NamedTuple):
    """A posting as it was made up."""

    at: datetime
    effective_at: datetime | None
    debit: str
    credit: str
    pending: int
    posted: int


def naive(made: list[Made], account: str, before: datetime, by: By) -> Balance:
    """Return what the postings before a moment add up to, one after the other."""
    total = Balance()
    for one in made:
        moment = one.effective_at or one.at if by == "effective" else one.at
        if moment >= before:
            continue
        if one.debit == account:
            total.debits_pending += one.pending
            total.debits_posted += one.posted
        if one.credit == account:
            total.credits_pending += one.pending
            total.credits_posted += one.posted
    return total


@pytest.fixture(scope="module")
def made() -> list[Made]:
    return []


@pytest.fixture
async def rows(admin_pool: Pool, made: list[Made]) -> list[Made]:
    """Three accounts with a few thousand postings: many at one moment, some that count from another time."""
    if made:
        return made
    draw = random.Random(7)
    await admin_pool.execute("insert into tenants (id, name) values ('acme', 'a'), ('globex', 'g')")
    ids = {}
    for tenant in ("acme", "globex"):
        for name in ("a", "b", "c"):
            ids[tenant, name] = await admin_pool.fetchval(
                "insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, created_by)"
                " values ($1, $2, 'o', 'customer', 'NGN', 'credit', true, 'test') returning id",
                tenant, name,
            )  # fmt: skip
    at = DAY
    for _ in range(3_000):
        if draw.random() < 0.6:
            at += timedelta(microseconds=draw.choice((1, 1_000_000, 60_000_000)))
        debit, credit = draw.sample(("a", "b", "c"), 2)
        amount = draw.randrange(1, 2**62)
        pending, posted = draw.choice(((amount, 0), (-amount, 0), (-amount, amount), (0, amount)))
        effective = None
        if draw.random() < 0.1:
            effective = at + timedelta(seconds=draw.choice((-7200, -1, 0, 1, 7200)))
        made.append(Made(at, effective, debit, credit, pending, posted))
    records = [
        (f"{number:032x}", 0, "acme", draw.choice(KINDS), ids["acme", one.debit], ids["acme", one.credit], "NGN",
         one.pending, one.posted, one.at, b"h" * 32, one.effective_at)
        for number, one in enumerate(made)
    ]  # fmt: skip
    draw.shuffle(records)  # rows do not lie in the order of their times
    columns = (
        "intent", "ordinal", "tenant", "kind", "debit", "credit", "currency", "pending", "posted", "at", "hash",
        "effective_at",
    )  # fmt: skip
    async with admin_pool.acquire() as connection:
        await connection.copy_records_to_table("postings", schema_name="zentra", columns=columns, records=records)
    return made


def moments(made: list[Made]) -> list[datetime]:
    """Return moments before, at, between and behind entries."""
    draw = random.Random(3)
    found = [made[0].at, made[-1].at, made[-1].at + timedelta(days=1), DAY - timedelta(days=1)]
    for one in draw.sample(made, 12):
        found += [one.at, one.at + timedelta(microseconds=1), one.effective_at or one.at]
    return found


@pytest.mark.parametrize("marked", [False, True], ids=["without marks", "with marks"])
@pytest.mark.parametrize("by", ["recorded", "effective"])
async def test_the_balance_of_any_moment_is_the_sum_of_what_lies_before_it(
    tenant_pool: Pool, admin_pool: Pool, rows: list[Made], monkeypatch: pytest.MonkeyPatch, by: By, marked: bool
) -> None:
    await admin_pool.execute("delete from balance_marks")
    if marked:
        for name, few in (("MARK_EVERY", 50), ("MARKED_FROM", 100), ("MARKED_AT_ONCE", 300)):
            monkeypatch.setattr(module, name, few)
    for account in ("a", "b", "c"):
        for moment in moments(rows):
            found = await balance_at(tenant_pool, "acme", account, moment, by)
            assert found is not None
            assert found.balance == naive(rows, account, moment, by), (account, moment)
            assert found.final is (by == "recorded")
    assert (await admin_pool.fetchval("select count(*) from balance_marks") > 0) is marked


async def test_marks_are_made_once_and_say_how_many_entries_they_hold(
    tenant_pool: Pool, admin_pool: Pool, rows: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    await admin_pool.execute("delete from balance_marks")
    for name, few in (("MARK_EVERY", 50), ("MARKED_FROM", 100), ("MARKED_AT_ONCE", 300)):
        monkeypatch.setattr(module, name, few)
    assert await leave_marks(tenant_pool, "acme", "a", None)
    first = await admin_pool.fetch("select * from balance_marks order by at")
    assert await leave_marks(tenant_pool, "acme", "a", None)
    assert await admin_pool.fetch("select * from balance_marks order by at") == first
    for row in first:
        before = row["at"] + timedelta(microseconds=1)
        mine = [one for one in rows if "a" in (one.debit, one.credit) and one.at < before]
        assert row["entries"] == len(mine)
        said = Balance(*(int(row[name]) for name in Balance.__struct_fields__))
        assert said == naive(rows, "a", before, "recorded")
    counts = [row["entries"] for row in first]
    assert all(later - earlier < 150 for earlier, later in pairwise(counts))


async def test_postings_behind_a_mark_may_be_moved_away(
    tenant_pool: Pool, admin_pool: Pool, rows: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever moves old postings away leaves a mark behind the last: every moment from then on is as it was."""
    async with admin_pool.acquire() as connection:
        change = connection.transaction()
        await change.start()
        await connection.execute("delete from zentra.balance_marks")
        cut = rows[1_500].at
        account = await connection.fetchval("select id from zentra.accounts where tenant='acme' and account_id='a'")
        left = naive(rows, "a", cut + timedelta(microseconds=1), "recorded")
        counters = [getattr(left, name) for name in Balance.__struct_fields__]
        await connection.execute(
            "insert into zentra.balance_marks values ($1, $2, 'acme', 1, $3, $4, $5, $6)", account, cut, *counters
        )
        await connection.execute("delete from zentra.postings where at <= $1", cut)
        for moment in (cut + timedelta(microseconds=1), rows[2_000].at, rows[-1].at + timedelta(days=1)):
            found = (await fold(connection, "acme", account, moment, "recorded"))[1]
            assert found == naive(rows, "a", moment, "recorded")
        await change.rollback()


@pytest.mark.parametrize("limit", [1, 7, 1_000])
@pytest.mark.parametrize("by", ["recorded", "effective"])
async def test_a_statement_goes_from_its_opening_to_its_closing_entry_by_entry(
    tenant_pool: Pool, rows: list[Made], by: By, limit: int
) -> None:
    draw = random.Random(limit)
    for account in ("a", "b"):
        since, until = sorted(one.at for one in draw.sample(rows, 2))
        if limit == 1:
            until = min(until, since + timedelta(minutes=10))
        entries, after = [], None
        while True:
            page = await statement(
                tenant_pool, "acme", account, since=since, until=until, by=by, after=after, limit=limit
            )
            assert page is not None
            assert page.opening == naive(rows, account, since, by)
            assert page.closing == naive(rows, account, until, by)
            assert (page.since, page.until) == (since, until)
            entries += page.entries
            if page.after is None:
                break
            after = page.after
        shown = [(row.effective_at or row.at) if by == "effective" else row.at for row in entries]
        assert shown == sorted(shown)
        assert all(since <= moment < until for moment in shown)
        expected = [one for one in rows if account in (one.debit, one.credit)
                    and since <= ((one.effective_at or one.at) if by == "effective" else one.at) < until]  # fmt: skip
        assert len(entries) == len(expected)
        assert len({(row.intent, row.ordinal) for row in entries}) == len(entries)
        if entries:
            assert entries[-1].balance == page.closing
        for row, moment, following in zip(entries, shown, shown[1:], strict=False):
            if moment < following and draw.random() < 0.1:
                assert row.balance == naive(rows, account, moment + timedelta(microseconds=1), by)


async def test_what_is_committed_between_two_pages_belongs_to_the_next_statement(
    tenant_pool: Pool, admin_pool: Pool, rows: list[Made]
) -> None:
    first = await statement(tenant_pool, "acme", "c", since=None, until=None, by="recorded", limit=5)
    assert first is not None
    assert first.after is not None
    rows_of = await admin_pool.fetch("select account_id, id from accounts where tenant = 'acme'")
    ids = {row["account_id"]: row["id"] for row in rows_of}
    insert = "insert into postings values ($1, 0, 'acme', 'book', $2, $3, 'NGN', 0, 5, $4, 'h')"
    late, soon = rows[100].at, datetime.now(UTC)
    await admin_pool.execute(insert, "f" * 31 + "1", ids["a"], ids["c"], soon)
    try:
        shown = list(first.entries)
        after: StatementPlace | None = first.after
        while after is not None:
            page = await statement(tenant_pool, "acme", "c", since=None, until=None, by="recorded", after=after)
            assert page is not None
            shown, after = [*shown, *page.entries], page.after
        assert "f" * 31 + "1" not in {row.intent for row in shown}
        assert shown[-1].balance == first.closing
        assert late < soon
    finally:
        await admin_pool.execute("delete from postings where intent = $1", "f" * 31 + "1")


async def test_others_see_nothing_and_make_no_marks(tenant_pool: Pool, admin_pool: Pool, rows: list[Made]) -> None:
    await admin_pool.execute("delete from balance_marks")
    found = await balance_at(tenant_pool, "globex", "a", None, "recorded")
    assert found is not None
    assert found.balance == Balance()
    assert await balance_at(tenant_pool, "initech", "a", None, "recorded") is None
    assert await statement(tenant_pool, "acme", "nobody", since=None, until=None, by="recorded") is None
    account = await admin_pool.fetchval("select id from accounts where tenant = 'acme' and account_id = 'a'")
    async with tenant_pool.acquire() as connection, connection.transaction():
        await connection.execute("select set_config('zentra.tenant', 'globex', true)")
        assert await connection.fetchval("select mark_balances($1, now(), 1, 1000)", account) == 0
    assert await admin_pool.fetchval("select count(*) from balance_marks") == 0
