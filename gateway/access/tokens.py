"""Bearer tokens (JWT, RFC 7519) of configured issuers: what makes one good, in the order in which it is looked at.

- A token says which issuer it claims to be of; the issuer's row, never the token, says which algorithms may verify
  it.
- A key verifies the one algorithm that it is made for, so no public key can be taken for a shared secret.
- Nothing of a token counts before its signature was verified; who is asking is told to nobody before that either.
- A token names an existing tenant that its issuer speaks for. Of a principal that is stored the stored role counts: a
  token with another one is refused, and so is everything of a principal that was disabled.
- The first objection is the answer: size, form, issuer, algorithm, key, signature, claims, audience, time, tenant,
  role.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from msgspec import Struct

from zentra.gateway.access.issuers import Issuer, IssuerKeys
from zentra.runtime.names import is_principal, is_tenant

__all__ = ["TOKEN_BYTES_MAX", "Claimed", "Speaker", "TokenRefused", "TokenVerifier"]

TOKEN_BYTES_MAX: Final = 8 * 1024
BELIEVED_SECONDS_MAX: Final = 60.0
KEY_ID_LENGTH_MAX: Final = 255
TIME_MAX: Final = 253_402_300_799  # the end of the year 9999


class Claimed(NamedTuple):
    """What the store says of a tenant and a principal that a token names; role None: the principal is not stored."""

    mode: str
    role: str | None
    disabled: bool


class Speaker(Struct, frozen=True):
    """Whom a good token stands for. `scopes` is None where the token does not narrow the role."""

    tenant: str
    principal: str
    role: str
    mode: str
    scopes: frozenset[str] | None
    seconds: float  # for how long that may be believed without another look


class TokenRefused(Exception):
    """Raised for a token that is worth nothing: a code, and who it was where the signature was good."""

    def __init__(self, code: str, tenant: str = "-", principal: str = "-", role: str = "-") -> None:
        super().__init__(code)
        self.code = code
        self.tenant, self.principal, self.role = tenant, principal, role


class TokenVerifier:
    """Answers whom a token stands for."""

    def __init__(
        self,
        issuers: Mapping[str, tuple[Issuer, IssuerKeys]],
        find_claims: Callable[[str, str], Awaitable[Claimed | None]],
        now: Callable[[], float],
    ) -> None:
        """`now` counts seconds since 1970."""
        self._issuers, self._find_claims, self._now = issuers, find_claims, now

    async def verify(self, token: str) -> Speaker:
        """Return whom `token` stands for; raises TokenRefused, and Unavailable where nobody can tell."""
        if len(token) > TOKEN_BYTES_MAX:
            raise TokenRefused("token_too_large")
        header, unverified = _parts(token)
        issuer, keys = self._issuer(unverified.get("iss"))
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in issuer.algorithms:
            raise TokenRefused("token_algorithm_refused")
        if not isinstance(key_id, str) or not 0 < len(key_id) <= KEY_ID_LENGTH_MAX:
            raise TokenRefused("token_malformed")
        key = await keys.find(key_id)
        if key is None:
            raise TokenRefused("token_key_unknown")
        if key.algorithm != algorithm:
            raise TokenRefused("token_algorithm_refused")
        try:
            verified = jwt.decode(token, key.key, algorithms=[key.algorithm])
        except BadSignatureError:
            raise TokenRefused("token_signature_invalid") from None
        except (JoseError, ValueError, TypeError):
            raise TokenRefused("token_malformed") from None
        if verified.header != header or verified.claims.get("iss") != issuer.issuer:
            raise TokenRefused("token_malformed")  # two readers that read one text differently
        return await self._judge(verified.claims, issuer)

    def _issuer(self, name: object) -> tuple[Issuer, IssuerKeys]:
        known = self._issuers.get(name) if isinstance(name, str) else None
        if known is None:
            raise TokenRefused("token_issuer_unknown")
        return known

    async def _judge(self, claims: Mapping[str, Any], issuer: Issuer) -> Speaker:
        """Return whom claims stand for whose signature was good; raises TokenRefused and Unavailable."""
        principal = claims.get(issuer.principal_claim)
        if not isinstance(principal, str) or not is_principal(principal):
            raise TokenRefused("token_claims_malformed")
        tenant = claims.get(issuer.tenant_claim)
        # Only a tenant that the issuer speaks for is told of what its tokens are refused for.
        spoken_for = isinstance(tenant, str) and is_tenant(tenant) and issuer.speaks_for(tenant)
        who = (tenant if isinstance(tenant, str) and spoken_for else "-", principal)
        scopes = _scopes(claims.get("scope"), who)
        if not _is_text(claims.get("jti")):
            raise TokenRefused("token_claims_malformed", *who)
        if not _names(claims.get("aud"), issuer.audience):
            raise TokenRefused("token_audience_wrong", *who)
        seconds = self._seconds(claims, issuer.leeway_seconds, who)
        if not spoken_for:
            raise TokenRefused("token_tenant_refused", *who)
        known = await self._find_claims(*who)
        if known is None:
            raise TokenRefused("token_tenant_refused", "-", principal)
        if known.disabled:
            raise TokenRefused("principal_disabled", *who)
        word = claims.get(issuer.role_claim)
        role = issuer.roles.get(word) if isinstance(word, str) else None
        if role is None or known.role not in (None, role):
            raise TokenRefused("token_role_refused", *who)
        return Speaker(who[0], principal, role, known.mode, scopes, seconds)

    def _seconds(self, claims: Mapping[str, Any], leeway: int, who: tuple[str, str]) -> float:
        """Return for how long the token may be believed; raises TokenRefused for one that is not in force."""
        now = self._now()
        expires, begins, issued = _time(claims.get("exp")), _time(claims.get("nbf", 0)), _time(claims.get("iat"))
        if expires is None or begins is None or issued is None:
            raise TokenRefused("token_claims_malformed", *who)
        if now >= expires + leeway:
            raise TokenRefused("token_expired", *who)
        if now < max(begins, issued) - leeway:
            raise TokenRefused("token_not_yet_valid", *who)
        return float(min(BELIEVED_SECONDS_MAX, expires + leeway - now))


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims as the token says them, believed by nobody yet; raises TokenRefused."""
    pieces = token.split(".")
    if len(pieces) != 3:
        raise TokenRefused("token_malformed")
    try:
        header, claims = (
            msgspec.json.decode(base64.b64decode(piece + "=" * (-len(piece) % 4), b"-_", validate=True))
            for piece in pieces[:2]
        )
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        raise TokenRefused("token_malformed") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise TokenRefused("token_malformed")
    return header, claims


def _scopes(claim: object, who: tuple[str, str]) -> frozenset[str] | None:
    if claim is None:
        return None
    if not isinstance(claim, str):
        raise TokenRefused("token_claims_malformed", *who)
    return frozenset(claim.split(" "))


def _names(claim: object, audience: str) -> bool:
    """Return whether an audience claim, one text or a list of them, names `audience`."""
    if isinstance(claim, list):
        return len(claim) <= 16 and all(isinstance(one, str) for one in claim) and audience in claim
    return isinstance(claim, str) and claim == audience


def _is_text(claim: object) -> bool:
    return isinstance(claim, str) and 0 < len(claim) <= 255


def _time(claim: object) -> float | None:
    """Return a NumericDate, or None for what is none."""
    if isinstance(claim, int | float) and not isinstance(claim, bool) and 0 <= claim <= TIME_MAX:
        return float(claim)
    return None
