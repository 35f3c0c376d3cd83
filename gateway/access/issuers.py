"""The issuers of tokens that an installation believes, as its configuration names them, and the keys they sign with.

- An issuer is known by the exact text of its `iss`; it signs with the algorithms of its row, and speaks for the tenants
  and in the roles of its row and no others.
- Keys are fetched when they are first needed, again when they are ten minutes old, and where a token names one that is
  not there, but never twice within thirty seconds: whatever tokens come, an issuer is not asked more often.
- What an issuer answers is bounded, and a key is used for the one algorithm that its kind and curve are made for.
- An issuer that does not answer changes nothing for an hour; after that nobody can tell, which is not a refusal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from aiohttp import ClientError
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey
from msgspec import Struct

from zentra.gateway.outward.http import AddressRefused, OutwardHttp
from zentra.gateway.settings import SettingsError
from zentra.runtime.errors import Unavailable
from zentra.runtime.names import is_tenant
from zentra.runtime.roles import ROLES

__all__ = ["Algorithm", "Issuer", "IssuerKeys", "VerificationKey", "fetching", "parse_issuers", "read_key_set"]

_log = logging.getLogger(__name__)

Algorithm = Literal["Ed25519", "ES256"]
ANY_TENANT: Final = "*"
KEY_SET_BYTES_MAX: Final = 16 * 1024  # some eighty keys; issuers publish a handful
KEYS_MAX: Final = 32
FRESH_SECONDS: Final = 600.0  # a key that an issuer took back is out of force after that
PAUSE_SECONDS: Final = 30.0  # between two questions, whatever tokens come
STALE_SECONDS_MAX: Final = 3600.0
FETCH_SECONDS_MAX: Final = 5.0
LEEWAY_SECONDS_MAX: Final = 120


class Issuer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issuer: whom it speaks for, and which of its claims say so.

    `roles` gives the role for each word of the role claim; a word that is not in it has none. Of `jwks_url` and
    `jwks_file` there is exactly one."""

    issuer: str
    audience: str
    algorithms: tuple[Algorithm, ...]
    tenants: tuple[str, ...]
    roles: dict[str, str]
    jwks_url: str = ""
    jwks_file: str = ""
    tenant_claim: str = "tenant"
    principal_claim: str = "sub"
    role_claim: str = "role"
    leeway_seconds: int = 30

    def speaks_for(self, tenant: str) -> bool:
        """Return whether a token of this issuer may name `tenant`."""
        return tenant in self.tenants or ANY_TENANT in self.tenants


def parse_issuers(text: str, *, plain_allowed: bool = False) -> dict[str, Issuer]:
    """Return the issuers that a JSON array describes, by name; none for an empty text.

    `plain_allowed` lets keys come over http, for development. Raises SettingsError, naming what is wrong."""
    if not text:
        return {}
    try:
        given = msgspec.json.decode(text, type=list[Issuer])
    except msgspec.DecodeError as error:
        raise SettingsError(f"ZENTRA_ISSUERS: {error}") from error
    for issuer in given:
        wrong = next(_objections(issuer, plain_allowed), None)
        if wrong is not None:
            raise SettingsError(f"ZENTRA_ISSUERS: {issuer.issuer or 'an issuer'}: {wrong}")
    known = {issuer.issuer: issuer for issuer in given}
    if len(known) != len(given):
        raise SettingsError("ZENTRA_ISSUERS: an issuer is named twice")
    return known


def _objections(issuer: Issuer, plain_allowed: bool) -> Iterator[str]:
    if not issuer.issuer or not issuer.audience:
        yield "issuer and audience have to be named"
    if not issuer.algorithms:
        yield "algorithms: at least one of Ed25519 and ES256"
    if bool(issuer.jwks_url) == bool(issuer.jwks_file):
        yield "either jwks_url or jwks_file has to be given"
    if issuer.jwks_url and not issuer.jwks_url.startswith(("https://", "http://") if plain_allowed else "https://"):
        yield "jwks_url has to begin with https://"
    if not issuer.tenants or not all(tenant == ANY_TENANT or is_tenant(tenant) for tenant in issuer.tenants):
        yield 'tenants: the ids of tenants, or "*" for any'
    unknown = sorted(set(issuer.roles.values()) - set(ROLES))
    if unknown or not issuer.roles:
        yield f"roles: words of the role claim, each with one of {', '.join(ROLES)}"
    if not 0 <= issuer.leeway_seconds <= LEEWAY_SECONDS_MAX:
        yield f"leeway_seconds: 0 to {LEEWAY_SECONDS_MAX}"


class VerificationKey(Struct, frozen=True):
    """A public key and the one algorithm that it verifies."""

    algorithm: Algorithm
    key: OKPKey | ECKey


class IssuerKeys:
    """The keys of one issuer by their ids."""

    def __init__(
        self, issuer: str, fetch: Callable[[], Awaitable[bytes]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`fetch` returns the key set as bytes, or raises Unavailable."""
        self._issuer, self._fetch, self._monotonic = issuer, fetch, monotonic
        self._keys: Mapping[str, VerificationKey] = {}
        self._loaded_at: float | None = None
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> VerificationKey | None:
        """Return the key of that id, or None; raises Unavailable where the issuer's keys are not known."""
        if self._loaded_at is None or self._monotonic() - self._loaded_at >= FRESH_SECONDS or key_id not in self._keys:
            await self._refresh()
        if self._loaded_at is None or self._monotonic() - self._loaded_at >= STALE_SECONDS_MAX:
            raise Unavailable(f"the keys of {self._issuer} are not known")
        return self._keys.get(key_id)

    async def _refresh(self) -> None:
        """Ask the issuer, unless it was asked just now; whoever comes meanwhile waits for the same answer."""
        if self._asking is None:
            now = self._monotonic()
            if self._asked_at is not None and now - self._asked_at < PAUSE_SECONDS:
                return
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask(), name="issuer keys")
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        try:
            self._keys = read_key_set(await self._fetch())
            self._loaded_at = self._monotonic()
        except (Unavailable, ValueError) as error:
            _log.warning("keys of an issuer are not known", extra={"issuer": self._issuer, "error": str(error)})
        finally:
            self._asking = None


def read_key_set(raw: bytes) -> dict[str, VerificationKey]:
    """Return the keys of a set (RFC 7517) that verify Ed25519 or ES256, by id; those of other kinds are left out.

    Raises ValueError for what is no key set, is too large, or names one id twice."""
    if len(raw) > KEY_SET_BYTES_MAX:
        raise ValueError(f"a key set has at most {KEY_SET_BYTES_MAX} bytes")
    try:
        entries = msgspec.json.decode(raw, type=dict[str, Any]).get("keys")
    except msgspec.DecodeError as error:
        raise ValueError(f"not a key set: {error}") from error
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise ValueError(f"a key set has up to {KEYS_MAX} keys")
    keys: dict[str, VerificationKey] = {}
    for entry in entries:
        key = _read_key(entry) if isinstance(entry, dict) else None
        if key is not None:
            if entry["kid"] in keys:
                raise ValueError("a key set names an id twice")
            keys[entry["kid"]] = key
    return keys


_KINDS: Final[Mapping[tuple[Any, Any], tuple[Algorithm, type[OKPKey] | type[ECKey], Sequence[str]]]] = {
    ("OKP", "Ed25519"): ("Ed25519", OKPKey, ("kty", "crv", "x")),
    ("EC", "P-256"): ("ES256", ECKey, ("kty", "crv", "x", "y")),
}


def _read_key(entry: dict[str, Any]) -> VerificationKey | None:
    kind = (entry.get("kty"), entry.get("crv"))
    if not all(isinstance(word, str) for word in kind) or kind not in _KINDS:
        return None
    algorithm, made, members = _KINDS[kind]
    # `EdDSA` is what issuers called Ed25519 before RFC 9864.
    named = entry.get("alg") in (None, algorithm, "EdDSA" if algorithm == "Ed25519" else algorithm)
    if not named or entry.get("use") not in (None, "sig") or not isinstance(entry.get("kid"), str):
        return None
    try:
        # Only what a public key consists of: no private part, and no member that could say what else it is for.
        return VerificationKey(algorithm, made.import_key({name: entry[name] for name in members}))
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"a key of the set cannot be read: {type(error).__name__}") from error


def fetching(issuer: Issuer, http: OutwardHttp) -> Callable[[], Awaitable[bytes]]:
    """Return what fetches the key set of an issuer, from its file or its URL; it raises Unavailable."""

    async def from_file() -> bytes:
        def read() -> bytes:
            with Path(issuer.jwks_file).open("rb") as file:
                return file.read(KEY_SET_BYTES_MAX + 1)

        try:
            return await asyncio.to_thread(read)
        except OSError as error:
            raise Unavailable(f"{issuer.jwks_file}: {error.strerror}") from error

    async def from_url() -> bytes:
        try:
            answer = await http.request("GET", issuer.jwks_url, timeout=http.timeout(FETCH_SECONDS_MAX))
        except (AddressRefused, ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{issuer.jwks_url}: {type(error).__name__}") from error
        if answer.status != 200 or answer.cut:
            raise Unavailable(f"{issuer.jwks_url} answered {answer.status}{' with too much' if answer.cut else ''}")
        return answer.body

    return from_file if issuer.jwks_file else from_url
