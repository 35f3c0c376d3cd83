"""A part of a check: some of the windows, read on a connection of its own, in this process or in one of its own.

A part gives back what it found, how much it looked at, and runs of sums by account; it keeps nothing in memory but one
window and the sums."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from zentra.runtime.verification.differences import Findings
from zentra.runtime.verification.intents import Counts, Verifier
from zentra.runtime.verification.postings import PostingRow
from zentra.storage.verification.snapshot import joined_snapshot
from zentra.storage.verification.spilling import FOLD_ACCOUNTS_MAX, write_run
from zentra.storage.verification.windows import AccountCache, Window, read_windows

__all__ = ["GC_THRESHOLDS", "Part", "Seen", "Told", "dealt", "run_part", "run_part_in_process", "set_progress"]

Told = Callable[[int, int], None]
"""Hears how many records and postings more have been looked at."""


class Part(Struct, frozen=True):
    """What one part has to do. Postings from `since` on are added up, those before `until` a second time, by when they
    count where that is `effective`; `directory` takes its runs, under names that begin with its number."""

    number: int
    url: str
    snapshot: str
    tenant: str | None
    since: datetime | None
    until: datetime | None
    effective: bool
    directory: str
    windows: tuple[Window, ...]


class Seen(Struct):
    """What a part gives back: `runs` and `early_runs` are files."""

    counts: Counts
    findings: Findings
    runs: list[str]
    early_runs: list[str]


async def run_part(part: Part, told: Told) -> Seen:
    """Do a part; raises Unavailable and OSError."""
    since, until = part.since, part.until
    counted = None if since is None else _from(since)
    early = None if until is None else _before(until, part.effective)
    verifier = Verifier(counted=counted, early=early)
    seen = Seen(verifier.counts, verifier.findings, [], [])
    async with joined_snapshot(part.url, part.snapshot) as connection:
        accounts = AccountCache(connection)
        async for held in read_windows(connection, part.windows, part.tenant, accounts):
            records, postings = verifier.counts.records, verifier.counts.postings
            for one in held:
                verifier.intent(one.row, one.records, one.postings, accounts.known, one.hold)
            told(verifier.counts.records - records, verifier.counts.postings - postings)
            if len(verifier.fold) > FOLD_ACCOUNTS_MAX:
                _spill(part, verifier, seen)
    _spill(part, verifier, seen)
    return seen


def _spill(part: Part, verifier: Verifier, seen: Seen) -> None:
    for fold, runs, kind in ((verifier.fold, seen.runs, "all"), (verifier.early_fold, seen.early_runs, "early")):
        if fold:
            path = Path(part.directory) / f"{part.number}-{kind}-{len(runs)}"
            write_run(path, fold)
            runs.append(str(path))
            fold.clear()


def _from(since: datetime) -> Callable[[PostingRow], bool]:
    return lambda posting: posting.at >= since


def _before(until: datetime, effective: bool) -> Callable[[PostingRow], bool]:
    if effective:
        return lambda posting: posting.counts_from < until
    return lambda posting: posting.at < until


# A window makes thousands of rows that live until it is verified, and no cycles.
GC_THRESHOLDS: Final = (50_000, 20, 50)
_progress: list[Any] = []  # the queue of this process, where it does parts for another one
_TELL_EVERY: Final = 2_000


def set_progress(queue: Any) -> None:
    """Make `queue` the one that this process, which does nothing but parts, tells its progress to."""
    gc.set_threshold(*GC_THRESHOLDS)
    _progress[:] = [queue]


def run_part_in_process(part: Part) -> Seen:
    """Do a part in a process of its own, which tells its progress to the queue that it was given."""
    pending = [0, 0]

    def told(records: int, postings: int) -> None:
        pending[0] += records
        pending[1] += postings
        if pending[0] + pending[1] >= _TELL_EVERY:
            _tell(pending)

    seen = asyncio.run(run_part(part, told))
    _tell(pending)
    return seen


def _tell(pending: list[int]) -> None:
    for queue in _progress:
        queue.put(tuple(pending))
    pending[:] = [0, 0]


def dealt(windows: Iterable[Window], parts: int) -> list[tuple[Window, ...]]:
    """Return the windows as they are dealt out, one to each part in turn, so that all have about the same to do."""
    every = list(windows)
    return [tuple(every[number::parts]) for number in range(parts)]
