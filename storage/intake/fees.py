"""Fee schedules as they are put in force: a new version behind those before it, and none is ever changed.

- What charges the same as the version in force is that version: putting it twice is putting it once.
- Two who put schedules at once wait for each other, so versions have no gaps and none replaces another unseen.
- Over the API, the key, the version and the answer are one commit.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from zentra.runtime.errors import Refusal
from zentra.runtime.fees.schedule import FeeRule, FeeSchedule, violations_of
from zentra.runtime.idempotency import StoredKey
from zentra.storage.intake.commands import KeyedAnswer, claim_key, rerun
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = ["SchedulePut", "put_schedule", "put_schedule_once"]


class SchedulePut(Struct, frozen=True):
    """A version that is in force, and whether it is new."""

    version: int
    new: bool


async def put_schedule(pool: Pool, tenant: str, schedule: FeeSchedule, *, created_by: str) -> SchedulePut:
    """Put rules in force and return their version; the one in `schedule` is not looked at.

    Raises Refusal `tenant_unknown`, `fee_schedule_malformed`, naming the first thing that is wrong; Unavailable."""
    found = violations_of(schedule)
    if found:
        raise Refusal("fee_schedule_malformed", f"{found[0].pointer}: {found[0].detail}")
    async with tenant_transaction(pool, tenant) as connection:
        if not await connection.fetchval("select true from tenants where id = $1", tenant):
            raise Refusal("tenant_unknown", f"there is no tenant {tenant!r}; create it first")
        put = await _next(connection, tenant, schedule)
        if put.new:
            await _write(connection, tenant, put.version, schedule, created_by)
        return put


async def put_schedule_once(
    pool: Pool, keyed: KeyedAnswer, schedule: FeeSchedule, shown: dict[str, Any], *, created_by: str
) -> StoredKey | bytes:
    """Put rules in force, which have no violations, and return the answer, or what the key has stored already.

    The answer is `shown` with its version and whether that is new. Raises Unavailable and DataError as the store
    does."""

    async def run(connection: Connection) -> StoredKey | bytes:
        put = await _next(connection, keyed.tenant, schedule)
        answer = msgspec.json.encode({"version": put.version, **shown, "new": put.new})
        stored = await claim_key(connection, replace(keyed, answer=answer, subject=f"fee_schedule/{put.version}"))
        if stored is not None:
            return stored
        if put.new:
            await _write(connection, keyed.tenant, put.version, schedule, created_by)
        return answer

    return await rerun(pool, keyed.tenant, run)


async def _next(connection: Connection, tenant: str, schedule: FeeSchedule) -> SchedulePut:
    """Return the version that these rules have or get, as long as the transaction lasts."""
    await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 17))", f"fee_schedules/{tenant}")
    row = await connection.fetchrow(
        "select version, rules from fee_schedules where tenant = $1 order by version desc limit 1", tenant
    )
    if row is None:
        return SchedulePut(1, True)
    same = msgspec.json.decode(row["rules"], type=tuple[FeeRule, ...]) == schedule.rules
    return SchedulePut(row["version"], False) if same else SchedulePut(row["version"] + 1, True)


async def _write(connection: Connection, tenant: str, version: int, schedule: FeeSchedule, created_by: str) -> None:
    await connection.execute(
        "insert into fee_schedules (tenant, version, rules, created_by) values ($1, $2, $3, $4)",
        tenant, version, msgspec.json.encode(schedule.rules).decode(), created_by,
    )  # fmt: skip
