"""Connections to Postgres: how they are set up, and the two kinds of transaction that everything runs in.

- Uuids are text of 32 hex digits on our side and 16 bytes on the wire.
- No statement outlives its limits: a stuck or stopped client cannot keep locks longer than a lease lasts.
- A tenant's transaction names exactly one tenant and forgets it when it ends.
- Session settings, listeners and advisory session locks are never used on pooled connections, so returning one costs no
  round trip.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from zentra.storage.errors import Misconfigured, translated

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

__all__ = [
    "Connection",
    "Pool",
    "assert_tenant_role",
    "open_pool",
    "prepare_connection",
    "tenant_transaction",
    "transaction",
]

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"


async def open_pool(
    url: str,
    *,
    name: str,
    connections_max: int = 8,
    connections_min: int = 1,
    transaction_seconds_max: float = 5.0,
    lock_seconds_max: float = 4.0,
    statements_max: int = 256,
) -> Pool:
    """Return an open pool whose connections show up as `name`; the caller closes it.

    The limits lie below the lease time, so a zombie's locks are gone before its successor needs them. Raises
    Unavailable where the server does not answer."""
    limit_ms = str(round(transaction_seconds_max * 1000))
    with translated():
        return await asyncpg.create_pool(
            url,
            min_size=min(connections_min, connections_max),
            max_size=connections_max,
            statement_cache_size=statements_max,
            max_inactive_connection_lifetime=0,
            init=prepare_connection,
            reset=_keep,
            server_settings={
                "application_name": name,
                "search_path": "zentra",
                "transaction_timeout": limit_ms,
                "idle_in_transaction_session_timeout": limit_ms,
                "lock_timeout": str(round(lock_seconds_max * 1000)),
                "jit": "off",  # plans are small, and compiling the driver's introspection takes longer than running it
            },
        )


async def prepare_connection(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Make `connection` take and give uuids as 32 hex digits."""
    await connection.set_type_codec(
        "uuid", schema="pg_catalog", encoder=_uuid_bytes, decoder=bytes.hex, format="binary"
    )


def _uuid_bytes(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != 16:
        raise ValueError(f"a uuid has 32 hex digits, not {len(text)}")
    return data


async def _keep(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Return a connection as it is: asyncpg has rolled back already, and nothing else of a session is ever changed."""


@asynccontextmanager
async def transaction(pool: Pool, *, snapshot: bool = False, one_statement: bool = False) -> AsyncIterator[Connection]:
    """Yield a connection inside a transaction that commits at the end, or rolls back where the body raises.

    A `snapshot` reads everything as of one moment and writes nothing. Where the body is `one_statement`, that commits
    itself, and two round trips are saved.
    Driver errors of the body come out as the runtime's; raises InDoubt where the connection dies during the commit."""
    if not one_statement:
        async with _begun(pool, _SNAPSHOT if snapshot else _BEGIN) as connection:
            yield connection
        return
    with translated():
        async with pool.acquire() as connection:
            with translated(committing=True):
                yield connection


@asynccontextmanager
async def tenant_transaction(pool: Pool, tenant: str, *, snapshot: bool = False) -> AsyncIterator[Connection]:
    """Yield a connection inside a transaction that sees `tenant` and, under row security, nobody else.

    Raises as `transaction` does."""
    async with _begun(pool, (_SNAPSHOT if snapshot else _BEGIN) + _TENANT.format(tenant.encode().hex())) as connection:
        yield connection


@asynccontextmanager
async def _begun(pool: Pool, begin: str) -> AsyncIterator[Connection]:
    """Yield a connection after `begin`, which is one round trip whatever it says."""
    with translated():
        async with pool.acquire() as connection:
            try:
                await connection.execute(begin)
                yield connection
            except BaseException:
                # Where the connection is gone, so is the transaction; the body's error is the one to tell.
                with suppress(asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
                    await connection.execute("rollback")
                raise
            with translated(committing=True):
                await connection.execute("commit")


async def assert_tenant_role(pool: Pool) -> None:
    """Return when the pool's role cannot step around row security, and each table that it may read keeps tenants apart.

    Raises Misconfigured `tenant_role_unsafe` where it is a superuser, bypasses row security or owns a table, and
    `row_security_off` where a table with tenants in it has none, or has it for all but its owner."""
    with translated():
        row = await pool.fetchrow(_ROLE)
    if row is None:
        raise Misconfigured("tenant_role_unsafe", "the role of the tenant URL does not exist")
    for flag, sentence in (
        ("rolsuper", "is a superuser"),
        ("rolbypassrls", "bypasses row security"),
        ("owner", "owns tables of the runtime"),
        ("inherits", "is a member of a role that could step around row security"),
    ):
        if row[flag]:
            raise Misconfigured(
                "tenant_role_unsafe", f"role {row['rolname']} {sentence}; give the URL of zentra_tenant instead"
            )
    with translated():
        bare = await pool.fetch(_BARE)
    if bare:
        names = ", ".join(table["relname"] for table in bare)
        raise Misconfigured("row_security_off", f"{names}: enable and force row level security, as the migrations do")


_BEGIN = "begin;"
_SNAPSHOT = "begin isolation level repeatable read read only;"
# Several statements at once take no arguments; hex digits say any text and end no quote.
_TENANT = "select set_config('zentra.tenant', convert_from('\\x{}'::bytea, 'utf8'), true)"
_BARE = """
select c.relname
from pg_class c
where c.relnamespace = to_regnamespace('zentra') and c.relkind in ('r', 'p')
  and has_table_privilege(c.oid, 'select') and not (c.relrowsecurity and c.relforcerowsecurity)
  and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped)
order by 1
"""
_ROLE = """
with owners as (select relowner as oid from pg_class where relnamespace = to_regnamespace('zentra'))
select r.rolname, r.rolsuper, r.rolbypassrls,
       r.oid in (select oid from owners) as owner,
       exists (
           select from pg_roles o
           where o.oid <> r.oid and pg_has_role(r.oid, o.oid, 'member')
             and (o.rolsuper or o.rolbypassrls or o.oid in (select oid from owners))
       ) as inherits
from pg_roles r
where r.rolname = current_user
"""
