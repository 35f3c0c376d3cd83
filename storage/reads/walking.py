"""Pages of lists: newest first, bounded in work as well as in rows, and resumed behind the last row that was looked at.

- The order of a list never changes for a row that is there: whatever was there when a walk began, and stays, is met
  once, however many pages the walk takes and whatever is added meanwhile.
- A page looks at a bounded number of rows. Where filters leave little of them the page is short and says that there is
  more; whoever asks on gets on. No offset is counted and no total is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import asyncpg
from msgspec import Struct

from zentra.storage.pool import Connection

__all__ = ["EXAMINED_MAX", "Filters", "Slice", "Terms", "walk"]

EXAMINED_MAX: Final = 5_000  # rows that one page looks at: tens of milliseconds at worst

Row = TypeVar("Row")
Place = TypeVar("Place")
Filters = Mapping[str, Any]
"""Values to filter by, by the names that a list gives its filters."""


class Slice(Struct, Generic[Row, Place], frozen=True):
    """The rows of a page, and the place behind which the next one begins; None where there is no more."""

    rows: list[Row]
    after: Place | None


class Terms:
    """The values of a statement under construction and the conditions that name them."""

    def __init__(self, *values: object) -> None:
        self.values: list[object] = list(values)
        self._conditions: list[str] = []

    def value(self, value: object) -> str:
        """Return the parameter that stands for `value`."""
        self.values.append(value)
        return f"${len(self.values)}"

    def add(self, condition: str, *values: object) -> None:
        """Add a condition; each `{}` in it stands for one of the values."""
        self._conditions.append(condition.format(*map(self.value, values)))

    def filter(self, known: Mapping[str, str], filters: Filters) -> None:
        """Add the condition of each filter. Raises KeyError for one that the list does not know."""
        for name, value in filters.items():
            condition = known[name]
            self.add(condition, *[value] * condition.count("{}"))

    @property
    def text(self) -> str:
        """All conditions, each behind an `and`."""
        return "".join(f" and {condition}" for condition in self._conditions)


async def walk(
    connection: Connection,
    tenant: str,
    *,
    table: str,
    columns: str,
    order: Mapping[str, str],
    known: Mapping[str, str],
    filters: Filters,
    after: tuple[object, ...] | None,
    limit: int,
) -> tuple[list[asyncpg.Record], tuple[Any, ...] | None]:
    """Return a page of a table that has an index on its tenant and `order`, and the place behind it.

    `order` maps the columns to their types; `known` has the condition of each filter. Only its own statements and the
    names in them are put together here; values are parameters."""
    names, first = ", ".join(order), next(iter(order))
    backwards = ", ".join(f"{name} desc" for name in order)
    rows_after = Terms(tenant)
    place = f"({names}) < ({', '.join('{}::' + kind for kind in order.values())})"
    if after is not None:
        rows_after.add(place, *after)
    rows_after.filter(known, {name: value for name, value in filters.items() if known[name].startswith(first)})
    start = f"from {table} where tenant = $1{rows_after.text} order by {backwards}"
    horizon = None
    if filters:  # what only bounds the first column of the order narrows the walk itself
        found = await connection.fetchrow(
            f"select {names} {start} offset {EXAMINED_MAX - 1} limit 1",
            *rows_after.values,
        )
        horizon = tuple(found) if found is not None else None
    terms = Terms(tenant)
    if after is not None:
        terms.add(place, *after)
    if horizon is not None:
        terms.add(place.replace("<", ">=", 1), *horizon)
    terms.filter(known, filters)
    rows = await connection.fetch(
        f"select {columns} from {table} where tenant = $1{terms.text} order by {backwards}"  # noqa: S608
        f" limit {terms.value(limit + 1)}",
        *terms.values,
    )
    if len(rows) > limit:
        last = rows[limit - 1]
        return rows[:limit], tuple(last[name] for name in order)
    return rows, horizon
