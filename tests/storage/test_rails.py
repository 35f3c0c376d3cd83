"""A rail stays who it is while a payment is under way that was given to it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from zentra.runtime.errors import Refusal
from zentra.runtime.rails.port import RailSettings
from zentra.storage.pool import Pool
from zentra.storage.rails import put_rail

HERE, THERE = "https://one.example", "https://two.example"


async def under_way(pool: Pool, rail: str) -> str:
    """Leave what a payment leaves that was given to a rail and is not over; return its id."""
    intent, at = uuid.uuid4().hex, datetime.now(UTC)
    record = b'{"facts":{"kind":"routed","rail":"' + rail.encode() + b'"}}'
    await pool.execute(
        "insert into transitions (intent, sequence, tenant, at, state, event, record, hash)"
        " values ($1, 4, 'acme', $2, 'SUBMITTED', 'provider.routed', $3, '')", intent, at, record,
    )  # fmt: skip
    await pool.execute(
        "insert into timers (kind, key, name, partition, tenant, due_at)"
        " values ('intent', $1, 'state', 0, 'acme', $2)", intent, at,
    )  # fmt: skip
    return intent


@pytest.mark.parametrize("moved", [False, True])
async def test_a_rail_in_use_is_no_other_partners(admin_pool: Pool, moved: bool) -> None:
    name = f"rail{uuid.uuid4().hex[:8]}"
    rail = RailSettings(name, "gtbank", HERE)
    assert await put_rail(admin_pool, rail, moved=False)
    intent = await under_way(admin_pool, name)
    with pytest.raises(Refusal, match="rail_in_use"):
        await put_rail(admin_pool, RailSettings(name, "providus", HERE), moved=moved)
    elsewhere = RailSettings(name, "gtbank", THERE)
    if moved:
        assert await put_rail(admin_pool, elsewhere, moved=True)
        return
    with pytest.raises(Refusal, match=f"rail_in_use: payments are under way over {name} at {HERE}"):
        await put_rail(admin_pool, elsewhere, moved=False)
    assert await put_rail(admin_pool, RailSettings(name, "gtbank", HERE, deadline_seconds=60), moved=False)
    await admin_pool.execute("delete from timers where key = $1", intent)
    assert await put_rail(admin_pool, elsewhere, moved=False), "what was under way is over"


async def test_what_another_rail_has_under_way_is_nothing_to_this_one(admin_pool: Pool) -> None:
    name = f"rail{uuid.uuid4().hex[:8]}"
    await under_way(admin_pool, f"{name}x")
    assert await put_rail(admin_pool, RailSettings(name, "sandbox", HERE), moved=False)
    assert await put_rail(admin_pool, RailSettings(name, "sandbox", THERE), moved=False)
