"""Fee schedules: a tenant's rules in one version, as data that is checked whole before it is in force.

A schedule is a list of rules. Every rule that fits a movement charges its fee, in order; of rules with the same `group`
only the first that fits does. What a rule charges is worked out on the amount, or on the fees of earlier rules that it
names (`of`): so a tax on a fee is a rule like any other.

Invariants of a schedule without objections. Names are unique; `of` names earlier rules; rates lie between 0 and 10,000
basis points with at most four decimals and are never floats; tiers rise and the last one has no end; where a rule
speaks of minor units it says of which currencies; only the one who gives can be charged before it is known how it
ends."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from zentra.runtime.intents.command import Violation
from zentra.runtime.intents.terms import CHARGEABLE_KINDS
from zentra.runtime.intents.vocabulary import AccountType
from zentra.runtime.ledger.money import MINOR_MAX, is_currency
from zentra.runtime.names import COUNTRY_PATTERN
from zentra.runtime.pointers import escaped

__all__ = [
    "RATE_UNIT",
    "RULES_MAX",
    "FeeMatch",
    "FeeRule",
    "FeeSchedule",
    "FeeTier",
    "of_conversion",
    "parse_schedule",
    "scaled_rate",
    "violations_of",
]

RULES_MAX: Final = 32  # a tariff, not a program: each is looked at for every movement
TIERS_MAX: Final = 16
NAMES_MAX: Final = 64  # of one list in `applies`
RATE_UNIT: Final = 10**8  # the whole, in the unit that rates are scaled to: a ten thousandth of a basis point
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)
_RATE: Final = re.compile(r"(?P<whole>[0-9]{1,5})(?:\.(?P<rest>[0-9]{1,4}))?\Z", re.ASCII)
_BPS: Final = 10_000

Model = Literal["flat", "percentage", "graduated", "volume"]


class FeeTier(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One band of a base, up to `up_to` minor units, that included; None is without end."""

    up_to: int | None = None
    rate_bps: str = "0"
    flat_minor: int = 0


class FeeMatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which movements a rule is for: all that is named has to fit, and what is empty fits anything."""

    kinds: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    corridors: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()
    destination_types: tuple[str, ...] = ()
    minor_min: int = 1
    minor_max: int | None = None


class FeeRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fee.

    `flat` charges `flat_minor`; `percentage` `rate_bps` of the base; `graduated` each tier's rate of the part of the
    base that lies in it, and the `flat_minor` of every tier that is reached; `volume` the rate and `flat_minor` of the
    one tier that the base lies in, of all of it. `flat_minor` of the rule itself is added to every model."""

    name: str
    model: Model
    payer: Literal["payer", "payee", "split"] = "payer"
    payee_share_bps: int = 5_000  # of a split fee, rounded down: the payer bears the rest
    applies: FeeMatch = FeeMatch()
    group: str = ""
    of: tuple[str, ...] = ()  # fees that this one is worked out on; empty: the amount
    flat_minor: int = 0
    rate_bps: str = "0"
    tiers: tuple[FeeTier, ...] = ()
    min_minor: int = 0
    max_minor: int | None = None
    rounding: Literal["half_even", "up", "down"] = "half_even"
    charged: Literal["on_success", "on_submission"] = "on_success"
    on_failure: Literal["refund", "keep"] = "refund"  # of what was charged on submission
    on_reversal: Literal["full", "pro_rata", "keep"] = "pro_rata"


class FeeSchedule(Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant's fees in one version; the version is given by the store."""

    rules: tuple[FeeRule, ...]
    version: int = 0


@lru_cache(maxsize=4096)
def scaled_rate(rate_bps: str) -> int:
    """Return a rate in basis points as a whole number of `RATE_UNIT`ths; raise ValueError where it is none."""
    match = _RATE.match(rate_bps)
    if match is None:
        raise ValueError(f"not a rate in basis points: {rate_bps!r}")
    return int(match["whole"]) * _BPS + int((match["rest"] or "").ljust(4, "0"))


def parse_schedule(body: object) -> tuple[FeeSchedule | None, list[Violation]]:
    """Return the schedule that decoded JSON spells, and every violation; it is None exactly when there are some.

    A `version` in it is not looked at."""
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "version"}
    try:
        schedule = msgspec.convert(body, FeeSchedule)
    except msgspec.ValidationError as error:
        return None, [of_conversion(str(error))]
    found = violations_of(schedule)
    return (None, found) if found else (schedule, [])


def violations_of(schedule: FeeSchedule) -> list[Violation]:
    """Return everything that is wrong with a schedule whose types are right."""
    found = []
    if len(schedule.rules) > RULES_MAX:
        found.append(Violation("/rules", "fee_rules_too_many", f"at most {RULES_MAX} rules"))
    known: dict[str, FeeRule] = {}
    for number, rule in enumerate(schedule.rules):
        found += [
            Violation(f"/rules/{number}{below}", code, detail) for below, code, detail in _objections(rule, known)
        ]
        known.setdefault(rule.name, rule)
    return found


_Objections = Iterator[tuple[str, str, str]]


def _objections(rule: FeeRule, before: dict[str, FeeRule]) -> _Objections:
    if not _NAME.match(rule.name):
        yield "/name", "fee_name_malformed", "1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit"
    elif rule.name in before:
        yield "/name", "fee_name_repeated", "every rule has a name of its own"
    if rule.group and not _NAME.match(rule.group):
        yield "/group", "fee_name_malformed", "1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit"
    for place, name in enumerate(rule.of):
        if name not in before:
            yield f"/of/{place}", "fee_base_unknown", "a rule before this one"
    yield from _match_objections(rule.applies)
    yield from _amount_objections(rule)
    if not 0 <= rule.payee_share_bps <= _BPS:
        yield "/payee_share_bps", "fee_rate_malformed", f"0 to {_BPS} basis points"
    if rule.charged == "on_submission" and rule.payer != "payer":
        yield "/charged", "fee_charged_unknown", "who is paid has nothing yet when a transfer is submitted"


def _match_objections(match: FeeMatch) -> _Objections:
    checks: tuple[tuple[str, Any, str], ...] = (
        ("kinds", CHARGEABLE_KINDS.__contains__, f"one of {', '.join(CHARGEABLE_KINDS)}"),
        ("currencies", is_currency, "an ISO 4217 code in capitals"),
        ("countries", COUNTRY_PATTERN.match, "two capital letters, ISO 3166-1"),
        ("corridors", _NAME.match, "the name of a corridor"),
        ("source_types", set(AccountType).__contains__, f"one of {', '.join(AccountType)}"),
        ("destination_types", set(AccountType).__contains__, f"one of {', '.join(AccountType)}"),
    )
    for name, holds, detail in checks:
        values = getattr(match, name)
        if len(values) > NAMES_MAX:
            yield f"/applies/{name}", "fee_match_unknown", f"at most {NAMES_MAX} of them"
        for place, value in enumerate(values):
            if not holds(value):
                yield f"/applies/{name}/{place}", "fee_match_unknown", detail
    upper = MINOR_MAX if match.minor_max is None else match.minor_max
    if not 1 <= match.minor_min <= upper <= MINOR_MAX:
        yield "/applies/minor_max", "fee_band_empty", "1 <= minor_min <= minor_max"


def _amount_objections(rule: FeeRule) -> _Objections:
    """Say what is wrong with what a rule charges."""
    tiered = rule.model in ("graduated", "volume")
    if tiered is not bool(rule.tiers):
        yield "/tiers", "fee_tiers_malformed", "graduated and volume have tiers, and nothing else has"
    if len(rule.tiers) > TIERS_MAX:
        yield "/tiers", "fee_tiers_malformed", f"at most {TIERS_MAX} tiers"
    ends = [tier.up_to for tier in rule.tiers]
    if rule.tiers and ends[-1] is not None:
        yield f"/tiers/{len(ends) - 1}/up_to", "fee_tiers_malformed", "the last tier has no end: leave up_to out"
    floor = 0
    for place, end in enumerate(ends[:-1]):
        if end is None or not floor < end <= MINOR_MAX:
            yield f"/tiers/{place}/up_to", "fee_tiers_malformed", "every tier ends above the one before"
        floor = end or floor
    if (rule.rate_bps != "0") is not (rule.model == "percentage"):
        yield "/rate_bps", "fee_rate_malformed", "percentage has a rate above 0, and nothing else has"
    rates = [("/rate_bps", rule.rate_bps), *((f"/tiers/{n}/rate_bps", t.rate_bps) for n, t in enumerate(rule.tiers))]
    for below, rate in rates:
        if not _RATE.match(rate) or scaled_rate(rate) > RATE_UNIT:
            yield below, "fee_rate_malformed", f"a text of 0 to {_BPS} basis points, at most four decimals"
    amounts = [("/flat_minor", rule.flat_minor), ("/min_minor", rule.min_minor), ("/max_minor", rule.max_minor or 0)]
    amounts += [(f"/tiers/{place}/flat_minor", tier.flat_minor) for place, tier in enumerate(rule.tiers)]
    for below, minor in amounts:
        if not 0 <= minor <= MINOR_MAX:
            yield below, "fee_amount_malformed", "0 or more minor units, within 64 bits"
    if rule.model == "flat" and rule.flat_minor == 0:
        yield "/flat_minor", "fee_amount_malformed", "a flat fee is at least one minor unit"
    if rule.max_minor is not None and rule.max_minor < rule.min_minor:
        yield "/max_minor", "fee_band_empty", "max_minor is not below min_minor"
    match = rule.applies
    speaks = any(minor for _, minor in amounts) or len(ends) > 1 or rule.max_minor is not None
    if (speaks or match.minor_min > 1 or match.minor_max is not None) and not match.currencies:
        yield "/applies/currencies", "fee_currency_missing", "minor units of what? name the currencies that it is for"


_ABOUT_A_FIELD: Final = re.compile(
    r"Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`\Z", re.DOTALL
)


def of_conversion(message: str) -> Violation:
    """Return what msgspec objects to, such as `Expected ... - at `$.rules[0].name``, as a violation at its place."""
    sentence, _, place = message.rpartition(" - at `$")
    if not sentence:
        sentence, place = message, ""
    pointer = "".join(f"/{part}" for part in re.split(r"[.\[\]]+", place.rstrip("`")) if part)
    about = _ABOUT_A_FIELD.match(sentence)
    if about is None:
        return Violation(pointer, "field_type", sentence.lower())
    code = "field_missing" if about["what"] == "missing required" else "field_unknown"
    detail = "this field is required" if code == "field_missing" else "there is no such field"
    return Violation(f"{pointer}/{escaped(about['name'])}", code, detail)
