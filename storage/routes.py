"""The life of a tenant's routing documents, which are kept in versions; and what is in force of them.

- The table of corridors holds the corridors of the active version, written in the commit that makes it active: so every
  decision reads one version, whole, and names it.
- A version leads only to rails of its tenant's world, which is looked at again by the table of corridors itself.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from zentra.runtime.intents.command import Violation
from zentra.runtime.rails.document import corridors_of, digest_of_routes, parse_routes, unknown_rails
from zentra.runtime.rails.routing import Corridor, RailRoute
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.versions import Shelf, VersionView

__all__ = ["CORRIDOR_COLUMNS", "ROUTES", "check_routes", "corridor_of", "corridors_in_force", "reachable_rails"]

CORRIDOR_COLUMNS: Final = (
    "tenant, name, currency, kind, rails, country, minor_min, minor_max, routes, version, prefer, wait_seconds"
)


def corridor_of(row: Any) -> Corridor:
    """Return the corridor of a row of CORRIDOR_COLUMNS."""
    routes = msgspec.json.decode(row[8], type=tuple[RailRoute, ...])
    return Corridor(row[0], row[1], row[2], row[3], tuple(row[4]), row[5], row[6], row[7], routes, *row[9:12])


async def corridors_in_force(connection: Connection, tenant: str) -> tuple[Corridor, ...]:
    """Return a tenant's corridors by name."""
    return tuple(map(corridor_of, await connection.fetch(_IN_FORCE, tenant)))


async def check_routes(pool: Pool, tenant: str, document: Any) -> list[Violation]:
    """Return what is wrong with a document, with the rails that the tenant cannot reach; raises Unavailable."""
    corridors, violations = parse_routes(document, tenant)
    return violations or unknown_rails(corridors, await reachable_rails(pool, tenant))


async def reachable_rails(pool: Pool, tenant: str) -> frozenset[str]:
    """Return the names of the rails in the tenant's world; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        return frozenset(row[0] for row in await connection.fetch("select reachable_rails($1)", tenant))


def _in_force(tenant: str, view: VersionView) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the writes that make the corridors of a version the tenant's."""
    writes: list[tuple[str, tuple[Any, ...]]] = [("delete from corridors where tenant = $1", (tenant,))]
    for one in corridors_of(view.document, tenant, view.version):
        row = (
            tenant, one.name, one.currency, one.kind, list(one.rails), one.country, one.minor_min, one.minor_max,
            msgspec.json.encode(one.routes).decode(), one.version, one.prefer, one.wait_seconds,
        )  # fmt: skip
        writes.append((_CORRIDOR, row))
    return writes


_IN_FORCE: Final = f"select {CORRIDOR_COLUMNS} from corridors where tenant = $1 order by name"  # noqa: S608 - columns
_CORRIDOR: Final = f"""
insert into corridors ({CORRIDOR_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""  # noqa: S608 - the names of columns
ROUTES: Final = Shelf(
    "routes", "/routes", table="routing_documents", events="routing_events", column="document", digest=digest_of_routes,
    judge=check_routes, in_force=_in_force,
)  # fmt: skip
