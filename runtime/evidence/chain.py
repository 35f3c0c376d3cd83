"""The hash chain of records: each link covers its record and the link before it."""

import hashlib
from typing import Final

__all__ = ["GENESIS", "chain"]

GENESIS: Final = bytes(32)
"""What stands before the first record of an intent."""


def chain(previous: bytes, record: bytes) -> bytes:
    """Return SHA-256(previous || record): `previous` has a fixed length, so no two pairs run together."""
    return hashlib.sha256(previous + record).digest()
