"""What may be a name: tenants and principals, one pattern each for the whole product."""

import re
from typing import Final

__all__ = ["is_principal", "is_tenant"]

_TENANT: Final = re.compile(r"[a-z][a-z0-9-]{1,30}\Z", re.ASCII)
_PRINCIPAL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)


def is_tenant(text: str) -> bool:
    """Return whether `text` can name a tenant: it also stands in subjects, accounts of NATS and keys of Redis."""
    return _TENANT.match(text) is not None


def is_principal(text: str) -> bool:
    """Return whether `text` can name a principal of a tenant."""
    return _PRINCIPAL.match(text) is not None
