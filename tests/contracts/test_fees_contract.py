"""What the engine's store knows of fees: who takes them, and what schedule is in force; twin and Postgres."""

from __future__ import annotations

import asyncpg
import pytest

from tests.contracts.test_store_contract import World, pools, world
from zentra.runtime.errors import Refusal
from zentra.runtime.fees.schedule import FeeMatch, FeeRule, FeeSchedule, FeeTier
from zentra.storage.engine.store import PostgresStore
from zentra.storage.intake.fees import SchedulePut, put_schedule
from zentra.storage.pool import Pool
from zentra.storage.reads.fees import quote_ground, schedule, schedules

__all__ = ["pools", "world"]

NGN = FeeMatch(currencies=("NGN",))
FLAT = FeeRule(name="flat", model="flat", flat_minor=500, applies=NGN)
TIERED = FeeRule(
    name="tiered", model="volume", tiers=(FeeTier(100, "12.5", 3), FeeTier(None, "10")), payer="split", applies=NGN,
    rounding="up", min_minor=1, max_minor=2**62, on_reversal="full", group="g", of=("flat",),
)  # fmt: skip


async def test_a_tenants_fee_account_is_found_by_its_currency_and_is_the_first_that_was_opened(world: World) -> None:
    first = await world.account(guarded=False)
    await world.account(guarded=False)
    asked = [("acme", "@fee/NGN"), ("acme", "@fee/USD"), ("globex", "@fee/NGN"), ("acme", first.account_id)]
    found = await world.store.accounts(asked)
    assert found.keys() == {("acme", "@fee/NGN"), ("acme", first.account_id)}
    fee = found["acme", "@fee/NGN"]
    assert (fee.type, fee.currency, fee.guarded) == ("fee", "NGN", False)
    assert fee.id <= first.id


async def test_the_schedule_in_force_is_part_of_the_configuration(writer_pool: Pool, admin_pool: Pool) -> None:
    store, tenant = PostgresStore(writer_pool), "feeful"
    await admin_pool.execute("insert into tenants values ($1, 'F') on conflict do nothing", tenant)
    before = await store.configuration()
    assert tenant not in before.fees
    assert await put_schedule(admin_pool, tenant, FeeSchedule((FLAT,)), created_by="ops") == SchedulePut(1, True)
    assert await put_schedule(admin_pool, tenant, FeeSchedule((FLAT,), 9), created_by="ops") == SchedulePut(1, False)
    once = await store.configuration()
    assert once.version > before.version, "every tick sees that it is another one"
    both = FeeSchedule((FLAT, TIERED))
    assert await put_schedule(admin_pool, tenant, both, created_by="amara") == SchedulePut(2, True)
    assert (await store.configuration()).fees[tenant] == FeeSchedule((FLAT, TIERED), 2)
    listed = await schedules(admin_pool, tenant)
    assert [(one.version, one.active, one.created_by) for one in listed] == [(2, True, "amara"), (1, False, "ops")]
    first, third = await schedule(admin_pool, tenant, 1), await schedule(admin_pool, tenant, 3)
    assert first is not None
    assert (first.rules, third) == ((FLAT,), None)
    assert (await quote_ground(admin_pool, tenant, "nobody")).schedule == FeeSchedule((FLAT, TIERED), 2)


async def test_a_schedule_is_refused_for_nobody_and_where_it_makes_no_sense(admin_pool: Pool) -> None:
    with pytest.raises(Refusal, match="tenant_unknown"):
        await put_schedule(admin_pool, "nobody", FeeSchedule((FLAT,)), created_by="ops")
    with pytest.raises(Refusal, match="fee_schedule_malformed: /rules/1/name"):
        await put_schedule(admin_pool, "acme", FeeSchedule((FLAT, FLAT)), created_by="ops")


async def test_no_service_changes_a_version_that_was_in_force(
    writer_pool: Pool, tenant_pool: Pool, admin_pool: Pool
) -> None:
    await admin_pool.execute("insert into tenants values ('feeful', 'F') on conflict do nothing")
    await put_schedule(admin_pool, "feeful", FeeSchedule((FLAT,)), created_by="ops")
    for pool in (writer_pool, tenant_pool):
        for statement in ("update fee_schedules set created_by = 'x'", "delete from fee_schedules"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)
    assert await tenant_pool.fetchval("select count(*) from fee_schedules") == 0, "whoever is nobody sees nothing"
