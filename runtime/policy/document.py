"""A policy document: what a tenant writes, checked as a whole, with every violation named.

A document either becomes `PolicyRules` or a list of everything that is wrong with it. Its digest is that of its JSON
with sorted keys, so it says what was written, whoever asks and whenever."""

import hashlib
import re
from collections.abc import Collection, Iterator
from itertools import chain, islice
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from zentra.runtime.compliance.matching import CUTOFF
from zentra.runtime.compliance.rules import COMPLIANCE_RULES, LIST_AGE_HOURS_MAX, SCREENS, flaw_of
from zentra.runtime.intents.command import Violation
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.money import MINOR_MAX, is_currency
from zentra.runtime.pointers import escaped
from zentra.runtime.policy.conditions import OPERATORS, PARTS_MAX, fields_in, violations_in
from zentra.runtime.policy.fields import FIELDS, RISK_SCORE
from zentra.runtime.policy.rules import Limits, PolicyRules, Risk, Rule, Window, unusable
from zentra.runtime.policy.scoring import DEFAULT_SCORER, SCORE_MAX
from zentra.runtime.policy.shape import misshaped, oversized
from zentra.runtime.policy.standard import STANDARD_RULES
from zentra.runtime.policy.windows import BUCKETS_MAX, CALENDARS, DIMENSIONS, SECONDS_MAX, SECONDS_MIN

__all__ = [
    "DOCUMENT_BYTES_MAX",
    "digest_of_document",
    "document_of",
    "parse_policy",
    "policy_schema",
    "rules_of",
    "unknown_names",
]

DOCUMENT_BYTES_MAX: Final = 64 * 1024
RULES_MAX: Final = 100
WINDOWS_MAX: Final = 16  # each is a row that an intent locks
LISTS_MAX: Final = 32
ENTRIES_MAX: Final = 10_000
VIOLATIONS_MAX: Final = 100  # are named; nobody mends more of them at once
_SLUG: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z", re.ASCII)
_FIELDS: Final = frozenset(PolicyRules.__struct_fields__) - {"version", "unusable"}  # which no document says
_ZONE: Final = re.compile(  # names that every machine has and understands alike: neither localtime nor US/Eastern
    r"(?:UTC|(?:Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Etc|Europe|Indian|Pacific)(?:/[A-Za-z0-9_+-]{1,32}){1,2})\Z",
    re.ASCII,
)
_OUTCOMES: Final = ("deny", "review", "allow")
_ENCODE: Final = msgspec.json.Encoder(order="sorted").encode


def digest_of_document(document: Any) -> str:
    """Return the SHA-256 of a document, in hex."""
    return hashlib.sha256(b"policy\n" + _ENCODE(document)).hexdigest()


def document_of(rules: PolicyRules) -> dict[str, Any]:
    """Return the document that says these rules, without what is left at its default."""
    document: dict[str, Any] = _without_defaults(rules, PolicyRules())
    document.pop("version", None)
    return document


def _without_defaults(value: msgspec.Struct, default: msgspec.Struct) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(value)
    return {name: given for name, given in built.items() if getattr(value, name) != getattr(default, name)}


def rules_of(document: Any, version: int) -> PolicyRules:
    """Return what stands in the store as rules; rules that let nothing pass where it is no valid document.

    What was stored before there were documents names its version, which is not looked at."""
    if isinstance(document, dict) and "version" in document:
        document = {name: value for name, value in document.items() if name != "version"}
    rules, violations = parse_policy(document)
    if rules is None:
        first = violations[0]
        return unusable(version, f"{first.pointer or '/'}: {first.detail}")
    return msgspec.structs.replace(rules, version=version)


def parse_policy(document: Any) -> tuple[PolicyRules | None, list[Violation]]:
    """Return the rules that a document holds, version 0, or None and what is wrong, the first hundred violations.

    No document of at most DOCUMENT_BYTES_MAX takes more than 20 ms, whatever it holds."""
    if not isinstance(document, dict):
        return None, [Violation("", "body_not_object", "a policy is one JSON object")]
    excess = oversized(document)
    if excess is not None:
        return None, [excess]
    unknown = [name for name in document if name not in _FIELDS]
    if unknown:
        told = unknown[:VIOLATIONS_MAX]
        return None, [Violation(f"/{escaped(name)}", "field_unknown", "there is no such field") for name in told]
    try:
        rules = msgspec.convert(document, PolicyRules)
    except msgspec.ValidationError as error:
        return None, [misshaped(document, str(error))]
    parts = (_limits, _zone, _windows, _lists, _rules, _risk, _compliance)
    violations = list(islice(chain.from_iterable(part(rules) for part in parts), VIOLATIONS_MAX))
    return (None, violations) if violations else (rules, [])


def unknown_names(rules: PolicyRules, *, scorers: Collection[str], lists: Collection[str]) -> list[Violation]:
    """Return what rules name that an installation does not have: one of its own scorers, or a loaded screening list."""
    found = []
    if rules.risk is not None and rules.risk.scorer != DEFAULT_SCORER and rules.risk.scorer not in scorers:
        known = ", ".join(sorted({DEFAULT_SCORER, *scorers}))
        found.append(Violation("/risk/scorer", "scorer_unknown", f"one of {known}; see ZENTRA_RISK_SCORERS"))
    for place, name in enumerate(() if rules.compliance is None else rules.compliance.lists):
        if name not in lists:
            found.append(Violation(f"/compliance/lists/{place}", "screening_list_unknown", "no such list is loaded"))
    return found[:VIOLATIONS_MAX]


def _limits(rules: PolicyRules) -> Iterator[Violation]:
    for currency, limits in rules.limits.items():
        at = f"/limits/{escaped(currency)}"
        yield from _currency(at, currency)
        yield from _bounded(at, msgspec.structs.asdict(limits))


def _zone(rules: PolicyRules) -> Iterator[Violation]:
    try:
        if not _ZONE.match(rules.time_zone):
            raise ValueError(rules.time_zone)
        ZoneInfo(rules.time_zone)
    except (KeyError, ValueError, OSError):
        detail = "UTC, or a region and a place of the IANA time zone database, such as Africa/Lagos"
        yield Violation("/time_zone", "time_zone_unknown", detail)


def _windows(rules: PolicyRules) -> Iterator[Violation]:
    if len(rules.windows) > WINDOWS_MAX:
        yield Violation("/windows", "policy_too_large", f"at most {WINDOWS_MAX} windows")
        return
    for name, window in rules.windows.items():
        at = f"/windows/{escaped(name)}"
        yield from _slug(at, name)
        yield from _window(at, window)
        for currency, limits in window.limits.items():
            below = f"{at}/limits/{escaped(currency)}"
            yield from _currency(below, currency)
            yield from _bounded(below, {"count_max": limits.count_max, "minor_max": limits.minor_max})
            if limits.outcome not in ("deny", "review"):
                yield Violation(f"{below}/outcome", "outcome_unknown", "deny or review")


def _window(at: str, window: Window) -> Iterator[Violation]:
    if window.by not in DIMENSIONS:
        yield Violation(f"{at}/by", "window_malformed", f"one of {', '.join(DIMENSIONS)}")
    if (window.rolling_seconds is None) == (window.calendar is None):
        yield Violation(at, "window_malformed", "either rolling_seconds or calendar")
    if window.calendar is not None and window.calendar not in CALENDARS:
        yield Violation(f"{at}/calendar", "window_malformed", f"one of {', '.join(CALENDARS)}")
    if window.rolling_seconds is not None and not SECONDS_MIN <= window.rolling_seconds <= SECONDS_MAX:
        yield Violation(f"{at}/rolling_seconds", "window_malformed", f"{SECONDS_MIN} to {SECONDS_MAX} (31 days)")
    if not 1 <= window.buckets <= BUCKETS_MAX:
        yield Violation(f"{at}/buckets", "window_malformed", f"1 to {BUCKETS_MAX}")
    elif window.rolling_seconds is not None and window.buckets > window.rolling_seconds:
        yield Violation(f"{at}/buckets", "window_malformed", "a bucket holds a second or more")
    for kind in window.kinds if window.kinds is not None else ("transfer",):
        if kind not in list(IntentKind):
            yield Violation(f"{at}/kinds", "kind_unknown", f"one of {', '.join(IntentKind)}")
    if window.kinds is not None and not window.kinds:
        yield Violation(f"{at}/kinds", "window_malformed", "one kind or more, or leave kinds out")


def _lists(rules: PolicyRules) -> Iterator[Violation]:
    if len(rules.lists) > LISTS_MAX or sum(map(len, rules.lists.values())) > ENTRIES_MAX:
        yield Violation("/lists", "policy_too_large", f"at most {LISTS_MAX} lists with {ENTRIES_MAX} entries in all")
        return
    for name in rules.lists:
        yield from _slug(f"/lists/{escaped(name)}", name)


def _rules(rules: PolicyRules) -> Iterator[Violation]:
    if len(rules.rules) > RULES_MAX:
        yield Violation("/rules", "policy_too_large", f"at most {RULES_MAX} rules")
        return
    waivable = {"review_threshold", *(f"window.{name}" for name in rules.windows)}
    waivable |= {rule.name for rule in rules.rules if rule.outcome == "review"} | ({"risk"} if rules.risk else set())
    met = {*STANDARD_RULES, *COMPLIANCE_RULES, "risk", "velocity_counted", "policy_usable"}
    parts = 0
    for place, rule in enumerate(rules.rules):
        at = f"/rules/{place}"
        yield from _slug(f"{at}/name", rule.name)
        if rule.name in met:
            yield Violation(f"{at}/name", "rule_name_taken", "every rule has a name of its own")
        met.add(rule.name)
        yield from _rule(at, rule, waivable)
        wrong = violations_in(rule.when, f"{at}/when", windows=rules.windows, lists=rules.lists)
        yield from wrong
        if not wrong:
            parts += len(_ENCODE(rule.when).split(b'"field"')) - 1
            if RISK_SCORE in fields_in(rule.when) and rules.risk is None:
                yield Violation(f"{at}/when", "condition_field_unknown", f"{RISK_SCORE}: the policy has no risk")
    if parts > PARTS_MAX:
        yield Violation("/rules", "policy_too_large", f"at most {PARTS_MAX} comparisons in all")


def _rule(at: str, rule: Rule, waivable: set[str]) -> Iterator[Violation]:
    if rule.outcome not in _OUTCOMES:
        yield Violation(f"{at}/outcome", "outcome_unknown", f"one of {', '.join(_OUTCOMES)}")
    if rule.outcome == "allow":
        if not rule.waives:
            yield Violation(f"{at}/waives", "field_missing", "an allow names the reviews that it waives")
        for name in rule.waives:
            if name not in waivable:
                detail = "a review of this policy: review_threshold, risk, window.<name>, or a rule that reviews"
                yield Violation(f"{at}/waives", "rule_not_waivable", detail)
        if rule.reason or rule.lane:
            yield Violation(at, "rule_malformed", "an allow has neither reason nor lane")
        return
    if rule.waives:
        yield Violation(f"{at}/waives", "rule_malformed", "only an allow waives")
    yield from _slug(f"{at}/reason", rule.reason)
    if rule.lane:
        yield from _slug(f"{at}/lane", rule.lane)


def _compliance(rules: PolicyRules) -> Iterator[Violation]:
    flaw = None if rules.compliance is None else flaw_of(rules.compliance)
    if flaw is not None:
        yield Violation(f"/compliance/{flaw[0]}", "compliance_malformed", flaw[1])


def _risk(rules: PolicyRules) -> Iterator[Violation]:
    risk = rules.risk
    if risk is None:
        return
    for name in ("review_min", "deny_min"):
        threshold = getattr(risk, name)
        if threshold is not None and not 0 <= threshold <= SCORE_MAX:
            yield Violation(f"/risk/{name}", "risk_malformed", f"0 to {SCORE_MAX}")
    if risk.on_error not in ("review", "deny"):
        yield Violation("/risk/on_error", "outcome_unknown", "review or deny")
    yield from _weights(risk)


def _weights(risk: Risk) -> Iterator[Violation]:
    for name in ("new_counterparty_weight", "velocity_weight", "amount_weight"):
        if not 0 <= getattr(risk, name) <= SCORE_MAX:
            yield Violation(f"/risk/{name}", "risk_malformed", f"0 to {SCORE_MAX}")
    for name, least, most in (
        ("velocity_full", 1, 10**6),
        ("amount_full_percent", 101, 10**6),
        ("history_min", 1, 10**6),
    ):
        if not least <= getattr(risk, name) <= most:
            yield Violation(f"/risk/{name}", "risk_malformed", f"{least} to {most}")


def _slug(at: str, name: str) -> Iterator[Violation]:
    if not _SLUG.match(name):
        yield Violation(at, "name_malformed", "a letter, then up to 62 of a-z 0-9 _")


def _currency(at: str, currency: str) -> Iterator[Violation]:
    if currency != "*" and not is_currency(currency):
        yield Violation(at, "currency_unknown", "an ISO 4217 code in capitals, or * for the rest")


def _bounded(at: str, limits: dict[str, Any]) -> Iterator[Violation]:
    for name, limit in limits.items():
        if type(limit) is int and not 0 <= limit <= MINOR_MAX:
            yield Violation(f"{at}/{name}", "limit_malformed", "0 to 2^63 - 1")


def policy_schema() -> dict[str, Any]:
    """Return what `parse_policy` takes, as JSON Schema; what a condition may compare is said by `x-fields`."""
    limit = {"type": ["integer", "null"], "minimum": 0, "maximum": MINOR_MAX}
    limits = _object({field.name: limit for field in msgspec.structs.fields(Limits)})
    slug = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"}
    return _object(
        {
            "scopes": {"type": ["array", "null"], "items": {"type": "string"}},
            "limits": {"type": "object", "additionalProperties": limits},
            "time_zone": {"type": "string", "default": "UTC"},
            "windows": {
                "type": "object", "maxProperties": WINDOWS_MAX, "additionalProperties": _window_schema(limit),
            },
            "lists": {
                "type": "object", "maxProperties": LISTS_MAX,
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
            "rules": {"type": "array", "maxItems": RULES_MAX, "items": _object(
                {
                    "name": slug, "when": _condition_schema(), "outcome": {"enum": list(_OUTCOMES)}, "reason": slug,
                    "lane": slug, "waives": {"type": "array", "items": {"type": "string"}},
                },
                "name", "when", "outcome",
            )},
            "risk": _risk_schema(),
            "compliance": _object({
                "kyc_required": {"type": "boolean", "default": False},
                "screen": {"enum": list(SCREENS), "default": "off"},
                "threshold": {"type": "integer", "minimum": CUTOFF, "maximum": 1000, "default": 850},
                "list_max_age_hours": {
                    "type": "integer", "minimum": 1, "maximum": LIST_AGE_HOURS_MAX, "default": 48,
                },
                "lists": {"type": "array", "items": {"type": "string"}},
            }),
        }
    )  # fmt: skip


def _window_schema(limit: dict[str, Any]) -> dict[str, Any]:
    limits = _object(
        {"count_max": limit, "minor_max": limit, "outcome": {"enum": ["deny", "review"], "default": "deny"}}
    )
    return _object(
        {
            "by": {"enum": list(DIMENSIONS)},
            "rolling_seconds": {"type": ["integer", "null"], "minimum": SECONDS_MIN, "maximum": SECONDS_MAX},
            "buckets": {"type": "integer", "minimum": 1, "maximum": BUCKETS_MAX, "default": 12},
            "calendar": {"enum": [*CALENDARS, None]},
            "kinds": {"type": ["array", "null"], "items": {"enum": sorted(IntentKind)}, "minItems": 1},
            "limits": {"type": "object", "additionalProperties": limits},
        },
        "by",
    )


def _condition_schema() -> dict[str, Any]:
    names = [*FIELDS, "metadata.<key>", "velocity.<window>.count", "velocity.<window>.minor"]
    return {
        "type": "object",
        "description": "all or any of a list of conditions, not one, or a comparison: field, op and value or list",
        "x-fields": names,
        "properties": {
            "all": {"type": "array", "items": {"type": "object"}, "minItems": 1},
            "any": {"type": "array", "items": {"type": "object"}, "minItems": 1},
            "not": {"type": "object"},
            "field": {"type": "string"},
            "op": {"enum": list(OPERATORS)},
            "value": {},
            "list": {"type": "string"},
            "default": {},
        },
        "additionalProperties": False,
    }  # fmt: skip


def _risk_schema() -> dict[str, Any]:
    score = {"type": ["integer", "null"], "minimum": 0, "maximum": SCORE_MAX}
    weight = {"type": "integer", "minimum": 0, "maximum": SCORE_MAX}
    shape = _object(
        {
            "scorer": {"type": "string", "default": "default"},
            "review_min": {**score, "default": 60}, "deny_min": score,
            "on_error": {"enum": ["review", "deny"], "default": "review"},
            "new_counterparty_weight": {**weight, "default": 30}, "velocity_weight": {**weight, "default": 30},
            "amount_weight": {**weight, "default": 40},
            "velocity_full": {"type": "integer", "minimum": 1, "default": 20},
            "amount_full_percent": {"type": "integer", "minimum": 101, "default": 1000},
            "history_min": {"type": "integer", "minimum": 1, "default": 5},
        }
    )  # fmt: skip
    return {**shape, "type": ["object", "null"]}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**shape, "required": list(required)} if required else shape
