"""Reviews: how long one may wait, who may decide on it, how many have to, and what a decision is bound to.

- The terms of a review are fixed when it opens and stand in the record that opens it: a tenant that changes its rules
  changes those of reviews to come.
- A decision names the digest of what was looked at. It covers the command, the round, the rules that asked and their
  version, why each asked and what was known of the people, so whoever approves one thing cannot be made to have
  approved another.
- A waiver holds for the rule, the reason and what was known when it was given: see `standing`. Anything else is asked
  about anew, in the next round.
- Who may decide is asked when the decision is carried out, by what is known of the person then: see `objection`.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from zentra.runtime.compliance.diligence import Diligence
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged
from zentra.runtime.roles import ROLES, Permission

__all__ = [
    "DEFAULT_REVIEWS",
    "EXPIRES_AFTER",
    "NATS_PRINCIPAL",
    "NOTES_MAX",
    "PEOPLE_RULES",
    "Approvals",
    "Desk",
    "Member",
    "ReviewRules",
    "Workload",
    "asks_of",
    "known_digest",
    "least_loaded",
    "objection",
    "request_hash",
    "standing",
    "terms_of",
]

DUE_AFTER: Final = timedelta(hours=4)
EXPIRES_AFTER: Final = timedelta(hours=72)
NATS_PRINCIPAL: Final = "nats"  # who an intent is of that came over NATS
PEOPLE_RULES: Final = frozenset({"kyc_state", "sanctions", "list_fresh"})  # those of runtime/compliance/rules.py
NOTES_MAX: Final = 200  # assignments, comments and escalations of one round: each is a record that its intent carries


class Approvals(Struct, frozen=True, forbid_unknown_fields=True):
    """From this amount on, a review is approved by so many people, each another one."""

    minor_min: int
    count: int = 2


class ReviewRules(Struct, frozen=True, forbid_unknown_fields=True):
    """What a tenant wants of its reviews, in one version.

    `due_seconds_by_kind` goes before `due_seconds`; `approvals` are by currency, "*" for the rest. `assigns` says
    whether a new review is given to somebody at once. What is overdue is given to `escalates_to`, a role, or to nobody
    where that is empty. Whoever has a tenant's password of NATS is the principal `nats` there, and cannot be told from
    who decides: what comes that way takes `nats_approvals`, and of two people one is another."""

    version: int = 0
    due_seconds: int = int(DUE_AFTER.total_seconds())
    due_seconds_by_kind: dict[str, int] = {}
    expires_seconds: int = int(EXPIRES_AFTER.total_seconds())
    assigns: bool = True
    escalates_to: str = "admin"
    approvals: dict[str, Approvals] = {}
    nats_approvals: int = 2


DEFAULT_REVIEWS: Final = ReviewRules()


class Member(Struct, frozen=True):
    """A principal that is stored: its role, and whether it may come in at all."""

    role: str
    disabled: bool = False


class Workload(Struct):
    """How many open reviews everybody of a tenant had at a time, by principal."""

    at: datetime
    open: dict[str, int]


class Desk(Struct, frozen=True):
    """An open review as the fold of its records. `level` counts escalations, `notes` all that was added to it."""

    expires_at: datetime
    due_at: datetime | None = None
    approvals: int = 1
    assigned_to: str | None = None
    level: int = 0
    breached: bool = False
    approved_by: tuple[str, ...] = ()
    comments: int = 0
    notes: int = 0

    @property
    def next_at(self) -> datetime:
        """Return when something happens by itself: it is overdue, or it expires."""
        if self.due_at is None or self.breached:
            return self.expires_at
        return min(self.due_at, self.expires_at)


class _Seen(Struct, frozen=True):
    """What a decision is bound to, in canonical order."""

    command: str
    intent: str
    known: str | UnsetType
    round: int
    rules: list[str] | dict[str, str]
    tenant: str
    version: int


def request_hash(
    *, tenant: str, intent: str, command: str, round: int, rules: Iterable[str], version: int,
    asks: Mapping[str, str] | None = None, known: str = "",
) -> str:  # fmt: skip
    """Return the SHA-256, in hex, of what somebody who decides on this round of a review has to have seen.

    `command` is the digest of the canonical command, as the intent's first record has it; `rules` are those that asked,
    in any order, under this version of the policy; `asks` says why each did, and `known` is `known_digest` of the
    referral. A referral from before reasons were kept by rule has no `asks`, and is bound to the names alone."""
    if asks is None:
        seen = _Seen(command, intent, UNSET, round, sorted(rules), tenant, version)
    else:
        seen = _Seen(command, intent, known, round, dict(asks), tenant, version)
    return hashlib.sha256(b"review\n" + canonical.encode(seen)).hexdigest()


def terms_of(rules: ReviewRules, command: IntentCommand, principal: str, opened_at: datetime) -> Desk:
    """Return a review of what `principal` asked for as it is opened, assigned to nobody."""
    seconds = rules.due_seconds_by_kind.get(command.kind, rules.due_seconds)
    band = rules.approvals.get(command.currency) or rules.approvals.get("*")
    return Desk(
        expires_at=opened_at + timedelta(seconds=rules.expires_seconds),
        due_at=opened_at + timedelta(seconds=seconds),
        approvals=max(
            band.count if band is not None and command.amount >= band.minor_min else 1,
            rules.nats_approvals if principal == NATS_PRINCIPAL else 1,
        ),
    )


def known_digest(judged: Judged) -> str:
    """Return the SHA-256, in hex, of what a decision knew of the people, empty where its rules did not ask.

    When and as which version a list was fetched is left out: a list that says the same says nothing new."""
    known = judged.diligence
    if not isinstance(known, Diligence):
        return ""
    lists = tuple([replace(used, version=0, digest="", fetched_at="") for used in known.lists])
    return hashlib.sha256(b"known\n" + canonical.encode(replace(known, lists=lists))).hexdigest()


def asks_of(judged: Judged) -> dict[str, str]:
    """Return each rule that wants a person with its reason, of a decision as it was made: the order of its answers is
    that of its reasons, which a stored record does not keep."""
    against = [rule for rule, answer in judged.results.items() if answer in ("review", "denied")]
    reasons = dict(zip(against, judged.reasons, strict=False))
    return {rule: reasons.get(rule, "") for rule in against if judged.results[rule] == "review"}


def standing(waives: Iterable[str], bound: Mapping[str, tuple[str, str]], judged: Judged) -> tuple[str, ...]:
    """Return those of the waivers that hold against `judged`, the decision without any.

    A rule has to ask for the reason it asked for then; a rule about people, about the same people and matches, too. A
    waiver that is not `bound` was given by name alone, before there was more to it."""
    asks, known = asks_of(judged), known_digest(judged)
    return tuple([
        rule
        for rule in waives
        if rule not in bound
        or (asks.get(rule) == bound[rule][0] and (rule not in PEOPLE_RULES or known == bound[rule][1]))
    ])  # fmt: skip


def objection(members: Mapping[str, Member], principal: str, role: str, permission: Permission) -> str | None:
    """Return why `principal`, who came with `role`, may not do this now: a code, or None where nothing speaks against.

    Whoever is stored is judged by the role that is stored as well: a key or token from before a demotion is worth no
    more than what is left. Whoever is not stored came with a token of a trusted issuer, whose word is the role."""
    member = members.get(principal)
    if member is not None and member.disabled:
        return "principal_disabled"
    roles = (role,) if member is None else (role, member.role)
    allowed = all(permission in ROLES.get(one, frozenset()) for one in roles)
    return None if allowed else "permission_denied"


def least_loaded(
    members: Mapping[str, Member], workload: Mapping[str, int], role: str, without: Collection[str]
) -> str | None:
    """Return who of a role has the fewest open reviews, the first by name among equals; None where there is nobody.

    Those who are disabled, and those `without`, are nobody's choice."""
    able = [name for name, one in members.items() if one.role == role and not one.disabled and name not in without]
    return min(able, key=lambda name: (workload.get(name, 0), name), default=None)
