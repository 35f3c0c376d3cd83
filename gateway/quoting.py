"""Quotes as text that only this installation can make: what they say, behind a signature over it.

- HMAC-SHA256 under a key derived from the installation's secret for this purpose alone; compared in constant time.
- A quote holds no secret: whoever has one can read it. Nobody can change one, or make one."""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256
from typing import Final

import msgspec

from zentra.runtime.ledger.conversion import Quote

__all__ = ["Quotes"]

_PURPOSE: Final = b"zentra conversion quotes"
_decode = msgspec.json.Decoder(Quote).decode


class Quotes:
    """Seals and opens; raises ValueError for an installation secret under 16 bytes."""

    def __init__(self, installation_secret: bytes) -> None:
        if len(installation_secret) < 16:
            raise ValueError("the installation secret needs at least 16 bytes")
        self._key = hmac.digest(installation_secret, _PURPOSE, sha256)

    def seal(self, quote: Quote) -> str:
        """Return a quote as text."""
        said = _text(msgspec.json.encode(quote))
        return f"{said}.{_text(self._signature(said))}"

    def open(self, sealed: str) -> Quote | None:
        """Return what was sealed, or None for any other text."""
        said, _, signature = sealed.partition(".")
        try:
            given = base64.b64decode(signature + "=" * (-len(signature) % 4), altchars=b"-_", validate=True)
            if not hmac.compare_digest(given, self._signature(said)):
                return None
            return _decode(base64.b64decode(said + "=" * (-len(said) % 4), altchars=b"-_", validate=True))
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            return None

    def _signature(self, said: str) -> bytes:
        return hmac.digest(self._key, said.encode(), sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
