"""Approvals: asked for by one person, decided by another, and carried out in the transaction that approves them.

- Of two who decide, the row is the second one's to find decided: nothing of theirs is kept.
- Who decides is looked at within the transaction: a role that was taken away a moment ago approves nothing.
- An approval that has run out is refused by the store's clock, whether or not anybody has noticed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal

import asyncpg
import msgspec
from msgspec import Struct

from zentra.runtime import reviews
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import digest_of
from zentra.runtime.reviews import Member
from zentra.runtime.roles import Permission
from zentra.storage.intake.accounts import ChangedBy, set_limit
from zentra.storage.intake.commands import KeyedAnswer, once
from zentra.storage.pool import Connection, Pool

__all__ = ["APPROVAL_KINDS", "Closing", "NewApproval", "close_approval", "closing", "open_approval", "request_digest"]

APPROVAL_KINDS: Final = ("forced_reversal", "account_limit", "configuration")
EXPIRES_AFTER: Final = timedelta(hours=72)
_LIMIT_REFUSALS: Final = {"not_found": "account_not_found", "account_status_conflict": "account_closed"}


class NewApproval(Struct, frozen=True, kw_only=True):
    """What somebody asks for; `request` is canonical JSON, `request_hash` its digest with all that it is about."""

    id: str
    kind: str
    subject: str
    request: bytes
    request_hash: str
    reason: str
    created_by: str
    role: str


class Closing(Struct, frozen=True, kw_only=True):
    """How an approval ends, and by whom in which role."""

    approval: str
    tenant: str
    verdict: Literal["approved", "rejected", "cancelled"]
    principal: str
    role: str
    reason: str
    request_id: str = ""


def request_digest(tenant: str, id: str, kind: str, subject: str, request: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, that binds a decision to what is asked for."""
    about = {"id": id, "request": dict(request), "subject": subject, "tenant": tenant}
    return digest_of(f"approval/{kind}", about).hex()


async def open_approval(pool: Pool, keyed: KeyedAnswer, asked: NewApproval) -> StoredKey | None:
    """Open an approval and return None, or what the key has stored already; raises as the store does."""

    async def write(connection: Connection) -> None:
        await connection.execute(
            "insert into approvals (id, tenant, kind, subject, request, request_hash, reason, created_by, role,"
            " expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10)",
            asked.id, keyed.tenant, asked.kind, asked.subject, asked.request, asked.request_hash, asked.reason,
            asked.created_by, asked.role, EXPIRES_AFTER,
        )  # fmt: skip

    return await once(pool, keyed, write)


async def close_approval(pool: Pool, keyed: KeyedAnswer, how: Closing) -> StoredKey | None:
    """End an approval, carrying out what it approves, and return None; or what the key has stored already.

    Raises Refusal as `closing` says, and `account_not_found`, `account_closed`, `account_is_system` or
    `limit_below_use` where an account cannot have the limit; Unavailable and DataError as the store does."""
    return await once(pool, keyed, closing(how))


def closing(how: Closing) -> Callable[[Connection], Awaitable[None]]:
    """Return what ends an approval within a transaction, for whoever writes more in it.

    It raises Refusal `approval_not_open` where it has ended, `permission_denied` for whoever may not decide any more
    and for a cancellation by another, `self_approval` for the one who asked."""

    async def close(connection: Connection) -> None:
        row = await connection.fetchrow(_LOCK, how.tenant, how.approval)
        if row is None:
            raise Refusal("not_found")
        if row["status"] != "open" or row["late"]:
            raise Refusal("approval_not_open", f"it is {'expired' if row['status'] == 'open' else row['status']}")
        mine = row["created_by"] == how.principal
        if how.verdict == "cancelled":
            if not mine:
                raise Refusal("permission_denied", "who asked for it cancels it")
        else:
            await _may_decide(connection, how)
            if mine:
                raise Refusal("self_approval")
        await connection.execute(_CLOSE, how.tenant, how.approval, how.verdict, how.principal, how.reason)
        if how.verdict == "approved" and row["kind"] == "account_limit":
            await _limit(connection, how, row)

    return close


class _Limit(Struct):
    overdraft_limit: str


async def _limit(connection: Connection, how: Closing, asked: asyncpg.Record) -> None:
    """Give an account its new limit as `change_limit` does, in the name of whoever asked for it."""
    limit = int(msgspec.json.decode(asked["request"], type=_Limit).overdraft_limit)
    reason = f"{asked['reason']} (approval {how.approval}, approved by {how.principal})"
    by = ChangedBy(
        account_id=asked["subject"], principal=asked["created_by"], role=asked["role"], reason=reason,
        request_id=how.request_id,
    )  # fmt: skip
    try:
        await set_limit(connection, how.tenant, limit, by)
    except Refusal as refusal:
        raise Refusal(_LIMIT_REFUSALS.get(refusal.reason, refusal.reason), refusal.detail) from None


async def _may_decide(connection: Connection, how: Closing) -> None:
    row = await connection.fetchrow(
        "select role, disabled_at is not null from principals where tenant = $1 and id = $2",
        how.tenant, how.principal,
    )  # fmt: skip
    members = {} if row is None else {how.principal: Member(row[0], row[1])}
    reason = reviews.objection(members, how.principal, how.role, Permission.APPROVALS_DECIDE)
    if reason is not None:
        raise Refusal("permission_denied", reason)


_LOCK: Final = """
select kind, subject, request, reason, created_by, role, status, expires_at <= clock_timestamp() as late
from approvals where tenant = $1 and id = $2 for update
"""
_CLOSE: Final = """
update approvals set status = $3, decided_by = $4, decision = $5, decided_at = clock_timestamp()
where tenant = $1 and id = $2
"""
