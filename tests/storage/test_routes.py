"""Routes in the store: versions and what is in force, worlds apart, rails that rest; and what was there before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from tests.services import PARTITIONS, PASSWORD
from zentra.gateway.devstack.stack import DevStack
from zentra.runtime.errors import Refusal
from zentra.runtime.rails.document import corridors_of, parse_routes
from zentra.runtime.rails.operating import Maintenance, RailOperation
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor, RailRoute
from zentra.storage.administration import Administration
from zentra.storage.engine.store import PostgresStore
from zentra.storage.migrate import migrate, migrations
from zentra.storage.operations import drain_rail, lift_maintenance, rail_events, rail_operations, set_maintenance
from zentra.storage.pool import Pool, open_pool, tenant_transaction
from zentra.storage.routes import (
    ROUTES,
    check_routes,
    corridors_in_force,
    reachable_rails,
)
from zentra.storage.versions import InvalidDocument

AUTHOR, OTHER = "ada", "grace"


def document(*rails: str, **changes: Any) -> dict[str, Any]:
    """Return a document with one corridor over these rails, of one priority."""
    corridor = {"name": "ng", "currency": "NGN", "kind": "transfer", "rails": [{"rail": rail} for rail in rails]}
    return {"corridors": [{**corridor, **changes}]}


@pytest.fixture
async def administration(admin_pool: Pool) -> Administration:
    made = Administration(admin_pool)
    await made.create_tenant("acme", "Acme")
    await made.create_tenant("real", "Real", mode="live")
    for name in ("first", "second"):
        await made.put_rail(RailSettings(name, "sandbox"))
    await made.put_rail(RailSettings("live_one", "sandbox", mode="live"))
    return made


async def promoted(pool: Pool, wanted: dict[str, Any], *, tenant: str = "acme") -> int:
    view = await ROUTES.draft(pool, tenant, wanted, "", AUTHOR)
    await ROUTES.move(pool, tenant, view.version, "validate", AUTHOR)
    await ROUTES.move(pool, tenant, view.version, "promote", OTHER)
    return view.version


async def in_force(writer_pool: Pool) -> dict[str, Corridor]:
    corridors = (await PostgresStore(writer_pool).configuration()).corridors.get("acme", ())
    return {corridor.name: corridor for corridor in corridors}


async def test_what_is_in_force_is_the_active_version_and_raises_the_version_of_the_configuration(
    administration: Administration, tenant_pool: Pool, writer_pool: Pool
) -> None:
    store = PostgresStore(writer_pool)
    before = (await store.configuration()).version
    first = await promoted(tenant_pool, document("first", "second", prefer="cost", wait_seconds=5))
    corridor = (await in_force(writer_pool))["ng"]
    assert (corridor.version, corridor.rails, corridor.prefer, corridor.wait_seconds) == (
        first, ("first", "second"), "cost", 5
    )  # fmt: skip
    assert corridor.routes == (RailRoute("first"), RailRoute("second"))
    assert (await store.configuration()).version > before
    second = await promoted(tenant_pool, document("second"))
    assert {name: (one.version, one.rails) for name, one in (await in_force(writer_pool)).items()} == {
        "ng": (second, ("second",))
    }
    await ROUTES.move(tenant_pool, "acme", first, "rollback", OTHER)
    assert (await in_force(writer_pool))["ng"] == corridor
    states = {row.version: row.state for row in await ROUTES.rows(tenant_pool, "acme")}
    assert (states[first], states[second]) == ("active", "retired")
    actions = [event.action for event in await ROUTES.events(tenant_pool, "acme", first)]
    assert actions == ["rolled_back", "retired", "promoted", "validated", "drafted"]


async def test_a_corridor_set_up_by_hand_is_a_version_of_its_own(
    administration: Administration, tenant_pool: Pool, writer_pool: Pool
) -> None:
    version = await promoted(tenant_pool, document("first"))
    assert await administration.put_corridor(Corridor("acme", "pay", "NGN", "payment", ("second", "first")))
    assert not await administration.put_corridor(Corridor("acme", "pay", "NGN", "payment", ("second", "first")))
    corridors = await in_force(writer_pool)
    assert {name: one.version for name, one in corridors.items()} == {"ng": version + 1, "pay": version + 1}
    assert corridors["pay"].routes == (RailRoute("second", 1), RailRoute("first", 2))
    view = await ROUTES.show(tenant_pool, "acme", version + 1)
    assert view is not None
    assert [one["name"] for one in view.document["corridors"]] == ["ng", "pay"]


async def test_corridors_of_before_there_were_versions_are_the_first(stack: DevStack) -> None:
    server, name = stack.postgres_url.rpartition("/")[0], "zentra_before_routes"
    files = migrations()
    before = [one for one in files if one.number < next(f.number for f in files if f.name.endswith("_routes"))]
    await _admin(stack.postgres_url, f"create database {name}")
    try:
        url = f"{server}/{name}"
        await migrate(url, writer_password=PASSWORD, tenant_password=PASSWORD, partitions=PARTITIONS, files=before)
        await _admin(
            url,
            """set search_path = zentra;
            insert into tenants (id, name) values ('acme', 'Acme'), ('none', 'None');
            insert into rails (name, settings) values ('first', '{"name": "first"}'), ('second', '{"name": "second"}');
            insert into corridors (tenant, name, country, currency, kind, minor_min, minor_max, rails) values
                ('acme', 'a', null, 'NGN', 'payment', 1, null, '{second,first}'),
                ('acme', 'b', 'GH', 'GHS', 'transfer', 5, 90, '{first}')""",
        )
        await migrate(url, writer_password=PASSWORD, tenant_password=PASSWORD, partitions=PARTITIONS)
        async with await open_pool(url, name="test-before") as pool:
            wanted = (
                Corridor(
                    "acme", "a", "NGN", "payment", ("second", "first"), version=1,
                    routes=(RailRoute("second", 1), RailRoute("first", 2)),
                ),
                Corridor(
                    "acme", "b", "GHS", "transfer", ("first",), "GH", 5, 90, routes=(RailRoute("first"),), version=1
                ),
            )  # fmt: skip
            async with tenant_transaction(pool, "acme") as connection:
                assert await corridors_in_force(connection, "acme") == wanted
            view = await ROUTES.show(pool, "acme", 1)
            assert view is not None
            assert (view.state, view.created_by) == ("active", "migration")
            assert corridors_of(view.document, "acme", 1) == wanted
            assert parse_routes(view.document)[1] == []
            assert [event.action for event in await ROUTES.events(pool, "acme", 1)] == ["installed"]
            assert await ROUTES.rows(pool, "none") == []
    finally:
        await _admin(stack.postgres_url, f"drop database {name} with (force)")


async def _admin(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def test_a_version_leads_only_to_rails_of_its_world(
    administration: Administration, tenant_pool: Pool, admin_pool: Pool
) -> None:
    assert await reachable_rails(tenant_pool, "acme") >= {"first", "second"}
    assert "live_one" not in await reachable_rails(tenant_pool, "acme")
    assert await reachable_rails(tenant_pool, "real") == {"live_one"}
    for name in ("live_one", "nobody"):
        (found,) = await check_routes(tenant_pool, "acme", document(name))
        assert (found.pointer, found.code) == ("/corridors/ng/rails/0/rail", "rail_unknown")
    view = await ROUTES.draft(tenant_pool, "acme", document("live_one"), "", AUTHOR)
    assert [one.code for one in view.violations] == ["rail_unknown"]
    with pytest.raises(InvalidDocument):
        await ROUTES.move(tenant_pool, "acme", view.version, "validate", AUTHOR)


async def test_a_version_is_kept_as_it_is_and_stays_with_its_tenant(
    administration: Administration, tenant_pool: Pool, admin_pool: Pool
) -> None:
    version = await promoted(tenant_pool, document("first"))
    for statement in (
        "update routing_documents set document = '{}' where tenant = 'acme'",
        "delete from routing_documents where tenant = 'acme'",
    ):
        with pytest.raises(asyncpg.CheckViolationError, match="is kept as it is"):
            await admin_pool.execute(statement)
    assert await ROUTES.show(tenant_pool, "real", version) is None
    view = await ROUTES.draft(tenant_pool, "acme", document("second"), "", AUTHOR)
    await ROUTES.move(tenant_pool, "acme", view.version, "validate", AUTHOR)
    with pytest.raises(Refusal, match="written by ada"):
        await ROUTES.move(tenant_pool, "acme", view.version, "promote", AUTHOR)


async def test_what_operators_say_of_a_rail_is_in_force_and_kept(
    administration: Administration, admin_pool: Pool, writer_pool: Pool
) -> None:
    store, now = PostgresStore(writer_pool), datetime.now(UTC).replace(microsecond=0)
    before = (await store.configuration()).version
    assert await drain_rail(admin_pool, "first", draining=True, reason="moved", by="ada")
    assert not await drain_rail(admin_pool, "first", draining=True, reason="again", by="ada")
    window = Maintenance(now - timedelta(minutes=1), now + timedelta(minutes=1), "upgrade")
    await set_maintenance(admin_pool, "first", window, by="grace")
    await set_maintenance(admin_pool, "first", window, by="grace")
    configuration = await store.configuration()
    assert configuration.version > before
    assert configuration.operations["first"] == RailOperation(True, "moved", (window,))
    assert await lift_maintenance(admin_pool, "first", by="ada") == 1
    assert await drain_rail(admin_pool, "first", draining=False, reason="", by="ada")
    assert (await rail_operations(writer_pool))["first"] == RailOperation()
    told = [(event.action, event.principal) for event in await rail_events(admin_pool, "first")]
    assert told == [
        ("resumed", "ada"), ("maintenance_lifted", "ada"), ("maintenance_set", "grace"), ("maintenance_set", "grace"),
        ("drained", "ada"),
    ]  # fmt: skip
    with pytest.raises(Refusal, match="no rail is called"):
        await drain_rail(admin_pool, "nobody", draining=True, reason="", by="ada")
    with pytest.raises(Refusal, match="ends after it begins"):
        await set_maintenance(admin_pool, "first", structs.replace(window, until=window.from_), by="ada")
