"""The calls for policies, as values; see `zentra.client.calls`."""

from __future__ import annotations

from typing import Final

from zentra.client.calls import PageCall, pages
from zentra.client.core import Call, body_call, json_of
from zentra.client.models import Page
from zentra.client.policies import BacktestReport, Explanation, PolicyVersion
from zentra.client.terms import Time, spelled
from zentra.client.versions import VersionCalls

__all__ = ["POLICIES", "backtest_policy", "explain_intent"]

POLICIES: Final = VersionCalls("policies", json_of(PolicyVersion), json_of(Page[PolicyVersion]))
_report: Final = json_of(BacktestReport)
_explanations: Final = json_of(Page[Explanation])


def backtest_policy(version: int, since: Time | None, until: Time | None, limit: int | None) -> Call[BacktestReport]:
    """Ask a version about the past."""
    times = {name: None if at is None else spelled(at) for name, at in (("from", since), ("to", until))}
    body = {**times, "limit": limit}
    return body_call(_report, "policies", str(version), "backtest", body=body, idempotency_key=None)


def explain_intent(id: str) -> PageCall[Explanation]:
    """Ask why an intent was decided on as it was."""
    return pages(_explanations, "runtime", "intents", id, "decisions", page_size=None, filters={})
