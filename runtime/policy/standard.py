"""The standard rules, which every policy has: scopes, whose money may move, and limits by currency.

They stand in one table in order of precedence; every rule answers."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import UNSET, Struct

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.vocabulary import BOOKED, SYSTEM_ACCOUNT_TYPES
from zentra.runtime.policy.rules import Limits, PolicyRules
from zentra.runtime.policy.windows import Usage

__all__ = ["CORRECTION", "STANDARD_RULES", "limits_of", "standard"]

NO_LIMITS: Final = Limits()
CORRECTION: Final = "correction_reviewed"

Objection = tuple[str, str]
"""What a rule says against a case: review or denied, and the reason."""


class _Case(Struct, frozen=True, gc=False):
    command: IntentCommand
    minor: int
    role: str
    source_type: str | None
    limits: Limits
    rules: PolicyRules
    usage: Usage
    booked: bool


def standard(
    rules: PolicyRules, command: IntentCommand, role: str, source_type: str | None,
    counted: list[Usage | None], waives: tuple[str, ...],
) -> tuple[dict[str, str], list[str]]:  # fmt: skip
    """Return the answer of every rule, and the reasons of those that are against it, in order.

    `counted` holds the daily counter where a limit needs it, None where nobody knows it."""
    used_: Usage | None = counted[0] if counted else _NOTHING
    results = _PASSED
    reasons: list[str] = []
    if used_ is None:
        results, used_ = {"velocity_counted": "denied", **results}, _NOTHING
        reasons.append("velocity_unknown")
    limits, booked = limits_of(rules, command.currency), command.kind in BOOKED
    case = _Case(command, command.amount, role, source_type, limits, rules, used_, booked)
    for name, rule in STANDARD_RULES.items():
        objection = rule(case)
        if objection is None:
            continue
        outcome, reason = objection
        if outcome == "review" and name in waives:
            results = {**results, name: "waived"}
        else:
            results = {**results, name: outcome}
            reasons.append(reason)
    return results, reasons


def limits_of(rules: PolicyRules, currency: str) -> Limits:
    """Return the limits of a currency."""
    return rules.limits.get(currency) or rules.limits.get("*") or NO_LIMITS


def _scope(case: _Case) -> Objection | None:
    allowed = case.rules.scopes is None or case.command.scope in case.rules.scopes
    return None if allowed else ("denied", "scope_not_allowed")


def _source(case: _Case) -> Objection | None:
    """Money comes out of an account without a floor only by an operator's hand."""
    system = case.source_type in SYSTEM_ACCOUNT_TYPES
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


STANDARD_RULES: Final[Mapping[str, Callable[[_Case], Objection | None]]] = {
    "scope_allowed": _scope,
    "source_permitted": _source,
    "transaction_limit": _transaction_limit,
    "daily_amount": _daily_amount,
    "daily_count": _daily_count,
    "review_threshold": _review_threshold,
    CORRECTION: _correction,
}
# A correction is named only where there is one.
_PASSED: Final = {
    name: "passed" for name in STANDARD_RULES if name != CORRECTION
}  # what nearly every decision holds: nobody changes it
_NOTHING: Final = Usage()
