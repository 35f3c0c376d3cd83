"""The auditor's own queue: whose a review is, how long it may wait, who may decide on it, and what was looked at.

It is folded from the records and from what people asked for, under the people and rules that a commit was decided
under. It knows two roles that may decide, four that may say something, and one spelling of what a decision is bound
to; all of it is written down here once more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from zentra.bench.simulation.auditor_histories import History, Record
from zentra.bench.simulation.auditor_outside import Given
from zentra.bench.simulation.auditor_words import Violation
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.ports import Configuration
from zentra.runtime.reviews import Member, ReviewRules

__all__ = ["AuditedReviews"]

_DECIDERS: Final = ("operator", "admin")
_SPEAKERS: Final = ("developer", "operator", "admin")
_ASKED: Final = {
    "review.approved": "decide_review", "review.rejected": "decide_review", "review.endorsed": "decide_review",
    "review.commented": "comment_review", "review.escalated": "escalate_review", "review.assigned": "assign_review",
}  # fmt: skip
_SYSTEM: Final = "svc_policy"


class Queued(Struct):
    """One open review."""

    round: int
    opened_at: datetime
    version: int
    rules: list[str]
    due_at: datetime | None = None
    expires_at: datetime | None = None
    approvals: int = 1
    owner: str | None = None
    level: int = 0
    breached: bool = False
    approved_by: list[str] = []
    comments: int = 0


class AuditedReviews:
    """The open reviews, by intent."""

    def __init__(self) -> None:
        self._open: dict[str, Queued] = {}

    def moved(
        self,
        history: History,
        record: Record,
        configuration: Configuration,
        now: datetime,
        commands: Mapping[str, Given],
    ) -> None:
        """Follow one record that was decided at `now`; object to what people may not do, and to what time does not."""
        if record.event == "policy.review":
            facts = record.facts
            rules = sorted(rule for rule, result in facts["results"].items() if result == "review")
            self._open[history.id] = Queued(history.round + 1, history.moment, facts["version"], rules)
            return
        queued = self._open.get(history.id)
        if queued is None:
            return
        where = f"{history.id}/{record.sequence} ({record.event})"
        if queued.expires_at is None:
            self._begun(history, record, configuration, queued, where)
            return
        members = configuration.members.get(history.tenant, {})
        if record.event in _ASKED:
            self._noted(history, record, configuration, now, commands.get(record.cause), queued, where)
        elif record.event == "review.expired" and now < queued.expires_at:
            raise Violation("K", f"{where} expires a review that is open until {queued.expires_at}")
        elif record.event == "intent.cancelled":
            given = commands.get(record.cause)
            mine = given is not None and given.principal == history.first.actor
            if given is None or not (mine or _may(members, given, _DECIDERS)):
                raise Violation("Q", f"{where} is cancelled by {record.actor}, who neither asked for it nor decides")
        if history.state != "REVIEW":
            del self._open[history.id]

    def _begun(
        self, history: History, record: Record, configuration: Configuration, queued: Queued, where: str
    ) -> None:
        """Check the record that opens a review: its terms, and whom it is given to."""
        facts = record.facts
        rules = configuration.reviews.get(history.tenant, ReviewRules())
        if record.event != "review.assigned" or "terms" not in facts or record.actor != _SYSTEM:
            raise Violation("T", f"{where} follows a referral, whose review has no terms")
        seconds = rules.due_seconds_by_kind.get(history.command["kind"], rules.due_seconds)
        band = rules.approvals.get(history.currency) or rules.approvals.get("*")
        approvals = band.count if band is not None and history.amount >= band.minor_min else 1
        if history.first.actor == "nats":
            approvals = max(approvals, rules.nats_approvals)
        due, expires = (queued.opened_at + timedelta(seconds=s) for s in (seconds, rules.expires_seconds))
        told = [datetime.fromisoformat(facts["terms"][name]) for name in ("due_at", "expires_at")]
        if told != [due, expires] or facts["terms"]["approvals"] != approvals:
            raise Violation(
                "K", f"{where} gives the terms {facts['terms']}, the rules say {due}, {expires}, {approvals}"
            )
        queued.due_at, queued.expires_at, queued.approvals, queued.owner = due, expires, approvals, facts["to"]
        members = configuration.members.get(history.tenant, {})
        able = {n for n, m in members.items() if m.role == "operator" and not m.disabled} - {history.first.actor}
        if (facts["to"] not in able) if able and rules.assigns else facts["to"] is not None:
            raise Violation("Q", f"{where} is given to {facts['to']}, of {sorted(able)}")

    def _noted(
        self,
        history: History,
        record: Record,
        configuration: Configuration,
        now: datetime,
        given: Given | None,
        queued: Queued,
        where: str,
    ) -> None:
        facts, members = record.facts, configuration.members.get(history.tenant, {})
        assert queued.expires_at is not None
        if now >= queued.expires_at:
            raise Violation("K", f"{where} was decided at {now}, the review ran out at {queued.expires_at}")
        if facts["round"] != queued.round:
            raise Violation("Q", f"{where} is of round {facts['round']}, round {queued.round} is open")
        if record.event == "review.escalated" and facts["overdue"]:
            self._overdue(history, record, now, queued, where)
        else:
            if given is None or given.kind != _ASKED[record.event] or given.principal != record.actor:
                raise Violation("Q", f"{where} is what {record.actor} has not asked for")
            if not _may(members, given, _SPEAKERS if record.event == "review.commented" else _DECIDERS):
                raise Violation("Q", f"{where} is by {record.actor}, who may not")
        if record.event == "review.commented":
            self._commented(record, given, queued, where)
        elif record.event in ("review.escalated", "review.assigned"):
            self._owned(history, record, members, given, queued, where)
        else:
            self._decided(history, record, given, queued, where)

    def _overdue(self, history: History, record: Record, now: datetime, queued: Queued, where: str) -> None:
        if queued.breached:
            raise Violation("T", f"{where} finds overdue what was found so before")
        if queued.due_at is None or now < queued.due_at:
            raise Violation("K", f"{where} is overdue at {now}, it was due at {queued.due_at}")
        if record.actor != _SYSTEM:
            raise Violation("Q", f"{where} is overdue because {record.actor} says so")
        queued.breached = True

    def _commented(self, record: Record, given: Given | None, queued: Queued, where: str) -> None:
        text = json.loads(given.body)["text"] if given is not None else ""
        if hashlib.sha256(text.encode()).hexdigest() != record.facts["digest"]:
            raise Violation("S", f"{where} has the digest of another comment")
        queued.comments += 1

    def _owned(
        self,
        history: History,
        record: Record,
        members: Mapping[str, Member],
        given: Given | None,
        queued: Queued,
        where: str,
    ) -> None:
        to = record.facts["to"]
        if to is not None:
            member = members.get(to)
            able = to == record.actor if member is None else not member.disabled and member.role in _DECIDERS
            if to == history.first.actor or not able:
                raise Violation("Q", f"{where} gives the review to {to}, who cannot decide on it")
        if record.event == "review.escalated":
            queued.level += 1
            if record.facts["level"] != queued.level:
                raise Violation("J", f"{where} is escalation {record.facts['level']}, there were {queued.level - 1}")
            queued.owner = to or queued.owner
            return
        if given is not None and json.loads(given.body).get("unassigned") and queued.owner is not None:
            raise Violation("K", f"{where} claims what is {queued.owner}'s")
        queued.owner = to

    def _decided(
        self, history: History, record: Record, given: Given | None, queued: Queued, where: str
    ) -> None:  # fmt: skip
        facts, who = record.facts, record.actor
        if history.first.actor in (who, facts["decided_by"]) or facts["decided_by"] != who:
            raise Violation("Q", f"{where} is decided by {who} and {facts['decided_by']}, {history.first.actor} asked")
        asked = json.loads(given.body) if given is not None else {}
        bound = asked.get("request_hash")
        if bound != facts.get("request_hash") or bound not in (None, self._seen(history, queued)):
            raise Violation("Q", f"{where} is bound to {facts.get('request_hash')}, which is not what there was to see")
        if record.event == "review.rejected":
            return
        if who in queued.approved_by:
            raise Violation("Q", f"{where} is a second approval of {who}")
        queued.approved_by = [*queued.approved_by, who]
        enough = len(queued.approved_by) >= queued.approvals
        if enough != (record.event == "review.approved"):
            raise Violation("Q", f"{where} comes with {queued.approved_by}, it takes {queued.approvals}")
        if facts.get("approved_by", [who]) != queued.approved_by:
            raise Violation("Q", f"{where} names {facts.get('approved_by')}, {queued.approved_by} have approved")

    def _seen(self, history: History, queued: Queued) -> str:
        seen: dict[str, Any] = {
            "command": history.first.facts["digest"], "intent": history.id, "round": queued.round,
            "rules": history.asks, "known": history.known, "tenant": history.tenant, "version": queued.version,
        }  # fmt: skip
        text = json.dumps(seen, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(b"review\n" + text.encode()).hexdigest()

    def rebuild(self, store: StoreTwin) -> None:
        """Object where the stored queue is not what the records say."""
        for intent, queued in self._open.items():
            row = store.rows.reviews.get(intent, {})
            stored = [row.get(name) for name in ("assigned_to", "level", "breached", "approved_by", "comments")]
            mine = [queued.owner, queued.level, queued.breached, queued.approved_by, queued.comments]
            if stored != mine:
                raise Violation("T", f"the review of {intent} is stored as {stored}, its records say {mine}")

    def finish(self, now: datetime) -> None:
        """Object where time has passed over a review."""
        for intent, queued in self._open.items():
            if queued.expires_at is None or now >= queued.expires_at:
                raise Violation("T", f"the review of {intent} is open, it ran out at {queued.expires_at}")
            if queued.due_at is not None and now >= queued.due_at and not queued.breached:
                raise Violation("T", f"the review of {intent} was due at {queued.due_at}, and nobody was told")


def _may(members: Mapping[str, Member], given: Given, roles: tuple[str, ...]) -> bool:
    member = members.get(given.principal)
    return given.role in roles and (member is None or (member.role in roles and not member.disabled))
