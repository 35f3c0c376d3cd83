"""The auditor's own reading of a tenant's policy: what a decision has to be, and what the counters of a day hold.

A counter is the sum over intents that were accepted and not given back; a decision follows from the intent, the rules
in their version and those counters, so whatever else a record says is a violation."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from zentra.bench.simulation.auditor_histories import History, Record, gives_back, settles
from zentra.bench.simulation.auditor_words import Violation
from zentra.runtime.policy import Limits, PolicyRules, Usage, VelocityKey
from zentra.runtime.ports import Configuration

__all__ = ["AuditedPolicy"]

_UNLIMITED = Limits()
_SYSTEM = ("settlement", "fee", "suspense", "liquidity")
_BOOKED = ("book_transfer", "journal", "conversion")
_DECISIONS = {"policy.accepted": "accepted", "policy.review": "review", "policy.denied": "denied"}


class AuditedPolicy:
    """The counters, and what every decision has to rest on."""

    def __init__(self) -> None:
        self.counts: Counter[VelocityKey] = Counter()
        self.minors: Counter[VelocityKey] = Counter()
        self._changes: dict[VelocityKey, list[int]] = {}

    def read(self, usage: Mapping[VelocityKey, Usage]) -> None:
        """Object where a commit was decided on counters that are not what the intents before it say."""
        for key, used in usage.items():
            if (used.count, used.minor) != (self.counts[key], self.minors[key]):
                mine = self.counts[key], self.minors[key]
                raise Violation("R", f"{key.counter} of {key.day} was read as {used}, its intents say {mine}")

    def moved(self, history: History, record: Record, rules: Configuration, day: str, source_type: str) -> None:
        """Follow one record: a decision, or an intent that is counted no longer."""
        if record.event in _DECISIONS:
            self._judged(history, record, rules, day, source_type)
        if record.event == "policy.accepted":
            self._change(history, 1, history.amount)
        elif gives_back(history.before, history.state):
            self._change(history, -1, -history.amount)
        elif settles(history):
            self._change(history, 0, history.posted - history.amount)

    def wrote(self, changes: Mapping[VelocityKey, Usage]) -> None:
        """Object where a commit has counted anything else than its records say."""
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
            for counter, day in history.counted:
                key, (count, minor) = VelocityKey(history.tenant, counter, day, history.currency), history.counts_as
                counts[key] += count
                minors[key] += minor
        for key in stored.keys() | counts.keys():
            used = stored.get(key, Usage())
            if (used.count, used.minor) != (counts[key], minors[key]):
                raise Violation("R", f"{key} holds {used}, its intents say {counts[key]} and {minors[key]}")

    def _change(self, history: History, count: int, minor: int) -> None:
        for counter, day in history.counted:
            key = VelocityKey(history.tenant, counter, day, history.currency)
            self.counts[key] += count
            self.minors[key] += minor
            change = self._changes.setdefault(key, [0, 0])
            change[0] += count
            change[1] += minor

    def _judged(
        self, history: History, record: Record, configuration: Configuration, day: str, source_type: str
    ) -> None:
        where, facts = f"{history.id}/{record.sequence} ({record.event})", record.facts
        rules = configuration.policies.get(history.tenant, PolicyRules())
        limits = rules.limits.get(history.currency) or rules.limits.get("*") or _UNLIMITED
        counted = history.command["kind"] not in _BOOKED and (
            limits.daily_minor_max is not None or limits.daily_count_max is not None
        )
        key = VelocityKey(history.tenant, f"account/{history.command['source']}", day, history.currency)
        due = self._decision(history, rules, limits, key if counted else None, source_type)
        if (facts["outcome"], facts["version"]) != (due, rules.version) or _DECISIONS[record.event] != due:
            raise Violation("R", f"{where} says {facts['outcome']} under {facts['version']}, the rules say {due}")
        seen = {
            "command": history.command, "day": day, "role": history.first.facts["role"], "source": source_type or None,
            "tenant": history.tenant, "usage": [[str(self.counts[key]), str(self.minors[key])]] if counted else [],
            "version": rules.version, "waives": list(history.waived),
        }  # fmt: skip
        text = json.dumps(seen, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if hashlib.sha256(text.encode()).hexdigest() != facts["input_digest"]:
            raise Violation("R", f"{where} was decided on something else than {text}")
        if due == "accepted" and history.counted != ([(key.counter, key.day)] if counted else []):
            raise Violation("R", f"{where} is counted in {history.counted}, not in {key.counter} of {key.day}")

    def _decision(
        self, history: History, rules: PolicyRules, limits: Limits, key: VelocityKey | None, source_type: str
    ) -> str:
        command: dict[str, Any] = history.command
        amount = history.amount
        denied = rules.scopes is not None and command["scope"] not in rules.scopes
        denied |= source_type in _SYSTEM and history.first.facts["role"] not in ("operator", "admin")
        if command["kind"] in _BOOKED:
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
