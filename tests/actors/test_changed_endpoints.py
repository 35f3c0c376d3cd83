"""What waits for its turn goes where its endpoint is now, signed by what signs now; or it does not go."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from msgspec import structs

from tests.actors.test_worker import make_worker, make_world, running, until
from tests.actors.world import endpoint, hook, transfer
from zentra.bench.twins.transport import Received
from zentra.runtime.ports import Endpoint
from zentra.runtime.webhooks.standard import sign
from zentra.runtime.webhooks.terms import EndpointTerms

SLOW = structs.replace(endpoint("hook", "*"), terms=EndpointTerms(per_second=20))
NEW = b"n" * 32


def signed_by(call: Received) -> set[bytes]:
    """Return which of the two secrets have signed a call."""
    given = call.headers["webhook-signature"].split(" ")
    stamp = int(call.headers["webhook-timestamp"])
    return {
        secret for secret in (*SLOW.secrets, NEW) if sign(secret, call.headers["webhook-id"], stamp, call.body) in given
    }


def rotated(at: Endpoint) -> Endpoint:
    return structs.replace(at, secrets=(NEW,), secrets_until=(None,))


def moved(at: Endpoint) -> Endpoint:
    return structs.replace(at, url=hook("elsewhere"))


@pytest.mark.parametrize(
    ("change", "url", "secret"), [(rotated, hook(), NEW), (moved, hook("elsewhere"), SLOW.secrets[0])]
)
async def test_what_waits_for_its_turn_follows_a_change(
    change: Callable[[Endpoint], Endpoint], url: str, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zentra.actors.worker.KNOWN_SECONDS_MAX", 0.0)
    fleet = make_world(endpoints=(SLOW,))
    worker, received = make_worker(fleet, "w"), fleet.endpoints.received
    async with running(worker):
        intent = fleet.submit(transfer())
        await until(lambda: len(received) == 1 and not worker._flying and worker.outward.backlog > 0)
        fleet.store.configure(structs.replace(fleet.store.current, endpoints={"acme": (change(SLOW),)}))
        await until(lambda: fleet.events(intent).count("webhook.delivered") == 5)
    assert [(call.url, signed_by(call)) for call in received[1:]] == [(url, {secret})] * 4


async def test_the_record_has_the_signature_that_was_sent() -> None:
    fleet = make_world(endpoints=(endpoint(),))
    async with running(make_worker(fleet, "w")):
        intent = fleet.submit(transfer())
        await until(lambda: "webhook.delivered" in fleet.events(intent))
    records = [json.loads(one.record) for one in fleet.store.rows.transitions[intent]]
    told = next(record["facts"] for record in records if record["event"] == "webhook.delivered")
    (call,) = fleet.endpoints.received
    assert told["signature"] == call.headers["webhook-signature"]


@pytest.mark.parametrize("disabled", [True, False])
async def test_what_waits_for_its_turn_is_not_sent_to_an_endpoint_that_is_gone(
    disabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zentra.actors.worker.KNOWN_SECONDS_MAX", 0.0)
    fleet = make_world(endpoints=(SLOW,))
    worker, received = make_worker(fleet, "w"), fleet.endpoints.received
    held = frozenset({("acme", "hook")} if disabled else ())
    async with running(worker):
        fleet.submit(transfer())
        await until(lambda: len(received) == 1 and not worker._flying and worker.outward.backlog > 0)
        fleet.store.configure(structs.replace(fleet.store.current, endpoints={}, endpoints_held=held))
        await until(lambda: worker.outward.backlog == 0 and not worker._flying)
    assert len(received) == 1
