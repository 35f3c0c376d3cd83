"""Migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

- What was applied is never edited: a file whose digest has changed stops everything.
- Two runners at once are one after the other, by an advisory lock.
- The number of partitions is fixed by the first run, because another one would send keys to new owners.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import asyncpg
from msgspec import Struct

from zentra.storage.errors import Misconfigured, translated

__all__ = ["Migration", "migrate", "migrations"]

DIRECTORY = Path(__file__).parent / "migrations"
PARTITIONS = 8
_NAME = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql\Z")
_LOCK = 0x7A656E747261  # "zentra"

_BOOKS = """
create schema if not exists zentra;
create table if not exists zentra.migrations (
    number     integer primary key,
    name       text not null,
    digest     bytea not null,
    applied_at timestamptz not null default now()
);
"""


class Migration(Struct, frozen=True):
    """One file: its place, its name, its text and the digest that pins it."""

    number: int
    name: str
    sql: str
    digest: bytes


def migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """Return the files in order; raise Misconfigured where their numbers are not 1, 2, 3 and so on."""
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None or int(match[1]) != len(found) + 1:
            raise Misconfigured("migration_misnamed", f"{path.name} does not follow migration {len(found):04d}")
        text = path.read_text(encoding="utf-8")
        found.append(Migration(int(match[1]), path.stem, text, hashlib.sha256(text.encode()).digest()))
    return found


async def migrate(
    admin_url: str,
    *,
    writer_password: str,
    tenant_password: str,
    partitions: int = PARTITIONS,
    files: Sequence[Migration] | None = None,
) -> list[str]:
    """Bring the database up to date and return the names that were applied; set the passwords of both service roles.

    Raises Misconfigured where an applied file was changed or is missing, or where the installation has another number
    of partitions; Unavailable where the server does not answer."""
    wanted = migrations() if files is None else list(files)
    with translated():
        connection = await asyncpg.connect(admin_url, server_settings={"application_name": "zentra-migrate"})
        try:
            await connection.execute("select pg_advisory_lock($1)", _LOCK)
            await connection.execute(_BOOKS)
            applied = await _apply(connection, wanted)
            async with connection.transaction():
                await _let_in(connection, "zentra_writer", writer_password)
                await _let_in(connection, "zentra_tenant", tenant_password)
                await _install(connection, partitions)
            return applied
        finally:
            await connection.close()  # and with it goes the lock


async def _apply(connection: asyncpg.Connection[asyncpg.Record], wanted: Sequence[Migration]) -> list[str]:
    rows = await connection.fetch("select number, name, digest from zentra.migrations order by number")
    if len(rows) > len(wanted):
        raise Misconfigured("migration_missing", f"{rows[-1]['name']} was applied and this version does not have it")
    for row, migration in zip(rows, wanted, strict=False):
        if row["digest"] != migration.digest:
            raise Misconfigured(
                "migration_changed", f"{migration.name} was edited after it was applied; restore it and add a new file"
            )
    applied = []
    for migration in wanted[len(rows) :]:
        async with connection.transaction():
            await connection.execute("set local search_path = zentra")
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into zentra.migrations (number, name, digest) values ($1, $2, $3)",
                migration.number, migration.name, migration.digest,
            )  # fmt: skip
        applied.append(migration.name)
    return applied


async def _let_in(connection: asyncpg.Connection[asyncpg.Record], role: str, password: str) -> None:
    """Set a role's password and let it connect. Utility statements take no parameters, so the server quotes."""
    await connection.execute("set local password_encryption = 'scram-sha-256'")
    await connection.execute("set local log_statement = 'none'")
    for statement in await connection.fetchrow(
        "select format('alter role %I password %L', $1::text, $2::text),"
        " format('grant connect on database %I to %I', current_database(), $1::text)",
        role, password,
    ) or ():  # fmt: skip
        await connection.execute(statement)


async def _install(connection: asyncpg.Connection[asyncpg.Record], partitions: int) -> None:
    await connection.execute(
        "insert into zentra.installation (partitions) values ($1) on conflict do nothing", partitions
    )
    fixed = await connection.fetchval("select partitions from zentra.installation")
    if fixed != partitions:
        raise Misconfigured(
            "partitions_fixed", f"this installation has {fixed} partitions; run it with {fixed}, not {partitions}"
        )
    await connection.execute(
        "insert into zentra.leases (partition) select generate_series(0, $1::int - 1) on conflict do nothing",
        partitions,
    )
