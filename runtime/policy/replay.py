"""Making a decision again from the records of its intent, and saying why it was what it was.

A decision is the same when everything that it says is: outcome, version, digest of the inputs, lane, the answer of
every rule and the reasons. Where a record says nothing of what was seen, the decision rested on the intent, the type of
its source account, which never changes, and the day."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from zentra.runtime.compliance.diligence import Diligence
from zentra.runtime.compliance.rules import COMPLIANCE_RULES
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Record, timestamp
from zentra.runtime.policy.conditions import fields_in
from zentra.runtime.policy.decision import NO_SCORERS, decide_again
from zentra.runtime.policy.evaluation import DAILY, Inputs, read_field
from zentra.runtime.policy.fields import VELOCITY, VELOCITY_FIGURES, Subject, field_of
from zentra.runtime.policy.movements import asked_values
from zentra.runtime.policy.people import with_people
from zentra.runtime.policy.program import program_of
from zentra.runtime.policy.rules import PolicyRules
from zentra.runtime.policy.scoring import Scorer
from zentra.runtime.policy.standard import limits_of

__all__ = ["Answer", "Explanation", "Past", "again", "decisions_in", "explain", "same"]

_decode: Final = msgspec.json.Decoder(Record).decode


class Past(Struct, frozen=True):
    """A decision as it was recorded, with what the other records of its intent say of it."""

    intent: str
    intent_id: str
    tenant: str
    principal: str
    role: str
    command: IntentCommand
    sequence: int
    at: str
    waives: tuple[str, ...]
    judged: f.Judged


class Answer(Struct, frozen=True):
    """What one rule answered, and on what."""

    rule: str
    result: str
    inputs: dict[str, Any]


class Explanation(Struct, frozen=True):
    """A decision, the answers of its rules, and the decision that the same inputs lead to today."""

    intent_id: str
    sequence: int
    at: str
    outcome: str
    version: int
    lane: str
    reasons: tuple[str, ...]
    input_digest: str
    answers: tuple[Answer, ...]
    again: f.Judged
    same: bool


def decisions_in(records: Sequence[bytes]) -> list[Past]:
    """Return the decisions that an intent's records hold, in order.

    `records` need not be all: the first, the decisions, and the reviews that were approved. Raises ValueError where the
    first does not register an intent."""
    first = _decode(records[0]) if records else None
    if first is None or not isinstance(first.facts, f.Registered):
        raise ValueError("an intent's records start with its registration")
    found: list[Past] = []
    waives: tuple[str, ...] = ()
    asked: set[str] = set()  # rules whose waivers hold for a reason: the answers say which did
    for data in records[1:]:
        record = _decode(data)
        facts = record.facts
        if isinstance(facts, f.Decided):
            waives += tuple(rule for rule in facts.waives if rule not in waives)
        elif isinstance(facts, f.Judged):
            command = first.facts.command
            if facts.named is not UNSET:
                command = replace(command, source=facts.named[0], destination=facts.named[1])
            held = tuple([rule for rule in waives if rule not in asked or facts.results.get(rule) == "waived"])
            asked |= set(facts.asks or ())
            found.append(
                Past(
                    first.intent, first.intent_id, first.tenant, first.actor, first.facts.role, command,
                    record.sequence, record.at, held, facts,
                )
            )  # fmt: skip
    return found


def again(
    past: Past, rules: PolicyRules, *, source_type: str | None, scorers: Mapping[str, Scorer] = NO_SCORERS
) -> f.Judged:
    """Return the decision that the recorded inputs lead to under `rules`, without what it takes from counters."""

    def made(seen: f.Seen) -> f.Judged:
        judged = decide_again(rules, _inputs(past, seen), source_type=source_type, scorers=scorers)
        known = past.judged.diligence
        return with_people(judged, known, past.waives) if isinstance(known, Diligence) else judged

    given = past.judged.seen
    if isinstance(given, f.Seen):
        return made(given)
    first = made(f.Seen(past.at))
    if same(past.judged, first):
        return first
    # a record may be a moment later than the time of its decision, and so on the day after
    day_before = timestamp(datetime.fromisoformat(past.at) - timedelta(days=1))
    other = made(f.Seen(day_before))
    return other if same(past.judged, other) else first


def same(one: f.Judged, other: f.Judged) -> bool:
    """Return whether two decisions say the same; what was taken from counters is no part of it."""
    saw_the_same = not isinstance(one.seen, f.Seen) or one.seen == other.seen
    return saw_the_same and _said(one) == _said(other)


def _said(judged: f.Judged) -> tuple[object, ...]:
    return (
        judged.outcome, judged.version, judged.input_digest, judged.lane, judged.results, tuple(judged.reasons),
    )  # fmt: skip


def _inputs(past: Past, seen: f.Seen) -> Inputs:
    return Inputs(past.command, past.principal, past.role, seen, past.tenant, past.judged.version, past.waives)


def explain(
    past: Past, rules: PolicyRules, *, source_type: str | None, scorers: Mapping[str, Scorer] = NO_SCORERS
) -> Explanation:
    """Return why a decision was what it was, under the rules of its version, and whether it would be so again."""
    made = again(past, rules, source_type=source_type, scorers=scorers)
    judged = past.judged
    seen = judged.seen if isinstance(judged.seen, f.Seen) else f.Seen(past.at)
    kind = seen.fields.get("source.type", source_type)
    answers = tuple(
        Answer(name, result, _looked_at(name, rules, past, seen, kind)) for name, result in judged.results.items()
    )
    return Explanation(
        past.intent_id, past.sequence, past.at, judged.outcome, judged.version, judged.lane, judged.reasons,
        judged.input_digest, answers, made, same(judged, made),
    )  # fmt: skip


def _looked_at(name: str, rules: PolicyRules, past: Past, seen: f.Seen, source_type: object) -> dict[str, Any]:
    """Return what a rule has looked at."""
    command, currency = past.command, past.command.currency
    limits = limits_of(rules, currency)
    held = seen.usage.get(DAILY)
    match name:
        case "scope_allowed":
            return {"scope": command.scope, "scopes": rules.scopes}
        case "source_permitted":
            return {"source.type": source_type, "role": past.role}
        case "transaction_limit":
            return {"amount": command.minor, "transaction_minor_max": limits.transaction_minor_max}
        case "daily_amount" | "velocity_counted":
            return {"amount": command.minor, "held": _minor(held), "daily_minor_max": limits.daily_minor_max}
        case "daily_count":
            return {"held": None if held is None else int(held[0]), "daily_count_max": limits.daily_count_max}
        case "review_threshold":
            return {"amount": command.minor, "review_minor_min": limits.review_minor_min}
        case "policy_usable":
            return {"unusable": rules.unusable or "it could not be evaluated"}
        case "risk":
            return _risk(rules, seen)
    if name in COMPLIANCE_RULES:
        known = past.judged.diligence
        return msgspec.to_builtins(known) if isinstance(known, Diligence) else {}
    if name.startswith("window."):
        return _window(name.removeprefix("window."), rules, seen, currency)
    for rule in rules.rules:
        if rule.name == name:
            shown: dict[str, Any] = {one: _value(one, past, seen) for one in sorted(fields_in(rule.when))}
            if movements := _movements(rules, past, seen):
                shown["movements"] = [{one: values.get(one) for one in shown} for values in movements]
            return {**shown, "when": rule.when} | ({"waives": rule.waives} if rule.waives else {})
    return {}


def _movements(rules: PolicyRules, past: Past, seen: f.Seen) -> list[dict[str, Any]]:
    """Return what was asked about the movements of a journal, amounts as digits."""
    program = program_of(rules)
    whole = {name: _value(name, past, seen) for name in program.fields}
    return [{**one, "amount": str(one["amount"])} for one in asked_values(program, past.command, seen, whole)]


def _risk(rules: PolicyRules, seen: f.Seen) -> dict[str, Any]:
    risk = rules.risk
    figures = {name: seen.usage[name] for name in seen.usage if name.startswith("risk.")}
    thresholds = {} if risk is None else {"review_min": risk.review_min, "deny_min": risk.deny_min}
    return {"risk.score": seen.fields.get("risk.score"), **figures, **thresholds}


def _window(name: str, rules: PolicyRules, seen: f.Seen, currency: str) -> dict[str, Any]:
    held, window = seen.usage.get(name), rules.windows.get(name)
    limits = None if window is None else window.limits.get(currency) or window.limits.get("*")
    shown = {"count": None if held is None else int(held[0]), "minor": _minor(held)}
    return shown | ({} if limits is None else {"count_max": limits.count_max, "minor_max": limits.minor_max})


def _minor(held: tuple[str, str] | None) -> str | None:
    return None if held is None else held[1]


def _value(name: str, past: Past, seen: f.Seen) -> Any:
    """Return the value of a field as the decision saw it; an amount as digits."""
    if name in seen.fields:
        return seen.fields[name]
    if name.startswith(VELOCITY):
        window, _, figure = name[len(VELOCITY) :].rpartition(".")
        held = seen.usage.get(window)
        return None if held is None else held[VELOCITY_FIGURES.index(figure)]
    field = field_of(name, {})
    subject = Subject(past.command, past.role, past.principal, None, None, datetime.fromisoformat(past.at), None)
    value = None if field is None else read_field(field.read, subject)
    return str(value) if name == "amount" else value
