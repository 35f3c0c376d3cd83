"""Reading small bodies field by field, so that every violation is named at once.

A check returns the value to use or raises `Objection`; what has no check is an unknown field. Texts never hold control
characters: the store would refuse some of them, and nobody could read the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from zentra.gateway.http.problems import of_violations
from zentra.runtime.errors import Refusal
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import Violation
from zentra.runtime.ledger.money import AMOUNT_SCHEMA, MINOR_MAX, currencies, is_currency, parse_minor
from zentra.runtime.ledger.names import SCHEMES, is_number
from zentra.runtime.names import is_host
from zentra.runtime.pointers import escaped
from zentra.runtime.webhooks.standard import FILTER, filter_is_valid
from zentra.storage.intake.configuration import CLIENT_ACCOUNT_TYPES

__all__ = [
    "NOTHING", "SCHEMAS", "Field", "Objection", "account_identifier", "account_type", "amount_or_full", "boolean",
    "currency", "digest", "event_filters", "identifier", "identifier_or_null", "json_object", "limit_minor", "one_of",
    "read_fields", "signed_minor", "text", "url",
]  # fmt: skip

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z", re.ASCII)
_MINOR: Final = re.compile(r"-?[0-9]{1,19}\Z", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
TEXT_CHARACTERS_MAX: Final = 1000  # a reason, not an essay
URL_CHARACTERS_MAX: Final = 2048
FILTERS_MAX: Final = 64
OBJECT_BYTES_MAX: Final = 16 * 1024


class Objection(Exception):
    """Raised by a check: a code and a sentence."""

    def __init__(self, code: str, detail: str, below: str = "") -> None:
        super().__init__(code)
        self.code, self.detail, self.below = code, detail, below


Check = Callable[[Any], Any]
SCHEMAS: Final[dict[Check, dict[str, Any]]] = {}
"""What each check lets through, as JSON Schema: what the description of the API says of a field."""


class Field(Struct, frozen=True):
    """How one field is read; without a default it is required."""

    check: Check
    default: Any = ...


NOTHING: Final[Mapping[str, Field]] = {}
"""The fields of a body that says nothing but, perhaps, its key."""


def read_fields(body: object, fields: Mapping[str, Field]) -> tuple[dict[str, Any], str | None]:
    """Return the values of `fields` in `body`, and the idempotency key where the body holds one.

    Raises Problem naming every violation."""
    if not isinstance(body, dict):
        raise of_violations([Violation("", "body_not_object", "the body is one JSON object")])
    violations: list[Violation] = []
    values: dict[str, Any] = {}
    for name, value in body.items():
        field = _KEY if name == "idempotency_key" else fields.get(name)
        if field is None:
            violations.append(Violation(f"/{escaped(name)}", "field_unknown", "there is no such field"))
            continue
        try:
            values[name] = field.check(value)
        except Objection as objection:
            violations.append(Violation(f"/{name}{objection.below}", objection.code, objection.detail))
    for name, field in fields.items():
        if name not in body:
            if field.default is ...:
                violations.append(Violation(f"/{name}", "field_missing", "this field is required"))
            values[name] = field.default
    if violations:
        raise of_violations(violations)
    return values, values.pop("idempotency_key", None)


def text(value: Any) -> str:
    """Return a text of 1 to 1000 characters."""
    _string(value)
    if not 0 < len(value) <= TEXT_CHARACTERS_MAX or _CONTROL.search(value):
        raise Objection("text_malformed", f"1 to {TEXT_CHARACTERS_MAX} characters, no control characters")
    return str(value)


def identifier(value: Any) -> str:
    """Return an id."""
    _string(value)
    if not _IDENTIFIER.match(value):
        raise Objection("id_malformed", "1 to 128 letters, digits and . _ : -")
    return str(value)


def account_identifier(value: Any) -> str:
    """Return an id that an account may be opened under: none that could be a number."""
    if is_number(identifier(value)):
        raise Objection("id_reserved", f"what begins with {', '.join(f'{scheme}:' for scheme in SCHEMES)} is a number")
    return str(value)


def limit_minor(value: Any) -> int:
    """Return minor units, zero included."""
    minor = signed_minor(value)
    if minor < 0:
        raise Objection("minor_malformed", "0 or more minor units")
    return minor


def signed_minor(value: Any) -> int:
    """Return minor units that may be below zero: an integer, or digits behind a minus or none."""
    if isinstance(value, str) and _MINOR.match(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MINOR_MAX:
        raise Objection("minor_malformed", "an integer or digits, in minor units")
    return int(value)


def identifier_or_null(value: Any) -> str | None:
    """Return an id, or None for nobody."""
    return None if value is None else identifier(value)


def digest(value: Any) -> str:
    """Return a SHA-256 in hex."""
    _string(value)
    if not _DIGEST.match(value):
        raise Objection("hash_malformed", "64 hexadecimal digits in small letters, as they were shown")
    return str(value)


def json_object(value: Any) -> dict[str, Any]:
    """Return a JSON object that has a canonical form, and is no document store."""
    if not isinstance(value, dict):
        raise Objection("field_type", "expected an object")
    try:
        size = len(canonical.encode(value))
    except (ValueError, TypeError) as error:
        raise Objection("field_type", f"numbers are integers below 2^53 and texts are sound: {error}") from None
    if size > OBJECT_BYTES_MAX:
        raise Objection("field_type", f"an object of at most {OBJECT_BYTES_MAX // 1024} KiB")
    return value


def currency(value: Any) -> str:
    """Return a currency code."""
    _string(value)
    if not is_currency(value):
        raise Objection("currency_unknown", "an ISO 4217 code in capitals")
    return str(value)


def one_of(code: str, *words: str) -> Check:
    """Return a check for one of these words."""

    def check(value: Any) -> str:
        _string(value)
        if value not in words:
            raise Objection(code, f"one of {', '.join(words)}")
        return str(value)

    SCHEMAS[check] = {"type": "string", "enum": list(words)}
    return check


account_type: Final = one_of("account_type_unknown", *CLIENT_ACCOUNT_TYPES)


def amount_or_full(value: Any) -> str:
    """Return digits, or the word "full"."""
    if value == "full":
        return "full"
    try:
        return str(parse_minor(value))
    except Refusal as refusal:
        raise Objection(refusal.reason, f"{refusal.detail}, or the word full") from None


def boolean(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise Objection("field_type", "expected true or false")
    return value


def url(value: Any) -> str:
    """Return an http or https URL without a user; which addresses may be called is decided when it is."""
    _string(value)
    try:
        parts = urlsplit(value)
        port = parts.port
        host = parts.hostname or ""
        fits = parts.scheme in ("http", "https") and parts.username is None and port != 0
        fits = fits and (is_host(host) or ":" in host)  # as an address of IPv6 has
    except ValueError:
        fits = False
    if not fits or len(value) > URL_CHARACTERS_MAX or _CONTROL.search(value) or " " in value or not value.isascii():
        raise Objection("url_malformed", "an http or https URL without a user")
    return str(value)


def event_filters(value: Any) -> tuple[str, ...]:
    """Return topics, beginnings of topics followed by `.*`, or `*`."""
    if not isinstance(value, list) or not value or len(value) > FILTERS_MAX:
        raise Objection("field_type", f"a list of 1 to {FILTERS_MAX} event filters")
    for place, one in enumerate(value):
        if not isinstance(one, str) or not filter_is_valid(one):
            raise Objection("event_filter_malformed", "a topic, its beginning followed by .*, or *", f"/{place}")
    return tuple(dict.fromkeys(value))


def _string(value: Any) -> None:
    if not isinstance(value, str):
        raise Objection("field_type", "expected a string")


def _key(value: Any) -> str:
    _string(value)
    return str(value)


def _minor_schema(least: int) -> dict[str, Any]:
    digits = "[0-9]{1,19}" if least == 0 else "-?[0-9]{1,19}"
    return {"anyOf": [{"type": "integer", "minimum": least, "maximum": MINOR_MAX},
                      {"type": "string", "pattern": f"^{digits}$"}]}  # fmt: skip


SCHEMAS.update({
    text: {"type": "string", "minLength": 1, "maxLength": TEXT_CHARACTERS_MAX, "pattern": "^[^\\x00-\\x1f\\x7f]*$"},
    identifier: {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"},
    account_identifier: {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"},
    limit_minor: _minor_schema(0),
    signed_minor: _minor_schema(-MINOR_MAX),
    identifier_or_null: {"type": ["string", "null"], "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"},
    digest: {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    json_object: {"type": "object"},
    currency: {"type": "string", "enum": currencies()},
    boolean: {"type": "boolean"},
    amount_or_full: {"anyOf": [{"const": "full"}, *AMOUNT_SCHEMA["anyOf"]]},
    url: {"type": "string", "format": "uri", "maxLength": URL_CHARACTERS_MAX, "pattern": "^https?://"},
    event_filters: {
        "type": "array", "minItems": 1, "maxItems": FILTERS_MAX,
        "items": {"type": "string", "pattern": f"^({FILTER.pattern})$"},
    },
})  # fmt: skip
_KEY: Final = Field(_key)  # which keys are well-formed is asked once the headers are known too
