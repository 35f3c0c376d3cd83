"""What a rail reports, applied through the machine: the first valid outcome decides, the rest is recorded.

Any order, repetition or delay of reports that name one outcome leads to the same money state. A report that contradicts
what is known, or names another amount, moves no money and opens exactly one case of its kind. What is only claimed in a
rail's name (see `zentra.runtime.rails.ruling`) is recorded, and the rail is asked; where its answer is another, that is
a contradiction as well."""

from datetime import timedelta
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from zentra.actors import asking, routes, strangers
from zentra.actors.tick import Input, Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Attempt, Transaction, word_of
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.messages import RailReported
from zentra.runtime.rails import routing
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome
from zentra.runtime.rails.ruling import KNOWN, Known, Ruling, Said, asks_the_rail, belied, decides, rule

__all__ = ["callback"]

WORDS_AGAIN_MAX: Final = 100  # callbacks of one attempt that are recorded; past it only one that says something new is
CLAIMS_MAX: Final = 8  # distinct words of one attempt that do not decide; past it only a status that nobody has named

_FACTS: Final = {
    Ruling.CONFIRMS: Fact.RAIL_CONFIRMED,
    Ruling.DECLINES: Fact.RAIL_DECLINED,
    Ruling.FAILS_OVER: Fact.RAIL_DECLINED,  # where no other rail is left
    Ruling.CLAIMS: Fact.RAIL_CLAIMED,
    Ruling.REPEATS: Fact.RAIL_REPEATED,
    Ruling.CONTRADICTS: Fact.RAIL_CONTRADICTED,
    Ruling.CLEARS: Fact.RAIL_CLEARED,
}


def callback(tick: Tick, at: Input, event: RailReported) -> None:
    """Apply one report of a rail; one of a reference that nobody knows waits for it, and of another rail's attempt no
    rail decides anything."""
    outcome = event.outcome
    named = routing.parse_reference(outcome.reference)
    tx = tick.transaction(named[0]) if named else None
    attempt = tx.attempts[named[1] - 1] if tx and named and 0 < named[1] <= len(tx.attempts) else None
    if tx is None or attempt is None:
        strangers.met(tick, at, outcome, event.cause)
    elif attempt.rail != outcome.rail:
        strangers.astray(tick, at, tx, attempt, outcome, event.cause)
    else:
        report(tick, at, tx, attempt, outcome, event.cause)


def report(tick: Tick, at: Input, tx: Transaction, attempt: Attempt, outcome: RailOutcome, cause: str) -> None:
    """Apply what a rail says of an attempt that is known."""
    if outcome.event_id is not None:
        tick.writes.callbacks_claimed.append((outcome.rail, outcome.event_id, tx.tenant, tx.id))
    if outcome.status is OutcomeStatus.NOT_FOUND:
        asking.submit_again(tick, at, tx, attempt)
    elif outcome.status is OutcomeStatus.NOT_ACCEPTED and _may_be_second_answer(tick, tx, attempt, cause):
        return  # it says nothing of the first submission; the timer goes on polling
    elif outcome.status.final:
        _apply(tick, at, tx, attempt, outcome, cause)
    elif attempt.number == len(tx.attempts):
        # it says nothing of the money: the attempt is started, and its timer polls, as often as what was said is worth
        tx.heard = str(outcome.status)


def _may_be_second_answer(tick: Tick, tx: Transaction, attempt: Attempt, cause: str) -> bool:
    """Return whether a "not accepted" could answer a repeated submission rather than the first, which may be paid.

    Where another worker may have repeated it, it could from the moment on at which a poll could have led to that: the
    first poll, or any time once something was claimed."""
    if not cause.startswith("submit/"):
        return False
    if tx.resubmitted is not None and attempt.number == len(tx.attempts):
        return tx.resubmitted
    settings = tick.configuration.rails.get(attempt.rail)
    if settings is None:
        return True
    if not settings.idempotent_references:
        return False
    polled = 0.0 if attempt.claims else settings.poll_after_seconds
    return tick.now >= attempt.at + timedelta(seconds=max(polled, settings.not_found_lies_seconds))


def _apply(tick: Tick, at: Input, tx: Transaction, attempt: Attempt, outcome: RailOutcome, cause: str) -> None:
    command, status = tx.command, outcome.status
    differs = (outcome.minor is not None and outcome.minor != command.amount) or (
        outcome.currency is not None and outcome.currency != command.currency
    )
    said = Said(status, outcome.trust, differs)
    known = _known(tx, attempt)
    ruling = rule(said, known)
    unchosen: f.Unchosen | UnsetType = UNSET
    if ruling in KNOWN:
        if _already_recorded(attempt, outcome, ruling):
            return
        if ruling is Ruling.CONTRADICTS:
            asking.end_case(tick, at, tx, asking.UNKNOWN_OUTCOME, "superseded", cause)
            if known.open and status != OutcomeStatus.SUCCEEDED:
                asking.open_doubt(tick, at, tx)  # where it waits for another rail, that one is to be looked at
    else:
        if ruling is Ruling.FAILS_OVER:
            left = _fail_over(tick, at, tx, cause)
            if left is None:
                return
            unchosen = left
        _settle_cases(tick, at, tx, attempt, outcome, cause)
        if known.doubted:
            asking.open_doubt(tick, at, tx)  # two rails may have paid, whatever somebody has made of that before
    facts = f.Reported(
        rail=outcome.rail,
        attempt=attempt.number,
        reference=outcome.reference,
        # what is known of an attempt is its first valid outcome; a later report does not change that
        status=attempt.status if ruling in KNOWN else status,
        said=status,
        trust=outcome.trust,
        minor=None if outcome.minor is None else str(outcome.minor),
        currency=outcome.currency,
        provider_reference=outcome.provider_reference,
        event_id=outcome.event_id,
        digest=outcome.raw_digest,
        reason=outcome.reason,
        repeats=attempt.repeats + 1 if ruling is Ruling.REPEATS else attempt.repeats,
        unchosen=unchosen,
    )
    tick.move(tx, _FACTS[ruling], facts, at, actor="svc_routes", cause=cause)
    if asks_the_rail(said, ruling):
        asking.ask_now(tick, at, tx, attempt)


def _known(tx: Transaction, attempt: Attempt) -> Known:
    """Return what the rule has to know of an attempt."""
    attempts = tx.attempts
    open_ = tx.state is State.SUBMITTED and attempt.number == len(attempts)
    if not attempt.said and not attempt.claims and len(attempts) == 1:  # nearly always: nothing has been said yet
        return Known(attempt.status, open_)
    return Known(
        attempt.status,
        open_,
        any(word.startswith(_PAID) for word in attempt.said),
        any(other.status == "contradicted" for other in attempts),
        _claimed(attempt),
    )


_PAID: Final = f"{OutcomeStatus.SUCCEEDED}/"
_NOTHING: Final[frozenset[str]] = frozenset()


def _claimed(attempt: Attempt) -> frozenset[str]:
    """Return the outcomes that were claimed of an attempt."""
    return frozenset([word.partition("/")[0] for word in attempt.claims]) if attempt.claims else _NOTHING


def _settle_cases(
    tick: Tick, at: Input, tx: Transaction, attempt: Attempt, outcome: RailOutcome, cause: str
) -> None:  # fmt: skip
    """Close what the answer settles, and open what it gives the lie to; before the move, as what follows it may be
    asked for only once."""
    if tx.cases_open:
        asking.end_case(tick, at, tx, asking.UNKNOWN_OUTCOME, "answered", cause)
    if attempt.claims and belied(outcome.status, claimed := _claimed(attempt)):
        detail = {
            "rail": outcome.rail, "reference": outcome.reference, "attempt": str(attempt.number),
            "claimed": ", ".join(sorted(claimed)), "said": str(outcome.status), "trust": outcome.trust,
        }  # fmt: skip
        tick.open_case(tx, "provider_contradiction", detail, at, attempt)


def _already_recorded(attempt: Attempt, outcome: RailOutcome, ruling: Ruling) -> bool:
    """Return whether a report says nothing new: the same callback again, or a poll that says what one has said."""
    word = word_of(outcome.status, None if outcome.minor is None else str(outcome.minor), outcome.currency)
    if outcome.event_id is None:
        return (ruling is Ruling.REPEATS and outcome.status == attempt.status) or word in attempt.said
    if outcome.event_id in attempt.event_ids:
        return True
    if not decides(outcome.trust) and len(attempt.claims) >= CLAIMS_MAX and word not in attempt.claims:
        return outcome.status in _claimed(attempt)  # anybody can name another amount each time
    return len(attempt.event_ids) >= WORDS_AGAIN_MAX and (word in attempt.said or word in attempt.claims)


def _fail_over(tick: Tick, at: Input, tx: Transaction, cause: str) -> f.Unchosen | None:
    """Start the next rail of the corridor after one that did not accept; where there is none, return why.

    The case of the rail that has answered is closed first: the next rail has its own."""
    asking.end_case(tick, at, tx, asking.UNKNOWN_OUTCOME, "answered", cause)
    rejected = tx.attempts[-1]
    marked = msgspec.structs.replace(rejected, status="not_accepted")
    tx.attempts = (*tx.attempts[:-1], marked)
    unchosen = routes.try_next_rail(tick, at, tx)
    if unchosen is not None:
        tx.attempts = (*tx.attempts[:-1], rejected)
    return unchosen
