"""How much was accepted and has not been looked at by a worker yet, from durable rows alone.

An intent waits while it has no second transition. Ids are ordered by time and workers take work in order, so what waits
is the newest: intents are walked from the newest back, page by page, until a page is done but for stragglers. That asks
for two primary keys per intent, writes nothing, and needs no index of its own: without a backlog it is one page.

- What was set aside with a case for an operator waits for a person and is not counted.
- The walk is bounded, whatever it finds: past `most` the answer is "at least".
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["Backlog", "read_backlog"]

PAGE_MIN: Final = 500  # a fraction of a second's work, so a worker that keeps up is seen to do so at once
PAGE_MAX: Final = 8_000
STRAGGLERS: Final = 50  # a page with fewer than one in fifty waiting is the end: some wait for their timers
ROWS_PER_WAITING_MAX: Final = 4  # rows looked at, as a multiple of `most`


class Backlog(Struct, frozen=True):
    """What waits, how much of it for longer than was asked about, and for how long the oldest has."""

    waiting: int
    late: int
    oldest_seconds: float


async def read_backlog(pool: Pool, *, most: int, late_seconds: float) -> Backlog:
    """Return what waits; a number from `most` on says "at least". Over the writer's pool; raises Unavailable."""
    waiting = late = seen = 0
    oldest: datetime | None = None
    now: datetime | None = None
    before, page = "f" * 32, PAGE_MIN
    while waiting < most and seen < most * ROWS_PER_WAITING_MAX:
        with translated():
            row = await pool.fetchrow(_PAGE, before, page, late_seconds)
        assert row is not None, "an aggregate has a row"
        rows, open_rows, late_rows, first, before, now = row
        waiting, late, seen = waiting + open_rows, late + late_rows, seen + rows
        oldest = first or oldest
        if rows < page or open_rows * STRAGGLERS < rows:
            break
        page = min(2 * page, PAGE_MAX)
    seconds = (now - oldest).total_seconds() if oldest is not None and now is not None else 0.0
    return Backlog(waiting, late, max(0.0, seconds))


# The look-ups are subqueries on purpose: as joins they would be planned by statistics that lag behind a burst.
_PAGE: Final = """
with page as materialized (
    select id, created_at, case
        when (select true from transitions t where t.intent = i.id and t.sequence = 2) then false
        else (select true from cases c where c.intent = i.id limit 1) is null
    end as waits
    from intents i where id < $1 order by id desc limit $2
)
select count(*), count(*) filter (where waits),
       count(*) filter (where waits and created_at < clock_timestamp() - make_interval(secs => $3)),
       min(created_at) filter (where waits), (select id from page order by id limit 1), clock_timestamp()
from page
"""
