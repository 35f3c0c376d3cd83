"""What an operator sets up: tenants, people, keys, limits, corridors, rails and policies; over the owner's connection.

- Doing it twice is doing it once: the same again changes nothing, something else under the same name is refused.
- Nothing is made on the side: a tenant is a tenant and has no accounts, people or rules until somebody makes them.
- The text of an API key is returned once and stored nowhere.
- A tenant is in the world of tests or in the live one, for ever, and so are its keys and the rails it reaches.
- A refusal names what is wrong and what to do about it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from zentra.runtime.compliance.rules import flaw_of
from zentra.runtime.errors import Refusal
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.keys import RANDOM_BYTES, make_key, parse_key
from zentra.runtime.ledger.money import is_currency
from zentra.runtime.limits import QUOTA_MAX, WINDOW_SECONDS_MAX, Per, Quota, RouteClass
from zentra.runtime.names import is_principal, is_tenant
from zentra.runtime.policy import PolicyRules
from zentra.runtime.policy.document import document_of, rules_of
from zentra.runtime.rails.document import spelled
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor, routes_of
from zentra.runtime.roles import ROLES, unknown_scopes
from zentra.storage.errors import translated
from zentra.storage.policies import POLICIES, install_policy
from zentra.storage.pool import Connection, Pool, tenant_transaction, transaction
from zentra.storage.rails import put_rail
from zentra.storage.routes import ROUTES, corridors_in_force

__all__ = ["Administration", "ApiKey", "Certificate", "IssuedKey", "Mode", "Principal", "RateLimit", "Tenant"]

Mode = Literal["test", "live"]
NAME_LENGTH_MAX: Final = 100
IDENTITY_LENGTH_MAX: Final = 255
OVERLAP_MAX: Final = timedelta(days=30)  # a key that is being replaced for longer is not being replaced
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)


class Tenant(Struct, frozen=True):
    """A tenant."""

    id: str
    name: str
    mode: Mode
    created_at: datetime


class Principal(Struct, frozen=True):
    """A person or program of a tenant, and what it may do."""

    tenant: str
    id: str
    name: str
    role: str
    created_at: datetime
    disabled_at: datetime | None = None


class ApiKey(Struct, frozen=True):
    """A key as it is stored: without its secret. `last_used_at` may be half a minute old."""

    id: str
    tenant: str
    principal: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    name: str
    scopes: Sequence[str] | None
    networks: Sequence[str] | None
    replaces: str | None
    last_used_at: datetime | None


class Certificate(Struct, frozen=True):
    """What the certificate of a service says, and who that is."""

    identity: str
    tenant: str
    principal: str
    scopes: Sequence[str] | None
    created_at: datetime
    revoked_at: datetime | None


class RateLimit(Struct, frozen=True):
    """A limit of one tenant's own."""

    route_class: RouteClass
    per: Per
    quota: int
    window_seconds: int


class IssuedKey(Struct, frozen=True):
    """A key as it is handed over: this is the only time its text is seen."""

    id: str
    text: str


class Administration:
    """The operator's hand on an installation. Every method raises Refusal with its reason, or Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = self.pool = pool

    async def create_tenant(self, tenant: str, name: str, *, mode: Mode = "test") -> bool:
        """Return whether the tenant is new.

        Refuses `tenant_malformed`, `tenant_exists` (under another name, or in the other world)."""
        _check(is_tenant(tenant), "tenant_malformed", f"{tenant!r}: 2 to 31 of a-z 0-9 -, a letter first")
        async with tenant_transaction(self._pool, tenant) as connection:
            insert = "insert into tenants (id, name, mode) values ($1, $2, $3) on conflict do nothing"
            if await _made(connection, insert, tenant, name, mode):
                return True
            known = await connection.fetchrow("select name, mode from tenants where id = $1", tenant)
            same = known is not None and tuple(known) == (name, mode)
            _check(same, "tenant_exists", f"{tenant} exists with another name or mode; choose another id")
            return False

    async def tenants(self) -> list[Tenant]:
        """Return all tenants by id."""
        with translated():
            return [
                Tenant(*row)
                for row in await self._pool.fetch("select id, name, mode, created_at from tenants order by id")
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
                "select tenant, id, name, role, created_at, disabled_at from principals where tenant = $1 order by id",
                tenant,
            )
        return [Principal(*row) for row in rows]

    async def disable_principal(self, tenant: str, principal: str) -> bool:
        """Return whether the principal could come in until now: keys, certificates and tokens open nothing any more.

        Refuses `principal_unknown`."""
        async with tenant_transaction(self._pool, tenant) as connection:
            disable = "update principals set disabled_at = now() where tenant = $1 and id = $2 and disabled_at is null"
            if await _made(connection, disable, tenant, principal):
                return True
            await _need_principal(connection, tenant, principal)
            return False

    async def create_api_key(
        self,
        tenant: str,
        principal: str,
        *,
        name: str = "",
        scopes: Collection[str] | None = None,
        networks: Collection[str] | None = None,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Return a new key of the tenant's world, its text included; it may do what the role and its `scopes` allow.

        Refuses `key_malformed`, `scope_unknown`, `network_malformed`, `principal_unknown`."""
        _check(len(name) <= NAME_LENGTH_MAX, "key_malformed", f"a name has at most {NAME_LENGTH_MAX} characters")
        _check_scopes(scopes)
        for network in networks or ():
            _check(_is_network(network), "network_malformed", f"{network!r}: a network such as 192.0.2.0/24")
        async with tenant_transaction(self._pool, tenant) as connection:
            await _need_principal(connection, tenant, principal)
            given = sorted(scopes) if scopes is not None else None
            return await _issue(
                connection, tenant, principal, expires_at, name, given, sorted(networks) if networks else None, None
            )

    async def rotate_api_key(self, tenant: str, key_id: str, *, overlap: timedelta) -> IssuedKey:
        """Return a key that may do what the old one may, which works for `overlap` longer and no more.

        An expiry of the old key holds for the old one alone, where it comes first. Refuses `api_key_unknown`,
        `api_key_revoked` and `overlap_malformed`."""
        _check(timedelta(0) <= overlap <= OVERLAP_MAX, "overlap_malformed", f"0 to {OVERLAP_MAX.days} days")
        async with tenant_transaction(self._pool, tenant) as connection:
            old = await connection.fetchrow(
                "select principal, name, scopes, networks::text[] as networks, revoked_at is not null as revoked"
                " from api_keys where tenant = $1 and id = $2 for update",
                tenant, key_id,
            )  # fmt: skip
            _check(old, "api_key_unknown", f"{tenant} has no key {key_id!r}; list its keys to see their ids")
            assert old is not None
            _check(not old["revoked"], "api_key_revoked", f"key {key_id} is revoked; make a new one")
            await connection.execute(
                "update api_keys set expires_at = least(expires_at, now() + $3) where tenant = $1 and id = $2",
                tenant, key_id, overlap,
            )  # fmt: skip
            return await _issue(
                connection, tenant, old["principal"], None, old["name"], old["scopes"], old["networks"], key_id
            )

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
                "select id, tenant, principal, created_at, expires_at, revoked_at, name, scopes, networks::text[],"
                " replaces, last_used_at from api_keys where tenant = $1 order by created_at, id",
                tenant,
            )
        return [ApiKey(*row) for row in rows]

    async def put_certificate(
        self, tenant: str, principal: str, identity: str, *, scopes: Collection[str] | None = None
    ) -> bool:
        """Let whoever proves `identity` by a certificate be `principal`; return whether anything is different now.

        Refuses `identity_malformed`, `scope_unknown`, `principal_unknown`, `identity_exists` (as somebody else)."""
        sound = 0 < len(identity) <= IDENTITY_LENGTH_MAX and identity.isprintable()
        _check(sound, "identity_malformed", f"1 to {IDENTITY_LENGTH_MAX} printable characters")
        _check_scopes(scopes)
        async with tenant_transaction(self._pool, tenant) as connection:
            await _need_principal(connection, tenant, principal)
            given = sorted(scopes) if scopes is not None else None
            if await _made(connection, _CERTIFICATE, identity, tenant, principal, given):
                return True
            same = await connection.fetchval(
                "select principal = $3 and scopes is not distinct from $4::text[] and revoked_at is null"
                " from certificates where identity = $1 and tenant = $2",
                identity, tenant, principal, given,
            )  # fmt: skip
            _check(same, "identity_exists", f"{identity} is somebody else, or was revoked; choose another identity")
            return False

    async def revoke_certificate(self, tenant: str, identity: str) -> bool:
        """Return whether the identity was let in until now. Refuses `identity_unknown`."""
        async with tenant_transaction(self._pool, tenant) as connection:
            if await _made(
                connection,
                "update certificates set revoked_at = now() where tenant = $1 and identity = $2 and revoked_at is null",
                tenant,
                identity,
            ):
                return True
            known = await connection.fetchval(
                "select true from certificates where tenant = $1 and identity = $2", tenant, identity
            )
            _check(known, "identity_unknown", f"{tenant} has no identity {identity!r}")
            return False

    async def certificates(self, tenant: str) -> list[Certificate]:
        """Return a tenant's identities in order."""
        async with tenant_transaction(self._pool, tenant) as connection:
            rows = await connection.fetch(
                "select identity, tenant, principal, scopes, created_at, revoked_at from certificates"
                " where tenant = $1 order by identity",
                tenant,
            )
        return [Certificate(*row) for row in rows]

    async def put_rate_limit(self, tenant: str, route_class: RouteClass, per: Per, quota: Quota) -> bool:
        """Give a tenant a limit of its own; return whether anything is different now. In force within ten seconds.

        Refuses `limit_malformed`, `tenant_unknown`."""
        sound = 1 <= quota.quota <= QUOTA_MAX and 1 <= quota.window_seconds <= WINDOW_SECONDS_MAX
        _check(sound, "limit_malformed", f"1 to {QUOTA_MAX} within 1 to {WINDOW_SECONDS_MAX} seconds")
        async with tenant_transaction(self._pool, tenant) as connection:
            await _need_tenant(connection, tenant)
            return await _made(connection, _LIMIT, tenant, route_class, per, quota.quota, quota.window_seconds)

    async def rate_limits(self, tenant: str) -> list[RateLimit]:
        """Return a tenant's own limits; where there is none, the installation's defaults hold."""
        async with tenant_transaction(self._pool, tenant) as connection:
            rows = await connection.fetch(
                "select class, per, quota, window_seconds from rate_limits where tenant = $1 order by class, per",
                tenant,
            )
        return [RateLimit(RouteClass(row[0]), Per(row[1]), row[2], row[3]) for row in rows]

    async def put_rail(self, settings: RailSettings, *, moved: bool = False) -> bool:
        """Set a rail up or change it; return whether anything is different now. See `zentra.storage.rails.put_rail`."""
        return await put_rail(self._pool, settings, moved=moved)

    async def seal_rail(self, seen: RailSettings, sealed: RailSettings) -> bool:
        """Put sealed secrets in the place of the plain ones that were seen; return whether those still stood there."""
        async with transaction(self._pool) as connection:
            secrets, tokens = (msgspec.json.encode(value).decode() for value in (seen.secrets, sealed.sealed))
            return await _made(connection, _SEAL_RAIL, seen.name, seen.secret, secrets, tokens)

    async def rails(self) -> list[RailSettings]:
        """Return all rails by name."""
        with translated():
            rows = await self._pool.fetch("select settings from rails order by name")
        return [msgspec.json.decode(row[0], type=RailSettings) for row in rows]

    async def put_corridor(self, corridor: Corridor) -> bool:
        """Set a corridor up or change it, as a new version of the tenant's routes; return whether anything is different
        now.

        Refuses `corridor_malformed`, `currency_unknown`, `kind_unknown`, `band_empty`, `rails_missing`, `rail_unknown`,
        `rail_mode_differs` (a rail of the other world), `tenant_unknown`."""
        _check_corridor(corridor)
        async with tenant_transaction(self._pool, corridor.tenant) as connection:
            await _need_tenant(connection, corridor.tenant)
            mode = await connection.fetchval("select mode from tenants where id = $1", corridor.tenant)
            rows = await connection.fetch("select settings from rails")
            known = {rail.name: rail.mode for rail in (msgspec.json.decode(row[0], type=RailSettings) for row in rows)}
            unknown = [rail for rail in corridor.rails if rail not in known]
            _check(not unknown, "rail_unknown", f"{', '.join(unknown)}: set the rail up first")
            foreign = [rail for rail in corridor.rails if known[rail] != mode]
            _check(not foreign, "rail_mode_differs", f"{', '.join(foreign)}: a {mode} tenant takes {mode} rails")
            await ROUTES.lock(connection, corridor.tenant)
            present = {one.name: one for one in await corridors_in_force(connection, corridor.tenant)}
            put = replace(corridor, routes=routes_of(corridor))
            before = present.get(corridor.name)
            if before is not None and replace(before, version=put.version) == put:
                return False
            await ROUTES.install(
                connection, corridor.tenant, spelled([*{**present, put.name: put}.values()]), "operator"
            )
            return True

    async def corridors(self, tenant: str) -> list[Corridor]:
        """Return a tenant's corridors by name; one that only names its rails in order says no more of them."""
        async with tenant_transaction(self._pool, tenant) as connection:
            found = await corridors_in_force(connection, tenant)
        return [one if _says_more(one) else replace(one, routes=(), version=0) for one in found]

    async def put_policy(self, tenant: str, rules: PolicyRules, *, created_by: str) -> int:
        """Put rules in force at once and return their version: a new one, or the present one where they are its rules.

        The version in `rules` is not looked at. Refuses `tenant_unknown`, `compliance_malformed`."""
        flaw = None if rules.compliance is None else flaw_of(rules.compliance)
        _check(flaw is None, "compliance_malformed", str(flaw))
        async with tenant_transaction(self._pool, tenant) as connection:
            await _need_tenant(connection, tenant, lock=True)
            return await install_policy(connection, tenant, document_of(rules), created_by)

    async def policies(self, tenant: str) -> list[PolicyRules]:
        """Return all versions of a tenant's rules, oldest first; what is no valid document is `unusable`."""
        return [rules_of(view.document, view.version) for view in reversed(await POLICIES.views(self._pool, tenant))]


def _check(holds: object, reason: str, detail: str) -> None:
    if not holds:
        raise Refusal(reason, detail)


def _says_more(corridor: Corridor) -> bool:
    return corridor.routes != routes_of(replace(corridor, routes=()))


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


async def _need_principal(connection: Connection, tenant: str, principal: str) -> None:
    found = await connection.fetchval("select true from principals where tenant = $1 and id = $2", tenant, principal)
    _check(found, "principal_unknown", f"{tenant} has no principal {principal!r}; create it first")


async def _issue(
    connection: Connection, tenant: str, principal: str, expires_at: datetime | None, *rest: object
) -> IssuedKey:
    """Make a key of the tenant's world; `rest` is name, scopes, networks and the key it replaces."""
    mode = await connection.fetchval("select mode from tenants where id = $1", tenant)
    key_id, text = make_key(secrets.token_bytes(RANDOM_BYTES), live=mode == "live")
    parsed = parse_key(text)
    assert parsed is not None
    await connection.execute(_KEY, key_id, tenant, principal, parsed.secret_hash, expires_at, *rest)
    return IssuedKey(key_id, text)


def _check_scopes(scopes: Collection[str] | None) -> None:
    unknown = unknown_scopes(scopes or ())
    _check(not unknown, "scope_unknown", f"{', '.join(unknown)}: a scope is a permission such as intents:read")
    _check(scopes is None or scopes, "scope_unknown", "name at least one scope, or leave scopes out")


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


async def _made(connection: Connection, statement: str, *values: object) -> bool:
    """Return whether a statement wrote a row."""
    return not (await connection.execute(statement, *values)).endswith(" 0")


_KEY: Final = """
insert into api_keys (id, tenant, principal, secret_hash, expires_at, name, scopes, networks, replaces)
values ($1, $2, $3, $4, $5, $6, $7, $8::text[]::cidr[], $9)
"""
_CERTIFICATE: Final = """
insert into certificates (identity, tenant, principal, scopes) values ($1, $2, $3, $4) on conflict do nothing
"""
_SEAL_RAIL: Final = """
update rails set settings = settings - 'secret' - 'secrets' || jsonb_build_object('sealed', $4::text::jsonb)
where name = $1 and coalesce(settings->>'secret', '') = $2 and coalesce(settings->'secrets', '{}') = $3::text::jsonb
"""
_LIMIT: Final = """
insert into rate_limits as known (tenant, class, per, quota, window_seconds) values ($1, $2, $3, $4, $5)
on conflict (tenant, class, per) do update set quota = excluded.quota, window_seconds = excluded.window_seconds
where (known.quota, known.window_seconds) <> (excluded.quota, excluded.window_seconds)
"""
