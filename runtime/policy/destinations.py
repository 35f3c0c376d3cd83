"""What a policy says of who gets the money, and of nothing else: asked where a capture picks a destination by itself.

The decision on a hold has said all that does not depend on the destination, and is not asked again: neither a limit
that is reached by now nor a rule that came later takes back what was held. What does depend on it is asked as if the
hold had named this destination. What a person has waived stays waived where it does not look at the destination."""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from zentra.runtime.policy.conditions import fields_in
from zentra.runtime.policy.fields import RISK_SCORE, VELOCITY
from zentra.runtime.policy.rules import DEFAULT_RULES, Limits, PolicyRules, Rule, Window
from zentra.runtime.policy.windows import BY_DESTINATION

__all__ = ["about_destination", "still_waived"]

KEPT_MAX: Final = 4_096
_kept: dict[int, tuple[PolicyRules, PolicyRules]] = {}


def about_destination(rules: PolicyRules) -> PolicyRules:
    """Return what of these rules depends on the destination; it is made once, as a program is made of it once."""
    known = _kept.get(id(rules))
    if known is not None and known[0] is rules:
        return known[1]
    if len(_kept) >= KEPT_MAX:
        _kept.clear()
    made = _narrowed(rules)
    _kept[id(rules)] = rules, made
    return made


def still_waived(rules: PolicyRules, waives: Iterable[str]) -> tuple[str, ...]:
    """Return which of the rules that a person waived for a hold do not look at the destination: whoever approved the
    others has approved the destination that they saw."""
    own = {rule.name: rule for rule in rules.rules}
    plain = {"review_threshold"} | {f"window.{name}" for name, one in rules.windows.items() if not _by(one)}
    return tuple(
        [name for name in waives if name in plain or (name in own and not _looks(own[name], rules.windows))]
    )  # fmt: skip


def _narrowed(rules: PolicyRules) -> PolicyRules:
    if rules.unusable:
        return rules
    about = {rule.name for rule in rules.rules if _looks(rule, rules.windows)}
    # what an allow rule takes back for some destinations, it does not for this one
    subject = {name for rule in rules.rules if rule.name in about for name in rule.waives}
    kept = tuple(rule for rule in rules.rules if rule.name in about | subject)
    windows = {
        name: window if _by(window) or f"window.{name}" in subject else replace(window, limits={})
        for name, window in rules.windows.items()
    }
    limits = rules.limits if "review_threshold" in subject else {}
    limits = {currency: Limits(review_minor_min=one.review_minor_min) for currency, one in limits.items()}
    read = {part for rule in kept for name in fields_in(rule.when) if (part := _window_of(name))}
    windows = {name: window for name, window in windows.items() if window.limits or name in read}
    if not (kept or windows or rules.risk is not None):
        return replace(DEFAULT_RULES, version=rules.version, compliance=rules.compliance)
    return replace(rules, scopes=None, limits=limits, windows=windows, rules=kept)


def _looks(rule: Rule, windows: Mapping[str, Window]) -> bool:
    """Return whether a rule looks at the destination, or at a figure that depends on it."""
    for name in fields_in(rule.when):
        window = windows.get(_window_of(name))
        if name.startswith("destination.") or name == RISK_SCORE or (window is not None and _by(window)):
            return True
    return False


def _window_of(name: str) -> str:
    return name[len(VELOCITY) :].rpartition(".")[0] if name.startswith(VELOCITY) else ""


def _by(window: Window) -> bool:
    return window.by in BY_DESTINATION
