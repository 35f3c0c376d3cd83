"""A tenant's policy in versions, and why decisions were what they were. Methods may raise APIError and ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from zentra.client import policy_calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.blocking.versions import Versions
from zentra.client.policies import BacktestReport, Explanation, PolicyVersion
from zentra.client.terms import Time

__all__ = ["Policies"]


class Policies(Versions[PolicyVersion]):
    """Write a version, check it, test it on the past, put it in force, go back; and explain."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, policy_calls.POLICIES)

    def backtest(
        self, version: int, *, from_: Time | None = None, to: Time | None = None, limit: int | None = None
    ) -> BacktestReport:
        """Return what a version would have said of the latest past intents of that time, 10,000 at most."""
        return self._transport.send(policy_calls.backtest_policy(version, from_, to, limit))

    def explain(self, intent: str) -> Pages[Explanation]:
        """Return why each decision on an intent, named by either id, was what it was, in order."""
        return Pages(self._transport, policy_calls.explain_intent(intent))
