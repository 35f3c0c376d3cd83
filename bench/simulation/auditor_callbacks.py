"""What the auditor knows of callbacks: whose word moves money, what becomes of a claim, and that none is forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from zentra.bench.simulation.auditor_histories import ABOUT_RAILS, History, Record
from zentra.bench.simulation.auditor_words import CONFIRMED, REFUSED, SUBMITTED, Violation
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.rails.port import RailOutcome

__all__ = ["TRUSTED", "AuditedCallbacks"]

TRUSTED: Final = ("direct", "polled", "body_signed")
"""What only a rail itself can have said."""
ASKED_WITHIN_SECONDS: Final = 3_600.0  # the longest pause is ten minutes; clocks are set back now and then
_Name = tuple[str, str]


class AuditedCallbacks:
    """Every callback that a gateway has taken, by rail and event id."""

    def __init__(self) -> None:
        self._taken: dict[_Name, RailOutcome] = {}
        self._strange: set[str] = set()  # intents of which a word that nobody knows was recorded after their end

    def said(self, outcome: RailOutcome) -> None:
        """Follow a report on its way to a worker."""
        if outcome.event_id is not None:
            self._taken.setdefault((outcome.rail, outcome.event_id), outcome)

    def moved(self, history: History, record: Record) -> None:
        """Object where money follows what was only claimed."""
        settles = history.before == SUBMITTED and history.state in (CONFIRMED, REFUSED)
        if record.event == "provider.callback" and settles and record.facts["trust"] not in (*TRUSTED, "operator"):
            where = f"{history.id}/{record.sequence}"
            raise Violation("N", f"{where} takes a claim for an outcome: {record.facts['trust']}")
        strange = record.facts.get("reason") == "status_unrecognised" and record.event == "provider.callback"
        if strange and record.facts["status"] != "started":
            self._strange.add(history.id)

    def ignored(self, claimed: Collection[_Name]) -> set[tuple[str, str, str, str]]:
        """Return (rail, reference, status, trust) of what no intent has taken up under any event id: it came too early,
        or for nobody."""
        words: dict[tuple[str, str, str, str], bool] = {}
        for name, outcome in self._taken.items():
            word = (outcome.rail, outcome.reference, str(outcome.status), outcome.trust)
            words[word] = words.get(word, False) or name in claimed
        return {word for word, taken_up in words.items() if not taken_up}

    def finish(
        self, store: StoreTwin, histories: Mapping[str, History], claimed: Mapping[_Name, _Name], now: datetime
    ) -> None:
        """Object to a callback that is forgotten, to two cases about one rail, to two payments without one, and to a
        rail that nobody asks."""
        self._astray(histories, claimed)
        told = {
            (file.row.detail["rail"], file.row.detail["reference"])
            for file in store.rows.cases.values()
            if file.row.kind == "unknown_reference"
        }
        for name, outcome in self._taken.items():
            if name not in claimed and (outcome.rail, outcome.reference) not in told:
                raise Violation("T", f"callback {name[1]} of {outcome.rail} for {outcome.reference} is forgotten")
            if name in claimed:
                self._recorded(outcome, histories)
        for history in histories.values():
            if history.id in self._strange and "provider_contradiction" not in history.opened:
                raise Violation("I", f"{history.id} has no case of a word that nobody knows, after its end")
            open_ = [kind for kind in history.cases.values() if kind in ABOUT_RAILS]
            if len(open_) > 1:
                raise Violation("I", f"{history.id} has several open cases about its rail: {sorted(open_)}")
            if history.doubled > history.looked and "provider_contradiction" not in open_:
                paid = [attempt.reference for attempt in history.attempts if attempt.word == "succeeded"]
                raise Violation("I", f"{history.id} was paid as {' and as '.join(paid)}, and nobody is told")
            timer = store.rows.timers.get(("intent", history.id, "state"))
            waits = history.state == SUBMITTED and timer is not None
            if waits and timer is not None and (timer.due_at - now).total_seconds() > ASKED_WITHIN_SECONDS:
                raise Violation("T", f"{history.id} waits for its rail, which nobody asks before {timer.due_at}")

    def _recorded(self, outcome: RailOutcome, histories: Mapping[str, History]) -> None:
        """Object where a callback that says no outcome has left no trace in the intent that has taken it up."""
        history = histories.get(outcome.reference[:32])
        attempts = [] if history is None else history.attempts
        for attempt in attempts:
            here = (attempt.rail, attempt.reference) == (outcome.rail, outcome.reference)
            if here and outcome.status in ("pending", "unknown") and str(outcome.status) not in attempt.words:
                raise Violation(
                    "T", f"{outcome.rail} said {outcome.status} of {outcome.reference}: no record tells of it"
                )

    def _astray(self, histories: Mapping[str, History], claimed: Mapping[_Name, _Name]) -> None:
        """Object where an intent has taken up what a rail says of another rail's attempt, and no case tells of it."""
        for name, (_, intent) in claimed.items():
            outcome, history = self._taken.get(name), histories.get(intent)
            if outcome is None or history is None:
                continue
            asked = [one.rail for one in history.attempts if one.reference == outcome.reference]
            if asked != [outcome.rail] and "provider_wrong_rail" not in history.opened:
                raise Violation("T", f"{intent} has no case of what {outcome.rail} says of the attempt of {asked}")
