"""Building what lets people in: authenticator and limiter of a gateway on the real stores, from the settings."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial

from zentra.gateway.access.issuers import IssuerKeys, fetching, parse_issuers
from zentra.gateway.access.limits import Limiter, Quotas
from zentra.gateway.access.tokens import Claimed, TokenVerifier
from zentra.gateway.access.used import UsedKeys
from zentra.gateway.http.auth import Authenticator, StoredApiKey, StoredCertificate
from zentra.gateway.metrics import Metrics
from zentra.gateway.outward.http import OutwardHttp
from zentra.gateway.settings import Settings, SettingsError
from zentra.runtime.limits import Per, RouteClass, parse_quota
from zentra.storage.limits import RedisLimits
from zentra.storage.pool import Pool
from zentra.storage.reads import access

__all__ = ["default_quotas", "open_access"]


def open_access(
    settings: Settings, stack: AsyncExitStack, tenant_pool: Pool, writer_pool: Pool, http: OutwardHttp, metrics: Metrics
) -> tuple[Authenticator, Limiter]:
    """Return who lets in keys, tokens and certificates, and who holds the limits; both end with `stack`.

    Raises SettingsError for issuers and limits that cannot be read."""
    issuers = parse_issuers(settings.issuers, plain_allowed=settings.private_addresses)
    known = {name: (issuer, IssuerKeys(name, fetching(issuer, http))) for name, issuer in issuers.items()}
    used = UsedKeys(partial(access.note_used, writer_pool))
    stack.push_async_callback(used.aclose)
    authenticator = Authenticator(
        partial(_find_key, tenant_pool),
        find_certificate=partial(_find_certificate, tenant_pool),
        certificates_required=settings.client_certificates == "required",
        tokens=TokenVerifier(known, partial(_find_claims, tenant_pool), time.time) if known else None,
        on_used=used.add,
        instruments=metrics,
    )
    store = RedisLimits.open(settings.redis_url)
    stack.push_async_callback(store.aclose)
    limiter = Limiter(
        store, partial(access.tenant_quotas, tenant_pool), default_quotas(settings), instruments=metrics
    )  # fmt: skip
    stack.push_async_callback(limiter.aclose)
    return authenticator, limiter


def default_quotas(settings: Settings) -> Quotas:
    """Return what holds for a tenant without limits of its own: a key may use all of its tenant's.

    Raises SettingsError."""
    quotas = {}
    for route_class in RouteClass:
        quota = parse_quota(getattr(settings, f"rate_{route_class}"))
        if quota is None:
            raise SettingsError(f"ZENTRA_RATE_{route_class.upper()}: requests/seconds, such as 6000/60")
        for per in Per:
            quotas[route_class, per] = quota
    return quotas


async def _find_key(pool: Pool, key_id: str) -> StoredApiKey | None:
    row = await access.find_key(pool, key_id)
    return None if row is None else StoredApiKey(
        row.tenant, row.principal, row.role, row.secret_hash, row.expires_at, row.revoked_at, row.mode,
        None if row.scopes is None else frozenset(row.scopes), row.networks, row.disabled_at,
    )  # fmt: skip


async def _find_certificate(pool: Pool, identity: str) -> StoredCertificate | None:
    row = await access.find_certificate(pool, identity)
    return None if row is None else StoredCertificate(
        row.tenant, row.principal, row.role, row.mode, None if row.scopes is None else frozenset(row.scopes),
        row.revoked_at, row.disabled_at,
    )  # fmt: skip


async def _find_claims(pool: Pool, tenant: str, principal: str) -> Claimed | None:
    row = await access.find_claims(pool, tenant, principal)
    return None if row is None else Claimed(row.mode, row.role, row.disabled_at is not None)
