"""The compliance rules of the policy table, and what they look at.

    kyc_state     is everybody whose money moves known well enough
    sanctions     do the lists say something of somebody in the intent
    list_fresh    are the lists there, and young enough to be asked

Invariants. What cannot be known is never passed: a party that is missing, a name that cannot be compared, a search that
was cut short, a list that is absent or stale are all for a person. A true match and a denied identity are denied. The
rules are asked only of tenants whose policy holds `compliance`; nobody else's intent is looked at."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol

from zentra.runtime.compliance.diligence import Compliance, Diligence, HitUsed, ListUsed, PartyUsed
from zentra.runtime.compliance.lists import HITS_MAX, NameList, answer_of_names
from zentra.runtime.compliance.matching import ALGORITHM, CUTOFF
from zentra.runtime.compliance.names import Unscreenable, digest_of_names
from zentra.runtime.compliance.states import Kyc, PartyRef, Screening

__all__ = ["COMPLIANCE_RULES", "LIST_AGE_HOURS_MAX", "SCREENS", "ClearedPair", "flaw_of", "known_of"]

Objection = tuple[str, str]
ClearedPair = tuple[str, str, str]
"""What was cleared: the digest of a name, a list, and the digest of its entry."""

LIST_AGE_HOURS_MAX: Final = 24 * 366
SCREENS: Final = ("off", "counterparties", "all")


class _Account(Protocol):
    @property
    def party(self) -> PartyRef | None: ...
    @property
    def guarded(self) -> bool: ...


class _Case(Protocol):
    @property
    def diligence(self) -> Diligence | None: ...


def flaw_of(rules: Compliance) -> tuple[str, str] | None:
    """Return what is wrong with these demands, the field and a sentence, or None where they can be kept."""
    if rules.screen not in SCREENS:
        return "screen", f"one of {', '.join(SCREENS)}"
    if not CUTOFF <= rules.threshold <= 1000:
        return "threshold", f"{CUTOFF} to 1000 thousandths"
    if not 1 <= rules.list_max_age_hours <= LIST_AGE_HOURS_MAX:
        return "list_max_age_hours", f"1 to {LIST_AGE_HOURS_MAX}"
    return None


def known_of(
    rules: Compliance,
    *,
    source: _Account | None,
    destination: _Account | None,
    leaves: bool,
    counterparty: str | None,
    lists: Mapping[str, NameList],
    cleared: Collection[ClearedPair],
    now: datetime,
    others: Collection[_Account | None] = (),
) -> Diligence:
    """Return what is known of the people in an intent.

    `leaves` says that the money goes out over a rail, `counterparty` is the name of whoever gets it there, `others` are
    the accounts of a journal besides its source and destination. What the lists cannot be asked about is said in the
    result and never raised."""
    states = _side(source), _side(destination)
    besides = tuple([side for side in dict.fromkeys(map(_side, others)) if side not in (*states, "system")])
    if rules.screen == "off":
        return Diligence(rules.kyc_required, rules.screen, *states, leaves, others=besides)
    used = [lists[name] for name in rules.lists or sorted(lists) if name in lists]
    oldest = now - timedelta(hours=rules.list_max_age_hours)
    told = tuple([_list_used(one, oldest) for one in used])
    missing = tuple([name for name in rules.lists or ("any",) if name not in lists and (rules.lists or not lists)])
    said, digest, score = "not_asked", "", 0
    hits: tuple[HitUsed, ...] = ()
    if leaves or counterparty is not None:
        said, digest, score, hits = _ask(counterparty, rules.threshold, used, cleared)
    return Diligence(
        rules.kyc_required, rules.screen, *states, leaves, said, ALGORITHM, rules.threshold, told, missing, digest,
        score, hits, besides,
    )  # fmt: skip


def _side(account: _Account | None) -> PartyUsed | str:
    if account is None:
        return "unknown"
    if account.party is None:
        return "unknown" if account.guarded else "system"
    return PartyUsed(account.party.id, account.party.kyc, account.party.screening)


def _list_used(one: NameList, oldest: datetime) -> ListUsed:
    info = one.info
    state = "fresh" if info.fetched_at >= oldest else "stale"
    return ListUsed(info.name, info.version, info.digest, info.fetched_at.isoformat(), state)


def _ask(
    name: str | None, threshold: int, lists: list[NameList], cleared: Collection[ClearedPair]
) -> tuple[str, str, int, tuple[HitUsed, ...]]:
    if name is None:
        return "missing", "", 0, ()
    try:
        answer, digest = answer_of_names(lists, (name,)), digest_of_names((name,))
    except Unscreenable:
        return "unscreenable", "", 0, ()
    hits = tuple([
        HitUsed(hit.list, hit.entry, hit.digest, hit.score, (digest, hit.list, hit.digest) in cleared)
        for hit in answer.hits
        if hit.score >= threshold
    ])  # fmt: skip
    hidden = len(hits) == HITS_MAX and all(hit.cleared for hit in hits)  # behind them there may be another one
    return "screened" if answer.complete and not hidden else "incomplete", digest, answer.score, hits


# The rules.


def _kyc_state(case: _Case) -> Objection | None:
    """Whose identity was denied moves nothing; where identities are demanded, everybody of the tenant has one."""
    known = case.diligence
    if known is None:
        return None
    objection: Objection | None = None
    ours_too = [(side, True) for side in known.others]
    for side, ours in ((known.source, True), (known.destination, not known.leaves), *ours_too):
        if isinstance(side, PartyUsed):
            if side.kyc == Kyc.DENIED:
                return "denied", "kyc_denied"
            if known.kyc_required and side.kyc != Kyc.APPROVED:
                objection = objection or ("review", f"kyc_{side.kyc}")
        elif known.kyc_required and side == "unknown" and ours:
            objection = objection or ("review", "party_missing")
    return objection


def _sanctions(case: _Case) -> Objection | None:
    """Nothing passes of or to somebody whom a list may name."""
    known = case.diligence
    if known is None:
        return None
    parties = [side for side in known.sides if isinstance(side, PartyUsed)]
    if any(side.screening == Screening.TRUE_MATCH for side in parties):
        return "denied", "party_true_match"
    if known.screen == "off":
        return None
    if known.screen == "all":
        for side in parties:
            if side.screening in (Screening.POSSIBLE_MATCH, Screening.NOT_SCREENED):
                return "review", f"party_{side.screening}"
        if "unknown" in (known.source, *known.others) or (known.destination == "unknown" and not known.leaves):
            return "review", "party_missing"
    # A party gets this far under "all" because it was screened; under "counterparties" nobody screens parties.
    screened = known.screen == "all" and isinstance(known.destination, PartyUsed)
    if known.counterparty == "missing":
        return None if not known.leaves or screened else ("review", "counterparty_missing")
    if any(not hit.cleared for hit in known.hits):
        return "review", "counterparty_possible_match"
    if known.counterparty in ("unscreenable", "incomplete"):
        return "review", f"counterparty_{known.counterparty}"
    return None


def _list_fresh(case: _Case) -> Objection | None:
    """A list that is absent or stale clears nobody."""
    known = case.diligence
    if known is None or known.screen == "off":
        return None
    if known.missing:
        return "review", "list_absent"
    return ("review", "list_stale") if any(used.state != "fresh" for used in known.lists) else None


COMPLIANCE_RULES: Final[Mapping[str, Callable[[_Case], Objection | None]]] = {
    "kyc_state": _kyc_state,
    "sanctions": _sanctions,
    "list_fresh": _list_fresh,
}
"""The rows that a policy asks where something is known of the people in an intent."""
