"""The check of the ledger: every balance, hash, hold and record, recomputed from the rows in one snapshot.

- Rows are streamed to us and added up here; the server is asked for no sum but of what lies before the point from which
  a check starts, and for the number of rows, read from the tables themselves: a row that an index misses is seen.
- Memory is bounded: a window of intents, the sums of a quarter of a million accounts, and a hundred differences of each
  kind; sums of more accounts go to files.
- A check finds what is not even, not who did it; whoever can rewrite rows, balances, hashes and records alike is found
  by the log's signed heads (`chains`), because these take a key that the database does not have.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty
from typing import Any, Final

from msgspec import Struct

from zentra.runtime.verification.accounts import AccountsVerifier, left
from zentra.runtime.verification.differences import Difference, Findings
from zentra.runtime.verification.intents import SUMS, Counts
from zentra.runtime.verification.postings import NOTHING, AccountFacts, Counters, added
from zentra.storage.pool import Connection
from zentra.storage.verification.forced import owed_by_force
from zentra.storage.verification.parts import Part, Seen, dealt, run_part, run_part_in_process, set_progress
from zentra.storage.verification.snapshot import Snapshot, taken_snapshot
from zentra.storage.verification.spilling import merged, read_run
from zentra.storage.verification.windows import Window, whole_windows, windows_since

__all__ = ["SETTLED_AFTER", "Check", "Opening", "Plan", "Progress", "Totals", "check_ledger", "totals_before"]

SETTLED_AFTER: Final = timedelta(minutes=10)
"""Whatever was decided so long ago is committed or never will be: no transaction lasts longer than seconds."""

Progress = Callable[[str, int, int], None]
"""Hears what is being looked at, how many rows of it, and of how many."""
AccountLine = tuple[int, Counters]

_ACCOUNTS: Final = """
select a.id, a.tenant, a.account_id, a.type, a.currency, a.normal_side, a.guarded, a.overdraft_limit,
    b.tenant, b.debits_pending, b.credits_pending, b.debits_posted, b.credits_posted
from accounts a left join balances b on b.account = a.id
where $1::text is null or a.tenant = $1
order by a.id, b.stripe
"""
_STRAY: Final = """
select b.account, b.stripe from balances b
where not exists (select from accounts a where a.id = b.account) and ($1::text is null or b.tenant = $1) limit 100
"""
# What an index leaves out is seen here alone, so none may be used.
_BY_HEAP: Final = (
    "set local enable_indexscan = off; set local enable_indexonlyscan = off; set local enable_bitmapscan = off"
)
_BY_ANY: Final = (
    "set local enable_indexscan = on; set local enable_indexonlyscan = on; set local enable_bitmapscan = on"
)
_COUNT: Final = """
select (select count(*) from intents where $1::text is null or tenant = $1),
    (select count(*) from transitions where $1::text is null or tenant = $1),
    (select count(*) from postings where $1::text is null or tenant = $1)
"""
_TOTALS: Final = """
select count(*), coalesce(sum(pending), 0)::text, coalesce(sum(posted), 0)::text
from postings where at < $2 and ($1::text is null or tenant = $1)
"""
_SUMS_BEFORE: Final = """
select account, sum(dp)::text, sum(cp)::text, sum(dq)::text, sum(cq)::text from (
    select debit as account, pending as dp, 0::bigint as cp, posted as dq, 0::bigint as cq from postings
        where at < $2 and ($1::text is null or tenant = $1)
    union all
    select credit, 0, pending, 0, posted from postings where at < $2 and ($1::text is null or tenant = $1)
) sides group by account order by account
"""


_FORCED: Final = """
select debit, 'credit', sum(posted)::text from postings where kind = 'forced_reversal' and at < $1 group by debit
union all
select credit, 'debit', sum(posted)::text from postings where kind = 'forced_reversal' and at < $1 group by credit
"""
_NO_SUMS: Final = (0,) * SUMS


class Totals(Struct, frozen=True):
    """How many postings lie before a moment, and what they sum to."""

    postings: int
    pending: int
    posted: int


class Opening(Struct, frozen=True):
    """Where a check starts: a moment, the balances as of then (None: what the server sums the rows before it to), and
    what the rows before it were, where that is known."""

    at: datetime
    accounts: Callable[[], Iterator[AccountLine]] | None = None
    totals: Totals | None = None


class Plan(Struct, frozen=True):
    """What to check: one tenant or all, from which opening, in how many processes. What stood before `until`, by
    when it counts where that is `effective`, is told to `keep`, account by account, where the check found nothing."""

    tenant: str | None = None
    opening: Opening | None = None
    jobs: int = 1
    until: datetime | None = None
    effective: bool = False
    keep: Callable[[datetime, Totals, Iterator[AccountLine]], None] | None = None


class Check(Struct, frozen=True):
    """What a check looked at and what it found."""

    at: datetime
    tenant: str | None
    since: datetime | None
    seconds: float
    counts: Counts
    accounts: int
    differences: tuple[Difference, ...]
    differences_by_check: dict[str, int]
    kept: Totals | None = None

    @property
    def clean(self) -> bool:
        """Return whether nothing was found."""
        return not self.differences_by_check


async def check_ledger(url: str, plan: Plan, progress: Progress) -> Check:
    """Return the check of the ledger behind `url`.

    Raises Misconfigured where the role does not see every tenant, Unavailable, OSError of temporary files, and what
    reading the opening raises."""
    begun = time.monotonic()
    findings, counts = Findings(), Counts()
    with tempfile.TemporaryDirectory(prefix="zentra-check-") as directory:
        async with taken_snapshot(url) as snapshot:
            connection, opening = snapshot.connection, plan.opening
            if opening is None:
                rows = await _counted_rows(connection, plan.tenant)
                windows = await whole_windows(connection, plan.tenant)
            else:
                rows = None
                await _same_before(connection, plan, opening, findings)
                windows = await windows_since(connection, plan.tenant, opening.at)
            seen = await _run(url, snapshot, plan, windows, directory, progress, rows)
            for part in seen:
                counts.add(part.counts)
                findings.add(part.findings)
            if rows is not None:
                for name, table, read in zip(_TABLES, rows, _numbers(counts), strict=True):
                    if table != read:
                        findings.differ("rows", plan.tenant or "-", name, "rows", table, f"{read} along the index")
            openings = [] if opening is None else [_opening(connection, plan, opening)]
            accounts = AccountsVerifier(findings.differ)
            runs = merged(read_run(Path(path)) for part in seen for path in part.runs)
            await _walk_accounts(connection, plan, accounts, runs, openings, progress)
            kept = None
            if plan.until is not None and not findings:
                kept = await totals_before(connection, plan.tenant, plan.until)
        if plan.keep is not None and kept is not None:
            plan.keep(snapshot.at, kept, _kept(opening, [path for part in seen for path in part.early_runs]))
    return Check(
        at=snapshot.at, tenant=plan.tenant, since=None if opening is None else opening.at,
        seconds=round(time.monotonic() - begun, 3), counts=counts, accounts=accounts.accounts,
        differences=tuple(findings.shown), differences_by_check=findings.counts, kept=kept,
    )  # fmt: skip


async def totals_before(connection: Connection, tenant: str | None, moment: datetime) -> Totals:
    """Return what the postings before a moment sum to; raises Unavailable."""
    row = await connection.fetchrow(_TOTALS, tenant, moment)
    assert row is not None
    return Totals(row[0], int(row[1]), int(row[2]))


_TABLES: Final = ("intents", "transitions", "postings")


def _numbers(counts: Counts) -> tuple[int, int, int]:
    return counts.intents, counts.records, counts.postings


async def _counted_rows(connection: Connection, tenant: str | None) -> tuple[int, int, int]:
    await connection.execute(_BY_HEAP)
    row = await connection.fetchrow(_COUNT, tenant)
    await connection.execute(_BY_ANY)
    assert row is not None
    return row[0], row[1], row[2]


async def _same_before(connection: Connection, plan: Plan, opening: Opening, findings: Findings) -> None:
    """Compare what lies before the opening with what lay there when it was made."""
    if opening.totals is None:
        return
    found = await totals_before(connection, plan.tenant, opening.at)
    for name, expected, have in zip(Totals.__struct_fields__, _totals(opening.totals), _totals(found), strict=True):
        if expected != have:
            findings.differ("opening", plan.tenant or "-", f"postings before {opening.at}", name, expected, have)


def _totals(totals: Totals) -> tuple[int, int, int]:
    """Return totals in the order of their fields."""
    return totals.postings, totals.pending, totals.posted


# Windows ------------------------------------------------------------------------------------------------------------


async def _run(
    url: str, snapshot: Snapshot, plan: Plan, windows: Sequence[Window], directory: str, progress: Progress,
    rows: tuple[int, int, int] | None,
) -> list[Seen]:  # fmt: skip
    """Verify all windows, in as many processes as the plan wants."""
    total = 0 if rows is None else rows[1] + rows[2]
    done = 0

    def told(records: int, postings: int) -> None:
        nonlocal done
        done += records + postings
        progress("records and postings", done, max(total, done))

    since = None if plan.opening is None else plan.opening.at
    jobs = max(1, min(plan.jobs, len(windows)))
    parts = [
        Part(number, url, snapshot.name, plan.tenant, since, plan.until, plan.effective, directory, dealt_out)
        for number, dealt_out in enumerate(dealt(windows, jobs))
    ]
    if jobs == 1:
        return [await run_part(parts[0], told)]
    return await _in_processes(parts, told)


async def _in_processes(parts: Sequence[Part], told: Callable[[int, int], None]) -> list[Seen]:
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(len(parts), mp_context=context, initializer=set_progress, initargs=(queue,)) as pool:
        waiting = [loop.run_in_executor(pool, run_part_in_process, part) for part in parts]
        gathered = asyncio.gather(*waiting)
        while not gathered.done():
            try:
                told(*await asyncio.to_thread(queue.get, True, 0.2))
            except Empty:
                continue
        return list(await gathered)


# Accounts -----------------------------------------------------------------------------------------------------------


async def _walk_accounts(
    connection: Connection, plan: Plan, accounts: AccountsVerifier, folded: Iterator[tuple[int, list[int]]],
    openings: Sequence[AsyncIterator[AccountLine]], progress: Progress,
) -> None:  # fmt: skip
    """Compare the counters of each account with its sums; all three come in the order of the accounts' numbers."""
    whole = plan.opening is None
    sums = _Ahead(folded)
    forced: dict[tuple[int, str], int] = {}
    if plan.opening is not None:
        rows = await connection.fetch(_FORCED, plan.opening.at)
        forced = {(row[0], row[1]): int(row[2]) for row in rows}
    opening = _AheadOfMany(openings)
    await opening.step()
    async for facts, stored in _accounts(connection, plan.tenant, accounts):
        for number, strange in sums.before(facts.id):
            _unknown(accounts, plan, number, strange)
        own = sums.of(facts.id)
        held = None if not whole else own[4]
        by_force = own[5] if facts.normal_side == "credit" else own[6]
        by_force += forced.get((facts.id, facts.normal_side), 0)
        if by_force and left(facts, stored) < -facts.overdraft_limit:
            by_force = await owed_by_force(connection, facts.id, facts.normal_side, facts.overdraft_limit)
        accounts.account(facts, stored, _four(own), held, await opening.of(facts.id), by_force)
        if accounts.accounts % 10_000 == 0:
            progress("accounts", accounts.accounts, accounts.accounts)
    for number, strange in sums.before(None):
        _unknown(accounts, plan, number, strange)
    await opening.drain()
    for number, stripe in await connection.fetch(_STRAY, plan.tenant):
        accounts.differ(
            "balance",
            plan.tenant or "-",
            f"account number {number}",
            "account",
            "there is one",
            f"stripe {stripe} of none",
        )
    accounts.finish()


def _unknown(accounts: AccountsVerifier, plan: Plan, number: int, sums: Sequence[int]) -> None:
    if plan.tenant is None:  # of one tenant, it is another one's account, and the posting was named already
        accounts.unknown(number, NOTHING, _four(sums))


async def _accounts(
    connection: Connection, tenant: str | None, accounts: AccountsVerifier
) -> AsyncIterator[tuple[AccountFacts, Counters]]:
    """Yield every account with its counters over all stripes."""
    facts: AccountFacts | None = None
    stored = NOTHING
    async for row in connection.cursor(_ACCOUNTS, tenant, prefetch=5_000):
        if facts is None or row[0] != facts.id:
            if facts is not None:
                yield facts, stored
            facts, stored = AccountFacts._make(row[:8]), NOTHING
        if row[8] is not None:
            stored = added(stored, (row[9], row[10], row[11], row[12]))
            if row[8] != facts.tenant:
                accounts.differ(
                    "balance", facts.tenant, facts.account_id, "tenant of its counters", facts.tenant, row[8]
                )
    if facts is not None:
        yield facts, stored


class _Ahead:
    """Sums by account, one read ahead."""

    def __init__(self, sums: Iterator[tuple[int, list[int]]]) -> None:
        self._sums = sums
        self._next = next(sums, None)

    def before(self, number: int | None) -> Iterator[tuple[int, list[int]]]:
        """Yield those of accounts before this one, or of all that are left."""
        while self._next is not None and (number is None or self._next[0] < number):
            yield self._next
            self._next = next(self._sums, None)

    def of(self, number: int) -> Sequence[int]:
        """Return those of this account; all before it have been taken."""
        if self._next is None or self._next[0] != number:
            return _NO_SUMS
        found = self._next[1]
        self._next = next(self._sums, None)
        return found


class _AheadOfMany:
    """Openings by account, one read ahead; of none there is nothing."""

    def __init__(self, openings: Sequence[AsyncIterator[AccountLine]]) -> None:
        self._lines = openings[0] if openings else None
        self._next: AccountLine | None = None

    async def step(self) -> None:
        """Read the next line."""
        self._next = None if self._lines is None else await anext(self._lines, None)

    async def of(self, number: int) -> Counters:
        """Return what this account opened with."""
        while self._next is not None and self._next[0] < number:
            await self.step()
        if self._next is None or self._next[0] != number:
            return NOTHING
        found = self._next[1]
        await self.step()
        return found

    async def drain(self) -> None:
        """Read what is left, so that a flaw at the end is seen."""
        while self._next is not None:
            await self.step()


async def _opening(connection: Connection, plan: Plan, opening: Opening) -> AsyncIterator[AccountLine]:
    if opening.accounts is not None:
        for line in opening.accounts():
            yield line
        return
    async for row in connection.cursor(_SUMS_BEFORE, plan.tenant, opening.at, prefetch=5_000):
        yield row[0], (int(row[1]), int(row[2]), int(row[3]), int(row[4]))


def _kept(opening: Opening | None, early_runs: Sequence[str]) -> Iterator[AccountLine]:
    """Yield what accounts stood at before the point that is kept."""
    runs: list[Iterator[tuple[int, list[int]]]] = [read_run(Path(path)) for path in early_runs]
    if opening is not None and opening.accounts is not None:
        runs.append((number, [*counters, *_NO_SUMS[4:]]) for number, counters in opening.accounts())
    for account, sums in merged(runs):
        yield account, _four(sums)


def _four(sums: Sequence[int]) -> Counters:
    return (sums[0], sums[1], sums[2], sums[3])
