"""The life of a tenant's policy, which is kept in versions: what its documents are held to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from zentra.runtime.intents.command import Violation
from zentra.runtime.policy.document import digest_of_document, parse_policy, unknown_names
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.versions import Shelf

__all__ = ["POLICIES", "install_policy", "policies_with"]


def policies_with(scorers: Iterable[str]) -> Shelf:
    """Return the shelf of policies of an installation that has scorers of risk of its own, by these names."""
    known = tuple(scorers)

    async def judge(pool: Pool, tenant: str, document: Any) -> list[Violation]:
        """Return what is wrong with a document, with the names that this installation does not know."""
        rules, violations = parse_policy(document)
        if rules is None or (rules.risk is None and rules.compliance is None):
            return violations
        async with tenant_transaction(pool, tenant) as connection:
            lists = await connection.fetch("select name from screening_lists where status = 'active'")
        return unknown_names(rules, scorers=known, lists=[row[0] for row in lists])

    return Shelf(
        "policy", "/policies", table="policies", events="policy_events", column="rules", digest=digest_of_document,
        judge=judge,
    )  # fmt: skip


POLICIES: Final = policies_with(())
"""The policies of an installation without scorers of its own: for whoever reads."""


async def install_policy(connection: Connection, tenant: str, document: Any, principal: str) -> int:
    """Put a document in force at once, by the hand of whoever owns the installation; return its version.

    The same document as the one in force is that version. The caller holds the transaction of the tenant."""
    await POLICIES.lock(connection, tenant)
    active = await POLICIES.active(connection, tenant)
    if active is not None and _canonical(active.document) == _canonical(document):
        return active.version
    return await POLICIES.install(connection, tenant, document, principal)


def _canonical(document: Any) -> bytes:
    """Return a document's JSON with sorted keys; what was stored before there were documents names its version."""
    known = {name: value for name, value in document.items() if name != "version"}
    return msgspec.json.encode(parse_policy(known)[0] or known, order="sorted")
