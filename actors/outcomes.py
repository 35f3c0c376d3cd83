"""What a rail reports, applied through the machine: the first valid outcome decides, the rest is recorded.

Any order, repetition or delay of reports that name one outcome leads to the same money state. A report that contradicts
what is known, or names another amount, moves no money and opens exactly one case of its kind. What is only claimed in a
rail's name (see `zentra.runtime.rails.ruling`) is recorded, and the rail is asked; where its answer is another, that is
a contradiction as well. Of what is no outcome each new word is recorded: that the rail took the payment, and whatever a
callback says; it moves nothing."""

from datetime import timedelta
from typing import Final, cast

import msgspec
from msgspec import UNSET

from zentra.actors import asking, routes, strangers
from zentra.actors.tick import Input, Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Attempt, Transaction, word_of
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.messages import UNSENT, RailReported
from zentra.runtime.rails import routing
from zentra.runtime.rails.port import UNRECOGNISED, OutcomeStatus, RailOutcome, Trust
from zentra.runtime.rails.ruling import KNOWN, Known, Ruling, Said, asks_the_rail, belied, decides, rule

__all__ = ["callback"]

WORDS_AGAIN_MAX: Final = 100  # callbacks of one attempt that are recorded; past it only one that says something new is
UNSENT_MAX: Final = 8  # attempts under which nothing was sent, past which the rail has not accepted like any other
CLAIMS_MAX: Final = 8  # distinct words of one attempt that do not decide; past it only a status that nobody has named

_FACTS: Final = {
    Ruling.CONFIRMS: Fact.RAIL_CONFIRMED,
    Ruling.DECLINES: Fact.RAIL_DECLINED,
    Ruling.FAILS_OVER: Fact.RAIL_DECLINED,  # where no other rail is left
    Ruling.CLAIMS: Fact.RAIL_CLAIMED,
    Ruling.REPEATS: Fact.RAIL_REPEATED,
    Ruling.CONTRADICTS: Fact.RAIL_CONTRADICTED,
    Ruling.NOTES: Fact.RAIL_NOTED,
    Ruling.WAITS: Fact.RAIL_NOTED,
    Ruling.CLEARS: Fact.RAIL_NOTED,
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
    status, latest = outcome.status, attempt.number == len(tx.attempts)
    if latest and status in (OutcomeStatus.PENDING, OutcomeStatus.UNKNOWN):
        tx.heard = str(status)  # the attempt is started, and its timer polls, as often as what was said is worth
    if status is OutcomeStatus.NOT_FOUND and outcome.event_id is None and not attempt.doubted:
        asking.submit_again(tick, at, tx, attempt)
        return
    unsent = _was_not_sent(tick, at, outcome, cause)
    if outcome.trust == "direct" and not unsent and _may_be_of_second(tick, tx, attempt, outcome):
        return  # it answers a second submission and says nothing of the first; the timer goes on polling
    took = status is OutcomeStatus.PENDING and latest and tx.state is State.SUBMITTED
    gone = status is OutcomeStatus.NOT_FOUND and _may_be_believed(tick, attempt)
    if status.final or took or gone or outcome.event_id is not None or _differs(tx, outcome):
        _apply(tick, at, tx, attempt, outcome, cause, unsent=unsent)


def _was_not_sent(tick: Tick, at: Input, outcome: RailOutcome, cause: str) -> bool:
    """Return whether a worker says itself that it did not send a first submission, and has held the partition ever
    since: then nobody else can have sent another, whatever was asked for."""
    how, _, rest = cause.partition("/")
    epoch = tick.batch.epochs.get(at.partition)
    if outcome.status is not OutcomeStatus.NOT_ACCEPTED or outcome.event_id is not None:
        return False
    return how == UNSENT and rest.partition("/")[0] == str(epoch)


def _may_be_believed(tick: Tick, attempt: Attempt) -> bool:
    """Return whether "not found" is true by now."""
    settings = tick.configuration.rails.get(attempt.rail)
    return settings is not None and tick.now >= attempt.at + timedelta(seconds=settings.not_found_lies_seconds)


def _differs(tx: Transaction, outcome: RailOutcome) -> bool:
    """Return whether a report names another amount or currency than the intent."""
    minor, currency = outcome.minor, outcome.currency
    return (minor is not None and minor != tx.command.amount) or (
        currency is not None and currency != tx.command.currency
    )


def _may_be_of_second(tick: Tick, tx: Transaction, attempt: Attempt, outcome: RailOutcome) -> bool:
    """Return whether a report is a "not accepted" that could be of a repeated submission while the first may be paid.

    The answer to a poll is of the payment, whichever of them made it. Where another worker may have repeated it, it
    could from the moment on at which a poll could have led to that: the first poll, or any time once something was
    claimed."""
    if outcome.status is not OutcomeStatus.NOT_ACCEPTED or outcome.trust == "polled":
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


def _apply(
    tick: Tick, at: Input, tx: Transaction, attempt: Attempt, outcome: RailOutcome, cause: str, *, unsent: bool = False
) -> None:
    status = outcome.status
    second = not unsent and status is OutcomeStatus.NOT_ACCEPTED and _may_be_of_second(tick, tx, attempt, outcome)
    strange = outcome.event_id is not None and outcome.reason == UNRECOGNISED
    said = Said(status, outcome.trust, _differs(tx, outcome), second, strange)
    known = _known(tx, attempt)
    ruling = rule(said, known)
    if ruling in KNOWN:
        if _already_recorded(attempt, outcome, ruling) if status.final else _already_noted(attempt, outcome, said):
            return
        if ruling is Ruling.CONTRADICTS:
            asking.end_case(tick, at, tx, asking.UNKNOWN_OUTCOME, "superseded", cause)
            if known.open and status != OutcomeStatus.SUCCEEDED:
                asking.open_doubt(tick, at, tx)  # where it waits for another rail, that one is to be looked at
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
        ruled=ruling if ruling is Ruling.WAITS or (second and ruling is Ruling.CLAIMS) else UNSET,
    )
    if ruling not in KNOWN:
        if ruling is Ruling.FAILS_OVER:
            unchosen = _fail_over(tick, at, tx, facts, cause, unsent=unsent)
            if unchosen is None:
                return
            facts = msgspec.structs.replace(facts, unchosen=unchosen)
        _settle_cases(tick, at, tx, attempt, outcome, cause)
        if known.doubted:
            asking.open_doubt(tick, at, tx)  # two rails may have paid, whatever somebody has made of that before
    tick.move(tx, _FACTS[ruling], facts, at, actor="svc_routes", cause=cause)
    doubted = tx.attempts[attempt.number - 1].doubted and tx.state is State.SUBMITTED
    if asks_the_rail(said, ruling) or (doubted and outcome.event_id is not None):
        asking.ask_now(tick, at, tx, attempt)
    elif attempt.doubted and not doubted:
        _go_on(tick, at, tx, cause)


def _go_on(tick: Tick, at: Input, tx: Transaction, cause: str) -> None:
    """Do what the latest rail has said while one that was left had not answered, once each of them has."""
    attempt = tx.attempts[-1]
    if tx.state is not State.SUBMITTED or attempt.waits is None or tx.unanswered:
        return
    told = attempt.waits
    outcome = RailOutcome(
        told.rail, told.reference, OutcomeStatus(told.said or told.status),
        None if told.minor is None else int(told.minor), told.currency, told.provider_reference, None, told.reason,
        cast(Trust, told.trust), told.digest,
    )  # fmt: skip
    _apply(tick, at, tx, msgspec.structs.replace(attempt, waits=None), outcome, cause)


def _known(tx: Transaction, attempt: Attempt) -> Known:
    """Return what the rule has to know of an attempt."""
    attempts = tx.attempts
    open_ = tx.state is State.SUBMITTED and attempt.number == len(attempts)
    if attempt.waits is not None:
        return Known(attempt.waits.said or attempt.waits.status, open=False)
    if not attempt.said and not attempt.claims and len(attempts) == 1:  # nearly always: nothing has been said yet
        return Known(attempt.status, open_)
    return Known(
        attempt.status,
        open_,
        any(word.startswith(_PAID) for word in attempt.said),
        any(other.status == "contradicted" for other in attempts),
        _claimed(attempt),
        any(word.startswith(_TAKEN) for word in attempt.said),
        bool(tx.unanswered),
    )


_PAID: Final = f"{OutcomeStatus.SUCCEEDED}/"
_TAKEN: Final = f"{OutcomeStatus.PENDING}/"
_NOTHING: Final[frozenset[str]] = frozenset()


def _claimed(attempt: Attempt) -> frozenset[str]:
    """Return what was claimed of an attempt."""
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
    if attempt.doubted and decides(outcome.trust) and ruling is Ruling.REPEATS:
        return outcome.event_id in attempt.event_ids  # its answer to what was said of it
    if outcome.event_id is None:
        return (ruling is Ruling.REPEATS and outcome.status == attempt.status) or word in attempt.said
    if outcome.event_id in attempt.event_ids:
        return True
    if not decides(outcome.trust) and len(attempt.claims) >= CLAIMS_MAX and word not in attempt.claims:
        return outcome.status in _claimed(attempt)  # anybody can name another amount each time
    return len(attempt.event_ids) >= WORDS_AGAIN_MAX and (word in attempt.said or word in attempt.claims)


def _already_noted(attempt: Attempt, outcome: RailOutcome, said: Said) -> bool:
    """Return whether a word that is no outcome says nothing new.

    One that its adapter does not know may be another each time: some are recorded though they look the same."""
    if outcome.event_id in attempt.event_ids:
        return True
    if attempt.doubted and outcome.status is OutcomeStatus.NOT_FOUND and outcome.event_id is None:
        return False  # its answer to what was said of it
    word = word_of(outcome.status, None if outcome.minor is None else str(outcome.minor), outcome.currency)
    words = (*attempt.said, *attempt.claims)
    if said.strange:
        return len(attempt.event_ids) >= CLAIMS_MAX and word in words
    return word in words or (not said.differs and any(one.startswith(f"{outcome.status}/") for one in attempt.said))


def _fail_over(
    tick: Tick, at: Input, tx: Transaction, told: f.Reported, cause: str, *, unsent: bool
) -> f.Unchosen | None:
    """Start the next rail of the corridor after one that did not accept; where there is none, return why.

    The case of the rail that has answered is closed first: the next rail has its own. What was `told` is recorded
    before the switch that it leads to.

    Where nothing was sent, that may be the same rail; and where none can be asked now, the intent waits for one as long
    as it would have in routing. The worker tells again what it did not send when the rail is to be asked."""
    asking.end_case(tick, at, tx, asking.UNKNOWN_OUTCOME, "answered", cause)
    rejected = tx.attempts[-1]
    unsent = unsent and sum(attempt.unsent for attempt in tx.attempts) < UNSENT_MAX
    marked = msgspec.structs.replace(rejected, status="not_accepted", unsent=unsent)
    tx.attempts = (*tx.attempts[:-1], marked)
    unchosen = routes.try_next_rail(tick, at, tx, told, cause)
    if unchosen is not None:
        tx.attempts = (*tx.attempts[:-1], rejected)
        again_at = routes.looks_again_at(tick, tx, unchosen.reason) if unsent else None
        if again_at is not None:
            tick.rearm(tx, at.partition, again_at)
            return None
    return unchosen
