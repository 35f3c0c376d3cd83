"""Routing: which rail carries an intent, and whether another may be tried.

A corridor lists rails in order. A rail is tried after another only when that one said "not accepted"; while any attempt
is unknown no rail is chosen at all. The decision names every rail it looked at and why."""

from collections.abc import Sequence
from string import digits
from typing import Final

from msgspec import Struct

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Attempt

__all__ = ["Choice", "Corridor", "choose", "find_corridor", "parse_reference", "reference_of"]

_REFERENCE_LENGTH: Final = 34
_HEX_DIGITS: Final = "0123456789abcdef"


class Corridor(Struct, frozen=True):
    """Where money can go: None in `country` and `minor_max` matches anything."""

    tenant: str
    name: str
    currency: str
    kind: str
    rails: tuple[str, ...]
    country: str | None = None
    minor_min: int = 1
    minor_max: int | None = None


class Choice(Struct, frozen=True):
    """The rail to try next, or None with the reason; `considered` names every rail of the corridor."""

    rail: str | None
    reason: str
    considered: dict[str, str]


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


def choose(corridor: Corridor, attempts: Sequence[Attempt], available: frozenset[str]) -> Choice:
    """Return the next rail of `corridor` after `attempts`; `available` are the rails that this installation runs."""
    tried = {attempt.rail: attempt.status for attempt in attempts}
    unknown = [rail for rail, status in tried.items() if status != "not_accepted"]
    considered: dict[str, str] = {}
    chosen = None
    for rail in corridor.rails:
        if rail in tried:
            considered[rail] = tried[rail]
        elif rail not in available:
            considered[rail] = "unavailable"
        elif chosen is None and not unknown:
            chosen, considered[rail] = rail, "chosen"
        else:
            considered[rail] = "not_needed"
    if chosen is not None:
        return Choice(chosen, "first rail" if not tried else "the rail before it did not accept", considered)
    return Choice(None, "outcome_unknown" if unknown else "no_rail_left", considered)


def reference_of(intent: str, attempt: int) -> str:
    """Return the reference a rail is given: the intent's uuid in hex and the attempt, so that it finds its way back."""
    return f"{intent}{attempt:02d}"


def parse_reference(reference: str) -> tuple[str, int] | None:
    """Return the intent and the attempt a reference names, or None where it is not one of ours."""
    intent, attempt = reference[:32], reference[32:]
    if len(reference) != _REFERENCE_LENGTH or intent.strip(_HEX_DIGITS) or attempt.strip(digits):
        return None
    return intent, int(attempt)
