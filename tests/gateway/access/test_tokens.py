"""Tokens: which are good, and for each that is not its own code; forged by hand where a library would refuse to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from zentra.gateway.access.issuers import Issuer, IssuerKeys
from zentra.gateway.access.tokens import TOKEN_BYTES_MAX, Claimed, TokenRefused, TokenVerifier
from zentra.gateway.http.auth import Authenticator, StoredApiKey
from zentra.gateway.http.problems import Caller, Problem
from zentra.runtime.errors import Unavailable

NOW = 1_800_000_000
ISSUER = "https://id.example"
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"}, auto_kid=False)
EC = ECKey.generate_key("P-256", {"kid": "ec"}, auto_kid=False)
STRANGER = OKPKey.generate_key("Ed25519", {"kid": "ed"}, auto_kid=False)
KEY_SET = json.dumps({"keys": [ED.as_dict(private=False), EC.as_dict(private=False)]}).encode()
ROLES = {"dev": "developer", "ops": "operator"}
CLAIMS: Mapping[str, Any] = {
    "iss": ISSUER, "aud": "zentra", "sub": "ada", "tenant": "acme", "role": "dev", "jti": "t-1", "iat": NOW - 10,
    "exp": NOW + 300,
}  # fmt: skip


def signed(changes: Mapping[str, Any] | None = None, *, key: Any = ED, alg: str = "Ed25519", **header: Any) -> str:
    """Sign the claims with `changes`; `...` leaves one out."""
    claims = {name: value for name, value in {**CLAIMS, **(changes or {})}.items() if value is not ...}
    headers = {name: value for name, value in {"alg": alg, "kid": key.kid, **header}.items() if value is not ...}
    return jwt.encode(headers, claims, key, algorithms=[alg])


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(header: Mapping[str, Any], signature: Callable[[bytes], bytes], claims: object = CLAIMS) -> str:
    body = f"{part(header)}.{part(claims)}"
    return f"{body}.{base64.urlsafe_b64encode(signature(body.encode())).rstrip(b'=').decode()}"


def by_public_key(body: bytes) -> bytes:
    """What a verifier believes that takes the public key for a shared secret."""
    return hmac.digest(ED.as_pem(private=False), body, hashlib.sha256)


class Known:
    """An issuer's keys, tenants and principals; time and what was asked are seen by the test."""

    def __init__(self, **changes: Any) -> None:
        self.time, self.fetched, self.away = float(NOW), 0, False
        self.key_set = KEY_SET
        self.stored: dict[tuple[str, str], tuple[str, bool]] = {("acme", "eve"): ("auditor", False)}
        settings: dict[str, Any] = {
            "issuer": ISSUER, "audience": "zentra", "algorithms": ("Ed25519", "ES256"), "tenants": ("acme", "gone"),
            "roles": ROLES, "jwks_file": "-",
        }  # fmt: skip
        issuer = Issuer(**(settings | changes))
        keys = IssuerKeys(ISSUER, self.fetch, monotonic=lambda: self.time)
        self.verifier = TokenVerifier({ISSUER: (issuer, keys)}, self.claims, lambda: self.time)

    async def fetch(self) -> bytes:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        return self.key_set

    async def claims(self, tenant: str, principal: str) -> Claimed | None:
        if tenant not in ("acme", "globex"):
            return None
        role, disabled = self.stored.get((tenant, principal), (None, False))
        return Claimed("test", role, disabled)

    async def code(self, token: str) -> str:
        with pytest.raises(TokenRefused) as refused:
            await self.verifier.verify(token)
        return refused.value.code


@pytest.mark.parametrize(("key", "alg"), [(ED, "Ed25519"), (EC, "ES256")])
async def test_a_good_token_stands_for_its_principal(key: Any, alg: str) -> None:
    spoken = await Known().verifier.verify(signed(key=key, alg=alg))
    assert (spoken.tenant, spoken.principal, spoken.role, spoken.mode) == ("acme", "ada", "developer", "test")
    assert spoken.scopes is None


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 60), ({"exp": NOW + 10}, 40), ({"exp": NOW - 29}, 1), ({"nbf": NOW + 30}, 60), ({"iat": NOW + 30}, 60),
        ({"aud": ["other", "zentra"]}, 60), ({"exp": NOW + 10.5}, 40.5),
    ],
)  # fmt: skip
async def test_a_token_is_believed_until_it_ends_and_for_a_minute_at_most(
    changes: dict[str, Any], seconds: float
) -> None:
    assert (await Known().verifier.verify(signed(changes))).seconds == seconds


WORTHLESS = [
    # What it says of itself.
    ("token_too_large", signed({"padding": "x" * TOKEN_BYTES_MAX})),
    ("token_malformed", "one.two"),
    ("token_malformed", "a.b.c.d"),
    ("token_malformed", "!!.!!.!!"),
    ("token_malformed", f"{part([])}.{part(CLAIMS)}.AAAA"),
    ("token_malformed", f"{part({'alg': 'Ed25519', 'kid': 'ed'})}.{part('claims')}.AAAA"),
    ("token_malformed", f"{part({'alg': 'Ed25519', 'kid': 'ed'})}.{'WyI' * 2000}.AAAA"),
    ("token_malformed", signed(kid=...)),
    ("token_malformed", signed(kid="")),
    ("token_malformed", signed(kid="k" * 256)),
    ("token_malformed", forged({"alg": "Ed25519", "kid": "ed", "crit": ["x"], "x": 1}, lambda body: b"x" * 64)),
    # Who issued it.
    ("token_issuer_unknown", signed({"iss": "https://id.example/"})),
    ("token_issuer_unknown", signed({"iss": "HTTPS://id.example"})),
    ("token_issuer_unknown", signed({"iss": ...})),
    ("token_issuer_unknown", signed({"iss": [ISSUER]})),
    ("token_issuer_unknown", signed({"iss": [ISSUER, "https://evil.example"]})),
    ("token_issuer_unknown", signed({"iss": {ISSUER: 1}})),
    # How it is signed.
    ("token_algorithm_refused", forged({"alg": "none", "kid": "ed"}, lambda body: b"")),
    ("token_algorithm_refused", forged({"alg": "None", "kid": "ed"}, lambda body: b"")),
    ("token_algorithm_refused", forged({"alg": "HS256", "kid": "ed"}, by_public_key)),
    ("token_algorithm_refused", forged({"alg": "EdDSA", "kid": "ed"}, ED.private_key.sign)),  # type: ignore[union-attr]
    ("token_algorithm_refused", forged({"alg": ["Ed25519"], "kid": "ed"}, lambda body: b"")),
    ("token_algorithm_refused", forged({"kid": "ed"}, lambda body: b"")),
    ("token_algorithm_refused", forged({"alg": "ES256", "kid": "ed"}, lambda body: b"x" * 64)),
    ("token_algorithm_refused", forged({"alg": "Ed25519", "kid": "ec"}, lambda body: b"x" * 64)),
    ("token_key_unknown", signed(kid="other")),
    ("token_signature_invalid", signed(key=STRANGER)),
    ("token_signature_invalid", forged({"alg": "Ed25519", "kid": "ed"}, by_public_key)),
    ("token_signature_invalid", forged({"alg": "Ed25519", "kid": "ed"}, lambda body: b"")),
    # What it claims, in the order in which it is looked at.
    ("token_claims_malformed", signed({"sub": ...})),
    ("token_claims_malformed", signed({"sub": "Ada Lovelace"})),
    ("token_claims_malformed", signed({"sub": ["ada"]})),
    ("token_claims_malformed", signed({"jti": ...})),
    ("token_claims_malformed", signed({"jti": 7})),
    ("token_claims_malformed", signed({"scope": ["intents:read"]})),
    ("token_audience_wrong", signed({"aud": "other"})),
    ("token_audience_wrong", signed({"aud": ["other"]})),
    ("token_audience_wrong", signed({"aud": ["zentra", 1]})),
    ("token_audience_wrong", signed({"aud": ...})),
    ("token_audience_wrong", signed({"aud": {"zentra": True}})),
    ("token_claims_malformed", signed({"exp": ...})),
    ("token_claims_malformed", signed({"iat": ...})),
    ("token_claims_malformed", signed({"exp": str(NOW + 300)})),
    ("token_claims_malformed", signed({"exp": True})),
    ("token_claims_malformed", signed({"exp": 10**30})),
    ("token_claims_malformed", signed({"nbf": None})),
    ("token_expired", signed({"exp": NOW - 30})),
    ("token_expired", signed({"exp": 0})),
    ("token_not_yet_valid", signed({"nbf": NOW + 31})),
    ("token_not_yet_valid", signed({"iat": NOW + 31})),
    ("token_tenant_refused", signed({"tenant": ...})),
    ("token_tenant_refused", signed({"tenant": "Acme"})),
    ("token_tenant_refused", signed({"tenant": ["acme"]})),
    ("token_tenant_refused", signed({"tenant": "globex"})),  # there is such a tenant, and the issuer has no say in it
    ("token_tenant_refused", signed({"tenant": "gone"})),  # the issuer has a say, and there is no such tenant
    ("token_role_refused", signed({"role": "admin"})),
    ("token_role_refused", signed({"role": "developer"})),  # the word is the issuer's, not ours
    ("token_role_refused", signed({"role": ...})),
    ("token_role_refused", signed({"role": ["dev"]})),
    ("token_role_refused", signed({"sub": "eve"})),  # stored as an auditor
]


@pytest.mark.parametrize(
    ("code", "token"), WORTHLESS, ids=[f"{place:02d}-{code}" for place, (code, _) in enumerate(WORTHLESS)]
)
async def test_a_worthless_token_is_told_why(code: str, token: str) -> None:
    assert await Known().code(token) == code


async def test_an_issuer_signs_with_its_own_algorithms_only() -> None:
    known = Known(algorithms=("ES256",))
    assert await known.code(signed()) == "token_algorithm_refused"
    assert (await known.verifier.verify(signed(key=EC, alg="ES256"))).principal == "ada"


async def test_a_role_that_was_taken_away_is_worth_nothing_whatever_the_token_says() -> None:
    known = Known()
    known.stored["acme", "ada"] = ("operator", False)
    assert await known.code(signed({"role": "dev"})) == "token_role_refused"
    assert (await known.verifier.verify(signed({"role": "ops"}))).role == "operator"
    known.stored["acme", "ada"] = ("operator", True)
    assert await known.code(signed({"role": "ops"})) == "principal_disabled"


async def test_scopes_of_a_token_narrow_its_role() -> None:
    spoken = await Known().verifier.verify(signed({"scope": "intents:read denials:read"}))
    assert spoken.scopes == frozenset({"intents:read", "denials:read"})


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({"aud": "other"}, ("acme", "ada")),
        ({"tenant": "globex"}, ("-", "ada")),
        ({"tenant": "gone"}, ("-", "ada")),
        ({"role": "king"}, ("acme", "ada")),
        ({"iss": "https://evil.example"}, ("-", "-")),
    ],
)
async def test_a_refusal_is_told_to_no_tenant_that_has_nothing_to_do_with_it(
    changes: dict[str, Any], who: tuple[str, str]
) -> None:
    with pytest.raises(TokenRefused) as refused:
        await Known().verifier.verify(signed(changes))
    assert (refused.value.tenant, refused.value.principal) == who


# Keys of issuers.


async def test_keys_are_fetched_once_and_again_when_they_are_old() -> None:
    known = Known()
    for _ in range(3):
        await known.verifier.verify(signed())
    assert known.fetched == 1
    known.time += 600
    await known.verifier.verify(signed({"exp": NOW + 5000}))
    assert known.fetched == 2


async def test_unknown_keys_make_nobody_ask_more_often_than_every_half_minute() -> None:
    known = Known()
    for number in range(200):
        assert await known.code(signed(kid=f"k{number}")) == "token_key_unknown"
    assert known.fetched == 1
    known.time += 30
    await asyncio.gather(*(known.code(signed(kid=f"k{number}")) for number in range(50)))
    assert known.fetched == 2


async def test_a_key_that_is_new_works_and_one_that_was_taken_back_does_not() -> None:
    known = Known()
    new = OKPKey.generate_key("Ed25519", {"kid": "new"}, auto_kid=False)
    await known.verifier.verify(signed())
    known.key_set = json.dumps({"keys": [new.as_dict(private=False)]}).encode()
    known.time += 30
    assert (await known.verifier.verify(signed(key=new))).principal == "ada"
    assert await known.code(signed()) == "token_key_unknown"


async def test_an_issuer_that_is_away_refuses_nobody_for_an_hour() -> None:
    known = Known()
    await known.verifier.verify(signed())
    known.away = True
    known.time += 3599
    assert (await known.verifier.verify(signed({"exp": NOW + 9999}))).principal == "ada"
    known.time += 1
    with pytest.raises(Unavailable):
        await known.verifier.verify(signed({"exp": NOW + 9999}))


async def test_an_issuer_that_was_never_heard_is_no_refusal() -> None:
    known = Known()
    known.away = True
    with pytest.raises(Unavailable):
        await known.verifier.verify(signed())


@pytest.mark.parametrize(
    "key_set",
    [
        b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": [' + b"{}," * 32 + b"{}]}", b" " * 16_385,
        json.dumps({"keys": [ED.as_dict(private=False)] * 2}).encode(),
        json.dumps({"keys": [ED.as_dict(private=False) | {"x": "AAAA"}]}).encode(),
    ],
)  # fmt: skip
async def test_what_is_no_key_set_is_as_good_as_none(key_set: bytes) -> None:
    known = Known()
    known.key_set = key_set
    with pytest.raises(Unavailable):
        await known.verifier.verify(signed())


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "oct", "k": "AAAA"}, {"crv": "Ed448"}, {"use": "enc"}, {"alg": "HS256"}, {"alg": "ES256"}, {"kid": 5},
        {"kty": ["OKP"]},
    ],
)  # fmt: skip
async def test_a_key_for_something_else_verifies_nothing(change: dict[str, Any]) -> None:
    known = Known()
    known.key_set = json.dumps({"keys": [ED.as_dict(private=False) | change, EC.as_dict(private=False)]}).encode()
    assert await known.code(signed()) == "token_key_unknown"


# In front of the doors.


async def find_no_key(key_id: str) -> StoredApiKey | None:
    return None


async def test_a_token_is_verified_once_and_believed_by_its_hash() -> None:
    known = Known()
    verified = 0

    async def verify(token: str) -> Any:
        nonlocal verified
        verified += 1
        return await TokenVerifier.verify(known.verifier, token)

    known.verifier.verify = verify  # type: ignore[method-assign]
    authenticator = Authenticator(find_no_key, tokens=known.verifier, monotonic=lambda: known.time)
    header = f"Bearer {signed({'exp': NOW + 10})}".encode()
    for _ in range(5):
        principal = await authenticator.authenticate(header)
    assert (principal.tenant, principal.id, principal.role, principal.credential) == (
        "acme", "ada", "developer", "acme/ada",
    )  # fmt: skip
    assert verified == 1
    known.time += 40
    with pytest.raises(Problem, match="token_expired") as refused:
        await authenticator.authenticate(header)
    assert refused.value.caller == Caller("acme", "ada", "-")
    assert (refused.value.denied, verified) == (True, 2)


async def test_where_no_issuer_is_configured_a_token_is_no_key() -> None:
    with pytest.raises(Problem, match="key_invalid"):
        await Authenticator(find_no_key).authenticate(f"Bearer {signed()}".encode())
