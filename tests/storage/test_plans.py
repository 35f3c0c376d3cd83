"""What is asked about one intent costs the same however much its tenant has, also before the planner knows how much.

What one tenant recovers costs the same however much the others have."""

from __future__ import annotations

import json

import pytest

from tests.services import Database
from zentra.storage.engine import recoveries
from zentra.storage.pool import open_pool, tenant_transaction
from zentra.storage.reads import tenant as reads

_BLOCKS_MAX = 60  # a step down an index is three or four, and there are seven of them
_FILLED = """
with made as (select gen_random_uuid() as id, $1 || n as name from generate_series(1, 20000) n),
intent as (
    insert into intents (id, tenant, intent_id, digest, command, principal, role, key, trace, created_at)
    select id, $1, name, '', '', '', '', name, '', now() from made),
transition as (
    insert into transitions (intent, sequence, tenant, at, state, event, record, hash)
    select id, 1, $1, now(), '', '', '', '' from made),
delivery as (
    insert into deliveries (id, tenant, endpoint, intent, sequence, event, body, created_at)
    select gen_random_uuid(), $1, 'e', id, 1, '', '', now() from made)
insert into log_leaves (tenant, index, intent, data, hash)
select $1, row_number() over (order by id), id, '', sha256(id::text::bytea) from made
returning intent::text
"""
_TIMED = """
insert into timers (kind, key, name, partition, tenant, due_at)
select 'intent', id, 'state', 0, tenant, now() from intents where tenant = any($1::text[])
"""


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("by", ["uuid", "id"])
@pytest.mark.parametrize("known", ["nothing", "others"])
async def test_a_view_of_an_intent_does_not_walk_through_its_tenant(
    database: Database, plans: str, by: str, known: str
) -> None:
    """The tables are as a load leaves them that no analyze has followed; statistics may know other tenants."""
    tenant = f"crowd-{plans}-{by}-{known}-"
    async with await open_pool(database.writer_url, name="test-writer") as pool:
        if known == "others":
            await pool.fetch(_FILLED, f"another-{plans}-{by}-")
            async with await open_pool(database.admin_url, name="test-admin") as admin:
                await admin.execute("analyze")
        intent = (await pool.fetch(_FILLED, tenant))[-1][0]
    asked = (reads._INTENT_OF_UUID, intent) if by == "uuid" else (reads._INTENT_OF_ID, f"{tenant}20000")
    async with (
        await open_pool(database.tenant_url, name="test-tenant") as pool,
        tenant_transaction(pool, tenant) as own,
    ):
        await own.execute(f"set local plan_cache_mode = {plans}")
        await own.execute(f"prepare view as {asked[0]}")
        found = await own.fetchval(f"explain (analyze, buffers, format json) execute view('{tenant}', '{asked[1]}')")
        plan = json.loads(found)[0]["Plan"]
    assert plan["Actual Rows"] == 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= _BLOCKS_MAX, found


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("walk", ["begun", "open"])
@pytest.mark.parametrize("known", ["nothing", "all"])
async def test_a_recovery_walks_no_rows_of_other_tenants(database: Database, plans: str, walk: str, known: str) -> None:
    """A tenant with two intents, between those of another one that has twenty thousand of them, all of them open."""
    crowd, tenant = f"many-{plans}-{walk}-{known}-", f"few-{plans}-{walk}-{known}-"
    async with await open_pool(database.writer_url, name="test-writer") as pool:
        await pool.fetch(_FILLED, crowd)
        await pool.fetch(_FILLED.replace("20000", "2"), tenant)
        await pool.fetch(_TIMED, [crowd, tenant])
        if known == "all":
            async with await open_pool(database.admin_url, name="test-admin") as admin:
                await admin.execute("analyze")
        statement = recoveries._BEGUN if walk == "begun" else recoveries._OPEN
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(f"set local plan_cache_mode = {plans}")
            name = f"walk_{plans}_{walk}_{known}"
            await connection.execute(f"prepare {name} as {statement}")
            found = await connection.fetchval(
                f"explain (analyze, buffers, format json) execute {name}('{tenant}', '{'0' * 32}', '{'f' * 32}', 5000)"
            )
            await connection.execute(f"deallocate {name}")
    plan = json.loads(found)[0]["Plan"]
    assert plan["Actual Rows"] == 2
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= _BLOCKS_MAX, found
