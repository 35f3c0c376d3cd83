"""Why an intent went where it went: its routing decisions, read from its records, and made again from them.

A record holds what its decision was made by: the version, every rail with a word, and how circuits stood. Together with
the document of that version, which never changes, and with the command it gives the same answer, whenever and by
whomever it is asked: `same` says whether it does."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Attempt, Record
from zentra.runtime.rails.document import corridors_of
from zentra.runtime.rails.routing import NOT_NOW, Corridor, choose, find_corridor, routes_of

__all__ = ["WORDS", "AttemptShown", "Considered", "CorridorShown", "RouteDecision", "RouteShown", "explain_route"]

WORDS: Final[Mapping[str, str]] = {
    "chosen": "it was asked",
    "not_needed": "it could have been asked; another was before it",
    "unavailable": "the installation runs no such rail",
    "amount_mismatch": "it does not take this amount",
    "country_mismatch": "it does not take this country",
    "circuit_open": "too many of its last calls were bad, and no probe was due",
    "maintenance": "it was in maintenance",
    "draining": "an operator had stopped new submissions to it",
    "no_capacity": "as many calls waited for it as may",
    "not_accepted": "it had been asked, and did not accept",
}
"""What can be said of a rail in a decision, and what each word means."""
_UNSENT: Final = "not_sent"  # the outcome of an attempt under which nothing was sent
_DECISIONS: Final = ("provider.routed", "provider.failover", "provider.awaited")


class Considered(Struct, frozen=True):
    """A rail as a decision saw it; `means` says its word in a sentence. Where the record holds no more than the word,
    the rest is null."""

    rail: str
    word: str
    means: str
    priority: int | None = None
    weight: int | None = None
    cost: str | None = None
    circuit: str | None = None
    calls: int | None = None
    bad: int | None = None


class CorridorShown(Struct, frozen=True):
    """A corridor of the version, and why it does or does not carry the intent."""

    name: str
    word: str


class RouteDecision(Struct, frozen=True):
    """One decision. `same` says whether it comes out the same again, null where its version is not known; `until` is
    the end of the time that is waited for a rail. The event `provider.callback` is that of a rail which did not accept,
    after which no other one could be asked, `ledger.released` that of an intent for which none could be at all."""

    sequence: int
    at: str
    event: str
    corridor: str
    version: int
    rail: str | None
    reason: str
    rails: tuple[Considered, ...]
    corridors: tuple[CorridorShown, ...]
    same: bool | None
    until: str | None = None


class AttemptShown(Struct, frozen=True):
    """An attempt: when it was committed as started, what is known of it, and when that was recorded.

    `trust`, `reason`, `event_id` and `digest` (of the raw bytes) are of the report that is known by."""

    attempt: int
    rail: str
    reference: str
    started_at: str
    deadline: str
    outcome: str
    ended_at: str | None = None
    reports: int = 0
    trust: str | None = None
    reason: str | None = None
    event_id: str | None = None
    digest: str | None = None


class RouteShown(Struct, frozen=True):
    """The way of an intent; `ended` says why it went by no rail, where it did not."""

    intent_id: str
    id: str
    status: str
    decisions: tuple[RouteDecision, ...]
    attempts: tuple[AttemptShown, ...]
    ended: str | None = None


def explain_route(records: Sequence[bytes], documents: Mapping[int, Any]) -> RouteShown:
    """Return the way of an intent by its records, in order, and the routing documents that they name, by version."""
    read = [msgspec.json.decode(data, type=Record) for data in records]
    first = read[0]
    assert isinstance(first.facts, f.Registered)
    command = first.facts.command
    decisions, attempts, ended = [], list[AttemptShown](), None
    for record in read:
        facts = record.facts
        if isinstance(facts, f.Routed | f.Unrouted) and record.event in _DECISIONS:
            decisions.append(_decision(record, facts, command, attempts, documents))
        if isinstance(facts, f.Routed):
            attempts = [_left(one, facts, record.at) for one in attempts]
            started = AttemptShown(facts.attempt, facts.rail, facts.reference, record.at, facts.deadline, "started")
            attempts.append(started)
        elif isinstance(facts, f.Reported):
            if facts.unchosen is not UNSET:
                decisions.append(_decision(record, facts.unchosen, command, attempts, documents))
            attempts = [_told(one, facts, record.at) if one.attempt == facts.attempt else one for one in attempts]
        elif isinstance(facts, f.Booked) and record.event == "ledger.released":
            ended = facts.reason
            if facts.unchosen is not UNSET:
                decisions.append(_decision(record, facts.unchosen, command, attempts, documents))
    last = read[-1]
    return RouteShown(first.intent_id, first.intent, last.to, tuple(decisions), tuple(attempts), ended)


def _left(attempt: AttemptShown, facts: f.Routed | f.Unrouted | f.Unchosen, at: str) -> AttemptShown:
    """Return an attempt as the decision for another one tells of it: what its rail said has no record of its own
    in histories of before."""
    outcome = attempt.outcome
    if isinstance(facts, f.Routed) and facts.unsent is True and attempt.attempt == facts.attempt - 1:
        outcome = _UNSENT
    elif outcome != _UNSENT:
        outcome = facts.considered.get(attempt.rail, "not_accepted" if outcome == "started" else outcome)
    return msgspec.structs.replace(attempt, outcome=outcome, ended_at=attempt.ended_at or at)


def _told(attempt: AttemptShown, facts: f.Reported, at: str) -> AttemptShown:
    if facts.status == attempt.outcome:
        return msgspec.structs.replace(attempt, reports=attempt.reports + 1)
    return msgspec.structs.replace(
        attempt, outcome=facts.status, ended_at=at, reports=attempt.reports + 1, trust=facts.trust,
        reason=facts.reason, event_id=facts.event_id, digest=facts.digest,
    )  # fmt: skip


def _decision(
    record: Record,
    facts: f.Routed | f.Unrouted | f.Unchosen,
    command: IntentCommand,
    before: Sequence[AttemptShown],
    documents: Mapping[int, Any],
) -> RouteDecision:
    version = facts.version or 0
    document = documents.get(version)
    corridors = () if document is None else corridors_of(document, record.tenant, version)
    chosen = facts.rail if isinstance(facts, f.Routed) else None
    weighed = {row.rail: row for row in facts.weighed or ()}
    return RouteDecision(
        record.sequence, record.at, record.event, facts.corridor, version, chosen, facts.reason,
        tuple(_considered(rail, word, weighed.get(rail)) for rail, word in _in_order(facts, weighed)),
        tuple(_corridor(one, command, facts.corridor) for one in corridors),
        _again(record, facts, command, before, corridors) if corridors else None,
        facts.until if isinstance(facts, f.Unrouted) else None,
    )  # fmt: skip


def _in_order(facts: f.Routed | f.Unrouted | f.Unchosen, weighed: Mapping[str, f.Weighed]) -> list[tuple[str, str]]:
    """Return rails and words in the order of the decision, where the record has it."""
    rest = [rail for rail in facts.considered if rail not in weighed]
    return [(rail, facts.considered[rail]) for rail in (*weighed, *rest)]


def _considered(rail: str, word: str, weighed: f.Weighed | None) -> Considered:
    means = WORDS.get(word, f"it had been asked, and all that was known was {word}")
    if weighed is None:
        return Considered(rail, word, means)
    return Considered(
        rail, word, means, weighed.priority, weighed.weight, weighed.cost, weighed.circuit or "closed",
        None if weighed.calls is UNSET else weighed.calls, None if weighed.bad is UNSET else weighed.bad,
    )  # fmt: skip


def _corridor(corridor: Corridor, command: IntentCommand, chosen: str) -> CorridorShown:
    if corridor.name == chosen:
        word = "chosen"
    elif corridor.currency != command.currency:
        word = "currency_mismatch"
    elif corridor.kind != command.kind:
        word = "kind_mismatch"
    elif corridor.country not in (None, command.country):
        word = "country_mismatch"
    elif find_corridor((corridor,), command) is None:
        word = "amount_mismatch"
    else:
        word = "less_specific"
    return CorridorShown(corridor.name, word)


def _again(
    record: Record,
    facts: f.Routed | f.Unrouted | f.Unchosen,
    command: IntentCommand,
    before: Sequence[AttemptShown],
    corridors: Sequence[Corridor],
) -> bool:
    """Make a decision again from what its record holds; return whether it is the same."""
    corridor = find_corridor(corridors, command)
    if corridor is None or corridor.name != facts.corridor:
        return False
    at, left = datetime.fromisoformat(record.at), [_left(one, facts, record.at) for one in before]
    tried = {one.rail: one.outcome for one in left if one.outcome != _UNSENT}
    attempts = [
        Attempt(one.attempt, one.rail, one.reference, at, one.outcome, unsent=one.outcome == _UNSENT) for one in left
    ]
    words = facts.considered
    choice = choose(
        corridor, attempts, [rail for rail, word in words.items() if word != "unavailable"], intent=record.intent,
        minor=command.amount, country=command.country,
        blocked={rail: word for rail, word in words.items() if word in NOT_NOW},
    )  # fmt: skip
    chosen = facts.rail if isinstance(facts, f.Routed) else None
    if facts.weighed and [row.rail for row in facts.weighed] != [route.rail for route in routes_of(corridor)]:
        return False
    # of a rail that has left its corridor, records of before said nothing
    again = {rail: word for rail, word in choice.considered.items() if rail in words or rail not in tried}
    return (choice.rail, again) == (chosen, words)
