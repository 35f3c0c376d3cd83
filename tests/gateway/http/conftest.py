"""A gateway on real stores, without a worker: what it promises by itself."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from msgspec import Struct

from tests.gateway.asgi import Answer, call
from tests.gateway.http.described import assert_described
from tests.services import Database, admin_pool, database, database_template, redis_flushed, tenant_pool, writer_pool
from zentra.gateway.devstack.stack import DevStack
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.outward.rail_secrets import RailSecrets, put_rail
from zentra.gateway.settings import Settings
from zentra.runtime.rails.port import RailSettings
from zentra.storage.administration import Administration
from zentra.storage.pool import open_pool

__all__ = ["admin_pool", "database", "database_template", "redis_flushed", "tenant_pool", "writer_pool"]

ROLES = ("developer", "operator", "support", "finance", "auditor", "admin")
RAIL_SECRET = "rail secret"
SECRET = "5e" * 32


class Keys(Struct, frozen=True):
    """API keys by tenant and principal; a principal is named after its role."""

    by_principal: Mapping[tuple[str, str], str]
    revoked: str

    def of(self, tenant: str, principal: str) -> str:
        return self.by_principal[tenant, principal]


@pytest.fixture(scope="module")
def keys(database: Database) -> Keys:
    """Two tenants with one principal per role, a revoked key, and a rail."""

    async def make() -> Keys:
        pool = await open_pool(database.admin_url, name="test-seed", connections_max=1)
        administration = Administration(pool)
        made = {}
        for tenant in ("acme", "globex"):
            await administration.create_tenant(tenant, tenant.title())
            for role in ROLES:
                await administration.create_principal(tenant, role, name=role.title(), role=role)
                made[tenant, role] = (await administration.create_api_key(tenant, role)).text
        revoked = await administration.create_api_key("acme", "developer")
        await administration.revoke_api_key("acme", revoked.id)
        rail = RailSettings(name="sandbox_a", kind="sandbox", secret=RAIL_SECRET)
        await put_rail(administration, rail, RailSecrets(bytes.fromhex(SECRET)))
        await pool.close()
        return Keys(made, revoked.text)

    return asyncio.run(make())


@pytest.fixture
def settings(database: Database, stack: DevStack) -> Settings:
    """The settings of a gateway on this module's database."""
    return Settings(
        postgres_writer_url=database.writer_url,
        postgres_tenant_url=database.tenant_url,
        nats_url=stack.nats_url,
        redis_url=stack.redis_url,
        secret=SECRET,
        private_addresses=True,
        postgres_connections_max=4,
    )


@pytest.fixture
async def gateway(settings: Settings, keys: Keys) -> AsyncIterator[GatewayApp]:
    """A gateway that is built and serves nobody but the test."""
    async with GatewayApp.opened(settings) as opened:
        yield opened


class Api:
    """The API as somebody of a tenant uses it."""

    def __init__(self, gateway: GatewayApp, keys: Keys, tenant: str = "acme", principal: str = "developer") -> None:
        self.gateway, self.keys, self.tenant, self.principal = gateway, keys, tenant, principal

    def as_(self, principal: str, tenant: str = "acme") -> Api:
        return Api(self.gateway, self.keys, tenant, principal)

    async def get(self, target: str, **headers: str) -> Answer:
        return await self._call("GET", target, None, headers)

    async def post(self, target: str, body: object = None, *, key: str | None = "", **headers: str) -> Answer:
        """An empty `key` is a fresh one, None is none."""
        if key is not None:
            headers["x-idempotency-key"] = key or uuid.uuid4().hex
        return await self._call("POST", target, body, headers)

    async def delete(self, target: str, **headers: str) -> Answer:
        return await self._call("DELETE", target, None, headers)

    async def _call(self, method: str, target: str, body: object, headers: dict[str, str]) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"authorization": f"Bearer {self.keys.of(self.tenant, self.principal)}"} | named
        answer = await call(self.gateway.application, method, target, body, given)
        assert_described(method, target, answer)
        return answer


@pytest.fixture
def api(gateway: GatewayApp, keys: Keys) -> Api:
    """The API as acme's developer uses it."""
    return Api(gateway, keys)


def intent_body(**changes: Any) -> dict[str, Any]:
    """A sound intent with an id of its own."""
    body = {
        "intent_id": f"int-{uuid.uuid4().hex}", "amount": 125_000, "currency": "NGN", "source": "customer-1",
        "destination": "merchant-1",
    }  # fmt: skip
    return {name: value for name, value in (body | changes).items() if value is not ...}
