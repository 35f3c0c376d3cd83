"""Sums by account that need not fit into memory: runs in files, each in the order of the accounts, read side by side.

A run is what was added up so far; the same account may stand in several. Numbers have 16 bytes, because sums of signed
64-bit amounts may be larger than these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Final

from zentra.runtime.verification.intents import SUMS

__all__ = ["FOLD_ACCOUNTS_MAX", "merged", "read_run", "write_run"]

FOLD_ACCOUNTS_MAX: Final = 250_000  # accounts in memory, some 60 MB
_WIDTH: Final = 16
_NUMBERS: Final = 1 + SUMS  # the account and its sums
_ROW: Final = _WIDTH * _NUMBERS
_ROWS_AT_ONCE: Final = 4_096

Run = Iterator[tuple[int, list[int]]]


def write_run(path: Path, fold: Mapping[int, list[int]]) -> None:
    """Write sums as a run; raises OSError."""
    with path.open("wb") as file:
        for account in sorted(fold):
            numbers = (account, *fold[account])
            file.write(b"".join([number.to_bytes(_WIDTH, "big", signed=True) for number in numbers]))


def read_run(path: Path) -> Run:
    """Yield the sums of a run, account by account; raises OSError."""
    with path.open("rb") as file:
        while part := file.read(_ROW * _ROWS_AT_ONCE):
            for place in range(0, len(part), _ROW):
                numbers = [
                    int.from_bytes(part[at : at + _WIDTH], "big", signed=True)
                    for at in range(place, place + _ROW, _WIDTH)
                ]
                yield numbers[0], numbers[1:]


def merged(runs: Iterable[Run]) -> Run:
    """Yield the sums over all runs, account by account."""
    last: int | None = None
    total: list[int] = []
    for account, sums in merge(*runs, key=itemgetter(0)):
        if account == last:
            total = [one + other for one, other in zip(total, sums, strict=True)]
            continue
        if last is not None:
            yield last, total
        last, total = account, list(sums)
    if last is not None:
        yield last, total
