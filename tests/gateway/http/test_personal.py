"""Personal data from the request to the packet, and gone: the packet stays valid and nobody finds a trace."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from tests.gateway.http.conftest import Api, Keys, intent_body
from zentra.client.evidence import verify_packet as verify_by_client
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.runtime.evidence.envelopes import envelope_of, sign_payload
from zentra.runtime.evidence.heads import sign_head
from zentra.runtime.evidence.key_files import public_pem
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.evidence.merkle import Frontier, leaf_hash
from zentra.runtime.evidence.packet import leaf_data, verify_packet
from zentra.runtime.evidence.personal import ERASURE_TYPE
from zentra.runtime.evidence.verifying import verify_text
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.errors import Misconfigured
from zentra.storage.intake.personal import PersonalData, erase_subject, erasures, rewrite_files
from zentra.storage.pool import Pool, transaction

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RING = ring_of([KEY.public_key()])
INTENTS = "/runtime/intents"
ADA = "Ada Obi of Lagos"


def personal(subject: str, **more: str) -> dict[str, str]:
    return {"order": "7", "personal.subject": subject, "personal.name": ADA} | more


def signed(statement: bytes) -> bytes:
    return envelope_of(ERASURE_TYPE, statement, [sign_payload(KEY, ERASURE_TYPE, statement)])


async def erase(pool: Pool, subject: str, tenant: str = "acme") -> Any:
    return await erase_subject(pool, tenant, subject, actor="ada", reason="asked for", sign=signed)


async def seal(pool: Pool, intent_id: str) -> None:
    """Seal an intent as it stands, in place of a worker."""
    row = await pool.fetchrow(
        "select i.id, t.hash, t.sequence from intents i join transitions t on t.intent = i.id"
        " where i.tenant = 'acme' and i.intent_id = $1 order by t.sequence desc limit 1", intent_id,
    )  # fmt: skip
    assert row is not None
    leaf = leaf_data(tenant="acme", intent=row[0], kind="packet", chain=row[1], records=row[2])
    head = await pool.fetchrow("select size, frontier from log_heads where tenant = 'acme' order by size desc limit 1")
    size, hashes = (0, ()) if head is None else (head[0], tuple(head[1]))
    frontier, _ = Frontier(size, hashes).append([leaf_hash(leaf)])
    at = await pool.fetchval("select clock_timestamp()")
    signed_head = sign_head(KEY, tenant="acme", size=size + 1, root=frontier.root(), at=timestamp(at))
    await pool.execute("insert into log_leaves values ('acme', $1, $2, $3, $4)", size, row[0], leaf, leaf_hash(leaf))
    await pool.execute(
        "insert into log_heads (tenant, size, root, frontier, at, key_id, signature) values ('acme',$1,$2,$3,$4,$5,$6)",
        size + 1, frontier.root(), list(frontier.hashes), at, signed_head.key_id, bytes.fromhex(signed_head.signature),
    )  # fmt: skip


async def everything(pool: Pool) -> str:
    """Return all that the database has, as text."""
    names = await pool.fetch("select tablename from pg_tables where schemaname = 'zentra'")
    told = []
    for (name,) in names:
        for row in await pool.fetch(f"select * from zentra.{name}"):
            told += [
                value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in row.values()
            ]
    return "\n".join(told)


@pytest.fixture(params=["with redis", "without redis"])
async def anyone(request: pytest.FixtureRequest, settings: Settings, keys: Keys) -> AsyncIterator[Api]:
    """The API with and without anybody at the address of Redis."""
    url = settings.redis_url if request.param == "with redis" else "redis://127.0.0.1:1/0"
    async with GatewayApp.opened(replace(settings, redis_url=url)) as opened:
        yield Api(opened, keys)


async def test_a_packet_opens_personal_data_until_it_is_erased_and_verifies_ever_after(
    api: Api, admin_pool: Pool
) -> None:
    subject = uuid.uuid4().hex
    body = intent_body(metadata=personal(subject))
    assert (await api.post(INTENTS, body)).status == 202
    await seal(admin_pool, body["intent_id"])
    door = f"{INTENTS}/{body['intent_id']}/evidence"
    before = (await api.get(door)).body
    opened = [json.loads(one["content"]) for one in json.loads(before)["attachments"]]
    assert {one["name"]: one["value"] for one in opened} == {"personal.subject": subject, "personal.name": ADA}
    assert ADA in await everything(admin_pool)
    row = await erase(admin_pool, subject)
    assert row.erased == 2
    after = (await api.get(door)).body
    assert json.loads(after)["attachments"] == []
    text = await everything(admin_pool)
    assert ADA not in text
    assert subject not in text
    pem = public_pem(KEY.public_key()).encode()
    for packet in (before, after):
        assert verify_packet(packet, RING).ok
        assert verify_by_client(packet, pem).ok


async def in_files(pool: Pool, *words: str) -> set[str]:
    """Return which of some words stand in a file of this database, after a checkpoint."""
    await pool.execute("checkpoint")
    found = set()
    paths = await pool.fetch(
        "select 'base/' || d.oid || '/' || name from pg_database d, pg_ls_dir('base/' || d.oid) as name"
        " where d.datname = current_database()"
    )
    for (path,) in paths:
        content = await pool.fetchval("select pg_read_binary_file($1, 0, 100000000, true)", path) or b""
        found |= {word for word in words if word.encode() in content}
    return found


async def test_the_files_of_the_database_have_nothing_of_what_was_erased(api: Api, admin_pool: Pool) -> None:
    subject, name = f"subject-{uuid.uuid4().hex}", f"Ada {uuid.uuid4().hex}"
    await api.post(INTENTS, intent_body(metadata={"personal.subject": subject, "personal.name": name}))
    await admin_pool.execute("analyze personal_openings, personal_subjects")
    assert await in_files(admin_pool, subject, name) == {subject, name}
    async with transaction(admin_pool, snapshot=True) as older:
        await older.fetchval("select 1 from tenants")
        await erase(admin_pool, subject)
        assert not await rewrite_files(admin_pool), "somebody may still read it"
    assert await in_files(admin_pool, subject, name) == {subject, name}
    assert await rewrite_files(admin_pool)
    assert await in_files(admin_pool, subject, name) == set()


# What is done to an opening in the packet; both verifiers refuse it.
FORGED = [
    ("another value", lambda one: {**one, "content": one["content"].replace("Ada", "Eve")}),
    ("another salt", lambda one: {**one, "content": one["content"].replace('"salt":"', '"salt":"0')}),
]


@pytest.mark.parametrize("forge", [row[1] for row in FORGED], ids=[row[0] for row in FORGED])
@pytest.mark.parametrize("rehashed", [False, True])
async def test_a_wrong_opening_is_refused_by_both_verifiers(
    api: Api, admin_pool: Pool, forge: Any, rehashed: bool
) -> None:
    body = intent_body(metadata=personal(uuid.uuid4().hex))
    await api.post(INTENTS, body)
    await seal(admin_pool, body["intent_id"])
    packet = json.loads((await api.get(f"{INTENTS}/{body['intent_id']}/evidence")).body)
    place = next(n for n, one in enumerate(packet["attachments"]) if ADA in one["content"])
    one = forge(packet["attachments"][place])
    if rehashed:
        one["sha256"] = sha256(one["content"].encode()).hexdigest()
    packet["attachments"][place] = one
    packet["attachments"].sort(key=lambda one: one["sha256"])
    data = json.dumps(packet, separators=(",", ":"), ensure_ascii=False).encode()
    for verdict in (verify_packet(data, RING), verify_by_client(data, public_pem(KEY.public_key()).encode())):
        assert not verdict.ok
        assert not verdict.integrity
        assert {problem.code for problem in verdict.problems} == {
            "attachment_uncovered" if rehashed else "attachment_differs"
        }


async def test_a_replay_is_known_and_a_changed_value_is_told(api: Api) -> None:
    subject, key = uuid.uuid4().hex, uuid.uuid4().hex
    body = intent_body(metadata=personal(subject))
    first = await api.post(INTENTS, body, key=key)
    again = await api.post(INTENTS, body, key=key)
    assert (first.status, again.body) == (202, first.body)
    changed = {**body, "metadata": personal(subject, **{"personal.name": "Eve"})}
    refused = await api.post(INTENTS, changed, key=key)
    assert (refused.status, refused.code, refused.json["fields"]) == (422, "idempotency_key_reused", ["metadata"])
    other = {**body, "metadata": personal(uuid.uuid4().hex)}
    assert (await api.post(INTENTS, other, key=key)).code == "idempotency_key_reused"


async def test_after_the_erasure_the_subject_begins_anew(api: Api, admin_pool: Pool) -> None:
    subject = uuid.uuid4().hex
    await api.post(INTENTS, intent_body(metadata=personal(subject)))
    await erase(admin_pool, subject)
    assert (await api.post(INTENTS, intent_body(metadata=personal(subject)))).status == 202
    assert (await erase(admin_pool, subject)).erased == 2


async def bulk(api: Api, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = (await api.post(f"{INTENTS}/bulk", list(bodies), key=None)).json["results"]
    return answers


async def test_a_repeat_after_the_erasure_gets_its_first_answer_and_stores_nothing(
    anyone: Api, admin_pool: Pool
) -> None:
    subject, key, name = uuid.uuid4().hex, uuid.uuid4().hex, uuid.uuid4().hex
    body = intent_body(metadata=personal(subject, **{"personal.name": name}))
    keyed = {**body, "idempotency_key": key}
    first = await anyone.post(INTENTS, body, key=key)
    await erase(admin_pool, subject)
    again = await anyone.post(INTENTS, body, key=key)
    assert (again.status, again.body) == (202, first.body)
    many = await bulk(anyone, keyed, keyed)
    assert [(one["status"], one["replayed"], one["body"]) for one in many] == [(202, True, first.json)] * 2
    other = await anyone.post(INTENTS, body)
    assert (other.status, other.body) == (202, first.body), "the same intent under another key is the same intent"
    text = await everything(admin_pool)
    assert name not in text
    assert subject not in text


# What differs in the repeat, under which status and code, and in which fields.
CHANGED = [
    ("another value", {"metadata": {"personal.name": "Eve"}}, ["metadata"]),
    ("a value more", {"metadata": {"personal.phone": "0801"}}, ["metadata"]),
    ("another order", {"metadata": {"order": "8"}}, ["metadata"]),
    ("another amount", {"amount": 1}, ["minor"]),
]


@pytest.mark.parametrize(("change", "fields"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED])
@pytest.mark.parametrize("erased", [False, True])
async def test_what_is_refused_leaves_nothing_of_its_own(
    anyone: Api, admin_pool: Pool, change: dict[str, Any], fields: list[str], erased: bool
) -> None:
    subject, key = uuid.uuid4().hex, uuid.uuid4().hex
    body = intent_body(metadata=personal(subject))
    await anyone.post(INTENTS, body, key=key)
    if erased:
        await erase(admin_pool, subject)
    before = await openings(admin_pool)
    changed = {**body, **change, "metadata": body["metadata"] | change.get("metadata", {})}
    refused = await anyone.post(INTENTS, changed, key=key)
    assert (refused.status, refused.code, refused.json["fields"]) == (422, "idempotency_key_reused", fields)
    refused = await anyone.post(INTENTS, changed)
    assert (refused.status, refused.code) == (409, "intent_id_conflict")
    many = await bulk(anyone, {**changed, "idempotency_key": key})
    assert many[0]["code"] == "idempotency_key_reused"
    assert await openings(admin_pool) == before


async def openings(pool: Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch("select subject, digest from personal_openings where content is not null order by 2")
    subjects = await pool.fetch("select subject, key from personal_subjects order by 1")
    return [tuple(row) for row in [*rows, *subjects]]


async def test_a_stranger_of_a_refused_request_is_not_remembered(anyone: Api, admin_pool: Pool) -> None:
    """Also where the first request had nothing personal."""
    stranger, key = uuid.uuid4().hex, uuid.uuid4().hex
    body = intent_body()
    await anyone.post(INTENTS, body, key=key)
    refused = await anyone.post(INTENTS, {**body, "metadata": personal(stranger)}, key=key)
    assert refused.code == "idempotency_key_reused"
    assert stranger not in await everything(admin_pool)


async def test_a_stranger_in_many_requests_at_once_has_one_key(anyone: Api, admin_pool: Pool) -> None:
    subject = uuid.uuid4().hex
    bodies = [intent_body(metadata=personal(subject), idempotency_key=uuid.uuid4().hex) for _ in range(20)]
    first, second = await asyncio.gather(bulk(anyone, *bodies), bulk(anyone, *bodies))
    for mine, theirs in zip(first, second, strict=True):
        told = [one for one in (mine, theirs) if one.get("code") != "idempotency_in_flight"]
        assert told, (mine, theirs)
        assert all(one.get("body") == told[0]["body"] for one in told), (mine, theirs)
    assert (await erase(admin_pool, subject)).erased == 2


async def test_the_same_key_twice_in_one_request_makes_one_intent(anyone: Api, admin_pool: Pool) -> None:
    subject = uuid.uuid4().hex
    body = intent_body(metadata=personal(subject), idempotency_key=uuid.uuid4().hex)
    told = await bulk(anyone, body, body)
    assert {one["status"] for one in told} <= {202, 409}, told
    assert sorted(one.get("replayed", True) for one in await bulk(anyone, body, body)) == [True, True]
    assert (await erase(admin_pool, subject)).erased == 2


async def test_personal_data_without_a_subject_is_refused_at_every_door(api: Api) -> None:
    for metadata in ({"personal.name": ADA}, {"personal.name": ADA, "personal.subject": ""}):
        body = intent_body(metadata=metadata)
        alone = await api.post(INTENTS, body)
        assert [one["code"] for one in alone.json["errors"]] == ["personal_subject_missing"]
        many = await api.post(f"{INTENTS}/bulk", [{**body, "idempotency_key": uuid.uuid4().hex}], key=None)
        assert "personal_subject_missing" in many.body.decode(), many.body


@pytest.mark.parametrize(
    "name",
    ["Personal.name", "PERSONAL.name", "personal_name", "personalName", "personal", " personal.name", "personal-id"],
)
async def test_a_name_that_only_looks_personal_is_refused_at_every_door(api: Api, name: str) -> None:
    for metadata in ({name: ADA}, personal("cust-9") | {name: ADA}):
        body = intent_body(metadata=metadata)
        alone = await api.post(INTENTS, body)
        assert [(one["code"], one["pointer"]) for one in alone.json["errors"]] == [
            ("personal_name_malformed", f"/metadata/{name}")
        ]
        many = await api.post(f"{INTENTS}/bulk", [{**body, "idempotency_key": uuid.uuid4().hex}], key=None)
        assert "personal_name_malformed" in many.body.decode(), many.body


@pytest.mark.parametrize("name", ["personality", "personalised", "PERSONALITY", "impersonal.name", "salesperson"])
async def test_other_words_are_their_own(api: Api, name: str) -> None:
    assert (await api.post(INTENTS, intent_body(metadata={name: "x"}))).status == 202


async def test_the_same_value_of_two_tenants_has_nothing_in_common(writer_pool: Pool) -> None:
    subject = uuid.uuid4().hex
    data = PersonalData(writer_pool, bytes(32))
    (ours, _), (theirs, _) = [await data.commit(one, personal(subject), "k", None) for one in ("acme", "globex")]
    assert ours["order"] == theirs["order"]
    assert not set(ours.values()) - {"7"} & set(theirs.values())


async def test_erasing_what_is_not_there_says_so_and_leaves_others_alone(api: Api, admin_pool: Pool) -> None:
    subject = uuid.uuid4().hex
    await api.post(INTENTS, intent_body(metadata=personal(subject)))
    for tenant, name in (("globex", subject), ("acme", "nobody")):
        with pytest.raises(Misconfigured, match="subject_unknown"):
            await erase(admin_pool, name, tenant)
    assert (await erase(admin_pool, subject)).erased == 2


async def test_an_erasure_is_itself_evidence_and_names_nobody(api: Api, admin_pool: Pool, tenant_pool: Pool) -> None:
    subject = uuid.uuid4().hex
    body = intent_body(metadata=personal(subject))
    await api.post(INTENTS, body)
    row = await erase(admin_pool, subject)
    told = [one for one in await erasures(tenant_pool, "acme") if one.id == row.id]
    assert [(one.actor, one.reason, one.erased) for one in told] == [("ada", "asked for", 2)]
    assert all(one.id != row.id for one in await erasures(tenant_pool, "globex"))
    verdict = verify_text(told[0].envelope, RING)
    assert (verdict.ok, verdict.tenant) == (True, "acme")
    assert not verify_text(told[0].envelope.replace(b'"sig":"', b'"sig":"A'), RING).ok
    shown = (await api.get(f"{INTENTS}/{body['intent_id']}")).body.decode()
    assert subject not in told[0].envelope.decode() + shown


async def test_a_gateway_cannot_erase(writer_pool: Pool, tenant_pool: Pool) -> None:
    for pool in (writer_pool, tenant_pool):
        for statement in ("delete from personal_subjects", "update personal_openings set content = null"):
            with pytest.raises(Exception, match="permission denied"):
                await pool.execute(statement)
