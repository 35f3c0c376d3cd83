"""Reviews in the engine: opened with their terms, given to somebody, talked about, escalated, decided, run out.

Each of these is a record of the intent, written by the owner of its partition: of two claims, of a decision and an
escalation, of a comment and the end, one comes first. What an event meets that is over, it is refused for.

Who asks is looked at again here. The command says who it was and in which role; what became of that person since is in
the configuration that this tick decides under, so nobody who was disabled or demoted before it decides anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from zentra.runtime import reviews
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import digest_of
from zentra.runtime.intents.transaction import Transaction, timestamp
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.messages import CommandGiven
from zentra.runtime.reviews import DEFAULT_REVIEWS, NOTES_MAX, Member
from zentra.runtime.roles import Permission

if TYPE_CHECKING:
    from zentra.actors.tick import Input, Tick

__all__ = [
    "ON_REVIEW",
    "REVIEW_CODES",
    "ReviewAssignment",
    "ReviewComment",
    "ReviewEscalation",
    "ReviewVerdict",
    "fire",
    "may_cancel",
    "opened",
    "seen_of",
]

_NOBODY: Final[Mapping[str, Member]] = {}
_ACTIONS: Final = {
    "decide_review": "review.decide",
    "assign_review": "review.assign",
    "comment_review": "review.comment",
    "escalate_review": "review.escalate",
    "cancel": "intent.cancel",
}


class ReviewVerdict(Struct, frozen=True):
    """The body of a decision; `request_hash` is what its author has seen, unset where a gateway from before that asked
    for none."""

    verdict: str
    round: int
    reason: str
    request_hash: str | UnsetType = UNSET


class ReviewAssignment(Struct, frozen=True):
    """The body of an assignment: to whom, None for nobody. A claim takes only what is `unassigned` still."""

    round: int
    to: str | None
    unassigned: bool = False


class ReviewComment(Struct, frozen=True):
    """The body of a comment."""

    round: int
    text: str


class ReviewEscalation(Struct, frozen=True):
    """The body of an escalation: to somebody, or to whoever of the higher role has the least to do."""

    round: int
    reason: str
    to: str | None = None


def opened(tick: Tick, tx: Transaction, judged: f.Judged, at: Input) -> None:
    """Open a review of what was just referred: its row, its terms, and whose it is."""
    rules = tick.configuration.reviews.get(tx.tenant, DEFAULT_REVIEWS)
    opened_at = tx.referred_at or tx.at
    terms, command, number = reviews.terms_of(rules, tx.command, tx.principal, opened_at), tx.command, tx.round + 1
    assert terms.due_at is not None
    tick.writes.reviews_opened.append(
        (
            tx.id, number, tx.tenant, tx.intent_id, tx.principal, list(tx.flagged), judged.version, opened_at,
            terms.expires_at, terms.due_at, terms.approvals, str(command.kind), command.currency, command.amount,
        )
    )  # fmt: skip
    to = _choose(tick, tx, "operator", {tx.principal}) if rules.assigns else None
    spelled = f.ReviewTerms(timestamp(terms.due_at), timestamp(terms.expires_at), terms.approvals)
    _note(tick, at, tx, Fact.REVIEW_ASSIGNED, f.Assigned(number, to, "opened", spelled), actor="svc_policy")


def fire(tick: Tick, at: Input, tx: Transaction) -> None:
    """Do what the time of an open review asks for: let it run out, escalate it once it is overdue, or wait on."""
    desk = tx.review
    if tick.now >= desk.expires_at:
        tick.move(tx, Fact.EXPIRED, f.Noted("nobody decided in time"), at, actor="svc_policy")
        return
    if tick.now >= desk.next_at:
        role = tick.configuration.reviews.get(tx.tenant, DEFAULT_REVIEWS).escalates_to
        to = _choose(tick, tx, role, {tx.principal, desk.assigned_to, *desk.approved_by}) if role else None
        facts = f.Escalated(tx.round + 1, desk.level + 1, to, True, "nobody decided in time")
        _note(tick, at, tx, Fact.REVIEW_ESCALATED, facts, actor="svc_policy")
        tick.waits["review.overdue"].append((tx.at - (tx.referred_at or tx.at)).total_seconds())
    tick.rearm(tx, at.partition, tx.review.next_at)


def seen_of(tx: Transaction) -> str:
    """Return the digest that a decision on the open review is bound to."""
    return reviews.request_hash(
        tenant=tx.tenant, intent=tx.id, command=digest_of("intent", tx.command).hex(), round=tx.round + 1,
        rules=tx.flagged, version=tx.judged_by, asks=tx.asks, known=tx.known,
    )  # fmt: skip


def may_cancel(tick: Tick, event: CommandGiven, tx: Transaction) -> str | None:
    """Return why somebody may not cancel what is in review, or None: its creator may, and whoever may decide."""
    if event.principal == tx.principal:
        return None
    return _objection(tick, event, Permission.REVIEWS_DECIDE)


# What people ask for ----------------------------------------------------------------------------------------------


def _decide(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    body = msgspec.json.decode(event.body, type=ReviewVerdict)
    desk, seen, approved = tx.review, seen_of(tx), body.verdict == "approved"
    code = _objection(tick, event, Permission.REVIEWS_DECIDE)
    if code is None and event.principal == tx.principal:
        code = "self_approval"
        _deny(tick, event, code)
    if code is None and body.request_hash is not UNSET and body.request_hash != seen:
        code = "review_changed"
    if code is None and approved and event.principal in desk.approved_by:
        code = "approval_repeated"
    if code is not None:
        return code
    approvers = (*desk.approved_by, event.principal) if approved else desk.approved_by
    last = not approved or len(approvers) >= desk.approvals
    facts = f.Decided(
        body.verdict, body.round, body.reason, tx.flagged if approved and last else (), event.principal,
        request_hash=body.request_hash, approved_by=approvers if desk.approvals > 1 else UNSET,
    )  # fmt: skip
    if not last:
        _note(tick, at, tx, Fact.ENDORSED, facts, actor=event.principal, cause=event.command)
    else:
        tick.writes.reviews_changed[tx.id] = msgspec.structs.replace(desk, approved_by=approvers)
        fact = Fact.APPROVED if approved else Fact.REJECTED
        tick.move(tx, fact, facts, at, actor=event.principal, cause=event.command)
    return "done"


def _assign(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    body = msgspec.json.decode(event.body, type=ReviewAssignment)
    desk = tx.review
    code = _objection(tick, event, Permission.REVIEWS_DECIDE)
    if code is not None:
        return code
    if body.unassigned and desk.assigned_to not in (None, body.to):
        return "review_taken"
    if body.to is not None and not _may_own(tick, event, tx, body.to):
        return "assignee_not_permitted"
    if desk.assigned_to == body.to:
        return "done"
    if desk.notes >= NOTES_MAX:
        return "review_notes_full"
    facts = f.Assigned(body.round, body.to, "claimed" if body.unassigned else "assigned")
    _note(tick, at, tx, Fact.REVIEW_ASSIGNED, facts, actor=event.principal, cause=event.command)
    return "done"


def _comment(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    body = msgspec.json.decode(event.body, type=ReviewComment)
    code = _objection(tick, event, Permission.REVIEWS_COMMENT)
    if code is not None:
        return code
    if tx.review.notes >= NOTES_MAX:
        return "review_notes_full"
    facts = f.Commented(body.round, hashlib.sha256(body.text.encode()).hexdigest())
    _note(tick, at, tx, Fact.REVIEW_COMMENTED, facts, actor=event.principal, cause=event.command)
    return "done"


def _escalate(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    body = msgspec.json.decode(event.body, type=ReviewEscalation)
    desk = tx.review
    code = _objection(tick, event, Permission.REVIEWS_DECIDE)
    if code is not None:
        return code
    if body.to is not None and not _may_own(tick, event, tx, body.to):
        return "assignee_not_permitted"
    if desk.notes >= NOTES_MAX:
        return "review_notes_full"
    role = tick.configuration.reviews.get(tx.tenant, DEFAULT_REVIEWS).escalates_to
    to = body.to
    if to is None and role:
        to = _choose(tick, tx, role, {tx.principal, desk.assigned_to, event.principal, *desk.approved_by})
    facts = f.Escalated(body.round, desk.level + 1, to, False, body.reason)
    _note(tick, at, tx, Fact.REVIEW_ESCALATED, facts, actor=event.principal, cause=event.command)
    return "done"


class _Round(Struct, frozen=True):
    round: int


def _in_time(
    handle: Callable[[Tick, Input, CommandGiven, Transaction], str],
) -> Callable[[Tick, Input, CommandGiven, Transaction], str]:
    """Return `handle` for a review that is open in the round that the command names.

    One that has run out is closed by its timer alone, however late that fires. A decision that is refused gives back
    the seat that the gateway kept for it."""

    def handled(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
        number = msgspec.json.decode(event.body, type=_Round).round
        is_open = tx.state is State.REVIEW and number == tx.round + 1 and tick.now < tx.review.expires_at
        code = handle(tick, at, event, tx) if is_open else "review_not_open"
        if code != "done" and event.kind == "decide_review":
            tick.writes.decisions_refused.append((event.command, code))
        return code

    return handled


def _objection(tick: Tick, event: CommandGiven, permission: Permission) -> str | None:
    """Return why whoever gave a command may not, or None; such a refusal is evidence, with the precise reason."""
    members = tick.configuration.members.get(event.tenant, _NOBODY)
    reason = reviews.objection(members, event.principal, event.role, permission)
    if reason is None:
        return None
    _deny(tick, event, reason)
    return "permission_denied"


def _deny(tick: Tick, event: CommandGiven, code: str) -> None:
    tick.deny_command(event, _ACTIONS[event.kind], code)


def _may_own(tick: Tick, event: CommandGiven, tx: Transaction, to: str) -> bool:
    """Return whether a review can be somebody's: of a person who may decide on it. Whoever is not stored can take one
    for themselves, and be given none."""
    members = tick.configuration.members.get(tx.tenant, _NOBODY)
    if to == tx.principal or (to not in members and to != event.principal):
        return False
    role = members[to].role if to in members else event.role
    return reviews.objection(members, to, role, Permission.REVIEWS_DECIDE) is None


def _choose(tick: Tick, tx: Transaction, role: str, without: set[str | None]) -> str | None:
    members = tick.configuration.members.get(tx.tenant, _NOBODY)
    if not any(member.role == role for member in members.values()):
        return None
    return reviews.least_loaded(members, tick.workload(tx.tenant), role, {name for name in without if name})


def _note(
    tick: Tick, at: Input, tx: Transaction, fact: Fact, facts: f.Facts, *, actor: str, cause: str | None = None
) -> None:
    """Add a record to an open review, and bring its row in step."""
    before = tx.review.assigned_to if tx.desk is not None else None
    tick.move(tx, fact, facts, at, actor=actor, cause=cause)
    desk = tx.review
    tick.writes.reviews_changed[tx.id] = desk
    if desk.assigned_to is not None and desk.assigned_to != before:
        tick.works(tx.tenant, desk.assigned_to)


ON_REVIEW: Final[Mapping[str, Callable[[Tick, Input, CommandGiven, Transaction], str]]] = {
    "decide_review": _in_time(_decide),
    "assign_review": _in_time(_assign),
    "comment_review": _in_time(_comment),
    "escalate_review": _in_time(_escalate),
}
REVIEW_CODES: Final[Mapping[str, tuple[str, ...]]] = {
    "decide_review": (
        "review_not_open", "permission_denied", "self_approval", "review_changed",
        "approval_repeated",
    ),
    "assign_review": (
        "review_not_open", "permission_denied", "review_taken", "assignee_not_permitted",
        "review_notes_full",
    ),
    "comment_review": ("review_not_open", "permission_denied", "review_notes_full"),
    "escalate_review": (
        "review_not_open", "permission_denied", "assignee_not_permitted", "review_notes_full",
    ),
}  # fmt: skip
"""What each kind of command on a review can be refused for, in order of precedence, beside `not_found`."""
