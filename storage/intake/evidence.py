"""What is kept about evidence itself: public keys, signatures that were given over exports, and who exported what.

Rows are added and never changed: what was signed once comes out with the same signature after any change of keys, and
an export stays on record for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.runtime.evidence.envelopes import EnvelopeSignature
from zentra.storage.pool import Pool, tenant_transaction, transaction

__all__ = ["ExportRow", "keep_key", "kept_signature", "record_export"]


class ExportRow(Struct, frozen=True, kw_only=True):
    """An export: by whom, of which range, and the SHA-256 of its manifest. `types` None is everything."""

    tenant: str
    actor: str
    role: str
    since: datetime | None
    until: datetime | None
    types: Sequence[str] | None
    first_leaf: int
    log_size: int
    entries: int
    manifest: bytes


async def keep_key(pool: Pool, key_id: str, public: bytes) -> None:
    """Keep the public half of a key that signs heads, 32 bytes; again is nothing. Raises Unavailable."""
    async with transaction(pool, one_statement=True) as connection:
        await connection.execute(_KEY, key_id, public)


async def kept_signature(
    pool: Pool, tenant: str, digest: bytes, signature: EnvelopeSignature | None
) -> EnvelopeSignature | None:
    """Return the signature that was first given over what has this digest; where there is none yet, keep `signature`.

    None where there is neither. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(_SIGNATURE, tenant, digest)
        if row is None and signature is not None:
            await connection.execute(_SIGN, tenant, digest, signature.keyid, signature.sig)
            row = await connection.fetchrow(_SIGNATURE, tenant, digest)
    return None if row is None else EnvelopeSignature(row["signature"], row["key_id"])


async def record_export(pool: Pool, row: ExportRow) -> None:
    """Keep that evidence was exported; raises Unavailable."""
    async with tenant_transaction(pool, row.tenant) as connection:
        await connection.execute(
            _EXPORT, row.tenant, row.actor, row.role, row.since, row.until, row.types, row.first_leaf, row.log_size,
            row.entries, row.manifest,
        )  # fmt: skip


_KEY: Final = "insert into evidence_keys (key_id, public_key) values ($1, $2) on conflict do nothing"
_SIGNATURE: Final = "select key_id, signature from evidence_signatures where tenant = $1 and digest = $2"
_SIGN: Final = """
insert into evidence_signatures (tenant, digest, key_id, signature) values ($1, $2, $3, $4) on conflict do nothing
"""
_EXPORT: Final = """
insert into evidence_exports (tenant, actor, role, since, until, types, first_leaf, log_size, entries, manifest)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
