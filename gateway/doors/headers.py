"""Which headers of a callback are kept, and how: what proves it stays, what would open a door is not written down.

- Headers are bounded in number and size; what lies beyond the bounds is left out.
- A value that holds a secret of the rail is never kept. Where the proof is not bound to the body it is the secret, or
  as good as it, so whatever looks like a proof is not kept; a signature over the body is of use to nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from zentra.runtime.rails.port import RailSettings, Trust, requires_requery

__all__ = ["HEADERS_MAX", "REDACTED", "VALUE_CHARACTERS_MAX", "kept_headers"]

HEADERS_MAX: Final = 50
NAME_CHARACTERS_MAX: Final = 100
VALUE_CHARACTERS_MAX: Final = 1_000  # an RSA signature of 4,096 bits has 700
REDACTED: Final = "[redacted]"
SECRET_CHARACTERS_MIN: Final = 6  # a shorter one would be found in words that are none
_NEVER: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_PROOF: Final = re.compile(r"auth|signature|secret|token|key|passw|hash|hmac|credential")


def kept_headers(given: Mapping[str, str], settings: RailSettings, trust: Trust) -> dict[str, str]:
    """Return the headers to keep of a callback, by their lower-case names; `trust` is what its proof carries."""
    secrets = [text for text in _secrets(settings) if len(text) >= SECRET_CHARACTERS_MIN]
    kept: dict[str, str] = {}
    for name, value in given.items():
        if len(kept) >= HEADERS_MAX:
            break
        if name in _NEVER or len(name) > NAME_CHARACTERS_MAX or "\x00" in value:
            continue
        tells = any(secret in value for secret in secrets) or (requires_requery(trust) and _PROOF.search(name))
        kept[name] = REDACTED if tells else value[:VALUE_CHARACTERS_MAX]
    return kept


def _secrets(settings: RailSettings) -> Iterable[str]:
    return settings.secret, *settings.secrets.values()
