"""Ed25519 signatures; the one place that needs `cryptography`, which the extra `evidence` brings."""

from __future__ import annotations

from hashlib import sha256

from zentra.client.errors import MissingExtraError

__all__ = ["SignatureKey"]


class SignatureKey:
    """A public key; `id` is the first 8 hex digits of the SHA-256 of its 32 raw bytes."""

    def __init__(self, pem: bytes) -> None:
        """Raises ValueError for what is no Ed25519 public key in PEM, and MissingExtraError without `cryptography`."""
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
            from cryptography.hazmat.primitives.serialization import load_pem_public_key
        except ImportError as error:
            raise MissingExtraError("verifying evidence", "evidence") from error
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("not a public key in PEM") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("not an Ed25519 public key")
        self._key = key
        self.id = sha256(key.public_bytes_raw()).hexdigest()[:8]

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Return whether the owner of this key signed these bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True
