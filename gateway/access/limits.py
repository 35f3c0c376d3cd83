"""Rate limits at the doors: per tenant and per key, for each class of routes, shared by all gateways through Redis.

- A request takes a token of its tenant and one of its key; what only one of them would give is given back.
- Tokens are leased: a gateway takes from Redis what it spends in a tenth of a second, and spends it without asking. So
  all gateways together never let in more than the quota; what one of them leased and did not spend is missed by the
  others for a second, at most `LEASE_MAX` tokens or a twentieth of the quota, whichever is less.
- Who has to wait for a lease shares the question: one call to Redis serves all that came meanwhile.
- Without Redis each gateway holds the quotas by itself, in its own memory: n gateways let in n times as much, and
  nobody is let in unbounded. Back to Redis it goes a second after Redis answers again.
- A tenant's own quotas are read when it first comes and every ten seconds; where the store cannot say, those known
  last, or the defaults, hold.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from zentra.gateway.http.problems import Caller, Problem
from zentra.runtime.errors import ZentraError
from zentra.runtime.instruments import SILENCE, Instruments
from zentra.runtime.limits import Ask, Grant, LocalBuckets, Per, Quota, RateLimitStore, RouteClass

__all__ = ["Limiter", "Quotas"]

_log = logging.getLogger(__name__)

Quotas = Mapping[tuple[RouteClass, Per], Quota]
Headers = tuple[tuple[bytes, bytes], ...]

LEASE_MAX: Final = 500
LEASE_SHARE: Final = 20  # of a quota, one lease is at most one of so many
LEASE_SECONDS: Final = 0.1  # for how long a lease should last
KEPT_SECONDS: Final = 1.0  # after that a lease is given up: what was not spent fills up again in Redis
DRY_SECONDS_MIN: Final = 0.005  # between two questions about a bucket that is empty
READ_SECONDS: Final = 10.0  # between two readings of a tenant's quotas
PAIRS_MAX: Final = 10_000


class _Lease:
    """What this gateway holds of one bucket."""

    __slots__ = (
        "dry_from", "dry_until", "full_seconds", "granted_at", "least", "left", "name", "per", "quota", "size",
        "tokens", "wanted",
    )  # fmt: skip

    def __init__(self, name: str, per: Per, quota: Quota) -> None:
        # A new quota is a new bucket: what was used up of the old one says nothing of it.
        self.name = f"{name}:{quota.quota}/{quota.window_seconds}"
        self.per, self.quota = per, quota
        self.tokens = self.left = self.wanted = 0
        self.size = self.dry_from = 1
        self.least = quota.quota
        self.granted_at = self.dry_until = -math.inf
        self.full_seconds = 0.0

    def ask(self, now: float) -> Ask:
        """Return the question for what is wanted and for what a tenth of a second will take."""
        since = now - self.granted_at
        spent = self.size - self.tokens
        soon = 1 if since > KEPT_SECONDS else round(spent * LEASE_SECONDS / max(since, 1e-3))
        most = max(1, min(LEASE_MAX, self.quota.quota // LEASE_SHARE))
        least, self.least = self.least, self.quota.quota
        return Ask(self.name, self.quota, max(self.wanted, min(soon, 2 * self.size, most), 1), least)

    def take(self, asked: Ask, grant: Grant, now: float) -> None:
        """Take in what was granted; what is left of the lease before stays."""
        kept = self.tokens if now - self.granted_at <= KEPT_SECONDS else 0
        self.tokens = self.size = kept + grant.tokens
        self.granted_at, self.left, self.full_seconds = now, grant.left, grant.full_seconds
        if grant.tokens < asked.wanted:
            # Where nothing was given, only those who want as much are told to wait.
            self.dry_from = 1 if grant.tokens else asked.least
            self.dry_until = now + max(grant.next_seconds, DRY_SECONDS_MIN)

    def dry(self, weight: int, now: float) -> bool:
        """Return whether asking for so many tokens cannot help yet."""
        return now < self.dry_until and min(weight, self.quota.quota) >= self.dry_from


class _Pair:
    """The two leases of one key, and what its answers say of them."""

    __slots__ = ("key", "policy", "tenant", "words")

    def __init__(self, route_class: RouteClass, tenant: _Lease, key: _Lease) -> None:
        self.tenant, self.key = tenant, key
        said = [(f"{route_class}-{lease.per}", lease.quota) for lease in (tenant, key)]
        policy = ", ".join(f'"{name}";q={quota.quota};w={quota.window_seconds}' for name, quota in said)
        self.policy = (b"ratelimit-policy", policy.encode())
        self.words = [f'"{name}";r='.encode() + b"%d;t=%d" for name, _ in said]

    def headers(self) -> Headers:
        """Return the policies and the leaner of the two buckets, as draft-ietf-httpapi-ratelimit-headers-11 says."""
        tenant, key = self.tenant, self.key
        leaner, words = (key, self.words[1]) if key.tokens + key.left < tenant.tokens + tenant.left else (
            tenant, self.words[0]
        )  # fmt: skip
        return self.policy, (b"ratelimit", words % (leaner.tokens + leaner.left, leaner.full_seconds + 0.999))


class Limiter:
    """The limits of one gateway."""

    def __init__(
        self,
        store: RateLimitStore,
        read_quotas: Callable[[str], Awaitable[Quotas]],
        defaults: Quotas,
        *,
        instruments: Instruments = SILENCE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`defaults` holds a quota for every class and whoever it is per. Raises KeyError where one is missing."""
        for route_class in RouteClass:
            for per in Per:
                defaults[route_class, per]
        self._store, self._read_quotas, self._defaults = store, read_quotas, defaults
        self._instruments, self._monotonic = instruments, monotonic
        self._local = LocalBuckets(monotonic)
        self._pairs: dict[RouteClass, dict[str, _Pair]] = {one: {} for one in RouteClass}
        self._tenants: dict[RouteClass, dict[str, _Lease]] = {one: {} for one in RouteClass}
        self._quotas: dict[str, tuple[float, Quotas]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._due: dict[_Lease, None] = {}
        self._asking: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """End what is being read."""
        running = [*self._reading.values(), *([self._asking] if self._asking else [])]
        if running:
            await asyncio.wait(running)

    def spend_nowait(self, credential: str, route_class: RouteClass) -> Headers | None:
        """Take one token of both buckets where they are at hand, and return the headers; else None, nothing taken."""
        pair = self._pairs[route_class].get(credential)
        if pair is None:
            return None
        tenant, key = pair.tenant, pair.key
        since = self._monotonic() - KEPT_SECONDS
        if tenant.tokens > 0 and key.tokens > 0 and tenant.granted_at >= since and key.granted_at >= since:
            tenant.tokens -= 1
            key.tokens -= 1
            return pair.headers()
        return None

    async def spend(self, caller: Caller, credential: str, route_class: RouteClass, weight: int = 1) -> Headers:
        """Take `weight` tokens of the caller's tenant and of its credential, and return the headers of the answer.

        A weight above a quota counts as the quota: it waits for a full bucket. Raises Problem `rate_limited`."""
        pair = await self._pair(caller.tenant, credential, route_class)
        leases = (pair.tenant, pair.key)
        while True:
            now = self._monotonic()
            short = [lease for lease in leases if not _has(lease, weight, now)]
            if not short:
                break
            dry = [lease.dry_until - now for lease in short if lease.dry(weight, now)]
            if dry:
                raise self._refusal(pair, caller, max(dry))
            await self._refill(short, weight)
        for lease in leases:
            lease.tokens -= min(weight, lease.quota.quota)
        return pair.headers()

    def _refusal(self, pair: _Pair, caller: Caller, seconds: float) -> Problem:
        self._instruments.count("requests_limited")
        retry = max(1, math.ceil(seconds))
        return Problem("rate_limited", retry_after=retry, headers=pair.headers(), caller=caller,
                       members={"retry_after_seconds": retry})  # fmt: skip

    async def _pair(self, tenant: str, credential: str, route_class: RouteClass) -> _Pair:
        known = self._quotas.get(tenant)
        if known is None:
            await asyncio.shield(self._read(tenant))
        elif self._monotonic() - known[0] >= READ_SECONDS:
            self._read(tenant)  # meanwhile those known hold
        pairs = self._pairs[route_class]
        pair = pairs.get(credential)
        if pair is None:
            own = self._quotas[tenant][1]
            quotas = {per: own.get((route_class, per), self._defaults[route_class, per]) for per in Per}
            lease = self._tenants[route_class].get(tenant)
            if lease is None:
                lease = _Lease(f"{tenant}:{route_class}", Per.TENANT, quotas[Per.TENANT])
                self._tenants[route_class][tenant] = lease
            if len(pairs) >= PAIRS_MAX:
                pairs.clear()  # what was leased for them fills up again
            key = _Lease(f"{tenant}:{route_class}:{credential}", Per.KEY, quotas[Per.KEY])
            pair = pairs[credential] = _Pair(route_class, lease, key)
        return pair

    def _read(self, tenant: str) -> asyncio.Task[None]:
        reading = self._reading.get(tenant)
        if reading is None:
            reading = self._reading[tenant] = asyncio.create_task(self._read_now(tenant), name="quotas")
        return reading

    async def _read_now(self, tenant: str) -> None:
        known = self._quotas.get(tenant)
        try:
            own = await self._read_quotas(tenant)
        except ZentraError as error:
            _log.warning("quotas of a tenant are not known", extra={"tenant": tenant, "error": str(error)})
            own = known[1] if known is not None else {}
        finally:
            del self._reading[tenant]
        if known is None or own != known[1]:
            self._forget(tenant)
        if len(self._quotas) >= PAIRS_MAX:
            self._quotas.clear()
        self._quotas[tenant] = (self._monotonic(), own)

    def _forget(self, tenant: str) -> None:
        """Let the tenant's leases go, so that the next request makes them anew with the quotas that hold then."""
        for route_class in RouteClass:
            lease = self._tenants[route_class].pop(tenant, None)
            pairs = self._pairs[route_class]
            for credential in [name for name, pair in pairs.items() if pair.tenant is lease]:
                del pairs[credential]

    async def _refill(self, leases: list[_Lease], weight: int) -> None:
        for lease in leases:
            lease.wanted += min(weight, lease.quota.quota)
            lease.least = min(weight, lease.least)
            self._due[lease] = None
        try:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask(), name="rate limits")
            await asyncio.shield(self._asking)
        finally:
            for lease in leases:
                lease.wanted -= min(weight, lease.quota.quota)

    async def _ask(self) -> None:
        """Ask about every bucket that is due; whoever comes while the answer is on its way asks again."""
        try:
            now = self._monotonic()
            due, self._due = list(self._due), {}
            asks = [lease.ask(now) for lease in due]
            grants = await self._store.take(asks)
            if grants is None:
                self._instruments.count("limits_degraded")
                grants = [self._local.take_nowait(ask) for ask in asks]
            now = self._monotonic()
            for lease, ask, grant in zip(due, asks, grants, strict=True):
                lease.take(ask, grant, now)
        finally:
            self._asking = None


def _has(lease: _Lease, weight: int, now: float) -> bool:
    return lease.tokens >= min(weight, lease.quota.quota) and now - lease.granted_at <= KEPT_SECONDS
