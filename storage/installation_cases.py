"""The cases of the installation, which belong to no tenant: strangers, and poison of nobody's; for the owner's pool.

- They stand under the tenant `-`, so that the row security of tenants shows them to nobody.
- A case is resolved once, with who did it and why; that moves no money and tries nothing again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.storage.errors import translated
from zentra.storage.pool import Pool

__all__ = ["InstallationCase", "list_cases", "resolve_cases"]


class InstallationCase(Struct, frozen=True):
    """A case as its row says; `resolution` and what follows are None while it is open."""

    id: str
    kind: str
    status: str
    opened_at: datetime
    deadline: datetime
    detail: dict[str, Any]
    operator: str | None
    resolution: dict[str, Any] | None
    resolved_at: datetime | None
    overdue: bool = False  # open, and its deadline has passed


async def list_cases(
    pool: Pool, limit: int, *, only_open: bool = False, kind: str | None = None
) -> tuple[InstallationCase, ...]:
    """Return at most `limit` cases of the installation, oldest first; raises Unavailable."""
    with translated():
        rows = await pool.fetch(_LIST, limit, only_open, kind)
    return tuple(_case(row) for row in rows)


async def resolve_cases(pool: Pool, ids: tuple[str, ...], *, by: str, reason: str) -> tuple[str, ...]:
    """Resolve these cases, all or none of them; return which were open until now.

    Raises Refusal where one is no case of the installation; Unavailable."""
    resolution = msgspec.json.encode({"resolution": "dismissed", "reason": reason}).decode()
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            known = {row[0] for row in await connection.fetch(_KNOWN, ids)}
            if unknown := [one for one in ids if one not in known]:
                raise Refusal("not_found", f"the installation has no case {unknown[0]}; see: zentra cases list")
            rows = await connection.fetch(_RESOLVE, ids, by, resolution)
    resolved = {row[0] for row in rows}
    return tuple(one for one in dict.fromkeys(ids) if one in resolved)


def _case(row: Any) -> InstallationCase:
    resolution = None if row[7] is None else msgspec.json.decode(row[7])
    detail = msgspec.json.decode(row[5])
    return InstallationCase(row[0], row[1], row[2], row[3], row[4], detail, row[6], resolution, row[8], row[9])


_LIST: Final = """
select id, kind, status, opened_at, deadline, detail::text, case when status = 'resolved' then operator end,
    resolution::text, resolved_at, status = 'open' and deadline < clock_timestamp()
from cases
where tenant = '-' and (not $2 or status = 'open') and ($3::text is null or kind = $3)
order by opened_at, id limit $1
"""
_KNOWN: Final = "select id from cases where tenant = '-' and id = any($1::uuid[]) order by id for update"
_RESOLVE: Final = """
update cases set status = 'resolved', operator = $2, resolution = $3::text::jsonb, resolved_at = now()
where tenant = '-' and id = any($1::uuid[]) and status = 'open'
returning id
"""
