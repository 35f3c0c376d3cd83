"""The doors to evidence: the same packet is the same bytes, and every form and proof verifies offline."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.http.conftest import Api, Keys
from tests.ledgers import KEY, TENANTS, played, store_fleet
from tests.services import Database
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.evidence.notes import read_note
from zentra.runtime.evidence.verifying import packet_of_envelope, verify_text
from zentra.storage.intake.evidence import ExportRow, keep_key, record_export
from zentra.storage.pool import Pool, open_pool

RING = ring_of([KEY.public_key()])
INTENTS = "/runtime/intents"


@pytest.fixture(scope="module", autouse=True)
def history(database: Database, keys: Keys) -> None:
    """A past of both tenants, beside the people of the gateway."""

    async def fill() -> None:
        async with await open_pool(database.admin_url, name="test", connections_max=1) as pool:
            await pool.execute("set session_replication_role = replica")
            await pool.execute("delete from accounts")
            await pool.execute(f"delete from tenants where id in {TENANTS}")
            await store_fleet(pool, played())
            await keep_key(pool, key_id(KEY.public_key()), KEY.public_key().public_bytes_raw())
            await keep_key(pool, key_id(KEY.public_key()), KEY.public_key().public_bytes_raw())

    asyncio.run(fill())


def pem() -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
async def signing(settings: Settings, keys: Keys) -> Any:
    """The API of a gateway that has the key."""
    import msgspec

    async with GatewayApp.opened(msgspec.structs.replace(settings, evidence_key=pem())) as opened:
        yield Api(opened, keys, principal="auditor")


@pytest.fixture
def reader(api: Api) -> Api:
    """The API of a gateway without the key, as an auditor uses it."""
    return api.as_("auditor")


async def amended(pool: Pool) -> tuple[str, int]:
    """Return an intent of acme that has an addendum, and how many."""
    row = await pool.fetchrow(
        "select intent::text, count(*) from zentra.log_leaves where tenant = 'acme' group by intent"
        " having count(*) > 1 order by intent limit 1"
    )
    assert row is not None
    return row[0].replace("-", ""), row[1] - 1


async def test_a_packet_is_the_same_bytes_for_ever(
    reader: Api, settings: Settings, keys: Keys, admin_pool: Pool
) -> None:
    intent, addenda = await amended(admin_pool)
    said = {name: (await reader.get(f"{INTENTS}/{intent}/evidence{name}")) for name in ("", "?addenda=0")}
    assert said[""].headers["etag"] == f'"{sha256(said[""].body).hexdigest()}"'
    assert verify_text(said[""].body, RING).ok
    assert verify_text(said["?addenda=0"].body, RING).ok
    assert len(said["?addenda=0"].json["addenda"]) == 0
    assert len(said[""].json["addenda"]) == addenda
    # Later heads, more deliveries and another gateway change nothing.
    await admin_pool.execute(
        "insert into zentra.log_heads select tenant, size + 1000, root, frontier, at, key_id, signature"
        " from zentra.log_heads where tenant = 'acme' order by size desc limit 1"
    )
    await admin_pool.execute(
        "insert into zentra.deliveries (id, tenant, endpoint, intent, sequence, event, body, created_at)"
        " select gen_random_uuid(), 'acme', gen_random_uuid(), $1, n, 'ledger.posted', 'new'::bytea, now()"
        " from generate_series(1, 300) n",
        intent,
    )
    async with GatewayApp.opened(settings) as another:
        api = Api(another, keys, principal="auditor")
        for name, first in said.items():
            assert (await api.get(f"{INTENTS}/{intent}/evidence{name}")).body == first.body
    await admin_pool.execute("delete from zentra.log_heads where tenant = 'acme' and size > 1000")
    missing = await reader.get(f"{INTENTS}/{intent}/evidence?addenda={addenda + 1}")
    assert (missing.status, missing.code) == (409, "evidence_not_sealed")


async def test_a_packet_stands_under_the_checkpoint_that_somebody_keeps(reader: Api, admin_pool: Pool) -> None:
    intent, _ = await amended(admin_pool)
    note = await reader.get("/evidence/checkpoint")
    head = read_note(note.body, RING)
    first = (await reader.get(f"{INTENTS}/{intent}/evidence")).body
    under = (await reader.get(f"{INTENTS}/{intent}/evidence?checkpoint={head.size}")).body
    assert verify_text(under, RING, [head]).ok
    assert json.loads(under)["head"]["size"] == head.size
    assert [one.code for one in verify_text(first, RING, [head]).problems] == []
    for size in (1, 100_000):
        missing = await reader.get(f"{INTENTS}/{intent}/evidence?checkpoint={size}")
        assert (missing.status, missing.code) == (404, "checkpoint_unknown")


async def test_an_envelope_wraps_the_very_bytes_and_keeps_its_first_signature(
    signing: Api, reader: Api, admin_pool: Pool
) -> None:
    intent, _ = await amended(admin_pool)
    target = f"{INTENTS}/{intent}/evidence"
    refused = await reader.get(f"{target}?format=dsse")
    assert (refused.status, refused.code) == (503, "evidence_key_absent")
    envelope = await signing.get(f"{target}?format=dsse")
    assert envelope.headers["content-type"] == "application/vnd.dsse.envelope.v1+json"
    assert packet_of_envelope(envelope.body) == (await reader.get(target)).body
    assert verify_text(envelope.body, RING).ok
    assert envelope.headers["etag"] == f'"{sha256(envelope.body).hexdigest()}"'
    # Whoever asks for it by its type gets it too, and a gateway without the key has what was signed once.
    assert (await signing.get(target, accept="application/vnd.dsse.envelope.v1+json")).body == envelope.body
    assert (await reader.get(f"{target}?format=dsse")).body == envelope.body
    assert await admin_pool.fetchval("select count(*) from zentra.evidence_signatures") == 1


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "application/vnd.zentra.audit-packet+json"),
        ("", "application/json", "application/vnd.zentra.audit-packet+json"),
        ("?format=html", "*/*", "text/html; charset=utf-8"),
        ("?format=csv", "*/*", "text/csv; charset=utf-8"),
        ("", "text/csv, application/json;q=0.5", "text/csv; charset=utf-8"),
        ("?format=packet", "text/html", "application/vnd.zentra.audit-packet+json"),
    ],
)
async def test_the_form_is_the_one_that_was_asked_for(
    reader: Api, admin_pool: Pool, query: str, accept: str, kind: str
) -> None:
    intent, _ = await amended(admin_pool)
    answer = await reader.get(f"{INTENTS}/{intent}/evidence{query}", accept=accept)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    if "html" in kind:
        assert b"It is not the evidence" in answer.body
    if "csv" in kind:
        assert answer.body.startswith(
            b"at,tenant,intent_id,intent,sequence,event,posting,ordinal,debit,credit,currency"
        )


@pytest.mark.parametrize(
    "query", ["?format=pdf", "?addenda=-1", "?addenda=x", "?checkpoint=1.5", "?more=1", "?checkpoint=" + "9" * 40]
)
async def test_what_cannot_be_asked_is_told(reader: Api, admin_pool: Pool, query: str) -> None:
    intent, _ = await amended(admin_pool)
    answer = await reader.get(f"{INTENTS}/{intent}/evidence{query}")
    assert (answer.status, answer.code) == (400, "query_malformed")


async def test_checkpoints_and_the_proofs_between_them_verify(reader: Api, admin_pool: Pool) -> None:
    sizes = [
        row[0] for row in await admin_pool.fetch("select size from zentra.log_heads where tenant = 'acme' order by 1")
    ]
    anchors = []
    for size in (sizes[0], sizes[len(sizes) // 2], sizes[-1]):
        note = await reader.get(f"/evidence/checkpoint?size={size}")
        anchors.append(read_note(note.body, RING))
        assert anchors[-1].size == size
    assert (await reader.get("/evidence/checkpoint")).body == note.body
    for first in (0, sizes[0], sizes[len(sizes) // 2]):
        proof = await reader.get(f"/evidence/consistency?from={first}")
        assert verify_text(proof.body, RING, anchors).ok, first
    exact = await reader.get(f"/evidence/consistency?from={sizes[0]}&to={sizes[-1]}")
    assert exact.json["second"]["size"] == sizes[-1]
    between = next(size for size in range(1, sizes[-1]) if size not in sizes)
    unsigned = await reader.get(f"/evidence/consistency?from={between}")
    assert unsigned.json["first"]["checkpoint"] is None
    assert [one.code for one in verify_text(unsigned.body, RING).problems] == ["not_sealed"]
    for query in (
        "checkpoint?size=100000",
        "consistency?from=100000",
        "consistency?from=5&to=3",
        f"checkpoint?size={between}",
    ):
        missing = await reader.get(f"/evidence/{query}")
        assert (missing.status, missing.code) == (404, "checkpoint_unknown"), query


async def test_what_seals_an_intent_is_in_the_log(reader: Api, admin_pool: Pool) -> None:
    intent, addenda = await amended(admin_pool)
    name = await admin_pool.fetchval("select intent_id from zentra.intents where id = $1", intent)
    last = read_note((await reader.get("/evidence/checkpoint")).body, RING).size
    for query in (intent, name, f"{name}&addenda=0", f"{name}&checkpoint={last}", f"{name}&addenda={addenda}"):
        proof = await reader.get(f"/evidence/inclusion?intent={query}")
        assert verify_text(proof.body, RING).ok, query
    for query in ("nobody", f"{name}&addenda=9", f"{name}&checkpoint=100000"):
        assert (await reader.get(f"/evidence/inclusion?intent={query}")).status == 404
    assert (await reader.get("/evidence/inclusion")).code == "query_malformed"


async def test_keys_and_exports_are_listed(reader: Api, admin_pool: Pool) -> None:
    found = (await reader.get("/evidence/keys")).json["data"]
    assert [one["key_id"] for one in found] == [key_id(KEY.public_key())]
    assert found[0]["verifier_key"].startswith("zentra.evidence/acme+")
    for actor, tenant in (("ada", "acme"), ("bob", "acme"), ("eve", "globex")):
        row = ExportRow(
            tenant=tenant, actor=actor, role="shell", since=None, until=None, types=None, first_leaf=0, log_size=5,
            entries=20, manifest=bytes(32),
        )  # fmt: skip
        await record_export(admin_pool, row)
    page = (await reader.get("/evidence/exports?limit=1")).json
    assert [one["actor"] for one in page["data"]] == ["bob"]
    more = (await reader.get(f"/evidence/exports?limit=1&cursor={page['next_cursor']}")).json
    assert ([one["actor"] for one in more["data"]], more["has_more"]) == (["ada"], False)
    assert [one["actor"] for one in (await reader.get("/evidence/exports?actor=ada")).json["data"]] == ["ada"]


async def test_nobody_sees_the_log_of_another_tenant(gateway: GatewayApp, keys: Keys, admin_pool: Pool) -> None:
    intent, _ = await amended(admin_pool)
    stranger = Api(gateway, keys, "globex", "admin")
    for target in (f"{INTENTS}/{intent}/evidence", f"/evidence/inclusion?intent={intent}"):
        assert (await stranger.get(target)).status == 404
    assert read_note((await stranger.get("/evidence/checkpoint")).body, RING).tenant == "globex"


@pytest.mark.parametrize("role", ["support"])
async def test_who_may_not_read_evidence_is_refused(api: Api, role: str) -> None:
    for target in ("checkpoint", "consistency", "inclusion?intent=x", "keys", "exports"):
        assert (await api.as_(role).get(f"/evidence/{target}")).status == 403


async def test_a_head_of_a_key_that_nobody_told_has_no_note(settings: Settings, keys: Keys, admin_pool: Pool) -> None:
    await admin_pool.execute("delete from zentra.evidence_keys")
    async with GatewayApp.opened(settings) as opened:
        answer = await Api(opened, keys, principal="auditor").get("/evidence/checkpoint")
    assert (answer.status, answer.code) == (503, "evidence_key_absent")
    await keep_key(admin_pool, key_id(KEY.public_key()), KEY.public_key().public_bytes_raw())


def test_a_key_that_is_none_keeps_a_gateway_from_starting(settings: Settings, tmp_path: Path) -> None:
    import msgspec

    from zentra.gateway.settings import SettingsError

    async def start() -> None:
        async with GatewayApp.opened(msgspec.structs.replace(settings, evidence_key="x")):
            raise AssertionError("it started")

    with pytest.raises(SettingsError, match="ZENTRA_EVIDENCE_KEY"):
        asyncio.run(start())
