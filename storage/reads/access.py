"""The questions that come before a tenant is known: whose key, certificate or claim is this, and what are the limits?

- Each answers about the one thing that is named and nothing beside it; the caller compares hashes and times.
- The queries run under row security, through functions that may look past it for exactly this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.runtime.limits import Per, Quota, RouteClass
from zentra.storage.errors import translated
from zentra.storage.pool import Pool, tenant_transaction, transaction

__all__ = [
    "CertificateRow", "ClaimsRow", "KeyRow", "find_certificate", "find_claims", "find_key", "note_used",
    "tenant_quotas",
]  # fmt: skip


class KeyRow(Struct, frozen=True):
    """Whose key it is, what it is narrowed to, and the hash that its text has to have."""

    tenant: str
    principal: str
    role: str
    mode: str
    secret_hash: bytes
    scopes: Sequence[str] | None
    networks: Sequence[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    disabled_at: datetime | None


class CertificateRow(Struct, frozen=True):
    """Who a service is that proves an identity by its certificate."""

    tenant: str
    principal: str
    role: str
    mode: str
    scopes: Sequence[str] | None
    revoked_at: datetime | None
    disabled_at: datetime | None


class ClaimsRow(Struct, frozen=True):
    """What is stored of a tenant and a principal that a token names; the role is None where the principal is not."""

    mode: str
    role: str | None
    disabled_at: datetime | None


async def find_key(pool: Pool, key_id: str) -> KeyRow | None:
    """Return the row of a key id, or None; raises Unavailable."""
    with translated():
        row = await pool.fetchrow("select * from authenticate_key($1)", key_id)
    return KeyRow(*row) if row is not None else None


async def find_certificate(pool: Pool, identity: str) -> CertificateRow | None:
    """Return the row of an identity, or None; raises Unavailable."""
    with translated():
        row = await pool.fetchrow("select * from authenticate_certificate($1)", identity)
    return CertificateRow(*row) if row is not None else None


async def find_claims(pool: Pool, tenant: str, principal: str) -> ClaimsRow | None:
    """Return what is known of a tenant and a principal of it, or None where there is no such tenant.

    Raises Unavailable."""
    with translated():
        row = await pool.fetchrow("select * from authenticate_claims($1, $2)", tenant, principal)
    return ClaimsRow(*row) if row is not None else None


async def tenant_quotas(pool: Pool, tenant: str) -> Mapping[tuple[RouteClass, Per], Quota]:
    """Return a tenant's own limits by class and by whose they are; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows = await connection.fetch(
            "select class, per, quota, window_seconds from rate_limits where tenant = $1", tenant
        )
    return {(RouteClass(row[0]), Per(row[1])): Quota(row[2], row[3]) for row in rows}


async def note_used(pool: Pool, used: Mapping[str, datetime]) -> None:
    """Keep when keys were last used, by key id, over the writer's pool; raises as the store does."""
    if used:
        async with transaction(pool) as connection:
            await connection.execute(_USED, *zip(*sorted(used.items()), strict=True))


_USED: Final = """
update api_keys as k set last_used_at = greatest(k.last_used_at, given.at)
from unnest($1::text[], $2::timestamptz[]) as given (id, at) where k.id = given.id
"""
