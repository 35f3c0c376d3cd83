"""Thresholds: what a profile's figures have to keep, read from TOML, and what breaks them.

A threshold is a figure's name with `_max` or `_min` behind it. A name that is no figure of the run breaks the run, so
that a misspelt threshold cannot pass for a kept one. Invalid and incorrect runs break whatever the figures say."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from zentra.bench.measuring.measured import Measured

__all__ = ["DEFAULTS_PATH", "Thresholds", "ThresholdsFaulty", "breaks", "judged", "read_thresholds"]

DEFAULTS_PATH: Final = Path(__file__).with_name("thresholds.toml")

Thresholds = Mapping[str, float]


class ThresholdsFaulty(Exception):
    """Raised for a file of thresholds that cannot be used; the sentence names the place."""


def read_thresholds(path: Path, profile: str) -> Thresholds:
    """Return the thresholds of a profile: those under `every`, and over them those under its own name.

    Raises ThresholdsFaulty."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ThresholdsFaulty(f"{path}: {error}") from error
    found: dict[str, float] = {}
    for table in ("every", profile):
        for name, limit in tables.get(table, {}).items():
            if not name.endswith(("_max", "_min")) or isinstance(limit, bool) or not isinstance(limit, int | float):
                raise ThresholdsFaulty(f"{path}: {table}.{name} has to end in _max or _min and be a number")
            found[name] = float(limit)
    return found


def breaks(figures: Mapping[str, float], thresholds: Thresholds) -> list[str]:
    """Return a sentence for every threshold that the figures do not keep."""
    broken = []
    for name, limit in thresholds.items():
        figure, kind = name[:-4], name[-3:]
        value = figures.get(figure)
        if value is None:
            broken.append(f"{figure} was not measured, and {name} is {limit:g}")
        elif (kind == "max" and value > limit) or (kind == "min" and value < limit):
            broken.append(f"{figure} is {value:g}, {'over' if kind == 'max' else 'under'} {limit:g}")
    return broken


def judged(measured: Measured, thresholds: Thresholds) -> list[str]:
    """Return everything that speaks against a run."""
    return [
        *(f"invalid: {fault}" for fault in measured.faults),
        *(f"incorrect: {breach}" for breach in measured.breaches),
        *breaks(measured.figures, thresholds),
    ]
