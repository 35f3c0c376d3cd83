"""A against B on a noisy machine: both run in turns, and the ratios of the rounds are quoted, with median and spread.

A side is `limit`, or what would stand behind `zentra bench`, run by the Python of any checkout. Rounds alternate which
side goes first, so that a machine that grows slower favours neither."""

from __future__ import annotations

import asyncio
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

__all__ = ["Comparison", "Ratio", "Side", "SideFailed", "compare", "order_of", "ratio_of"]

LIMIT: Final = "limit"
LIMIT_FIGURE: Final = "limit_per_second"
FIGURE: Final = "completed_per_second"


class SideFailed(Exception):
    """Raised where a side did not give a figure; the sentence quotes the end of what it said."""


class Side(Struct, frozen=True):
    """One of the two: its options, as on a command line, and the Python that runs it."""

    name: str
    options: str
    python: str = sys.executable

    def command(self) -> list[str]:
        """Return the command that prints the side's figures as JSON."""
        options = ["limit"] if self.options == LIMIT else shlex.split(self.options)
        return [self.python, "-m", "zentra.gateway", "bench", *options, "--json"]


class Ratio(Struct, frozen=True):
    """The ratio of each round, their median, and the lowest and the highest of them."""

    rounds: list[float]
    median: float
    low: float
    high: float


class Comparison(Struct, frozen=True):
    """What came out: the figure of each side by round, and A / B."""

    figure: str
    a: list[float]
    b: list[float]
    ratio: Ratio


def ratio_of(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Return the ratios of the rounds. Raises ValueError where the rounds do not pair up or a B is nothing."""
    if not a or len(a) != len(b) or not all(b):
        raise ValueError(f"{len(a)} rounds of A and {len(b)} of B, none of which may be 0")
    rounds = [round(each / other, 4) for each, other in zip(a, b, strict=True)]
    return Ratio(rounds, statistics.median(rounds), min(rounds), max(rounds))


def order_of(rounds: int) -> list[str]:
    """Return who runs when: `AB`, `BA`, `AB` and so on."""
    return ["AB" if number % 2 == 0 else "BA" for number in range(rounds)]


async def compare(a: Side, b: Side, rounds: int, figure: str, progress: Callable[[str, int, int], None]) -> Comparison:
    """Return the comparison. Raises SideFailed, and ValueError for no rounds."""
    values: dict[str, list[float]] = {"A": [], "B": []}
    sides = {"A": a, "B": b}
    for number, order in enumerate(order_of(rounds)):
        for place, letter in enumerate(order):
            progress(f"round {number + 1}: {sides[letter].name}", 2 * number + place, 2 * rounds)
            values[letter].append(await _figure(sides[letter], figure))
    return Comparison(figure, values["A"], values["B"], ratio_of(values["A"], values["B"]))


async def _figure(side: Side, figure: str) -> float:
    try:
        process = await asyncio.create_subprocess_exec(
            *side.command(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise SideFailed(f"{side.name} cannot be run by {side.python}: {error.strerror}") from error
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    try:
        document: dict[str, Any] = msgspec.json.decode(out)
    except msgspec.DecodeError:
        raise SideFailed(f"{side.name} ended with {process.returncode}: {err.decode()[-500:].strip()}") from None
    if document.get("valid") is False or document.get("correct") is False or document.get("invariants") == "broken":
        raise SideFailed(f"{side.name}: {document.get('faults', [])} {document.get('breaches', [])}")
    name = LIMIT_FIGURE if side.options == LIMIT else figure
    value = document.get("figures", {}).get(name, document.get(name))
    if not isinstance(value, int | float):
        raise SideFailed(f"{side.name} has no figure {name!r}")
    return float(value)
