"""The auditor's own reading of a tenant's policy: what a decision has to be, and what the counters of a day hold.

A counter is the sum over intents that were accepted and not given back; a decision follows from the intent, the rules
in their version and those counters, so whatever else a record says is a violation."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from zentra.bench.simulation.auditor_compliance import compliance_due
from zentra.bench.simulation.auditor_histories import History, Record, gives_back, known_of, settles
from zentra.bench.simulation.auditor_movements import allowed_capture, journal_answers, legs_kept
from zentra.bench.simulation.auditor_windows import (
    Answered,
    AuditedWindows,
    Counted,
    answers_under,
    fields_of,
    is_rolling,
    kept_under,
    key_of,
    score_under,
    values_under,
    windows_of,
)
from zentra.bench.simulation.auditor_words import BOOKED, Violation
from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.policy import Limits, PolicyRules, Usage, VelocityKey
from zentra.runtime.ports import Configuration

__all__ = ["AuditedPolicy", "People"]

_UNLIMITED = Limits()
_SYSTEM = ("settlement", "fee", "suspense", "liquidity")
_DECISIONS = {"policy.accepted": "accepted", "policy.review": "review", "policy.denied": "denied"}


class People(Struct, frozen=True):
    """What a tenant demands of people, and what there was: lists, the parties behind guarded accounts, the time."""

    demands: Compliance
    configuration: Configuration
    parties: Mapping[str, PartyRef | None]
    now: datetime


class AuditedPolicy:
    """The counters, and what every decision has to rest on."""

    def __init__(self) -> None:
        self.counts: Counter[VelocityKey] = Counter()
        self.minors: Counter[VelocityKey] = Counter()
        self._changes: dict[VelocityKey, list[int]] = {}
        self._windows = AuditedWindows()

    def read(self, usage: Mapping[VelocityKey, Usage]) -> None:
        """Object where a commit was decided on counters that are not what the intents before it say."""
        for key, used in usage.items():
            if is_rolling(key.counter):
                differs = self._windows.differs(key, used)
                if differs is not None:
                    raise Violation("R", f"{key.counter} was read as {used}: {differs}")
            elif (used.count, used.minor) != (self.counts[key], self.minors[key]):
                mine = self.counts[key], self.minors[key]
                raise Violation("R", f"{key.counter} of {key.day} was read as {used}, its intents say {mine}")

    def moved(
        self, history: History, record: Record, configuration: Configuration, now: datetime,
        types: tuple[str | None, str | None], parties: Mapping[str, PartyRef | None] | None = None,
        known: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Follow one record: a decision, or an intent that is counted no longer. `types` are those of its accounts,
        `parties` are those of the tenant's guarded accounts, `known` the types of all its accounts by id."""
        if record.event in _DECISIONS:
            rules = configuration.policies.get(history.tenant, PolicyRules())
            if rules.rules or rules.windows or rules.risk is not None:
                self._judged_under_conditions(history, record, rules, now, types, known or {})
            else:
                people = None
                if rules.compliance is not None:
                    people = People(rules.compliance, configuration, parties or {}, now)
                self._judged(history, record, rules, now.date().isoformat(), types[0], people)
        if record.event == "hold.captured":
            _captured(
                history, record, configuration.policies.get(history.tenant, PolicyRules()), now, types, known or {}
            )
        if record.event == "policy.accepted":
            self._change(history, 1, history.amount)
        elif gives_back(history.before, history.state):
            self._change(history, -1, -history.amount)
        elif settles(history):
            self._change(history, 0, history.posted - history.amount)

    def wrote(self, changes: Mapping[VelocityKey, Usage], windows: Mapping[VelocityKey, Usage]) -> None:
        """Object where a commit has counted anything else than its records say."""
        changed = self._windows.take_changed()
        if changed != windows.keys():
            raise Violation("R", f"the windows {sorted(windows, key=str)} change, the intents say {changed}")
        for key, used in windows.items():
            differs = self._windows.differs(key, used)
            if differs is not None:
                raise Violation("R", f"{key.counter} is left as {used}: {differs}")
        told = {key: [used.count, used.minor] for key, used in changes.items() if used.count or used.minor}
        due = {key: change for key, change in self._changes.items() if change != [0, 0]}
        if told != due:
            raise Violation("R", f"the counters change by {told}, the intents say {due}")
        self._changes = {}

    def rebuild(self, stored: Mapping[VelocityKey, Usage], histories: Mapping[str, History]) -> None:
        """Object where the stored counters are not the sum over all intents."""
        counts: Counter[VelocityKey] = Counter()
        minors: Counter[VelocityKey] = Counter()
        for history in histories.values():
            for counter, day, bucket in history.counted:
                if bucket is None:
                    key, (count, minor) = VelocityKey(history.tenant, counter, day, history.currency), history.counts_as
                    counts[key] += count
                    minors[key] += minor
        for key in stored.keys() | counts.keys() | self._windows.keys():
            used = stored.get(key, Usage())
            if is_rolling(key.counter):
                differs = self._windows.differs(key, used)
                if differs is not None:
                    raise Violation("R", f"{key} holds {used}: {differs}")
                continue
            if (used.count, used.minor) != (counts[key], minors[key]):
                raise Violation("R", f"{key} holds {used}, its intents say {counts[key]} and {minors[key]}")

    def _change(self, history: History, count: int, minor: int) -> None:
        for counter, day, bucket in history.counted if count or minor else ():
            key = VelocityKey(history.tenant, counter, day, history.currency)
            if bucket is not None:
                self._windows.count(key, bucket, count, minor)
                continue
            self.counts[key] += count
            self.minors[key] += minor
            change = self._changes.setdefault(key, [0, 0])
            change[0] += count
            change[1] += minor

    def _judged(
        self, history: History, record: Record, rules: PolicyRules, day: str, source_type: str | None,
        people: People | None,
    ) -> None:  # fmt: skip
        where, facts = f"{history.id}/{record.sequence} ({record.event})", record.facts
        limits = rules.limits.get(history.currency) or rules.limits.get("*") or _UNLIMITED
        counted = history.command["kind"] not in BOOKED and (
            limits.daily_minor_max is not None or limits.daily_count_max is not None
        )
        asked = history.asked
        key = VelocityKey(history.tenant, f"account/{asked['source']}", day, history.currency)
        due = self._decision(history, rules, limits, key if counted else None, source_type)
        known = facts.get("diligence")
        if (known is None) is not (people is None):
            raise Violation("R", f"{where} was decided on {known}, the rules demand {rules.compliance}")
        if people is not None:
            asks = compliance_due(
                where, history.spelled, (history.names.source, history.names.destination), known, people.demands,
                people.configuration, people.parties, people.now,
            )  # fmt: skip
            if "denied" in asks:
                due = "denied"
            elif due == "accepted" and asks - {r for r, (_, at) in history.grounds.items() if at == known_of(facts)}:
                due = "review"
        if (facts["outcome"], facts["version"]) != (due, rules.version) or _DECISIONS[record.event] != due:
            raise Violation("R", f"{where} says {facts['outcome']} under {facts['version']}, the rules say {due}")
        seen = {
            "command": asked, "day": day, "role": history.first.facts["role"], "source": source_type,
            "tenant": history.tenant, "usage": [[str(self.counts[key]), str(self.minors[key])]] if counted else [],
            "version": rules.version, "waives": _held(history, facts),
        }  # fmt: skip
        _rests_on(where, facts, seen)
        if due == "accepted" and history.counted != ([(key.counter, key.day, None)] if counted else []):
            raise Violation("R", f"{where} is counted in {history.counted}, not in {key.counter} of {key.day}")
        rested = None
        if counted:
            rested = {"at": day, "usage": {"limits.daily": seen["usage"][0]}, "fields": {"source.type": source_type}}
        if facts.get("seen") != rested:
            raise Violation("R", f"{where} has kept {facts.get('seen')} of what it saw, not {rested}")

    def _judged_under_conditions(
        self, history: History, record: Record, rules: PolicyRules, now: datetime,
        types: tuple[str | None, str | None], known: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Object to a decision that windows, conditions and risk do not lead to."""
        where, facts, command = f"{history.id}/{record.sequence} ({record.event})", record.facts, history.asked
        usage: dict[str, tuple[int, int]] = {}
        counted: list[Counted] = []
        for name, window in windows_of(rules, command).items():
            key = key_of(window, rules.time_zone, history.tenant, command, now)
            rolling = window.rolling_seconds is not None
            usage[name] = self._windows.held(key, window, now) if rolling else (self.counts[key], self.minors[key])
            place = key.counter, key.day, self._windows.bucket(key, window, now) if rolling else None
            counted += [place] if place not in counted else []
        limits = rules.limits.get(history.currency) or rules.limits.get("*") or _UNLIMITED
        day = now.date().isoformat()
        daily: VelocityKey | None = None
        if command["kind"] not in BOOKED and (limits.daily_minor_max, limits.daily_count_max) != (None, None):
            daily = VelocityKey(history.tenant, f"account/{command['source']}", day, history.currency)
            usage["limits.daily"] = self.counts[daily], self.minors[daily]
            place = daily.counter, daily.day, None
            counted += [place] if place not in counted else []
        people = history.first.actor, str(history.first.facts["role"])
        values = values_under(rules, command, people, types, now, usage)
        if rules.risk is not None:
            values["risk.score"] = score_under(rules.risk, command, usage)
        figures = {name: [str(count), str(minor)] for name, (count, minor) in usage.items()}
        seen = {"at": _stamp(now), "usage": figures, "fields": kept_under(rules, values)}
        legs = legs_kept(rules, history.spelled, command, fields_of(rules), known)
        seen |= {} if legs is None else {"accounts": legs}
        if facts.get("seen") != seen:
            raise Violation("R", f"{where} has kept {facts.get('seen')} of what it saw, not {seen}")
        _rests_on(where, facts, {
            "command": command, "principal": people[0], "role": people[1], "seen": seen, "tenant": history.tenant,
            "version": rules.version, "waives": _held(history, facts),
        })  # fmt: skip
        standard = self._decision(history, rules, limits, daily, types[0] or "")
        answers = [Answered("standard", standard)] if standard != "accepted" else []
        if legs is None:
            answers += answers_under(rules, command, usage, values)
        else:
            answers += journal_answers(rules, history.spelled, usage, values, known)
        due, reasons = _worst(history, answers)
        if (facts["outcome"], facts["version"]) != (due, rules.version) or _DECISIONS[record.event] != due:
            raise Violation("R", f"{where} says {facts['outcome']} under {facts['version']}, the rules say {due}")
        if not reasons <= set(facts["reasons"]):
            raise Violation("R", f"{where} is {due} for {facts['reasons']}, the rules say {sorted(reasons)}")
        if due == "accepted" and sorted(history.counted, key=str) != sorted(counted, key=str):
            raise Violation("R", f"{where} is counted in {history.counted}, not in {counted}")

    def _decision(
        self, history: History, rules: PolicyRules, limits: Limits, key: VelocityKey | None, source_type: str | None
    ) -> str:
        command: dict[str, Any] = history.command
        amount = history.amount
        denied = rules.scopes is not None and command["scope"] not in rules.scopes
        denied |= source_type in _SYSTEM and history.first.facts["role"] not in ("operator", "admin")
        if command["kind"] in BOOKED:
            asks = "corrects" in command and "correction_reviewed" not in history.waived
            return "denied" if denied else "review" if asks else "accepted"
        count, minor = (self.counts[key], self.minors[key]) if key is not None else (0, 0)
        for limit, used in (
            (limits.transaction_minor_max, amount),
            (limits.daily_minor_max, minor + amount),
            (limits.daily_count_max, count + 1),
        ):
            denied |= limit is not None and used > limit
        if denied:
            return "denied"
        threshold = limits.review_minor_min
        asks = threshold is not None and amount >= threshold and "review_threshold" not in history.waived
        return "review" if asks else "accepted"


def _captured(
    history: History, record: Record, rules: PolicyRules, now: datetime, types: tuple[str | None, str | None],
    known: Mapping[str, str],
) -> None:  # fmt: skip
    people = history.first.actor, str(history.first.facts["role"])
    values = values_under(rules, history.asked, people, types, now, {})
    went = next(entry["credit"] for entry in record.facts["entries"] if entry["posting"] == "settle")
    where = f"{history.id}/{record.sequence} ({record.event})"
    named = history.names.destination
    allowed_capture(where, rules, history.asked, record.facts, named, known.get(went), values)


def _rests_on(where: str, facts: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if "diligence" in facts:
        text = json.dumps(facts["diligence"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(f"{digest}\n{text}".encode()).hexdigest()
    if digest != facts["input_digest"]:
        raise Violation("R", f"{where} was decided on something else than {text}")


def _held(history: History, facts: Mapping[str, Any]) -> list[str]:
    """Return the waivers that a decision says it used; whether it might is asked of the grounds they were given on."""
    return [rule for rule in history.waives if facts["results"].get(rule) == "waived"]


def _worst(history: History, answers: list[Answered]) -> tuple[str, set[str]]:
    """Return the outcome that these answers make, and their reasons: reviews fall away that a person has waived, or a
    rule allows that had an answer itself."""
    allowed = {name for answer in answers if answer.outcome == "allows" for name in answer.waives}
    against = [
        answer
        for answer in answers
        if answer.outcome == "denied"
        or (
            answer.outcome == "review"
            and history.grounds.get(answer.rule, (None, ""))[0] != answer.reason
            and not (answer.rule in allowed and answer.answered)
        )
    ]
    outcomes = {answer.outcome for answer in against}
    due = "denied" if "denied" in outcomes else "review" if outcomes else "accepted"
    return due, {answer.reason for answer in against if answer.reason}


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
