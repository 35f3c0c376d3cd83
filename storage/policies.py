"""The life of a tenant's policy: draft, validated, active, retired; and who did what with which version, when.

- A version never changes and is never deleted; only its state does, and each step is a row in `policy_events`.
- One version at the most is active. Whoever promotes it is somebody else than its author.
- Steps of one tenant are one after the other, under an advisory lock; a step, its event and its key are one commit.
- A document is judged before that lock is taken; what was found wrong with a draft is kept and shown from there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation
from zentra.runtime.policy.document import digest_of_document, parse_policy, unknown_names
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.versions import (
    STEPS,
    InvalidDocument,
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
    "POLICIES_MAX", "InvalidPolicy", "PolicyAsked", "PolicyEvent", "PolicyKey", "PolicyRow", "PolicyView",
    "draft_policy", "draft_policy_once", "install_policy", "list_policies", "move_policy", "move_policy_once",
    "note_backtest", "policy_events", "policy_rows", "show_policy", "shown_policy",
]  # fmt: skip

POLICIES_MAX: Final = 500  # versions in one answer, the newest first

PolicyRow = VersionRow
PolicyKey = VersionKey
InvalidPolicy = InvalidDocument


class PolicyView(PolicyRow, frozen=True):
    """A version as it is stored, with what was found wrong with it when it was written."""

    document: Any
    violations: tuple[Violation, ...] = ()


class PolicyEvent(VersionEvent, frozen=True):
    """Who did what with a version, when."""


class PolicyAsked(Struct, frozen=True):
    """Who asks; `scorers` are the names of the installation's own scorers of risk."""

    principal: str
    scorers: tuple[str, ...] = ()


_Planning = Callable[[Connection], Awaitable[Planned[PolicyView] | None]]


async def draft_policy(pool: Pool, tenant: str, document: Any, note: str, asked: PolicyAsked) -> PolicyView:
    """Store a document as the next version, a draft, and return it."""
    done = await stepped(pool, tenant, _LOCK, await _drafting(pool, tenant, document, note, asked))
    assert done is not None
    return done


async def draft_policy_once(
    pool: Pool, tenant: str, document: Any, note: str, asked: PolicyAsked, key: PolicyKey
) -> PolicyView | StoredKey:
    """Store a document as the next version, a draft; return it, or what its key has stored already."""
    done = await stepped_once(pool, tenant, _LOCK, await _drafting(pool, tenant, document, note, asked), key)
    assert done is not None
    return done


async def move_policy(pool: Pool, tenant: str, version: int, step: Step, asked: PolicyAsked) -> PolicyView | None:
    """Take a version one step on and return it; None where there is none.

    Raises Refusal `policy_state_conflict` where the step does not lead on from its state, `self_promotion` for its own
    author, and InvalidPolicy where it is none."""
    return await stepped(pool, tenant, _LOCK, await _moving(pool, tenant, version, step, asked))


async def move_policy_once(
    pool: Pool, tenant: str, version: int, step: Step, asked: PolicyAsked, key: PolicyKey
) -> PolicyView | StoredKey | None:
    """Take a version one step on and return it, or what the key has stored already; None where there is none.

    Raises as `move_policy`."""
    return await stepped_once(pool, tenant, _LOCK, await _moving(pool, tenant, version, step, asked), key)


async def _drafting(pool: Pool, tenant: str, document: Any, note: str, asked: PolicyAsked) -> _Planning:
    violations = tuple(await _judged(pool, tenant, document, asked))
    digest, text = digest_of_document(document), msgspec.json.encode(document).decode()
    detail = {"digest": digest, "violations": violations}

    async def plan(connection: Connection) -> Planned[PolicyView]:
        version, now = await _next(connection, tenant)
        view = PolicyView(version, "draft", digest, note, asked.principal, now, document, violations)
        row = (tenant, version, text, asked.principal, now, "draft", digest, note)
        return _planned(view, 201, (_INSERT, row), _event(tenant, version, "drafted", asked, detail))

    return plan


async def _moving(pool: Pool, tenant: str, version: int, step: Step, asked: PolicyAsked) -> _Planning:
    written = await show_policy(pool, tenant, version)
    violations = [] if written is None else await _judged(pool, tenant, written.document, asked)

    async def plan(connection: Connection) -> Planned[PolicyView] | None:
        known = None if written is None else await _version(connection, tenant, version)
        if known is None:
            return None
        may_step(known, step, violations, asked.principal)
        _, becomes, action = STEPS[step]
        writes: list[tuple[str, tuple[Any, ...]]] = []
        if becomes == "active":
            before = await connection.fetchval(_ACTIVE, tenant)
            if before is not None:
                writes += [(_STATE, (tenant, before, "retired")), _event(tenant, before, "retired", asked, {})]
        writes += [(_STATE, (tenant, version, becomes))]
        writes += [_event(tenant, version, action, asked, {"digest": known.digest})]
        return _planned(msgspec.structs.replace(known, state=becomes), 200, *writes)

    return plan


async def note_backtest(pool: Pool, tenant: str, version: int, principal: str, detail: dict[str, Any]) -> None:
    """Keep that a version was tested, and what came of it."""
    async with tenant_transaction(pool, tenant) as connection:
        statement, row = _event(tenant, version, "backtested", PolicyAsked(principal), detail)
        await connection.execute(statement, *row)


async def install_policy(connection: Connection, tenant: str, document: Any, principal: str) -> int:
    """Put a document in force at once, by the hand of whoever owns the installation; return its version.

    The same document as the one in force is that version. The caller holds the transaction of the tenant."""
    await connection.execute(_LOCK, tenant)
    active = await connection.fetchval(_ACTIVE, tenant)
    if active is not None:
        known = await _version(connection, tenant, active)
        if known is not None and _canonical(known.document) == _canonical(document):
            return int(active)
    version, now = await _next(connection, tenant)
    asked, digest = PolicyAsked(principal), digest_of_document(document)
    if active is not None:
        await connection.execute(_STATE, tenant, active, "retired")
    text = msgspec.json.encode(document).decode()
    await connection.execute(_INSERT, tenant, version, text, principal, now, "active", digest, "")
    statement, row = _event(tenant, version, "installed", asked, {"digest": digest})
    await connection.execute(statement, *row)
    return version


async def show_policy(pool: Pool, tenant: str, version: int) -> PolicyView | None:
    """Return a version of a tenant, or None where there is none."""
    async with tenant_transaction(pool, tenant) as connection:
        return await _version(connection, tenant, version)


async def list_policies(pool: Pool, tenant: str, *, limit: int = POLICIES_MAX) -> list[PolicyView]:
    """Return a tenant's versions, the newest first."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(f"{_SELECT} order by version desc limit $2", tenant, limit)
    return [_view(row) for row in rows]


async def policy_rows(pool: Pool, tenant: str, *, before: int | None, limit: int) -> list[PolicyRow]:
    """Return at most `limit` of a tenant's versions that are older than `before`, the newest first."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_ROWS, tenant, before, limit)
    return [
        PolicyRow(row[0], row[1], row[2] or digest_of_document(msgspec.json.decode(row[6])), *row[3:6]) for row in rows
    ]


async def policy_events(pool: Pool, tenant: str, version: int | None = None) -> list[PolicyEvent]:
    """Return what was done with a tenant's versions, or with one of them, the last first."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(_EVENTS, tenant, version, POLICIES_MAX)
    return [PolicyEvent(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4])) for row in rows]


def _planned(view: PolicyView, status: int, *writes: tuple[str, tuple[Any, ...]]) -> Planned[PolicyView]:
    answer = msgspec.json.encode(shown_policy(view))
    return Planned(view, f"policy/{view.version}", status, answer, writes)


async def _judged(pool: Pool, tenant: str, document: Any, asked: PolicyAsked) -> list[Violation]:
    """Return what is wrong with a document, with the names that this installation does not know."""
    rules, violations = parse_policy(document)
    if rules is None or (rules.risk is None and rules.compliance is None):
        return violations
    async with tenant_transaction(pool, tenant) as connection:
        lists = await connection.fetch("select name from screening_lists where status = 'active'")
    return unknown_names(rules, scorers=asked.scorers, lists=[row[0] for row in lists])


def shown_policy(view: PolicyView) -> dict[str, Any]:
    """Return a version as it is shown: what breaks the rules of a document, and where its other doors are."""
    violations = view.violations if view.state == "draft" else ()
    return {**msgspec.structs.asdict(view), "violations": violations, "links": {"self": f"/policies/{view.version}"}}


async def _next(connection: Connection, tenant: str) -> tuple[int, datetime]:
    row = await connection.fetchrow(_NEXT, tenant)
    assert row is not None
    return row[0], row[1]


async def _version(connection: Connection, tenant: str, version: int) -> PolicyView | None:
    row = await connection.fetchrow(f"{_SELECT} and version = $2", tenant, version)
    return None if row is None else _view(row)


def _view(row: Any) -> PolicyView:
    document = msgspec.json.decode(row[6])
    violations = () if row[7] is None else msgspec.json.decode(row[7], type=tuple[Violation, ...])
    digest = row[2] or digest_of_document(document)
    return PolicyView(row[0], row[1], digest, row[3], row[4], row[5], document, violations)


def _canonical(document: Any) -> bytes:
    """Return a document's JSON with sorted keys; what was stored before there were documents names its version."""
    known = {name: value for name, value in document.items() if name != "version"}
    return msgspec.json.encode(parse_policy(known)[0] or known, order="sorted")


def _event(tenant: str, version: int, action: str, asked: PolicyAsked, detail: dict[str, Any]) -> tuple[str, Any]:
    return _EVENT, (tenant, version, action, asked.principal, msgspec.json.encode(detail).decode())


_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('zentra/policies/' || $1, 0))"
_NEXT: Final = "select coalesce(max(version), 0) + 1, clock_timestamp() from policies where tenant = $1"
_ACTIVE: Final = "select version from policies where tenant = $1 and state = 'active'"
_SELECT: Final = """
select version, state, digest, note, created_by, created_at, rules, (
    select detail -> 'violations' from policy_events e
    where e.tenant = p.tenant and e.version = p.version and e.action = 'drafted' limit 1)
from policies p where tenant = $1
"""
_ROWS: Final = """
select version, state, digest, note, created_by, created_at, case when digest is null then rules end
from policies where tenant = $1 and ($2::integer is null or version < $2) order by version desc limit $3
"""
_INSERT: Final = """
insert into policies (tenant, version, rules, created_by, created_at, state, digest, note)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_STATE: Final = "update policies set state = $3 where tenant = $1 and version = $2"
_EVENT: Final = "insert into policy_events (tenant, version, action, principal, detail) values ($1, $2, $3, $4, $5)"
_EVENTS: Final = """
select version, action, principal, at, detail - 'violations' from policy_events
where tenant = $1 and ($2::integer is null or version = $2) order by number desc limit $3
"""
