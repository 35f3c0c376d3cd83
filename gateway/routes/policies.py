"""The doors to a tenant's policy, which is kept in versions: ask a version about the past, and explain decisions.

- A test on the past is a question: it changes nothing, so it needs no key, and is kept nowhere. It costs a gateway more
  than anything else does, so BACKTESTS_MAX run at once and others are sent away.
- A decision is explained by making it again from what its records hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from zentra.gateway.backtesting import run_backtest
from zentra.gateway.doors.versioned import VersionDoors, draft_fields
from zentra.gateway.explaining import explained
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Field, Objection, read_fields
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import Problem, of_violations
from zentra.runtime.policy.document import parse_policy, policy_schema
from zentra.runtime.policy.scoring import Scorer
from zentra.storage.policies import policies_with
from zentra.storage.pool import Pool

__all__ = ["BACKTEST", "DRAFT", "PolicyRoutes"]

BACKTESTS_MAX: Final = 2  # at once, of one gateway
RETRY_SECONDS: Final = 5
BACKTEST_OVER_HTTP_MAX: Final = 10_000  # intents: some two seconds of a gateway; more by `zentra policy backtest`


def moment(value: Any) -> datetime:
    """Return a time with its zone."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Objection("time_malformed", "an RFC 3339 time, such as 2026-04-01T00:00:00Z")
    return at


def how_many(value: Any) -> int:
    """Return how many intents a test looks at."""
    if type(value) is not int or not 1 <= value <= BACKTEST_OVER_HTTP_MAX:
        raise Objection("limit_malformed", f"1 to {BACKTEST_OVER_HTTP_MAX}")
    return value


SCHEMAS.update({
    moment: {"type": "string", "format": "date-time"},
    how_many: {"type": "integer", "minimum": 1, "maximum": BACKTEST_OVER_HTTP_MAX},
})  # fmt: skip
DRAFT: Final[Mapping[str, Field]] = draft_fields("a policy document", policy_schema())
BACKTEST: Final[Mapping[str, Field]] = {
    "from": Field(moment, ""), "to": Field(moment, ""), "limit": Field(how_many, BACKTEST_OVER_HTTP_MAX),
}  # fmt: skip


class PolicyRoutes(VersionDoors):
    """The handlers and their routes; `scorers` are the user's own."""

    def __init__(self, pool: Pool, scorers: Mapping[str, Scorer], lists: Lists) -> None:
        super().__init__(pool, lists, policies_with(scorers), DRAFT)
        self._scorers, self._backtests = scorers, 0

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        backtest = "/policies/{version}/backtest"
        return [
            *self.version_routes("/policies", P.POLICIES_READ, P.POLICIES_WRITE, P.POLICIES_PROMOTE),
            Route("POST", backtest, self.backtest, P.POLICIES_WRITE, body="json or nothing"),
            Route("GET", "/runtime/intents/{id}/decisions", self.decisions, P.POLICIES_READ),
        ]

    async def backtest(self, request: Request) -> Reply:
        """Ask a version about the past."""
        values, _ = read_fields(request.json, BACKTEST)
        view = await self.view(request)
        rules, violations = parse_policy(view.document)
        if rules is None:
            raise of_violations(violations)
        if self._backtests >= BACKTESTS_MAX:
            raise Problem("overloaded", f"{BACKTESTS_MAX} tests are running", retry_after=RETRY_SECONDS)
        self._backtests += 1
        try:
            report = await run_backtest(
                self._pool, request.principal.tenant, msgspec.structs.replace(rules, version=view.version),
                since=values["from"] or None, until=values["to"] or None, limit=values["limit"], scorers=self._scorers,
            )  # fmt: skip
        finally:
            self._backtests -= 1
        return json_reply(200, report)

    async def decisions(self, request: Request) -> Reply:
        """Why an intent was let through, referred or refused."""
        found = await explained(self._pool, request.principal.tenant, request.path_id, self._scorers)
        if found is None:
            raise Problem("not_found")
        return json_reply(200, {"data": found, "has_more": False, "next_cursor": None})
