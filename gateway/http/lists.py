"""How lists are asked for and answered: limit, filters, cursor.

- A cursor is a place in one list, sealed: AES-SIV (RFC 5297) under a key derived from the installation's secret, with
  tenant, path and filters as associated data. Nobody can read it, make one, or use it for another tenant, another list
  or other filters; the same place has the same cursor everywhere in the installation.
- A parameter that a list does not know is refused: a filter that is misspelt would show everything.
- There are no offsets and no totals.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from zentra.gateway.http.app import Reply, Request, json_reply
from zentra.gateway.http.fields import SCHEMAS, Check, Objection
from zentra.gateway.http.problems import Problem
from zentra.runtime.errors import Refusal
from zentra.runtime.intents.command import Violation
from zentra.runtime.ledger.money import parse_minor
from zentra.runtime.pointers import escaped

__all__ = [
    "CREATED", "LIMIT_DEFAULT", "LIMIT_MAX", "Asked", "Check", "Cursors", "Lists", "amount", "checked_query", "time",
    "yes_or_no",
]  # fmt: skip

LIMIT_DEFAULT, LIMIT_MAX = 25, 100
CURSOR_CHARACTERS_MAX: Final = 2048  # a place with the snapshot of a busy server has some hundred
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_PURPOSE: Final = b"zentra list cursors"

Place = TypeVar("Place")


def time(value: Any) -> datetime:
    """Return a time with its offset, as RFC 3339 spells it."""
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None and "T" in value.upper():
            return found.astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        pass
    raise Objection("time_malformed", "a time of RFC 3339 with its offset, like 2026-04-01T12:00:00Z")


def amount(value: Any) -> int:
    """Return an amount in minor units, zero included."""
    try:
        return 0 if value == "0" else parse_minor(value)
    except Refusal as refusal:
        raise Objection(refusal.reason, refusal.detail) from None


def yes_or_no(value: Any) -> bool:
    """Return what `true` or `false` says."""
    if value not in ("true", "false"):
        raise Objection("field_type", "true or false")
    return bool(value == "true")


SCHEMAS[yes_or_no] = {"type": "boolean"}
SCHEMAS[time] = {"type": "string", "format": "date-time"}
SCHEMAS[amount] = {"type": "string", "pattern": "^(0|0*[1-9][0-9]{0,18})$"}
CREATED: Final[Mapping[str, Check]] = {"created_from": time, "created_before": time}
"""The range of time that every list has: from the one on, before the other."""


class Cursors:
    """Seals places; raises ValueError for an installation secret under 16 bytes."""

    def __init__(self, installation_secret: bytes) -> None:
        if len(installation_secret) < 16:
            raise ValueError("the installation secret needs at least 16 bytes")
        key = HKDF(algorithm=hashes.SHA256(), length=64, salt=None, info=_PURPOSE).derive(installation_secret)
        self._cipher = AESSIV(key)

    def seal(self, tenant: str, path: str, filters: Mapping[str, str], place: object) -> str:
        """Return the cursor of a place in a list."""
        sealed = self._cipher.encrypt(msgspec.json.encode(place), _bound(tenant, path, filters))
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, tenant: str, path: str, filters: Mapping[str, str], cursor: str, kind: type[Place]) -> Place:
        """Return the place that a cursor of this list says; raise Problem `cursor_malformed` for any other text."""
        try:
            if not cursor.isascii() or len(cursor) > CURSOR_CHARACTERS_MAX:
                raise ValueError("no cursor of ours")
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            return msgspec.json.decode(self._cipher.decrypt(sealed, _bound(tenant, path, filters)), type=kind)
        except (ValueError, binascii.Error, InvalidTag, msgspec.MsgspecError):
            raise Problem("cursor_malformed") from None


def _bound(tenant: str, path: str, filters: Mapping[str, str]) -> list[bytes]:
    return [tenant.encode(), path.encode(), msgspec.json.encode(sorted(filters.items()))]


class Asked(Struct, Generic[Place], frozen=True):
    """What a list was asked for; `filters` holds checked values, `after` the place behind which the page begins."""

    tenant: str
    path: str
    given: dict[str, str]
    filters: dict[str, Any]
    after: Place | None
    limit: int
    seal: Callable[[str, str, Mapping[str, str], object], str]

    def page(self, data: Sequence[object], after: Place | None, **members: object) -> Reply:
        """Return the answer: a page, and the way to the next one where there is one; `members` stand before both."""
        cursor = None if after is None else self.seal(self.tenant, self.path, self.given, after)
        body = {**members, "data": data, "has_more": cursor is not None, "next_cursor": cursor}
        if cursor is None:
            return json_reply(200, body)
        query = urlencode({**self.given, "limit": self.limit, "cursor": cursor})
        return json_reply(200, body, ((b"link", f'<{quote(self.path)}?{query}>; rel="next"'.encode()),))


class Lists:
    """Reads the query of lists; one for the process."""

    def __init__(self, installation_secret: bytes) -> None:
        self._cursors = Cursors(installation_secret)

    def asked(self, request: Request, filters: Mapping[str, Check], place: type[Place]) -> Asked[Place]:
        """Return what a list with these filters is asked for.

        Raises Problem `query_malformed` with every violation, and `cursor_malformed`."""
        query = request.query()
        values = checked_query(request, {**filters, "limit": _limit, "cursor": _cursor})
        values.pop("cursor", None)
        limit = values.pop("limit", LIMIT_DEFAULT)
        given = {name: query[name] for name in values}
        tenant, path = request.principal.tenant, request.scope["path"]
        after = self._cursors.open(tenant, path, given, query["cursor"], place) if "cursor" in query else None
        return Asked(tenant, path, given, values, after, limit, self._cursors.seal)


def checked_query(request: Request, known: Mapping[str, Check]) -> dict[str, Any]:
    """Return the values of a query whose parameters are all `known`.

    Raises Problem `query_malformed` with every violation; pointers are into the query, as if that were an object."""
    violations: list[Violation] = []
    values: dict[str, Any] = {}
    for name, text in request.query().items():
        try:
            if name not in known:
                raise Objection("parameter_unknown", f"one of {', '.join(sorted(known))}")
            values[name] = known[name](text)
        except Objection as objection:
            violations.append(Violation(f"/{escaped(name[:64])}", objection.code, objection.detail))
    if violations:
        raise Problem("query_malformed", errors=violations)
    return values


def _cursor(text: str) -> str:
    """Return a cursor as it is: what it says is another check's."""
    return text


def _limit(text: str) -> int:
    if not _LIMIT.fullmatch(text) or int(text) > LIMIT_MAX:
        raise Objection("limit_malformed", f"a number from 1 to {LIMIT_MAX}")
    return int(text)
