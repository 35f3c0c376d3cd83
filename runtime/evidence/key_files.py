"""Evidence keys as files: what people hand each other, read and written.

- Private keys are PEM, one behind the other: the one in force, and the one that is to follow it.
- Public keys are PEM, each below a line with its time; or a JWK set (RFC 7517, RFC 8037) that also has the entries of
  the history. Other tools read both and do not see the times.
- Whoever gives a file as a key believes everything in it. Whoever gives it as a history believes what its signatures
  join to a key that is believed already.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.runtime.evidence.heads import key_id, load_private_key, load_public_key
from zentra.runtime.evidence.history import HISTORY_FORMAT, HistoryFlaw, KeyHistory, read_history
from zentra.runtime.evidence.keyring import KeyRing, RingKey

__all__ = [
    "history_file",
    "history_of_file",
    "key_ring_of_file",
    "load_private_keys",
    "pem_bundle",
    "private_key_of",
    "public_pem",
]

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_COMMENT: Final = re.compile(rb"# key [0-9a-f]{8} since (\S+) until (\S+)\n\Z")
KEYS_MAX: Final = 16  # one signs, one is to follow; sixteen is a mistake


class Jwk(msgspec.Struct, frozen=True, kw_only=True):
    """A public key of RFC 8037. Times are ours: tools that do not know them leave them alone."""

    kty: str
    crv: str
    x: str
    kid: str = ""
    use: str = "sig"
    alg: str = "Ed25519"
    zentra_since: str | None = None
    zentra_until: str | None = None


class HistoryFile(msgspec.Struct, frozen=True, kw_only=True):
    """A JWK set with the entries behind it."""

    format: str = ""
    keys: list[Jwk] = []
    entries: list[msgspec.Raw] = []


def load_private_keys(pem: bytes) -> list[Ed25519PrivateKey]:
    """Return the keys in `pem`, in their order. Raises ValueError where there is none, more than 16, or one twice."""
    blocks = [found.group(0) for found in _BLOCK.finditer(pem)]
    if not 0 < len(blocks) <= KEYS_MAX:
        raise ValueError(f"it has {len(blocks)} keys in PEM, not 1 to {KEYS_MAX}")
    keys = [load_private_key(block) for block in blocks]
    if len({key_id(key.public_key()) for key in keys}) != len(keys):
        raise ValueError("it has the same key twice")
    return keys


def public_pem(public: Ed25519PublicKey) -> str:
    """Return a public key as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


def pem_bundle(ring: KeyRing) -> str:
    """Return public keys as PEM, each below a line with its time."""
    lines = [
        f"# key {kid} since {key.since or '-'} until {key.until or '-'}\n{public_pem(key.public)}"
        for kid, key in ring.items()
    ]
    return "".join(lines)


def history_file(history: KeyHistory) -> dict[str, Any]:
    """Return a history as a JWK set with its entries, for JSON."""
    return {
        "format": HISTORY_FORMAT,
        "keys": [_jwk(key.public, key) for key in history.ring().values()],
        "entries": [msgspec.Raw(envelope) for envelope in history.envelopes],
    }


def history_of_file(data: bytes) -> KeyHistory:
    """Return the history that a file holds, verified in itself; raise HistoryFlaw."""
    try:
        read = msgspec.json.decode(data, type=HistoryFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HistoryFlaw("history_malformed", f"it is no history of keys: {error}") from error
    return read_history([bytes(entry) for entry in read.entries])


def key_ring_of_file(data: bytes) -> KeyRing:
    """Return all keys of a file, with their times where it tells them: PEM or JWK set; raise ValueError.

    A JWK set with entries is a history, and its times are those of the entries."""
    if data.lstrip().startswith(b"{"):
        return _of_jwks(data)
    ring: dict[str, RingKey] = {}
    last = 0
    for found in _BLOCK.finditer(data):
        public = load_public_key(found.group(0))
        said = _COMMENT.search(data[last : found.start()])
        times = (None, None) if said is None else tuple(_time(one.decode()) for one in said.groups())
        ring[key_id(public)] = RingKey(public, *times)
        last = found.end()
    if not ring:
        raise ValueError("not a public key in PEM")
    return ring


def _of_jwks(data: bytes) -> KeyRing:
    try:
        read = msgspec.json.decode(data, type=HistoryFile)
        if read.entries:
            return read_history([bytes(entry) for entry in read.entries]).ring()
        ring = {}
        for one in read.keys:
            if (one.kty, one.crv) != ("OKP", "Ed25519"):
                raise ValueError(f"{one.kty} {one.crv} is no Ed25519 key")
            public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(one.x + "=" * (-len(one.x) % 4)))
            ring[key_id(public)] = RingKey(public, one.zentra_since, one.zentra_until)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"not a public key in PEM, and no JWK set: {error}") from error
    if not ring:
        raise ValueError("not a public key in PEM, and a JWK set without a key")
    return ring


def _jwk(public: Ed25519PublicKey, key: RingKey) -> Jwk:
    x = base64.urlsafe_b64encode(public.public_bytes_raw()).decode().rstrip("=")
    return Jwk(
        kty="OKP", crv="Ed25519", x=x, kid=key_id(public), zentra_since=key.since, zentra_until=key.until
    )  # fmt: skip


def _time(text: str) -> str | None:
    return None if text == "-" else text


def private_key_of(keys: Sequence[Ed25519PrivateKey], kid: str) -> Ed25519PrivateKey | None:
    """Return the key of this id, or None."""
    return next((key for key in keys if key_id(key.public_key()) == kid), None)
