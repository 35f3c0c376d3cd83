"""A client's intent: what is asked for, checked and brought into one canonical form.

A request either becomes an `IntentCommand` or a list of every violation that it holds; nothing in between. The digest
says whether two requests ask for the same thing: it covers the command's type and normalised fields and neither the
route, nor the idempotency key, nor the headers."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from zentra.runtime.errors import Refusal
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.reading import NAMED_ANYWHERE, REQUIRED, Violation, foreign_to, read_terms, term_schema
from zentra.runtime.intents.terms import (
    CHARGEABLE_KINDS,
    COUNTERPARTY_SCHEMA,
    FEE_SCHEMA,
    HOLD_SCHEMA,
    Condition,
    Conversion,
    Counterparty,
    Deposit,
    FeeTerms,
    HoldTerms,
    Leg,
    read_counterparty,
    read_fee,
    read_hold,
)
from zentra.runtime.intents.vocabulary import COMPOSED, IntentKind
from zentra.runtime.ledger.money import AMOUNT_SCHEMA, currencies, is_currency, parse_minor
from zentra.runtime.names import COUNTRY_PATTERN
from zentra.runtime.pointers import escaped

__all__ = [
    "KEY_PATTERN",
    "MONEY_MODEL",
    "PRIMITIVES",
    "IntentCommand",
    "Violation",
    "decode_command",
    "digest_of",
    "intent_schema",
    "parse_intent",
]

MONEY_MODEL: Final = "minor_units + ledger_currency"
PRIMITIVES: Final = ("policy", "ledger", "events")
KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z", re.ASCII)
_SCOPE: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,63}\Z", re.ASCII)
METADATA_ENTRIES_MAX: Final = 32  # a label set, not a document store
METADATA_CHARACTERS_MAX: Final = 512
_KIND_DEFAULT: Final = IntentKind.TRANSFER
_KINDS: Final = frozenset(IntentKind)
_KIND_OF: Final = {kind.value: kind for kind in IntentKind}


class IntentCommand(Struct, frozen=True, kw_only=True, gc=False):
    """The canonical intent. `minor` is a string of digits because it stands in sealed JSON. A hold may do without a
    destination: that is empty then, and every capture names its own."""

    kind: IntentKind
    minor: str
    currency: str
    source: str
    destination: str
    scope: str = "default"
    country: str | None = None
    intent_id: str | None = None
    money_model: str = MONEY_MODEL
    primitives: tuple[str, ...] = PRIMITIVES
    metadata: dict[str, str] = {}
    legs: tuple[Leg, ...] | UnsetType = UNSET  # of a journal; amount, source and destination follow from them
    conditions: tuple[Condition, ...] | UnsetType = UNSET
    effective_at: str | UnsetType = UNSET
    corrects: str | UnsetType = UNSET  # the intent_id of what a journal puts right
    conversion: Conversion | UnsetType = UNSET
    fee: FeeTerms | UnsetType = UNSET
    hold: HoldTerms | UnsetType = UNSET
    counterparty: Counterparty | UnsetType = UNSET
    deposit: Deposit | UnsetType = UNSET

    @property
    def amount(self) -> int:
        """Return the amount in minor units."""
        return int(self.minor)


class _Request(Struct, kw_only=True, forbid_unknown_fields=True):
    kind: str = "transfer"
    amount: int | str
    currency: str
    source: str
    destination: str = ""
    scope: str = "default"
    country: str | None = None
    intent_id: str | UnsetType = UNSET
    money_model: str = MONEY_MODEL
    primitives: list[str] | UnsetType = UNSET
    metadata: dict[str, str] = {}
    hold: dict[str, Any] | UnsetType = UNSET
    fee: dict[str, Any] | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET
    counterparty: dict[str, Any] | UnsetType = UNSET


_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(_Request)}
_WITHOUT_DESTINATION: Final = frozenset({IntentKind.HOLD.value})
_DESTINATION: Final[Mapping[bool, tuple[str, ...]]] = {False: ("destination",), True: ()}


def digest_of(kind: str, fields: Struct | dict[str, Any]) -> bytes:
    """Return the SHA-256 that identifies a command of type `kind` with these normalised fields."""
    return hashlib.sha256(kind.encode() + b"\n" + canonical.encode(fields)).digest()


_decode_command = msgspec.json.Decoder(IntentCommand).decode


def decode_command(data: bytes) -> IntentCommand:
    """Return the command that canonical bytes hold; raise msgspec.ValidationError where they are none."""
    return _decode_command(data)


def parse_intent(
    body: object, kinds: frozenset[str] | None = None
) -> tuple[IntentCommand | None, str | None, list[Violation]]:
    """Return the command, the idempotency key in the body (or None), and every violation.

    `body` is decoded JSON. `kinds` narrows the kinds that this door takes; a door that takes only one fills it in. The
    command is None exactly when there are violations."""
    if not isinstance(body, dict):
        return None, None, [Violation("", "body_not_object", "the body is one JSON object")]
    allowed = kinds or _KINDS
    if "kind" not in body and len(allowed) == 1:
        body = {**body, "kind": next(iter(allowed))}
    flawless = _flawless(body, allowed)
    if flawless is not None:
        return *flawless, []
    terms = read_terms(body, body.get("kind", _KIND_DEFAULT), allowed)
    body, violations = terms.rest, terms.violations
    violations += [
        Violation(f"/{escaped(name)}", "field_unknown", "there is no such field")
        for name in body
        if name not in _FIELDS
    ]
    values: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        if name not in body:
            if name in terms.derived:
                continue
            if field.required or (name == "destination" and str(body.get("kind")) not in _WITHOUT_DESTINATION):
                violations.append(Violation(f"/{name}", "field_missing", "this field is required"))
            continue
        try:
            values[name] = body[name] if name == "amount" else msgspec.convert(body[name], field.type)
        except msgspec.ValidationError as error:
            violations.append(Violation(f"/{name}", "field_type", str(error).partition(" - at")[0].lower()))
    minor = 0
    if "amount" in values:
        try:
            minor = parse_minor(values["amount"])
        except Refusal as refusal:
            violations.append(Violation("/amount", refusal.reason, refusal.detail))
    violations += _semantics({"kind": _KIND_DEFAULT, **values}, allowed)
    violations += _read_terms(values)
    key = values.pop("idempotency_key", None)
    if violations:
        return None, key, violations
    if "amount" in values:
        values["minor"] = str(minor)
        del values["amount"]
    values["kind"] = IntentKind(values.get("kind", _KIND_DEFAULT))
    values["primitives"] = tuple(p for p in PRIMITIVES if p in values.get("primitives", PRIMITIVES))
    return IntentCommand(**{"destination": "", **values, **terms.values}), key, violations


def intent_schema(kinds: frozenset[str] | None = None) -> dict[str, Any]:
    """Return what `parse_intent` takes, as JSON Schema; `kinds` as there."""
    allowed = sorted(kinds or _KINDS)
    name = {"type": "string", "pattern": _as_ecma(_ID)}
    label = {"type": "string", "maxLength": METADATA_CHARACTERS_MAX, "pattern": "^[^\\x00]*$"}
    properties: dict[str, Any] = {
        "kind": {"enum": allowed},
        "amount": dict(AMOUNT_SCHEMA),
        "currency": {"enum": currencies()},
        "source": name,
        "destination": name,
        "scope": {"type": "string", "pattern": _as_ecma(_SCOPE)},
        "country": {"type": ["string", "null"], "pattern": _as_ecma(COUNTRY_PATTERN)},
        "intent_id": name,
        "money_model": {"const": MONEY_MODEL},
        "primitives": {"type": "array", "items": {"enum": list(PRIMITIVES)}},
        "metadata": {
            "type": "object",
            "maxProperties": METADATA_ENTRIES_MAX,
            "propertyNames": {"maxLength": METADATA_CHARACTERS_MAX, "pattern": "^[\\x01-\\x7f]*$"},
            "additionalProperties": label,
        },
        "hold": HOLD_SCHEMA,
        "fee": FEE_SCHEMA,
        "idempotency_key": {"type": "string", "pattern": _as_ecma(KEY_PATTERN)},
        "counterparty": dict(COUNTERPARTY_SCHEMA),
    }
    if not _WITHOUT_DESTINATION & frozenset(allowed):
        del properties["hold"]
    if not set(CHARGEABLE_KINDS) & set(allowed):
        del properties["fee"]
    defaults = {"scope": "default", "money_model": MONEY_MODEL, "primitives": list(PRIMITIVES)}
    if len(allowed) == 1 or _KIND_DEFAULT in allowed:
        defaults["kind"] = allowed[0] if len(allowed) == 1 else str(_KIND_DEFAULT)
    for field, default in defaults.items():
        properties[field] = {**properties[field], "default": default}
    base = [field.name for field in _FIELDS.values() if field.required]
    ways = {kind: REQUIRED.get(kind, (*base, *_DESTINATION[kind in _WITHOUT_DESTINATION])) for kind in allowed}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field: properties[field] for field in _FIELDS if field in properties}
        | term_schema(frozenset(allowed)),
        "required": [field for field in ways[allowed[0]] if all(field in way for way in ways.values())],
        "additionalProperties": False,
    }
    own = {"hold": _WITHOUT_DESTINATION, "fee": frozenset(CHARGEABLE_KINDS), "counterparty": _KINDS - COMPOSED}
    foreign = {kind: [*foreign_to(kind), *(field for field in own if kind not in own[field])] for kind in allowed}
    if len(allowed) == 1:
        for field in foreign[allowed[0]]:
            schema["properties"].pop(field, None)
        return {**schema, **NAMED_ANYWHERE.get(allowed[0], {})}
    rules = [_rule_of(kind, way, schema, foreign[kind]) for kind, way in ways.items()]
    return {**schema, "allOf": rules} if any(rule["then"] for rule in rules) else schema


def _rule_of(kind: str, way: Sequence[str], schema: dict[str, Any], foreign: Iterable[str]) -> dict[str, Any]:
    """Return what an intent of one kind has to have and must not have, beside what all kinds of a door have."""
    named = {} if kind == _KIND_DEFAULT else {"required": ["kind"]}
    then = {
        "required": [field for field in way if field not in schema["required"]],
        "properties": {field: False for field in foreign if field in schema["properties"]},
        **NAMED_ANYWHERE.get(kind, {}),
    }
    return {
        "if": {"properties": {"kind": {"const": kind}}, **named},
        "then": {name: value for name, value in then.items() if value},
    }


def _as_ecma(pattern: re.Pattern[str]) -> str:
    """Return a pattern that is matched from its beginning as one that JSON Schema reads."""
    return f"^{pattern.pattern.removesuffix(chr(92) + 'Z')}$"


def _flawless(body: dict[str, Any], kinds: frozenset[str]) -> tuple[IntentCommand, str | None] | None:
    """Return the command and the key of a body without violations: nearly every one, read in one go.

    None says that it has to be looked at field by field, which knows what to call what is wrong with it."""
    try:
        asked = msgspec.convert(body, _Request)
        minor = parse_minor(asked.amount)
    except (msgspec.ValidationError, Refusal):
        return None
    key = None if asked.idempotency_key is UNSET else asked.idempotency_key
    intent_id = None if asked.intent_id is UNSET else asked.intent_id
    if (
        asked.kind not in kinds
        or asked.kind in REQUIRED  # it has to have terms, and here there are none
        or asked.hold is not UNSET
        or asked.kind in _WITHOUT_DESTINATION
        or not is_currency(asked.currency)
        or not (_ID.match(asked.source) and _ID.match(asked.destination))
        or not (intent_id is None or _ID.match(intent_id))
        or not _SCOPE.match(asked.scope)
        or not (asked.country is None or COUNTRY_PATTERN.match(asked.country))
        or asked.money_model != MONEY_MODEL
        or not (key is None or KEY_PATTERN.match(key))
        or not (asked.primitives is UNSET or all(primitive in PRIMITIVES for primitive in asked.primitives))
        or not (not asked.metadata or _metadata_fits(asked.metadata))
    ):
        return None
    fee: FeeTerms | UnsetType = UNSET
    if asked.fee is not UNSET:
        fee, found = read_fee(asked.fee)
        if found or asked.kind not in CHARGEABLE_KINDS:
            return None
    counterparty: Counterparty | UnsetType = UNSET
    if asked.counterparty is not UNSET:
        counterparty, found = read_counterparty(asked.counterparty)
        if found:
            return None
    primitives: tuple[str, ...] = PRIMITIVES
    if asked.primitives is not UNSET:
        primitives = tuple([primitive for primitive in PRIMITIVES if primitive in asked.primitives])
    command = IntentCommand(
        kind=_KIND_OF[asked.kind], minor=str(minor), currency=asked.currency, source=asked.source,
        destination=asked.destination, scope=asked.scope, country=asked.country, intent_id=intent_id,
        money_model=asked.money_model, primitives=primitives, metadata=asked.metadata, fee=fee,
        counterparty=counterparty,
    )  # fmt: skip
    return command, key


def _metadata_fits(metadata: dict[str, str]) -> bool:
    return len(metadata) <= METADATA_ENTRIES_MAX and all(_entry_fits(*entry) for entry in metadata.items())


def _entry_fits(name: str, text: str) -> bool:
    fits = len(name) <= METADATA_CHARACTERS_MAX and len(text) <= METADATA_CHARACTERS_MAX and name.isascii()
    return fits and "\x00" not in name + text


def _semantics(values: dict[str, Any], kinds: frozenset[str]) -> list[Violation]:
    """Return what is wrong with fields whose types are right."""
    found = []

    def check(name: str, holds: bool, code: str, detail: str) -> None:
        if not holds:
            found.append(Violation(f"/{name}", code, detail))

    check("kind", values["kind"] in kinds, "kind_unknown", f"one of {', '.join(sorted(kinds))}")
    if "currency" in values:
        check("currency", is_currency(values["currency"]), "currency_unknown", "an ISO 4217 code in capitals")
    for name in ("source", "destination", "intent_id"):
        if name in values:
            check(name, bool(_ID.match(values[name])), "id_malformed", "1 to 128 letters, digits and . _ : -")
    if "scope" in values:
        check("scope", bool(_SCOPE.match(values["scope"])), "scope_malformed", "1 to 64 of a-z 0-9 . _ / -")
    if values.get("country") is not None:
        fits = COUNTRY_PATTERN.match(values["country"]) is not None
        check("country", fits, "country_malformed", "two capital letters, ISO 3166-1")
    if "money_model" in values:
        check("money_model", values["money_model"] == MONEY_MODEL, "money_model_unknown", f"only {MONEY_MODEL!r}")
    for number, primitive in enumerate(values.get("primitives", ())):
        check(f"primitives/{number}", primitive in PRIMITIVES, "primitive_unknown", f"one of {', '.join(PRIMITIVES)}")
    metadata = values.get("metadata", {})
    check(
        "metadata",
        len(metadata) <= METADATA_ENTRIES_MAX,
        "metadata_too_large",
        f"at most {METADATA_ENTRIES_MAX} entries",
    )
    for name, text in metadata.items():
        check(
            f"metadata/{escaped(name)}",
            _entry_fits(name, text),
            "metadata_malformed",
            "ASCII names, at most 512 characters",
        )
    if "idempotency_key" in values:
        key = values["idempotency_key"]
        check(
            "idempotency_key",
            bool(KEY_PATTERN.match(key)),
            "idempotency_key_malformed",
            "1 to 255 visible ASCII characters",
        )
    return found


def _read_terms(values: dict[str, Any]) -> list[Violation]:
    """Put the terms of the kind into `values` as the command has them; return what is wrong with them."""
    kind, wrong = values.get("kind", _KIND_DEFAULT), []
    if "counterparty" in values and kind in COMPOSED:
        wrong.append(Violation("/counterparty", "terms_misplaced", f"a {kind} stays in the books"))
    elif "counterparty" in values:
        values["counterparty"], found = read_counterparty(values["counterparty"])
        wrong += [Violation(f"/counterparty{below}", code, detail) for below, code, detail in found]
    if "fee" in values and kind in CHARGEABLE_KINDS:
        values["fee"], found = read_fee(values["fee"])
        wrong += [Violation(f"/fee{below}", code, detail) for below, code, detail in found]
    elif "fee" in values:
        wrong.append(Violation("/fee", "terms_misplaced", f"only {', '.join(CHARGEABLE_KINDS)} have these"))
    if kind != IntentKind.HOLD:
        misplaced = values.get("hold", UNSET) is not UNSET
        return [*wrong, Violation("/hold", "terms_misplaced", "only a hold has these")] if misplaced else wrong
    terms, found = read_hold(values.get("hold", {}))
    values["hold"] = UNSET if terms is None else terms
    return [*wrong, *(Violation(f"/hold{below}", code, detail) for below, code, detail in found)]
