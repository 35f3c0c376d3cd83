"""Versions of the API: which there are, and the one place where an older one is translated.

- A version is named by a date; a client names it in `zentra-version`, and every answer says which one it speaks.
- Whoever names none speaks 2026.04. It is the first version, so it is the one that every tenant began with. When a
  second one comes, this default stays for tenants that are older than it: that is what pinning means here.
- What is stored and what handlers see is always the current version. An older one is two functions at the border:
  from its requests to the current ones, and from the current answers to its own. The first version needs neither.
- What only adds (a field, a word, a route) makes no version; `zentra.gateway.description.changes` knows the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from zentra.gateway.http.problems import Problem

__all__ = ["CURRENT", "VERSIONS", "Version", "version_of"]


class Version(Struct, frozen=True):
    """One version. `request` makes the body of a current request out of (action, decoded body), `answer` the body of
    this version's answer out of (action, status, body); None where nothing differs. An action is `METHOD /template`,
    or `-` where there is no such route."""

    name: str
    request: Callable[[str, Any], Any] | None = None
    answer: Callable[[str, int, bytes], bytes] | None = None


CURRENT: Final = Version("2026.04")
VERSIONS: Final[Mapping[str, Version]] = {CURRENT.name: CURRENT}


def version_of(given: bytes | None, versions: Mapping[str, Version] = VERSIONS) -> Version:
    """Return the version that a request speaks; raise Problem `version_unknown`, which lists those that there are."""
    if given is None:
        return CURRENT
    known = versions.get(given.decode("latin-1"))
    if known is None:
        names = sorted(versions)
        raise Problem("version_unknown", f"known versions: {', '.join(names)}", members={"known": names})
    return known
