"""One moment of the whole store, seen by as many connections as like to: what every verification reads.

- All that is read belongs to one snapshot, whatever the installation goes on doing; nothing is written or locked.
- The role has to see every tenant: under row security a check would find everything in order, because it saw nothing.
- No limit of time holds here, and vacuum keeps what the snapshot sees for as long as it lasts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from msgspec import Struct

from zentra.storage.errors import Misconfigured
from zentra.storage.pool import Connection, open_pool, transaction

__all__ = ["Snapshot", "joined_snapshot", "taken_snapshot"]

_SEES: Final = "select current_user, rolsuper or rolbypassrls from pg_roles where rolname = current_user"
# Windows are read along keys; what is read as a whole may use memory for it.
_SETTINGS: Final = "set local work_mem = '64MB'; set local cursor_tuple_fraction = 1.0"


class Snapshot(Struct, frozen=True):
    """A moment of the store: the connection that reads it, the name by which others join it, and when it was."""

    connection: Connection
    name: str
    at: datetime


@asynccontextmanager
async def taken_snapshot(url: str) -> AsyncIterator[Snapshot]:
    """Yield a new snapshot.

    Raises Misconfigured `row_security` where the role of `url` does not see every tenant, and Unavailable."""
    pool = await open_pool(url, name="zentra verification", connections_max=1, transaction_seconds_max=0)
    try:
        async with transaction(pool, snapshot=True) as connection:
            role, sees = await connection.fetchrow(_SEES) or ("nobody", False)
            if not sees:
                raise Misconfigured("row_security", f"role {role} does not see every tenant; give the URL of the owner")
            await connection.execute(_SETTINGS)
            row = await connection.fetchrow("select pg_export_snapshot(), now()")
            assert row is not None
            yield Snapshot(connection, row[0], row[1])
    finally:
        await pool.close()


@asynccontextmanager
async def joined_snapshot(url: str, name: str) -> AsyncIterator[Connection]:
    """Yield a connection that sees what the snapshot of this name sees; raises Unavailable where that has ended."""
    pool = await open_pool(url, name="zentra verification", connections_max=1, transaction_seconds_max=0)
    try:
        async with transaction(pool, snapshot=True) as connection:
            await connection.execute(f"set transaction snapshot '{name}'; {_SETTINGS}")
            yield connection
    finally:
        await pool.close()
