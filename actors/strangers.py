"""Callbacks of references that nobody knows: an actor for each, which waits until its intent is there, or not for ever.

A callback can outrun us: the intent may not be restored yet, the attempt not be committed. So one that names no attempt
of ours is not judged at once. Its raw row stays unclaimed at the door, and a timer named after rail and reference is
all that the actor is: when it fires, the rows are read and applied in the order of their arrival, where the attempt is
known by then. Where it is not, the actor waits, longer each time, and after the rail's `stranger_wait_seconds` it opens
a case and ends. Nothing on the way of a payment looks for strangers, so they cost nothing where there are none.

One that names an attempt of ours on another rail waits for nothing. It is a case at once: beside the intent, where the
tenant's corridors lead to the rail that spoke; of the installation where they do not, because what somebody else's
partner says is not written into a tenant's books, and a tenant does not learn which rails others have.

Invariants. A callback never puts a look off: the first arrival says when it is due, however many follow. Of the rows
that one look cannot hold none is left behind. A rail moves no money of another rail's attempt, and changes nothing
that is known of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from zentra.actors.memory import Missing, MissingGround
from zentra.actors.tick import CASE_DEADLINE, Input, Tick, derived_id
from zentra.runtime.intents.transaction import Attempt, Transaction
from zentra.runtime.messages import RailReported, TimerFired, callback_cause
from zentra.runtime.ports import STRANGERS_MORE, STRANGERS_OPEN_MAX, WAITING_MAX, CaseRow, WaitingCallback
from zentra.runtime.rails.port import RailOutcome
from zentra.runtime.rails.routing import parse_reference

__all__ = ["KIND", "astray", "fire", "met", "named_by"]

KIND: Final = "stranger"
KIND_OF_CASE: Final = "unknown_reference"
ASTRAY: Final = "provider_wrong_rail"
FIRST_LOOK_SECONDS: Final = 0.5
LOOK_SECONDS_MAX: Final = 15.0
WAIT_SECONDS: Final = 30.0  # of a rail that is not set up any more


def met(tick: Tick, at: Input, outcome: RailOutcome, cause: str) -> None:
    """Let a report wait for its attempt; one that came with no callback is a case at once."""
    if outcome.event_id is None:
        _open_case(tick, outcome.rail, outcome.reference, outcome.status, cause)
        return
    waiting = _waiting_for(tick, (outcome.rail, outcome.reference))
    if not waiting:  # it was taken up before, and comes again
        return
    key = derived_id(KIND, outcome.rail, outcome.reference)
    due = waiting[0].at + timedelta(seconds=FIRST_LOOK_SECONDS)  # no timer of this actor is due before that
    tick.timer(KIND, key, f"{outcome.rail}/{outcome.reference}", at.partition, "-", due)


def astray(tick: Tick, at: Input, tx: Transaction, attempt: Attempt, outcome: RailOutcome, cause: str) -> None:
    """Open a case for what a rail says of another rail's attempt, unless one is open; what was taken up before, and
    comes again, opens none."""
    if outcome.event_id is None or not _leads_to(tick, tx, outcome.rail):
        _open_case(tick, outcome.rail, outcome.reference, outcome.status, cause)
        return
    waiting = _waiting_for(tick, (outcome.rail, outcome.reference))
    claimed = {claim[:2] for claim in tick.writes.callbacks_claimed}
    names = [(one.outcome.rail, one.outcome.event_id or "") for one in waiting]
    fresh = [name for name in names if name not in claimed]
    if not fresh:
        return
    tick.writes.callbacks_claimed += [(*name, tx.tenant, tx.id) for name in fresh]
    detail = {
        "rail": outcome.rail, "reference": outcome.reference, "attempt": str(attempt.number), "sent_to": attempt.rail,
        "status": str(outcome.status), "trust": outcome.trust, "event_id": fresh[0][1],
    }  # fmt: skip
    tick.open_case(tx, ASTRAY, detail, at, attempt)


def _leads_to(tick: Tick, tx: Transaction, rail: str) -> bool:
    """Return whether a rail is one of the tenant's: a corridor leads there, or an attempt of this intent went there."""
    corridors = tick.configuration.corridors.get(tx.tenant, ())
    return any(rail in one.rails for one in corridors) or any(one.rail == rail for one in tx.attempts)


def named_by(name: str) -> tuple[str, str]:
    """Return the rail and the reference that a stranger's timer is named after."""
    rail, _, reference = name.partition("/")
    return rail, reference


def fire(tick: Tick, at: Input, event: TimerFired, apply: Callable[[Tick, Input, RailReported], None]) -> None:
    """Look whether the attempt is known by now: apply what waits for it, wait on, or open a case."""
    place = named_by(event.name)
    waiting = tick.batch.waiting.get(place)
    if waiting is None:
        raise MissingGround(Missing(waiting={place}))
    tick.clear_timer(KIND, event.key, event.name)
    if not waiting:
        return
    if _attempt_known(tick, place[1]):
        before = len(tick.writes.callbacks_claimed)
        for one in waiting:
            apply(tick, at, RailReported(one.outcome, callback_cause(one.outcome.event_id or event.name)))
        if len(waiting) >= WAITING_MAX and len(tick.writes.callbacks_claimed) > before:  # there may be more of them
            tick.timer(KIND, event.key, event.name, at.partition, "-", tick.now)
        return
    lasts = _lasts(tick, place[0])
    waited = max((tick.now - waiting[0].at).total_seconds(), 0.0)
    if waited >= lasts:
        last = waiting[-1].outcome
        cause = callback_cause(last.event_id or event.name)
        _open_case(tick, *place, last.status, cause if len(waiting) < WAITING_MAX else f"{cause}/{tick.day}")
        return
    pause = min(max(waited, FIRST_LOOK_SECONDS), LOOK_SECONDS_MAX, lasts - waited)
    tick.timer(KIND, event.key, event.name, at.partition, "-", tick.now + timedelta(seconds=pause))


def _lasts(tick: Tick, rail: str) -> float:
    """Return how long a stranger of a rail waits."""
    settings = tick.configuration.rails.get(rail)
    return settings.stranger_wait_seconds if settings is not None else WAIT_SECONDS


def _waiting_for(tick: Tick, place: tuple[str, str]) -> tuple[WaitingCallback, ...]:
    """Return the first callbacks that wait under a rail and a reference; those of the whole batch are asked for at
    once, as there may be many."""
    waiting = tick.batch.waiting
    if place not in waiting:
        given = [entry.event.outcome for entry in tick.batch.inputs if isinstance(entry.event, RailReported)]
        asked = {(one.rail, one.reference) for one in given if _is_strange(tick, one)}
        raise MissingGround(Missing(waiting={place} | (asked - waiting.keys())))
    return waiting[place]


def _is_strange(tick: Tick, outcome: RailOutcome) -> bool:
    """Return whether a report is likely to wait: what it names is in nobody's memory."""
    named = parse_reference(outcome.reference)
    tx = tick.memory.transactions.get(named[0]) if named is not None else None
    if outcome.event_id is None:
        return False
    if tx is None or named is None or not 0 < named[1] <= len(tx.attempts):
        return True
    return tx.attempts[named[1] - 1].rail != outcome.rail


def _attempt_known(tick: Tick, reference: str) -> bool:
    named = parse_reference(reference)
    tx = tick.transaction(named[0]) if named is not None else None
    return tx is not None and named is not None and 0 < named[1] <= len(tx.attempts)


def _open_case(tick: Tick, rail: str, reference: str, status: str, cause: str) -> None:
    """Open a case for what names no attempt of ours, unless one is open; the raw callback is kept beside it.

    Its id follows from the last report that is told of, so that one which comes after somebody has resolved the case
    opens another (one a day, where more wait than are told of). Of a rail STRANGERS_OPEN_MAX are open, or a few more
    where several workers open them at once; one stands for the rest."""
    if rail not in tick.batch.strangers:
        raise MissingGround(Missing(strangers={rail}))
    now = [row.detail["reference"] for row in tick.writes.cases_opened if _is_about(row, rail)]
    open_ = tick.batch.strangers[rail].union(now)
    detail = {"rail": rail, "reference": reference, "status": str(status), "cause": cause}
    if reference not in open_ and len(open_) >= STRANGERS_OPEN_MAX:
        detail |= {"reference": STRANGERS_MORE, "first": reference, "reason": "more of these: their callbacks are kept"}
    if detail["reference"] in open_:
        return
    case = derived_id(KIND_OF_CASE, rail, detail["reference"], cause)
    tick.writes.cases_opened.append(
        CaseRow(case, "-", None, None, KIND_OF_CASE, detail, tick.now, tick.now + CASE_DEADLINE)
    )


def _is_about(row: CaseRow, rail: str) -> bool:
    return row.kind == KIND_OF_CASE and row.detail["rail"] == rail
