"""Evidence over a change of keys: nobody is restarted, anchors reach auditors, and an erasure breaks nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.scenarios.people import Person, intent_body, until
from tests.verification.databases import silent
from zentra.gateway.bundle_texts import bundle_texts
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.anchors import read_anchors
from zentra.runtime.evidence.envelopes import envelope_of, sign_payload
from zentra.runtime.evidence.heads import TreeHead, key_id
from zentra.runtime.evidence.history import ring_with
from zentra.runtime.evidence.key_files import history_of_file
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.evidence.packet import verify_packet
from zentra.runtime.evidence.personal import ERASURE_TYPE
from zentra.storage.intake.anchors import Sink, add_sink
from zentra.storage.intake.evidence_keys import key_history, rotate_key
from zentra.storage.intake.personal import erase_subject
from zentra.storage.pool import Pool, open_pool
from zentra.storage.verification.bundle_files import verify_bundle
from zentra.storage.verification.bundling import BundleAsked, make_bundle

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

OLD, NEW = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
IDS = [key_id(key.public_key()) for key in (OLD, NEW)]
PRIVATE = "".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for key in (OLD, NEW))


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """A worker that holds the key in force and the one that is to follow."""
    with Installation(sandbox=False, overrides={"evidence_key": PRIVATE}) as running:
        yield running


@pytest.fixture
async def owner(installation: Installation) -> AsyncIterator[Pool]:
    pool = await open_pool(installation.settings.postgres_admin_url, name="test", connections_max=2)
    yield pool
    await pool.close()


async def packet(dev: Person, **fields: object) -> bytes:
    """Make an intent and return its packet."""
    made = (await dev.ask("POST", "/runtime/intents", intent_body(**fields), wait=5)).json
    path = f"/runtime/intents/{made['intent_id']}/evidence"

    return (await until(lambda: dev.get(path), lambda answer: answer.status == 200)).body


def signed(statement: bytes) -> bytes:
    return envelope_of(ERASURE_TYPE, statement, [sign_payload(NEW, ERASURE_TYPE, statement)])


async def test_evidence_outlives_keys_anchors_and_erasures(
    dev: Person, owner: Pool, session: aiohttp.ClientSession, installation: Installation, tmp_path: Path
) -> None:
    kept = tmp_path / "anchors.jsonl"
    await add_sink(owner, Sink(name="worm", kind="file", target=str(kept), leaves=1))
    before = await packet(dev, metadata={"personal.subject": "cust-42", "personal.name": "Ada Obi"})
    assert json.loads(before)["head"]["key_id"] == IDS[0]

    # The change: nobody is restarted.
    await rotate_key(owner, [OLD], NEW, by="ada", reason="test", lead=timedelta(seconds=2))
    since = (await key_history(owner)).entries[1].since

    after = await until(lambda: packet(dev), lambda one: json.loads(one)["head"]["key_id"] == IDS[1])
    assert json.loads(after)["head"]["at"] >= since

    # An outsider, who was given the first key and nothing else.
    async with session.get(f"{installation.base_url}/.well-known/zentra-evidence-keys") as answer:
        ring = ring_with(ring_of([OLD.public_key()]), history_of_file(await answer.read()))
    for one in (before, after):
        assert verify_packet(one, ring).ok
    assert not verify_packet(after, ring_of([OLD.public_key()])).ok

    async def kept_heads() -> list[TreeHead]:
        return read_anchors(kept.read_bytes(), ring, "acme") if kept.exists() else []

    anchors = await until(kept_heads, lambda heads: any(head.key_id == IDS[1] for head in heads))
    bundle = tmp_path / "acme.tar"
    url, asked = installation.settings.postgres_admin_url, BundleAsked(tenant="acme", actor="ada", role="shell")
    await make_bundle(url, owner, bundle, asked, key=NEW, ring=ring, texts=bundle_texts(), progress=silent)
    verdict = verify_bundle(bundle, ring, [one for one in anchors if one.size <= anchors[0].size], silent)
    assert verdict.integrity, verdict.problems

    row = await erase_subject(owner, "acme", "cust-42", actor="ada", reason="asked for", sign=signed)
    assert row.erased == 2
    name = json.loads(before)["intent_id"]
    erased = (await dev.get(f"/runtime/intents/{name}/evidence")).body
    assert (b"Ada Obi" in before, b"Ada Obi" in erased) == (True, False)
    assert verify_packet(erased, ring).ok
