"""The life of a tenant's routing documents: draft, validated, active, retired; and what is in force of them.

- A version never changes and is never deleted; only its state does, and each step is a row in `routing_events`.
- The table of corridors holds the corridors of the active version, written in the commit that makes it active: so every
  decision reads one version, whole, and names it.
- A version leads only to rails of its tenant's world, which is looked at again by the table of corridors itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation
from zentra.runtime.rails.document import corridors_of, digest_of_routes, parse_routes, spelled, unknown_rails
from zentra.runtime.rails.routing import Corridor, RailRoute
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.versions import (
    STEPS,
    Planned,
    Step,
    VersionEvent,
    VersionKey,
    VersionRow,
    may_step,
    stepped,
    stepped_once,
)

__all__ = [
    "CORRIDOR_COLUMNS",
    "RoutesView",
    "check_routes",
    "corridor_of",
    "corridors_in_force",
    "draft_routes",
    "draft_routes_once",
    "install_corridors",
    "lock_routes",
    "move_routes",
    "move_routes_once",
    "reachable_rails",
    "routes_events",
    "routes_rows",
    "show_routes",
    "shown_routes",
]

VERSIONS_MAX: Final = 500
CORRIDOR_COLUMNS: Final = (
    "tenant, name, currency, kind, rails, country, minor_min, minor_max, routes, version, prefer, wait_seconds"
)
_Write = tuple[str, tuple[Any, ...]]


class RoutesView(VersionRow, frozen=True):
    """A version as it is stored, with what was found wrong with it when it was written."""

    document: Any
    violations: tuple[Violation, ...] = ()


_Planning = Callable[[Connection], Awaitable[Planned[RoutesView] | None]]


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


async def draft_routes(pool: Pool, tenant: str, document: Any, note: str, by: str) -> RoutesView:
    """Store a document as the next version, a draft, and return it."""
    done = await stepped(pool, tenant, _LOCK, await _drafting(pool, tenant, document, note, by))
    assert done is not None
    return done


async def draft_routes_once(
    pool: Pool, tenant: str, document: Any, note: str, by: str, key: VersionKey
) -> RoutesView | StoredKey:
    """Store a document as the next version, a draft; return it, or what its key has stored already."""
    done = await stepped_once(pool, tenant, _LOCK, await _drafting(pool, tenant, document, note, by), key)
    assert done is not None
    return done


async def move_routes(pool: Pool, tenant: str, version: int, step: Step, by: str) -> RoutesView | None:
    """Take a version one step on and return it; None where there is none.

    Raises Refusal `policy_state_conflict` where the step does not lead on from its state, `self_promotion` for its own
    author, and InvalidDocument where it is none."""
    return await stepped(pool, tenant, _LOCK, await _moving(pool, tenant, version, step, by))


async def move_routes_once(
    pool: Pool, tenant: str, version: int, step: Step, by: str, key: VersionKey
) -> RoutesView | StoredKey | None:
    """Take a version one step on and return it, or what the key has stored already; None where there is none.

    Raises as `move_routes`."""
    return await stepped_once(pool, tenant, _LOCK, await _moving(pool, tenant, version, step, by), key)


async def _drafting(pool: Pool, tenant: str, document: Any, note: str, by: str) -> _Planning:
    violations = tuple(await check_routes(pool, tenant, document))
    digest, text = digest_of_routes(document), msgspec.json.encode(document).decode()

    async def plan(connection: Connection) -> Planned[RoutesView]:
        version, now = await _next(connection, tenant)
        view = RoutesView(version, "draft", digest, note, by, now, document, violations)
        row = (tenant, version, text, by, now, "draft", digest, note)
        told = {"digest": digest, "violations": violations}
        return _planned(view, 201, [(_INSERT, row), _event(tenant, version, "drafted", by, told)])

    return plan


async def _moving(pool: Pool, tenant: str, version: int, step: Step, by: str) -> _Planning:
    written = await show_routes(pool, tenant, version)
    violations = [] if written is None else await check_routes(pool, tenant, written.document)

    async def plan(connection: Connection) -> Planned[RoutesView] | None:
        known = None if written is None else await _version(connection, tenant, version)
        if known is None:
            return None
        may_step(known, step, violations, by)
        _, becomes, action = STEPS[step]
        writes: list[_Write] = []
        if becomes == "active":
            writes += await _retired(connection, tenant, by)
        writes += [(_STATE, (tenant, version, becomes))]
        writes += [_event(tenant, version, action, by, {"digest": known.digest})]
        if becomes == "active":
            writes += _in_force(tenant, corridors_of(known.document, tenant, version))
        return _planned(msgspec.structs.replace(known, state=becomes), 200, writes)

    return plan


async def lock_routes(connection: Connection, tenant: str) -> None:
    """Let nobody else change the tenant's routes until the end of the transaction."""
    await connection.execute(_LOCK, tenant)


async def install_corridors(connection: Connection, tenant: str, corridors: Sequence[Corridor], by: str) -> int:
    """Put corridors in force at once, by the hand of whoever owns the installation; return their version.

    The caller holds the lock on the tenant's routes, and has checked the corridors."""
    document = spelled(corridors)
    version, now = await _next(connection, tenant)
    digest = digest_of_routes(document)
    writes = await _retired(connection, tenant, by)
    text = msgspec.json.encode(document).decode()
    writes += [(_INSERT, (tenant, version, text, by, now, "active", digest, ""))]
    writes += [_event(tenant, version, "installed", by, {"digest": digest})]
    for statement, values in writes + _in_force(tenant, corridors_of(document, tenant, version)):
        await connection.execute(statement, *values)
    return version


async def show_routes(pool: Pool, tenant: str, version: int) -> RoutesView | None:
    """Return a version of a tenant, or None where there is none."""
    async with tenant_transaction(pool, tenant) as connection:
        return await _version(connection, tenant, version)


async def routes_rows(
    pool: Pool, tenant: str, *, before: int | None = None, limit: int = VERSIONS_MAX
) -> list[VersionRow]:
    """Return at most `limit` of a tenant's versions that are older than `before`, the newest first."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_ROWS, tenant, before, limit)
    return [
        VersionRow(row[0], row[1], row[2] or digest_of_routes(msgspec.json.decode(row[6])), *row[3:6]) for row in rows
    ]


async def routes_events(pool: Pool, tenant: str, version: int) -> list[VersionEvent]:
    """Return what was done with a version, the last first."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_EVENTS, tenant, version, VERSIONS_MAX)
    return [VersionEvent(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4])) for row in rows]


def shown_routes(view: RoutesView) -> dict[str, Any]:
    """Return a version as it is shown: what breaks the rules of a document, and where its other doors are."""
    violations = view.violations if view.state == "draft" else ()
    return {**msgspec.structs.asdict(view), "violations": violations, "links": {"self": f"/routes/{view.version}"}}


def _planned(view: RoutesView, status: int, writes: Sequence[_Write]) -> Planned[RoutesView]:
    answer = msgspec.json.encode(shown_routes(view))
    return Planned(view, f"routes/{view.version}", status, answer, tuple(writes))


async def _retired(connection: Connection, tenant: str, by: str) -> list[_Write]:
    """Return the writes that take the active version out of force."""
    before = await connection.fetchval(_ACTIVE, tenant)
    if before is None:
        return []
    return [(_STATE, (tenant, before, "retired")), _event(tenant, before, "retired", by, {})]


def _in_force(tenant: str, corridors: Sequence[Corridor]) -> list[_Write]:
    """Return the writes that make these the tenant's corridors."""
    writes: list[_Write] = [("delete from corridors where tenant = $1", (tenant,))]
    for one in corridors:
        row = (
            tenant, one.name, one.currency, one.kind, list(one.rails), one.country, one.minor_min, one.minor_max,
            msgspec.json.encode(one.routes).decode(), one.version, one.prefer, one.wait_seconds,
        )  # fmt: skip
        writes.append((_CORRIDOR, row))
    return writes


async def _next(connection: Connection, tenant: str) -> tuple[int, datetime]:
    row = await connection.fetchrow(_NEXT, tenant)
    assert row is not None
    return row[0], row[1]


async def _version(connection: Connection, tenant: str, version: int) -> RoutesView | None:
    row = await connection.fetchrow(_SELECT, tenant, version)
    if row is None:
        return None
    document = msgspec.json.decode(row[6])
    violations = () if row[7] is None else msgspec.json.decode(row[7], type=tuple[Violation, ...])
    digest = row[2] or digest_of_routes(document)
    return RoutesView(row[0], row[1], digest, row[3], row[4], row[5], document, violations)


def _event(tenant: str, version: int, action: str, by: str, detail: dict[str, Any]) -> _Write:
    return _EVENT, (tenant, version, action, by, msgspec.json.encode(detail).decode())


_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('zentra/routes/' || $1, 0))"
_NEXT: Final = "select coalesce(max(version), 0) + 1, clock_timestamp() from routing_documents where tenant = $1"
_ACTIVE: Final = "select version from routing_documents where tenant = $1 and state = 'active'"
_SELECT: Final = """
select version, state, digest, note, created_by, created_at, document, (
    select detail -> 'violations' from routing_events e
    where e.tenant = d.tenant and e.version = d.version and e.action = 'drafted' limit 1)
from routing_documents d where tenant = $1 and version = $2
"""
_ROWS: Final = """
select version, state, digest, note, created_by, created_at, case when digest is null then document end
from routing_documents where tenant = $1 and ($2::integer is null or version < $2) order by version desc limit $3
"""
_INSERT: Final = """
insert into routing_documents (tenant, version, document, created_by, created_at, state, digest, note)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_STATE: Final = "update routing_documents set state = $3 where tenant = $1 and version = $2"
_EVENT: Final = "insert into routing_events (tenant, version, action, principal, detail) values ($1, $2, $3, $4, $5)"
_EVENTS: Final = """
select version, action, principal, at, detail - 'violations' from routing_events
where tenant = $1 and version = $2 order by number desc limit $3
"""
_IN_FORCE: Final = f"select {CORRIDOR_COLUMNS} from corridors where tenant = $1 order by name"  # noqa: S608 - columns
_CORRIDOR: Final = f"""
insert into corridors ({CORRIDOR_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""  # noqa: S608 - the names of columns
