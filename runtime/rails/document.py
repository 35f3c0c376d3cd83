"""A routing document: all corridors of a tenant as it writes them, checked as a whole, with every violation named.

    {"corridors": [
      {"name": "ng-transfer", "currency": "NGN", "kind": "transfer", "country": "NG", "minor_max": 500000000,
       "rails": [{"rail": "providus", "priority": 1, "weight": 3, "cost_minor": 1000, "cost_bps": 10},
                 {"rail": "gtbank",   "priority": 1, "weight": 1, "cost_minor": 1500},
                 {"rail": "backup",   "priority": 2}],
       "prefer": "weight", "wait_seconds": 120}]}

A document either becomes corridors or a list of everything that is wrong with it. Two corridors that fit the same
intent equally well are wrong: which of them carries it must not hang on their names. Its digest is that of its JSON
with sorted keys."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.runtime.fees.schedule import of_conversion
from zentra.runtime.intents.command import Violation
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.money import MINOR_MAX, is_currency
from zentra.runtime.policy.shape import oversized
from zentra.runtime.rails.routing import WAIT_SECONDS, Corridor, Preference, RailRoute, routes_of

__all__ = ["corridors_of", "digest_of_routes", "parse_routes", "routes_schema", "spelled", "unknown_rails"]

CORRIDORS_MAX: Final = 200
RAILS_MAX: Final = 16
COUNTRIES_MAX: Final = 250
PRIORITY_MAX: Final = 100
WEIGHT_MAX: Final = 10_000
WAIT_SECONDS_MAX: Final = 86_400
VIOLATIONS_MAX: Final = 100  # are named; nobody mends more of them at once
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{2}\Z", re.ASCII)
_ENCODE: Final = msgspec.json.Encoder(order="sorted").encode


class _Corridor(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    currency: str
    kind: str
    rails: tuple[RailRoute, ...]
    country: str | None = None
    minor_min: int = 1
    minor_max: int | None = None
    prefer: Preference = "weight"
    wait_seconds: int = WAIT_SECONDS


class _Document(Struct, frozen=True, forbid_unknown_fields=True):
    corridors: tuple[_Corridor, ...]


def digest_of_routes(document: Any) -> str:
    """Return the SHA-256 of a document, in hex."""
    return hashlib.sha256(b"routes\n" + _ENCODE(document)).hexdigest()


def parse_routes(document: Any, tenant: str = "", version: int = 0) -> tuple[tuple[Corridor, ...], list[Violation]]:
    """Return the corridors that a document holds, by name, or what is wrong with it, the first hundred violations."""
    if not isinstance(document, dict):
        return (), [Violation("", "body_not_object", "a routing document is one JSON object")]
    excess = oversized(document)
    if excess is not None:
        return (), [Violation(excess.pointer, "routes_too_large", excess.detail)]
    try:
        read = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        return (), [of_conversion(str(error))]
    found = list(islice(chain(_of_all(read), *map(_of_corridor, range(len(read.corridors)), read.corridors)),
                        VIOLATIONS_MAX))  # fmt: skip
    return ((), found) if found else (_made(read, tenant, version), [])


def corridors_of(document: Any, tenant: str, version: int) -> tuple[Corridor, ...]:
    """Return the corridors of a document that was in force, by name, whatever is asked of documents now."""
    return _made(msgspec.convert(document, _Document), tenant, version)


def spelled(corridors: Sequence[Corridor]) -> dict[str, Any]:
    """Return the document that says these corridors, without what is left at its default."""
    rows = []
    for one in sorted(corridors, key=lambda corridor: corridor.name):
        made = _Corridor(
            one.name, one.currency, one.kind, routes_of(one), one.country, one.minor_min, one.minor_max, one.prefer,
            one.wait_seconds,
        )  # fmt: skip
        built = msgspec.to_builtins(made)
        default = msgspec.to_builtins(RailRoute(""))
        built["rails"] = [
            {name: value for name, value in rail.items() if name == "rail" or value != default[name]}
            for rail in built["rails"]
        ]
        rows.append(built)
    return {"corridors": rows}


def unknown_rails(corridors: Sequence[Corridor], known: Collection[str]) -> list[Violation]:
    """Return what corridors of a parsed document name that no rail of their world is called."""
    return [
        Violation(f"/corridors/{corridor.name}/rails/{place}/rail", "rail_unknown", f"no rail is called {route.rail!r}")
        for corridor in corridors
        for place, route in enumerate(corridor.routes)
        if route.rail not in known
    ][:VIOLATIONS_MAX]


def routes_schema() -> dict[str, Any]:
    """Return what `parse_routes` takes, as JSON Schema."""
    (top,), parts = msgspec.json.schema_components([_Document], ref_template="{name}")
    inlined: dict[str, Any] = _inlined(top, parts)
    return inlined


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    """Return a schema with the parts in the places that name them, so that it can stand anywhere."""
    if isinstance(schema, list):
        return [_inlined(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(parts[schema["$ref"]], parts)
    return {name: _inlined(value, parts) for name, value in schema.items() if name != "title"}


def _made(read: _Document, tenant: str, version: int) -> tuple[Corridor, ...]:
    made = [
        Corridor(
            tenant, one.name, one.currency, one.kind, tuple(route.rail for route in _ordered(one.rails)), one.country,
            one.minor_min, one.minor_max, _ordered(one.rails), version, one.prefer, one.wait_seconds,
        )
        for one in read.corridors
    ]  # fmt: skip
    return tuple(sorted(made, key=lambda corridor: corridor.name))


def _ordered(routes: Sequence[RailRoute]) -> tuple[RailRoute, ...]:
    return tuple(sorted(routes, key=lambda route: route.priority))


def _of_all(read: _Document) -> Iterator[Violation]:
    corridors = read.corridors
    if len(corridors) > CORRIDORS_MAX:
        yield Violation("/corridors", "routes_too_large", f"at most {CORRIDORS_MAX} corridors")
        return
    names: set[str] = set()
    for place, corridor in enumerate(corridors):
        if corridor.name in names:
            yield Violation(f"/corridors/{place}/name", "corridor_repeated", "every corridor has a name of its own")
        names.add(corridor.name)
    for (_, one), (place, other) in combinations(enumerate(corridors), 2):
        same = (one.currency, one.kind, one.country) == (other.currency, other.kind, other.country)
        if same and one.minor_min <= _upper(other) and other.minor_min <= _upper(one):
            told = f"it takes what {one.name!r} takes: part them by amount or country"
            yield Violation(f"/corridors/{place}", "corridors_overlap", told)


def _of_corridor(place: int, corridor: _Corridor) -> Iterator[Violation]:
    at, kinds = f"/corridors/{place}", [kind.value for kind in IntentKind]
    if not _NAME.match(corridor.name):
        yield Violation(f"{at}/name", "corridor_malformed", "1 to 63 of a-z 0-9 . _ -, a letter or digit first")
    if not is_currency(corridor.currency):
        yield Violation(f"{at}/currency", "currency_unknown", "an ISO 4217 code in capitals")
    if corridor.kind not in kinds:
        yield Violation(f"{at}/kind", "kind_unknown", f"one of {', '.join(kinds)}")
    if corridor.country is not None and not _COUNTRY.match(corridor.country):
        yield Violation(f"{at}/country", "country_malformed", "two capital letters, ISO 3166-1")
    if not 1 <= corridor.minor_min <= _upper(corridor) <= MINOR_MAX:
        yield Violation(f"{at}/minor_max", "band_empty", "1 <= minor_min <= minor_max")
    if not 0 <= corridor.wait_seconds <= WAIT_SECONDS_MAX:
        yield Violation(f"{at}/wait_seconds", "duration_out_of_range", f"0 to {WAIT_SECONDS_MAX} seconds")
    if not 1 <= len(corridor.rails) <= RAILS_MAX:
        yield Violation(f"{at}/rails", "rails_missing", f"1 to {RAILS_MAX} rails")
    named: set[str] = set()
    for number, route in enumerate(corridor.rails[: RAILS_MAX + 1]):
        if route.rail in named:
            yield Violation(f"{at}/rails/{number}/rail", "rail_repeated", "a rail stands in a corridor once")
        named.add(route.rail)
        for below, code, detail in _of_route(route):
            yield Violation(f"{at}/rails/{number}{below}", code, detail)


def _of_route(route: RailRoute) -> Iterator[tuple[str, str, str]]:
    if not 1 <= route.priority <= PRIORITY_MAX:
        yield "/priority", "route_malformed", f"1 to {PRIORITY_MAX}, the least first"
    if not 0 <= route.weight <= WEIGHT_MAX:
        yield "/weight", "route_malformed", f"0 to {WEIGHT_MAX}"
    if not 0 <= route.cost_minor <= MINOR_MAX:
        yield "/cost_minor", "route_malformed", "0 or more minor units"
    if not 0 <= route.cost_bps <= 10_000:
        yield "/cost_bps", "route_malformed", "0 to 10000 hundredths of a percent"
    if not 1 <= route.minor_min <= (MINOR_MAX if route.minor_max is None else route.minor_max) <= MINOR_MAX:
        yield "/minor_max", "band_empty", "1 <= minor_min <= minor_max"
    if len(route.countries) > COUNTRIES_MAX or not all(map(_COUNTRY.match, route.countries)):
        yield "/countries", "country_malformed", f"at most {COUNTRIES_MAX} of two capital letters, ISO 3166-1"


def _upper(corridor: _Corridor) -> int:
    return MINOR_MAX if corridor.minor_max is None else corridor.minor_max
