"""Exports that a worker makes: whoever makes them makes the same bytes, once, for their tenant, for a day."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from tests.gateway.http.conftest import Api, Keys
from tests.ledgers import KEY, TENANTS, played, store_fleet
from tests.services import Database
from tests.verification.bundles import exported, members
from zentra.gateway.exporting import ExportService
from zentra.gateway.http.server import GatewayApp
from zentra.gateway.settings import Settings
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.instruments import SILENCE
from zentra.storage.intake import export_jobs
from zentra.storage.intake.evidence import keep_key
from zentra.storage.intake.export_jobs import JOBS_MAX, claim_export, finish_export, keep_claim, keep_part
from zentra.storage.pool import Pool, open_pool
from zentra.storage.verification.bundle_files import verify_bundle

EXPORTS = "/evidence/exports"


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

    asyncio.run(fill())


@pytest.fixture(autouse=True)
async def nothing(admin_pool: Pool) -> None:
    """No exports yet."""
    await admin_pool.execute("truncate zentra.export_parts, zentra.export_jobs, zentra.evidence_exports")


@pytest.fixture
def service(database: Database, writer_pool: Pool) -> ExportService:
    """What a worker does for exports."""
    return ExportService(database.writer_url, writer_pool, [KEY], SILENCE)


@pytest.fixture
def auditor(api: Api) -> Api:
    """The API as an auditor uses it, who asks for evidence."""
    return api.as_("auditor")


async def lapsed(pool: Pool) -> None:
    """Let the minute of whoever makes an export go by."""
    await pool.execute("update zentra.export_jobs set claimed_until = now() - interval '1 second'")


async def test_an_export_is_asked_for_made_and_fetched(
    auditor: Api, service: ExportService, admin_pool: Pool, tmp_path: Path, database: Database
) -> None:
    asked = await auditor.post(EXPORTS, {"since": "2026-01-05T12:10:00Z", "types": ["transfer", "hold"]})
    assert (asked.status, asked.json["state"], asked.json["actor"]) == (202, "waiting", "auditor")
    target = asked.headers["location"]
    assert target == f"{EXPORTS}/{asked.json['id']}" == asked.json["links"]["self"]
    early = await auditor.get(f"{target}/content")
    assert (early.status, early.code) == (409, "export_not_done")
    assert await service.look()
    assert not await service.look()
    shown = (await auditor.get(target)).json
    assert (shown["state"], shown["leaves_done"]) == ("done", shown["leaves"])
    assert (shown["log_size"] - shown["first_leaf"], shown["entries"] > 0) == (shown["leaves"], True)
    file = await auditor.get(f"{target}/content")
    assert (file.status, len(file.body), sha256(file.body).hexdigest()) == (200, shown["bytes"], shown["sha256"])
    assert file.headers["content-length"] == str(shown["bytes"])
    assert file.headers["etag"] == f'"{shown["sha256"]}"'
    (tmp_path / "b.tar").write_bytes(file.body)
    assert verify_bundle(tmp_path / "b.tar", ring_of([KEY.public_key()]), [], lambda *_: None).ok
    # It is on record as any other export is, and its file is what the command makes of the same range.
    listed = (await auditor.get(EXPORTS)).json["data"]
    assert [(one["id"], one["actor"], one["manifest"]) for one in listed] == [
        (shown["id"], "auditor", shown["manifest"])
    ]
    row = await admin_pool.fetchrow("select since, until, types from zentra.export_jobs")
    assert row is not None
    made = await asyncio.to_thread(
        exported, database.admin_url, tmp_path / "again.tar", since=row[0], until=row[1], types=row[2]
    )
    assert made.sha256 == shown["sha256"]


async def test_what_was_asked_and_made_is_in_later_bundles(
    auditor: Api, service: ExportService, admin_pool: Pool, database: Database, tmp_path: Path
) -> None:
    asked = (await auditor.post(EXPORTS)).json
    assert await service.look()
    await admin_pool.execute("update zentra.export_jobs set at = at - interval '1 hour'")
    await admin_pool.execute("update zentra.evidence_exports set at = at - interval '1 hour'")
    await asyncio.to_thread(exported, database.admin_url, tmp_path / "b.tar")
    lines = [msgspec.json.decode(line) for line in members(tmp_path / "b.tar")["exports/00001.jsonl"].splitlines()]
    assert [(one["id"], one.get("asked", False), one["actor"]) for one in lines] == [
        (asked["id"], False, "auditor"),
        (asked["id"], True, "auditor"),
    ]


async def test_a_key_asks_once(auditor: Api, admin_pool: Pool) -> None:
    body = {"since": "2026-01-05T12:10:00Z"}
    first, again = [await auditor.post(EXPORTS, body, key="one") for _ in range(2)]
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (202, first.body, "true")
    assert again.headers["location"] == first.headers["location"]
    other = await auditor.post(EXPORTS, {}, key="one")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    both = await asyncio.gather(*[auditor.post(EXPORTS, body, key="two") for _ in range(4)])
    assert len({one.json["id"] for one in both}) == 1
    assert await admin_pool.fetchval("select count(*) from zentra.export_jobs") == 2


async def test_another_worker_makes_the_same_bytes_and_what_the_first_one_still_writes_is_nothing(
    auditor: Api, service: ExportService, writer_pool: Pool, admin_pool: Pool
) -> None:
    target = (await auditor.post(EXPORTS)).headers["location"]
    dead = await claim_export(writer_pool)
    assert dead is not None
    await keep_part(writer_pool, dead, 0, b"half a file")
    assert not await service.look(), "it is somebody's for a minute"
    await lapsed(admin_pool)
    assert await service.look()
    first = await auditor.get(f"{target}/content")
    digest = (await auditor.get(target)).json["sha256"]
    assert sha256(first.body).hexdigest() == digest
    result = export_jobs.JobResult(first_leaf=0, log_size=1, entries=1, manifest=b"m", sha256=b"s", bytes=11)
    assert not await keep_claim(writer_pool, dead, 1, 1)
    assert not await finish_export(writer_pool, dead, result)
    await export_jobs.fail_export(writer_pool, dead, "it is not mine")
    assert (await auditor.get(f"{target}/content")).body == first.body
    assert await admin_pool.fetchval("select count(*) from zentra.evidence_exports") == 1
    assert await admin_pool.fetchval("select count(distinct attempt) from zentra.export_parts") == 1
    # Made once more, later and by somebody else, it is the same.
    await admin_pool.execute("update zentra.export_jobs set state = 'running', claimed_until = now()")
    await admin_pool.execute("truncate zentra.export_parts, zentra.evidence_exports")
    assert await service.look()
    assert (await auditor.get(f"{target}/content")).body == first.body


async def test_a_maker_whose_job_was_taken_stops(
    auditor: Api, service: ExportService, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = (await auditor.post(EXPORTS)).headers["location"]
    store = ExportService._keep

    async def taken(self: ExportService, *values: object) -> None:
        await admin_pool.execute("update zentra.export_jobs set attempt = attempt + 1")
        await store(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(ExportService, "_keep", taken)
    assert await service.look()
    assert (await auditor.get(target)).json["state"] == "running"
    assert await admin_pool.fetchval("select count(*) from zentra.evidence_exports") == 0


async def test_a_tenant_has_a_few_and_they_expire(
    auditor: Api, api: Api, service: ExportService, admin_pool: Pool
) -> None:
    made = [(await auditor.post(EXPORTS)).json["id"] for _ in range(JOBS_MAX)]
    more = await auditor.post(EXPORTS)
    assert (more.status, more.code, "retry-after" in more.headers) == (409, "exports_too_many", True)
    assert (await api.as_("auditor", "globex").post(EXPORTS)).status == 202
    for _ in range(JOBS_MAX):
        assert await service.look()
    assert (await auditor.post(EXPORTS)).code == "exports_too_many", "what is kept counts too"
    await admin_pool.execute(
        "update zentra.export_jobs set expires_at = now() - interval '1 second' where id = $1", made[0]
    )
    gone = await auditor.get(f"{EXPORTS}/{made[0]}/content")
    assert (gone.status, gone.code) == (410, "export_expired")
    assert (await auditor.get(f"{EXPORTS}/jobs?state=expired")).json["data"][0]["id"] == made[0]
    assert (await auditor.post(EXPORTS)).status == 202
    await service.look()
    assert await admin_pool.fetchval("select count(*) from zentra.export_parts where job = $1", made[0]) == 0
    assert (await auditor.get(f"{EXPORTS}/{made[0]}")).json["state"] == "expired"


async def test_what_cannot_be_made_says_why(
    auditor: Api, service: ExportService, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = (await auditor.post(EXPORTS)).headers["location"]
    monkeypatch.setattr("zentra.gateway.exporting.BYTES_MAX", 1_000)
    assert await service.look()
    shown = (await auditor.get(target)).json
    assert (shown["state"], "shorten the range" in shown["error"]) == ("failed", True)
    assert (await auditor.get(f"{target}/content")).code == "export_not_done"


async def test_without_the_key_in_force_nothing_is_taken(auditor: Api, database: Database, writer_pool: Pool) -> None:
    target = (await auditor.post(EXPORTS)).headers["location"]
    assert not await ExportService(database.writer_url, writer_pool, [], SILENCE).look()
    assert (await auditor.get(target)).json["state"] == "waiting"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, 422, "export_range_empty"),
        ({"since": "2999-01-01T00:00:00Z"}, 422, "export_range_empty"),
        ({"since": "yesterday"}, 422, "validation_failed"),
        ({"types": []}, 422, "validation_failed"),
        ({"types": ["no such kind"]}, 422, "validation_failed"),
        ({"types": "hold"}, 422, "validation_failed"),
        ({"tenant": "globex"}, 422, "validation_failed"),
    ],
)
async def test_what_cannot_be_asked_is_told(auditor: Api, body: object, status: int, code: str) -> None:
    answer = await auditor.post(EXPORTS, body)
    assert (answer.status, answer.code) == (status, code), answer.body


async def test_an_export_is_its_tenants_alone(auditor: Api, api: Api, service: ExportService) -> None:
    id = (await auditor.post(EXPORTS)).json["id"]
    assert await service.look()
    stranger = api.as_("auditor", "globex")
    for given in (id, uuid.uuid4().hex, str(uuid.uuid4()), "x", "%"):
        for target in (f"{EXPORTS}/{given}", f"{EXPORTS}/{given}/content"):
            answer = await stranger.get(target)
            assert (answer.status, answer.code) == (404, "not_found"), target
    assert (await stranger.get(f"{EXPORTS}/jobs")).json["data"] == []
    assert (await api.as_("support").post(EXPORTS)).code == "permission_denied"
    assert (await api.as_("support").get(f"{EXPORTS}/{id}/content")).code == "permission_denied"


async def test_jobs_are_listed_as_other_things_are(auditor: Api, settings: Settings, keys: Keys) -> None:
    made = [(await auditor.post(EXPORTS)).json["id"] for _ in range(3)]
    first = (await auditor.get(f"{EXPORTS}/jobs?limit=2")).json
    second = (await auditor.get(f"{EXPORTS}/jobs?limit=2&cursor={first['next_cursor']}")).json
    assert [one["id"] for one in first["data"] + second["data"]] == made[::-1]
    assert (await auditor.get(f"{EXPORTS}/jobs?actor=nobody")).json["data"] == []
    async with GatewayApp.opened(settings) as another:
        assert (await Api(another, keys, principal="auditor").get(f"{EXPORTS}/{made[0]}")).status == 200


def test_what_is_kept_is_kept_for_a_day() -> None:
    assert timedelta(days=1) == export_jobs.KEPT
