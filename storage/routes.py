"""The life of a tenant's routing documents, which are kept in versions; and what is in force of them.

- The table of corridors holds the corridors of the active version, written in the commit that makes it active: so every
  decision reads one version, whole, and names it.
- A version leads only to rails of its tenant's world, which is looked at again by the table of corridors itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation
from zentra.runtime.rails.document import corridors_of, digest_of_routes, parse_routes, spelled, unknown_rails
from zentra.runtime.rails.routing import Corridor, RailRoute
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.versions import Shelf, Step, VersionKey, VersionView

__all__ = [
    "CORRIDOR_COLUMNS",
    "ROUTES",
    "check_routes",
    "corridor_of",
    "corridors_in_force",
    "draft_routes",
    "draft_routes_once",
    "install_corridors",
    "move_routes",
    "move_routes_once",
    "reachable_rails",
]

ROUTES: Final = Shelf("routes", "/routes", "routing_documents", "routing_events", "document", digest_of_routes)
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


async def draft_routes(pool: Pool, tenant: str, document: Any, note: str, by: str) -> VersionView:
    """Store a document as the next version, a draft, and return it."""
    return await ROUTES.draft(pool, tenant, document, note, by, await check_routes(pool, tenant, document))


async def draft_routes_once(
    pool: Pool, tenant: str, document: Any, note: str, by: str, key: VersionKey
) -> VersionView | StoredKey:
    """Store a document as the next version, a draft; return it, or what its key has stored already."""
    violations = await check_routes(pool, tenant, document)
    return await ROUTES.draft_once(pool, tenant, document, note, by, violations, key)


async def move_routes(pool: Pool, tenant: str, version: int, step: Step, by: str) -> VersionView | None:
    """Take a version one step on and return it; None where there is none. Raises as `Shelf.move`."""
    violations = await _checked_version(pool, tenant, version)
    return await ROUTES.move(pool, tenant, version, step, by, violations, lambda view: _in_force(tenant, view))


async def move_routes_once(
    pool: Pool, tenant: str, version: int, step: Step, by: str, key: VersionKey
) -> VersionView | StoredKey | None:
    """Take a version one step on and return it, or what the key has stored already; None where there is none.

    Raises as `Shelf.move`."""
    violations = await _checked_version(pool, tenant, version)
    return await ROUTES.move_once(
        pool, tenant, version, step, by, violations, key, lambda view: _in_force(tenant, view)
    )  # fmt: skip


async def install_corridors(connection: Connection, tenant: str, corridors: Sequence[Corridor], by: str) -> int:
    """Put corridors in force at once, by the hand of whoever owns the installation; return their version.

    The caller holds the lock of `ROUTES`, and has checked the corridors."""
    return await ROUTES.install(connection, tenant, spelled(corridors), by, lambda view: _in_force(tenant, view))


async def _checked_version(pool: Pool, tenant: str, version: int) -> list[Violation]:
    written = await ROUTES.show(pool, tenant, version)
    return [] if written is None else await check_routes(pool, tenant, written.document)


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
