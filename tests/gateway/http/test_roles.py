"""Every role at every route of a running gateway: let in or refused as the one table says, and each refusal is kept."""

from __future__ import annotations

import re

import pytest

from tests.catalogue import declared_routes
from tests.gateway.asgi import call
from tests.gateway.http.conftest import Api, Keys
from zentra.gateway.http.app import Route
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.runtime.roles import ROLES
from zentra.storage.pool import Pool

GUARDED = [route for route in declared_routes() if route.permission is not None]


def target(route: Route) -> str:
    return re.sub(r"\{\w+\}", "no-such-thing", route.template)


def test_the_routes_that_are_tried_are_those_that_are_served(gateway: GatewayApp) -> None:
    served = {(route.action, route.permission) for route in gateway.application.routes}
    assert served == {(route.action, route.permission) for route in declared_routes()}
    assert len(GUARDED) >= 24


@pytest.mark.parametrize("role", ROLES, ids=[f"{role}-at-{len(GUARDED)}-routes" for role in ROLES])
async def test_a_role_passes_the_doors_of_its_row_and_no_others(
    settings: Settings, keys: Keys, admin_pool: Pool, role: str
) -> None:
    refused = set()
    async with GatewayApp.opened(settings) as gateway:
        api = Api(gateway, keys, "globex", role)
        for route in GUARDED:
            if route.method == "DELETE":
                answer = await api.delete(target(route))
            else:
                answer = await (api.get(target(route)) if route.method == "GET" else api.post(target(route), b"[]"))
            assert answer.status != 401
            assert answer.status < 500, answer.body
            if answer.status == 403:
                assert answer.code == "permission_denied"
                refused.add(route.action)
    assert refused == {route.action for route in GUARDED if route.permission not in ROLES[role]}
    rows = await admin_pool.fetch(
        "select action from denials where tenant = 'globex' and actor = $1 and role = $1"
        " and reason = 'permission_denied'",
        role,
    )
    assert {row["action"] for row in rows} == refused


async def test_without_a_credential_every_guarded_route_is_shut_and_every_refusal_kept(
    settings: Settings, admin_pool: Pool
) -> None:
    async with GatewayApp.opened(settings) as gateway:
        for route in GUARDED:
            answer = await call(gateway.application, route.method, target(route), b"{}")
            assert (answer.status, answer.code) == (401, "authentication_required")
    rows = await admin_pool.fetch("select action from denials where actor = '-' and reason = 'authentication_required'")
    assert {route.action for route in GUARDED} <= {row["action"] for row in rows}
