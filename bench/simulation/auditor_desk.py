"""The auditor's own desk: reviews, cases, timers and the answers to commands, beside the histories they belong to."""

from collections.abc import Collection, Mapping
from datetime import datetime

from zentra.bench.simulation.auditor_histories import History, Record
from zentra.bench.simulation.auditor_outside import Given
from zentra.bench.simulation.auditor_words import SETTLED, Violation
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.ports import CaseRow, TickWrites

__all__ = ["AuditedDesk"]

Key = tuple[str, str, str]


class AuditedDesk:
    """What waits for people and for time."""

    def __init__(self) -> None:
        self.timers: set[Key] = set()
        self._reviews: set[str] = set()  # intents with an open review
        self._cases: dict[str, str] = {}  # every case -> open, resolved
        self._outcomes: set[str] = set()
        self.claimed: dict[tuple[str, str], tuple[str, str]] = {}  # callbacks by rail and event id -> tenant and intent

    def wrote(
        self, writes: TickWrites, moved: Collection[tuple[History, Record]], commands: Mapping[str, Given]
    ) -> None:
        """Follow what a commit wrote beside its records, which are `moved`."""
        self._review_rows(writes, moved)
        self._case_rows(writes, moved)
        self._answers(writes, moved, commands)
        self.timers |= writes.timers_set.keys()
        self.timers -= writes.timers_cleared
        for history, record in moved:
            if history.state not in SETTLED and ("intent", history.id, "state") not in self.timers:
                raise Violation("T", f"{history.id}/{record.sequence} waits as {history.state} without a timer")

    def _review_rows(self, writes: TickWrites, moved: Collection[tuple[History, Record]]) -> None:
        opened = [(row[0], row[2]) for row in writes.reviews_opened]
        closed = [row[0] for row in writes.reviews_closed]
        due = [(h.id, h.tenant) for h, record in moved if record.event == "policy.review"]
        left = [h.id for h, record in moved if record.from_ == "REVIEW" and record.to != "REVIEW"]
        if sorted(opened) != sorted(due):
            raise Violation("T", f"reviews were opened for {opened}, {due} were referred")
        if sorted(closed) != sorted(left):
            raise Violation("K", f"reviews were closed for {closed}, {left} have left theirs")
        self._reviews |= {intent for intent, _ in opened}
        self._reviews -= set(closed)

    def _case_rows(self, writes: TickWrites, moved: Collection[tuple[History, Record]]) -> None:
        told = {r.facts["case"]: (h, r.facts["reason"]) for h, r in moved if r.event == "case.opened"}
        for row in writes.cases_opened:
            self._case_row(row, told.pop(row.id, None))
        if told:
            raise Violation("T", f"the cases {sorted(told)} were told of and not opened")
        ended = {r.facts["case"] for _, r in moved if r.event == "case.resolved"}
        for key, *_ in writes.cases_resolved:
            ended.discard(key)
            if key in self._cases:
                self._cases[key] = "resolved"
        if ended:
            raise Violation("T", f"the cases {sorted(ended)} were told of as resolved and are not")

    def _case_row(self, row: CaseRow, told: tuple[History, str] | None) -> None:
        if told is not None and (row.tenant, row.intent, row.kind) != (told[0].tenant, told[0].id, told[1]):
            raise Violation("M", f"case {row.id} of {row.tenant} is not that of {told[0].id}")
        if told is None and row.kind not in ("unknown_reference", "poison_message"):
            raise Violation("T", f"case {row.id} ({row.kind}) is not told of by its intent")
        self._cases.setdefault(row.id, "open")

    def _answers(
        self, writes: TickWrites, moved: Collection[tuple[History, Record]], commands: Mapping[str, Given]
    ) -> None:
        refused = set()
        for key, tenant, accepted, code, *_ in writes.command_outcomes:
            if key in self._outcomes:
                raise Violation("G", f"command {key} is answered twice")
            self._outcomes.add(key)
            given = commands.get(key)
            if given is None:
                raise Violation("O", f"command {key} is answered ({code}) and was never given")
            if given.tenant != tenant:
                raise Violation("M", f"command {key} of {given.tenant} is answered to {tenant}")
            if not accepted:
                refused.add(key)
        for history, record in moved:
            cause, where = record.cause, f"{history.id}/{record.sequence} ({record.event})"
            if cause in refused:
                raise Violation("F", f"{where} is the doing of command {cause}, which was refused")
            if cause not in commands:
                continue
            if commands[cause].tenant != history.tenant:
                raise Violation("M", f"{where} is the doing of a command of {commands[cause].tenant}")
            if cause not in self._outcomes:
                raise Violation("G", f"{where} is the doing of command {cause}, which has no answer")
        for rail, event, tenant, intent in writes.callbacks_claimed:
            if self.claimed.setdefault((rail, event), (tenant, intent)) != (tenant, intent):
                raise Violation("G", f"callback {event} of {rail} is claimed for {intent} and for another intent")

    def rebuild(self, store: StoreTwin, histories: Mapping[str, History]) -> None:
        """Object where the stored rows are not what the histories say."""
        rows = store.rows
        if rows.timers.keys() != self.timers:
            odd = sorted(rows.timers.keys() ^ self.timers)
            raise Violation("T", f"the stored timers are not those that were committed: {odd[:3]}")
        waiting = {key for key, history in histories.items() if history.state == "REVIEW"}
        open_reviews = {key for key, row in rows.reviews.items() if row["status"] == "open"}
        if not waiting == open_reviews == self._reviews:
            raise Violation("T", f"the open reviews are {sorted(open_reviews)}, {sorted(waiting)} wait for one")
        if {key: file.status for key, file in rows.cases.items()} != self._cases:
            raise Violation("T", "the stored cases are not those that were committed")
        stood = {key for history in histories.values() for key in history.cases}
        stored = {k for k, f in rows.cases.items() if f.status == "open" and f.row.kind not in
                  ("unknown_reference", "poison_message")}  # fmt: skip
        if stood != stored:
            raise Violation("T", f"the open cases are {sorted(stored)}, the intents say {sorted(stood)}")
        if rows.command_outcomes.keys() != self._outcomes:
            raise Violation("G", "the stored answers to commands are not those that were committed")

    def finish(self, store: StoreTwin, histories: Mapping[str, History], now: datetime) -> None:
        """Object where something waits for nobody."""
        for history in histories.values():
            if history.state in SETTLED or history.id in self._reviews or history.cases:
                continue
            raise Violation("T", f"{history.id} is {history.state}, without a review or a case")
        for key, timer in store.rows.timers.items():
            if timer.due_at <= now:
                raise Violation("T", f"the timer {key} was due at {timer.due_at}, it is {now}")
