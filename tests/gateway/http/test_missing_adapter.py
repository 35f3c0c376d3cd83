"""A callback for a rail whose adapter is not installed here is to come again, perhaps to a machine that can read it."""

from __future__ import annotations

from tests.gateway.asgi import call
from tests.gateway.http.conftest import Keys
from zentra.gateway.http.server import GatewayApp
from zentra.runtime.rails.port import RailSettings
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool


async def test_a_callback_without_an_adapter_is_put_off(gateway: GatewayApp, keys: Keys, admin_pool: Pool) -> None:
    await Administration(admin_pool).put_rail(RailSettings("tide", "tidebank"))
    answer = await call(gateway.application, "POST", "/providers/tide/callbacks", b"{}")
    assert (answer.status, answer.code) == (503, "unavailable")
    assert "retry-after" in answer.headers
