"""The public door to the history of keys, and what readiness says while workers cannot sign."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.gateway.asgi import call
from tests.gateway.http.conftest import Api
from tests.gateway.http.described import assert_described
from zentra.gateway.http.server import GatewayApp
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.evidence.key_files import history_of_file
from zentra.storage.intake.evidence_keys import admit_keys, rotate_key, sign_on
from zentra.storage.pool import Pool

DOOR = "/.well-known/zentra-evidence-keys"


@pytest.fixture
async def clean(admin_pool: Pool) -> AsyncIterator[None]:
    await admin_pool.execute("truncate evidence_key_entries, evidence_signers, evidence_keys")
    yield
    await admin_pool.execute("truncate evidence_key_entries, evidence_signers, evidence_keys")


@pytest.mark.usefixtures("clean")
async def test_everybody_reads_the_history_of_keys(gateway: GatewayApp, api: Api, writer_pool: Pool) -> None:
    empty = await call(gateway.application, "GET", DOOR)
    assert (empty.status, empty.code) == (503, "evidence_key_absent")
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    await admit_keys(writer_pool, [first], by="w1")
    await rotate_key(writer_pool, [first], second, by="ada", reason="yearly", lead=timedelta(hours=1))
    answer = await call(gateway.application, "GET", DOOR)
    assert_described("GET", DOOR, answer)
    assert answer.status == 200
    history = history_of_file(answer.body)
    assert [entry.key_id for entry in history.entries] == [key_id(key.public_key()) for key in (first, second)]
    told = {
        one["key_id"]: (one["since"], one["until"])
        for one in (await api.as_("auditor").get("/evidence/keys")).json["data"]
    }
    assert told == {kid: (key.since, key.until) for kid, key in history.ring().items()}
    again = await call(gateway.application, "GET", DOOR, None, {"if-none-match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.usefixtures("clean")
async def test_readiness_tells_of_a_worker_that_cannot_sign_and_goes_on(gateway: GatewayApp, writer_pool: Pool) -> None:
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    await admit_keys(writer_pool, [first], by="w1")
    await sign_on(writer_pool, "w1", [key_id(first.public_key())])
    await rotate_key(writer_pool, [first], second, by="ada", reason="", lead=timedelta(microseconds=1), needed=False)
    ready = await call(gateway.application, "GET", "/readyz")
    assert (ready.status, ready.json["status"], ready.json["checks"]["sealing"]["ok"]) == (200, "degraded", False)
