"""What is said of the routes to webhook endpoints: one row each; see `doors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from zentra.gateway.description import hook_shapes, pages
from zentra.gateway.description.door import Door, schema_of_change, schema_of_fields
from zentra.gateway.description.rows import REPLAYED
from zentra.gateway.http.fields import NOTHING, Field
from zentra.gateway.routes.webhooks import AMENDMENT, ENDPOINT, KEYS_PATH, ROTATION

__all__ = ["HOOK_DOORS"]


def _change(name: str, summary: str, takes: Mapping[str, Field], *codes: str) -> Door:
    return Door(
        name=name, tag="webhooks", summary=summary, answers={200: hook_shapes.Endpoint}, takes=schema_of_fields(takes),
        key="once", headers=REPLAYED, codes=("not_found", "endpoint_changed", *codes),
    )  # fmt: skip


HOOK_DOORS: Final[Mapping[str, Door]] = {
    "POST /webhooks/endpoints": Door(
        name="create_endpoint", tag="webhooks", summary="Set up an endpoint and show its secret, once.",
        answers={201: hook_shapes.EndpointMade}, takes=schema_of_fields(ENDPOINT), key="once", headers=REPLAYED,
        codes=("endpoint_exists", "endpoints_too_many"),
    ),
    "GET /webhooks/endpoints": Door(
        name="list_endpoints", tag="webhooks", summary="The tenant's endpoints, without secrets.",
        answers={200: pages.Endpoints},
    ),
    "GET /webhooks/endpoints/{id}": Door(
        name="show_endpoint", tag="webhooks", summary="An endpoint: how it is set up and how it does.",
        answers={200: hook_shapes.Endpoint}, codes=("not_found",),
    ),
    "POST /webhooks/endpoints/{id}/amend": msgspec.structs.replace(
        _change("amend_endpoint", "Change where an endpoint is, what it hears of, or how.", AMENDMENT),
        takes=schema_of_change(AMENDMENT, "version"),
    ),
    "POST /webhooks/endpoints/{id}/disable": _change(
        "disable_endpoint", "Call an endpoint no more; what is for it is kept.", NOTHING, "endpoint_status_conflict"
    ),
    "POST /webhooks/endpoints/{id}/enable": _change(
        "enable_endpoint", "Call an endpoint again, with what was kept for it.", NOTHING, "endpoint_status_conflict"
    ),
    "POST /webhooks/endpoints/{id}/rotate": _change(
        "rotate_endpoint", "Give an endpoint a new secret or key, shown once.", ROTATION, "secrets_too_many"
    ),
    "DELETE /webhooks/endpoints/{id}": Door(
        name="delete_endpoint", tag="webhooks", summary="Take an endpoint away; what waits for it ends.",
        answers={200: hook_shapes.EndpointDeleted}, codes=("not_found",),
    ),
    f"GET {KEYS_PATH}": Door(
        name="show_webhook_keys", tag="webhooks", summary="The public keys of an endpoint, for everybody.",
        answers={200: hook_shapes.WebhookKeys}, codes=("not_found",),
    ),
}  # fmt: skip
