"""What may be a name: of tenants, principals and whoever is behind money, one rule each for the whole product."""

import re
from typing import Any, Final

__all__ = [
    "COUNTRY_PATTERN",
    "LEGAL_CHARACTERS_MAX",
    "LEGAL_KINDS",
    "LEGAL_NAME_SCHEMA",
    "is_host",
    "is_legal_name",
    "is_principal",
    "is_tenant",
]

_TENANT: Final = re.compile(r"[a-z][a-z0-9-]{1,30}\Z", re.ASCII)
_PRINCIPAL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
LEGAL_KINDS: Final = ("person", "organisation")
LEGAL_CHARACTERS_MAX: Final = 300  # the longest name in the published lists of sanctions is shorter
LEGAL_NAME_SCHEMA: Final[dict[str, Any]] = {
    "type": "string", "minLength": 1, "maxLength": LEGAL_CHARACTERS_MAX,
    "pattern": "^[^\\x00-\\x1f\\x7f]*[^\\x00-\\x1f\\x7f\\s][^\\x00-\\x1f\\x7f]*$",  # and not all blank
}  # fmt: skip
"""What `is_legal_name`, as JSON Schema."""
_HOST: Final = re.compile(r"(?=.{1,253}\.?\Z)[^.\x00-\x20\x7f]{1,63}(\.[^.\x00-\x20\x7f]{1,63})*\.?\Z")
COUNTRY_PATTERN: Final = re.compile(r"[A-Z]{2}\Z", re.ASCII)
"""A country of ISO 3166-1."""


def is_tenant(text: str) -> bool:
    """Return whether `text` can name a tenant: it also stands in subjects, accounts of NATS and keys of Redis."""
    return _TENANT.match(text) is not None


def is_principal(text: str) -> bool:
    """Return whether `text` can name a principal of a tenant."""
    return _PRINCIPAL.match(text) is not None


def is_host(text: str) -> bool:
    """Return whether a name server can be asked for `text` (RFC 1035, 2.3.4): labels of 1 to 63 characters, together at
    most 253, with or without a dot at the end. What an address looks like in brackets is none."""
    return _HOST.match(text) is not None


def is_legal_name(text: str) -> bool:
    """Return whether `text` can be what a person or an organisation is called: 1 to 300 characters, none of control."""
    return 0 < len(text) <= LEGAL_CHARACTERS_MAX and not _CONTROL.search(text) and bool(text.strip())
