"""What the API answers about policies, as values that cannot be changed; see `docs/policy.md` for what they mean."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

__all__ = [
    "BacktestReport", "ChangedDecision", "Explanation", "PolicyEvent", "PolicyVersion", "PolicyViolation", "RuleAnswer",
]  # fmt: skip


class PolicyViolation(Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a document: where (a JSON pointer), a code, and what was expected."""

    pointer: str
    code: str
    detail: str


class PolicyEvent(Struct, frozen=True, kw_only=True):
    """Who did what with a version, when."""

    version: int
    action: str
    principal: str
    at: datetime
    detail: Any = None


class PolicyVersion(Struct, frozen=True, kw_only=True):
    """A version of a policy; lists leave out its document, and only `get` brings its events."""

    version: int
    state: str
    digest: str
    note: str
    created_by: str
    created_at: datetime
    document: dict[str, Any] | None = None
    violations: tuple[PolicyViolation, ...] = ()
    links: dict[str, str] = {}
    events: tuple[PolicyEvent, ...] = ()


class ChangedDecision(Struct, frozen=True, kw_only=True):
    """A decision that the tested version would have made another way."""

    intent_id: str
    at: str
    was: str
    was_reasons: tuple[str, ...]
    would_be: str
    reasons: tuple[str, ...]


class BacktestReport(Struct, frozen=True, kw_only=True):
    """What a version would have said of past intents; `different` counts its own that came out another way."""

    version: int
    decisions: int
    was: dict[str, int]
    would_be: dict[str, int]
    changed: int
    reasons: dict[str, int]
    identical: int
    different: int
    examples: tuple[ChangedDecision, ...]


class RuleAnswer(Struct, frozen=True, kw_only=True):
    """What one rule answered, and on what."""

    rule: str
    result: str
    inputs: dict[str, Any]


class Explanation(Struct, frozen=True, kw_only=True):
    """A decision, what each rule answered, and the decision that the same inputs lead to now; `same`: it is equal."""

    intent_id: str
    sequence: int
    at: str
    outcome: str
    version: int
    lane: str
    reasons: tuple[str, ...]
    input_digest: str
    answers: tuple[RuleAnswer, ...]
    again: dict[str, Any]
    same: bool
