"""Asking a rail what became of a payment: again and again while nobody knows, at once where somebody claims to.

Invariants. An attempt without an outcome always has a timer, so its rail is asked until it answers, also where a person
has settled the intent by what another rail has done. Past the rail's deadline a person is asked as well, once: of the
cases about a rail at most one is open, and it says which attempt it is about. An answer that settles the attempt closes
the case that asked for it. Nothing is submitted again that a person may have to decide about."""

from datetime import datetime, timedelta
from typing import Final

from zentra.actors import routes
from zentra.actors.limits import wait_max
from zentra.actors.tick import Input, Poll, Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Attempt, Transaction, word_of
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.rails.polling import Standing, backoff_of, pause, standing_of
from zentra.runtime.rails.port import Cause, OutcomeStatus, RailSettings
from zentra.runtime.rails.ruling import ENDS

__all__ = [
    "BESIDE", "UNKNOWN_OUTCOME", "ask_beside", "ask_now", "end_case", "go_on", "is_unpaid", "look_after", "open_doubt",
    "submit_again",
]  # fmt: skip

UNKNOWN_OUTCOME: Final = frozenset({"provider_outcome_unknown", "rail_unknown"})
"""The kinds of cases that an answer of the rail closes."""
BESIDE: Final = "attempt"
"""The timer of an attempt that nobody knows the end of although another one has settled the intent."""
_CONTRADICTION: Final = "provider_contradiction"
_ABOUT_RAILS: Final = UNKNOWN_OUTCOME | {_CONTRADICTION}
_PAID: Final = OutcomeStatus.SUCCEEDED
_UNPAID: Final[frozenset[str]] = frozenset({OutcomeStatus.DECLINED, OutcomeStatus.NOT_ACCEPTED})
_STARTED: Final = "started"
_SUBMITTED_AGAIN: Final = ("", "no_capacity")  # what may be said of a rail that is asked again: that many wait for it
_UNSET_UP: Final = timedelta(minutes=5)  # between two looks at a rail that is not set up any more


def look_after(tick: Tick, at: Input, tx: Transaction) -> datetime:
    """Poll the rail of an attempt without an outcome, ever more rarely, and return when to look again; past its
    deadline a person is asked."""
    attempt = tx.attempts[-1]
    soon = _ask_left(tick, tx)
    settings = tick.configuration.rails.get(attempt.rail)
    if settings is None:
        _ask_people(tick, at, tx, attempt, "rail_unknown")
        return tick.now + _UNSET_UP if soon is None else min(tick.now + _UNSET_UP, soon)
    first = attempt.at + timedelta(seconds=settings.poll_after_seconds)
    if tick.now < first:
        return first if soon is None else min(first, soon)
    if attempt.waits is None:
        _poll(tick, tx, attempt)
    elapsed = (tick.now - attempt.at).total_seconds()
    left = settings.deadline_seconds - elapsed
    if left <= 0:
        _ask_people(tick, at, tx, attempt, "provider_outcome_unknown")
    standing = standing_of(tx.heard, claimed=attempt.claimed_at is not None, overdue=left <= 0)
    if standing is Standing.CLAIMED and attempt.claimed_at is not None:
        elapsed = (tick.now - attempt.claimed_at).total_seconds()
    seconds = pause(settings, standing, elapsed, left, attempt.reference)
    due = tick.now + timedelta(seconds=seconds)
    return due if soon is None else min(due, soon)


def _ask_people(tick: Tick, at: Input, tx: Transaction, attempt: Attempt, kind: str) -> None:
    """Open a case about an attempt, unless one about the rails of its intent is open. Where the latest waits for the
    answer of one that was left, it is about that one."""
    if attempt.waits is not None and tx.unanswered:
        attempt = tx.unanswered[0]
    if _ABOUT_RAILS.isdisjoint(tx.cases_open.values()):
        number, held = str(attempt.number), str(tx.held)
        detail = {"rail": attempt.rail, "reference": attempt.reference, "attempt": number, "held": held}
        tick.open_case(tx, kind, detail, at, attempt)


def ask_beside(tick: Tick, at: Input, tx: Transaction) -> None:
    """Ask on about the latest attempt of an intent that another one has settled, until its rail has answered."""
    attempt = tx.attempts[-1]
    known = any(word.partition("/")[0] in ENDS for word in attempt.said)
    if tx.state is not State.SUBMITTED and attempt.status == _STARTED and not known:
        tick.timer("intent", tx.id, BESIDE, at.partition, tx.tenant, look_after(tick, at, tx))


def go_on(tick: Tick, at: Input, tx: Transaction) -> None:
    """Do what is left to do after a person has said what became of one attempt: whoever else may have paid is looked
    at, and the latest rail is asked on."""
    open_doubt(tick, at, tx)
    if tx.state is not State.SUBMITTED:
        ask_beside(tick, at, tx)
    elif _CONTRADICTION not in tx.cases_open.values():
        tick.rearm(tx, at.partition, look_after(tick, at, tx))


def open_doubt(tick: Tick, at: Input, tx: Transaction) -> None:
    """Open a case about an attempt that may have been paid although that is not what is known, if there is one."""
    for attempt in tx.attempts:
        unsettled = attempt.status == _STARTED and any(word.partition("/")[0] == _PAID for word in attempt.said)
        if attempt.status == "contradicted" or unsettled:
            detail = {
                "rail": attempt.rail, "reference": attempt.reference, "attempt": str(attempt.number),
                "said": ", ".join(attempt.said), "held": str(tx.held),
            }  # fmt: skip
            tick.open_case(tx, _CONTRADICTION, detail, at, attempt)
            return


def is_unpaid(attempt: Attempt) -> bool:
    """Return whether an attempt is known not to have been paid: its rail or a person has said so, and nothing else."""
    if attempt.status != _STARTED:
        return attempt.status in _UNPAID and not attempt.doubted
    words = {word.partition("/")[0] for word in attempt.said}
    return bool(words & _UNPAID) and _PAID not in words


def _ask_left(tick: Tick, tx: Transaction) -> datetime | None:
    """Poll the rails that were left, and of which it is said that they have the payment; return when to do so again."""
    soon = None
    for left in tx.unanswered:
        settings = tick.configuration.rails.get(left.rail)
        if settings is None or left.claimed_at is None:
            continue
        _poll(tick, tx, left)
        remaining = settings.deadline_seconds - (tick.now - left.at).total_seconds()
        standing = Standing.OVERDUE if remaining <= 0 else Standing.CLAIMED
        elapsed = (tick.now - left.claimed_at).total_seconds()
        due = tick.now + timedelta(seconds=pause(settings, standing, elapsed, remaining, left.reference))
        soon = due if soon is None else min(soon, due)
    return soon


def ask_now(tick: Tick, at: Input, tx: Transaction, attempt: Attempt) -> None:
    """Ask the rail of an attempt at once, and soon again should the answer get lost.

    `attempt` is as it was before the claim: one that follows another within the shortest pause is not asked about by
    itself. Where the outcome is open a timer that no claim puts off asks; where it is not, the first one has asked."""
    settings = tick.configuration.rails.get(attempt.rail)
    if settings is None:
        return
    seconds = backoff_of(settings, Standing.CLAIMED).after_seconds
    before = attempt.claimed_at if _was_asked_about(tx, attempt) else None
    if before is None or abs(tick.now - before) >= timedelta(seconds=seconds):
        _poll(tick, tx, attempt)
    if tx.state is State.SUBMITTED:
        tick.rearm(tx, at.partition, tick.now + timedelta(seconds=seconds))


def _was_asked_about(tx: Transaction, attempt: Attempt) -> bool:
    """Return whether anything was claimed of an attempt besides what is known."""
    known = {
        word_of(attempt.status, minor, currency)
        for minor in (None, str(tx.command.amount))
        for currency in (None, tx.command.currency)
    }
    return any(word not in known for word in attempt.claims)


def submit_again(tick: Tick, at: Input, tx: Transaction, attempt: Attempt) -> None:
    """Submit the same reference again, where that is one payment and "not found" can be believed by now.

    Not where a person may decide about it meanwhile: beside an open case, or so late that the call could still wait for
    its turn, or be under way, when the deadline opens one."""
    if tx.state is not State.SUBMITTED or attempt.number != len(tx.attempts):
        return
    settings = tick.configuration.rails.get(attempt.rail)
    if settings is None or not settings.idempotent_references or tx.cases_open:
        return
    if attempt.waits is not None or any(one.doubted or one.status == "contradicted" for one in tx.attempts):
        return
    if tick.now >= attempt.at + timedelta(seconds=settings.deadline_seconds - _call_seconds_max(settings)):
        return
    if tick.now >= attempt.at + timedelta(seconds=settings.not_found_lies_seconds):
        if routes.word_against(tick, attempt.rail) in _SUBMITTED_AGAIN:
            tx.resubmitted = True
            tick.submit(tx, at.partition, first=False)
        else:  # it is not asked a second time; polls go on
            tick.rearm(tx, at.partition, tick.now + timedelta(seconds=settings.poll_after_seconds))


def _call_seconds_max(settings: RailSettings) -> float:
    """Return how long a submission may last from its commit to its end, its wait for a turn included."""
    return wait_max(settings) + settings.submit_timeout_seconds


_REASONS: Final = {
    "answered": "the rail has answered",
    "superseded": "the rail contradicts itself: see the case of that",
    "resolved": "another case has settled it",
}


def end_case(tick: Tick, at: Input, tx: Transaction, kinds: frozenset[str], how: str, cause: str) -> None:
    """Close the open cases of these kinds, by what the rail or a person has said."""
    for case, kind in [row for row in tx.cases_open.items() if row[1] in kinds]:
        reason = _REASONS[how]
        facts = f.CaseNoted(case, kind, {"reason": reason}, how)
        tick.move(tx, Fact.CASE_RESOLVED, facts, at, actor="svc_routes", cause=cause)
        resolution = {"resolution": how, "reason": reason}
        tick.writes.cases_resolved.append((case, "svc_routes", resolution, tick.now, tx.tenant))


def _poll(tick: Tick, tx: Transaction, attempt: Attempt) -> None:
    tick.polls.append(Poll(attempt.rail, attempt.reference, Cause(tx.trace, tx.tracestate, tx.sequence)))
