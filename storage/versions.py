"""What a tenant keeps in versions: draft, validated, active, retired; and how a version goes from one to the next.

- A version never changes and is never deleted; only its state does, and each step is an event beside it.
- One version at the most is active. Whoever promotes it is somebody else than its author.
- Steps of one tenant are one after the other, under an advisory lock; a step, its event and its key are one commit.
- A document is judged before that lock is taken; what was found wrong with a draft is kept and shown from there.

What differs between kinds of documents is where they are stored, how they are digested and judged, and what putting one
in force writes beside its state: a `Shelf` is told so, and does the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation
from zentra.storage.intake.commands import KeyedAnswer, claim_key, known_key, rerun
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = [
    "VERSIONS_MAX",
    "InvalidDocument",
    "Shelf",
    "Step",
    "VersionEvent",
    "VersionKey",
    "VersionRow",
    "VersionView",
]

VERSIONS_MAX: Final = 500  # versions, or events, in one answer, the newest first
Step = Literal["validate", "promote", "rollback"]
_Write = tuple[str, tuple[Any, ...]]


class VersionRow(Struct, frozen=True):
    """A version in a list: all but its document."""

    version: int
    state: str
    digest: str
    note: str
    created_by: str
    created_at: datetime


class VersionView(VersionRow, frozen=True):
    """A version as it is stored, with what was found wrong with it when it was written."""

    document: Any
    violations: tuple[Violation, ...] = ()


class VersionEvent(Struct, frozen=True):
    """Who did what with a version, when."""

    version: int
    action: str
    principal: str
    at: datetime
    detail: Any


class VersionKey(Struct, frozen=True):
    """The key of a request, and the digest of what is asked with it."""

    key: str
    digest: bytes
    request_id: str


class InvalidDocument(Exception):
    """Raised for a document that cannot be what it is to be, with everything that is wrong with it."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(f"{len(violations)} rules are broken; the first: {violations[0]}")
        self.violations = violations


class _Planned(Struct, frozen=True):
    """What a step will write, the version as it will be, and what a client is answered."""

    view: VersionView
    status: int
    writes: tuple[_Write, ...]


_STEPS: Final = {
    "validate": (("draft", "validated"), "validated", "validated"),
    "promote": (("validated",), "active", "promoted"),
    "rollback": (("retired",), "active", "rolled_back"),
}
"""By step: the states that it leads on from, the state it leads to, and what it is called in the history."""
_WAYS: Final = {
    "draft": "validate it first",
    "validated": "promote it",
    "active": "it is in force",
    "retired": "roll back to it",
}
_Judge = Callable[[Pool, str, Any], Awaitable[Sequence[Violation]]]
_Effects = Callable[[str, VersionView], Sequence[_Write]]
_Plan = Callable[[Connection], Awaitable[_Planned | None]]


def _nothing_more(_tenant: str, _view: VersionView) -> Sequence[_Write]:
    return ()


class Shelf:
    """One kind of document that tenants keep in versions."""

    def __init__(
        self, subject: str, door: str, *, table: str, events: str, column: str, digest: Callable[[Any], str],
        judge: _Judge, in_force: _Effects = _nothing_more,
    ) -> None:  # fmt: skip
        """Versions are rows of `table`, their documents in `column`, and their history rows of `events`.

        `subject` names a version in the answers that keys keep, and `door` is the path below which it is shown. `judge`
        returns what is wrong with a tenant's document, and `in_force` what is written with a version that takes
        effect."""
        self.subject, self.door, self.digest = subject, door, digest
        self._judge, self._in_force = judge, in_force
        # The names of tables and columns are those of the migrations.
        self._lock = f"select pg_advisory_xact_lock(hashtextextended('zentra{door}/' || $1, 0))"
        self._next = f"select coalesce(max(version), 0) + 1, clock_timestamp() from {table} where tenant = $1"  # noqa: S608
        self._active = f"select version from {table} where tenant = $1 and state = 'active'"  # noqa: S608
        self._select = f"""
        select version, state, digest, note, created_by, created_at, {column}, (
            select detail -> 'violations' from {events} e
            where e.tenant = d.tenant and e.version = d.version and e.action = 'drafted' limit 1)
        from {table} d where tenant = $1
        """  # noqa: S608
        self._rows = f"""
        select version, state, digest, note, created_by, created_at, case when digest is null then {column} end
        from {table} where tenant = $1 and ($2::integer is null or version < $2) order by version desc limit $3
        """  # noqa: S608
        self._insert = f"""
        insert into {table} (tenant, version, {column}, created_by, created_at, state, digest, note)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        """  # noqa: S608
        self._state = f"update {table} set state = $3 where tenant = $1 and version = $2"  # noqa: S608
        self._event = f"insert into {events} (tenant, version, action, principal, detail) values ($1, $2, $3, $4, $5)"  # noqa: S608
        self._events = f"""
        select version, action, principal, at, detail - 'violations' from {events}
        where tenant = $1 and ($2::integer is null or version = $2) order by number desc limit $3
        """  # noqa: S608

    # Reading.

    async def show(self, pool: Pool, tenant: str, version: int) -> VersionView | None:
        """Return a version of a tenant, or None where there is none."""
        async with tenant_transaction(pool, tenant) as connection:
            return await self._version(connection, tenant, version)

    async def views(self, pool: Pool, tenant: str) -> list[VersionView]:
        """Return a tenant's versions with their documents, the newest first."""
        async with tenant_transaction(pool, tenant) as connection:
            rows = await connection.fetch(f"{self._select} order by version desc limit $2", tenant, VERSIONS_MAX)
        return [self._view(row) for row in rows]

    async def rows(
        self, pool: Pool, tenant: str, *, before: int | None = None, limit: int = VERSIONS_MAX
    ) -> list[VersionRow]:
        """Return at most `limit` of a tenant's versions that are older than `before`, the newest first."""
        async with tenant_transaction(pool, tenant) as connection:
            rows = await connection.fetch(self._rows, tenant, before, limit)
        return [
            VersionRow(row[0], row[1], row[2] or self.digest(msgspec.json.decode(row[6])), *row[3:6]) for row in rows
        ]

    async def events(self, pool: Pool, tenant: str, version: int | None = None) -> list[VersionEvent]:
        """Return what was done with a tenant's versions, or with one of them, the last first."""
        async with tenant_transaction(pool, tenant) as connection:
            rows = await connection.fetch(self._events, tenant, version, VERSIONS_MAX)
        return [VersionEvent(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4])) for row in rows]

    async def active(self, connection: Connection, tenant: str) -> VersionView | None:
        """Return the version in force, or None where none is."""
        version = await connection.fetchval(self._active, tenant)
        return None if version is None else await self._version(connection, tenant, version)

    def shown(self, view: VersionView) -> dict[str, Any]:
        """Return a version as it is shown: what breaks the rules of a document, and where its other doors are."""
        violations = view.violations if view.state == "draft" else ()
        links = {"self": f"{self.door}/{view.version}"}
        return {**msgspec.structs.asdict(view), "violations": violations, "links": links}

    # Writing.

    async def draft(self, pool: Pool, tenant: str, document: Any, note: str, by: str) -> VersionView:
        """Store a document as the next version, a draft, and return it."""
        done = await self._stepped(pool, tenant, await self._drafting(pool, tenant, document, note, by))
        assert done is not None
        return done

    async def draft_once(
        self, pool: Pool, tenant: str, document: Any, note: str, by: str, key: VersionKey
    ) -> VersionView | StoredKey:
        """Store a document as the next version, a draft; return it, or what its key has stored already."""
        done = await self._stepped_once(pool, tenant, await self._drafting(pool, tenant, document, note, by), key)
        assert done is not None
        return done

    async def move(self, pool: Pool, tenant: str, version: int, step: Step, by: str) -> VersionView | None:
        """Take a version one step on and return it; None where there is none.

        Raises Refusal `policy_state_conflict` where the step does not lead on from its state, `self_promotion` for its
        own author, and InvalidDocument where something is wrong with its document."""
        return await self._stepped(pool, tenant, await self._moving(pool, tenant, version, step, by))

    async def move_once(
        self, pool: Pool, tenant: str, version: int, step: Step, by: str, key: VersionKey
    ) -> VersionView | StoredKey | None:
        """Take a version one step on and return it, or what the key has stored already; None where there is none.

        Raises as `move`."""
        return await self._stepped_once(pool, tenant, await self._moving(pool, tenant, version, step, by), key)

    async def install(self, connection: Connection, tenant: str, document: Any, by: str) -> int:
        """Put a document in force at once, by the hand of whoever owns the installation; return its version.

        The caller holds the tenant's lock, and has checked the document."""
        version, now = await self._next_version(connection, tenant)
        view = VersionView(version, "active", self.digest(document), "", by, now, document)
        writes = await self._retiring(connection, tenant, by)
        writes += [self._inserting(tenant, view), self._told(tenant, version, "installed", by, {"digest": view.digest})]
        await _write(connection, [*writes, *self._in_force(tenant, view)])
        return version

    async def lock(self, connection: Connection, tenant: str) -> None:
        """Let nobody else take a step with the tenant's versions until the end of the transaction."""
        await connection.execute(self._lock, tenant)

    async def note(self, pool: Pool, tenant: str, version: int, action: str, by: str, detail: dict[str, Any]) -> None:
        """Keep that something was done with a version, and what came of it."""
        async with tenant_transaction(pool, tenant) as connection:
            await _write(connection, [self._told(tenant, version, action, by, detail)])

    # How a step is planned.

    async def _drafting(self, pool: Pool, tenant: str, document: Any, note: str, by: str) -> _Plan:
        violations = tuple(await self._judge(pool, tenant, document))

        async def plan(connection: Connection) -> _Planned:
            version, now = await self._next_version(connection, tenant)
            view = VersionView(version, "draft", self.digest(document), note, by, now, document, violations)
            told = {"digest": view.digest, "violations": violations}
            writes = (self._inserting(tenant, view), self._told(tenant, version, "drafted", by, told))
            return _Planned(view, 201, writes)

        return plan

    async def _moving(self, pool: Pool, tenant: str, version: int, step: Step, by: str) -> _Plan:
        written = await self.show(pool, tenant, version)
        violations = [] if written is None else await self._judge(pool, tenant, written.document)

        async def plan(connection: Connection) -> _Planned | None:
            known = await self._version(connection, tenant, version)
            if written is None or known is None:  # what came to be in between was not judged
                return None
            _may_step(known, step, violations, by)
            _, becomes, action = _STEPS[step]
            view = msgspec.structs.replace(known, state=becomes)
            writes = await self._retiring(connection, tenant, by) if becomes == "active" else []
            writes += [(self._state, (tenant, version, becomes))]
            writes += [self._told(tenant, version, action, by, {"digest": known.digest})]
            return _Planned(view, 200, (*writes, *(self._in_force(tenant, view) if becomes == "active" else ())))

        return plan

    async def _retiring(self, connection: Connection, tenant: str, by: str) -> list[_Write]:
        """Return the writes that take the active version out of force."""
        before = await connection.fetchval(self._active, tenant)
        if before is None:
            return []
        return [(self._state, (tenant, before, "retired")), self._told(tenant, before, "retired", by, {})]

    def _inserting(self, tenant: str, view: VersionView) -> _Write:
        text = msgspec.json.encode(view.document).decode()
        return self._insert, (
            tenant, view.version, text, view.created_by, view.created_at, view.state, view.digest, view.note
        )  # fmt: skip

    def _told(self, tenant: str, version: int, action: str, by: str, detail: dict[str, Any]) -> _Write:
        return self._event, (tenant, version, action, by, msgspec.json.encode(detail).decode())

    async def _stepped(self, pool: Pool, tenant: str, plan: _Plan) -> VersionView | None:
        """Plan a step under the tenant's lock and write it; None where there is nothing to step."""

        async def run(connection: Connection) -> VersionView | None:
            await self.lock(connection, tenant)
            planned = await plan(connection)
            if planned is None:
                return None
            await _write(connection, planned.writes)
            return planned.view

        return await rerun(pool, tenant, run)

    async def _stepped_once(
        self, pool: Pool, tenant: str, plan: _Plan, key: VersionKey
    ) -> VersionView | StoredKey | None:
        """Plan a step under the tenant's lock and write it with its key; what the key has done already comes first."""

        async def run(connection: Connection) -> VersionView | StoredKey | None:
            await self.lock(connection, tenant)
            stored = await known_key(connection, tenant, key.key)
            if stored is not None:
                return stored
            planned = await plan(connection)
            if planned is None:
                return None
            keyed = KeyedAnswer(
                tenant=tenant, key=key.key, digest=key.digest, subject=f"{self.subject}/{planned.view.version}",
                status=planned.status, answer=msgspec.json.encode(self.shown(planned.view)),
                request_id=key.request_id,
            )  # fmt: skip
            stored = await claim_key(connection, keyed)
            if stored is not None:
                return stored
            await _write(connection, planned.writes)
            return planned.view

        return await rerun(pool, tenant, run)

    async def _next_version(self, connection: Connection, tenant: str) -> tuple[int, datetime]:
        [row] = await connection.fetch(self._next, tenant)
        return row[0], row[1]

    async def _version(self, connection: Connection, tenant: str, version: int) -> VersionView | None:
        row = await connection.fetchrow(f"{self._select} and version = $2", tenant, version)
        return None if row is None else self._view(row)

    def _view(self, row: Any) -> VersionView:
        document = msgspec.json.decode(row[6])
        violations = () if row[7] is None else msgspec.json.decode(row[7], type=tuple[Violation, ...])
        digest = row[2] or self.digest(document)
        return VersionView(row[0], row[1], digest, row[3], row[4], row[5], document, violations)


def _may_step(known: VersionRow, step: Step, violations: Sequence[Violation], principal: str) -> None:
    """Return where `principal` may take a version one step on; raise as `Shelf.move`."""
    came_from, becomes, _ = _STEPS[step]
    if known.state not in came_from:
        raise Refusal("policy_state_conflict", f"version {known.version} is {known.state}; {_WAYS[known.state]}")
    if violations:
        raise InvalidDocument(list(violations))
    if becomes == "active" and known.created_by == principal:
        raise Refusal("self_promotion", f"version {known.version} was written by {principal}")


async def _write(connection: Connection, writes: Sequence[_Write]) -> None:
    for statement, values in writes:
        await connection.execute(statement, *values)
