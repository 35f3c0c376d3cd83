"""The life of a tenant's policy, which is kept in versions: what its documents are held to."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation
from zentra.runtime.policy.document import digest_of_document, parse_policy, unknown_names
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.versions import Shelf, Step, VersionKey, VersionView

__all__ = [
    "POLICIES", "PolicyAsked", "draft_policy", "draft_policy_once", "install_policy", "move_policy", "move_policy_once",
]  # fmt: skip

POLICIES: Final = Shelf("policy", "/policies", "policies", "policy_events", "rules", digest_of_document)


class PolicyAsked(Struct, frozen=True):
    """Who asks; `scorers` are the names of the installation's own scorers of risk."""

    principal: str
    scorers: tuple[str, ...] = ()


async def draft_policy(pool: Pool, tenant: str, document: Any, note: str, asked: PolicyAsked) -> VersionView:
    """Store a document as the next version, a draft, and return it."""
    violations = await _judged(pool, tenant, document, asked)
    return await POLICIES.draft(pool, tenant, document, note, asked.principal, violations)


async def draft_policy_once(
    pool: Pool, tenant: str, document: Any, note: str, asked: PolicyAsked, key: VersionKey
) -> VersionView | StoredKey:
    """Store a document as the next version, a draft; return it, or what its key has stored already."""
    violations = await _judged(pool, tenant, document, asked)
    return await POLICIES.draft_once(pool, tenant, document, note, asked.principal, violations, key)


async def move_policy(pool: Pool, tenant: str, version: int, step: Step, asked: PolicyAsked) -> VersionView | None:
    """Take a version one step on and return it; None where there is none. Raises as `Shelf.move`."""
    violations = await _judged_version(pool, tenant, version, asked)
    return await POLICIES.move(pool, tenant, version, step, asked.principal, violations)


async def move_policy_once(
    pool: Pool, tenant: str, version: int, step: Step, asked: PolicyAsked, key: VersionKey
) -> VersionView | StoredKey | None:
    """Take a version one step on and return it, or what the key has stored already; None where there is none.

    Raises as `Shelf.move`."""
    violations = await _judged_version(pool, tenant, version, asked)
    return await POLICIES.move_once(pool, tenant, version, step, asked.principal, violations, key)


async def install_policy(connection: Connection, tenant: str, document: Any, principal: str) -> int:
    """Put a document in force at once, by the hand of whoever owns the installation; return its version.

    The same document as the one in force is that version. The caller holds the transaction of the tenant."""
    await POLICIES.lock(connection, tenant)
    active = await POLICIES.active(connection, tenant)
    if active is not None and _canonical(active.document) == _canonical(document):
        return active.version
    return await POLICIES.install(connection, tenant, document, principal)


async def _judged(pool: Pool, tenant: str, document: Any, asked: PolicyAsked) -> list[Violation]:
    """Return what is wrong with a document, with the names that this installation does not know."""
    rules, violations = parse_policy(document)
    if rules is None or (rules.risk is None and rules.compliance is None):
        return violations
    async with tenant_transaction(pool, tenant) as connection:
        lists = await connection.fetch("select name from screening_lists where status = 'active'")
    return unknown_names(rules, scorers=asked.scorers, lists=[row[0] for row in lists])


async def _judged_version(pool: Pool, tenant: str, version: int, asked: PolicyAsked) -> list[Violation]:
    written = await POLICIES.show(pool, tenant, version)
    return [] if written is None else await _judged(pool, tenant, written.document, asked)


def _canonical(document: Any) -> bytes:
    """Return a document's JSON with sorted keys; what was stored before there were documents names its version."""
    known = {name: value for name, value in document.items() if name != "version"}
    return msgspec.json.encode(parse_policy(known)[0] or known, order="sorted")
