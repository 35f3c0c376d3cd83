"""Secrets at rest, of webhooks and of rails: sealed with keys derived from the installation's secret.

- AES-256-GCM under a random nonce; the key of each purpose comes from HKDF-SHA256 and serves nothing else.
- What a seal is bound to is authenticated with it: bound to another thing it does not open.
- The first byte names the version and is authenticated, so a sealed value can never be read as another version's.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["RAIL_SECRETS", "SealBroken", "Sealer"]

SECRET_BYTES_MIN: Final = 16
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
WEBHOOK_SECRETS: Final = b"zentra webhook secrets"
RAIL_SECRETS: Final = b"zentra rail secrets"


class SealBroken(Exception):
    """Raised for bytes that were not sealed with this installation's secret, or were changed since."""


class Sealer:
    """Seals and opens for one purpose; raises ValueError for an installation secret under 16 bytes."""

    def __init__(self, installation_secret: bytes, purpose: bytes = WEBHOOK_SECRETS) -> None:
        if len(installation_secret) < SECRET_BYTES_MIN:
            raise ValueError(f"the installation secret needs at least {SECRET_BYTES_MIN} bytes")
        derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose).derive(installation_secret)
        self._cipher = AESGCM(derived)

    def seal(self, plain: bytes, bound_to: bytes = b"") -> bytes:
        """Return `plain`, sealed and bound; no two seals are alike."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, _VERSION + bound_to)

    def open(self, sealed: bytes, bound_to: bytes = b"") -> bytes:
        """Return what was sealed and bound so; raise SealBroken."""
        if sealed[:1] != _VERSION:
            raise SealBroken("unknown version")
        nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, rest, _VERSION + bound_to)
        except (InvalidTag, ValueError) as error:
            raise SealBroken("the seal does not fit") from error
