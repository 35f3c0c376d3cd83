"""What every store does for journals and conversions: names, corrections, system accounts."""

from __future__ import annotations

import pytest

from tests.contracts.test_store_contract import AT, World, pools, story, uuid, world
from zentra.bench.twins.store import StoreTwin
from zentra.bench.twins.store_intake import IntentRow
from zentra.runtime.ports import TickWrites
from zentra.storage.engine.store import PostgresStore

__all__ = ["pools", "world"]


async def named(world: World, intent: str) -> None:
    """Let the intake's row of an intent be there too, where there is one."""
    if isinstance(world.store, PostgresStore):
        await world.store._pool.execute(
            "insert into intents (id, tenant, intent_id, digest, command, principal, role, key, trace, created_at)"
            " values ($1, 'acme', $2, '', '', 'dev', 'developer', $2, 't', now())",
            intent, f"i-{intent}",
        )  # fmt: skip
    elif isinstance(world.store, StoreTwin):
        world.store.intake.intents["acme", f"i-{intent}"] = IntentRow(intent, b"", "k")


async def corrections(world: World, original: str) -> list[str]:
    """Return what corrects an intent."""
    if isinstance(world.store, StoreTwin):
        return [correction for key, correction in world.store.rows.corrections if key == original]
    assert isinstance(world.store, PostgresStore)
    rows = await world.store._pool.fetch("select correction from corrections where original = $1", original)
    return [row[0] for row in rows]


async def test_an_intent_is_found_by_the_name_that_its_tenant_gave_it(world: World) -> None:
    written = story(1)
    intent = written[0].intent
    await world.commit(lambda writes: writes.transitions.extend(written))
    await named(world, intent)
    asked = [("acme", f"i-{intent}"), ("globex", f"i-{intent}"), ("acme", "nothing")]
    assert await world.store.intent_ids(asked) == {("acme", f"i-{intent}"): intent}


async def test_a_correction_is_kept_once_and_only_with_its_tick(world: World) -> None:
    original, correction = uuid(), uuid()

    def correct(writes: TickWrites) -> None:
        writes.corrections.append(("acme", original, correction, AT))

    def refuse(writes: TickWrites) -> None:
        correct(writes)
        raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await world.commit(refuse)
    assert await corrections(world, original) == []
    await world.commit(correct)
    await world.commit(correct)
    assert await corrections(world, original) == [correction]


async def test_a_system_account_is_found_by_its_type_and_currency(world: World) -> None:
    ref = await world.account(guarded=False)
    found = await world.store.accounts([("acme", "@fee/NGN"), ("acme", "@fee/USD"), ("globex", "@fee/NGN")])
    assert list(found) == [("acme", "@fee/NGN")]
    assert found["acme", "@fee/NGN"].type == ref.type == "fee"
