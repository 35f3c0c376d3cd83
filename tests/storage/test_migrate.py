"""Migrations apply once, in order, and never after an edit; the service roles get exactly their rights."""

from __future__ import annotations

import asyncpg
import msgspec
import pytest

from tests.services import PARTITIONS, PASSWORD, Database
from zentra.storage.errors import Misconfigured
from zentra.storage.migrate import Migration, migrate, migrations
from zentra.storage.pool import Pool, assert_tenant_role, tenant_transaction


async def _run(database: Database, *, partitions: int = PARTITIONS, files: list[Migration] | None = None) -> list[str]:
    return await migrate(
        database.admin_url,
        writer_password=PASSWORD,
        tenant_password=PASSWORD,
        partitions=partitions,
        files=files,
    )


async def test_a_second_run_applies_nothing(database: Database) -> None:
    assert await _run(database) == []


async def test_a_new_file_is_applied_once(database: Database) -> None:
    files = migrations()
    more = Migration(len(files) + 1, "9999_more", "create table more (x int)", b"digest")
    assert await _run(database, files=[*files, more]) == ["9999_more"]
    assert await _run(database, files=[*files, more]) == []
    with pytest.raises(Misconfigured, match="migration_missing"):
        await _run(database)
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute("drop table zentra.more; delete from zentra.migrations where name = '9999_more'")
    await connection.close()


async def test_a_file_that_fails_leaves_nothing(database: Database) -> None:
    files = migrations()
    broken = Migration(len(files) + 1, "9999_broken", "create table half (x int); select 1 / 0", b"digest")
    with pytest.raises(Exception, match="division by zero"):
        await _run(database, files=[*files, broken])
    connection = await asyncpg.connect(database.admin_url)
    assert await connection.fetchval("select to_regclass('zentra.half')") is None
    await connection.close()
    assert await _run(database) == []


async def test_an_edited_file_stops_everything(database: Database) -> None:
    first, *rest = migrations()
    with pytest.raises(Misconfigured, match="migration_changed"):
        await _run(database, files=[msgspec.structs.replace(first, digest=b"other"), *rest])


async def test_the_number_of_partitions_is_fixed_by_the_first_run(database: Database, admin_pool: Pool) -> None:
    assert await admin_pool.fetchval("select count(*) from leases") == PARTITIONS
    with pytest.raises(Misconfigured, match="partitions_fixed"):
        await _run(database, partitions=PARTITIONS * 2)


async def test_both_roles_log_in_with_their_password(writer_pool: Pool, tenant_pool: Pool) -> None:
    assert await writer_pool.fetchval("select current_user") == "zentra_writer"
    assert await tenant_pool.fetchval("select current_user") == "zentra_tenant"


async def test_only_the_tenant_role_may_serve_tenants(admin_pool: Pool, writer_pool: Pool, tenant_pool: Pool) -> None:
    await assert_tenant_role(tenant_pool)
    for pool, sentence in ((admin_pool, "superuser"), (writer_pool, "bypasses row security")):
        with pytest.raises(Misconfigured, match=sentence):
            await assert_tenant_role(pool)


@pytest.mark.parametrize(
    ("change", "undo", "sentence"),
    [
        ("alter table zentra.members owner to zentra_tenant", "alter table zentra.members owner to postgres", "owns"),
        ("grant zentra_writer to zentra_tenant", "revoke zentra_writer from zentra_tenant", "member of a role"),
        (
            "alter table zentra.intents disable row level security",
            "alter table zentra.intents enable row level security",
            "row_security_off: intents",
        ),
        (
            "alter table zentra.rate_limits no force row level security",
            "alter table zentra.rate_limits force row level security",
            "row_security_off: rate_limits",
        ),
    ],
)
async def test_a_tenant_role_that_could_step_around_is_refused(
    admin_pool: Pool, tenant_pool: Pool, change: str, undo: str, sentence: str
) -> None:
    await admin_pool.execute(change)
    try:
        with pytest.raises(Misconfigured, match=sentence):
            await assert_tenant_role(tenant_pool)
    finally:
        await admin_pool.execute(undo)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("intents", "command"),
        ("transitions", "record"),
        ("postings", "posted"),
        ("log_leaves", "hash"),
        ("log_heads", "root"),
        ("callbacks", "body"),
    ],
)
async def test_nobody_but_the_owner_can_change_what_is_immutable(
    writer_pool: Pool, tenant_pool: Pool, table: str, column: str
) -> None:
    for pool in (writer_pool, tenant_pool):
        for statement in (f"delete from {table}", f"update {table} set {column} = {column}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)


async def test_what_is_set_up_has_a_version_that_only_its_owner_writes(
    admin_pool: Pool, tenant_pool: Pool, writer_pool: Pool
) -> None:
    version = "select version from configuration_version"
    before = await writer_pool.fetchval(version)
    await admin_pool.execute("insert into tenants (id, name) values ('acme', 'Acme')")
    await admin_pool.execute("insert into rails (name, settings) values ('sandbox', '{}')")
    await admin_pool.execute(
        "insert into policies (tenant, version, rules, created_by) values ('acme', 1, '{}', 'system')"
    )
    async with tenant_transaction(tenant_pool, "acme") as connection:
        await connection.execute(
            "insert into endpoints (tenant, id, url, events, secrets, created_by)"
            " values ('acme', 'we_1', 'https://example.com', '{}', array['s'::bytea], 'ada')"
        )
    assert await writer_pool.fetchval(version) == before + 3
    for pool in (writer_pool, tenant_pool):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("update configuration_version set version = 0")


async def test_a_uuid_is_hex_text_on_our_side(admin_pool: Pool) -> None:
    text = "0123456789abcdef0123456789abcdef"
    assert await admin_pool.fetchval("select $1::uuid", text) == text
    assert await admin_pool.fetchval("select $1::uuid[]", [text]) == [text]


async def test_a_returned_connection_keeps_no_transaction_and_no_tenant(tenant_pool: Pool) -> None:
    async with tenant_transaction(tenant_pool, "acme") as connection:
        assert await connection.fetchval("select current_setting('zentra.tenant')") == "acme"
    assert not await tenant_pool.fetchval("select current_setting('zentra.tenant', true)")
