"""Anchors on a real database, a real file and a real receiver: what is due, what is kept once, what is tried again."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.services import Database
from zentra.gateway.anchoring import AnchorService
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp
from zentra.runtime.evidence.anchors import read_anchors
from zentra.runtime.evidence.heads import sign_head
from zentra.runtime.evidence.key_files import public_pem
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.instruments import SILENCE
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.administration import Administration
from zentra.storage.errors import Misconfigured
from zentra.storage.intake import anchors
from zentra.storage.intake.evidence_keys import admit_keys
from zentra.storage.pool import Pool

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RING = ring_of([KEY.public_key()])
assert public_pem(KEY.public_key())


@pytest.fixture(autouse=True)
async def clean(admin_pool: Pool, database: Database) -> None:
    await admin_pool.execute(
        "truncate anchors, anchor_sinks, log_heads, evidence_key_entries, evidence_keys restart identity"
    )
    for tenant in ("acme", "globex"):
        if not await admin_pool.fetchval("select true from tenants where id = $1", tenant):
            await Administration(admin_pool).create_tenant(tenant, tenant.title())
    await admit_keys(admin_pool, [KEY], by="w1")


async def head(pool: Pool, size: int, *, age: float = 0, tenant: str = "acme") -> None:
    """Let a log have a head of this size and age; its root is its size."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    root = size.to_bytes(32, "big")
    signed = sign_head(KEY, tenant=tenant, size=size, root=root, at=timestamp(at))
    await pool.execute(
        "insert into log_heads (tenant, size, root, frontier, at, key_id, signature) values ($1,$2,$3,'{}',$4,$5,$6)",
        tenant, size, root, at, signed.key_id, bytes.fromhex(signed.signature),
    )  # fmt: skip


def file_sink(path: Path, name: str = "worm", tenant: str | None = None) -> anchors.Sink:
    return anchors.Sink(name=name, kind="file", target=str(path), tenant=tenant)


@pytest.fixture
async def service(writer_pool: Pool) -> AsyncIterator[AnchorService]:
    http = OutwardHttp(AddressPolicy(allow_private=True))
    yield AnchorService(writer_pool, http, lambda: True, SILENCE)
    await http.aclose()


def kept(path: Path, tenant: str = "acme") -> list[int]:
    return [one.size for one in read_anchors(path.read_bytes(), RING, tenant)]


# What the log has (size, age in seconds) and which checkpoint is due.
DUE = [
    ("nothing", [], None),
    ("a few leaves of just now", [(63, 0)], None),
    ("a few leaves of a minute ago", [(1, 61), (3, 1)], 3),
    ("sixty-four leaves of just now", [(64, 0)], 64),
    ("many heads", [(10, 5), (90, 2), (500, 0)], 500),
]


@pytest.mark.parametrize(("heads", "due"), [row[1:] for row in DUE], ids=[row[0] for row in DUE])
async def test_a_checkpoint_is_due_after_64_leaves_or_a_minute(
    writer_pool: Pool, admin_pool: Pool, tmp_path: Path, heads: list[tuple[int, float]], due: int | None
) -> None:
    await anchors.add_sink(writer_pool, file_sink(tmp_path / "a.jsonl"))
    for size, age in heads:
        await head(admin_pool, size, age=age)
    assert await anchors.plan_anchors(writer_pool) == (due is not None)
    assert [one.head.size for one in await anchors.due_anchors(writer_pool)] == ([due] if due else [])
    assert await anchors.plan_anchors(writer_pool) == 0, "one is under way"


async def test_a_file_has_every_tenants_checkpoints_once_and_verifiable(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    await anchors.add_sink(writer_pool, file_sink(path))
    for size in (64, 200):
        await head(admin_pool, size)
        await head(admin_pool, size + 1, tenant="globex")
        assert await service.look() == 2
    assert await service.look() == 0
    assert (kept(path), kept(path, "globex")) == ([64, 200], [65, 201])
    standing = (await anchors.sinks(writer_pool))[0]
    assert (standing.kept, standing.pending, standing.error) == (4, 0, None)


async def test_a_sink_of_one_tenant_sees_no_other(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    await anchors.add_sink(writer_pool, file_sink(path, tenant="acme"))
    for tenant in ("acme", "globex"):
        await head(admin_pool, 64, tenant=tenant)
    await service.look()
    assert (kept(path), kept(path, "globex")) == ([64], [])


async def test_what_was_kept_just_before_a_crash_is_kept_once(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    await anchors.add_sink(writer_pool, file_sink(path))
    await head(admin_pool, 64)
    await service.look()
    await admin_pool.execute("update anchors set kept_at = null")  # the row that the crash kept from being written
    another = AnchorService(writer_pool, None, lambda: True, SILENCE)  # type: ignore[arg-type]
    assert await another.look() == 1
    assert path.read_bytes().count(b"\n") == 1


async def test_a_line_that_a_crash_cut_off_is_written_again_whole(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    await anchors.add_sink(writer_pool, file_sink(path))
    for size in (64, 128):
        await head(admin_pool, size)
        await service.look()
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    await admin_pool.execute("update anchors set kept_at = null where size = 128")
    assert await service.look() == 1
    assert kept(path) == [64, 128]
    assert path.read_bytes().startswith(whole[:-30]), "nothing that is there is ever changed"


async def test_a_sink_that_fails_is_told_tried_again_and_keeps_nobody_else(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    folder, path = tmp_path / "not mounted", tmp_path / "a.jsonl"
    await anchors.add_sink(writer_pool, file_sink(folder / "b.jsonl", "away"))
    await anchors.add_sink(writer_pool, file_sink(path))
    await head(admin_pool, 64)
    assert await service.look() == 1
    away, worm = await anchors.sinks(writer_pool)
    assert (away.kept, away.pending, away.attempts) == (0, 1, 1)
    assert "No such file" in (away.error or "")
    assert (worm.kept, worm.pending) == (1, 0)
    await head(admin_pool, 400)
    assert await service.look() == 1, "what waits waits for its time, the other sink goes on"
    folder.mkdir()
    await anchors.retry_sink(writer_pool, "away")
    assert await service.look() == 1
    assert await service.look() == 1
    assert kept(folder / "b.jsonl") == [64, 400], "without a gap"


async def test_pauses_between_attempts_double_up_to_an_hour(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    await anchors.add_sink(writer_pool, file_sink(tmp_path / "no" / "b.jsonl"))
    await head(admin_pool, 64)
    pauses = []
    for _ in range(14):
        await admin_pool.execute("update anchors set next_at = now()")
        await service.look()
        pauses.append(
            round(await admin_pool.fetchval("select extract(epoch from next_at - now())::float8 from anchors"))
        )
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == 3_600


class Receiver:
    """An auditor's server; it answers with the status it is told."""

    def __init__(self) -> None:
        self.status, self.taken = 200, list[tuple[str, bytes]]()
        self.refuses = ""  # a tenant, whose checkpoints it answers with 409
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.taken.append((request.headers["idempotency-key"], await request.read()))
        refused = self.refuses and json.loads(self.taken[-1][1])["tenant"] == self.refuses
        return web.Response(status=409 if refused else self.status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made, app = Receiver(), web.Application()
    app.router.add_post("/in", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    yield made
    await runner.cleanup()


async def test_a_receiver_gets_each_checkpoint_until_it_says_yes(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, receiver: Receiver
) -> None:
    await anchors.add_sink(writer_pool, anchors.Sink(name="auditor", kind="webhook", target=receiver.url))
    await head(admin_pool, 64)
    for status, taken in ((503, 0), (302, 0), (404, 0), (204, 1)):
        receiver.status = status
        await anchors.retry_sink(writer_pool, "auditor")
        assert await service.look() == taken
    assert {name for name, _ in receiver.taken} == {"anchor-acme-64"}
    assert len({body for _, body in receiver.taken}) == 1
    assert [one.size for one in read_anchors(receiver.taken[0][1], RING)] == [64]
    assert json.loads(receiver.taken[0][1])["tenant"] == "acme"


async def test_what_is_refused_of_one_tenant_holds_up_no_other(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, receiver: Receiver
) -> None:
    await anchors.add_sink(writer_pool, anchors.Sink(name="auditor", kind="webhook", target=receiver.url))
    for tenant in ("acme", "globex"):
        await head(admin_pool, 64, tenant=tenant)
    receiver.refuses = "acme"
    assert await service.look() == 1
    assert [name for name, _ in receiver.taken] == ["anchor-acme-64", "anchor-globex-64"]
    rows = await admin_pool.fetch("select tenant, attempts, error from anchors order by tenant")
    assert [tuple(row) for row in rows] == [("acme", 1, "the receiver answered 409"), ("globex", 1, None)]


async def test_addresses_that_must_not_be_dialled_are_refused_and_told(
    writer_pool: Pool, admin_pool: Pool, receiver: Receiver
) -> None:
    http = OutwardHttp(AddressPolicy())
    service = AnchorService(writer_pool, http, lambda: True, SILENCE)
    await anchors.add_sink(writer_pool, anchors.Sink(name="inner", kind="webhook", target=receiver.url))
    await head(admin_pool, 64)
    assert await service.look() == 0
    await http.aclose()
    assert receiver.taken == []
    assert "loopback" in ((await anchors.sinks(writer_pool))[0].error or "")


@pytest.mark.parametrize("host", ["a..b.example", "a" * 64 + ".example"])
async def test_a_name_that_nobody_can_be_asked_for_is_a_failure_like_any_other(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, host: str, tmp_path: Path
) -> None:
    await anchors.add_sink(writer_pool, anchors.Sink(name="auditor", kind="webhook", target=f"https://{host}/in"))
    await anchors.add_sink(writer_pool, file_sink(tmp_path / "a.jsonl"))
    await head(admin_pool, 64)
    assert await service.look() == 1
    assert [(one.name, one.pending, one.attempts) for one in await anchors.sinks(writer_pool)] == [
        ("auditor", 1, 1), ("worm", 0, 0),
    ]  # fmt: skip


class FaultyHttp:
    """An HTTP client with a fault."""

    async def request(self, *_: object, **__: object) -> None:
        raise LookupError("nobody has thought of this")


async def test_a_fault_of_ours_is_told_and_ends_nothing_else(
    writer_pool: Pool, admin_pool: Pool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    service = AnchorService(writer_pool, FaultyHttp(), lambda: True, SILENCE)  # type: ignore[arg-type]
    await anchors.add_sink(writer_pool, anchors.Sink(name="auditor", kind="webhook", target="https://a.example/in"))
    await anchors.add_sink(writer_pool, file_sink(tmp_path / "a.jsonl"))
    await head(admin_pool, 64)
    assert await service.look() == 1
    standing = (await anchors.sinks(writer_pool))[0]
    assert (standing.pending, standing.error) == (1, "a fault of Zentra, LookupError: its log has more")
    assert sum(record.exc_info is not None for record in caplog.records) == 1


async def test_a_removed_sink_gets_nothing_and_its_name_stays_taken(
    writer_pool: Pool, admin_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    await anchors.add_sink(writer_pool, file_sink(path))
    await anchors.remove_sink(writer_pool, "worm")
    await head(admin_pool, 64)
    assert await service.look() == 0
    assert not path.exists()
    with pytest.raises(Misconfigured, match="anchor_sink_unknown"):
        await anchors.remove_sink(writer_pool, "worm")
    with pytest.raises(Misconfigured, match="anchor_sink_exists"):
        await anchors.add_sink(writer_pool, file_sink(path))
    with pytest.raises(Misconfigured, match="tenant_unknown"):
        await anchors.add_sink(writer_pool, file_sink(path, "other", tenant="nobody"))


async def test_two_workers_at_once_keep_one_line(writer_pool: Pool, admin_pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    await anchors.add_sink(writer_pool, file_sink(path))
    await head(admin_pool, 64)
    services = [AnchorService(writer_pool, None, lambda: True, SILENCE) for _ in range(2)]  # type: ignore[arg-type]
    await asyncio.gather(*(one.look() for one in services))
    assert set(kept(path)) == {64}
    assert os.stat(path).st_size > 0


async def test_a_tenant_sees_only_its_own_anchors(
    writer_pool: Pool, admin_pool: Pool, tenant_pool: Pool, service: AnchorService, tmp_path: Path
) -> None:
    await anchors.add_sink(writer_pool, file_sink(tmp_path / "a.jsonl"))
    for tenant in ("acme", "globex"):
        await head(admin_pool, 64, tenant=tenant)
    await service.look()
    async with tenant_pool.acquire() as connection, connection.transaction():
        await connection.execute("select set_config('zentra.tenant', 'acme', true)")
        assert [row[0] for row in await connection.fetch("select tenant from anchors")] == ["acme"]
