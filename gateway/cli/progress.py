"""How far a long command is: a bar on a terminal, a line every few seconds elsewhere, nothing of it on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import typer

__all__ = ["shown_progress"]

LINE_SECONDS: Final = 5.0


@contextmanager
def shown_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what takes note of progress: of what, how much is done, and of how much."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def shown(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done, total=total)

        yield shown


def _lines() -> Callable[[str, int, int], None]:
    told = time.monotonic()

    def line(label: str, done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            share = f" ({100 * done // total} %)" if total > done else ""
            typer.echo(f"{label}: {done} of {total}{share}", err=True)

    return line
