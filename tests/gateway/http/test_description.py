"""The description as a gateway serves it: open to everybody, the checked-in bytes, and not sent twice."""

from __future__ import annotations

import pytest

from tests.architecture import ROOT
from tests.catalogue import declared_routes
from tests.gateway.asgi import call
from tests.gateway.http.conftest import Api, intent_body
from zentra.gateway.http.server import GatewayApp


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
async def test_the_description_is_open_and_is_the_one_in_the_manual(gateway: GatewayApp, name: str) -> None:
    answer = await call(gateway.application, "GET", f"/{name}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == (ROOT / "docs" / name).read_bytes()
    tag = answer.headers["etag"]
    for known, status in ((tag, 304), (f'"x", W/{tag}', 304), ("*", 304), ('"x"', 200), ("", 200)):
        again = await call(gateway.application, "GET", f"/{name}", headers={"if-none-match": known})
        assert (again.status, again.headers["etag"]) == (status, tag)
        assert again.body == (answer.body if status == 200 else b"")


def test_a_gateway_serves_the_routes_that_are_described(gateway: GatewayApp) -> None:
    served = {(route.action, route.permission, route.body) for route in gateway.application.routes}
    assert served == {(route.action, route.permission, route.body) for route in declared_routes()}


async def test_a_version_is_named_or_left_out(api: Api) -> None:
    assert (await api.post("/runtime/intents", intent_body(), zentra_version="2026.04")).status == 202
    refused = await api.post("/runtime/intents", intent_body(), zentra_version="2020.01")
    assert (refused.status, refused.code, refused.json["known"]) == (400, "version_unknown", ["2026.04"])
