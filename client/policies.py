"""What the API answers about policies, as values that cannot be changed; see `docs/policy.md` for what they mean."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from zentra.client.versions import DocumentEvent, DocumentVersion, DocumentViolation

__all__ = [
    "BacktestReport", "ChangedDecision", "Explanation", "PolicyEvent", "PolicyVersion", "PolicyViolation", "RuleAnswer",
]  # fmt: skip


PolicyViolation = DocumentViolation
PolicyEvent = DocumentEvent


class PolicyVersion(DocumentVersion, frozen=True, kw_only=True):
    """A version of a policy; lists leave out its document, and only `get` brings its events."""


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
