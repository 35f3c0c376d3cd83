"""What a tenant changes about its webhook endpoints: how they are set up, whether they are called, their secrets.

- A change, its key and the answer are one commit, and in force from the next commit of the engine on (migration 0002).
- A change is made of what was seen: where somebody else has changed the endpoint since, nothing is written.
- Whoever disables or enables an endpoint has it told of in the same commit, on the intent it was last called about.
  Where nothing was ever made for it there is no such intent: nobody can have missed anything, and nobody is told.
- A deleted endpoint stays as a row without secrets, because its deliveries and packets name it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.partitions import partition_of
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.webhooks.delivery import TELL_OF_ENDPOINT, EndpointSwitched
from zentra.runtime.webhooks.terms import EndpointTerms
from zentra.storage.intake.commands import Command, KeyedAnswer, give_command, once
from zentra.storage.pool import Connection, Pool, tenant_transaction
from zentra.storage.reads.endpoints import EndpointRow

__all__ = [
    "Amended",
    "Switch",
    "amend_endpoint",
    "delete_endpoint",
    "disable_endpoint",
    "enable_endpoint",
    "rotate_endpoint",
]


class Amended(Struct, frozen=True, kw_only=True):
    """What an endpoint is to be from now on; `keys` are sealed, and there is one as soon as one is wanted."""

    url: str
    events: tuple[str, ...]
    terms: EndpointTerms
    keys: tuple[bytes, ...]


class Switch(Struct, frozen=True, kw_only=True):
    """Who disables or enables an endpoint, and the id of the command that tells of it."""

    command: str
    by: str
    role: str
    partitions: int


async def amend_endpoint(pool: Pool, keyed: KeyedAnswer, seen: EndpointRow, amended: Amended) -> StoredKey | None:
    """Set an endpoint up anew and return None, or what the key has stored already.

    Raises Refusal `endpoint_changed`; Unavailable and DataError as the store does."""

    async def write(connection: Connection) -> None:
        terms = msgspec.json.encode(amended.terms).decode()
        await _changed(connection.fetchval(
            _AMEND, keyed.tenant, seen.id, seen.version, amended.url, list(amended.events), terms, list(amended.keys)
        ))  # fmt: skip

    return await once(pool, keyed, write)


async def disable_endpoint(
    pool: Pool, keyed: KeyedAnswer, seen: EndpointRow, switch: Switch
) -> StoredKey | tuple[Outgoing, ...]:
    """Let an endpoint not be called any more, and return what tells of it, to publish; or what the key has stored.

    Takes the writer's pool. Raises Refusal `endpoint_status_conflict`, `endpoint_changed`; Unavailable and DataError
    as the store does."""

    async def write(connection: Connection) -> None:
        _need(seen, "enabled")
        await _changed(connection.fetchval(_DISABLE, keyed.tenant, seen.id, seen.version, seen.now, switch.by))

    return await _switched(pool, keyed, seen, switch, write, enabled=False)


async def enable_endpoint(
    pool: Pool, keyed: KeyedAnswer, seen: EndpointRow, switch: Switch
) -> StoredKey | tuple[Outgoing, ...]:
    """Let an endpoint be called again, and return what tells of it, to publish; or what the key has stored.

    Takes the writer's pool. Raises Refusal `endpoint_status_conflict`, `endpoint_changed`; Unavailable and DataError
    as the store does."""

    async def write(connection: Connection) -> None:
        _need(seen, "disabled")
        await _changed(connection.fetchval(_ENABLE, keyed.tenant, seen.id, seen.version))

    return await _switched(pool, keyed, seen, switch, write, enabled=True)


async def _switched(
    pool: Pool,
    keyed: KeyedAnswer,
    seen: EndpointRow,
    switch: Switch,
    write: Callable[[Connection], Awaitable[None]],
    *,
    enabled: bool,
) -> StoredKey | tuple[Outgoing, ...]:
    tells: list[Outgoing] = []

    async def run(connection: Connection) -> None:
        tells.clear()  # the transaction may be run anew
        await write(connection)
        last = await connection.fetchrow(_LAST_MET, keyed.tenant, seen.id)
        if last is not None:
            intent, *met = last
            body = EndpointSwitched(seen.id, enabled, *met)
            tells.append(await give_command(connection, keyed.tenant, Command(
                id=switch.command, kind=TELL_OF_ENDPOINT, subject=intent, principal=switch.by, role=switch.role,
                body=msgspec.json.encode(body), partition=partition_of(intent, switch.partitions),
            )))  # fmt: skip

    stored = await once(pool, keyed, run)
    return tuple(tells) if stored is None else stored


async def rotate_endpoint(
    pool: Pool,
    keyed: KeyedAnswer,
    seen: EndpointRow,
    kind: str,
    sealed: Sequence[bytes],
    until: Sequence[datetime | None],
) -> StoredKey | None:
    """Let an endpoint have these secrets (`v1`) or keys (`v1a`), newest first, and return None, or what the key has
    stored already.

    Raises Refusal `endpoint_changed`; Unavailable and DataError as the store does."""

    async def write(connection: Connection) -> None:
        await _changed(connection.fetchval(
            _ROTATE_SECRETS if kind == "v1" else _ROTATE_KEYS, keyed.tenant, seen.id, seen.version, list(sealed),
            list(until),
        ))  # fmt: skip

    return await once(pool, keyed, write)


async def delete_endpoint(pool: Pool, tenant: str, id: str) -> bool:
    """Take an endpoint away for good, once; return whether the tenant ever had it. Raises Unavailable and DataError."""
    async with tenant_transaction(pool, tenant) as connection:
        if await connection.fetchval(_DELETE, tenant, id):
            return True
        return bool(await connection.fetchval("select true from endpoints where tenant = $1 and id = $2", tenant, id))


def _need(seen: EndpointRow, status: str) -> None:
    if seen.status != status:
        raise Refusal("endpoint_status_conflict", f"it is {seen.status}")


async def _changed(written: Awaitable[object]) -> None:
    if not await written:
        raise Refusal("endpoint_changed", "somebody else has changed it; look at it and ask again with a new key")


_SEEN: Final = "where tenant = $1 and id = $2 and version = $3 and status <> 'deleted' returning true"
_AMEND: Final = f"""
update endpoints set version = version + 1, url = $4, events = $5, terms = $6, keys = $7,
    since = case when url = $4 then since else clock_timestamp() end {_SEEN}
"""  # noqa: S608 - of constants
_DISABLE: Final = f"""
update endpoints set version = version + 1, status = 'disabled', disabled_at = $4, disabled_reason = 'asked',
    disabled_by = $5 {_SEEN}
"""  # noqa: S608 - of constants
_ENABLE: Final = f"""
update endpoints set version = version + 1, status = 'enabled', since = clock_timestamp(), disabled_at = null,
    disabled_reason = null, disabled_by = null {_SEEN}
"""  # noqa: S608 - of constants
# Of the latest deliveries the one that was called last: (intent, delivery, event, attempts, status_code, error).
_LAST_MET: Final = """
select d.intent, d.id, d.event, coalesce(a.number, 0), a.status_code, a.error
from (select id, intent, event, created_at from deliveries where tenant = $1 and endpoint = $2
      order by created_at desc limit 100) d
    left join lateral (select number, at, status_code, error from delivery_attempts
                       where delivery = d.id order by number desc limit 1) a on true
order by a.at desc nulls last, d.created_at desc limit 1
"""
_ROTATE_SECRETS: Final = f"update endpoints set version = version + 1, secrets = $4, secrets_until = $5 {_SEEN}"  # noqa: S608 - of constants
_ROTATE_KEYS: Final = f"update endpoints set version = version + 1, keys = $4, keys_until = $5 {_SEEN}"  # noqa: S608 - of constants
_DELETE: Final = """
update endpoints set version = version + 1, status = 'deleted', secrets = '{""}', secrets_until = '{}', keys = '{}',
    keys_until = '{}' where tenant = $1 and id = $2 and status <> 'deleted' returning true
"""
