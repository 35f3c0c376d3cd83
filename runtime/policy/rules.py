"""A tenant's rules in one version, as data: what a policy document holds once it was checked.

Nothing here decides anything. A document is read by `document.parse_policy`, which names everything that is wrong with
it; what stands in the store and cannot be read any more is `unusable`, and lets nothing pass."""

from typing import Any, Final

from msgspec import Struct

from zentra.runtime.compliance.diligence import Compliance

__all__ = ["DEFAULT_RULES", "Limits", "PolicyRules", "Risk", "Rule", "Window", "WindowLimits", "is_plain", "unusable"]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits in minor units of one currency; None is no limit. They bound what rails carry, nothing else."""

    transaction_minor_max: int | None = None
    daily_minor_max: int | None = None
    daily_count_max: int | None = None
    review_minor_min: int | None = None


class WindowLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a window may hold, the intent that is being decided on included; `outcome` (deny or review) beyond it."""

    count_max: int | None = None
    minor_max: int | None = None
    outcome: str = "deny"


class Window(Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted over which time: accepted intents of one currency by tenant, source account, counterparty
    (destination), pair of both, or corridor (country and kind).

    Either `rolling_seconds` in `buckets`, or a `calendar` day, week, month or ever. `kinds` None: all but book
    transfers. `limits` are by currency, "*" for the rest; a window without any only feeds conditions."""

    by: str
    rolling_seconds: int | None = None
    buckets: int = 12
    calendar: str | None = None
    kinds: tuple[str, ...] | None = None
    limits: dict[str, WindowLimits] = {}


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """What follows from a condition: `outcome` is deny, review or allow, and an allow waives the reviews it names."""

    name: str
    when: dict[str, Any]
    outcome: str
    reason: str = ""
    lane: str = ""
    waives: tuple[str, ...] = ()


class Risk(Struct, frozen=True, forbid_unknown_fields=True):
    """Which scorer is asked, with which weights, and the scores from which a person or nobody lets an intent pass.

    `on_error` (review or deny) is the answer where there is no score."""

    scorer: str = "default"
    review_min: int | None = 60
    deny_min: int | None = None
    on_error: str = "review"
    new_counterparty_weight: int = 30
    velocity_weight: int = 30
    amount_weight: int = 40
    velocity_full: int = 20
    amount_full_percent: int = 1000
    history_min: int = 5


class PolicyRules(Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant's rules in one version. `scopes` None means any scope; `limits` are by currency, "*" for the rest.

    `time_zone` is that of the fields `hour` and `weekday` and of calendar windows. `unusable` says why nothing may be
    decided under these rules; it is never read from a document."""

    version: int = 0
    scopes: tuple[str, ...] | None = None
    limits: dict[str, Limits] = {}
    time_zone: str = "UTC"
    windows: dict[str, Window] = {}
    lists: dict[str, tuple[str, ...]] = {}
    rules: tuple[Rule, ...] = ()
    risk: Risk | None = None
    compliance: Compliance | None = None
    unusable: str = ""


DEFAULT_RULES: Final = PolicyRules()


def is_plain(rules: PolicyRules) -> bool:
    """Return whether scopes and limits are all there is: then nothing has to be compiled or gathered."""
    return not (rules.rules or rules.windows or rules.risk is not None or rules.unusable)


def unusable(version: int, reason: str) -> PolicyRules:
    """Return rules that let nothing pass, for a version that cannot be read."""
    return PolicyRules(version=version, unusable=reason)
