"""The doors to a tenant's policy: write a version, check it, test it on the past, put it in force, go back; explain.

- A draft is stored as it was written, right or wrong; `violations` says what keeps it from being validated.
- A test on the past is a question: it changes nothing, so it needs no key, and is kept nowhere. It costs a gateway more
  than anything else does, so BACKTESTS_MAX run at once and others are sent away.
- Whoever puts a version in force is not its author, and every step is kept with who and when.
- A decision is explained by making it again from what its records hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from zentra.gateway.backtesting import run_backtest
from zentra.gateway.doors.commands import replayed
from zentra.gateway.explaining import explained
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import SCHEMAS, Field, Objection, read_fields, text
from zentra.gateway.http.lists import Lists
from zentra.gateway.http.problems import Problem, of_violations
from zentra.gateway.routes.webhooks import NOTHING
from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import digest_of
from zentra.runtime.policy.document import DOCUMENT_BYTES_MAX, digest_of_document, parse_policy, policy_schema
from zentra.runtime.policy.scoring import Scorer
from zentra.runtime.policy.shape import oversized
from zentra.storage.policies import POLICIES, PolicyAsked, draft_policy_once, move_policy_once
from zentra.storage.pool import Pool
from zentra.storage.versions import InvalidDocument, Step, VersionKey, VersionView

__all__ = ["BACKTEST", "DRAFT", "PolicyRoutes"]

BACKTESTS_MAX: Final = 2  # at once, of one gateway
RETRY_SECONDS: Final = 5
BACKTEST_OVER_HTTP_MAX: Final = 10_000  # intents: some two seconds of a gateway; more by `zentra policy backtest`
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}\Z", re.ASCII)


def document(value: Any) -> Any:
    """Return a JSON object of at most 64 KiB and a bounded number of members and levels, whatever it says."""
    if not isinstance(value, dict):
        raise Objection("field_type", "expected an object")
    try:
        spelled = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise Objection("text_malformed", "a text is no Unicode") from None
    if len(spelled) > DOCUMENT_BYTES_MAX:
        raise Objection("policy_too_large", f"at most {DOCUMENT_BYTES_MAX} bytes")
    excess = oversized(value)
    if excess is not None:
        raise Objection(excess.code, excess.detail)
    if b"\\u0000" in spelled:
        raise Objection("text_malformed", "a text holds a zero byte")
    return value


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
    # a draft may break the rules of a document; what those are stands beside it
    document: {"type": "object", "description": "a policy document", "x-document-schema": policy_schema()},
    moment: {"type": "string", "format": "date-time"},
    how_many: {"type": "integer", "minimum": 1, "maximum": BACKTEST_OVER_HTTP_MAX},
})  # fmt: skip
DRAFT: Final[Mapping[str, Field]] = {"document": Field(document), "note": Field(text, "")}
BACKTEST: Final[Mapping[str, Field]] = {
    "from": Field(moment, ""), "to": Field(moment, ""), "limit": Field(how_many, BACKTEST_OVER_HTTP_MAX),
}  # fmt: skip


class PolicyRoutes:
    """The handlers and their routes; `scorers` are the user's own."""

    def __init__(self, pool: Pool, scorers: Mapping[str, Scorer], lists: Lists) -> None:
        self._pool, self._scorers, self._lists = pool, scorers, lists
        self._backtests = 0

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P = Permission
        version = "/policies/{version}"
        return [
            Route("POST", "/policies", self.draft, P.POLICIES_WRITE, body="json"),
            Route("GET", "/policies", self.versions, P.POLICIES_READ),
            Route("GET", version, self.show, P.POLICIES_READ),
            Route("POST", f"{version}/validate", self.validate, P.POLICIES_WRITE, body="json or nothing"),
            Route("POST", f"{version}/backtest", self.backtest, P.POLICIES_WRITE, body="json or nothing"),
            Route("POST", f"{version}/promote", self.promote, P.POLICIES_PROMOTE, body="json or nothing"),
            Route("POST", f"{version}/rollback", self.roll_back, P.POLICIES_PROMOTE, body="json or nothing"),
            Route("GET", "/runtime/intents/{id}/decisions", self.decisions, P.POLICIES_READ),
        ]

    async def draft(self, request: Request) -> Reply:
        """Store the next version."""
        values, in_body = read_fields(request.json, DRAFT)
        asked_for = {"document": digest_of_document(values["document"]), "note": values["note"]}
        key = VersionKey(request.idempotency_key(in_body), digest_of("policy", asked_for), request.request_id)
        done = await draft_policy_once(
            self._pool, request.principal.tenant, values["document"], values["note"], self._asked(request), key
        )
        return _answer(201, done, key)

    async def versions(self, request: Request) -> Reply:
        """A page of versions, the newest first."""
        asked = self._lists.asked(request, {}, int)
        rows = await POLICIES.rows(self._pool, asked.tenant, before=asked.after, limit=asked.limit + 1)
        page = rows[: asked.limit]
        return asked.page(page, page[-1].version if len(rows) > len(page) else None)

    async def show(self, request: Request) -> Reply:
        """One version and its history."""
        view = await self._view(request)
        events = await POLICIES.events(self._pool, request.principal.tenant, view.version)
        return json_reply(200, {**POLICIES.shown(view), "events": events})

    async def validate(self, request: Request) -> Reply:
        """Check a draft."""
        return await self._move(request, "validate")

    async def promote(self, request: Request) -> Reply:
        """Put a validated version in force."""
        return await self._move(request, "promote")

    async def roll_back(self, request: Request) -> Reply:
        """Put a version in force again."""
        return await self._move(request, "rollback")

    async def _move(self, request: Request, step: Step) -> Reply:
        _, in_body = read_fields(request.json, NOTHING)
        given, version = request.idempotency_key(in_body), _version_of(request)
        key = VersionKey(given, digest_of(f"policy/{step}", {"version": version}), request.request_id)
        try:
            done = await move_policy_once(
                self._pool, request.principal.tenant, version, step, self._asked(request), key
            )  # fmt: skip
        except Refusal as refusal:
            raise Problem(refusal.reason, refusal.detail) from None
        except InvalidDocument as invalid:
            raise of_violations(invalid.violations) from None
        if done is None:
            raise Problem("not_found")
        return _answer(200, done, key)

    async def backtest(self, request: Request) -> Reply:
        """Ask a version about the past."""
        values, _ = read_fields(request.json, BACKTEST)
        view = await self._view(request)
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
        tenant, given = request.principal.tenant, request.params["id"]
        if not given.isascii() or not given.isprintable():
            raise Problem("not_found")
        found = await explained(self._pool, tenant, given, self._scorers)
        if found is None:
            raise Problem("not_found")
        return json_reply(200, {"data": found, "has_more": False, "next_cursor": None})

    async def _view(self, request: Request) -> VersionView:
        view = await POLICIES.show(self._pool, request.principal.tenant, _version_of(request))
        if view is None:
            raise Problem("not_found")
        return view

    def _asked(self, request: Request) -> PolicyAsked:
        return PolicyAsked(request.principal.id, tuple(self._scorers))


def _version_of(request: Request) -> int:
    given = request.params["version"]
    if not _VERSION.match(given):
        raise Problem("not_found")
    return int(given)


def _answer(status: int, done: VersionView | StoredKey, key: VersionKey) -> Reply:
    if isinstance(done, VersionView):
        shown = POLICIES.shown(done)
        location = ((b"location", shown["links"]["self"].encode()),) if status == 201 else ()
        return json_reply(status, shown, location)
    location = ((b"location", b"/" + done.subject.replace("policy/", "policies/").encode()),) if status == 201 else ()
    return replayed(key.digest, done, location)
