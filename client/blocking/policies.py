"""A tenant's policy in versions, and why decisions were what they were. Methods may raise APIError and ValueError.

Made from its twin in `client/asynchronous` by `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Mapping

from zentra.client import calls
from zentra.client.blocking.transport import Pages, Transport
from zentra.client.calls import Time
from zentra.client.policies import BacktestReport, Explanation, PolicyVersion

__all__ = ["Policies"]


class Policies:
    """Write a version, check it, test it on the past, put it in force, go back; and explain."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def draft(
        self, document: Mapping[str, object], *, note: str | None = None, idempotency_key: str | None = None
    ) -> PolicyVersion:
        """Write the next version and return it; `violations` says what keeps it from being validated."""
        return self._transport.send(calls.draft_policy(document, note, idempotency_key))

    def list(self, *, page_size: int | None = None) -> Pages[PolicyVersion]:
        """Return the versions, the newest first, without their documents."""
        return Pages(self._transport, calls.list_policies(page_size))

    def get(self, version: int) -> PolicyVersion:
        """Return a version with its document and its events, the last first."""
        return self._transport.send(calls.get_policy(version))

    def validate(self, version: int, *, idempotency_key: str | None = None) -> PolicyVersion:
        """Check a draft as a whole. Raises UnprocessableEntityError naming everything that is wrong with it."""
        return self._transport.send(calls.move_policy(version, "validate", idempotency_key))

    def backtest(
        self, version: int, *, from_: Time | None = None, to: Time | None = None, limit: int | None = None
    ) -> BacktestReport:
        """Return what a version would have said of the latest past intents of that time, 10,000 at most."""
        return self._transport.send(calls.backtest_policy(version, from_, to, limit))

    def promote(self, version: int, *, idempotency_key: str | None = None) -> PolicyVersion:
        """Put a validated version in force. Raises PermissionDeniedError `self_promotion` for its author."""
        return self._transport.send(calls.move_policy(version, "promote", idempotency_key))

    def roll_back(self, version: int, *, idempotency_key: str | None = None) -> PolicyVersion:
        """Put a version in force again. Raises PermissionDeniedError `self_promotion` for its author."""
        return self._transport.send(calls.move_policy(version, "rollback", idempotency_key))

    def explain(self, intent: str) -> Pages[Explanation]:
        """Return why each decision on an intent, named by either id, was what it was, in order."""
        return Pages(self._transport, calls.explain_intent(intent))
