"""Asking a rail what became of a payment: again and again while nobody knows, at once where somebody claims to.

Invariants. An attempt without an outcome always has a timer, so its rail is asked until it answers. Past the rail's
deadline a person is asked as well, once: of the cases about a rail at most one is open. An answer that settles the
attempt closes the case that asked for it. Nothing is submitted again that a person may have to decide about."""

from datetime import datetime, timedelta
from typing import Final

from zentra.actors import routes
from zentra.actors.limits import wait_max
from zentra.actors.tick import Input, Poll, Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Attempt, Transaction, word_of
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.rails.polling import Standing, backoff_of, pause, standing_of
from zentra.runtime.rails.port import Cause, RailSettings

__all__ = ["UNKNOWN_OUTCOME", "ask_now", "end_case", "look_after", "submit_again"]

UNKNOWN_OUTCOME: Final = frozenset({"provider_outcome_unknown", "rail_unknown"})
"""The kinds of cases that an answer of the rail closes."""
_CONTRADICTION: Final = "provider_contradiction"
_SUBMITTED_AGAIN: Final = ("", "no_capacity")  # what may be said of a rail that is asked again: that many wait for it
_UNSET_UP: Final = timedelta(minutes=5)  # between two looks at a rail that is not set up any more


def look_after(tick: Tick, at: Input, tx: Transaction) -> None:
    """Poll the rail of an attempt without an outcome, ever more rarely; past its deadline a person is asked."""
    attempt = tx.attempts[-1]
    soon = _ask_left(tick, tx)
    if soon is not None:
        tick.rearm(tx, at.partition, soon)
    settings = tick.configuration.rails.get(attempt.rail)
    if settings is None:
        tick.open_case(tx, "rail_unknown", {"rail": attempt.rail}, at)
        tick.rearm(tx, at.partition, tick.now + _UNSET_UP)
        return
    first = attempt.at + timedelta(seconds=settings.poll_after_seconds)
    if tick.now < first:
        tick.rearm(tx, at.partition, first)
        return
    if attempt.waits is None:
        _poll(tick, tx, attempt)
    elapsed = (tick.now - attempt.at).total_seconds()
    left = settings.deadline_seconds - elapsed
    if left <= 0 and _CONTRADICTION not in tx.cases_open.values():
        detail = {"rail": attempt.rail, "reference": attempt.reference, "held": str(tx.held)}
        tick.open_case(tx, "provider_outcome_unknown", detail, at)
    standing = standing_of(tx.heard, claimed=attempt.claimed_at is not None, overdue=left <= 0)
    if standing is Standing.CLAIMED and attempt.claimed_at is not None:
        elapsed = (tick.now - attempt.claimed_at).total_seconds()
    seconds = pause(settings, standing, elapsed, left, attempt.reference)
    tick.rearm(tx, at.partition, tick.now + timedelta(seconds=seconds))


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


def end_case(tick: Tick, at: Input, tx: Transaction, kinds: frozenset[str], how: str, cause: str) -> None:
    """Close the open cases of these kinds, by what the rail has said."""
    for case, kind in [row for row in tx.cases_open.items() if row[1] in kinds]:
        reason = "the rail has answered" if how == "answered" else "the rail contradicts itself: see the case of that"
        facts = f.CaseNoted(case, kind, {"reason": reason}, how)
        tick.move(tx, Fact.CASE_RESOLVED, facts, at, actor="svc_routes", cause=cause)
        resolution = {"resolution": how, "reason": reason}
        tick.writes.cases_resolved.append((case, "svc_routes", resolution, tick.now, tx.tenant))


def _poll(tick: Tick, tx: Transaction, attempt: Attempt) -> None:
    tick.polls.append(Poll(attempt.rail, attempt.reference, Cause(tx.trace, tx.tracestate, tx.sequence)))
