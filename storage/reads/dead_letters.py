"""What became of dead letters: whether somebody retried one, or resolved its case in another way.

Cases of letters whose tenant is unknown belong to nobody's row security, so these are read over the writer's pool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["Handling", "read_handlings"]


class Handling(Struct, frozen=True):
    """Where a letter stands: `open`, `retried` or `resolved`, and by whom and when it got there."""

    status: str
    by: str | None = None
    at: datetime | None = None


async def read_handlings(pool: Pool, letters: Sequence[tuple[str, str]]) -> list[Handling]:
    """Return where letters stand, in order; each is given as (its retrying command, its case). Raises Unavailable."""
    with translated():
        rows = await pool.fetch(_HANDLINGS, [command for command, _ in letters], [case for _, case in letters])
    return [Handling(*row) for row in rows]


_HANDLINGS: Final = """
select case when c.id is not null then 'retried' when k.status = 'resolved' then 'resolved' else 'open' end,
       coalesce(c.principal, case when k.status = 'resolved' then k.operator end), coalesce(c.created_at, k.resolved_at)
from unnest($1::uuid[], $2::uuid[]) with ordinality as given (command, case_id, place)
left join commands c on c.id = given.command
left join cases k on k.id = given.case_id
order by place
"""
