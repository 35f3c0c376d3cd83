"""Explaining the decisions on one intent: its records, the policy versions they name, and the decisions made again."""

from __future__ import annotations

from collections.abc import Mapping

from zentra.runtime.policy.document import rules_of
from zentra.runtime.policy.replay import Explanation, explain
from zentra.runtime.policy.rules import DEFAULT_RULES
from zentra.runtime.policy.scoring import Scorer
from zentra.storage.policies import POLICIES
from zentra.storage.pool import Pool
from zentra.storage.reads.decisions import accounts_named, decisions_of

__all__ = ["explained"]


async def explained(pool: Pool, tenant: str, given: str, scorers: Mapping[str, Scorer]) -> list[Explanation] | None:
    """Return why each decision on an intent, named by its intent_id or uuid, was what it was; None where the tenant has
    no such intent. Raises Unavailable as the store does."""
    found = await decisions_of(pool, tenant, given)
    if found is None:
        return None
    accounts = await accounts_named(pool, tenant, {past.command.source for past in found})
    answers = []
    for past in found:
        version = past.judged.version
        view = await POLICIES.show(pool, tenant, version) if version else None
        rules = DEFAULT_RULES if view is None else rules_of(view.document, version)
        source = accounts.get(past.command.source)
        kind = None if source is None else source.type
        answers.append(explain(past, rules, source_type=kind, scorers=scorers))
    return answers
