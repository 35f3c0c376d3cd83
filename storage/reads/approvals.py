"""Approvals as a tenant sees them: what somebody asked for that another person has to agree to.

Every read runs under row security and names its tenant as well. One that has run out is shown as expired, at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Raw, Struct

from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads.walking import Filters, Slice, walk

__all__ = ["ApprovalPlace", "ApprovalView", "approval", "approvals", "is_approved"]


class ApprovalView(Struct, frozen=True, kw_only=True):
    """An approval; `request` is what was asked for, `request_hash` what a decision on it names."""

    id: str
    kind: str
    subject: str
    request: Raw
    request_hash: str
    reason: str
    created_by: str
    role: str
    status: str
    opened_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision: str | None


class ApprovalPlace(Struct, frozen=True, array_like=True):
    """The last approval of a page."""

    opened_at: datetime
    id: str


async def approvals(
    pool: Pool, tenant: str, filters: Filters, *, after: ApprovalPlace | None, limit: int
) -> Slice[ApprovalView, ApprovalPlace]:
    """Return a page of the tenant's approvals, the last opened first.

    Filters: `created_from`, `created_before`, `status`, `kind`, `subject`, `created_by`. Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="approvals", columns=_COLUMNS, order=_ORDER, known=_FILTERS, filters=filters,
            after=None if after is None else (after.opened_at, after.id), limit=limit,
        )  # fmt: skip
    return Slice([_view(dict(row)) for row in rows], None if end is None else ApprovalPlace(*end))


async def approval(pool: Pool, tenant: str, id: str) -> ApprovalView | None:
    """Return one approval by its uuid, or None; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        row = await connection.fetchrow(
            f"select {_COLUMNS} from approvals where tenant = $1 and id = $2",  # noqa: S608
            tenant, id,
        )  # fmt: skip
    return None if row is None else _view(dict(row))


async def is_approved(pool: Pool, tenant: str, id: str, request_hash: str) -> bool:
    """Return whether exactly this was approved, for whoever carries out an approval of kind `configuration`."""
    seen = await approval(pool, tenant, id)
    return seen is not None and seen.status == "approved" and seen.request_hash == request_hash


def _view(fields: dict[str, Any]) -> ApprovalView:
    return ApprovalView(**{**fields, "request": Raw(fields["request"])})


_STATUS: Final = "case when status = 'open' and expires_at <= clock_timestamp() then 'expired' else status end"
_COLUMNS: Final = f"""
id, kind, subject, request, request_hash, reason, created_by, role, {_STATUS} as status, opened_at, expires_at,
decided_by, decided_at, decision
"""
_ORDER: Final = {"opened_at": "timestamptz", "id": "uuid"}
_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "opened_at >= {}",
    "created_before": "opened_at < {}",
    "status": f"{_STATUS} = {{}}",
    "kind": "kind = {}",
    "subject": "subject = {}",
    "created_by": "created_by = {}",
}
