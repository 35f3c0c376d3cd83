"""Fixtures for tests against real servers: a migrated database per module, copied from a template, and Redis.

Import what you need into the conftest.py of your folder: `from tests.services import database, redis_flushed`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis
from msgspec import Struct

from zentra.gateway.devstack.stack import DevStack
from zentra.storage.migrate import migrate
from zentra.storage.pool import Pool, open_pool

__all__ = [
    "PARTITIONS",
    "PASSWORD",
    "QUOTED_PASSWORD",
    "Database",
    "admin_pool",
    "database",
    "database_template",
    "redis_flushed",
    "tenant_pool",
    "writer_pool",
]

PARTITIONS = 64
PASSWORD = "only for tests: ' \" % @"
_TEMPLATE = "zentra_template"
_numbers = itertools.count(1)
_templates: set[str] = set()


class Database(Struct, frozen=True):
    """One migrated database and the three roles that reach it."""

    admin_url: str
    writer_url: str
    tenant_url: str


def _url(base: str, database: str, role: str | None = None) -> str:
    """Return `base` for another database, and as another role where one is named."""
    parts = urlsplit(base)
    location = parts.netloc
    if role is not None:
        location = f"{role}:{QUOTED_PASSWORD}@{location.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=location, path=f"/{database}"))


QUOTED_PASSWORD = "".join(f"%{byte:02x}" for byte in PASSWORD.encode())


async def _statement(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def database_template(stack: DevStack) -> str:
    """The name of a migrated database that nobody is connected to, so that copying it takes milliseconds.

    Every conftest.py that imports this fixture has one of its own; they share the template."""
    if stack.postgres_url in _templates:
        return _TEMPLATE

    async def make() -> None:
        await _statement(stack.postgres_url, f"create database {_TEMPLATE}")
        await migrate(
            _url(stack.postgres_url, _TEMPLATE),
            writer_password=PASSWORD,
            tenant_password=PASSWORD,
            partitions=PARTITIONS,
        )

    asyncio.run(make())
    _templates.add(stack.postgres_url)
    return _TEMPLATE


@pytest.fixture(scope="module")
def database(stack: DevStack, database_template: str) -> Iterator[Database]:
    """A fresh, migrated, empty database for this module."""
    name = f"zentra_{next(_numbers)}"
    asyncio.run(_statement(stack.postgres_url, f"create database {name} template {database_template}"))
    yield Database(
        _url(stack.postgres_url, name),
        _url(stack.postgres_url, name, "zentra_writer"),
        _url(stack.postgres_url, name, "zentra_tenant"),
    )
    asyncio.run(_statement(stack.postgres_url, f"drop database {name} with (force)"))


@pytest.fixture
async def admin_pool(database: Database) -> AsyncIterator[Pool]:
    """A pool of the superuser."""
    async with await open_pool(database.admin_url, name="test-admin") as pool:
        yield pool


@pytest.fixture
async def writer_pool(database: Database) -> AsyncIterator[Pool]:
    """A pool of the batch writers."""
    async with await open_pool(database.writer_url, name="test-writer") as pool:
        yield pool


@pytest.fixture
async def tenant_pool(database: Database) -> AsyncIterator[Pool]:
    """A pool under row security."""
    async with await open_pool(database.tenant_url, name="test-tenant") as pool:
        yield pool


@pytest.fixture
def redis_flushed(redis_url: str) -> str:
    """The URL of Redis, empty."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url
