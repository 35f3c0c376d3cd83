"""The policy engine: versioned rules over one intent and the counters it touches give one decision.

Rules stand in one table in order of precedence; every rule answers, and the worst answer is the outcome (denied before
review before accepted), so a decision names all that spoke against it. A decision is a function of its inputs alone:
the same inputs and version give the same decision, at any time. What cannot be evaluated is denied, never accepted."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import UNSET, Struct

from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged, VelocityUse
from zentra.runtime.intents.vocabulary import SYSTEM_ACCOUNT_TYPES
from zentra.runtime.ledger.book import AccountRef

__all__ = ["DEFAULT_RULES", "Limits", "PolicyRules", "Usage", "VelocityKey", "decide", "velocity_keys"]


class Limits(Struct, frozen=True):
    """Limits in minor units of one currency; None is no limit. They bound what rails carry, not what is only booked."""

    transaction_minor_max: int | None = None
    daily_minor_max: int | None = None
    daily_count_max: int | None = None
    review_minor_min: int | None = None


class PolicyRules(Struct, frozen=True):
    """A tenant's rules in one version. `scopes` None means any scope; `limits` are by currency, "*" for the rest."""

    version: int = 0
    scopes: tuple[str, ...] | None = None
    limits: dict[str, Limits] = {}


DEFAULT_RULES: Final = PolicyRules()
NO_LIMITS: Final = Limits()


class VelocityKey(Struct, frozen=True, gc=False):
    """One counter window: locked by this key, in this order of fields."""

    tenant: str
    counter: str
    day: str
    currency: str


class Usage(Struct, gc=False):
    """What a window has counted so far."""

    count: int = 0
    minor: int = 0


class _Case(Struct, frozen=True, gc=False):
    command: IntentCommand
    minor: int
    role: str
    source: AccountRef | None
    limits: Limits
    rules: PolicyRules
    usage: Usage
    booked: bool


class _Seen(Struct, frozen=True, gc=False):
    """What a decision has seen, in canonical order: its digest stands in the decision."""

    command: IntentCommand
    day: str
    role: str
    source: str | None
    tenant: str
    usage: list[tuple[str, str] | None]
    version: int
    waives: tuple[str, ...]


_BOOKED: Final = frozenset({"book_transfer", "journal", "conversion"})
_LANES: Final = {"accepted": "straight_through", "review": "manual", "denied": "blocked"}

Objection = tuple[str, str]
"""What a rule says against a case: review or denied, and the reason."""


def velocity_keys(rules: PolicyRules, tenant: str, command: IntentCommand, day: str) -> tuple[VelocityKey, ...]:
    """Return the counters that a decision on `command` has to lock."""
    limits = _limits(rules, command.currency)
    if command.kind in _BOOKED or (limits.daily_minor_max is None and limits.daily_count_max is None):
        return ()
    return (VelocityKey(tenant, f"account/{command.source}", day, command.currency),)


def decide(
    rules: PolicyRules,
    command: IntentCommand,
    *,
    tenant: str,
    role: str,
    source: AccountRef | None,
    usage: Mapping[VelocityKey, Usage],
    day: str,
    waives: tuple[str, ...] = (),
) -> Judged:
    """Return the decision on `command`.

    `usage` holds what the counters of `velocity_keys` had counted; a missing one denies. `waives` are rules that a
    person approved for this intent: their review becomes `waived`."""
    keys = velocity_keys(rules, tenant, command, day)
    counted = [usage.get(key) for key in keys]
    used = counted[0] if counted else Usage()
    results = _PASSED
    reasons: list[str] = []
    if used is None:
        results, used = {"velocity_counted": "denied", **results}, Usage()
        reasons.append("velocity_unknown")
    limits, booked = _limits(rules, command.currency), command.kind in _BOOKED
    case = _Case(command, command.amount, role, source, limits, rules, used, booked)
    for name, rule in RULES.items():
        objection = rule(case)
        if objection is None:
            continue
        outcome, reason = objection
        if outcome == "review" and name in waives:
            results = {**results, name: "waived"}
        else:
            results = {**results, name: outcome}
            reasons.append(reason)
    answers = results.values() if reasons else ()
    outcome = "denied" if "denied" in answers else "review" if "review" in answers else "accepted"
    seen = _Seen(
        command, day, role, None if source is None else source.type, tenant,
        [None if entry is None else (str(entry.count), str(entry.minor)) for entry in counted], rules.version, waives,
    )  # fmt: skip
    digest = hashlib.sha256(canonical.encode(seen)).hexdigest()
    taken = tuple(VelocityUse(key.counter, key.day) for key in keys) if outcome == "accepted" else ()
    return Judged(outcome, rules.version, digest, _LANES[outcome], results, tuple(reasons), taken)


def _limits(rules: PolicyRules, currency: str) -> Limits:
    return rules.limits.get(currency) or rules.limits.get("*") or NO_LIMITS


def _scope(case: _Case) -> Objection | None:
    allowed = case.rules.scopes is None or case.command.scope in case.rules.scopes
    return None if allowed else ("denied", "scope_not_allowed")


def _source(case: _Case) -> Objection | None:
    """Money comes out of an account without a floor only by an operator's hand."""
    system = case.source is not None and case.source.type in SYSTEM_ACCOUNT_TYPES
    return ("denied", "source_not_permitted") if system and case.role not in ("operator", "admin") else None


def _transaction_limit(case: _Case) -> Objection | None:
    limit = case.limits.transaction_minor_max
    over = limit is not None and case.minor > limit and not case.booked
    return ("denied", "transaction_limit_exceeded") if over else None


def _daily_amount(case: _Case) -> Objection | None:
    limit = case.limits.daily_minor_max
    over = limit is not None and case.usage.minor + case.minor > limit and not case.booked
    return ("denied", "daily_amount_exceeded") if over else None


def _daily_count(case: _Case) -> Objection | None:
    limit = case.limits.daily_count_max
    over = limit is not None and case.usage.count + 1 > limit and not case.booked
    return ("denied", "daily_count_exceeded") if over else None


def _review_threshold(case: _Case) -> Objection | None:
    threshold = case.limits.review_minor_min
    over = threshold is not None and case.minor >= threshold and not case.booked
    return ("review", "review_threshold_reached") if over else None


def _correction(case: _Case) -> Objection | None:
    """What puts another transaction right is looked at by a person, whatever its amount."""
    return ("review", "correction") if case.command.corrects is not UNSET else None


RULES: Final[Mapping[str, Callable[[_Case], Objection | None]]] = {
    "scope_allowed": _scope,
    "source_permitted": _source,
    "transaction_limit": _transaction_limit,
    "daily_amount": _daily_amount,
    "daily_count": _daily_count,
    "review_threshold": _review_threshold,
    "correction_reviewed": _correction,
}
_SPEAKING: Final = ("correction_reviewed",)  # rules that are named only where they say something
_PASSED: Final = {
    name: "passed" for name in RULES if name not in _SPEAKING
}  # what nearly every decision holds: nobody changes it
