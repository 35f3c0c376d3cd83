"""The doors for what needs a second person and is no intent in review: forced reversals, account limits, settings.

- Whoever asks does not decide, and what is decided is what was looked at: an approval names the digest of the request.
- What an approval brings about is written in the transaction that approves it: a new limit, or the command that gives
  money back, under the id that the approval has. So it happens once, or not at all, whenever anything dies.
- A forced reversal is given in the name of whoever asked for it, and carries who approved it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from zentra.gateway.doors.commands import CommandDoor, Order, answered, replayed
from zentra.gateway.http.app import Reply, Request, Route, json_reply
from zentra.gateway.http.auth import Permission
from zentra.gateway.http.fields import (
    SCHEMAS,
    Field,
    Objection,
    digest,
    identifier,
    json_object,
    one_of,
    read_fields,
    text,
)
from zentra.gateway.http.lists import CREATED, Check, Lists, amount
from zentra.gateway.http.problems import Problem, of_violations, refusals_answered
from zentra.gateway.routes.packets import uuid_of
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import Violation, digest_of
from zentra.runtime.intents.vocabulary import SYSTEM_ACCOUNT_TYPES
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake.approvals import (
    APPROVAL_KINDS,
    Closing,
    NewApproval,
    close_approval,
    closing,
    open_approval,
    request_digest,
)
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.pool import Pool
from zentra.storage.reads import approvals as reads
from zentra.storage.reads import tenant as tenant_reads
from zentra.storage.reads.approvals import ApprovalPlace, ApprovalView

__all__ = ["APPROVAL", "APPROVAL_FILTERS", "CANCELLATION", "LIMIT_SCHEMA", "VERDICT", "ApprovalRoutes", "Asking"]

STATUSES: Final = ("open", "approved", "rejected", "cancelled", "expired")
APPROVAL_FILTERS: Final[Mapping[str, Check]] = {
    **CREATED, "status": one_of("status_unknown", *STATUSES), "kind": one_of("kind_unknown", *APPROVAL_KINDS),
    "subject": identifier, "created_by": identifier,
}  # fmt: skip
APPROVAL: Final[Mapping[str, Field]] = {
    "kind": Field(one_of("kind_unknown", "account_limit", "configuration")),
    "subject": Field(identifier), "request": Field(json_object), "reason": Field(text),
}  # fmt: skip
LIMIT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"overdraft_limit": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MINOR_MAX},
                                                 SCHEMAS[amount]]}},
    "required": ["overdraft_limit"],
    "additionalProperties": False,
}  # fmt: skip
"""What is asked for an account's limit, as JSON Schema."""
VERDICT: Final[Mapping[str, Field]] = {"reason": Field(text), "request_hash": Field(digest, None)}
CANCELLATION: Final[Mapping[str, Field]] = {"reason": Field(text)}
_SUBJECT: Final = "approval/"

Verdict = Literal["approved", "rejected", "cancelled"]


class Asking:
    """Opens approvals, for every door at which something needs one."""

    def __init__(self, writer_pool: Pool) -> None:
        self._pool, self._new_id = writer_pool, Uuid7()

    async def ask(
        self, request: Request, key: str, *, kind: str, subject: str, asked: dict[str, Any], reason: str,
        shows: dict[str, Any], status: int, digest: bytes,
    ) -> Reply:  # fmt: skip
        """Open an approval of what is `asked` and return the answer, with what it `shows` beside; raises Problem for a
        key that was used for something else."""
        who, id = request.principal, self._new_id()
        bound = request_digest(who.tenant, id, kind, subject, asked)
        answer = msgspec.json.encode(
            {**shows, **shown_ids(shows, id), "request_hash": bound, "links": _links(shows, id)}
        )
        keyed = KeyedAnswer(
            tenant=who.tenant, key=key, digest=digest, subject=_SUBJECT + id, status=status, answer=answer,
            request_id=request.request_id,
        )  # fmt: skip
        approval = NewApproval(
            id=id, kind=kind, subject=subject, request=canonical.encode(asked), request_hash=bound, reason=reason,
            created_by=who.id, role=who.role,
        )  # fmt: skip
        stored = await open_approval(self._pool, keyed, approval)
        if stored is not None:
            return replayed(digest, stored)
        return Reply(status, answer, ((b"location", b"/approvals/%b" % id.encode()),))


def shown_ids(shows: Mapping[str, Any], id: str) -> dict[str, str]:
    """Return under which names the id is shown: what will be a command is shown as one."""
    return {"command": id, "approval": id} if "command" in shows else {"id": id}


def _links(shows: Mapping[str, Any], id: str) -> dict[str, str]:
    mine = f"/approvals/{id}"
    return {"self": mine, "subject": shows["links"]} if "links" in shows else {"self": mine}


class ApprovalRoutes:
    """The handlers and their routes."""

    def __init__(self, pool: Pool, writer_pool: Pool, commands: CommandDoor, lists: Lists) -> None:
        self._pool, self._writer_pool, self._commands, self._lists = pool, writer_pool, commands, lists
        self._asking = Asking(writer_pool)

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        P, one = Permission, "/approvals/{id}"
        return [
            Route("GET", "/approvals", self.approvals, P.APPROVALS_READ),
            Route("POST", "/approvals", self.ask, P.APPROVALS_REQUEST, body="json"),
            Route("GET", one, self.approval, P.APPROVALS_READ),
            Route("POST", f"{one}/approve", self.approve, P.APPROVALS_DECIDE, body="json"),
            Route("POST", f"{one}/reject", self.reject, P.APPROVALS_DECIDE, body="json"),
            Route("POST", f"{one}/cancel", self.cancel, P.APPROVALS_REQUEST, body="json"),
        ]

    async def approvals(self, request: Request) -> Reply:
        """Approvals, the last opened first."""
        asked = self._lists.asked(request, APPROVAL_FILTERS, ApprovalPlace)
        found = await reads.approvals(self._pool, asked.tenant, asked.filters, after=asked.after, limit=asked.limit)
        return asked.page(found.rows, found.after)

    async def approval(self, request: Request) -> Reply:
        """One approval."""
        return json_reply(200, await self._find(request))

    async def ask(self, request: Request) -> Reply:
        """Ask for another person's approval."""
        values, in_body = read_fields(request.json, APPROVAL)
        key, kind, subject = request.idempotency_key(in_body), values["kind"], values["subject"]
        asked = values["request"]
        if kind == "account_limit":
            asked = _limit(asked)
            account = await tenant_reads.account(self._pool, request.principal.tenant, subject)
            if account is None:
                raise Problem("not_found", "there is no account of this id")
            if account.type in SYSTEM_ACCOUNT_TYPES:
                raise Problem("account_is_system")
        return await self._asking.ask(
            request, key, kind=kind, subject=subject, asked=asked, reason=values["reason"], status=201,
            shows={"kind": kind, "subject": subject, "status": "open"}, digest=digest_of("approval", values),
        )  # fmt: skip

    async def approve(self, request: Request) -> Reply:
        """Agree, and let it happen."""
        return await self._decide(request, "approved")

    async def reject(self, request: Request) -> Reply:
        """Refuse it."""
        return await self._decide(request, "rejected")

    async def cancel(self, request: Request) -> Reply:
        """Take back what one has asked for."""
        values, in_body = read_fields(request.json, CANCELLATION)
        key, seen = request.idempotency_key(in_body), await self._find(request)
        if seen.created_by != request.principal.id:
            raise Problem("permission_denied", "who asked for it cancels it")
        return await self._close(request, key, seen, self._how(request, seen, "cancelled", values["reason"]))

    async def _decide(self, request: Request, verdict: Verdict) -> Reply:
        values, in_body = read_fields(request.json, VERDICT)
        key, seen, bound = request.idempotency_key(in_body), await self._find(request), values["request_hash"]
        if seen.created_by == request.principal.id:
            raise Problem("self_approval")
        if bound is None and verdict == "approved":
            raise Problem("request_hash_missing")
        if bound not in (None, seen.request_hash):
            raise Problem("approval_changed")
        how = self._how(request, seen, verdict, values["reason"])
        if verdict == "approved" and seen.kind == "forced_reversal":
            return await self._reverse(request, key, seen, how)
        return await self._close(request, key, seen, how)

    async def _reverse(self, request: Request, key: str, seen: ApprovalView, how: Closing) -> Reply:
        asked = msgspec.json.decode(seen.request)
        order = Order(
            kind="reverse", subject=seen.subject, owner=seen.subject,
            body={"amount": asked["amount"], "reason": asked["reason"], "force": True, "approved_by": how.principal,
                  "approval": seen.id},
            asked={"approval": seen.id, "reason": how.reason}, named=seen.id,
            shows={"kind": "reverse", "intent_id": asked["intent_id"], "intent": seen.subject, "approval": seen.id},
            location=f"/runtime/intents/{asked['intent_id']}", id=seen.id, principal=seen.created_by, role=seen.role,
            also=closing(how),
        )  # fmt: skip
        with refusals_answered():
            return await self._commands.give(request, key, order)

    async def _close(self, request: Request, key: str, seen: ApprovalView, how: Closing) -> Reply:
        digest = digest_of(f"approval/{how.verdict}", {"approval": seen.id, "reason": how.reason})
        answer = msgspec.json.encode(
            {"id": seen.id, "kind": seen.kind, "subject": seen.subject, "status": how.verdict,
             "request_hash": seen.request_hash, "links": {"self": f"/approvals/{seen.id}"}}
        )  # fmt: skip
        keyed = KeyedAnswer(
            tenant=how.tenant, key=key, digest=digest, subject=_SUBJECT + seen.id, status=200, answer=answer,
            request_id=request.request_id,
        )  # fmt: skip
        with refusals_answered():
            stored = await close_approval(self._writer_pool, keyed, how)
        return answered(keyed, stored)

    def _how(self, request: Request, seen: ApprovalView, verdict: Verdict, reason: str) -> Closing:
        who = request.principal
        return Closing(
            approval=seen.id,
            tenant=who.tenant,
            verdict=verdict,
            principal=who.id,
            role=who.role,
            reason=reason,
            request_id=request.request_id,
        )

    async def _find(self, request: Request) -> ApprovalView:
        seen = await reads.approval(self._pool, request.principal.tenant, uuid_of(request.params["id"]))
        if seen is None:
            raise Problem("not_found")
        return seen


def _limit(asked: dict[str, Any]) -> dict[str, str]:
    """Return what is asked of an account's limit, spelled in one way; raise Problem for anything else."""
    wrong = [
        Violation(f"/request/{name}", "field_unknown", "there is no such field")
        for name in asked
        if name != "overdraft_limit"
    ]
    limit, given = 0, asked.get("overdraft_limit")
    try:
        limit = amount(str(given) if type(given) is int else given)
    except Objection as objection:
        wrong.append(Violation("/request/overdraft_limit", objection.code, objection.detail))
    if wrong:
        raise of_violations(wrong)
    return {"overdraft_limit": str(limit)}
