"""Signed tree heads: what a tenant's log held at a time, and whose word that is.

- The signature covers the text of a C2SP tlog-checkpoint: origin line, size, root, and the time as extension line. No
  field can hold a line break, so two heads never share their text.
- A head names its key by an id derived from the key, so a wrong key is told apart from a wrong signature.
- Keys are made and kept elsewhere; here they are arguments. Ed25519 is deterministic: signing twice gives equal bytes.
"""

import base64
import re
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.runtime.names import is_tenant

__all__ = [
    "ORIGIN",
    "TreeHead",
    "head_flaw",
    "key_id",
    "load_private_key",
    "load_public_key",
    "sign_head",
    "signed_bytes",
    "signed_note",
    "verify_head",
]

ORIGIN: Final = "zentra.evidence/"
"""The origin line of a head is this and the tenant."""

_ROOT: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z", re.ASCII)


class TreeHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the log of a tenant held at a time: `size` leaves under `root`. `root` and `signature` are hex."""

    tenant: str
    size: int
    root: str
    at: str
    key_id: str
    signature: str


def sign_head(private_key: Ed25519PrivateKey, *, tenant: str, size: int, root: bytes, at: str) -> TreeHead:
    """Return the signed head of a tenant's log of `size` leaves under `root`; `at` is RFC 3339 UTC with microseconds.

    Raises `ValueError` when an argument would make a head that does not verify.
    """
    identifier = key_id(private_key.public_key())
    unsigned = TreeHead(tenant=tenant, size=size, root=root.hex(), at=at, key_id=identifier, signature="")
    flaw = _malformed(unsigned)
    if flaw is not None:
        raise ValueError(flaw)
    return msgspec.structs.replace(unsigned, signature=private_key.sign(signed_bytes(unsigned)).hex())


def verify_head(public_key: Ed25519PublicKey, head: TreeHead) -> bool:
    """Return whether `head` was signed, as it stands, by the owner of `public_key`."""
    return head_flaw(public_key, head) is None


def head_flaw(public_key: Ed25519PublicKey, head: TreeHead) -> tuple[str, str] | None:
    """Return why `head` is not one that the owner of `public_key` signed, as (stable code, sentence), or None."""
    malformed = _malformed(head)
    if malformed is not None:
        return "head_malformed", malformed
    expected = key_id(public_key)
    if head.key_id != expected:
        return "key_differs", f"it names key {head.key_id!r}, the key given is {expected}"
    try:
        signature = bytes.fromhex(head.signature)
        public_key.verify(signature, signed_bytes(head))
    except (InvalidSignature, ValueError):
        return "signature_invalid", "the signature is not this key's over this head"
    if signature.hex() != head.signature:
        return "signature_invalid", "the signature is not lowercase hex"
    return None


def signed_bytes(head: TreeHead) -> bytes:
    """Return what the signature covers: the body of a tlog-checkpoint, with the time as its extension line.

    Raises `ValueError` when the root is not hex.
    """
    root = base64.b64encode(bytes.fromhex(head.root)).decode()
    return f"{ORIGIN}{head.tenant}\n{head.size}\n{root}\nat {head.at}\n".encode()


def signed_note(public_key: Ed25519PublicKey, head: TreeHead) -> str:
    """Return `head` as a C2SP signed note (tlog-checkpoint), for witnesses and tools that know nothing of Zentra."""
    origin = ORIGIN + head.tenant
    hint = sha256(origin.encode() + b"\n\x01" + public_key.public_bytes_raw()).digest()[:4]
    signature = base64.b64encode(hint + bytes.fromhex(head.signature)).decode()
    return f"{signed_bytes(head).decode()}\n\N{EM DASH} {origin} {signature}\n"


def key_id(public_key: Ed25519PublicKey) -> str:
    """Return the id of a key: the first 8 hex digits of the SHA-256 of its 32 raw bytes."""
    return sha256(public_key.public_bytes_raw()).hexdigest()[:8]


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    """Return the key in `pem`. Raises `ValueError` when it holds no Ed25519 public key."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 public key")
    return key


def load_private_key(pem: bytes) -> Ed25519PrivateKey:
    """Return the key in `pem`. Raises `ValueError` when it holds no unencrypted Ed25519 private key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not an unencrypted private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 private key")
    return key


def _malformed(head: TreeHead) -> str | None:
    """Return why the fields of `head` would not survive being lines of text, or None."""
    if not is_tenant(head.tenant):
        return f"{head.tenant!r} is not a tenant"
    if not _TIME.match(head.at):
        return f"{head.at!r} is not a time in UTC with microseconds"
    if not _ROOT.match(head.root):
        return f"{head.root!r} is not a root"
    return f"{head.size} is not a size" if head.size < 0 else None
