"""Reading the terms of an intent: legs, conditions, an effective date, what it corrects, what it buys.

`read_terms` takes them out of a decoded body and leaves the rest to `command.parse_intent`. Every violation is named
at once, by its place. A field that the kind does not have is unknown to it; what follows from other fields (the
amount of a journal is that of its legs) is not the client's to say."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, field

from zentra.runtime.errors import Refusal
from zentra.runtime.intents.terms import Condition, Conversion, Leg
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.money import AMOUNT_SCHEMA, MINOR_MAX, currencies, is_currency, parse_minor
from zentra.runtime.pointers import escaped

__all__ = [
    "CONDITIONS_MAX",
    "LEGS_MAX",
    "NAMED_ANYWHERE",
    "REQUIRED",
    "TERM_FIELDS",
    "Terms",
    "Violation",
    "foreign_to",
    "moment_of",
    "read_terms",
    "term_schema",
]

LEGS_MAX: Final = 100  # the postings of one record, which is sealed and sent as a whole
CONDITIONS_MAX: Final = 20
QUOTE_CHARACTERS_MAX: Final = 1_024
REFERENCE_CHARACTERS_MAX: Final = 140  # as the remittance information of a bank has
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z", re.ASCII)
_REFERENCE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,140}\Z")
_QUOTE: Final = re.compile(r"[A-Za-z0-9_.-]{1,1024}\Z", re.ASCII)
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z", re.ASCII
)
_SIGNED: Final = re.compile(r"-?[0-9]{1,19}\Z", re.ASCII)
_OF: Final = ("available", "posted", "pending")

_J, _C, _B = IntentKind.JOURNAL, IntentKind.CONVERSION, IntentKind.BOOK_TRANSFER
TERM_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "legs": frozenset({_J}),
    "corrects": frozenset({_J}),
    "effective_at": frozenset({_J, _B}),
    "buy_currency": frozenset({_C}),
    "quote": frozenset({_C}),
    "conditions": frozenset({IntentKind.TRANSFER, IntentKind.PAYMENT, IntentKind.HOLD, _B, _J, _C}),
}
"""The kinds that have each field."""
_DERIVED: Final = ("amount", "source", "destination")  # from the legs of a journal
_OF_ALL: Final = ("amount", "currency", "source", "destination")
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {_J.value: ("legs",), _C.value: (*_OF_ALL, "buy_currency")}
"""What an intent of a kind has to name; of the others, an amount, a currency and two accounts."""
NAMED_ANYWHERE: Final[Mapping[str, Mapping[str, Any]]] = {
    _J.value: {
        "anyOf": [{"required": ["currency"]}, {"properties": {"legs": {"items": {"required": ["currency"]}}}}],
    },
}
"""What an intent of a kind names in one place or in another, as JSON Schema: each leg its currency, or the journal."""


class Violation(Struct, frozen=True):
    """One thing that is wrong with a request: where (a JSON pointer), a stable code, and a sentence."""

    pointer: str
    code: str
    detail: str


class Terms(Struct):
    """What was read: the body without its terms, fields of the command, and what is wrong."""

    rest: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    derived: tuple[str, ...] = ()

    def object(self, pointer: str, code: str, detail: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(pointer, code, detail))


def read_terms(body: Mapping[str, Any], kind: object, allowed: Collection[str]) -> Terms:
    """Return the terms in `body` of an intent of this kind, which may be none at all, or none of those `allowed`."""
    rest = {name: value for name, value in body.items() if name not in TERM_FIELDS}
    terms = Terms(rest)
    if not isinstance(kind, str) or kind not in allowed:
        if _J in allowed:  # nobody knows what an intent of no kind would need
            terms.derived = (*_DERIVED, "currency")
        return terms  # that it is none is said elsewhere
    for name, kinds in TERM_FIELDS.items():
        if name in body and kind not in kinds:
            terms.object(f"/{name}", "field_unknown", f"a {kind} has no such field")
    if kind == _J:
        _read_legs(terms, body)
    elif kind == _C:
        _read_conversion(terms, body)
    for name, read in _READERS.items():
        if name in body and kind in TERM_FIELDS[name]:
            read(terms, body[name])
    return terms


def _read_legs(terms: Terms, body: Mapping[str, Any]) -> None:
    """Read the legs, and derive what follows from them: the amount is the sum of those in the main currency."""
    terms.derived = (*_DERIVED, "currency")
    for name in _DERIVED:
        if name in terms.rest:
            del terms.rest[name]
            terms.object(f"/{name}", "field_unknown", "it follows from the legs")
    named = "currency" in terms.rest
    currency = terms.rest.pop("currency", None)
    if named and not (isinstance(currency, str) and is_currency(currency)):
        terms.object("/currency", "currency_unknown", "an ISO 4217 code in capitals")
        currency = ""  # which no leg is to blame for
    if "legs" not in body:
        terms.object("/legs", "field_missing", "this field is required")
        return
    given = body["legs"]
    if not isinstance(given, list) or not 1 <= len(given) <= LEGS_MAX:
        terms.object("/legs", "legs_malformed", f"a list of 1 to {LEGS_MAX} legs")
        return
    legs = [_read_leg(terms, f"/legs/{place}", leg, currency) for place, leg in enumerate(given)]
    if terms.violations:
        return
    first = legs[0]
    main = currency or first.currency
    sums: dict[str, int] = {}
    for leg in legs:
        sums[leg.currency] = sums.get(leg.currency, 0) + int(leg.minor)
    if main not in sums:
        terms.object("/currency", "currency_unused", "no leg is in this currency")
    elif max(sums.values()) > MINOR_MAX:
        terms.object("/legs", "amount_overflow", "the legs of one currency sum up to at most 64 bits")
    else:
        terms.values |= {
            "legs": tuple(legs), "minor": str(sums[main]), "currency": main, "source": first.source,
            "destination": first.destination,
        }  # fmt: skip


def _read_leg(terms: Terms, at: str, given: object, currency: str | None) -> Leg:
    """Return a leg; where something is wrong with it, it is said and what is returned is of no use."""
    leg = _members(terms, at, given, ("source", "destination", "amount"), ("currency", "reference"))
    for name in ("source", "destination"):
        if name in leg:
            _id(terms, f"{at}/{name}", leg[name])
    minor = _amount(terms, f"{at}/amount", leg["amount"]) if "amount" in leg else 0
    code = leg.get("currency", currency)
    if code is None and "currency" not in leg:
        terms.object(f"{at}/currency", "field_missing", "each leg names its currency, or the journal does for all")
    elif "currency" in leg and not (isinstance(code, str) and is_currency(code)):
        terms.object(f"{at}/currency", "currency_unknown", "an ISO 4217 code in capitals")
    reference = leg.get("reference")
    if "reference" in leg and not (isinstance(reference, str) and _REFERENCE.match(reference)):
        terms.object(f"{at}/reference", "text_malformed", f"1 to {REFERENCE_CHARACTERS_MAX} characters")
    if terms.violations:
        return Leg(source="", destination="", minor="0", currency="")
    named = {"reference": reference} if reference is not None else {}
    assert isinstance(code, str)
    return Leg(source=leg["source"], destination=leg["destination"], minor=str(minor), currency=code, **named)


def _read_conversion(terms: Terms, body: Mapping[str, Any]) -> None:
    buy, quote = body.get("buy_currency"), body.get("quote")
    if "buy_currency" not in body:
        terms.object("/buy_currency", "field_missing", "this field is required")
    elif not isinstance(buy, str) or not is_currency(buy):
        terms.object("/buy_currency", "currency_unknown", "an ISO 4217 code in capitals")
    elif buy == body.get("currency"):
        terms.object("/buy_currency", "currencies_must_be_different", "what is bought has another currency")
    if "quote" in body and not (isinstance(quote, str) and _QUOTE.match(quote)):
        terms.object("/quote", "quote_malformed", "a quote as it was given")
    if not terms.violations:
        terms.values["conversion"] = Conversion(buy=str(buy), **({"quote": str(quote)} if quote is not None else {}))


def _read_conditions(terms: Terms, given: object) -> None:
    if not isinstance(given, list) or not 1 <= len(given) <= CONDITIONS_MAX:
        terms.object("/conditions", "conditions_malformed", f"a list of 1 to {CONDITIONS_MAX} conditions")
        return
    read = [_read_condition(terms, f"/conditions/{place}", one) for place, one in enumerate(given)]
    if not terms.violations:
        terms.values["conditions"] = tuple(read)


def _read_condition(terms: Terms, at: str, given: object) -> Condition:
    condition = _members(terms, at, given, ("account", "of"), ("min", "max"))
    if "account" in condition:
        _id(terms, f"{at}/account", condition["account"])
    if "of" in condition and condition["of"] not in _OF:
        terms.object(f"{at}/of", "condition_malformed", f"one of {', '.join(_OF)}")
    bounds = {name: _signed(terms, f"{at}/{name}", condition[name]) for name in ("min", "max") if name in condition}
    if isinstance(given, dict) and not bounds:
        terms.object(at, "condition_malformed", "min, max or both")
    elif len(bounds) == 2 and bounds["min"] > bounds["max"]:
        terms.object(at, "condition_malformed", "min is not above max")
    if terms.violations:
        return Condition(account="", of="")
    return Condition(
        account=condition["account"], of=condition["of"], **{name: str(value) for name, value in bounds.items()}
    )


def _read_effective(terms: Terms, given: object) -> None:
    moment = moment_of(given)
    if moment is None:
        terms.object("/effective_at", "time_malformed", "RFC 3339 with an offset, such as 2026-04-01T09:00:00Z")
    else:
        terms.values["effective_at"] = moment.isoformat(timespec="microseconds")[:-6] + "Z"


def _read_corrects(terms: Terms, given: object) -> None:
    if _id(terms, "/corrects", given):
        terms.values["corrects"] = given


_READERS: Final[Mapping[str, Callable[[Terms, Any], None]]] = {
    "conditions": _read_conditions,
    "effective_at": _read_effective,
    "corrects": _read_corrects,
}


def moment_of(given: object) -> datetime | None:
    """Return the time, in UTC, that RFC 3339 text says; None where it says none."""
    if not isinstance(given, str) or not _TIME.match(given):
        return None
    try:
        return datetime.fromisoformat(given.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _members(
    terms: Terms, at: str, given: object, required: Sequence[str], optional: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """Return the members of an object; where one is missing or unknown, that is said."""
    if not isinstance(given, dict):
        terms.object(at, "field_type", "expected an object")
        return {}
    for name in given:
        if name not in required and name not in optional:
            terms.object(f"{at}/{escaped(name)}", "field_unknown", "there is no such field")
    for name in required:
        if name not in given:
            terms.object(f"{at}/{name}", "field_missing", "this field is required")
    return given


def _id(terms: Terms, at: str, given: object) -> bool:
    if isinstance(given, str) and _ID.match(given):
        return True
    terms.object(at, "id_malformed", "1 to 128 letters, digits and . _ : -")
    return False


def _amount(terms: Terms, at: str, given: object) -> int:
    try:
        return parse_minor(given)
    except Refusal as refusal:
        terms.object(at, refusal.reason, refusal.detail)
        return 0


def _signed(terms: Terms, at: str, given: object) -> int:
    if isinstance(given, str) and _SIGNED.match(given):
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int):
        terms.object(at, "amount_invalid", "an amount is an integer or a string of digits, here with a sign or without")
        return 0
    if abs(given) > MINOR_MAX:
        terms.object(at, "amount_overflow", "an amount fits signed 64 bits")
        return 0
    return given


def foreign_to(kind: str) -> list[str]:
    """Return the fields that an intent of this kind does not have although others do."""
    found = [name for name, kinds in TERM_FIELDS.items() if kind not in kinds]
    return [*found, *_DERIVED] if kind == _J else found


def term_schema(kinds: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Return the fields that `read_terms` takes for these kinds, as JSON Schema."""
    name = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"}
    currency = {"enum": currencies()}
    signed = {
        "anyOf": [{"type": "integer", "minimum": -MINOR_MAX, "maximum": MINOR_MAX},
                  {"type": "string", "pattern": "^-?[0-9]{1,18}$"}]
    }  # fmt: skip
    leg = {
        "source": name, "destination": name, "amount": dict(AMOUNT_SCHEMA), "currency": currency,
        "reference": {"type": "string", "minLength": 1, "maxLength": REFERENCE_CHARACTERS_MAX,
                      "pattern": "^[^\\x00-\\x1f\\x7f]*$"},
    }  # fmt: skip
    condition = {"account": name, "of": {"enum": list(_OF)}, "min": signed, "max": signed}
    fields: dict[str, dict[str, Any]] = {
        "legs": {
            "type": "array", "minItems": 1, "maxItems": LEGS_MAX,
            "items": {"type": "object", "properties": leg, "required": ["source", "destination", "amount"],
                      "additionalProperties": False},
        },
        "corrects": name,
        "effective_at": {"type": "string", "format": "date-time"},
        "buy_currency": currency,
        "quote": {"type": "string", "minLength": 1, "maxLength": QUOTE_CHARACTERS_MAX, "pattern": "^[A-Za-z0-9_.-]+$"},
        "conditions": {
            "type": "array", "minItems": 1, "maxItems": CONDITIONS_MAX,
            "items": {"type": "object", "properties": condition, "required": ["account", "of"],
                      "anyOf": [{"required": ["min"]}, {"required": ["max"]}], "additionalProperties": False},
        },
    }  # fmt: skip
    return {field_: schema for field_, schema in fields.items() if TERM_FIELDS[field_] & kinds}
