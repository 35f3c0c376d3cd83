"""Are the answers to creations those of one store of keys and intents?

Every answered creation is compared with what the store holds in the end. An outcome that stayed unknown is resolved by
the same look: it happened where the store holds what it asked for. Nothing here looks at the order of things, but for
one: who conflicts with somebody must have had the chance to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from zentra.bench.histories.model import Ending, Intent
from zentra.bench.histories.recording import Call, Create
from zentra.bench.histories.requests import complaints, content, differing
from zentra.bench.histories.violations import Violation, violation

__all__ = ["WEATHER", "Answers", "code_of", "decoded"]

WEATHER: Final = frozenset({429, 500, 502, 503, 504})
"""Answers after which nobody knows whether it was done: as good as none."""
# A lock on a key outlives a process that ends with it, and is given up behind the answer.
LOCK_NANOSECONDS_MAX: Final = 11 * 10**9
ACCEPTED: Final = frozenset({200, 202})


class Answers:
    """The creations of a history, sorted; `born` is when an intent was first asked for, by its uuid."""

    def __init__(self, history: Sequence[Call], ending: Ending) -> None:
        self._ending = ending
        self.creates = [(call, call.operation) for call in history if isinstance(call.operation, Create)]
        self._by_key: dict[str, list[Call]] = defaultdict(list)
        for call, asked in self.creates:
            self._by_key[asked.key].append(call)
        self._intents = {intent.id: intent for intent in ending.intents}
        self._contents = {intent.id: content(intent.command) for intent in ending.intents}
        self.by_intent_id = {intent.intent_id: intent for intent in ending.intents}
        self._askers: dict[str, list[Call]] = defaultdict(list)
        for call, asked in self.creates:
            intent = self.asked_for(asked)
            if intent is not None and not _refused(call):
                self._askers[intent.id].append(call)
        self.born = {intent: min(call.invoked for call in calls) for intent, calls in self._askers.items()}

    def asked_for(self, asked: Create) -> Intent | None:
        """Return the intent that a request made or repeated: its key is bound to it, and the content is the same."""
        bound = self._ending.keys.get(asked.key)
        intent = self._intents.get(bound.intent) if bound is not None else None
        if intent is None or complaints(asked.body) or content(asked.body) != self._contents[intent.id]:
            return None
        return intent

    def told_of(self, call: Call) -> Intent | None:
        """Return the intent whose existence an answer gives away, or None."""
        asked = call.operation
        if not call.known or not isinstance(asked, Create):
            return None
        if call.status in ACCEPTED:
            return self.asked_for(asked)
        code = code_of(call)
        if code == "intent_id_conflict":
            return self.by_intent_id.get(asked.body.get("intent_id", ""))
        bound = self._ending.keys.get(asked.key) if code == "idempotency_key_reused" else None
        return self._intents.get(bound.intent) if bound is not None else None

    def check(self) -> Iterator[Violation]:
        """Yield what no store of keys and intents explains."""
        yield from self._effects()
        firsts: dict[str, list[Call]] = defaultdict(list)
        said: dict[str, list[Call]] = defaultdict(list)
        for call, asked in self.creates:
            if not call.known or call.status in WEATHER:
                continue
            if call.status in ACCEPTED:
                yield from self._accepted(call, asked)
                intent = self.asked_for(asked)
                if intent is not None and not call.replayed:
                    firsts[intent.id].append(call)
                if not asked.wait:
                    said[asked.key].append(call)
            else:
                yield from self._refusal(call, asked)
        for calls in firsts.values():
            if len(calls) > 1:
                yield violation("first", f"{len(calls)} answers say that they are the first of one intent", *calls)
        for key, calls in said.items():
            if len({call.body for call in calls}) > 1:
                yield violation("answer", f"key {key} was answered in different words", *calls)

    def _effects(self) -> Iterator[Violation]:
        keys: dict[str, list[str]] = defaultdict(list)
        ids: dict[str, list[str]] = defaultdict(list)
        for intent in self._ending.intents:
            keys[intent.key].append(intent.id)
            ids[intent.intent_id].append(intent.id)
            if intent.key in self._by_key and intent.id not in self._askers:
                calls = self._by_key[intent.key]
                yield violation("invented", f"intent {intent.intent_id} is what nobody asked for by its key", *calls)
        for name, where in (("key", keys), ("intent_id", ids)):
            for value, intents in where.items():
                if len(intents) > 1:
                    seen = self._by_key.get(value, [])
                    yield violation("one_effect", f"{name} {value} has {len(intents)} intents: {intents}", *seen)
        for key, calls in self._by_key.items():
            bound = self._ending.keys.get(key)
            if bound is None or bound.intent not in self._intents:
                continue
            if not any(self.asked_for(asked) and not _refused(call) for call in calls if (asked := _create(call))):
                yield violation("invented", f"key {key} is bound to what nobody asked for under it", *calls)

    def _accepted(self, call: Call, asked: Create) -> Iterator[Violation]:
        wrong = complaints(asked.body)
        if wrong:
            yield violation("refusal", f"it was accepted in spite of {sorted(wrong)}", call)
            return
        bound = self._ending.keys.get(asked.key)
        intent = self._intents.get(bound.intent) if bound is not None else None
        if bound is None or intent is None:
            yield violation("acknowledged", "it was acknowledged, and the store has nothing under its key", call)
            return
        fields = differing(self._contents[intent.id], content(asked.body))
        if fields:
            yield violation("changed", f"a repeat with another {', '.join(fields)} was accepted", call)
            return
        said = decoded(call)
        if said.get("id") != intent.id or said.get("intent_id") != intent.intent_id:
            yield violation("acknowledged", f"the answer names {said.get('id')}, the key is bound to {intent.id}", call)
        if not asked.wait and call.body != bound.answer:
            yield violation("answer", f"the answer differs from the one that is kept: {bound.answer}", call)
        if not call.replayed and intent.key != asked.key:
            yield violation("first", f"it says it is the first, but the intent came with key {intent.key}", call)
        others = [other for other in self._askers[intent.id] if other is not call and _before(other, call)]
        if call.replayed and not others:
            yield violation("first", "it says it is a replay, and nobody had asked before", call)

    def _refusal(self, call: Call, asked: Create) -> Iterator[Violation]:
        code = code_of(call)
        wrong = complaints(asked.body)
        if wrong or code == "validation_failed":
            named = {(error.get("pointer"), error.get("code")) for error in decoded(call).get("errors", ())}
            if code != "validation_failed" or named != wrong:
                yield violation("refusal", f"it names {sorted(map(str, named))}, wrong is {sorted(wrong)}", call)
            return
        bound = self._ending.keys.get(asked.key)
        intent = self._intents.get(bound.intent) if bound is not None else None
        rivals = [other for other in self._by_key[asked.key] if other is not call and _before(other, call)]
        match code:
            case "idempotency_in_flight":
                if not any(_may_lock(other, call) for other in rivals):
                    yield violation("conflict", "nobody else was asking with this key", call)
            case "idempotency_key_reused":
                yield from self._reused(call, asked, intent, rivals)
            case "intent_id_conflict":
                yield from self._taken(call, asked, rivals)
            case _:
                yield violation("unexpected", f"status {call.status}, code {code or 'none'}", call)

    def _reused(self, call: Call, asked: Create, intent: Intent | None, rivals: list[Call]) -> Iterator[Violation]:
        if intent is None:
            yield violation("changed", "it was refused as changed, and nobody has the key", call)
            return
        fields = differing(self._contents[intent.id], content(asked.body))
        named = decoded(call).get("fields")
        if not fields or named != fields:
            yield violation(
                "changed", f"it was refused as changed in {named}; what differs is {fields or 'nothing'}", call
            )
        if not any(other in self._askers[intent.id] for other in rivals):
            yield violation("changed", "it was refused before anybody else had used the key", call)

    def _taken(self, call: Call, asked: Create, rivals: list[Call]) -> Iterator[Violation]:
        named = asked.body.get("intent_id", "")
        owner = self.by_intent_id.get(named)
        if owner is None or self._contents[owner.id] == content(asked.body):
            yield violation("changed", f"it was refused, but intent_id {named} has no other content", call)
            return
        if owner.id in self.born and (call.returned or 0) < self.born[owner.id]:
            yield violation("changed", f"it was refused before anybody asked for intent_id {named}", call)
        known = [other for other in rivals if other.status in ACCEPTED and (other.returned or 0) < call.invoked]
        if known:
            yield violation("changed", "its key was known, which has to be the first objection", known[0], call)


def decoded(call: Call) -> dict[str, Any]:
    """Return the JSON object that was heard, or an empty one."""
    try:
        said = msgspec.json.decode(call.body)
    except msgspec.MsgspecError:
        return {}
    return said if isinstance(said, dict) else {}


def code_of(call: Call) -> str:
    """Return the code of a problem that was heard, or nothing."""
    return str(decoded(call).get("code", ""))


def _create(call: Call) -> Create:
    assert isinstance(call.operation, Create)
    return call.operation


def _refused(call: Call) -> bool:
    """Whether it is certain that the request did nothing."""
    return call.known and call.status not in ACCEPTED and call.status not in WEATHER


def _before(other: Call, call: Call) -> bool:
    """Whether another call may have been worked on before this one was answered."""
    return call.returned is None or other.invoked < call.returned


def _may_lock(other: Call, call: Call) -> bool:
    return other.returned is None or other.returned + LOCK_NANOSECONDS_MAX >= call.invoked
