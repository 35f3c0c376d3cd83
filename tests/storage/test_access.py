"""Keys, certificates and limits as they are stored; and two worlds that no row can join."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from zentra.runtime.errors import DataError, Refusal
from zentra.runtime.keys import parse_key
from zentra.runtime.limits import Per, Quota, RouteClass
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor
from zentra.storage.administration import Administration
from zentra.storage.errors import translated
from zentra.storage.pool import Pool
from zentra.storage.reads.access import find_certificate, find_claims, find_key, note_used, tenant_quotas

NOW = datetime.now(UTC)


@pytest.fixture
async def administration(admin_pool: Pool) -> Administration:
    made = Administration(admin_pool)
    for tenant, mode in (("acme", "test"), ("acme-live", "live")):
        await made.create_tenant(tenant, tenant, mode="live" if mode == "live" else "test")
        await made.create_principal(tenant, "ada", name="Ada", role="developer")
        await made.put_rail(RailSettings(f"rail_{mode}", "sandbox", mode="live" if mode == "live" else "test"))
    return made


async def test_a_key_is_seen_once_and_authenticates_its_principal(
    administration: Administration, tenant_pool: Pool
) -> None:
    issued = await administration.create_api_key("acme", "ada")
    parsed = parse_key(issued.text)
    found = await find_key(tenant_pool, issued.id)
    assert parsed is not None
    assert found is not None
    assert (parsed.id, parsed.secret_hash, parsed.live) == (issued.id, found.secret_hash, False)
    assert (found.tenant, found.principal, found.role, found.mode) == ("acme", "ada", "developer", "test")
    assert (found.scopes, found.networks, found.revoked_at, found.disabled_at) == (None, None, None, None)
    assert await administration.revoke_api_key("acme", issued.id)
    assert not await administration.revoke_api_key("acme", issued.id)
    revoked = await find_key(tenant_pool, issued.id)
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert await find_key(tenant_pool, "unknown") is None
    assert issued.text not in repr(await administration.api_keys("acme"))


async def test_a_key_is_of_its_tenants_world(administration: Administration, tenant_pool: Pool) -> None:
    issued = await administration.create_api_key("acme-live", "ada")
    assert issued.text.startswith("zk_live_")
    found = await find_key(tenant_pool, issued.id)
    assert found is not None
    assert found.mode == "live"


async def test_a_key_that_follows_may_do_the_same_and_the_old_one_ends(
    administration: Administration, tenant_pool: Pool
) -> None:
    old = await administration.create_api_key(
        "acme", "ada", name="job", scopes=["intents:read"], networks=["192.0.2.0/24", "2001:db8::/32"]
    )
    new = await administration.rotate_api_key("acme", old.id, overlap=timedelta(hours=1))
    kept = {key.id: key for key in await administration.api_keys("acme")}
    assert kept[new.id].replaces == old.id
    for name in ("principal", "name", "scopes", "networks"):
        assert getattr(kept[new.id], name) == getattr(kept[old.id], name)
    expiry = kept[old.id].expires_at
    assert expiry is not None
    assert timedelta(minutes=59) < expiry - datetime.now(UTC) <= timedelta(hours=1)
    assert kept[new.id].expires_at is None
    found = await find_key(tenant_pool, new.id)
    assert found is not None
    assert (found.scopes, found.networks) == (["intents:read"], ["192.0.2.0/24", "2001:db8::/32"])


async def test_a_rotation_lets_no_key_live_longer(administration: Administration) -> None:
    soon = NOW + timedelta(minutes=5)
    old = await administration.create_api_key("acme", "ada", expires_at=soon)
    await administration.rotate_api_key("acme", old.id, overlap=timedelta(hours=1))
    assert {key.id: key.expires_at for key in await administration.api_keys("acme")}[old.id] == soon
    await administration.revoke_api_key("acme", old.id)
    with pytest.raises(Refusal, match="api_key_revoked"):
        await administration.rotate_api_key("acme", old.id, overlap=timedelta(hours=1))


async def test_the_last_use_is_the_latest(administration: Administration, writer_pool: Pool) -> None:
    issued = await administration.create_api_key("acme", "ada")
    await note_used(writer_pool, {issued.id: NOW, "unknown": NOW})
    await note_used(writer_pool, {issued.id: NOW - timedelta(minutes=1)})
    await note_used(writer_pool, {})
    assert {key.id: key.last_used_at for key in await administration.api_keys("acme")}[issued.id] == NOW


async def test_a_certificate_is_one_principal_until_it_is_revoked(
    administration: Administration, tenant_pool: Pool
) -> None:
    identity = "spiffe://acme/payroll"
    assert await administration.put_certificate("acme", "ada", identity, scopes=["intents:create"])
    assert not await administration.put_certificate("acme", "ada", identity, scopes=["intents:create"])
    found = await find_certificate(tenant_pool, identity)
    assert found is not None
    assert (found.tenant, found.principal, found.role, found.mode) == ("acme", "ada", "developer", "test")
    assert found.scopes == ["intents:create"]
    for tenant in ("acme", "acme-live"):
        with pytest.raises(Refusal, match="identity_exists"):
            await administration.put_certificate(tenant, "ada", identity)
    assert await administration.revoke_certificate("acme", identity)
    assert not await administration.revoke_certificate("acme", identity)
    with pytest.raises(Refusal, match="identity_exists"):
        await administration.put_certificate("acme", "ada", identity, scopes=["intents:create"])
    revoked = await find_certificate(tenant_pool, identity)
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert await find_certificate(tenant_pool, "spiffe://nobody") is None


async def test_claims_are_told_what_is_stored_of_them(administration: Administration, tenant_pool: Pool) -> None:
    await administration.create_principal("acme", "eve", name="Eve", role="auditor")
    assert await administration.disable_principal("acme", "eve")
    assert not await administration.disable_principal("acme", "eve")
    known = await find_claims(tenant_pool, "acme", "ada")
    unknown = await find_claims(tenant_pool, "acme-live", "nobody")
    disabled = await find_claims(tenant_pool, "acme", "eve")
    assert known is not None
    assert unknown is not None
    assert disabled is not None
    assert (known.mode, known.role, known.disabled_at) == ("test", "developer", None)
    assert (unknown.mode, unknown.role) == ("live", None)
    assert disabled.disabled_at is not None
    assert await find_claims(tenant_pool, "nobody", "ada") is None


async def test_limits_are_a_tenants_own(administration: Administration, tenant_pool: Pool) -> None:
    assert await tenant_quotas(tenant_pool, "acme") == {}
    assert await administration.put_rate_limit("acme", RouteClass.MONEY, Per.KEY, Quota(600, 60))
    assert not await administration.put_rate_limit("acme", RouteClass.MONEY, Per.KEY, Quota(600, 60))
    assert await administration.put_rate_limit("acme", RouteClass.MONEY, Per.KEY, Quota(60, 60))
    assert await tenant_quotas(tenant_pool, "acme") == {(RouteClass.MONEY, Per.KEY): Quota(60, 60)}
    assert await tenant_quotas(tenant_pool, "acme-live") == {}
    assert [(one.route_class, one.quota) for one in await administration.rate_limits("acme")] == [("money", 60)]


# Two worlds.


@pytest.mark.parametrize(("tenant", "rail"), [("acme", "rail_live"), ("acme-live", "rail_test")])
async def test_no_corridor_leads_into_the_other_world(administration: Administration, tenant: str, rail: str) -> None:
    own = "rail_test" if tenant == "acme" else "rail_live"
    with pytest.raises(Refusal, match="rail_mode_differs"):
        await administration.put_corridor(Corridor(tenant, "x", "NGN", "payment", (own, rail)))
    assert await administration.put_corridor(Corridor(tenant, "own", "NGN", "payment", (own,)))


@pytest.mark.parametrize(
    "statement",
    [
        "insert into corridors (tenant, name, currency, kind, rails)"
        " values ('acme', 'y', 'NGN', 'payment', '{rail_live}')",
        "update corridors set rails = '{rail_live}' where tenant = 'acme'",
        "update rails set settings = settings || '{\"mode\": \"live\"}' where name = 'rail_test'",
        "update rails set settings = settings - 'mode' where name = 'rail_live'",
        "update tenants set mode = 'live' where id = 'acme'",
    ],
)
async def test_the_store_itself_keeps_the_worlds_apart(
    administration: Administration, admin_pool: Pool, statement: str
) -> None:
    """Whoever writes, and from wherever: even the superuser."""
    await administration.put_corridor(Corridor("acme", "own", "NGN", "payment", ("rail_test",)))
    with pytest.raises(DataError), translated():
        await admin_pool.execute(statement)


async def test_a_rail_that_comes_later_is_held_to_the_corridors_that_wait_for_it(
    administration: Administration, admin_pool: Pool
) -> None:
    await admin_pool.execute(
        "insert into corridors (tenant, name, currency, kind, rails) values ('acme', 'z', 'NGN', 'payment', '{later}')"
    )
    with pytest.raises(DataError):
        await administration.put_rail(RailSettings("later", "sandbox", mode="live"))
    assert await administration.put_rail(RailSettings("later", "sandbox"))


@pytest.mark.parametrize(
    "read",
    [
        lambda pool: pool.fetch("select * from api_keys"),
        lambda pool: pool.fetch("update api_keys set revoked_at = null"),
        lambda pool: pool.fetch("insert into rate_limits values ('acme', 'read', 'key', 1, 1)"),
        lambda pool: pool.fetch("update certificates set tenant = 'acme'"),
    ],
)
async def test_a_tenants_connection_has_no_hand_on_who_comes_in(
    administration: Administration, tenant_pool: Pool, read: Callable[[Pool], Awaitable[object]]
) -> None:
    with pytest.raises(Exception, match="permission denied"):
        await read(tenant_pool)
