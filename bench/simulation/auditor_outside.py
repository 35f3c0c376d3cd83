"""What the auditor knows of the world around the intents: messages, rails, commands and endpoints.

What a rail has said it reads from the frames that carry it to the workers, what a rail has paid it is told by whoever
plays the rail. Neither is what the runtime believes."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from zentra.bench.simulation.auditor_callbacks import TRUSTED
from zentra.bench.simulation.auditor_histories import History, Record
from zentra.bench.simulation.auditor_words import (
    FAILED,
    REFUSED,
    REVERSED,
    SUBMITTED,
    Violation,
)
from zentra.runtime.messages import AttemptReported, CommandGiven, Due, Event, RailReported, decode_frame, encode_frame
from zentra.runtime.rails.port import RailOutcome, RailSettings, Submission
from zentra.runtime.stream_ports import Outgoing

__all__ = ["LATE_MAX", "AuditedMessages", "AuditedRails", "Given"]

LATE_MAX: Final = timedelta(seconds=65)  # between a commit and its call: no gate of a worker is played here
_FINAL: Final = ("succeeded", "declined", "not_accepted")


class Given(Struct, frozen=True):
    """A command as it was published."""

    tenant: str
    kind: str
    subject: str
    principal: str
    role: str = ""
    body: bytes = b"{}"


class Heard(Struct, frozen=True):
    """One word about a reference, of a rail or in its name."""

    rail: str
    status: str
    minor: int | None
    currency: str | None
    trust: str

    @property
    def claim(self) -> bool:
        """Whether somebody else may have said it."""
        return self.trust not in TRUSTED

    def differs(self, history: History) -> bool:
        """Return whether it names another amount or currency than the intent."""
        return self.minor not in (None, history.amount) or self.currency not in (None, history.currency)


class AuditedRails:
    """What rails were asked, what they paid, and what they said."""

    def __init__(self) -> None:
        self._asked: defaultdict[str, int] = defaultdict(int)
        self._proofs: set[tuple[str, int, str]] = set()  # what people have said of an attempt
        self._paid: dict[str, str] = {}  # by intent: the reference that was paid
        self._heard: defaultdict[str, set[Heard]] = defaultdict(set)
        self._unsent: set[str] = set()  # references that a worker has told of that it sent nothing under them
        self._before: dict[str, frozenset[Heard]] = {}  # what had been heard when a reference was asked for again
        self.now: datetime | None = None  # of the last commit: it is later by now

    def asked(self, submission: Submission, history: History | None, settings: RailSettings | None) -> None:
        """Follow a call to a rail: it needs an attempt that was committed as started."""
        reference, number = submission.reference, _attempt_of(submission.reference)
        where = f"rail {submission.rail} was asked for {reference}"
        if history is None or not number:
            raise Violation("O", f"{where}, which no intent has")
        if history.state == "REVIEW" or history.state.startswith("PROCESSING") or history.state == "ACCEPTED":
            raise Violation("Q", f"{where} while its intent is {history.state}")
        if number > len(history.attempts) or history.attempts[number - 1].rail != submission.rail:
            raise Violation("O", f"{where} without an attempt that was committed as started")
        if submission.tenant != history.tenant:
            raise Violation("M", f"{where} for {submission.tenant}, it belongs to {history.tenant}")
        told = (submission.minor, submission.currency, submission.destination)
        if told != (history.amount, history.currency, history.command["destination"]):
            raise Violation("A", f"{where} to pay {told}")
        self._asked[reference] += 1
        if self._asked[reference] > 1 and settings is not None and not settings.idempotent_references:
            raise Violation("O", f"{where} once more, and each time is a payment of its own")
        if self._asked[reference] > 1:
            self._before.setdefault(reference, frozenset(self._heard[reference]))
            self._again(history, number, where)

    def _again(self, history: History, number: int, where: str) -> None:
        """Object to a submission that is repeated when a person may have decided about it."""
        deadline = history.attempts[number - 1].deadline
        if "provider_outcome_unknown" in history.cases.values():
            raise Violation("N", f"{where} once more beside the case that asks a person about it")
        if self.now is not None and deadline is not None and self.now > deadline + LATE_MAX:
            raise Violation("N", f"{where} once more, {self.now - deadline} after its deadline")

    def paid(self, rail: str, reference: str, minor: int, history: History | None) -> None:
        """Follow the money outside: at most one payment for an intent, and only one that was asked for."""
        where = f"rail {rail} paid {minor} for {reference}"
        if history is None or not self._asked[reference]:
            raise Violation("O", f"{where}, which nobody asked for")
        if history.id in self._paid:
            raise Violation("O", f"{where} after {self._paid[history.id]} was paid")
        if minor != history.amount:
            raise Violation("A", f"{where} where {history.amount} was due")
        self._paid[history.id] = reference

    def said(self, outcome: RailOutcome) -> None:
        """Follow a report on its way to a worker."""
        if (outcome.status, outcome.reason, outcome.event_id) == ("not_accepted", "not_sent", None):
            self._unsent.add(outcome.reference)
        if outcome.status in (*_FINAL, "pending", "unknown", "not_found") or outcome.event_id is not None:
            word = Heard(outcome.rail, str(outcome.status), outcome.minor, outcome.currency, outcome.trust)
            self._heard[outcome.reference].add(word)

    def grounds(self, history: History, record: Record, commands: Mapping[str, Given]) -> None:
        """Object where a record goes on from what no rail and no operator has said."""
        where, facts = f"{history.id}/{record.sequence} ({record.event})", record.facts
        if record.event == "provider.failover":
            before = history.attempts[-2]
            words = self._words(before.rail, before.reference)
            if not any(heard.status == "not_accepted" and not heard.claim for heard in words):
                raise Violation("N", f"{where} leaves rail {before.rail}, whose outcome is unknown")
            if before.unsent and (before.reference not in self._unsent or self._asked[before.reference]):
                raise Violation("N", f"{where} says that nothing was sent to rail {before.rail}, and it was asked")
            if "pending" in before.words:
                raise Violation("N", f"{where} leaves rail {before.rail}, which had taken the payment")
            second = self._before.get(before.reference)
            if second is not None and not any(
                heard.status == "not_accepted" and (heard.trust == "polled" or (heard in second and not heard.claim))
                for heard in words
            ):
                raise Violation("N", f"{where} leaves rail {before.rail}, whose refusal may be of a second submission")
            if self._paid.get(history.id) == before.reference:
                raise Violation("N", f"{where} leaves rail {before.rail}, which has paid")
        elif record.event == "provider.callback" and facts["trust"] == "operator":
            given, proof = commands.get(record.cause), (history.id, facts["attempt"], facts["said"])
            if record.actor == "svc_routes" and proof in self._proofs:
                return  # what somebody has said before is done now that another rail has answered
            self._proofs.add(proof)
            if given is None or given.kind != "resolve_case" or given.principal != record.actor:
                raise Violation("N", f"{where} is an operator's word that nobody gave")
            about = history.about.get(msgspec.json.decode(given.body)["case"], len(history.attempts))
            if facts["attempt"] != about:
                raise Violation("N", f"{where} is a word on attempt {about}, and taken for one on {facts['attempt']}")
        elif record.event == "provider.callback":
            minor = None if facts["minor"] is None else int(facts["minor"])
            word = Heard(facts["rail"], facts["said"] or facts["status"], minor, facts["currency"], facts["trust"])
            if word not in self._heard[facts["reference"]]:
                raise Violation("N", f"{where} tells of what the rail has not said: {word}")

    def finish(self, history: History, ignored: Collection[tuple[str, str, str, str]]) -> None:
        """Object where the end of an intent is not what its rails have said; what was `ignored`, by rail, reference,
        status and trust, no intent has taken up."""
        contradicted, named, claims = False, set(), False
        for number, attempt in enumerate(history.attempts, 1):
            heard = [
                word
                for word in self._words(attempt.rail, attempt.reference)
                if (attempt.rail, attempt.reference, word.status, word.trust) not in ignored
            ]
            words = {
                word.status
                for word in heard
                if word.status in _FINAL
                and not word.claim
                and (word.status == "not_accepted" or not word.differs(history))
            }
            words |= attempt.said
            tells = [word for word in heard if word.status not in ("not_accepted", "not_found")]
            differs = any(word.differs(history) for word in tells)
            left = number < len(history.attempts)
            # Declined or not accepted: it was not paid. A "not accepted" that may answer a second submission says
            # nothing of the first, and is not recorded.
            counts = {word == "succeeded" for word in words if word != "not_accepted" or word in attempt.said}
            contradicted |= differs or len(counts) > 1 or (left and True in counts)
            named |= {f"{number}/{word}" for word in words if not left or word == "succeeded"}
            claimed = {word.status for word in heard if word.claim and word.status in _FINAL}
            claims |= bool(claimed)
            if counts and not history.by_operator:  # what was claimed is measured by what the rail has said
                contradicted |= not {word == "succeeded" for word in claimed} <= counts
        opened = history.opened.count("provider_contradiction")
        # A person who was asked about an attempt in the name of another rail may have said that it was paid.
        if contradicted and not opened and not (history.by_operator and "provider_wrong_rail" in history.opened):
            raise Violation("I", f"{history.id} has no case, although its rails contradict themselves: {sorted(named)}")
        if not contradicted and opened and len(named) < 2 and not claims:
            raise Violation("I", f"{history.id} has a case of contradiction, although its rails say {sorted(named)}")
        if contradicted or len(named) != 1:
            return
        word = named.pop().partition("/")[2]
        paid = history.state not in (SUBMITTED, REFUSED, FAILED)
        if (word == "succeeded" and not paid) or (word == "declined" and history.state not in (FAILED, REVERSED)):
            raise Violation("I", f"{history.id} is {history.state}, all that its rails have said is {word}")

    def truth(self, history: History) -> None:
        """Object where a hold was given back although the rail has paid and has never said that it declined."""
        reference = self._paid.get(history.id)
        if reference is None or history.state != FAILED or history.by_operator or history.opened:
            return
        if all(heard.status != "declined" or heard.claim for heard in self._heard[reference]):
            raise Violation("N", f"{history.id} was released, and {reference} was paid")

    def _words(self, rail: str, reference: str) -> list[Heard]:
        return [heard for heard in self._heard[reference] if heard.rail == rail]


class AuditedMessages:
    """The outbox, the stream and the endpoints: nothing leaves that was not committed, and nothing leaves changed."""

    def __init__(self, heard: Callable[[RailOutcome], None]) -> None:
        self._heard = heard
        self._committed: dict[str, Outgoing] = {}
        self._published: set[str] = set()
        self._waiting: dict[str, int] = {}  # rows of command frames that nobody has consumed -> partition
        self.commands: dict[str, Given] = {}

    def wrote(self, outbox: Collection[tuple[int, Outgoing]], told: Mapping[bytes, Record]) -> None:
        """Follow what a commit put into the outbox: one event for each of its records, `told` by their bytes."""
        events: dict[bytes, str] = {}
        for partition, message in outbox:
            if message.id in self._committed:
                raise Violation("P", f"two messages have the id {message.id}")
            self._committed[message.id] = message
            if message.subject.startswith("zc."):
                self._waiting[message.id] = partition
            if message.subject.startswith("ze."):
                for raw in msgspec.json.decode(message.body, type=list[msgspec.Raw]):
                    body = bytes(raw)
                    if body in events:
                        raise Violation("P", f"two events tell of one record: {body[:200]!r}")
                    events[body] = message.subject
        for data, record in told.items():
            subject = events.pop(data, None)
            where = f"{record.intent}/{record.sequence} ({record.event})"
            if subject is None:
                raise Violation("P", f"no event tells of {where}")
            _, _, tenant, topic = subject.split(".")
            if tenant != record.tenant:
                raise Violation("M", f"{where} of {record.tenant} is told to {tenant}")
            if topic != record.event.replace(".", "-"):
                raise Violation("P", f"{where} is told as {subject}")
        if events:
            raise Violation("P", f"an event tells of no record: {next(iter(events))[:200]!r}")

    def published(self, message: Outgoing, stored: Outgoing | None) -> None:
        """Follow what was appended to a stream; `stored` is what the outbox holds under its id."""
        committed = self._committed.get(message.id) or stored
        if committed is None:
            if not _is_report(message):
                raise Violation("O", f"{message.id} on {message.subject} was published and never committed")
            committed = message
        if _without_openings(committed) != _without_openings(message):
            raise Violation("P", f"{message.id} on {message.subject} was published with other bytes than committed")
        self._committed[message.id] = committed
        if message.id in self._published:
            return
        self._published.add(message.id)
        if stored is not None and message.subject.startswith("zc."):
            self._waiting.setdefault(message.id, int(message.subject.split(".")[1]))
        if message.subject.startswith("zc.") and message.subject.endswith((".callback", ".command")):
            self._read(message.body)

    def consumed(self, rows: Collection[tuple[int, str]], held: Collection[int], outbox: Collection[str]) -> None:
        """Object where a row of a command frame is gone that was not consumed: a commit takes the `rows` of partitions
        that it `held`, of frames that the stream has had, and nothing else ever takes one."""
        taken = {(partition, key) for partition, key in rows if partition in held and key in self._published}
        for key in [key for key in self._waiting if key not in outbox]:
            partition = self._waiting.pop(key)
            if (partition, key) not in taken:
                raise Violation("O", f"the row of frame {key} of partition {partition} is gone, and nobody consumed it")

    def _read(self, body: bytes) -> None:
        for event in _events(body):
            match event:
                case RailReported():
                    self._heard(event.outcome)
                case CommandGiven():
                    given = Given(event.tenant, event.kind, event.subject, event.principal, event.role, event.body)
                    self.commands.setdefault(event.command, given)

    def finish(self, unsent: Collection[str]) -> None:
        """Object where something that was committed has not been published."""
        if unsent:
            raise Violation("T", f"{len(unsent)} messages are not sent: {sorted(unsent)[:3]}")
        lost = self._committed.keys() - self._published
        if lost:
            raise Violation("O", f"{len(lost)} messages were committed and never published: {sorted(lost)[:3]}")


def _without_openings(message: Outgoing) -> tuple[str, str, bytes]:
    """Return what a message says; a row does without the records that the first sending of a frame brings along."""
    if not message.subject.endswith(".policy"):
        return message.id, message.subject, message.body
    events = [msgspec.structs.replace(e, opening=None) if isinstance(e, Due) else e for e in _events(message.body)]
    return message.id, message.subject, encode_frame(events) if events else message.body


def _is_report(message: Outgoing) -> bool:
    """Return whether a message tells what a call outside has met, which is no fact before a worker has taken it."""
    if not message.subject.endswith((".callback", ".webhook")):
        return False
    for event in _events(message.body):
        answered = isinstance(event, RailReported) and event.outcome.event_id is None
        if not answered and not isinstance(event, AttemptReported):
            return False
    return True


def _events(body: bytes) -> list[Event]:
    """Return the events of a frame; what cannot be read is for the dead letters and says nothing."""
    try:
        return decode_frame(body)
    except msgspec.MsgspecError:
        return []


def _attempt_of(reference: str) -> int:
    """Return the number of the attempt that a reference names, 0 where it is none of ours."""
    return int(reference[32:]) if len(reference) == 34 and reference[32:].isdecimal() else 0
