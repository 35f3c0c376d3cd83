"""What a rail reports, applied through the machine: the first valid outcome decides, the rest is recorded.

Any order, repetition or delay of reports that name one outcome leads to the same money state. A report that contradicts
what is known, or names another amount, moves no money and opens exactly one case of its kind."""

from datetime import timedelta
from typing import Final

import msgspec

from zentra.actors import routes
from zentra.actors.tick import CASE_DEADLINE, Input, Tick, derived_id
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Attempt, Transaction, word_of
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.messages import RailReported
from zentra.runtime.ports import CaseRow
from zentra.runtime.rails import routing
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome

__all__ = ["callback"]

_FACTS: Final = {
    OutcomeStatus.SUCCEEDED: Fact.RAIL_CONFIRMED,
    OutcomeStatus.DECLINED: Fact.RAIL_DECLINED,
    OutcomeStatus.NOT_ACCEPTED: Fact.RAIL_DECLINED,
}
_KNOWN: Final = frozenset({Fact.RAIL_REPEATED, Fact.RAIL_CONTRADICTED})  # they change nothing of an attempt


def callback(tick: Tick, at: Input, event: RailReported) -> None:
    """Apply one report of a rail."""
    outcome = event.outcome
    named = routing.parse_reference(outcome.reference)
    tx = tick.transaction(named[0]) if named else None
    attempt = tx.attempts[named[1] - 1] if tx and named and 0 < named[1] <= len(tx.attempts) else None
    if tx is None or attempt is None or attempt.rail != outcome.rail:
        _unknown_reference(tick, outcome, event.cause)
        return
    if outcome.event_id is not None:
        tick.writes.callbacks_claimed.append((outcome.rail, outcome.event_id, tx.tenant, tx.id))
    if outcome.status is OutcomeStatus.NOT_FOUND:
        _submit_again(tick, at, tx, attempt)
    elif outcome.status is OutcomeStatus.NOT_ACCEPTED and _may_be_second_answer(tick, tx, attempt, event.cause):
        return  # it says nothing of the first submission; the timer goes on polling
    elif outcome.status.final:
        _apply(tick, at, tx, attempt, outcome, event.cause)
    # pending and unknown say nothing that is not known: the attempt is started, and its timer polls


def _may_be_second_answer(tick: Tick, tx: Transaction, attempt: Attempt, cause: str) -> bool:
    """Return whether a "not accepted" could answer a repeated submission rather than the first: those follow polls."""
    settings = tick.configuration.rails.get(attempt.rail)
    first_poll = timedelta(seconds=settings.poll_after_seconds if settings else 0)
    return cause.startswith("submit/") and tick.now >= attempt.at + first_poll


def _apply(tick: Tick, at: Input, tx: Transaction, attempt: Attempt, outcome: RailOutcome, cause: str) -> None:
    status = outcome.status
    latest = attempt.number == len(tx.attempts)
    differs = (outcome.minor is not None and outcome.minor != tx.command.amount) or (
        outcome.currency is not None and outcome.currency != tx.command.currency
    )
    if differs and status is not OutcomeStatus.NOT_ACCEPTED:
        fact = Fact.RAIL_CONTRADICTED
    elif attempt.status == status:
        fact = Fact.RAIL_REPEATED
    elif tx.state is not State.SUBMITTED or not latest:
        fact = Fact.RAIL_CONTRADICTED
    elif status is not OutcomeStatus.SUCCEEDED and any(a.status == "contradicted" for a in tx.attempts):
        fact = Fact.RAIL_CONTRADICTED  # another rail may have paid: a person decides whether the hold is released
    elif status is OutcomeStatus.NOT_ACCEPTED and _claimed(attempt):
        fact = Fact.RAIL_CONTRADICTED  # it may have paid another amount: no other rail is asked, and nothing released
    elif status is OutcomeStatus.NOT_ACCEPTED and _failed_over(tick, at, tx):
        return
    else:
        fact = _FACTS[status]
    known = fact in _KNOWN
    if known and _already_recorded(attempt, outcome, fact):
        return
    facts = f.Reported(
        rail=outcome.rail,
        attempt=attempt.number,
        reference=outcome.reference,
        # what is known of an attempt is its first valid outcome; a later report does not change that
        status=attempt.status if known else status,
        said=status,
        trust=outcome.trust,
        minor=None if outcome.minor is None else str(outcome.minor),
        currency=outcome.currency,
        provider_reference=outcome.provider_reference,
        event_id=outcome.event_id,
        digest=outcome.raw_digest,
        reason=outcome.reason,
        repeats=attempt.repeats + 1 if fact is Fact.RAIL_REPEATED else attempt.repeats,
    )
    tick.move(tx, fact, facts, at, actor="svc_routes", cause=cause)


def _already_recorded(attempt: Attempt, outcome: RailOutcome, fact: Fact) -> bool:
    """Return whether a report says nothing new: the same callback again, or a poll that says what one has said."""
    if outcome.event_id is not None:
        return outcome.event_id in attempt.event_ids
    word = word_of(outcome.status, None if outcome.minor is None else str(outcome.minor), outcome.currency)
    return fact is Fact.RAIL_REPEATED or word in attempt.said


def _claimed(attempt: Attempt) -> bool:
    """Return whether the rail has said of an attempt that it paid, whatever amount it named."""
    return any(word.startswith(f"{OutcomeStatus.SUCCEEDED}/") for word in attempt.said)


def _failed_over(tick: Tick, at: Input, tx: Transaction) -> bool:
    """Start the next rail of the corridor after one that did not accept; return whether there was one."""
    rejected = tx.attempts[-1]
    marked = msgspec.structs.replace(rejected, status="not_accepted")
    tx.attempts = (*tx.attempts[:-1], marked)
    corridor = routing.find_corridor(tick.configuration.corridors.get(tx.tenant, ()), tx.command)
    if corridor is None or not routes.try_next_rail(tick, at, tx, corridor, Fact.FAILED_OVER):
        tx.attempts = (*tx.attempts[:-1], rejected)
        return False
    return True


def _submit_again(tick: Tick, at: Input, tx: Transaction, attempt: Attempt) -> None:
    """Submit the same reference again, where that is one payment and "not found" can be believed by now."""
    if tx.state is not State.SUBMITTED or attempt.number != len(tx.attempts):
        return
    settings = tick.configuration.rails.get(attempt.rail)
    if settings is None or not settings.idempotent_references:
        return
    if tick.now >= attempt.at + timedelta(seconds=settings.not_found_lies_seconds):
        tick.submit(tx, at.partition)


def _unknown_reference(tick: Tick, outcome: RailOutcome, cause: str) -> None:
    """Open a case for a report that names no attempt of ours; the raw callback is kept beside it."""
    detail = {"rail": outcome.rail, "reference": outcome.reference, "status": outcome.status, "cause": cause}
    case = derived_id("unknown_reference", outcome.rail, outcome.reference)
    tick.writes.cases_opened.append(
        CaseRow(case, "-", None, None, "unknown_reference", detail, tick.now, tick.now + CASE_DEADLINE)
    )
