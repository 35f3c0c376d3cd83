"""What tenants want of their reviews: versions of rules, of which the last is in force for reviews to come.

A change is in force from the next commit of every worker on, as all configuration; open reviews keep their terms."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from zentra.runtime.errors import Refusal
from zentra.runtime.reviews import DEFAULT_REVIEWS, ReviewRules
from zentra.runtime.roles import ROLES, Permission
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = ["put_review_rules", "review_rules_of"]

SECONDS_MAX: Final = 90 * 86_400
APPROVALS_MAX: Final = 8  # seats of a round


async def review_rules_of(pool: Pool, tenant: str) -> ReviewRules:
    """Return the rules in force, the defaults as version 0. Refuses `tenant_unknown`; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        await _need_tenant(connection, tenant)
        return await _current(connection, tenant)


async def put_review_rules(pool: Pool, tenant: str, rules: ReviewRules, *, by: str) -> ReviewRules:
    """Put rules in force as a new version, unless they are in force already; return them with their version.

    Refuses `tenant_unknown` and `review_rules_malformed`; raises Unavailable."""
    _check(rules)
    async with tenant_transaction(pool, tenant) as connection:
        await _need_tenant(connection, tenant, lock=True)
        current = await _current(connection, tenant)
        if structs.replace(rules, version=current.version) == current:
            return current
        made = structs.replace(rules, version=current.version + 1)
        await connection.execute(
            "insert into review_rules (tenant, version, rules, created_by) values ($1, $2, $3, $4)",
            tenant, made.version, msgspec.json.encode(made).decode(), by,
        )  # fmt: skip
        return made


async def _current(connection: Connection, tenant: str) -> ReviewRules:
    found = await connection.fetchval(
        "select rules from review_rules where tenant = $1 order by version desc limit 1", tenant
    )
    return DEFAULT_REVIEWS if found is None else msgspec.json.decode(found, type=ReviewRules)


async def _need_tenant(connection: Connection, tenant: str, *, lock: bool = False) -> None:
    statement = "select true from tenants where id = $1"
    if not await connection.fetchval(statement + " for update" if lock else statement, tenant):
        raise Refusal("tenant_unknown", f"there is no tenant {tenant!r}; create it first")


def _check(rules: ReviewRules) -> None:
    deciders = {role for role, permissions in ROLES.items() if Permission.REVIEWS_DECIDE in permissions}
    times = (rules.due_seconds, rules.expires_seconds, *rules.due_seconds_by_kind.values())
    if not all(1 <= seconds <= SECONDS_MAX for seconds in times):
        raise Refusal("review_rules_malformed", f"times are 1 to {SECONDS_MAX} seconds")
    if rules.escalates_to and rules.escalates_to not in deciders:
        raise Refusal("review_rules_malformed", f"escalates_to is empty or one of {', '.join(sorted(deciders))}")
    for band in rules.approvals.values():
        if not 1 <= band.count <= APPROVALS_MAX or band.minor_min < 1:
            raise Refusal("review_rules_malformed", f"1 to {APPROVALS_MAX} approvals, from an amount of at least 1")
    if not 1 <= rules.nats_approvals <= APPROVALS_MAX:
        raise Refusal("review_rules_malformed", f"nats_approvals is 1 to {APPROVALS_MAX}")
