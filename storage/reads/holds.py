"""What a tenant may read of its holds: pages of them, and which have expired although nobody has booked it yet.

- A hold has expired at its instant. Every read here says so by the store's clock, whatever its row says, and what such
  a hold kept counts as available at once.
- The rows are a projection of the sealed records. The history of a hold is read from those."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.storage.pool import Pool, tenant_transaction
from zentra.storage.reads.walking import Filters, Slice, walk

__all__ = ["EXPIRED_UNBOOKED", "HoldPlace", "HoldRowView", "has_expired", "holds"]

EXPIRED_UNBOOKED: Final = """(
    select coalesce(sum(h.remaining), 0)::bigint from holds h
    where h.tenant = $1 and h.account = {account} and h.status = 'open' and h.expires_at <= clock_timestamp()
)"""
"""What holds on an account keep that have expired and are not booked: an expression, `{account}` is the account's
number and $1 the tenant. It belongs into the statement that sums the counters, so that both are of one moment."""


class HoldPlace(Struct, frozen=True, array_like=True):
    """The last hold."""

    placed_at: datetime
    intent: str


class HoldRowView(Struct, frozen=True, kw_only=True):
    """A hold in a list, as of now."""

    intent: str
    intent_id: str
    account_id: str
    currency: str
    minor: int
    remaining: int
    captured: int
    status: str
    placed_at: datetime
    expires_at: datetime
    ended_at: datetime | None


async def holds(
    pool: Pool, tenant: str, filters: Filters, *, after: HoldPlace | None, limit: int
) -> Slice[HoldRowView, HoldPlace]:
    """Return a page of the tenant's holds, the last placed first.

    Filters: `created_from`, `created_before` (of the placing), `account`, `status`, `currency`, `expires_before`.
    Raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        rows, end = await walk(
            connection, tenant, table="holds", columns=_COLUMNS, order=_ORDER, known=_FILTERS, filters=filters,
            after=None if after is None else (after.placed_at, after.intent), limit=limit,
        )  # fmt: skip
    return Slice([HoldRowView(**dict(row)) for row in rows], None if end is None else HoldPlace(*end))


async def has_expired(pool: Pool, tenant: str, intent: str) -> bool:
    """Return whether the time of a hold has come that still stands in the books; raises Unavailable."""
    async with tenant_transaction(pool, tenant) as connection:
        found = await connection.fetchval(
            f"select {_LAPSED} from holds where tenant = $1 and intent = $2",  # noqa: S608 - a constant
            tenant,
            intent,
        )
    return bool(found)


_LAPSED: Final = "(status = 'open' and expires_at <= clock_timestamp())"
_STATUS: Final = f"case when {_LAPSED} then 'expired' else status end"
_COLUMNS: Final = f"""
    intent, intent_id, account_id, currency, minor, case when {_LAPSED} then 0 else remaining end as remaining,
    captured, {_STATUS} as status, placed_at, expires_at,
    case when {_STATUS} = 'expired' then expires_at else ended_at end as ended_at"""
_ORDER: Final = {"placed_at": "timestamptz", "intent": "uuid"}
_FILTERS: Final[Mapping[str, str]] = {
    "created_from": "placed_at >= {}",
    "created_before": "placed_at < {}",
    "account": "account_id = {}",
    "status": f"{_STATUS} = {{}}",
    "currency": "currency = {}",
    "expires_before": "expires_at < {}",
}
