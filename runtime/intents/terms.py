"""The terms of an intent: nested parts of a command that not every one has.

They stand in canonical commands and sealed records: what an intent does not use is UNSET and leaves no byte behind, new
fields come last. A reader returns the term, or everything that is wrong with it as (pointer, code, sentence)."""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

__all__ = ["COUNTERPARTY_SCHEMA", "Counterparty", "Flaw", "read_counterparty"]

Flaw = tuple[str, str, str]
"""Where, below the term (a JSON pointer), a stable code, and a sentence."""

NAME_CHARACTERS_MAX: Final = 300
COUNTERPARTY_KINDS: Final = ("person", "organisation")
_COUNTRY: Final = re.compile(r"[A-Z]{2}\Z", re.ASCII)
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,63}\Z", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Counterparty(Struct, frozen=True, gc=False):
    """Whoever gets the money outside of the tenant, as the client names them."""

    name: str
    country: str | UnsetType = UNSET
    account: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET


COUNTERPARTY_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {
            "type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS_MAX, "pattern": "^[^\\x00-\\x1f\\x7f]*$",
        },
        "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "account": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,63}$"},
        "kind": {"enum": list(COUNTERPARTY_KINDS)},
    },
    "required": ["name"],
    "additionalProperties": False,
}  # fmt: skip


def read_counterparty(given: Mapping[str, object]) -> tuple[Counterparty | None, list[Flaw]]:
    """Return the counterparty that a request names, or None and every flaw of it."""
    flaws: list[Flaw] = []
    values: dict[str, str] = {}
    for name, value in given.items():
        fits = _FITS.get(name)
        if fits is None:
            flaws.append(("/" + name.replace("~", "~0").replace("/", "~1"), "field_unknown", "there is no such field"))
        elif not isinstance(value, str):
            flaws.append((f"/{name}", "field_type", "expected a string"))
        elif not fits[0](value):
            flaws.append((f"/{name}", *fits[1:]))
        else:
            values[name] = value
    if "name" not in given:
        flaws.append(("/name", "field_missing", "this field is required"))
    return (None, flaws) if flaws else (Counterparty(**values), [])


def _is_name(text: str) -> bool:
    return 0 < len(text) <= NAME_CHARACTERS_MAX and not _CONTROL.search(text) and bool(text.strip())


_FITS: Final[Mapping[str, tuple[Any, str, str]]] = {
    "name": (_is_name, "text_malformed", f"1 to {NAME_CHARACTERS_MAX} characters, no control characters"),
    "country": (_COUNTRY.match, "country_malformed", "two capital letters, ISO 3166-1"),
    "account": (_ACCOUNT.match, "id_malformed", "1 to 64 letters, digits, spaces and . _ : / -"),
    "kind": (COUNTERPARTY_KINDS.__contains__, "kind_unknown", f"one of {', '.join(COUNTERPARTY_KINDS)}"),
}
