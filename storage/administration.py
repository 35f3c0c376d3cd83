"""What an operator sets up: tenants, people, keys, corridors, rails and policies; over the owner's connection.

- Doing it twice is doing it once: the same again changes nothing, something else under the same name is refused.
- Nothing is made on the side: a tenant is a tenant and has no accounts, people or rules until somebody makes them.
- The text of an API key is returned once and stored nowhere.
- A refusal names what is wrong and what to do about it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.keys import RANDOM_BYTES, make_key, parse_key
from zentra.runtime.ledger.money import is_currency
from zentra.runtime.names import is_principal, is_tenant
from zentra.runtime.policy import PolicyRules
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor
from zentra.storage.errors import translated
from zentra.storage.intake.configuration import open_system_accounts
from zentra.storage.pool import Connection, Pool, tenant_transaction, transaction

__all__ = ["ROLES", "Administration", "ApiKey", "IssuedKey", "Principal", "Role", "Tenant"]

Role = Literal["developer", "operator", "support", "finance", "auditor", "admin"]
ROLES: Final = ("developer", "operator", "support", "finance", "auditor", "admin")
RAIL_SECONDS_MAX: Final = 30 * 86_400  # whatever takes longer is no deadline but a mistake
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)


class Tenant(Struct, frozen=True):
    """A tenant."""

    id: str
    name: str
    created_at: datetime


class Principal(Struct, frozen=True):
    """A person or program of a tenant, and what it may do."""

    tenant: str
    id: str
    name: str
    role: str
    created_at: datetime


class ApiKey(Struct, frozen=True):
    """A key as it is stored: without its secret."""

    id: str
    tenant: str
    principal: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class IssuedKey(Struct, frozen=True):
    """A key as it is handed over: this is the only time its text is seen."""

    id: str
    text: str


class Administration:
    """The operator's hand on an installation. Every method raises Refusal with its reason, or Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create_tenant(self, tenant: str, name: str) -> bool:
        """Return whether the tenant is new. Refuses `tenant_malformed`, `tenant_exists` (under another name)."""
        _check(is_tenant(tenant), "tenant_malformed", f"{tenant!r}: 2 to 31 of a-z 0-9 -, a letter first")
        async with tenant_transaction(self._pool, tenant) as connection:
            if await _made(
                connection, "insert into tenants (id, name) values ($1, $2) on conflict do nothing", tenant, name
            ):
                return True
            known = await connection.fetchval("select name from tenants where id = $1", tenant)
            _check(known == name, "tenant_exists", f"{tenant} is called {known!r}; choose another id")
            return False

    async def tenants(self) -> list[Tenant]:
        """Return all tenants by id."""
        with translated():
            return [
                Tenant(*row) for row in await self._pool.fetch("select id, name, created_at from tenants order by id")
            ]

    async def create_principal(self, tenant: str, principal: str, *, name: str, role: str) -> bool:
        """Return whether the principal is new.

        Refuses `principal_malformed`, `role_unknown`, `tenant_unknown`, `principal_exists` (as somebody else)."""
        _check(is_principal(principal), "principal_malformed", f"{principal!r}: 1 to 63 of a-z 0-9 . _ -")
        _check(role in ROLES, "role_unknown", f"{role!r}: one of {', '.join(ROLES)}")
        async with tenant_transaction(self._pool, tenant) as connection:
            await _need_tenant(connection, tenant)
            insert = "insert into principals (tenant, id, name, role) values ($1, $2, $3, $4) on conflict do nothing"
            if await _made(connection, insert, tenant, principal, name, role):
                return True
            known = await connection.fetchrow(
                "select name, role from principals where tenant = $1 and id = $2", tenant, principal
            )
            same = known is not None and tuple(known) == (name, role)
            _check(same, "principal_exists", f"{principal} exists with another name or role; choose another id")
            return False

    async def principals(self, tenant: str) -> list[Principal]:
        """Return a tenant's principals by id."""
        async with tenant_transaction(self._pool, tenant) as connection:
            rows = await connection.fetch(
                "select tenant, id, name, role, created_at from principals where tenant = $1 order by id", tenant
            )
        return [Principal(*row) for row in rows]

    async def create_api_key(
        self, tenant: str, principal: str, *, live: bool = False, expires_at: datetime | None = None
    ) -> IssuedKey:
        """Return a new key, its text included. Refuses `principal_unknown`."""
        key_id, text = make_key(secrets.token_bytes(RANDOM_BYTES), live)
        parsed = parse_key(text)
        assert parsed is not None
        async with tenant_transaction(self._pool, tenant) as connection:
            found = await connection.fetchval(
                "select true from principals where tenant = $1 and id = $2", tenant, principal
            )
            _check(found, "principal_unknown", f"{tenant} has no principal {principal!r}; create it first")
            await connection.execute(
                "insert into api_keys (id, tenant, principal, secret_hash, expires_at) values ($1, $2, $3, $4, $5)",
                key_id, tenant, principal, parsed[1], expires_at,
            )  # fmt: skip
        return IssuedKey(key_id, text)

    async def revoke_api_key(self, tenant: str, key_id: str) -> bool:
        """Return whether the key worked until now. Refuses `api_key_unknown`."""
        async with tenant_transaction(self._pool, tenant) as connection:
            if await _made(
                connection,
                "update api_keys set revoked_at = now() where tenant = $1 and id = $2 and revoked_at is null",
                tenant,
                key_id,
            ):
                return True
            known = await connection.fetchval("select true from api_keys where tenant = $1 and id = $2", tenant, key_id)
            _check(known, "api_key_unknown", f"{tenant} has no key {key_id!r}; list its keys to see their ids")
            return False

    async def api_keys(self, tenant: str) -> list[ApiKey]:
        """Return a tenant's keys, oldest first."""
        async with tenant_transaction(self._pool, tenant) as connection:
            rows = await connection.fetch(
                "select id, tenant, principal, created_at, expires_at, revoked_at from api_keys where tenant = $1"
                " order by created_at, id",
                tenant,
            )
        return [ApiKey(*row) for row in rows]

    async def put_rail(self, settings: RailSettings) -> bool:
        """Set a rail up or change it; return whether anything is different now. Refuses `rail_malformed`."""
        _check(_NAME.match(settings.name), "rail_malformed", f"{settings.name!r}: 1 to 63 of a-z 0-9 . _ -")
        for name in msgspec.structs.fields(RailSettings):
            if name.type is float:
                seconds = getattr(settings, name.name)
                _check(0 <= seconds <= RAIL_SECONDS_MAX, "rail_malformed", f"{name.name}: 0 to {RAIL_SECONDS_MAX}")
        _check(settings.concurrency_max >= 1, "rail_malformed", "concurrency_max: 1 or more")
        async with transaction(self._pool) as connection:
            return await _made(
                connection,
                "insert into rails as known (name, settings) values ($1, $2) on conflict (name) do update"
                " set settings = excluded.settings where known.settings <> excluded.settings",
                settings.name,
                msgspec.json.encode(settings).decode(),
            )

    async def rails(self) -> list[RailSettings]:
        """Return all rails by name."""
        with translated():
            rows = await self._pool.fetch("select settings from rails order by name")
        return [msgspec.json.decode(row[0], type=RailSettings) for row in rows]

    async def put_corridor(self, corridor: Corridor) -> bool:
        """Set a corridor up or change it; return whether anything is different now.

        Refuses `corridor_malformed`, `currency_unknown`, `kind_unknown`, `band_empty`, `rails_missing`, `rail_unknown`,
        `tenant_unknown`."""
        _check_corridor(corridor)
        async with tenant_transaction(self._pool, corridor.tenant) as connection:
            await _need_tenant(connection, corridor.tenant)
            known = {row[0] for row in await connection.fetch("select name from rails")}
            unknown = [rail for rail in corridor.rails if rail not in known]
            _check(not unknown, "rail_unknown", f"{', '.join(unknown)}: set the rail up first")
            return await _made(
                connection, _CORRIDOR, corridor.tenant, corridor.name, corridor.country, corridor.currency,
                corridor.kind, corridor.minor_min, corridor.minor_max, list(corridor.rails),
            )  # fmt: skip

    async def corridors(self, tenant: str) -> list[Corridor]:
        """Return a tenant's corridors by name."""
        async with tenant_transaction(self._pool, tenant) as connection:
            rows = await connection.fetch("select * from corridors where tenant = $1 order by name", tenant)
        return [
            Corridor(
                row["tenant"], row["name"], row["currency"], row["kind"], tuple(row["rails"]), row["country"],
                row["minor_min"], row["minor_max"],
            )
            for row in rows
        ]  # fmt: skip

    async def put_policy(self, tenant: str, rules: PolicyRules, *, created_by: str) -> int:
        """Put rules in force and return their version: a new one, or the present one where they are its rules.

        The version in `rules` is not looked at. Refuses `tenant_unknown`."""
        async with tenant_transaction(self._pool, tenant) as connection:
            await _need_tenant(connection, tenant, lock=True)
            row = await connection.fetchrow(
                "select version, rules from policies where tenant = $1 order by version desc limit 1", tenant
            )
            version = row["version"] if row is not None else 0
            wanted = msgspec.structs.replace(rules, version=version)
            if row is not None and msgspec.json.decode(row["rules"], type=PolicyRules) == wanted:
                return version
            wanted = msgspec.structs.replace(rules, version=version + 1)
            await connection.execute(
                "insert into policies (tenant, version, rules, created_by) values ($1, $2, $3, $4)",
                tenant, version + 1, msgspec.json.encode(wanted).decode(), created_by,
            )  # fmt: skip
            return version + 1

    async def policies(self, tenant: str) -> list[PolicyRules]:
        """Return all versions of a tenant's rules, oldest first; the last is in force."""
        async with tenant_transaction(self._pool, tenant) as connection:
            rows = await connection.fetch("select rules from policies where tenant = $1 order by version", tenant)
        return [msgspec.json.decode(row[0], type=PolicyRules) for row in rows]

    async def ensure_system_accounts(self, tenant: str, currency: str) -> list[str]:
        """Open what is missing of settlement, liquidity, fee and suspense in `currency`; return what was opened.

        Refuses `currency_unknown`, `tenant_unknown`."""
        _check(is_currency(currency), "currency_unknown", f"{currency!r}: an ISO 4217 code in capitals")
        async with tenant_transaction(self._pool, tenant) as connection:
            await _need_tenant(connection, tenant)
            return await open_system_accounts(connection, tenant, currency)


def _check(holds: object, reason: str, detail: str) -> None:
    if not holds:
        raise Refusal(reason, detail)


def _check_corridor(corridor: Corridor) -> None:
    kinds: Sequence[str] = [kind.value for kind in IntentKind]
    _check(_NAME.match(corridor.name), "corridor_malformed", f"{corridor.name!r}: 1 to 63 of a-z 0-9 . _ -")
    _check(is_currency(corridor.currency), "currency_unknown", f"{corridor.currency!r}: an ISO 4217 code in capitals")
    _check(corridor.kind in kinds, "kind_unknown", f"{corridor.kind!r}: one of {', '.join(kinds)}")
    upper = corridor.minor_max
    fits = corridor.minor_min >= 1 and (upper is None or upper >= corridor.minor_min)
    _check(fits, "band_empty", "the least amount is at least 1 and not above the greatest")
    _check(corridor.rails, "rails_missing", "name at least one rail, the first choice first")


async def _need_tenant(connection: Connection, tenant: str, *, lock: bool = False) -> None:
    statement = "select true from tenants where id = $1"
    found = await connection.fetchval(statement + " for update" if lock else statement, tenant)
    _check(found, "tenant_unknown", f"there is no tenant {tenant!r}; create it first")


async def _made(connection: Connection, statement: str, *values: object) -> bool:
    """Return whether a statement wrote a row."""
    return not (await connection.execute(statement, *values)).endswith(" 0")


_CORRIDOR: Final = """
insert into corridors as known (tenant, name, country, currency, kind, minor_min, minor_max, rails)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (tenant, name) do update
set country = excluded.country, currency = excluded.currency, kind = excluded.kind, minor_min = excluded.minor_min,
    minor_max = excluded.minor_max, rails = excluded.rails
where (known.country, known.currency, known.kind, known.minor_min, known.minor_max, known.rails) is distinct from
      (excluded.country, excluded.currency, excluded.kind, excluded.minor_min, excluded.minor_max, excluded.rails)
"""
