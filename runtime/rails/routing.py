"""Routing: which rail carries an intent, and whether another may be tried.

A corridor lists rails with a priority, a weight and a price. Of the rails that can be asked now, those of the least
priority share the intents by their weights, or the cheapest of them takes all. Invariants:

- A rail is tried after another only when that one said "not accepted"; while any attempt is unknown no rail is chosen.
  One to which nothing was sent may be chosen again.
- What `choose` is given decides: the same corridor, attempts, amount and standing of the rails choose the same rail,
  for a lot that is drawn from the intent's id.
- The decision names every rail that it looked at, with a word for why, and what it would have cost; and every rail that
  was tried, also where it is in the corridor no more: nothing else records that it did not accept.
"""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from string import digits
from typing import Final, Literal

from msgspec import Struct

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Attempt

__all__ = [
    "CHOSEN",
    "NOT_NOW",
    "NO_RAIL_NOW",
    "WAIT_SECONDS",
    "Choice",
    "Corridor",
    "RailRoute",
    "choose",
    "cost_of",
    "find_corridor",
    "parse_reference",
    "reference_of",
    "routes_of",
]

_REFERENCE_LENGTH: Final = 34
_HEX_DIGITS: Final = "0123456789abcdef"
WAIT_SECONDS: Final = 120  # that an intent waits for a rail, unless its corridor says otherwise
CHOSEN: Final = "chosen"
NOT_NOW: Final = frozenset({"circuit_open", "maintenance", "draining", "no_capacity"})
"""Why a rail is not asked now, although it may be later: an intent waits for it."""
NO_RAIL_NOW: Final = "no_rail_now"

Preference = Literal["weight", "cost"]


class RailRoute(Struct, frozen=True, forbid_unknown_fields=True):
    """A rail of a corridor: the least `priority` first; of those of one priority, each gets intents by its `weight`.

    What it costs to send by it is `cost_minor` and `cost_bps` hundredths of a percent of the amount. None and an empty
    `countries` match anything."""

    rail: str
    priority: int = 1
    weight: int = 1
    cost_minor: int = 0
    cost_bps: int = 0
    minor_min: int = 1
    minor_max: int | None = None
    countries: tuple[str, ...] = ()


class Corridor(Struct, frozen=True):
    """Where money can go: None in `country` and `minor_max` matches anything.

    `rails` are their names, the first choice first; `routes` say more of them. `version` is that of the routing
    document, 0 where the corridor was not set up by one."""

    tenant: str
    name: str
    currency: str
    kind: str
    rails: tuple[str, ...]
    country: str | None = None
    minor_min: int = 1
    minor_max: int | None = None
    routes: tuple[RailRoute, ...] = ()
    version: int = 0
    prefer: Preference = "weight"
    wait_seconds: int = WAIT_SECONDS


class Choice(Struct, frozen=True):
    """The rail to try next, or None with the reason; `considered` names every rail that was tried, first and in order,
    wherever it was, and then the others of the corridor."""

    rail: str | None
    reason: str
    considered: dict[str, str]


def routes_of(corridor: Corridor) -> tuple[RailRoute, ...]:
    """Return the rails of a corridor; where it only names them, each is the next in order."""
    return corridor.routes or tuple([RailRoute(rail, place) for place, rail in enumerate(corridor.rails, 1)])


def cost_of(route: RailRoute, minor: int) -> int:
    """Return what sending `minor` by a rail costs, in minor units, rounded down."""
    return route.cost_minor + minor * route.cost_bps // 10_000


def find_corridor(corridors: Sequence[Corridor], command: IntentCommand) -> Corridor | None:
    """Return the first corridor that fits `command`, the most specific country first."""
    minor, fitting = command.amount, []
    for corridor in corridors:
        if (
            corridor.currency == command.currency
            and corridor.kind == command.kind
            and (corridor.country is None or corridor.country == command.country)
            and corridor.minor_min <= minor
            and (corridor.minor_max is None or minor <= corridor.minor_max)
        ):
            fitting.append(corridor)
    if len(fitting) > 1:
        fitting.sort(key=lambda corridor: (corridor.country is None, corridor.name))
    return fitting[0] if fitting else None


_NOTHING: Final[Mapping[str, str]] = {}


def choose(
    corridor: Corridor,
    attempts: Sequence[Attempt],
    available: Collection[str],
    *,
    intent: str = "",
    minor: int = 1,
    country: str | None = None,
    blocked: Mapping[str, str] = _NOTHING,
) -> Choice:
    """Return the next rail of `corridor` after `attempts`, for an intent over `minor` to `country`.

    `available` are the rails that this installation runs, `blocked` those that are not asked now, each with one of
    NOT_NOW."""
    tried = {attempt.rail: attempt.status for attempt in attempts if not attempt.unsent}
    unknown = any(status != "not_accepted" for status in tried.values())
    considered = dict(tried)
    able: list[RailRoute] = []
    for route in routes_of(corridor):
        rail = route.rail
        if rail in tried:
            continue
        if rail not in available:
            considered[rail] = "unavailable"
        elif minor < route.minor_min or (route.minor_max is not None and minor > route.minor_max):
            considered[rail] = "amount_mismatch"
        elif route.countries and country not in route.countries:
            considered[rail] = "country_mismatch"
        elif rail in blocked:
            considered[rail] = blocked[rail]
        else:
            considered[rail] = "not_needed"
            able.append(route)
    if unknown:
        return Choice(None, "outcome_unknown", considered)
    if able:
        chosen = able[0] if len(able) == 1 else _drawn(corridor, able, minor, f"{intent}/{len(tried)}")
        considered[chosen.rail] = CHOSEN
        first = "nothing was sent before" if attempts else "first rail"
        return Choice(chosen.rail, "the rail before it did not accept" if tried else first, considered)
    waits = not NOT_NOW.isdisjoint(considered.values())
    return Choice(None, NO_RAIL_NOW if waits else "no_rail_left", considered)


def _drawn(corridor: Corridor, able: Sequence[RailRoute], minor: int, lot: str) -> RailRoute:
    """Return one of several rails: of the least priority, then by price or by a lot in proportion to the weights."""
    first = min(route.priority for route in able)
    rest = [route for route in able if route.priority == first]
    if corridor.prefer == "cost":
        least = min(cost_of(route, minor) for route in rest)
        rest = [route for route in rest if cost_of(route, minor) == least]
    total = sum(route.weight for route in rest)
    if len(rest) == 1 or total == 0:
        return rest[0]
    place = int.from_bytes(sha256(lot.encode()).digest()[:8]) % total
    for route in rest:
        place -= route.weight
        if place < 0:
            return route
    raise AssertionError("a place below the sum of the weights is within one of them")


def reference_of(intent: str, attempt: int) -> str:
    """Return the reference a rail is given: the intent's uuid in hex and the attempt, so that it finds its way back."""
    return f"{intent}{attempt:02d}"


def parse_reference(reference: str) -> tuple[str, int] | None:
    """Return the intent and the attempt a reference names, or None where it is not one of ours."""
    intent, attempt = reference[:32], reference[32:]
    if len(reference) != _REFERENCE_LENGTH or intent.strip(_HEX_DIGITS) or attempt.strip(digits):
        return None
    return intent, int(attempt)
