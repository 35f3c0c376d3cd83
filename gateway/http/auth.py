"""Who is asking, and what they may do: keys, tokens and certificates in, principals out.

- A key is believed when the SHA-256 of its text equals what is stored, compared in constant time.
- What a key or a certificate is worth is remembered for at most five seconds, a good token for at most a minute, and so
  is that one is worth nothing; a revocation is in force everywhere after that. The memory is bounded and holds digests.
- Requests that ask about one credential at once ask the store once.
- A key is of one world, test or live, and works for a tenant of that world alone.
- Who shows a certificate and a key or token needs both to be good and of one tenant; the key says who is asking.
- An address that fails too often is refused unseen, but for credentials that were good within the last ten minutes:
  those are judged as ever, so a revocation is in force for them as soon as for others.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from msgspec import Struct

from zentra.gateway.access.certificates import SCOPE_KEY, ClientCertificate
from zentra.gateway.access.floods import Floods
from zentra.gateway.access.tokens import TOKEN_BYTES_MAX, TokenRefused, TokenVerifier
from zentra.gateway.http.problems import Caller, Problem
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import SILENCE, Instruments
from zentra.runtime.keys import parse_key
from zentra.runtime.roles import ROLES, Permission, granted

__all__ = ["ROLES", "Authenticator", "Permission", "Principal", "StoredApiKey", "StoredCertificate"]

REMEMBERED_SECONDS_MAX: Final = 5.0
REMEMBERED_MAX: Final = 10_000  # an attacker's guesses must not fill the memory
FAMILIAR_SECONDS: Final = 600.0  # beyond the end of belief


class Principal(Struct, frozen=True):
    """Somebody of a tenant, authenticated. `credential` is what rate limits per key count by."""

    tenant: str
    id: str
    role: str
    permissions: frozenset[Permission]
    credential: str = "-"
    mode: str = "test"
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None


class StoredApiKey(Struct, frozen=True):
    """What the store knows of a key."""

    tenant: str
    principal: str
    role: str
    secret_hash: bytes
    expires_at: datetime | None
    revoked_at: datetime | None
    mode: str = "test"
    scopes: Collection[str] | None = None
    networks: Sequence[str] | None = None
    disabled_at: datetime | None = None


class StoredCertificate(Struct, frozen=True):
    """What the store knows of the identity of a service."""

    tenant: str
    principal: str
    role: str
    mode: str
    scopes: Collection[str] | None
    revoked_at: datetime | None
    disabled_at: datetime | None


class _Refused(Struct, frozen=True):
    """A credential that is worth nothing: why, and whose it was where that is certain."""

    code: str
    caller: Caller | None = None


_Verdict = Principal | _Refused
_Judge = Callable[[], Awaitable[tuple[_Verdict, float]]]


class Authenticator:
    """Answers who a request comes from."""

    def __init__(
        self,
        find_key: Callable[[str], Awaitable[StoredApiKey | None]],
        *,
        find_certificate: Callable[[str], Awaitable[StoredCertificate | None]] | None = None,
        certificates_required: bool = False,
        tokens: TokenVerifier | None = None,
        floods: Floods | None = None,
        on_used: Callable[[str, datetime], None] = lambda key_id, at: None,
        instruments: Instruments = SILENCE,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`on_used` hears of a key and when it was used, at most once in five seconds per key."""
        self._find_key, self._find_certificate = find_key, find_certificate
        self._certificates_required, self._tokens = certificates_required, tokens
        self._floods = floods if floods is not None else Floods(monotonic=monotonic)
        self._on_used, self._instruments = on_used, instruments
        self._monotonic, self._now = monotonic, now
        # Apart, so that a flood of wrong keys cannot push out the right ones. Whoever was believed stays familiar.
        self._believed: dict[bytes, tuple[float, Principal]] = {}
        self._refused: dict[bytes, tuple[float, _Refused]] = {}
        self._asking: dict[bytes, asyncio.Future[_Verdict]] = {}

    async def authenticate(self, header: bytes | None, scope: Mapping[str, Any] | None = None) -> Principal:
        """Return who asks with this `authorization` header, over the connection that the ASGI scope describes.

        Raises Problem (401, 403 for another network, 429 for an address that guesses), and Unavailable where nobody can
        tell."""
        if scope is None:
            scope = _NOWHERE
        certificate = scope.get(SCOPE_KEY)
        if certificate is not None or self._certificates_required:
            return await self._by_certificate(certificate, header, scope)
        return await self._by_header(header, scope)

    async def _by_header(self, header: bytes | None, scope: Mapping[str, Any]) -> Principal:
        if header is None:
            raise Problem("authentication_required", headers=_CHALLENGE)
        if header[:7].lower() != b"bearer ":
            raise Problem("key_invalid", headers=_CHALLENGE)
        key = header[7:].strip()
        if len(key) > TOKEN_BYTES_MAX:
            raise Problem("token_too_large", headers=_CHALLENGE)
        digest = sha256(key).digest()
        known = self._believed.get(digest)
        if known is not None and self._monotonic() < known[0]:
            principal = known[1]
        else:
            principal = await self._look_up(digest, lambda: self._judge(key), scope)
        if principal.networks is not None and not _within(_address(scope), principal.networks):
            who = Caller(principal.tenant, principal.id, principal.role)
            raise Problem("network_refused", caller=who)
        return principal

    async def _by_certificate(
        self, certificate: ClientCertificate | None, header: bytes | None, scope: Mapping[str, Any]
    ) -> Principal:
        if certificate is None:
            raise Problem("certificate_required")
        if certificate.not_after <= self._now().timestamp():
            raise Problem("certificate_expired")  # connections may outlive what they began with
        known = self._believed.get(certificate.digest)
        if known is not None and self._monotonic() < known[0]:
            principal = known[1]
        else:
            principal = await self._look_up(
                certificate.digest, lambda: self._judge_certificate(certificate.identity), scope
            )
        if header is None:
            return principal
        asking = await self._by_header(header, scope)
        if asking.tenant != principal.tenant:
            raise Problem("credentials_disagree", caller=Caller(asking.tenant, asking.id, asking.role))
        return asking

    async def _look_up(self, digest: bytes, judge: _Judge, scope: Mapping[str, Any]) -> Principal:
        """Return who a credential is that is not known to be good; raises Problem and Unavailable."""
        address = _address(scope)
        seconds = self._floods.shut_seconds(address)
        if seconds > 0 and not self._is_familiar(digest):
            self._instruments.count("failures_shut")
            raise Problem("rate_limited", "too many failures from this address", retry_after=math.ceil(seconds))
        known = self._refused.get(digest)
        verdict = known[1] if known is not None and self._monotonic() < known[0] else await self._ask(digest, judge)
        if isinstance(verdict, _Refused):
            self._floods.failed(address)
            raise Problem(verdict.code, headers=_CHALLENGE, caller=verdict.caller)
        return verdict

    def _is_familiar(self, digest: bytes) -> bool:
        """Return whether a credential was good a while ago, and has not been found worthless since."""
        known = self._believed.get(digest)
        return known is not None and self._monotonic() < known[0] + FAMILIAR_SECONDS

    async def _ask(self, digest: bytes, judge: _Judge) -> _Verdict:
        asking = self._asking.get(digest)
        if asking is not None:
            return await asyncio.shield(asking)
        asking = self._asking[digest] = asyncio.get_running_loop().create_future()
        asking.add_done_callback(_retrieved)
        try:
            verdict, seconds = await judge()
        except BaseException as error:
            # Those who wait get the same weather; a cancelled asker must not leave them without an answer.
            asking.set_exception(error if isinstance(error, Exception) else Unavailable("the asker was cancelled"))
            raise
        finally:
            del self._asking[digest]
        until = self._monotonic() + seconds
        if isinstance(verdict, _Refused):
            self._believed.pop(digest, None)
            _remember(self._refused, digest, (until, verdict))
        else:
            self._refused.pop(digest, None)
            _remember(self._believed, digest, (until, verdict))
        asking.set_result(verdict)
        return verdict

    async def _judge(self, credential: bytes) -> tuple[_Verdict, float]:
        """Return what a key or a token is worth, and for how many seconds that may be believed."""
        text = credential.decode("ascii", "replace")
        if self._tokens is not None and not text.startswith("zk_"):
            return await self._judge_token(self._tokens, text)
        parsed = parse_key(text)
        if parsed is None:
            return _Refused("key_invalid"), REMEMBERED_SECONDS_MAX
        stored = await self._find_key(parsed.id)
        if stored is None or not hmac.compare_digest(stored.secret_hash, parsed.secret_hash):
            # Whoever holds a wrong secret is nobody, whatever key id they name.
            return _Refused("key_invalid"), REMEMBERED_SECONDS_MAX
        owner = Caller(stored.tenant, stored.principal, stored.role)
        if parsed.live is not (stored.mode == "live"):
            return _Refused("key_invalid", owner), REMEMBERED_SECONDS_MAX
        if stored.revoked_at is not None:
            return _Refused("key_revoked", owner), REMEMBERED_SECONDS_MAX
        if stored.disabled_at is not None:
            return _Refused("principal_disabled", owner), REMEMBERED_SECONDS_MAX
        now, seconds = self._now(), REMEMBERED_SECONDS_MAX
        if stored.expires_at is not None:
            seconds = min(seconds, (stored.expires_at - now).total_seconds())
            if seconds <= 0:
                return _Refused("key_expired", owner), REMEMBERED_SECONDS_MAX
        self._on_used(parsed.id, now)
        networks = None if stored.networks is None else tuple(map(ip_network, stored.networks))
        return Principal(
            stored.tenant, stored.principal, stored.role, granted(stored.role, stored.scopes), parsed.id, stored.mode,
            networks,
        ), seconds  # fmt: skip

    async def _judge_token(self, tokens: TokenVerifier, text: str) -> tuple[_Verdict, float]:
        try:
            spoken = await tokens.verify(text)
        except TokenRefused as refused:
            caller = Caller(refused.tenant, refused.principal, refused.role)
            return _Refused(refused.code, caller), REMEMBERED_SECONDS_MAX
        credential = f"{spoken.tenant}/{spoken.principal}"
        permissions = granted(spoken.role, spoken.scopes)
        who = Principal(spoken.tenant, spoken.principal, spoken.role, permissions, credential, spoken.mode)
        return who, spoken.seconds

    async def _judge_certificate(self, identity: str) -> tuple[_Verdict, float]:
        find = self._find_certificate
        stored = await find(identity) if find is not None and identity else None
        if stored is None:
            return _Refused("certificate_unknown"), REMEMBERED_SECONDS_MAX
        owner = Caller(stored.tenant, stored.principal, stored.role)
        for at, code in ((stored.revoked_at, "certificate_revoked"), (stored.disabled_at, "principal_disabled")):
            if at is not None:
                return _Refused(code, owner), REMEMBERED_SECONDS_MAX
        permissions = granted(stored.role, stored.scopes)
        credential = f"{stored.tenant}/{stored.principal}"
        who = Principal(stored.tenant, stored.principal, stored.role, permissions, credential, stored.mode)
        return who, REMEMBERED_SECONDS_MAX


_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="zentra"'),)
_NOWHERE: Final[Mapping[str, Any]] = {}


def _remember(kept: dict[bytes, Any], digest: bytes, verdict: object) -> None:
    """Keep a verdict as the latest; where there is no room, what was judged longest ago is forgotten."""
    kept.pop(digest, None)
    if len(kept) >= REMEMBERED_MAX:
        del kept[next(iter(kept))]
    kept[digest] = verdict


def _address(scope: Mapping[str, Any]) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def _within(address: str | None, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        source = ip_address(address or "")
    except ValueError:
        return False
    return any(source in network for network in networks)


def _retrieved(asked: asyncio.Future[_Verdict]) -> None:
    """Look at the exception, because asyncio complains of one that nobody waited for."""
    asked.exception()
