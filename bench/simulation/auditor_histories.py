"""The auditor's own fold of an intent: what its sealed records say, read from their bytes.

A history objects to a record that is not the next one, was changed, makes no move of the table, books what its state
does not allow, or goes past a person's decision. It knows nothing of the world around: what a record has to agree with
outside of its intent is checked where that is followed."""

import hashlib
import json
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.bench.simulation.auditor_journals import COMPOSED, booked_together, given_back
from zentra.bench.simulation.auditor_words import (
    ACCEPTED,
    CONFIRMED,
    FAILED,
    HELD,
    JUDGING,
    REFUSED,
    RESERVING,
    REVERSED,
    REVIEW,
    ROUTING,
    SUBMITTED,
    SUCCESSFUL,
    Violation,
    is_move,
)

__all__ = ["ABOUT_RAILS", "Attempt", "FeeLine", "History", "Named", "Record", "gives_back", "known_of", "settles"]

Leg = tuple[str, str, str, int, int]  # kind, debit, credit, pending, posted
FeeLine = tuple[str, str, int, str, str, str]  # rule, who pays, minor, when charged, on failure, on reversal
ZEROS: Final = bytes(32)
NUMBERED: Final = ("iban", "nuban", "virtual")


class Record(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A sealed record as its bytes spell it."""

    actor: str
    at: str
    cause: str
    event: str
    facts: dict[str, Any]
    from_: str | None
    intent: str
    intent_id: str
    scope: str
    sequence: int
    step: str | None
    tenant: str
    to: str
    trace: str

    @property
    def state(self) -> str:
        """Return where the intent stands after it."""
        return self.to if self.step is None else f"{self.to}/{self.step}"


class Attempt(Struct):
    """One submission as the records tell of it; `said` are the final words of the rail itself that were recorded, a
    person's with proof among them, and `word` is the last of them."""

    rail: str
    reference: str
    said: set[str] = msgspec.field(default_factory=set)
    callbacks: set[str] = msgspec.field(default_factory=set)
    word: str = ""
    unsent: bool = False  # nothing was sent: its rail may be asked as if it never had been
    deadline: datetime | None = None
    words: set[str] = msgspec.field(default_factory=set)  # all that was recorded of it, whoever said so


_decode = msgspec.json.Decoder(Record).decode


class Named(Struct, frozen=True):
    """The ids of the accounts of an intent; `suspense` only of money that came in, empty where there is none."""

    source: str
    destination: str
    settlement: str = ""
    fee: str = ""
    suspense: str = ""
    system: dict[str, str] = {}  # accounts without a floor of the book of the source, as type/currency
    meant: dict[str, str] = {}  # ids by the numbers that legs name


class History:
    """One intent, folded from its records. `names` says what its accounts are, whatever the command calls them."""

    def __init__(self, record: bytes, link: bytes, names: "Named | None" = None) -> None:
        first = _read(record)
        where = f"{first.intent}/1"
        if first.facts.get("kind") != "registered" or first.event != "ingress.accepted" or first.sequence != 1:
            raise Violation("J", f"{where} does not begin with a registration")
        if first.from_ is not None or first.state != "ACCEPTED":
            raise Violation("J", f"{where} moves from {first.from_} to {first.state}")
        self.first = first
        self.booked: list[Leg] = []  # of a journal or a conversion: what goes back together
        self.id, self.tenant = first.intent, first.tenant
        self.command: dict[str, Any] = first.facts["command"]
        self.names = names or Named(self.command["source"], self.command["destination"])
        self.path: tuple[str, str] | None = None  # of a book transfer: where money came from and went
        self.amount, self.currency = int(self.command["minor"]), str(self.command["currency"])
        self.state, self.before = "ACCEPTED", ""
        self.records: list[bytes] = []
        self.links: list[bytes] = []
        self.at = ""
        self.moment = datetime.fromisoformat(first.at)
        self.posted = self.given_back = self.round = 0
        self.fees: list[FeeLine] = []
        self.fee_held = self.fee_posted = self.fee_given_back = 0
        self.fee_due = 0  # what it would have been charged on top, where the ledger refused it
        self.attempts: list[Attempt] = []
        self.counted: list[tuple[str, str, int | None]] = []
        self.referred_at: datetime | None = None
        self.flagged: set[str] = set()
        self.waived: set[str] = set()
        self.waives: list[str] = []  # the same, in order
        self.asks: dict[str, str] = {}  # why each flagged rule asked
        self.known = ""  # the digest of what was known of the people then
        self.grounds: dict[str, tuple[str, str]] = {}  # of each waiver, when it was given
        self.cases: dict[str, str] = {}
        self.opened: list[str] = []  # kinds of all the cases there ever were
        self.about: dict[str, int] = {}  # every case about a rail -> the attempt that it names
        self.doubled = self.looked = 0  # the record since which two rails have paid; the last that a person dismissed
        self.by_operator = False
        self.given_up = False  # once it was counted, and is no longer
        self.seals: list[int] = []
        self.commands: set[str] = set()
        self.captures: list[list[Any]] = []  # destination, what it got, what it gave back
        self._keep(first, record, link)

    @property
    def sequence(self) -> int:
        """Return how many records there are."""
        return len(self.records)

    @property
    def asked(self) -> dict[str, Any]:
        """Return the command as rules are asked about it: accounts instead of numbers for them."""
        named = {"source": self.names.source, "destination": self.names.destination}
        numbers = {field: named[field] for field in named if str(self.command[field]).partition(":")[0] in NUMBERED}
        return {**self.command, **numbers}

    @property
    def spelled(self) -> dict[str, Any]:
        """Return the same with accounts instead of numbers in the legs, too."""
        meant, sides = self.names.meant, ("source", "destination")
        if not meant:
            return self.asked
        legs = [{**leg, **{side: meant.get(leg[side], leg[side]) for side in sides}} for leg in self.command["legs"]]
        return {**self.asked, "legs": legs}

    @property
    def held(self) -> int:
        """Return what an intent in this state has spoken for."""
        if self.state == HELD:
            return self.amount - self.posted
        return self.amount if self.state in (ROUTING, SUBMITTED, CONFIRMED, REFUSED) else 0

    @property
    def counts_as(self) -> tuple[int, int]:
        """Return how much of it counts against limits, once it was counted: intents and minor units."""
        ended = self.command["kind"] == "hold" and self.state not in (ACCEPTED, JUDGING, RESERVING, REVIEW, HELD)
        if self.given_up:
            return 0, 0
        return (1, self.posted) if ended else (1, self.amount)

    def step(self, data: bytes, link: bytes) -> Record:
        """Follow one more record and return it."""
        record = _read(data)
        where = f"{self.id}/{record.sequence} ({record.event})"
        if record.sequence != self.sequence + 1:
            raise Violation("P", f"{where} follows version {self.sequence}")
        if record.tenant != self.tenant:
            raise Violation("M", f"{where} is of {record.tenant}, its intent of {self.tenant}")
        first = self.first
        if (record.intent, record.intent_id, record.scope, record.trace) != (
            first.intent, first.intent_id, first.scope, first.trace
        ):  # fmt: skip
            raise Violation("J", f"{where} is not of this intent, scope and trace")
        if not (record.actor and record.cause):
            raise Violation("J", f"{where} has no actor or no cause")
        if record.at <= self.at:
            raise Violation("J", f"{where} is of {record.at}, the one before of {self.at}")
        if record.from_ != self.state.partition("/")[0] or not is_move(self.state, record.event, record.state):
            raise Violation("J", f"{where} moves from {self.state} to {record.state}")
        self.before, self.state = self.state, record.state
        self.given_up |= gives_back(self.before, self.state)
        self._keep(record, data, link)
        absorb = _ABSORBERS.get(record.event.partition(".")[0])
        if absorb is not None:
            absorb(self, record, where)
        return record

    def _keep(self, record: Record, data: bytes, link: bytes) -> None:
        previous = self.links[-1] if self.links else ZEROS
        if hashlib.sha256(previous + data).digest() != link:
            raise Violation("S", f"{self.id}/{record.sequence} breaks the chain")
        self.records.append(data)
        self.links.append(link)
        self.at, self.moment = record.at, datetime.fromisoformat(record.at)

    def _ledger(self, record: Record, where: str) -> None:
        legs = [_leg(entry) for entry in record.facts.get("entries", ())]
        if self.before == RESERVING:
            self.fees = [_line(line) for line in record.facts.get("fees", {}).get("lines", ())]
        letter, expected = self._expected(record.event, record.facts, legs)
        if legs != expected:
            raise Violation(letter, f"{where} books {legs} where {expected} is due")
        if record.event == "ledger.posted" and self.command["kind"] in COMPOSED:
            self.booked, self.posted = legs, self.amount
            if "corrects" in self.command and "correction_reviewed" not in self.waived:
                raise Violation("Q", f"{where} corrects what nobody has looked at")
        else:
            self.posted += sum(leg[4] for leg in legs if leg[0] in ("post", "book"))
            if legs and legs[0][0] == "book":
                self.path = legs[0][1:3]
        self.fee_held += sum(leg[3] for leg in legs if leg[0].startswith("fee"))
        self.fee_posted += sum(leg[4] for leg in legs if leg[0] == "fee")
        self.fee_given_back += sum(leg[4] for leg in legs if leg[0] == "fee_refund")
        if record.event == "ledger.reversal":
            self._reversed(record, legs, where)

    def _expected(self, event: str, facts: dict[str, Any], legs: list[Leg]) -> tuple[str, list[Leg]]:
        source, destination, amount = self.names.source, self.names.destination, self.amount
        between = self.names.settlement
        if event == "ledger.reserved":
            if (self.command["kind"] == "hold") != (self.state == HELD):
                return "J", []
            return "D", [("reserve", source, between, amount, 0), *self._fee_legs(event)]
        if event == "ledger.released":
            return "E", [("release", source, between, -amount, 0), *self._fee_legs(event)]
        if event == "ledger.posted" and self.command["kind"] in COMPOSED:
            return "A", booked_together(self.spelled, facts, self.names.system)
        if event == "ledger.posted" and self.before == RESERVING:
            if legs == [("book", source, self.names.suspense, 0, amount)]:  # money that came in for nobody
                return "A", legs
            return "A", [("book", source, destination, 0, amount), *self._fee_legs("booked")]
        if event == "ledger.posted":
            money = [("post", source, between, -amount, amount), ("settle", between, destination, 0, amount)]
            return "E", [*money, *self._fee_legs(event)]
        if event == "ledger.reversal":
            way = "forced_reversal" if "approved_by" in facts else "reversal"
            if self.command["kind"] in COMPOSED:
                return "L", given_back(self.booked, way, legs[0][4] if legs else 0)
            minor = _reversed_by(legs, source)
            back = self._refunds(minor)
            if self.captures:
                return "L", self._ways_back(minor, way)
            if self.path is not None:
                return "L", [*back, (way, self.path[1], self.path[0], 0, minor)]
            return "L", [*back, (way, destination, between, 0, minor), (way, between, source, 0, minor)]
        return "F", []  # a refusal books nothing

    def _fee_legs(self, event: str) -> list[Leg]:
        """Return what is to be booked for fees beside the money: what comes to nothing is not booked."""
        source, destination, house = self.names.source, self.names.destination, self.names.fee
        later = self._charged("payer", "on_success")
        at_once, payee = self._charged("payer", "on_submission"), self._charged("payee", "on_success")
        back = sum(line[2] for line in self.fees if line[3:5] == ("on_submission", "refund"))
        legs = {
            "ledger.reserved": [("fee_reserve", source, house, later, 0), ("fee", source, house, 0, at_once)],
            "ledger.released": [("fee_release", source, house, -later, 0), ("fee_refund", house, source, 0, back)],
            "ledger.posted": [("fee", source, house, -later, later), ("fee", destination, house, 0, payee)],
            "booked": [("fee", source, house, 0, later + at_once), ("fee", destination, house, 0, payee)],
        }
        return [leg for leg in legs[event] if leg[3] or leg[4]]

    def _charged(self, side: str, when: str) -> int:
        return sum(line[2] for line in self.fees if (line[1], line[3]) == (side, when))

    def _refunds(self, minor: int) -> list[Leg]:
        """Return what fees are to be given back with `minor` more: so much of each line as makes up its share."""
        after, legs = self.given_back + minor, []
        for side, account in (("payee", self.names.destination), ("payer", self.names.source)):
            due = 0
            for _, who, fee, _, _, how in self.fees:
                if who != side or not self.posted:
                    continue
                if how == "pro_rata":
                    due += fee * after // self.posted - fee * self.given_back // self.posted
                elif how == "full" and after == self.posted:
                    due += fee
            if due:
                legs.append(("fee_refund", self.names.fee, account, 0, due))
        return legs

    def _hold(self, record: Record, where: str) -> None:
        """Follow a capture, a void or an expiry; what a capture takes was asked for, which is looked at elsewhere."""
        legs, source, between = (
            [_leg(entry) for entry in record.facts["entries"]],
            self.names.source,
            self.names.settlement,
        )
        left, due = self.amount - self.posted, []
        if record.event == "hold.captured":
            minor, destination = (legs[0][4], legs[1][2]) if len(legs) > 1 else (0, "")
            due = [("post", source, between, -minor, minor), ("settle", between, destination, 0, minor)]
            self.captures.append([destination, minor, 0])
            self.posted += minor
            left -= minor
        if self.state != HELD and left:
            due.append(("release", source, between, -left, 0))
        if legs != due or (record.event != "hold.captured" and (self.state == SUCCESSFUL) != (self.posted > 0)):
            raise Violation("E", f"{where} leaves {self.state} and books {legs} where {due} is due")

    def _ways_back(self, minor: int, way: str) -> list[Leg]:
        """Return by which ways an amount comes back that captures have taken: the newest first."""
        ways: list[Leg] = []
        for capture in reversed(self.captures):
            part = min(minor, capture[1] - capture[2])
            if part > 0:
                minor -= part
                capture[2] += part
                ways += [(way, capture[0], self.names.settlement, 0, part)]
                ways += [(way, self.names.settlement, self.names.source, 0, part)]
        return ways

    def _reversed(self, record: Record, legs: list[Leg], where: str) -> None:
        back = _reversed_by(legs, self.names.source)
        if self.command["kind"] in COMPOSED:
            back = self.posted if len(self.booked) > 1 else legs[0][4]
        self.given_back += back
        if record.facts.get("approved_by", "-") in ("", record.actor):
            raise Violation("Q", f"{where} takes an account below its limit without anybody else's approval")
        if self.given_back > self.posted:
            raise Violation("L", f"{where} gives back {self.given_back} of {self.posted}")
        if (self.given_back == self.posted) != (self.state == REVERSED):
            raise Violation("L", f"{where} leaves {self.state} with {self.given_back} of {self.posted} given back")
        command = record.facts.get("command", "")
        if command in self.commands:
            raise Violation("G", f"{where} carries out command {command} once more")
        self.commands.add(command)

    def _policy(self, record: Record, where: str) -> None:
        results = record.facts.get("results", {})
        objections = {rule for rule, result in results.items() if result in ("review", "denied")}
        waived = {rule for rule, result in results.items() if result == "waived"}
        if waived - self.waived:
            raise Violation("Q", f"{where} waives {sorted(waived - self.waived)}, which nobody approved")
        if record.event == "policy.accepted":
            if objections:
                raise Violation("Q", f"{where} accepts what {sorted(objections)} objects to")
            self.counted = [(use["counter"], use["day"], use.get("bucket")) for use in record.facts["velocity"]]
        elif record.event == "policy.review":
            self.flagged, self.referred_at = objections, self.moment
            self.asks, self.known = record.facts.get("asks", {}), known_of(record.facts)
            if set(self.asks) != objections or sorted(self.asks.values()) != sorted(record.facts["reasons"]):
                raise Violation("Q", f"{where} asks {self.asks} for {sorted(objections)}, {record.facts['reasons']}")

    def _review(self, record: Record, where: str) -> None:
        if record.event == "review.approved":
            facts = record.facts
            if self.first.actor in (record.actor, facts["decided_by"]):
                raise Violation("Q", f"{where} was approved by {record.actor}, who asked for it")
            if facts["round"] != self.round + 1 or set(facts["waives"]) - self.flagged:
                raise Violation("Q", f"{where} approves round {facts['round']} and {facts['waives']}")
            self.waives += [rule for rule in facts["waives"] if rule not in self.waived]
            self.waived |= set(facts["waives"])
            self.grounds |= {rule: (self.asks.get(rule, ""), self.known) for rule in facts["waives"]}
            self.round += 1
        elif record.event == "review.closed":
            self.seals.append(record.sequence)

    def _provider(self, record: Record, where: str) -> None:
        facts = record.facts
        if record.event in ("provider.routed", "provider.failover"):
            number = len(self.attempts) + 1
            if (facts["attempt"], facts["reference"]) != (number, f"{self.id}{number:02d}"):
                raise Violation("O", f"{where} starts attempt {facts['attempt']} as {facts['reference']}")
            if facts.get("unsent"):
                self.attempts[-1].unsent = True
            deadline = datetime.fromisoformat(facts["deadline"])
            self.attempts.append(Attempt(facts["rail"], facts["reference"], deadline=deadline))
            return
        if record.event == "provider.awaited":
            return
        said = facts["said"] or facts["status"]
        attempt = self.attempts[facts["attempt"] - 1] if 0 < facts["attempt"] <= len(self.attempts) else None
        if attempt is None or (attempt.rail, attempt.reference) != (facts["rail"], facts["reference"]):
            raise Violation("J", f"{where} tells of an attempt that there is not: {facts['reference']}")
        if facts["event_id"] in attempt.callbacks:
            raise Violation("I", f"{where} records callback {facts['event_id']} once more")
        attempt.callbacks |= {facts["event_id"]} - {None}
        self.by_operator |= facts["trust"] == "operator"
        attempt.words.add(said)
        if said in ENDS and facts["trust"] in DECIDING:
            attempt.said.add(said)
            attempt.word = said
            twice = sum(other.word == "succeeded" for other in self.attempts) > 1
            self.doubled = (self.doubled or record.sequence) if twice else 0
        if self.state == self.before:
            return
        if facts["attempt"] != len(self.attempts) and facts["trust"] != "operator":
            raise Violation("N", f"{where} is settled by an attempt that it has left")
        for number, other in enumerate(self.attempts, 1):
            unknown = not other.word and number == len(self.attempts)
            if self.state == REFUSED and other is not attempt and (unknown or other.word == "succeeded"):
                raise Violation("N", f"{where} gives back what {other.reference} may have paid")
        if said != "succeeded" if self.state == CONFIRMED else said not in ("declined", "not_accepted"):
            raise Violation("N", f"{where} becomes {self.state} because the rail said {said}")
        differs = facts["minor"] not in (None, str(self.amount)) or facts["currency"] not in (None, self.currency)
        if differs and said != "not_accepted":
            raise Violation("I", f"{where} takes {facts['minor']} {facts['currency']} for {self.amount}")

    def _case(self, record: Record, where: str) -> None:
        case, kind = record.facts["case"], record.facts["reason"]
        if record.event == "case.opened":
            if kind in self.cases.values():
                raise Violation("I", f"{where} opens a second case of kind {kind}")
            self.cases[case] = kind
            self.opened.append(kind)
            if kind in ABOUT_RAILS or "attempt" in record.facts:
                self._names_attempt(record, case, where)
        elif self.cases.pop(case, None) is None:
            raise Violation("I", f"{where} resolves a case that is not open")
        elif kind == "provider_contradiction" and record.facts["resolution"] == "dismissed":
            self.looked = record.sequence

    def _names_attempt(self, record: Record, case: str, where: str) -> None:
        """Object to a case about a rail that does not say which attempt it is about, or one that said nothing."""
        number, rail = record.facts.get("attempt", 0), record.facts.get("rail")
        attempt = self.attempts[number - 1] if 0 < number <= len(self.attempts) else None
        if attempt is None or attempt.rail != rail:
            raise Violation("I", f"{where} is about attempt {number} over {rail}, which there is not")
        if record.facts["reason"] == "provider_contradiction" and not (attempt.said or attempt.callbacks):
            raise Violation("I", f"{where} is about {attempt.reference}, of which nobody has said anything")
        self.about[case] = number

    def _evidence(self, record: Record, where: str) -> None:
        self.seals.append(record.sequence)


_ABSORBERS: Final = {
    "ledger": History._ledger,
    "policy": History._policy,
    "review": History._review,
    "provider": History._provider,
    "case": History._case,
    "hold": History._hold,
    "evidence": History._evidence,
}
DECIDING: Final = ("direct", "polled", "body_signed", "operator")
ENDS: Final = ("succeeded", "declined", "not_accepted")
ABOUT_RAILS: Final = ("provider_contradiction", "provider_outcome_unknown", "rail_unknown")
WAYS: Final = ("reversal", "forced_reversal")


def known_of(facts: dict[str, Any]) -> str:
    """Return the digest of what a decision knew of the people, whichever edition of a list it was read from."""
    if "diligence" not in facts:
        return ""
    known = dict(facts["diligence"])
    edition = {"version": 0, "digest": "", "fetched_at": ""}
    if "lists" in known:
        known["lists"] = [{**one, **edition} for one in known["lists"]]
    text = json.dumps(known, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(b"known\n" + text.encode()).hexdigest()


def gives_back(before: str, after: str) -> bool:
    """Return whether a move ends an intent that was counted, so that it is counted no longer."""
    return after == FAILED and before in (RESERVING, ROUTING, REFUSED, HELD)


def settles(history: History) -> bool:
    """Return whether a hold has just ended with a part of it captured: the rest is counted no longer."""
    return history.before == HELD and history.state == SUCCESSFUL


def _reversed_by(legs: list[Leg], source: str) -> int:
    return sum(leg[4] for leg in legs if leg[0] in WAYS and leg[2] == source)


def _line(line: dict[str, str]) -> FeeLine:
    return line["rule"], line["payer"], int(line["minor"]), line["charged"], line["on_failure"], line["on_reversal"]


def _leg(entry: dict[str, str]) -> Leg:
    return entry["posting"], entry["debit"], entry["credit"], int(entry["pending"]), int(entry["posted"])


def _read(data: bytes) -> Record:
    try:
        record = _decode(data)
    except msgspec.MsgspecError as error:
        raise Violation("J", f"a record cannot be read: {error}: {data[:200]!r}") from error
    spelled = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if spelled != data:
        raise Violation("S", f"{record.intent}/{record.sequence} is not spelled canonically")
    return record
