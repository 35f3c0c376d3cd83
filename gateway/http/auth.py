"""Who is asking, and what they may do: API keys in, principals out, one table of roles.

- A key is believed when the SHA-256 of its text equals what is stored, compared in constant time.
- What a key is worth is remembered for at most five seconds, and so is that it is worth nothing; a revocation is in
  force everywhere after that. The memory is bounded and holds digests, never keys.
- Requests that ask about one key at once ask the store once.
- Deny is the default: a role has the permissions of its row and no others.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

from msgspec import Struct

from zentra.gateway.http.problems import Caller, Problem
from zentra.runtime.errors import Unavailable
from zentra.runtime.keys import parse_key

__all__ = ["ROLES", "Authenticator", "Permission", "Principal", "StoredApiKey"]

REMEMBERED_SECONDS_MAX: Final = 5.0
REMEMBERED_MAX: Final = 10_000  # an attacker's guesses must not fill the memory


class Permission(StrEnum):
    """One thing that a role may do."""

    INTENTS_CREATE = "intents:create"
    INTENTS_READ = "intents:read"
    INTENTS_CANCEL = "intents:cancel"
    INTENTS_REVERSE = "intents:reverse"
    ACCOUNTS_CREATE = "accounts:create"
    ACCOUNTS_READ = "accounts:read"
    ENDPOINTS_CREATE = "endpoints:create"
    ENDPOINTS_READ = "endpoints:read"
    DELIVERIES_READ = "deliveries:read"
    DELIVERIES_REPLAY = "deliveries:replay"
    EVIDENCE_READ = "evidence:read"
    REVIEWS_READ = "reviews:read"
    REVIEWS_DECIDE = "reviews:decide"
    CASES_READ = "cases:read"
    CASES_RESOLVE = "cases:resolve"
    DENIALS_READ = "denials:read"


P = Permission
_READS: Final = frozenset({
    P.INTENTS_READ, P.ACCOUNTS_READ, P.ENDPOINTS_READ, P.DELIVERIES_READ, P.EVIDENCE_READ, P.REVIEWS_READ, P.CASES_READ,
})  # fmt: skip
_DEVELOPER: Final = _READS | {
    P.INTENTS_CREATE, P.INTENTS_CANCEL, P.INTENTS_REVERSE, P.ACCOUNTS_CREATE, P.ENDPOINTS_CREATE,
}  # fmt: skip

ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    "developer": _DEVELOPER,
    "operator": _DEVELOPER | {P.REVIEWS_DECIDE, P.CASES_RESOLVE, P.DELIVERIES_REPLAY, P.DENIALS_READ},
    "support": _READS - {P.EVIDENCE_READ},
    "finance": frozenset({P.INTENTS_READ, P.ACCOUNTS_READ, P.EVIDENCE_READ, P.CASES_READ}),
    "auditor": _READS | {P.DENIALS_READ},
    "admin": frozenset(Permission),
}


class Principal(Struct, frozen=True):
    """Somebody of a tenant, authenticated."""

    tenant: str
    id: str
    role: str
    permissions: frozenset[Permission]


class StoredApiKey(Struct, frozen=True):
    """What the store knows of a key."""

    tenant: str
    principal: str
    role: str
    secret_hash: bytes
    expires_at: datetime | None
    revoked_at: datetime | None


class _Refused(Struct, frozen=True):
    """A key that is worth nothing: why, and whose it was where that is certain."""

    code: str
    caller: Caller | None = None


_Verdict = Principal | _Refused


class Authenticator:
    """Answers who an `authorization` header stands for."""

    def __init__(
        self,
        find_key: Callable[[str], Awaitable[StoredApiKey | None]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._find_key = find_key
        self._monotonic, self._now = monotonic, now
        # Apart, so that a flood of wrong keys cannot push out the right ones.
        self._believed: dict[bytes, tuple[float, _Verdict]] = {}
        self._refused: dict[bytes, tuple[float, _Verdict]] = {}
        self._asking: dict[bytes, asyncio.Future[_Verdict]] = {}

    async def authenticate(self, header: bytes | None) -> Principal:
        """Return whose key the header carries.

        Raises Problem (401) where it carries none, or one that is not valid, and Unavailable where nobody can tell."""
        if header is None:
            raise Problem("authentication_required", headers=_CHALLENGE)
        if header[:7].lower() != b"bearer ":
            raise Problem("key_invalid", headers=_CHALLENGE)
        key = header[7:].strip()
        digest = sha256(key).digest()
        known = self._believed.get(digest) or self._refused.get(digest)
        if known is not None and self._monotonic() < known[0]:
            verdict = known[1]
        else:
            verdict = await self._ask(digest, key)
        if isinstance(verdict, _Refused):
            raise Problem(verdict.code, headers=_CHALLENGE, caller=verdict.caller)
        return verdict

    async def _ask(self, digest: bytes, key: bytes) -> _Verdict:
        asking = self._asking.get(digest)
        if asking is not None:
            return await asyncio.shield(asking)
        asking = self._asking[digest] = asyncio.get_running_loop().create_future()
        asking.add_done_callback(_retrieved)
        try:
            verdict, seconds = await self._judge(key)
        except BaseException as error:
            # Those who wait get the same weather; a cancelled asker must not leave them without an answer.
            asking.set_exception(error if isinstance(error, Exception) else Unavailable("the asker was cancelled"))
            raise
        finally:
            del self._asking[digest]
        self._remember(digest, verdict, seconds)
        asking.set_result(verdict)
        return verdict

    def _remember(self, digest: bytes, verdict: _Verdict, seconds: float) -> None:
        right, wrong = self._believed, self._refused
        kept, other = (wrong, right) if isinstance(verdict, _Refused) else (right, wrong)
        other.pop(digest, None)
        if len(kept) >= REMEMBERED_MAX:
            kept.clear()
        kept[digest] = (self._monotonic() + seconds, verdict)

    async def _judge(self, key: bytes) -> tuple[_Verdict, float]:
        """Return what a key is worth, and for how many seconds that may be believed."""
        parsed = parse_key(key.decode("ascii", "replace"))
        if parsed is None:
            return _Refused("key_invalid"), REMEMBERED_SECONDS_MAX
        key_id, secret_hash = parsed
        stored = await self._find_key(key_id)
        if stored is None or not hmac.compare_digest(stored.secret_hash, secret_hash):
            # Whoever holds a wrong secret is nobody, whatever key id they name.
            return _Refused("key_invalid"), REMEMBERED_SECONDS_MAX
        owner = Caller(stored.tenant, stored.principal, stored.role)
        if stored.revoked_at is not None:
            return _Refused("key_revoked", owner), REMEMBERED_SECONDS_MAX
        seconds = REMEMBERED_SECONDS_MAX
        if stored.expires_at is not None:
            seconds = min(seconds, (stored.expires_at - self._now()).total_seconds())
            if seconds <= 0:
                return _Refused("key_expired", owner), REMEMBERED_SECONDS_MAX
        permissions = ROLES.get(stored.role, frozenset())
        return Principal(stored.tenant, stored.principal, stored.role, permissions), seconds


_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="zentra"'),)


def _retrieved(asked: asyncio.Future[_Verdict]) -> None:
    """Look at the exception, because asyncio complains of one that nobody waited for."""
    asked.exception()
