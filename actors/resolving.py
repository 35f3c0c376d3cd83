"""Resolving a case: a person says what became of an attempt, that something is to be tried again, or that nothing is.

Invariants. A person's word is about the attempt that the case is about, and nothing else. That it was paid posts the
hold; an attempt that nobody knows the end of is asked on, and contradicts where it was paid too. That it was not paid
releases the hold only where no other attempt is open or in doubt. Whoever made an intent resolves no case of it. A case
is closed before its word counts, so what the word leads to may open another of its kind."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from zentra.actors import asking, journaling, stages
from zentra.actors.tick import Input, Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Attempt, Transaction
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.messages import CommandGiven
from zentra.runtime.rails.ruling import Ruling

__all__ = ["RESOLUTION_CODES", "CaseResolution", "resolve"]

RESOLUTION_CODES: Final = ("case_not_open", "self_approval", "not_awaiting_provider", "nothing_to_retry")
_WORDS: Final = frozenset({"succeeded", "declined"})


class CaseResolution(Struct, frozen=True):
    """The body of a case resolution; `intent` is None for a case beside no intent."""

    case: str
    resolution: str  # succeeded, declined, retry, dismissed
    reason: str
    intent: str | None = None
    kind: str = ""


def resolve(tick: Tick, at: Input, event: CommandGiven) -> str:
    """Resolve a case; return "done" or why not."""
    body = msgspec.json.decode(event.body, type=CaseResolution)
    row = (
        body.case, event.principal, {"resolution": body.resolution, "reason": body.reason}, tick.now, event.tenant
    )  # fmt: skip
    if body.intent is None:
        tick.writes.cases_resolved.append(row)
        return "done"
    tx = tick.transaction(body.intent)
    if tx is None or tx.tenant != event.tenant or body.case not in tx.cases_open:
        return "case_not_open"
    if event.principal == tx.principal:
        tick.deny_command(event, "case.resolve", "self_approval")
        return "self_approval"
    attempt = _attempt_of(tx, body.case)
    if body.resolution in _WORDS:
        if attempt is None or (tx.state is not State.SUBMITTED and attempt.status != "started"):
            return "not_awaiting_provider"
    elif body.resolution == "retry" and tx.state is not State.CONFIRMED and not _owes(tx):
        return "nothing_to_retry"
    facts = f.CaseNoted(body.case, tx.cases_open[body.case], {"reason": body.reason}, body.resolution)
    tick.move(tx, Fact.CASE_RESOLVED, facts, at, actor=event.principal, cause=event.command)
    tick.writes.cases_resolved.append(row)
    if body.resolution in _WORDS and attempt is not None:
        _report(tick, at, event, tx, attempt, body)
    elif body.resolution == "retry":
        if _owes(tx):
            journaling.settle_debt(tick, at, tx)
        else:
            tick.send(at.partition, "ledger", stages.due(tx))
    return "done"


def _attempt_of(tx: Transaction, case: str) -> Attempt | None:
    """Return the attempt that a case is about, the latest where it does not say; None where there is none."""
    number = tx.cases_about.get(case, len(tx.attempts))
    return tx.attempts[number - 1] if 0 < number <= len(tx.attempts) else None


def _owes(tx: Transaction) -> bool:
    """Return whether a transaction has failed with money posted that was to be given back."""
    return tx.state is State.FAILED and tx.posted > tx.given_back


def _report(
    tick: Tick, at: Input, event: CommandGiven, tx: Transaction, attempt: Attempt, body: CaseResolution
) -> None:  # fmt: skip
    """Apply a person's proof of what became of an attempt, as a fact like any other."""
    fact, status, ruled = _ruled(tx, attempt, body.resolution)
    facts = f.Reported(
        rail=attempt.rail,
        attempt=attempt.number,
        reference=attempt.reference,
        status=status,
        said=body.resolution,
        trust="operator",
        reason=body.reason,
        ruled=ruled,
    )
    if fact is not Fact.RAIL_CONTRADICTED:
        asking.end_case(tick, at, tx, asking.UNKNOWN_OUTCOME, "resolved", event.command)
    tick.move(tx, fact, facts, at, actor=event.principal, cause=event.command)
    if tx.state is not State.REFUSED:
        asking.go_on(tick, at, tx)


def _ruled(tx: Transaction, attempt: Attempt, word: str) -> tuple[Fact, str, str | UnsetType]:
    """Return the fact that a person's word makes, what is known of the attempt after it, and how it was ruled where the
    record has to say so."""
    awaits = tx.state is State.SUBMITTED
    if word == "succeeded":
        return (Fact.RAIL_CONFIRMED, word, UNSET) if awaits else (Fact.RAIL_CONTRADICTED, attempt.status, UNSET)
    if not awaits:
        return Fact.RAIL_NOTED, word, UNSET
    if all(asking.is_unpaid(other) for other in tx.attempts if other.number != attempt.number):
        return Fact.RAIL_DECLINED, word, UNSET
    if attempt.number == len(tx.attempts):
        return Fact.RAIL_NOTED, attempt.status, Ruling.WAITS
    return Fact.RAIL_NOTED, "not_accepted", UNSET  # as it was before it said otherwise
