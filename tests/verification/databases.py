"""A database that holds a ledger, and a copy of it that may be spoilt and is brought back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.ledgers import KEY, make_ledger
from tests.services import Database
from zentra.runtime.evidence.heads import key_id
from zentra.storage.pool import open_pool

__all__ = ["KEYS", "asked", "changed", "copied", "copy", "ledger", "silent", "spoil"]

KEYS: Final = {key_id(KEY.public_key()): KEY.public_key()}
TABLES: Final = (
    "accounts", "balances", "intents", "transitions", "postings", "log_leaves", "log_tiles", "log_heads", "periods",
    "closing_balances", "holds",
)  # fmt: skip


def silent(label: str, done: int, total: int) -> None:
    """Take note of no progress."""


def changed(url: str, *statements: str) -> list[int]:
    """Run statements as the owner and return how many rows each was about."""

    async def run() -> list[int]:
        connection = await asyncpg.connect(url, server_settings={"search_path": "zentra"})
        done = [(await connection.execute(statement)).split()[-1] for statement in statements]
        await connection.close()
        return [int(one) if one.isdigit() else 0 for one in done]

    return asyncio.run(run())


def asked(url: str, question: str) -> Any:
    """Return what a question of one value is answered with."""

    async def run() -> Any:
        connection = await asyncpg.connect(url, server_settings={"search_path": "zentra"})
        answer = await connection.fetchval(question)
        await connection.close()
        return answer

    return asyncio.run(run())


def spoil(url: str, *statements: str) -> None:
    """Change a database behind everybody's back: without triggers and foreign keys."""
    rows = changed(url, "set session_replication_role = replica", *statements)[1:]
    assert min(rows) > 0, statements


@pytest.fixture(scope="module")
def ledger(database: Database) -> str:
    """The URL of a database that holds a sound ledger; nobody writes there."""

    async def fill() -> None:
        async with await open_pool(database.admin_url, name="test") as pool:
            await make_ledger(pool)

    asyncio.run(fill())
    return database.admin_url


def _renamed(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture(scope="module")
def copied(ledger: str) -> Iterator[str]:
    """The URL of a copy of the ledger in which every table is there a second time, to be brought back from."""
    template = urlsplit(ledger).path.strip("/")
    changed(_renamed(ledger, "postgres"), f"create database spoilt template {template}")
    made = _renamed(ledger, "spoilt")
    changed(made, "create schema saved", *(f"create table saved.{table} as table {table}" for table in TABLES))
    yield made
    changed(_renamed(ledger, "postgres"), "drop database spoilt with (force)")


@pytest.fixture
def copy(copied: str) -> Iterator[str]:
    """The URL of a copy of the ledger that may be spoilt."""
    yield copied
    changed(
        copied, "set session_replication_role = replica", f"truncate {', '.join(TABLES)} cascade",
        *(f"insert into {table} overriding system value table saved.{table}" for table in TABLES),
    )  # fmt: skip
